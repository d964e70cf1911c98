//! What a record remembers, and for how long.

use crate::migration::{Attempt, AttemptOutcome, MigrationGateStatus};

use super::budget::{COMMAND_BYTES, DEPARTED_KEPT, IMAGE_BYTES, REVISION_BYTES, TAIL_BYTES};
use super::evidence::{Certainty, Ending};
use super::record::{cut, cut_front, depart, end, is_member, remember};
use super::snapshot::Workload;
use super::testing::{FP, active, at, member, uid, workload};

fn failed(tail: &str) -> Ending {
    Ending {
        outcome: AttemptOutcome::Failed,
        verdict: None,
        tail: tail.to_owned(),
        basis: None,
        certainty: Certainty::Proven,
    }
}

fn attempts(status: &MigrationGateStatus) -> &[Attempt] {
    &status.migration(FP).expect("it is remembered").attempts
}

#[test]
fn the_tail_is_kept_of_the_newest_failure_only_and_cut() {
    let mut status = MigrationGateStatus::default();
    end(&mut status, &active("a", 1), None, &failed("first"), at(0));
    end(&mut status, &active("a", 2), None, &failed(&"é".repeat(TAIL_BYTES)), at(0));
    assert_eq!(attempts(&status)[0].log_tail, None);
    assert_eq!(attempts(&status)[1].log_tail.as_deref(), Some("é".repeat(TAIL_BYTES / 2).as_str()));
    let interrupted = Ending { outcome: AttemptOutcome::Interrupted, ..failed("third") };
    end(&mut status, &active("a", 3), None, &interrupted, at(0));
    assert_eq!(attempts(&status)[2].log_tail, None, "an interruption has none");
    assert!(attempts(&status)[1].log_tail.is_some(), "and takes none away");
}

#[test]
fn a_departure_is_noted_once_for_each_workload() {
    let mut status = MigrationGateStatus { workloads: vec![member("a"), member("b")], ..Default::default() };
    for (workload, generation) in [("a", 1), ("b", 2), ("a", 3)] {
        depart(&mut status, &member(workload), generation);
    }
    let departed: Vec<_> = status.departed.iter().map(|each| (each.workload_uid.as_str(), each.generation)).collect();
    assert_eq!(departed, [("uid-of-b", 2), ("uid-of-a", 3)]);
    assert!(!is_member(&status, &uid("a")) && !is_member(&status, &uid("b")));
    (0..DEPARTED_KEPT).for_each(|number| depart(&mut status, &member(&number.to_string()), 1));
    assert_eq!((status.departed.len(), status.departed[0].workload_uid.as_str()), (DEPARTED_KEPT, "uid-of-0"));
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!((cut("aé", 2), cut("aé", 3), cut("aé", 9)), ("a", "aé", "aé"));
    assert_eq!((cut_front("éa", 2), cut_front("éa", 3), cut_front("éa", 9)), ("a", "éa", "éa"));
    let mut status = MigrationGateStatus::default();
    let long = "x".repeat(200_000);
    let (image, command, revision) = (long.clone(), long.clone(), Some(long));
    remember(&mut status, &Workload { image, command, revision, ..workload("shop") });
    let migration = status.migration(FP).expect("it is remembered");
    let revision = migration.revision.as_ref().map(String::len);
    assert_eq!(
        (migration.image.len(), migration.command.len(), revision),
        (IMAGE_BYTES, COMMAND_BYTES, Some(REVISION_BYTES))
    );
}
