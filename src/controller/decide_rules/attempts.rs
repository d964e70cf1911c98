//! Rule 2: the active attempt, from its signal to its settlement.

use std::time::Duration;

use crate::contract::Outcome;
use crate::controller::decision::{Action, Hold};
use crate::controller::snapshot::{AgentState, Found, Guards, LastSight, Live, Pod, PodPhase, Workload};
use crate::controller::testing::{
    FP, OLD_FP, active, asked, at, decided, group, marked, owner, pod, policy, runner, running, settled_record,
    silence, succeeded, uid, verdict, workload, written,
};
use crate::migration::{Active, AttemptOutcome, ConditionStatus, Phase};
use crate::settings::Policy;

use super::{asks_about, empty, opens, stalled};

#[test]
fn an_outcome_is_recorded_before_the_pod_hears_of_it() {
    let ended = Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::Succeeded)), ..runner("a", 3) };
    let snapshot = group(running("a", 3), vec![ended, pod("b")]);
    let decision = decided(&snapshot);
    let status = written(&decision).expect("the outcome is recorded");
    assert_eq!((status.active.clone(), status.succeeded.clone()), (None, vec![FP.to_owned()]));
    assert_eq!(status.migration(FP).map(|migration| migration.phase), Some(Phase::Succeeded));
    assert_eq!(decision.actions.len(), 1, "nothing else yet: {:?}", decision.actions);
}

#[test]
fn a_failure_keeps_the_tail_and_holds_the_pods() {
    let ended = Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::Failed)), ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![ended, pod("b")]);
    let decision = settled_record(&mut snapshot);
    let migration = snapshot.status_mut().migration(FP).expect("it is remembered").clone();
    assert_eq!((migration.failures, migration.phase), (1, Phase::Pending));
    assert_eq!(migration.attempts[0].log_tail.as_deref(), Some("first line\nlast line"));
    assert_eq!(migration.attempts[0].outcome, AttemptOutcome::Failed);
    assert_eq!(opens(&decision), [""; 0]);
}

#[test]
fn a_leader_that_died_before_the_signal_is_made_up_for() {
    for quiet in [pod("a"), marked("a", 2)] {
        let mut status = running("a", 3);
        status.active = Some(Active { signalled_at: None, ..active("a", 3) });
        let mut snapshot = group(status, vec![quiet]);
        let decision = settled_record(&mut snapshot);
        let [Action::Signal(pod, run, _)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
        assert_eq!((pod.resource_version.as_str(), run.attempt, run.pod_uid.clone()), ("10", 3, uid("a")));
    }
}

#[test]
fn a_leader_that_died_after_the_signal_is_made_up_for() {
    let mut status = running("a", 3);
    status.active = Some(Active { signalled_at: None, ..active("a", 3) });
    let snapshot = group(status, vec![runner("a", 3)]);
    let decision = decided(&snapshot);
    let active = written(&decision).and_then(|status| status.active.clone()).expect("it is still active");
    assert_eq!(active.signalled_at, Some(at(10)));
    assert_eq!(decision.actions.len(), 1, "and it is not signalled again: {:?}", decision.actions);
}

#[test]
fn the_signal_carries_the_shortest_timeout_of_the_election_and_respects_guards_of_the_users() {
    let guarded = Pod { guards: Guards::among(["karpenter.sh/do-not-disrupt"]), ..pod("a") };
    let mut snapshot = group(empty(), vec![guarded]);
    let timeout = |seconds| Ok(Policy { timeout: Some(Duration::from_secs(seconds)), ..policy() });
    snapshot.workloads = vec![
        Workload { policy: timeout(90), ..workload("shop") },
        Workload { policy: timeout(30), ..workload("admin") },
    ];
    snapshot.record_mut().owners.push(owner("admin"));
    let elected = written(&decided(&snapshot)).expect("an election").clone();
    *snapshot.status_mut() = elected;
    snapshot.workloads.iter_mut().for_each(|workload| OLD_FP.clone_into(&mut workload.fingerprint));
    let decision = settled_record(&mut snapshot);
    let [Action::Signal(_, run, guards)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!(run.timeout_seconds, Some(30), "as it was at the election, whatever became of the template since");
    let keys: Vec<&str> = guards.entries().map(|(key, _)| key).collect();
    assert_eq!(keys, ["controller.kubernetes.io/pod-deletion-cost", "cluster-autoscaler.kubernetes.io/safe-to-evict"]);
}

#[test]
fn what_a_crash_left_behind_is_settled_again() {
    let mut snapshot = group(succeeded(OLD_FP), vec![runner("a", 1)]);
    let decision = settled_record(&mut snapshot);
    let [Action::Settle(pod, settlement)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!((pod.resource_version.as_str(), settlement.mark, settlement.hold), ("10", Some(1), Hold::Release));

    // A fence whose outcome was recorded keeps the finalizer until now.
    let mut snapshot = group(succeeded(OLD_FP), vec![Pod { held: true, deleting: true, ..marked("a", 1) }]);
    let decision = settled_record(&mut snapshot);
    let [Action::Settle(_, settlement)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!((settlement.mark, settlement.hold), (None, Hold::Release));
}

#[test]
fn a_fence_keeps_the_finalizer() {
    let mut snapshot = group(running("a", 3), vec![runner("a", 3)]);
    snapshot.status_mut().active.as_mut().expect("it is active").confirmed_dead = true;
    let decision = settled_record(&mut snapshot);
    let [Action::Settle(_, settlement)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!((settlement.mark, settlement.hold), (Some(3), Hold::Keep));
}

#[test]
fn a_pod_with_a_number_that_the_record_never_gave_is_left_alone_until_it_is_adopted() {
    let snapshot = group(succeeded(FP), vec![runner("a", 5), pod("b")]);
    let decision = decided(&snapshot);
    let status = written(&decision).expect("the record adopts it, or fails because it is old");
    assert_eq!(status.active.as_ref().map(|active| (active.attempt, active.pod_name.as_str())), Some((5, "a")));
    assert_eq!(status.last_attempt, 5);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Settle(..))), "{:?}", decision.actions);

    let mut snapshot = group(running("b", 3), vec![runner("a", 5), runner("b", 3)]);
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().active.as_ref().map(|active| active.attempt), Some(3));
    assert_eq!(stalled(&mut snapshot), ConditionStatus::True);
}

#[test]
fn an_earlier_signal_in_the_runners_pod_is_not_taken_for_the_attempts_own() {
    let mut snapshot = group(running("a", 3), vec![runner("a", 2)]);
    snapshot.status_mut().active.as_mut().expect("it is active").signalled_at = None;
    let decision = settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().active.as_ref().and_then(|active| active.signalled_at), None);
    assert!(matches!(&decision.actions[..], [Action::Settle(_, settlement)] if settlement.mark == Some(2)));
}

#[test]
fn a_pod_that_goes_gets_no_signal() {
    let mut snapshot = group(running("a", 3), vec![Pod { deleting: true, held: true, ..marked("a", 2) }]);
    snapshot.status_mut().active.as_mut().expect("it is active").signalled_at = None;
    let decision = settled_record(&mut snapshot);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Signal(..))), "{:?}", decision.actions);
}

#[test]
fn an_end_and_the_next_election_are_two_writes() {
    let mut snapshot = group(running("a", 1), vec![pod("b")]);
    snapshot.status_mut().active.as_mut().expect("it is active").signalled_at = None;
    snapshot.live.asked = asked("a", 1);
    snapshot.live.runner = Some(Found::Gone);
    snapshot.last_sight = LastSight::Unsignalled;
    let decision = decided(&snapshot);
    let status = written(&decision).expect("the end is recorded");
    assert_eq!(status.active, None, "who looks at the record sees the end");
}

#[test]
fn what_nothing_will_prove_stalls_and_asks_for_an_operator() {
    let ended = Pod { phase: PodPhase::Collected, agent: AgentState::Exited(silence()), ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![ended, pod("b")]);
    let decision = settled_record(&mut snapshot);
    assert_eq!(stalled(&mut snapshot), ConditionStatus::True);
    assert_eq!(decision.actions, [], "and nobody else is elected");
}

#[test]
fn live_answers_go_before_the_cache() {
    let mut snapshot = group(running("a", 3), vec![]);
    assert_eq!(settled_record(&mut snapshot).actions, [asks_about("a", 3)]);
    snapshot.live.asked = asked("a", 3);
    snapshot.live.runner =
        Some(Found::Here(Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::Succeeded)), ..runner("a", 3) }));
    let decision = decided(&snapshot);
    assert!(written(&decision).is_some_and(|status| status.has_succeeded(FP)));
}

#[test]
fn a_question_leaves_the_record_as_the_last_answer_left_it() {
    // The pod was stripped of its finalizer and is gone: held, and asked for again with each decision.
    let mut snapshot = group(running("a", 3), vec![]);
    settled_record(&mut snapshot);
    snapshot.live = Live { asked: asked("a", 3), runner: Some(Found::Gone), ..Live::default() };
    let held = written(&decided(&snapshot)).expect("a record that says so").clone();
    assert!(crate::controller::standing::unaccounted(&held).is_some());
    *snapshot.status_mut() = held;
    assert_eq!(decided(&snapshot).actions, [], "the answer says nothing new");
    snapshot.live = Live::default();
    assert_eq!(decided(&snapshot).actions, [asks_about("a", 3)], "the question alone changes nothing");
}

#[test]
fn a_time_limit_counts_as_a_failure() {
    let ended = Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::TimedOut)), ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![ended]);
    settled_record(&mut snapshot);
    let migration = snapshot.status_mut().migration(FP).expect("it is remembered").clone();
    assert_eq!((migration.failures, migration.interruptions), (1, 0));
    assert_eq!(migration.attempts[0].outcome, AttemptOutcome::TimedOut);
    assert!(migration.attempts[0].log_tail.is_some());
}
