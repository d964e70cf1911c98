//! What a record gives up for room, and what it never gives up.

use proptest::prelude::*;

use crate::migration::{AttemptOutcome, Migration, MigrationGateStatus, Phase};

use super::budget::{ATTEMPTS_KEPT, MIGRATIONS_BYTES, MIGRATIONS_KEPT, SUCCEEDED_KEPT, keep_within};
use super::evidence::{Certainty, Ending};
use super::record::{end, remember};
use super::snapshot::{Snapshot, Workload};
use super::testing::{FP, active, at, group, workload};

/// etcd's default for `--max-request-bytes`.
const ETCD_BYTES: usize = 3 * 512 * 1024;

fn fingerprint(number: usize) -> String {
    format!("{number:032x}")
}

fn numbered(count: usize, phase: Phase) -> MigrationGateStatus {
    let migration =
        |number| Migration { phase, image: "shop:2".to_owned(), ..Migration::unknown(&fingerprint(number)) };
    MigrationGateStatus {
        migrations: (0..count).map(migration).collect(),
        succeeded: (0..count).map(fingerprint).collect(),
        ..MigrationGateStatus::default()
    }
}

/// A group in which so many workloads ask for migrations of their own, the first for the first one.
fn asking(count: usize) -> Snapshot {
    let mut snapshot = group(MigrationGateStatus::default(), vec![]);
    snapshot.workloads = (0..count)
        .map(|number| Workload { fingerprint: fingerprint(number), ..workload(&format!("w{number}")) })
        .collect();
    snapshot
}

fn size(status: &MigrationGateStatus) -> usize {
    serde_json::to_vec(status).expect("it can be written").len()
}

#[test]
fn the_newest_migrations_are_remembered_and_every_success() {
    for phase in [Phase::Succeeded, Phase::Superseded] {
        let mut status = numbered(MIGRATIONS_KEPT + 5, phase);
        for _ in 0..2 {
            keep_within(&mut status, &asking(0), None);
            assert_eq!(status.migrations.len(), MIGRATIONS_KEPT, "no more than that");
            assert_eq!(status.migrations[0].fingerprint, fingerprint(5), "the oldest went");
            assert_eq!(status.succeeded.len(), MIGRATIONS_KEPT + 5);
        }
    }
}

#[test]
fn what_somebody_asks_for_or_is_yet_to_be_told_stays() {
    let mut status = numbered(MIGRATIONS_KEPT + 30, Phase::Succeeded);
    keep_within(&mut status, &asking(MIGRATIONS_KEPT + 10), None);
    assert_eq!(status.migrations.len(), MIGRATIONS_KEPT + 10);
    assert_eq!(status.migrations[0].fingerprint, fingerprint(0), "the oldest is asked for");

    let mut status = numbered(MIGRATIONS_KEPT + 5, Phase::Superseded);
    status.active = Some(crate::migration::Active { fingerprint: fingerprint(0), ..active("a", 1) });
    keep_within(&mut status, &asking(0), Some(&fingerprint(1)));
    assert!(status.migration(&fingerprint(0)).is_some(), "it runs");
    assert!(status.migration(&fingerprint(1)).is_some(), "its end is to be told");
    assert!(status.migration(&fingerprint(2)).is_none());
}

#[test]
fn the_newest_attempts_are_remembered_and_each_is_counted() {
    let mut status = MigrationGateStatus::default();
    for number in 1..=12 {
        let (outcome, certainty) = (AttemptOutcome::Failed, Certainty::Proven);
        let ending = Ending { outcome, verdict: None, tail: String::new(), basis: None, certainty };
        end(&mut status, &active("a", number), None, &ending, at(0));
    }
    keep_within(&mut status, &asking(0), Some(FP));
    let migration = status.migration(FP).expect("it is remembered");
    let numbers: Vec<u32> = migration.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!((numbers.len(), numbers[0], numbers[9]), (ATTEMPTS_KEPT, 3, 12));
    assert_eq!(migration.failures, 12);
}

#[test]
fn only_a_flood_of_successes_drops_successes_and_none_that_is_needed() {
    let mut status = MigrationGateStatus {
        succeeded: (0..SUCCEEDED_KEPT + 7).map(fingerprint).collect(),
        ..MigrationGateStatus::default()
    };
    keep_within(&mut status, &asking(2), None);
    assert_eq!(status.succeeded.len(), SUCCEEDED_KEPT);
    assert_eq!(
        status.succeeded[..3],
        [fingerprint(0), fingerprint(1), fingerprint(9)],
        "the oldest that nobody asks for"
    );
    assert!(size(&status) < ETCD_BYTES / 2, "{}", size(&status));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However long the texts that users write, however many migrations are pending or fail, however often they are tried.
    #[test]
    fn nothing_that_users_write_costs_a_success_or_a_counter(
        workloads in prop_oneof![1usize..40, Just(300)],
        text in prop_oneof![Just(0usize), 1usize..5_000, Just(130_000)],
        attempts in 0u32..30,
        tail in 0usize..1024,
        successes in prop_oneof![Just(0usize), Just(100), Just(SUCCEEDED_KEPT)],
    ) {
        let mut snapshot = asking(workloads);
        for workload in &mut snapshot.workloads {
            let text = "é".repeat(text);
            (workload.image, workload.command, workload.revision) = (text.clone(), text.clone(), Some(text));
        }
        let mut status = MigrationGateStatus {
            succeeded: (0..successes).map(|number| format!("{number:031x}f")).collect(),
            ..MigrationGateStatus::default()
        };
        for workload in &snapshot.workloads {
            remember(&mut status, workload);
            for number in 1..=attempts {
                let (outcome, certainty) = (AttemptOutcome::Failed, Certainty::Proven);
                let ending = Ending { outcome, verdict: None, tail: "x".repeat(tail), basis: None, certainty };
                let active = crate::migration::Active { fingerprint: workload.fingerprint.clone(), ..active("a", number) };
                end(&mut status, &active, None, &ending, at(0));
            }
        }
        keep_within(&mut status, &snapshot, None);
        prop_assert_eq!(status.succeeded.len(), successes);
        prop_assert!(size(&status) < ETCD_BYTES, "{} bytes", size(&status));
        let migrations = serde_json::to_vec(&status.migrations).expect("it can be written").len();
        prop_assert!(migrations <= 2 * MIGRATIONS_BYTES, "{migrations} bytes of migrations");
        for workload in &snapshot.workloads {
            let migration = status.migration(&workload.fingerprint);
            prop_assert_eq!(migration.map(|migration| migration.failures), Some(attempts));
        }
        let once = status.clone();
        snapshot.workloads.iter().for_each(|workload| remember(&mut status, workload));
        keep_within(&mut status, &snapshot, None);
        prop_assert_eq!(once, status, "it is at rest");
    }
}
