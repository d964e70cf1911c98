//! Whether a pod could be elected now, and what keeps it from that.

use super::snapshot::{AgentState, Pod, PodPhase, Snapshot};

/// What keeps a pod from being elected. The first that applies is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is being deleted, or has ended.
    Leaving,
    /// It has its pass.
    Passed,
    /// It is past its init containers.
    Started,
    /// It has a run signal already.
    Signalled,
    /// Its agent's container doesn't run.
    NoAgent,
    /// It has no node, or one that isn't known.
    NoNode,
    /// Its node is not Ready, or is out of service.
    NodeDown(String),
}

impl Snapshot {
    /// What keeps this pod from being elected; nothing, if `None`.
    pub fn obstacle(&self, pod: &Pod) -> Option<Obstacle> {
        if !pod.is_alive() {
            return Some(Obstacle::Leaving);
        }
        if pod.passed {
            return Some(Obstacle::Passed);
        }
        if pod.phase != PodPhase::Pending {
            return Some(Obstacle::Started);
        }
        if pod.running_attempt().is_some() {
            return Some(Obstacle::Signalled);
        }
        if pod.agent != AgentState::Running {
            return Some(Obstacle::NoAgent);
        }
        let Some((name, node)) = pod.node.as_ref().and_then(|name| self.nodes.get_key_value(name)) else {
            return Some(Obstacle::NoNode);
        };
        (!node.ready || node.out_of_service).then(|| Obstacle::NodeDown(name.clone()))
    }
}
