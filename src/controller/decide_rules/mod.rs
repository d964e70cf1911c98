//! The decision rules, one test each, by subject.

mod attempts;
mod elections;
mod groups;
mod orders;
mod passes;
mod records;
mod rollouts;
mod strangers;
mod tries;

use crate::contract::Outcome;
use crate::controller::decision::{Action, Decision};
use crate::controller::evidence::Question;
use crate::controller::snapshot::{AgentState, Pod, PodPhase, Snapshot};
use crate::controller::testing::{FP, active, decided, group, pod, runner, settled_record, uid, verdict, written};
use crate::migration::{Condition, ConditionStatus, ConditionType, MigrationGateStatus, Override, OverrideAction};

pub(super) fn empty() -> MigrationGateStatus {
    MigrationGateStatus::default()
}

pub(super) fn elected(snapshot: &Snapshot) -> Option<(String, u32)> {
    let decision = decided(snapshot);
    let active = written(&decision)?.active.clone()?;
    Some((active.pod_name, active.attempt))
}

/// The question about this attempt's pod.
pub(super) fn asks_about(name: &str, attempt: u32) -> Action {
    Action::Look(Question::Runner, Some(Box::new(active(name, attempt))))
}

pub(super) fn opens(decision: &Decision) -> Vec<&str> {
    let mut opened = Vec::new();
    for action in &decision.actions {
        if let Action::Open(pods) = action {
            opened.extend(pods.iter().map(|pod| pod.name.as_str()));
        }
    }
    opened
}

pub(super) fn order(action: OverrideAction, attempt: u32, pod: &str) -> Override {
    Override {
        fingerprint: FP.to_owned(),
        action,
        attempt,
        pod_uid: if pod.is_empty() { String::new() } else { uid(pod) },
        reason: String::new(),
        by: String::new(),
    }
}

pub(super) fn stalled(snapshot: &mut Snapshot) -> ConditionStatus {
    let condition = |condition: &&Condition| condition.type_ == ConditionType::Stalled;
    snapshot.status_mut().conditions.iter().find(condition).expect("the condition is always there").status
}

pub(super) fn failed_times(failures: u32, interruptions: u32) -> Snapshot {
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
