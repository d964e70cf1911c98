//! Whether a migration may be tried: back-off, limits, suspension.

use crate::contract::{Outcome, ending::LONGEST_ENDING};
use crate::controller::decide::decide;
use crate::controller::decision::Action;
use crate::controller::snapshot::{AgentState, Pod};
use crate::controller::standing::{INTERRUPTIONS_CAP, NEVER_STARTED_CAP};
use crate::controller::testing::{
    RULES, active, at, decided, group, marked, pod, policy, runner, running, settled_record, uid, verdict, written,
};
use crate::migration::{ConditionStatus, OverrideAction, Phase};
use crate::settings::Policy;

use super::{elected, empty, failed_times, order, stalled};

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
    for (number, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32)] {
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
fn what_never_starts_is_given_up_in_the_end_and_a_retry_takes_it_up_again() {
    let mut snapshot = group(empty(), vec![Pod { agent_since: at(-1000), ..pod("a") }]);
    for number in 1..=NEVER_STARTED_CAP {
        assert!(elected(&snapshot).is_some(), "after {} that never started", number - 1);
        let ended = Pod { agent: AgentState::Exited(verdict("r", number, Outcome::NotStarted)), ..runner("r", number) };
        snapshot.status_mut().active = Some(active("r", number));
        snapshot.status_mut().last_attempt = number;
        let pods = std::mem::replace(&mut snapshot.pods, vec![ended].into());
        settled_record(&mut snapshot);
        snapshot.pods = pods;
    }
    assert_eq!(settled_record(&mut snapshot).look_again_at, None);
    assert_eq!(elected(&snapshot), None);
    assert_eq!((snapshot.status_mut().phase, stalled(&mut snapshot)), (Some(Phase::Failed), ConditionStatus::True));
    snapshot.record_mut().overrides.push(order(OverrideAction::Retry, NEVER_STARTED_CAP, ""));
    assert!(elected(&snapshot).is_some());
}

#[test]
fn nobody_is_elected_while_the_process_of_a_fenced_attempt_may_be_ending() {
    let mut snapshot = group(running("a", 1), vec![marked("a", 1), pod("b")]);
    let decision = settled_record(&mut snapshot);
    let fenced = snapshot.status_mut().fenced.clone().expect("it was given up without a proof");
    assert_eq!((fenced.attempt, fenced.pod_uid, fenced.grace_seconds), (1, uid("a"), Some(30)));
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::WriteStatus(..))));
    snapshot.record_mut().fenced_since = Some(at(10));
    let until = at(10).checked_add(LONGEST_ENDING).expect("a time");
    for second in [21, 40, 69] {
        let decision = decide(&snapshot, RULES, at(second));
        assert_eq!((written(&decision), decision.look_again_at), (None, Some(until)), "at {second}");
    }
    let due = decide(&snapshot, RULES, until);
    let status = written(&due).expect("an election");
    assert!(status.active.as_ref().is_some_and(|active| active.attempt == 2) && status.fenced.is_none());

    snapshot.pods[0].agent = AgentState::Exited(verdict("a", 1, Outcome::Interrupted));
    let decision = decide(&snapshot, RULES, at(21));
    let status = written(&decision).expect("an election");
    assert!(status.active.as_ref().is_some_and(|active| active.pod_name == "b"), "its agent has reported");
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
