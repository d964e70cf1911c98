//! What a record says for people.

use jiff::SignedDuration;

use crate::contract::Outcome;
use crate::migration::{Condition, ConditionStatus, ConditionType, MigrationGateStatus, Phase};

use super::snapshot::{AgentState, Pod, Workload};
use super::standing::{describe, for_people, phase_word, unaccounted};
use super::testing::{
    FP, OLD_FP, active, at, group, member, open, owner, pod, policy, runner, running, settled_record, succeeded,
    verdict, workload,
};

fn condition(status: &MigrationGateStatus, type_: ConditionType) -> &Condition {
    status.conditions.iter().find(|condition| condition.type_ == type_).expect("it is always said")
}

/// What is said of a group once its record is at rest.
fn said(status: MigrationGateStatus, pods: Vec<Pod>) -> MigrationGateStatus {
    let mut snapshot = group(status, pods);
    settled_record(&mut snapshot);
    snapshot.status_mut().clone()
}

#[test]
fn the_migrated_condition_follows_the_phase() {
    let status = said(succeeded(FP), vec![open("a")]);
    let migrated = condition(&status, ConditionType::Migrated);
    assert_eq!((migrated.status, migrated.reason.as_str()), (ConditionStatus::True, "Succeeded"));

    let status = said(running("a", 1), vec![runner("a", 1)]);
    let migrated = condition(&status, ConditionType::Migrated);
    assert_eq!((migrated.status, migrated.reason.as_str()), (ConditionStatus::False, "Running"));

    let mut nobody = group(MigrationGateStatus::default(), vec![]);
    nobody.workloads.clear();
    let mut status = MigrationGateStatus::default();
    describe(&mut status, &nobody, &None, None, at(0));
    let migrated = condition(&status, ConditionType::Migrated);
    assert_eq!((migrated.status, migrated.reason.as_str()), (ConditionStatus::Unknown, "Unknown"));
}

#[test]
fn a_failure_is_said_with_its_last_line_and_how_long_it_took() {
    let failed = Pod { agent: AgentState::Exited(verdict("a", 1, Outcome::Failed)), ..runner("a", 1) };
    let mut snapshot = group(running("a", 1), vec![failed]);
    snapshot.workloads[0].policy = Ok(crate::settings::Policy { backoff_limit: 1, ..policy() });
    settled_record(&mut snapshot);
    let status = snapshot.status_mut();
    assert_eq!((status.phase, status.duration.as_deref()), (Some(Phase::Failed), Some("1s")));
    let message = status.message.clone().unwrap_or_default();
    assert!(message.ends_with("has no attempts left: last line"), "{message}");
    assert_eq!(condition(status, ConditionType::Stalled).reason, "AttemptsExhausted");
}

#[test]
fn a_condition_keeps_its_time_while_it_holds() {
    let mut status = said(running("a", 1), vec![runner("a", 1)]);
    let snapshot = group(status.clone(), vec![runner("a", 1)]);
    describe(&mut status, &snapshot, &None, None, at(60));
    assert_eq!(condition(&status, ConditionType::Migrated).last_transition_time, at(10), "still false");
    describe(&mut status, &snapshot, &Some("nobody knows".to_owned()), None, at(70));
    assert_eq!(condition(&status, ConditionType::Stalled).last_transition_time, at(70), "now true");
}

#[test]
fn only_an_attempt_that_nobody_can_account_for_is_unaccounted() {
    let mut status = said(running("a", 1), vec![runner("a", 1)]);
    assert_eq!(unaccounted(&status), None);
    let snapshot = group(status.clone(), vec![runner("a", 1)]);
    describe(&mut status, &snapshot, &Some("nobody knows".to_owned()), None, at(70));
    assert_eq!(unaccounted(&status).as_deref(), Some("nobody knows"));
    for condition in &mut status.conditions {
        condition.status = ConditionStatus::False;
    }
    assert_eq!(unaccounted(&status), None, "it was, and is not any more");
    for condition in &mut status.conditions {
        (condition.status, condition.reason) = (ConditionStatus::True, "AttemptsExhausted".to_owned());
    }
    assert_eq!(unaccounted(&status), None, "it stalls for another reason");
}

#[test]
fn the_worst_workload_speaks_for_the_group() {
    let mut snapshot = group(succeeded(FP), vec![open("a"), Pod { fingerprint: OLD_FP.to_owned(), ..pod("b") }]);
    let suspended = crate::settings::Policy { suspend: true, ..policy() };
    snapshot.workloads.push(Workload { fingerprint: OLD_FP.to_owned(), policy: Ok(suspended), ..workload("admin") });
    snapshot.record_mut().owners.push(owner("admin"));
    snapshot.status_mut().workloads.push(member("admin"));
    for _ in 0..2 {
        settled_record(&mut snapshot);
        assert_eq!(snapshot.status_mut().phase, Some(Phase::Suspended));
        snapshot.workloads.reverse();
    }
}

#[test]
fn a_migration_runs_if_the_attempt_is_its_own() {
    let mut status = MigrationGateStatus { active: Some(active("a", 1)), ..running("a", 1) };
    let mut snapshot = group(status.clone(), vec![runner("a", 1)]);
    snapshot.workloads.push(Workload { fingerprint: OLD_FP.to_owned(), ..workload("admin") });
    describe(&mut status, &snapshot, &None, None, at(1));
    let phase = |fingerprint| status.migration(fingerprint).map(|migration| migration.phase);
    assert_eq!((phase(FP), phase(OLD_FP)), (Some(Phase::Running), Some(Phase::Pending)));
}

#[test]
fn durations_and_phases_are_words() {
    for (milliseconds, words) in
        [(-5, "0ms"), (850, "850ms"), (1_000, "1s"), (59_999, "59s"), (185_000, "3m5s"), (7_260_000, "2h1m")]
    {
        assert_eq!(for_people(SignedDuration::from_millis(milliseconds)), words);
    }
    assert_eq!(phase_word(Phase::Superseded), "Superseded");
}
