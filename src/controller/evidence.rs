//! What proves that an attempt is over.
//!
//! The list is complete: what is not here is not evidence, however likely it looks. A NotReady node, a deletion
//! timestamp, a Failed written by the pod garbage collector, a terminated container in a pod that may restart it, an
//! expired Lease: in each of these cases the process may be alive.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::contract::{Outcome, Report, Verdict};
use crate::migration::{Active, AttemptOutcome};

use super::snapshot::{AgentState, Asked, Found, Live, Node, Pod, PodPhase, Snapshot};

/// How long a node's Lease must have been seen unchanged before an out-of-service taint is believed: the grace period
/// after which Kubernetes itself calls a node unreachable (kube-controller-manager, --node-monitor-grace-period).
pub const NODE_SILENCE: Duration = Duration::from_secs(40);

/// What an installation takes for proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeDeletion {
    /// A deleted Node object proves that its processes are dead, as it does for StatefulSets.
    Proves,
    /// It proves nothing: only the kubelet's word or the out-of-service taint counts.
    Ignored,
}

/// What is known about the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It is over.
    Ended(Ending),
    /// It may be over; these objects must be read afresh to know.
    Ask(Question),
    /// It is over as soon as the settled mark stands on the pod, decided on this resourceVersion: the mark keeps a
    /// late signal from being obeyed should the machine come back.
    Fence(Box<Pod>),
    /// Nothing will ever prove its end but an operator's word.
    Held(String),
    /// It runs, or may run. If there is a time, more may be known after it.
    Runs(Option<Duration>),
}

/// The end of an attempt, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The agent's own words.
    pub verdict: Option<Verdict>,
    /// The last lines of its output.
    pub tail: String,
    /// What the outcome rests on, where the agent said nothing.
    pub basis: Option<&'static str>,
}

/// What must be read afresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// The runner's pod.
    Runner,
    /// The runner's pod, its node and the node's Lease.
    RunnerAndNode,
    /// Every pod of the group.
    Pods,
    /// The namespace's other records.
    Elders,
}

/// Weighs what is known about the active attempt.
pub fn weigh(active: &Active, snapshot: &Snapshot, trust: NodeDeletion) -> Evidence {
    let live = answers(active, snapshot);
    let pod = match &live.runner {
        Some(Found::Here(pod)) => Some(pod),
        Some(Found::Gone) => None,
        None => snapshot.pod(&active.pod_uid),
    };
    let case = Case { active, nodes: &snapshot.nodes, live, trust };
    match pod {
        Some(pod) => case.of_pod(pod),
        None if live.runner.is_none() => Evidence::Ask(Question::Runner),
        None => case.of_absence(),
    }
}

/// The answers about this very attempt. Those about another, which was active when the question was asked, say nothing.
fn answers<'a>(active: &Active, snapshot: &'a Snapshot) -> &'a Live {
    const NONE: &Live = &Live { asked: None, runner: None, node: None, pods: None, elders: None };
    if snapshot.live.asked == Some(Asked::about(active)) { &snapshot.live } else { NONE }
}

/// An attempt and what there is to judge it by.
struct Case<'a> {
    active: &'a Active,
    nodes: &'a BTreeMap<String, Node>,
    live: &'a Live,
    trust: NodeDeletion,
}

impl Case<'_> {
    fn of_pod(&self, pod: &Pod) -> Evidence {
        let active = self.active;
        if let Some((Report::Verdict(verdict), exit)) = pod.report(active.attempt) {
            return Evidence::Ended(Ending {
                outcome: classify(verdict.outcome, pod),
                verdict: Some(verdict.clone()),
                tail: exit.tail.clone(),
                basis: None,
            });
        }
        if pod.report(active.attempt).is_some() && pod.denies(active.attempt) {
            // It was started, and the agent that was started after it has no journal of that, but won't start it.
            return ended(classify(Outcome::Interrupted, pod), "the container ended while the command ran");
        }
        // Only a fence writes the mark of an attempt that is still active.
        if pod.settled_attempt().is_some_and(|attempt| attempt >= active.attempt) {
            return ended(AttemptOutcome::Interrupted, "the pod was fenced off");
        }
        if active.confirmed_dead {
            return Evidence::Fence(Box::new(pod.clone()));
        }
        let unsignalled = pod.signal.as_ref().is_none_or(|signal| signal.attempt() < active.attempt);
        if pod.phase == PodPhase::Ended && unsignalled && active.signalled_at.is_none() {
            // Its kubelet starts nothing in it any more, so that a signal that still comes is never heard.
            return ended(AttemptOutcome::NotStarted, "the pod ended before it was signalled");
        }
        match (pod.phase, &pod.agent) {
            (PodPhase::Ended, AgentState::Exited(exit)) if exit.real && exit.out_of_memory => {
                return Evidence::Ended(Ending {
                    outcome: AttemptOutcome::Failed,
                    verdict: None,
                    tail: exit.tail.clone(),
                    basis: Some("the container ran out of memory"),
                });
            }
            (PodPhase::Ended, AgentState::Exited(exit)) if exit.real => {
                return ended(AttemptOutcome::Interrupted, "the pod ended without a verdict");
            }
            _ => {}
        }
        if pod.deleting && !pod.held && active.signalled_at.is_none() {
            // A finalizer can't be added to a terminating pod, and the signal comes in the same patch: it never will.
            return match self.live.runner {
                Some(_) => ended(AttemptOutcome::NotStarted, "the pod was deleted before it was signalled"),
                None => Evidence::Ask(Question::Runner),
            };
        }
        match self.of_node() {
            NodeSays::Dead(_) => Evidence::Fence(Box::new(pod.clone())),
            NodeSays::Ask => Evidence::Ask(Question::RunnerAndNode),
            NodeSays::NotYet(wait) => Evidence::Runs(Some(wait)),
            NodeSays::Nothing => match pod.phase {
                PodPhase::Ended => Evidence::Held(format!(
                    "pod {} ended, but nothing shows that attempt {} did: its container has neither a verdict nor an ID",
                    pod.name, active.attempt
                )),
                PodPhase::Collected => Evidence::Held(format!(
                    "pod {} was declared failed by the garbage collector, which does not prove that attempt {} is over",
                    pod.name, active.attempt
                )),
                // The kubelet went on to the app, so it takes the init containers for done; it may have made that up.
                PodPhase::Running if matches!(pod.agent, AgentState::Exited(_)) => Evidence::Held(format!(
                    "pod {} went on to its containers, but nothing shows how attempt {} ended: its container has no verdict",
                    pod.name, active.attempt
                )),
                PodPhase::Pending | PodPhase::Running => Evidence::Runs(None),
            },
        }
    }

    fn of_absence(&self) -> Evidence {
        let active = self.active;
        if active.signalled_at.is_none() {
            return ended(AttemptOutcome::NotStarted, "the pod was gone before it was signalled");
        }
        if active.confirmed_dead {
            return ended(AttemptOutcome::Interrupted, "an operator confirmed that it is dead");
        }
        match self.of_node() {
            NodeSays::Dead(basis) => ended(AttemptOutcome::Interrupted, basis),
            NodeSays::Ask => Evidence::Ask(Question::RunnerAndNode),
            NodeSays::NotYet(wait) => Evidence::Runs(Some(wait)),
            NodeSays::Nothing => Evidence::Held(format!(
                "pod {} of attempt {} is gone without a report: somebody removed its finalizer",
                active.pod_name, active.attempt
            )),
        }
    }

    /// The cache only raises the question; the answer is always live.
    fn of_node(&self) -> NodeSays {
        let (active, trust) = (self.active, self.trust);
        let Some(name) = &active.node_name else { return NodeSays::Nothing };
        let another = |uid: &str| active.node_uid.as_deref().is_some_and(|known| known != uid);
        let Some(live) = &self.live.node else {
            let suspicious = match self.nodes.get(name) {
                None => trust == NodeDeletion::Proves,
                Some(node) => {
                    (node.out_of_service && !node.ready) || (another(&node.uid) && trust == NodeDeletion::Proves)
                }
            };
            return if suspicious { NodeSays::Ask } else { NodeSays::Nothing };
        };
        match live {
            Found::Gone if trust == NodeDeletion::Proves => NodeSays::Dead("its node was deleted"),
            Found::Here(live) if another(&live.node.uid) && trust == NodeDeletion::Proves => {
                NodeSays::Dead("its node was deleted, and another took its name")
            }
            Found::Here(live) if live.node.out_of_service && !live.node.ready => {
                match NODE_SILENCE.checked_sub(live.silent_for) {
                    None | Some(Duration::ZERO) => NodeSays::Dead("its node was taken out of service"),
                    Some(rest) => NodeSays::NotYet(rest),
                }
            }
            _ => NodeSays::Nothing,
        }
    }
}

enum NodeSays {
    Dead(&'static str),
    Ask,
    NotYet(Duration),
    Nothing,
}

/// An agent that was asked to stop in a pod that lives on didn't meet a disruption: it, or its command, crashed.
fn classify(outcome: Outcome, pod: &Pod) -> AttemptOutcome {
    match outcome {
        Outcome::Succeeded => AttemptOutcome::Succeeded,
        Outcome::Failed => AttemptOutcome::Failed,
        Outcome::TimedOut => AttemptOutcome::TimedOut,
        Outcome::NotStarted => AttemptOutcome::NotStarted,
        Outcome::Interrupted if pod.is_alive() => AttemptOutcome::Failed,
        Outcome::Interrupted => AttemptOutcome::Interrupted,
    }
}

fn ended(outcome: AttemptOutcome, basis: &'static str) -> Evidence {
    Evidence::Ended(Ending { outcome, verdict: None, tail: String::new(), basis: Some(basis) })
}
