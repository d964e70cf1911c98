//! The record itself: made, rebuilt, let go.

use std::sync::Arc;

use crate::contract::Outcome;
use crate::controller::decide::decide;
use crate::controller::decision::{Action, Hold};
use crate::controller::evidence::Question;
use crate::controller::snapshot::{
    AgentState, Asked, Found, Live, LiveNode, Pod, PodPhase, Record, RecordView, Snapshot,
};
use crate::controller::testing::{
    FP, OLD_FP, RULES, at, decided, group, marked, node, open, pod, record, runner, running, settled_record, succeeded,
    uid, verdict, written,
};

use super::{empty, opens};

#[test]
fn a_missing_record_is_made_and_an_empty_one_rebuilt_from_fresh_pods() {
    let mut snapshot = group(empty(), vec![runner("a", 3)]);
    snapshot.record = RecordView::Missing;
    assert!(matches!(&decided(&snapshot).actions[..], [Action::CreateRecord(owners)] if owners.len() == 1));
    snapshot.record = RecordView::Present(Arc::new(Record { status: None, ..record(empty()) }));
    assert_eq!(
        decided(&snapshot).actions,
        [Action::Look(Question::Pods, None)],
        "the cache may not know of a signal yet"
    );
    let passed = Pod { fingerprint: OLD_FP.to_owned(), ..open("c") };
    snapshot.live.pods = Some(vec![runner("a", 3), marked("b", 7), passed]);
    snapshot.live.asked = Some(Asked::Pods("uid-of-another-record".to_owned()));
    assert_eq!(decided(&snapshot).actions, [Action::Look(Question::Pods, None)], "they were asked for another record");
    snapshot.live.asked = Some(Asked::Pods("uid-of-record".to_owned()));
    let decision = decided(&snapshot);
    let status = written(&decision).expect("the first status");
    let active = status.active.as_ref().expect("somebody may run");
    assert_eq!((active.attempt, active.pod_uid.clone(), active.node_uid.clone()), (3, uid("a"), None));
    assert!(active.signalled_at.is_some());
    assert_eq!((status.last_attempt, status.succeeded.clone()), (7, vec![OLD_FP.to_owned()]));
}

#[test]
fn a_record_is_made_for_a_workload_and_for_a_pod_that_must_be_settled() {
    let makes = |snapshot: &Snapshot| matches!(&decided(snapshot).actions[..], [Action::CreateRecord(_)]);
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.record = RecordView::Missing;
    assert!(makes(&snapshot), "a workload");
    snapshot.workloads[0].deleting = true;
    assert!(!makes(&snapshot), "it goes, and its pod needs nothing");
    snapshot.pods = vec![Pod { held: true, ..pod("a") }].into();
    assert!(makes(&snapshot), "somebody must take the finalizer off");
    snapshot.pods = vec![Pod { held: false, ..runner("a", 1) }].into();
    assert!(makes(&snapshot), "an attempt must be followed, with a finalizer or without");
}

#[test]
fn where_no_record_can_be_made_whatever_is_held_or_signalled_is_looked_at() {
    let held = Pod { held: true, ..marked("a", 1) };
    let ended = AgentState::Exited(verdict("b", 2, Outcome::Failed));
    let signalled = Pod { held: false, agent: ended, ..runner("b", 2) };
    let mut snapshot = group(empty(), vec![held, signalled, pod("c")]);
    snapshot.record = RecordView::Refused;
    let actions = decided(&snapshot).actions;
    let settled = |action: &Action| match action {
        Action::Settle(pod, settlement) => Some((pod.name.clone(), settlement.mark)),
        _ => None,
    };
    let settled: Vec<_> = actions.iter().filter_map(settled).collect();
    assert_eq!(settled, [("a".to_owned(), None), ("b".to_owned(), Some(2))]);
}

#[test]
fn where_no_record_can_be_made_each_pod_is_asked_about_in_turn_and_a_held_one_is_said() {
    // Both were stripped of their node's object, so that both need an answer; the first one's is of no use.
    let mut snapshot = group(empty(), vec![runner("a", 1), runner("b", 2)]);
    snapshot.record = RecordView::Refused;
    snapshot.nodes.clear();
    let asked = |snapshot: &Snapshot| match &decided(snapshot).actions[..] {
        [Action::Look(Question::RunnerAndNode, Some(active))] => Some(active.pod_name.clone()),
        _ => None,
    };
    assert_eq!(asked(&snapshot).as_deref(), Some("a"));
    let answer = |name: &str, attempt| Live {
        asked: crate::controller::testing::asked(name, attempt),
        runner: Some(Found::Here(runner(name, attempt))),
        node: Some(Found::Here(LiveNode { node: node(), silent_for: std::time::Duration::ZERO })),
        ..Live::default()
    };
    snapshot.live = answer("a", 1);
    assert_eq!(asked(&snapshot).as_deref(), Some("b"));
    snapshot.live = answer("b", 2);
    assert_eq!(decided(&snapshot).actions, [], "each was asked about once");
    snapshot.pods[0].phase = PodPhase::Collected;
    snapshot.live = answer("b", 2);
    snapshot.nodes.insert("node-1".to_owned(), node());
    let stuck = decided(&snapshot).stuck.unwrap_or_default();
    assert!(stuck.contains("pod a"), "{stuck:?}");
}

#[test]
fn where_no_record_can_be_made_evidence_settles_the_pod() {
    let mut snapshot = group(empty(), vec![Pod { deleting: true, ..runner("a", 3) }]);
    snapshot.record = RecordView::Refused;
    assert_eq!(decided(&snapshot).actions, [], "it may run");
    snapshot.pods[0].agent = AgentState::Exited(verdict("a", 3, Outcome::Interrupted));
    assert!(matches!(&decided(&snapshot).actions[..], [Action::Settle(_, end)] if end.hold == Hold::Release));
}

#[test]
fn owners_are_added_and_a_record_that_nobody_needs_is_deleted() {
    let mut snapshot = group(succeeded(FP), vec![]);
    snapshot.record_mut().owners.clear();
    assert!(matches!(&decided(&snapshot).actions[..], [Action::Own(_, owners)] if owners[0].name == "shop"));
    snapshot.workloads.clear();
    snapshot.record_mut().finalizers.clear();
    snapshot.pods = vec![open("a")].into();
    assert_eq!(settled_record(&mut snapshot).actions, [], "a pod is left");
    snapshot.pods = Vec::new().into();
    assert!(matches!(&settled_record(&mut snapshot).actions[..], [Action::Delete(_)]));
    snapshot.record_mut().managed = false;
    assert_eq!(decided(&snapshot).actions, [], "a person made it");
}

#[test]
fn a_record_that_goes_opens_what_succeeded_before_it_lets_go() {
    let mut snapshot = group(succeeded(FP), vec![pod("a")]);
    snapshot.record_mut().deleting = true;
    let decision = settled_record(&mut snapshot);
    assert_eq!(opens(&decision), ["a"]);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Release(_))));
}

#[test]
fn a_record_or_workload_that_is_deleted_in_mid_attempt_keeps_the_lock_until_the_end() {
    let mut snapshot = group(running("a", 1), vec![runner("a", 1), pod("b")]);
    snapshot.record_mut().deleting = true;
    snapshot.workloads[0].deleting = true;
    assert_eq!(settled_record(&mut snapshot).actions, [], "somebody runs");
    snapshot.pods[0].agent = AgentState::Exited(verdict("a", 1, Outcome::Failed));
    let decision = settled_record(&mut snapshot);
    assert!(matches!(&decision.actions[..], [Action::Settle(..)]), "{:?}", decision.actions);
    snapshot.pods[0] = marked("a", 1);
    let later = decide(&snapshot, RULES, at(86_400));
    assert!(matches!(&later.actions[..], [Action::Release(_)]), "nothing keeps it: {:?}", later.actions);
}
