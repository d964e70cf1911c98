//! Operators' orders.

use crate::controller::decision::{Action, Hold};
use crate::controller::snapshot::{AgentState, Pod};
use crate::controller::testing::{FP, OLD_FP, decided, group, marked, pod, policy, runner, running, settled_record};
use crate::migration::{Override, OverrideAction, Phase};
use crate::settings::Policy;

use super::{elected, empty, failed_times, opens, order};

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

#[test]
fn an_approval_is_for_the_migration_that_it_names() {
    let mut snapshot = group(empty(), vec![pod("a")]);
    snapshot.workloads[0].policy = Ok(Policy { suspend: true, ..policy() });
    let other = Override { fingerprint: OLD_FP.to_owned(), ..order(OverrideAction::Approve, 0, "") };
    snapshot.record_mut().overrides.push(other);
    settled_record(&mut snapshot);
    assert_eq!(snapshot.status_mut().phase, Some(Phase::Suspended));
}
