//! Rule 1: what succeeded, passes.

use crate::contract::Outcome;
use crate::controller::decision::{Action, Decision, Hold};
use crate::controller::snapshot::{AgentState, Pod, PodPhase};
use crate::controller::testing::{
    FP, OLD_FP, decided, group, marked, open, pod, runner, running, settled_record, succeeded, verdict, written,
};

use super::{empty, opens};

#[test]
fn pods_of_a_succeeded_migration_pass_and_others_do_not() {
    let other = Pod { fingerprint: OLD_FP.to_owned(), ..pod("other") };
    let mut snapshot = group(succeeded(FP), vec![pod("a"), open("b"), other]);
    let decision = settled_record(&mut snapshot);
    assert_eq!(opens(&decision), ["a"]);
}

#[test]
fn a_pass_is_completed_and_pods_that_end_get_none() {
    let half = Pod { passed: true, ..pod("half") };
    let closed = Pod { gate_open: true, ..pod("closed") };
    let going = Pod { deleting: true, ..pod("going") };
    let ended = Pod { phase: PodPhase::Ended, ..pod("ended") };
    let mut snapshot = group(succeeded(FP), vec![half, closed, going, ended]);
    assert_eq!(opens(&settled_record(&mut snapshot)), ["half", "closed"]);
}

#[test]
fn the_runner_passes_with_its_settlement_and_not_before() {
    let mut status = running("a", 3);
    status.succeeded.push(FP.to_owned());
    let mut snapshot = group(status, vec![runner("a", 3), pod("b")]);
    let decision = settled_record(&mut snapshot);
    assert_eq!(opens(&decision), ["b"], "marked as succeeded while it runs: the runner goes on");

    snapshot.status_mut().active = None;
    let decision = settled_record(&mut snapshot);
    let settlement = decision.actions.iter().find_map(|action| match action {
        Action::Settle(pod, settlement) if pod.name == "a" => Some(settlement.clone()),
        _ => None,
    });
    let settlement = settlement.expect("the runner is settled");
    assert_eq!((settlement.mark, settlement.hold, settlement.open.as_deref()), (Some(3), Hold::Release, Some(FP)));
    assert!(!opens(&decision).contains(&"a"), "one write for one pod");
}

#[test]
fn nothing_is_written_for_a_group_at_rest() {
    let mut snapshot = group(succeeded(FP), vec![open("a"), open("b")]);
    assert!(matches!(settled_record(&mut snapshot).actions[..], [Action::Release(_)]));
    snapshot.record_mut().finalizers.clear();
    assert_eq!(decided(&snapshot), Decision::default());
    snapshot.status_mut().waiting = 9;
    assert_eq!(decided(&snapshot), Decision::default(), "the count of waiting pods is not worth a write");
}

#[test]
fn a_success_of_an_earlier_attempt_counts_while_the_same_pod_runs_a_later_one() {
    let again = Pod { agent_before: Some(verdict("a", 2, Outcome::Succeeded)), ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![again]);
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().succeeded, [FP]);
}

#[test]
fn a_success_that_comes_late_is_one_all_the_same() {
    // Attempt 3 was given up, and then its agent came back and said what its journal knew.
    let late = Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::Succeeded)), ..marked("a", 3) };
    let mut status = empty();
    status.last_attempt = 3;
    let snapshot = group(status.clone(), vec![late.clone()]);
    assert_eq!(written(&decided(&snapshot)).map(|status| status.succeeded.clone()), Some(vec![FP.to_owned()]));
    // Of a later attempt than the record knows: the record is not the one that gave it.
    let unknown = Pod { agent: AgentState::Exited(verdict("a", 4, Outcome::Succeeded)), ..marked("a", 3) };
    assert!(written(&decided(&group(status, vec![unknown]))).is_none_or(|status| status.succeeded.is_empty()));
    // Where it is active, it ends by the same verdict, and not beside it.
    let now = Pod { agent: late.agent, ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![now]);
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().migration(FP).map(|migration| migration.attempts.len()), Some(1));
}
