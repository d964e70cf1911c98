//! What a record remembers, and for how long.

use crate::migration::{Attempt, AttemptOutcome, Migration, MigrationGateStatus, Phase};

use super::evidence::Ending;
use super::record::{
    ATTEMPTS_KEPT, COMMAND_BYTES, MIGRATIONS_KEPT, STATUS_BYTES, TAIL_BYTES, cut, cut_front, depart, end, remember,
    trim,
};
use super::snapshot::Workload;
use super::testing::{FP, active, at, workload};

fn migration(fingerprint: &str, phase: Phase) -> Migration {
    Migration {
        fingerprint: fingerprint.to_owned(),
        image: "shop:2".to_owned(),
        command: String::new(),
        revision: None,
        phase,
        approved: false,
        failures: 0,
        interruptions: 0,
        attempts: Vec::new(),
    }
}

fn numbered(count: usize, phase: Phase) -> MigrationGateStatus {
    MigrationGateStatus {
        migrations: (0..count).map(|number| migration(&format!("{number:032x}"), phase)).collect(),
        succeeded: (0..count).map(|number| format!("{number:032x}")).collect(),
        ..MigrationGateStatus::default()
    }
}

fn failed(tail: &str) -> Ending {
    Ending { outcome: AttemptOutcome::Failed, verdict: None, tail: tail.to_owned(), basis: None }
}

fn attempts(status: &MigrationGateStatus) -> &[Attempt] {
    &status.migration(FP).expect("it is remembered").attempts
}

#[test]
fn the_newest_migrations_are_remembered_and_every_success() {
    let mut status = numbered(MIGRATIONS_KEPT + 5, Phase::Succeeded);
    trim(&mut status);
    assert_eq!(status.migrations.len(), MIGRATIONS_KEPT);
    assert_eq!(status.migrations[0].fingerprint, format!("{:032x}", 5), "the oldest went");
    assert_eq!(status.succeeded.len(), MIGRATIONS_KEPT + 5);
    trim(&mut status);
    assert_eq!(status.migrations.len(), MIGRATIONS_KEPT, "no more than that");
}

#[test]
fn what_is_needed_to_decide_is_not_forgotten() {
    let mut status = numbered(MIGRATIONS_KEPT + 5, Phase::Failed);
    trim(&mut status);
    assert_eq!(status.migrations.len(), MIGRATIONS_KEPT + 5, "a failed one would be tried again");
    let mut status = numbered(MIGRATIONS_KEPT + 5, Phase::Superseded);
    let first = status.migrations[0].fingerprint.clone();
    status.active = Some(crate::migration::Active { fingerprint: first.clone(), ..active("a", 1) });
    trim(&mut status);
    assert_eq!(status.migrations.len(), MIGRATIONS_KEPT);
    assert!(status.migration(&first).is_some(), "it runs");
}

#[test]
fn the_newest_attempts_are_remembered() {
    let mut status = MigrationGateStatus::default();
    for number in 1..=12 {
        end(&mut status, &active("a", number), &failed(""), at(0));
    }
    trim(&mut status);
    let numbers: Vec<u32> = attempts(&status).iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers.len(), ATTEMPTS_KEPT);
    assert_eq!((numbers[0], numbers[9]), (3, 12));
    assert_eq!(status.migration(FP).map(|migration| migration.failures), Some(12), "and every failure is counted");
}

#[test]
fn the_tail_is_kept_of_the_newest_failure_only_and_cut() {
    let mut status = MigrationGateStatus::default();
    end(&mut status, &active("a", 1), &failed("first"), at(0));
    end(&mut status, &active("a", 2), &failed(&"é".repeat(TAIL_BYTES)), at(0));
    assert_eq!(attempts(&status)[0].log_tail, None);
    assert_eq!(attempts(&status)[1].log_tail.as_deref(), Some("é".repeat(TAIL_BYTES / 2).as_str()));
    let interrupted = Ending { outcome: AttemptOutcome::Interrupted, ..failed("third") };
    end(&mut status, &active("a", 3), &interrupted, at(0));
    assert_eq!(attempts(&status)[2].log_tail, None, "an interruption has none");
    assert!(attempts(&status)[1].log_tail.is_some(), "and takes none away");
}

#[test]
fn a_status_that_is_too_large_forgets_migrations_before_successes() {
    let mut status = numbered(15, Phase::Succeeded);
    for migration in &mut status.migrations {
        migration.image = "x".repeat(STATUS_BYTES / 10);
    }
    trim(&mut status);
    let size = serde_json::to_vec(&status).expect("it can be written").len();
    assert!(size <= STATUS_BYTES, "{size} bytes");
    assert!((8..=9).contains(&status.migrations.len()), "no more than needed: {}", status.migrations.len());
    assert_eq!(status.succeeded.len(), 15);
    let mut status = MigrationGateStatus {
        succeeded: (0..8000).map(|number| format!("{number:032x}")).collect(),
        ..MigrationGateStatus::default()
    };
    trim(&mut status);
    assert_eq!(status.succeeded.last(), Some(&format!("{:032x}", 7999)), "the oldest successes go last");
    assert_eq!(status.succeeded.len(), 2000);
}

#[test]
fn a_departure_is_noted_once_for_each_workload() {
    let mut status = MigrationGateStatus { members: vec!["a".to_owned(), "b".to_owned()], ..Default::default() };
    for (workload, generation) in [("a", 1), ("b", 2), ("a", 3)] {
        depart(&mut status, workload, generation);
    }
    let departed: Vec<_> = status.departed.iter().map(|each| (each.workload_uid.as_str(), each.generation)).collect();
    assert_eq!((departed, status.members.len()), (vec![("b", 2), ("a", 3)], 0));
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!((cut("aé", 2), cut("aé", 3), cut("aé", 9)), ("a", "aé", "aé"));
    assert_eq!((cut_front("éa", 2), cut_front("éa", 3), cut_front("éa", 9)), ("a", "éa", "éa"));
    let mut status = MigrationGateStatus::default();
    remember(&mut status, &Workload { command: "x".repeat(COMMAND_BYTES + 1), ..workload("shop") });
    assert_eq!(status.migration(FP).map(|migration| migration.command.len()), Some(COMMAND_BYTES));
}
