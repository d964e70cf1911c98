//! Rule 3: who is elected, and when nobody is.

use crate::controller::decision::Action;
use crate::controller::snapshot::{AgentState, Node, Pod, PodPhase};
use crate::controller::testing::{
    OLD_FP, at, decided, group, node, pod, runner, running, settled_record, silence, succeeded, uid, written,
};

use super::{elected, empty};

#[test]
fn the_oldest_pod_whose_agent_runs_is_elected() {
    let young = Pod { created: at(5), ..pod("young") };
    let old = Pod { created: at(1), ..pod("old") };
    let oldest_but_not_there = Pod { created: at(0), agent: AgentState::Waiting, ..pod("first") };
    let snapshot = group(empty(), vec![young, old, oldest_but_not_there]);
    assert_eq!(elected(&snapshot), Some(("old".to_owned(), 1)));
    let active = written(&decided(&snapshot)).and_then(|status| status.active.clone()).expect("it is active");
    assert_eq!((active.node_uid, active.signalled_at), (Some(uid("node-1")), None), "it is not signalled yet");
    let snapshot = group(empty(), vec![pod("b"), pod("a")]);
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)), "by name among equals");
}

#[test]
fn pods_that_cannot_run_it_are_not_elected() {
    for (why, unfit) in [
        ("it is being deleted", Pod { deleting: true, ..pod("a") }),
        ("it ended", Pod { phase: PodPhase::Ended, ..pod("a") }),
        ("its containers run already", Pod { phase: PodPhase::Running, ..pod("a") }),
        ("its agent ended", Pod { agent: AgentState::Exited(silence()), ..pod("a") }),
        ("it has no node", Pod { node: None, ..pod("a") }),
        ("nothing is known of its node", Pod { node: Some("unknown".to_owned()), ..pod("a") }),
        ("it has another migration", Pod { fingerprint: OLD_FP.to_owned(), ..pod("a") }),
    ] {
        assert_eq!(elected(&group(empty(), vec![unfit])), None, "{why}");
    }
    for (why, unfit) in [
        ("its node is not Ready", Node { ready: false, ..node() }),
        ("its node is out of service", Node { out_of_service: true, ..node() }),
    ] {
        let mut snapshot = group(empty(), vec![pod("a")]);
        snapshot.nodes.insert("node-1".to_owned(), unfit);
        assert_eq!(elected(&snapshot), None, "{why}");
    }
}

#[test]
fn a_node_that_is_about_to_go_is_the_last_choice() {
    let staying = Pod { created: at(5), node: Some("node-2".to_owned()), ..pod("staying") };
    let mut snapshot = group(empty(), vec![pod("leaving"), staying]);
    snapshot.nodes.insert("node-1".to_owned(), Node { leaving: true, ..node() });
    snapshot.nodes.insert("node-2".to_owned(), node());
    assert_eq!(elected(&snapshot), Some(("staying".to_owned(), 1)));
    snapshot.pods.pop();
    assert_eq!(elected(&snapshot), Some(("leaving".to_owned(), 1)), "but it is one");
}

#[test]
fn nobody_is_elected_while_an_attempt_is_active_or_unsettled() {
    let mut snapshot = group(running("a", 3), vec![runner("a", 3), pod("b")]);
    assert_eq!(settled_record(&mut snapshot).actions, []);
    let other = Pod { fingerprint: OLD_FP.to_owned(), ..runner("a", 1) };
    assert_eq!(elected(&group(succeeded(OLD_FP), vec![other, pod("b")])), None);
}

#[test]
fn the_record_is_protected_before_it_elects_and_never_elects_when_it_goes() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.record_mut().finalizers.clear();
    let decision = decided(&snapshot);
    assert!(matches!(decision.actions[..], [Action::Protect(_)]), "{:?}", decision.actions);
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.record_mut().deleting = true;
    let decision = settled_record(&mut snapshot);
    assert!(matches!(decision.actions[..], [Action::Release(_)]), "{:?}", decision.actions);
}

#[test]
fn a_workload_that_is_being_deleted_elects_no_more() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.workloads[0].deleting = true;
    assert_eq!(elected(&snapshot), None);
}
