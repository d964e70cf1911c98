//! Whether a pod could be elected now, and what keeps it from that.

use std::fmt;

use super::snapshot::{AgentState, Pod, PodPhase, Snapshot};

/// What keeps a pod from being elected. The first that applies is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is being deleted, or has ended.
    Leaving,
    /// It has its pass.
    Passed,
    /// No workload of the group made it.
    Stranger,
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

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Leaving => formatter.write_str("it is being deleted or has ended"),
            Obstacle::Passed => formatter.write_str("it has its pass"),
            Obstacle::Stranger => formatter.write_str("no workload of its group made it"),
            Obstacle::Started => formatter.write_str("it is past its init containers"),
            Obstacle::Signalled => formatter.write_str("an earlier attempt in it is not settled yet"),
            Obstacle::NoAgent => formatter.write_str("its agent does not run yet"),
            Obstacle::NoNode => formatter.write_str("its node is not known"),
            Obstacle::NodeDown(node) => write!(formatter, "its node {node} is not Ready"),
        }
    }
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
        if self.maker(pod).is_none() {
            return Some(Obstacle::Stranger);
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
