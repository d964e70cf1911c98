//! Whether a migration may be tried: back-off, limits, suspension.

use crate::contract::Outcome;
use crate::controller::decide::decide;
use crate::controller::snapshot::{AgentState, Pod};
use crate::controller::standing::INTERRUPTIONS_CAP;
use crate::controller::testing::{
    RULES, active, at, decided, group, pod, policy, runner, running, settled_record, verdict, written,
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
