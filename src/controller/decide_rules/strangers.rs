//! Pods that carry the group's labels without a workload of the group having made them. Whoever may create pods can
//! make one; it must not be elected, and what it says of an attempt must not be believed.

use crate::contract::Outcome;
use crate::controller::decision::Action;
use crate::controller::eligible::Obstacle;
use crate::controller::snapshot::{AgentState, Pod};
use crate::controller::testing::{
    FP, at, decided, group, marked, pod, running, settled_record, succeeded, uid, verdict,
};
use crate::migration::MigrationGateStatus;

use super::{elected, empty, opens};

/// The oldest pod of all, made by somebody else.
fn stranger() -> Pod {
    Pod { controller: None, created: at(-1000), ..pod("stranger") }
}

/// A record whose first attempt failed.
fn tried() -> MigrationGateStatus {
    MigrationGateStatus { last_attempt: 1, ..empty() }
}

#[test]
fn a_pod_that_no_workload_of_the_group_made_is_not_elected() {
    for controller in [None, Some("uid-of-a-job".into()), Some("uid-of-a-foreign-replicaset".into())] {
        let mut snapshot = group(empty(), vec![Pod { controller, ..stranger() }]);
        snapshot.replica_sets.insert("uid-of-a-foreign-replicaset".into(), "uid-of-another-workload".into());
        assert_eq!(elected(&snapshot), None);
        assert_eq!(snapshot.obstacle(&snapshot.pods[0]), Some(Obstacle::Stranger));
        snapshot.pods.push(pod("a"));
        assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)), "and takes nobody's turn");
    }
}

#[test]
fn a_replica_set_of_the_workload_makes_its_pods_count() {
    let made = Pod { controller: Some("uid-of-rs".into()), ..pod("a") };
    let mut snapshot = group(empty(), vec![made]);
    assert_eq!(elected(&snapshot), None, "nothing is known of the ReplicaSet yet");
    snapshot.replica_sets.insert("uid-of-rs".into(), uid("shop").into());
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)));
}

#[test]
fn a_pod_of_another_workload_in_the_group_does_not_run_this_ones_migration() {
    let mut snapshot = group(empty(), vec![Pod { controller: Some(uid("admin").into()), ..pod("a") }]);
    let admin = super::super::snapshot::Workload {
        fingerprint: "f".repeat(32),
        ..crate::controller::testing::workload("admin")
    };
    snapshot.workloads.push(admin);
    snapshot.record_mut().owners.push(crate::controller::testing::owner("admin"));
    assert_eq!(elected(&snapshot), None, "its template asks for another migration");
}

#[test]
fn a_success_that_a_pod_without_an_attempt_reports_is_not_believed() {
    for attempt in [0, 1] {
        let forged = Pod { agent: AgentState::Exited(verdict("stranger", attempt, Outcome::Succeeded)), ..stranger() };
        let mut snapshot = group(tried(), vec![forged, pod("a")]);
        settled_record(&mut snapshot);
        assert!(!snapshot.status_mut().has_succeeded(FP), "attempt {attempt}");
        assert_eq!(opens(&decided(&snapshot)), [""; 0]);
    }

    // Even one that was given an attempt can't speak of a later one.
    let claims = Pod { agent: AgentState::Exited(verdict("a", 2, Outcome::Succeeded)), ..marked("a", 1) };
    let mut snapshot = group(MigrationGateStatus { last_attempt: 2, ..empty() }, vec![claims]);
    snapshot.workloads.clear();
    settled_record(&mut snapshot);
    assert!(!snapshot.status_mut().has_succeeded(FP));
}

#[test]
fn a_stranger_can_neither_hold_the_lock_nor_end_an_attempt() {
    let forged = Pod { agent: AgentState::Exited(verdict("stranger", 1, Outcome::Succeeded)), ..stranger() };
    let mut snapshot = group(running("a", 1), vec![forged, crate::controller::testing::runner("a", 1)]);
    let decision = settled_record(&mut snapshot);
    assert_eq!(decision.actions, [], "the attempt runs on");
    assert!(snapshot.status_mut().active.is_some());
}

#[test]
fn a_copy_of_a_gated_pod_passes_with_what_it_is_a_copy_of() {
    let snapshot = group(succeeded(FP), vec![stranger()]);
    let decision = decided(&snapshot);
    let opened = decision.actions.iter().any(|action| matches!(action, Action::Open(pods) if pods.len() == 1));
    assert!(opened, "a gate is true if its migration succeeded, whoever made the pod: {:?}", decision.actions);
}
