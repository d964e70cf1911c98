//! What proves that an attempt is over.
//!
//! The tables [`OF_POD`] and [`OF_ABSENCE`] are complete: what is not in them is not evidence, however likely it looks. A
//! NotReady node, a deletion timestamp, a Failed written by the pod garbage collector, a terminated container in a pod
//! that may restart it, an expired Lease: in each of these cases the process may be alive. docs/design.md, section 5, has
//! the same tables in the same order.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::contract::{Outcome, Report, Verdict};
use crate::migration::{Active, AttemptOutcome, Fenced};

use super::snapshot::{AgentState, Asked, Exit, Found, LastSight, Live, Node, Pod, PodPhase, Snapshot};

/// How long a node's Lease must have been seen unchanged before an out-of-service taint is believed: the grace period
/// after which Kubernetes itself calls a node unreachable (kube-controller-manager, --node-monitor-grace-period).
pub const NODE_SILENCE: Duration = Duration::from_secs(40);

/// How soon to look again for a watch that is behind a live answer.
const WATCH_BEHIND: Duration = Duration::from_secs(1);

/// What an installation takes for proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeDeletion {
    /// A deleted Node object is believed: its processes are dead, or soon will be.
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
    /// Whether its process is known to be gone.
    pub certainty: Certainty,
}

/// Whether an attempt that is over has left a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Its process is gone: its agent or its kubelet said so, or it never had one.
    Proven,
    /// Its node or an operator stands for that. Where they are wrong, its agent has seen the mark, or its kubelet the
    /// deletion, and the process is ending.
    Presumed,
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
    let cached = snapshot.pod(&active.pod_uid);
    let case = Case { active, nodes: &snapshot.nodes, live, trust, cached, last_sight: snapshot.last_sight };
    let pod = match &live.runner {
        Some(Found::Here(pod)) => Some(pod),
        Some(Found::Gone | Found::Unlabelled) => None,
        None => cached,
    };
    match pod {
        Some(pod) => OF_POD.iter().find_map(|row| row(&case, pod)).unwrap_or(Evidence::Runs(None)),
        None if live.runner.is_none() => Evidence::Ask(Question::Runner),
        None => OF_ABSENCE.iter().find_map(|row| row(&case)).unwrap_or(Evidence::Runs(None)),
    }
}

/// How long the process of an attempt that was given up without a proof may still take to end, after this time; `None`
/// once its agent has reported, or its kubelet has ended the pod, or it must have ended.
///
/// `since` is when this process first saw that the attempt was given up: clocks of two machines are never compared.
pub fn lingers(fenced: &Fenced, since: Timestamp, snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
    if let Some(pod) = snapshot.pod(&fenced.pod_uid) {
        let reported = matches!(pod.report(fenced.attempt), Some((Report::Verdict(_), _)));
        if reported || kubelet_ended(pod, &snapshot.nodes).is_some() {
            return None;
        }
    }
    since.checked_add(fenced.longest_ending()).ok().filter(|until| *until > now)
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
    /// The pod as the watch has it.
    cached: Option<&'a Pod>,
    last_sight: LastSight,
}

/// The evidence while the attempt's pod is there. The first row that applies decides.
const OF_POD: [fn(&Case<'_>, &Pod) -> Option<Evidence>; 10] = [
    |case, pod| case.verdict(pod),
    |case, pod| case.journal_lost(pod),
    |case, pod| case.ended_before_its_signal(pod),
    |case, pod| case.ended_by_kubelet(pod),
    |case, pod| case.fenced_off(pod),
    |case, pod| case.confirmed_dead(pod),
    |case, pod| case.deleted_before_its_signal(pod),
    |case, pod| case.node_of_pod(pod),
    |case, pod| case.went_on_without_it(pod),
    |case, pod| case.unprovable(pod),
];

/// The evidence once the attempt's pod is gone. The first row that applies decides.
const OF_ABSENCE: [fn(&Case<'_>) -> Option<Evidence>; 7] = [
    |case| case.watch_is_behind(),
    |case| case.label_taken(),
    |case| case.gone_before_its_signal(),
    |case| case.confirmed_dead_and_gone(),
    |case| case.node_of_gone(),
    |case| case.gone_unseen(),
    |case| case.gone_without_a_report(),
];

impl Case<'_> {
    fn verdict(&self, pod: &Pod) -> Option<Evidence> {
        let (Report::Verdict(verdict), exit) = pod.report(self.active.attempt)? else { return None };
        Some(Evidence::Ended(Ending {
            outcome: classify(verdict.outcome, pod),
            verdict: Some(verdict.clone()),
            tail: exit.tail.clone(),
            basis: None,
            certainty: Certainty::Proven,
        }))
    }

    /// It was started, and the agent that was started after it has no journal of that, but won't start it.
    fn journal_lost(&self, pod: &Pod) -> Option<Evidence> {
        let lost = pod.report(self.active.attempt).is_some() && pod.denies(self.active.attempt);
        lost.then(|| proven(classify(Outcome::Interrupted, pod), "the container ended while the command ran"))
    }

    /// Its kubelet starts nothing in it any more, so that a signal that still comes is never heard.
    fn ended_before_its_signal(&self, pod: &Pod) -> Option<Evidence> {
        let ended = phase(pod, self.nodes) == PodPhase::Ended && self.is_unsignalled(pod);
        ended.then(|| proven(AttemptOutcome::NotStarted, "the pod ended before it was signalled"))
    }

    fn ended_by_kubelet(&self, pod: &Pod) -> Option<Evidence> {
        let exit = kubelet_ended(pod, self.nodes)?;
        Some(match exit.out_of_memory {
            true => Evidence::Ended(Ending {
                outcome: AttemptOutcome::Failed,
                verdict: None,
                tail: exit.tail.clone(),
                basis: Some("the container ran out of memory"),
                certainty: Certainty::Proven,
            }),
            false => proven(AttemptOutcome::Interrupted, "the pod ended without a verdict"),
        })
    }

    /// Only a fence writes the mark of an attempt that is still active.
    fn fenced_off(&self, pod: &Pod) -> Option<Evidence> {
        let marked = pod.settled_attempt().is_some_and(|attempt| attempt >= self.active.attempt);
        marked.then(|| presumed("the pod was fenced off"))
    }

    fn confirmed_dead(&self, pod: &Pod) -> Option<Evidence> {
        self.active.confirmed_dead.then(|| Evidence::Fence(Box::new(pod.clone())))
    }

    /// A finalizer can't be added to a terminating pod, and the signal comes in the same patch: it never will. A pod that
    /// shows the signal without the finalizer was robbed of that.
    fn deleted_before_its_signal(&self, pod: &Pod) -> Option<Evidence> {
        if !pod.deleting || pod.held || !self.is_unsignalled(pod) {
            return None;
        }
        Some(match self.live.runner {
            Some(_) => proven(AttemptOutcome::NotStarted, "the pod was deleted before it was signalled"),
            None => Evidence::Ask(Question::Runner),
        })
    }

    fn node_of_pod(&self, pod: &Pod) -> Option<Evidence> {
        self.node(|_| Evidence::Fence(Box::new(pod.clone())))
    }

    /// It was elected for a later attempt while an earlier one, which somebody took for dead, brought it past its init
    /// containers. No agent runs in it that would hear the signal; the mark keeps it from one that is started anew.
    fn went_on_without_it(&self, pod: &Pod) -> Option<Evidence> {
        let AgentState::Exited(exit) = &pod.agent else { return None };
        // An agent writes its trace before it starts the command.
        let earlier = exit.report.as_ref().is_some_and(|report| report.attempt() < self.active.attempt);
        let unheard = self.is_unsignalled(pod) || (earlier && exit.real);
        (pod.phase == PodPhase::Running && unheard).then(|| Evidence::Fence(Box::new(pod.clone())))
    }

    fn unprovable(&self, pod: &Pod) -> Option<Evidence> {
        let (name, attempt) = (&pod.name, self.active.attempt);
        let why = match phase(pod, self.nodes) {
            PodPhase::Ended => format!(
                "pod {name} ended, but nothing shows that attempt {attempt} did: its container has neither a verdict nor an ID"
            ),
            PodPhase::Collected => format!(
                "pod {name} was declared failed by the garbage collector, which does not prove that attempt {attempt} is over"
            ),
            // The kubelet went on to the app, so it takes the init containers for done; it may have made that up.
            PodPhase::Running if matches!(pod.agent, AgentState::Exited(_)) => format!(
                "pod {name} went on to its containers, but nothing shows how attempt {attempt} ended: its container has no verdict"
            ),
            PodPhase::Pending | PodPhase::Running => return None,
        };
        Some(Evidence::Held(why))
    }

    /// The watch is about to show how the pod went.
    fn watch_is_behind(&self) -> Option<Evidence> {
        let behind = self.cached.is_some() && self.live.runner == Some(Found::Gone);
        behind.then_some(Evidence::Runs(Some(WATCH_BEHIND)))
    }

    fn gone_before_its_signal(&self) -> Option<Evidence> {
        let unsignalled = match self.last_sight {
            LastSight::None => false,
            LastSight::Unsignalled => true,
            LastSight::Signalled(attempt) => attempt < self.active.attempt,
        };
        (unsignalled && self.active.signalled_at.is_none())
            .then(|| proven(AttemptOutcome::NotStarted, "the pod was gone before it was signalled"))
    }

    fn confirmed_dead_and_gone(&self) -> Option<Evidence> {
        self.active.confirmed_dead.then(|| presumed("an operator confirmed that it is dead"))
    }

    /// It may come back at any time, and without it nothing may be written to the pod that would make a mistake harmless.
    fn label_taken(&self) -> Option<Evidence> {
        (self.live.runner == Some(Found::Unlabelled)).then(|| {
            Evidence::Held(format!(
                "pod {} of attempt {} has lost its label {}, without which it can't be judged: give it back",
                self.active.pod_name,
                self.active.attempt,
                crate::contract::label::GATE
            ))
        })
    }

    fn node_of_gone(&self) -> Option<Evidence> {
        self.node(presumed)
    }

    /// It went while no controller watched, so that nobody knows whether its signal had come and its finalizer been
    /// removed by hand.
    fn gone_unseen(&self) -> Option<Evidence> {
        let unseen = self.active.signalled_at.is_none() && self.last_sight == LastSight::None;
        unseen.then(|| presumed("the pod went while nobody watched, perhaps before it was signalled"))
    }

    fn gone_without_a_report(&self) -> Option<Evidence> {
        Some(Evidence::Held(format!(
            "pod {} of attempt {} is gone without a report: somebody removed its finalizer",
            self.active.pod_name, self.active.attempt
        )))
    }

    /// Neither the record nor the pod says that the signal was written.
    fn is_unsignalled(&self, pod: &Pod) -> bool {
        let signalled = pod.signal.as_ref().is_some_and(|signal| signal.attempt() >= self.active.attempt);
        !signalled && self.active.signalled_at.is_none()
    }

    /// What the node says, and what follows if that is the end.
    fn node(&self, dead: impl Fn(&'static str) -> Evidence) -> Option<Evidence> {
        match self.of_node() {
            NodeSays::Dead(basis) => Some(dead(basis)),
            NodeSays::Ask => Some(Evidence::Ask(Question::RunnerAndNode)),
            NodeSays::NotYet(wait) => Some(Evidence::Runs(Some(wait))),
            NodeSays::Nothing => None,
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
            Found::Gone | Found::Unlabelled if trust == NodeDeletion::Proves => NodeSays::Dead("its node was deleted"),
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

fn proven(outcome: AttemptOutcome, basis: &'static str) -> Evidence {
    let certainty = Certainty::Proven;
    Evidence::Ended(Ending { outcome, verdict: None, tail: String::new(), basis: Some(basis), certainty })
}

fn presumed(basis: &'static str) -> Evidence {
    let (outcome, certainty) = (AttemptOutcome::Interrupted, Certainty::Presumed);
    Evidence::Ended(Ending { outcome, verdict: None, tail: String::new(), basis: Some(basis), certainty })
}

/// The pod's phase, with the doubt that its node casts on it: on a node that is out of service the garbage collector
/// writes Failed without saying who it is (pkg/controller/podgc, gcTerminating), and only to pods that are being deleted.
fn phase(pod: &Pod, nodes: &BTreeMap<String, Node>) -> PodPhase {
    let node = pod.node.as_ref().and_then(|name| nodes.get(name));
    match pod.phase {
        PodPhase::Ended if pod.deleting && node.is_some_and(|node| node.out_of_service) => PodPhase::Collected,
        phase => phase,
    }
}

/// The end of the agent's container in a pod that its kubelet ended for good: nothing is started in it any more.
fn kubelet_ended<'a>(pod: &'a Pod, nodes: &BTreeMap<String, Node>) -> Option<&'a Exit> {
    match (phase(pod, nodes), &pod.agent) {
        (PodPhase::Ended, AgentState::Exited(exit)) if exit.real => Some(exit),
        _ => None,
    }
}
