//! The decision rules, one test each.

use std::time::Duration;

use crate::contract::Outcome;
use crate::migration::{
    AttemptOutcome, ConditionStatus, ConditionType, MigrationGateStatus, Override, OverrideAction, Phase,
};
use crate::settings::Policy;

use super::decide::{Action, Decision, Hold, decide};
use super::evidence::Question;
use super::snapshot::{
    AgentState, Asked, Found, Guards, Live, Node, Pod, PodPhase, Record, RecordView, Snapshot, Workload,
};
use super::standing::INTERRUPTIONS_CAP;
use super::testing::{
    FP, OLD_FP, RULES, active, asked, at, decided, group, marked, node, open, owner, pod, policy, record, runner,
    running, settled_record, silence, succeeded, uid, verdict, workload, written,
};

fn empty() -> MigrationGateStatus {
    MigrationGateStatus::default()
}

fn elected(snapshot: &Snapshot) -> Option<(String, u32)> {
    let decision = decided(snapshot);
    let active = written(&decision)?.active.clone()?;
    Some((active.pod_name, active.attempt))
}

fn opens(decision: &Decision) -> Vec<&str> {
    let mut opened = Vec::new();
    for action in &decision.actions {
        if let Action::Open(pod, _) = action {
            opened.push(pod.name.as_str());
        }
    }
    opened
}

fn order(action: OverrideAction, attempt: u32, pod: &str) -> Override {
    Override {
        fingerprint: FP.to_owned(),
        action,
        attempt,
        pod_uid: if pod.is_empty() { String::new() } else { uid(pod) },
        reason: String::new(),
        by: String::new(),
    }
}

// Rule 1: what succeeded, passes.

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

// Rule 2: the active attempt.

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
        status.active = Some(crate::migration::Active { signalled_at: None, ..active("a", 3) });
        let mut snapshot = group(status, vec![quiet]);
        let decision = settled_record(&mut snapshot);
        let [Action::Signal(pod, run, _)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
        assert_eq!((pod.resource_version.as_str(), run.attempt, run.pod_uid.clone()), ("10", 3, uid("a")));
    }
}

#[test]
fn a_leader_that_died_after_the_signal_is_made_up_for() {
    let mut status = running("a", 3);
    status.active = Some(crate::migration::Active { signalled_at: None, ..active("a", 3) });
    let snapshot = group(status, vec![runner("a", 3)]);
    let decision = decided(&snapshot);
    let active = written(&decision).and_then(|status| status.active.clone()).expect("it is still active");
    assert_eq!(active.signalled_at, Some(at(10)));
    assert_eq!(decision.actions.len(), 1, "and it is not signalled again: {:?}", decision.actions);
}

#[test]
fn the_signal_carries_the_shortest_timeout_and_respects_guards_of_the_users() {
    let mut status = running("a", 3);
    status.active = Some(crate::migration::Active { signalled_at: None, ..active("a", 3) });
    let guarded = Pod { guards: Guards::among(["karpenter.sh/do-not-disrupt"]), ..pod("a") };
    let mut snapshot = group(status, vec![guarded]);
    let timeout = |seconds| Ok(Policy { timeout: Some(Duration::from_secs(seconds)), ..policy() });
    snapshot.workloads = vec![
        Workload { policy: timeout(90), ..workload("shop") },
        Workload { policy: timeout(30), ..workload("admin") },
    ];
    snapshot.record_mut().owners.push(owner("admin"));
    let decision = settled_record(&mut snapshot);
    let [Action::Signal(_, run, guards)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!(run.timeout_seconds, Some(30));
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

fn stalled(snapshot: &mut Snapshot) -> ConditionStatus {
    let condition = |condition: &&crate::migration::Condition| condition.type_ == ConditionType::Stalled;
    snapshot.status_mut().conditions.iter().find(condition).expect("the condition is always there").status
}

#[test]
fn what_nothing_will_prove_stalls_and_asks_for_an_operator() {
    let ended = Pod { phase: PodPhase::Collected, agent: AgentState::Exited(silence()), ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![ended, pod("b")]);
    let decision = settled_record(&mut snapshot);
    assert_eq!(stalled(&mut snapshot), ConditionStatus::True);
    assert_eq!(decision.actions, [], "and nobody else is elected");
}

// Rule 3: elections.

#[test]
fn the_oldest_pod_whose_agent_runs_is_elected() {
    let young = Pod { created: at(5), ..pod("young") };
    let old = Pod { created: at(1), ..pod("old") };
    let oldest_but_not_there = Pod { created: at(0), agent: AgentState::Waiting, ..pod("first") };
    let snapshot = group(empty(), vec![young, old, oldest_but_not_there]);
    assert_eq!(elected(&snapshot), Some(("old".to_owned(), 1)));
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
fn a_record_that_goes_opens_what_succeeded_before_it_lets_go() {
    let mut snapshot = group(succeeded(FP), vec![pod("a")]);
    snapshot.record_mut().deleting = true;
    let decision = settled_record(&mut snapshot);
    assert_eq!(opens(&decision), ["a"]);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Release(_))));
}

fn failed_times(failures: u32, interruptions: u32) -> Snapshot {
    let mut snapshot = group(empty(), vec![pod("a")]);
    for number in 1..=failures + interruptions {
        let outcome = if number <= failures { Outcome::Failed } else { Outcome::Interrupted };
        let phase = if number <= failures { PodPhase::Pending } else { PodPhase::Ended };
        let ended = Pod { phase, agent: AgentState::Exited(verdict("r", number, outcome)), ..runner("r", number) };
        snapshot.status_mut().active = Some(active("r", number));
        snapshot.status_mut().last_attempt = number;
        let pods = std::mem::replace(&mut snapshot.pods, vec![ended].into());
        settled_record(&mut snapshot);
        snapshot.pods = pods;
    }
    snapshot
}

#[test]
fn failures_back_off_ten_seconds_doubling_to_six_minutes() {
    for (failures, seconds) in [(1, 10), (2, 20), (3, 40), (5, 160)] {
        let snapshot = failed_times(failures, 0);
        let early = decide(&snapshot, RULES, at(10 + seconds - 1));
        assert!(written(&early).is_none_or(|status| status.active.is_none()), "after {failures} failures");
        assert_eq!(early.look_again_at, Some(at(10 + seconds)), "after {failures} failures");
        let due = decide(&snapshot, RULES, at(10 + seconds));
        assert!(written(&due).is_some_and(|status| status.active.is_some()), "after {failures} failures");
    }
    let longest = decide(&failed_times(1, 8), RULES, at(11));
    assert_eq!(longest.look_again_at, Some(at(10 + 360)));
}

#[test]
fn the_limits_of_failures_and_of_interruptions_are_separate() {
    let day = at(86_400);
    let mut failed = failed_times(6, 0);
    assert!(written(&decide(&failed, RULES, day)).is_none_or(|status| status.active.is_none()));
    assert_eq!(failed.status_mut().phase, Some(Phase::Failed));
    assert_eq!(stalled(&mut failed), ConditionStatus::True);
    let interrupted = failed_times(0, 6);
    assert!(written(&decide(&interrupted, RULES, day)).is_some_and(|status| status.active.is_some()));
    let mut interrupted = failed_times(0, INTERRUPTIONS_CAP);
    assert!(written(&decide(&interrupted, RULES, day)).is_none_or(|status| status.active.is_none()));
    assert_eq!(interrupted.status_mut().phase, Some(Phase::Failed));
}

#[test]
fn an_attempt_that_never_started_counts_for_nothing() {
    let ended = Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::NotStarted)), ..runner("a", 3) };
    let mut snapshot = group(running("a", 3), vec![ended]);
    settled_record(&mut snapshot);
    snapshot.pods = vec![pod("b")].into();
    assert_eq!(elected(&snapshot), Some(("b".to_owned(), 4)));
}

#[test]
fn an_agent_gets_a_head_start_after_attempts_that_never_started() {
    let mut snapshot = group(empty(), vec![Pod { agent_since: at(10), ..pod("a") }]);
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)), "nobody waits at first");
    for (number, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 16)] {
        let ended = Pod { agent: AgentState::Exited(verdict("r", number, Outcome::NotStarted)), ..runner("r", number) };
        snapshot.status_mut().active = Some(active("r", number));
        snapshot.status_mut().last_attempt = number;
        let pods = std::mem::replace(&mut snapshot.pods, vec![ended].into());
        settled_record(&mut snapshot);
        snapshot.pods = pods;
        assert_eq!(decided(&snapshot).look_again_at, Some(at(10 + seconds)), "after {number}");
        let due = decide(&snapshot, RULES, at(10 + seconds));
        assert!(written(&due).is_some_and(|status| status.active.is_some()), "after {number}");
    }
}

#[test]
fn a_suspended_migration_waits_for_an_approval() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.workloads[0].policy = Ok(Policy { suspend: true, ..policy() });
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().phase, Some(Phase::Suspended));
    snapshot.record_mut().overrides.push(order(OverrideAction::Approve, 0, ""));
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)));
}

#[test]
fn settings_that_cannot_be_read_hold_the_migration() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.workloads[0].policy = Err("timeout: found 'soon'".to_owned());
    settled_record(&mut snapshot);
    let status = snapshot.status_mut();
    assert_eq!((status.phase, status.active.clone()), (Some(Phase::Failed), None));
    assert!(status.message.as_ref().is_some_and(|message| message.contains("found 'soon'")), "{:?}", status.message);
}

// Rule 4: superseded templates.

#[test]
fn a_superseded_migration_never_elects_and_a_rollback_makes_it_current_again() {
    let old = Pod { fingerprint: OLD_FP.to_owned(), ..pod("old") };
    let mut snapshot = group(empty(), vec![old.clone()]);
    snapshot.workloads[0].fingerprint = OLD_FP.to_owned();
    settled_record(&mut snapshot.clone());
    snapshot.workloads[0].fingerprint = FP.to_owned();
    assert_eq!(elected(&snapshot), None);
    snapshot.workloads[0].fingerprint = OLD_FP.to_owned();
    assert_eq!(elected(&snapshot), Some(("old".to_owned(), 1)));
}

// Operators' orders.

#[test]
fn marked_as_succeeded_opens_without_a_run() {
    let mut snapshot = group(empty(), vec![Pod { agent: AgentState::Waiting, ..pod("a") }]);
    snapshot.record_mut().overrides.push(order(OverrideAction::MarkSucceeded, 0, ""));
    let decision = decided(&snapshot);
    assert_eq!(opens(&decision), [""; 0], "recorded first");
    assert_eq!(opens(&settled_record(&mut snapshot)), ["a"]);
    snapshot.record_mut().overrides.clear();
    snapshot.pods.push(pod("b"));
    assert_eq!(opens(&settled_record(&mut snapshot)), ["a", "b"], "removing the order undoes nothing");
}

#[test]
fn retry_must_name_the_latest_attempt() {
    let mut snapshot = failed_times(6, 0);
    snapshot.record_mut().overrides.push(order(OverrideAction::Retry, 5, ""));
    settled_record(&mut snapshot);
    let refused = snapshot.status_mut().overrides[0].clone();
    assert!(!refused.accepted && refused.refusal.is_some_and(|why| why.contains("is 6, not 5")));
    assert_eq!(snapshot.status_mut().phase, Some(Phase::Failed));
    snapshot.record_mut().overrides.push(order(OverrideAction::Retry, 6, ""));
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 7)), "at once: the back-off is forgotten, too");
}

#[test]
fn confirm_dead_must_name_the_active_attempt_and_pod_and_is_recorded_before_it_acts() {
    let mut snapshot = group(running("a", 3), vec![runner("a", 3), pod("b")]);
    snapshot.record_mut().overrides.push(order(OverrideAction::ConfirmDead, 3, "b"));
    snapshot.record_mut().overrides.push(order(OverrideAction::ConfirmDead, 2, "a"));
    assert_eq!(settled_record(&mut snapshot).actions, []);
    assert!(snapshot.status_mut().overrides.iter().all(|taken| !taken.accepted));
    snapshot.record_mut().overrides.push(order(OverrideAction::ConfirmDead, 3, "a"));
    let decision = decided(&snapshot);
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::Settle(..))), "{:?}", decision.actions);
    let decision = settled_record(&mut snapshot);
    assert!(matches!(&decision.actions[..], [Action::Settle(_, fence)] if fence.hold == Hold::Keep));
    snapshot.pods[0] = Pod { held: true, ..marked("a", 3) };
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().migration(FP).map(|migration| migration.interruptions), Some(1));
}

// The record itself.

#[test]
fn a_missing_record_is_made_and_an_empty_one_rebuilt_from_fresh_pods() {
    let mut snapshot = group(empty(), vec![runner("a", 3)]);
    snapshot.record = RecordView::Missing;
    assert!(matches!(&decided(&snapshot).actions[..], [Action::CreateRecord(owners)] if owners.len() == 1));
    snapshot.record = RecordView::Present(Box::new(Record { status: None, ..record(empty()) }));
    assert_eq!(decided(&snapshot).actions, [Action::Look(Question::Pods)], "the cache may not know of a signal yet");
    let passed = Pod { fingerprint: OLD_FP.to_owned(), ..open("c") };
    snapshot.live.pods = Some(vec![runner("a", 3), marked("b", 7), passed]);
    snapshot.live.asked = Some(Asked::Pods("uid-of-another-record".to_owned()));
    assert_eq!(decided(&snapshot).actions, [Action::Look(Question::Pods)], "they were asked for another record");
    snapshot.live.asked = Some(Asked::Pods("uid-of-record".to_owned()));
    let decision = decided(&snapshot);
    let status = written(&decision).expect("the first status");
    let active = status.active.as_ref().expect("somebody may run");
    assert_eq!((active.attempt, active.pod_uid.clone(), active.node_uid.clone()), (3, uid("a"), None));
    assert!(active.signalled_at.is_some());
    assert_eq!((status.last_attempt, status.succeeded.clone()), (7, vec![OLD_FP.to_owned()]));
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
    assert!(matches!(&settled_record(&mut snapshot).actions[..], [Action::Delete(_)]));
    snapshot.record_mut().managed = false;
    assert_eq!(decided(&snapshot).actions, [], "a person made it");
}

// A workload that moves between groups.

#[test]
fn a_workload_that_moved_waits_until_its_old_group_knows_and_is_idle() {
    let elder = Record { name: "old.group".to_owned(), ..record(running("x", 9)) };
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.elders = vec![elder];
    let decision = settled_record(&mut snapshot);
    let [Action::WriteStatus(at_, status)] = &decision.actions[..] else { panic!("{:?}", decision.actions) };
    assert_eq!((at_.name.as_str(), status.departed[0].workload_uid.clone()), ("old.group", uid("shop")));
    snapshot.elders[0].status = Some((**status).clone());
    assert_eq!(settled_record(&mut snapshot).actions, [], "an attempt is active there");
    let elder = snapshot.elders[0].status.as_mut().expect("it has one");
    elder.active = None;
    elder.succeeded.push(OLD_FP.to_owned());
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)));
    settled_record(&mut snapshot);
    assert!(snapshot.status_mut().has_succeeded(OLD_FP), "its successes carry over");
}

#[test]
fn a_group_that_a_workload_left_does_not_elect_for_a_late_view_of_it() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    let departed = crate::migration::Departed { workload_uid: uid("shop"), generation: 4 };
    snapshot.status_mut().departed.push(departed);
    snapshot.workloads[0].generation = 3;
    assert_eq!(elected(&snapshot), None);
    snapshot.workloads[0].generation = 5;
    assert_eq!(elected(&snapshot), Some(("a".to_owned(), 1)), "it came back");
    assert_eq!(snapshot.status_mut().departed.len(), 1);
    settled_record(&mut snapshot);
    assert!(snapshot.status_mut().departed.is_empty());
}

#[test]
fn a_workload_that_is_being_deleted_elects_no_more() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.workloads[0].deleting = true;
    assert_eq!(elected(&snapshot), None);
}

#[test]
fn live_answers_go_before_the_cache() {
    let mut snapshot = group(running("a", 3), vec![]);
    assert_eq!(settled_record(&mut snapshot).actions, [Action::Look(Question::Runner)]);
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
    assert!(super::standing::unaccounted(&held).is_some());
    *snapshot.status_mut() = held;
    assert_eq!(decided(&snapshot).actions, [], "the answer says nothing new");
    snapshot.live = Live::default();
    assert_eq!(decided(&snapshot).actions, [Action::Look(Question::Runner)], "the question alone changes nothing");
}
