//! What [`decide`](super::decide) looks at: one group as plain values, with nothing behind them.
//!
//! The values come from watches, each of which may be late by its own amount. That is safe because every write that
//! matters carries the resourceVersion that it was decided on. What must not be late is asked for explicitly and
//! arrives as [`Live`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::contract::{Outcome, RECORD_FINALIZER, Report, Signal, annotation};
use crate::migration::{Active, Departed, Member, MigrationGateStatus, Override};
use crate::settings::Policy;

use super::pods::Pods;

/// One group at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The namespace of everything here.
    pub namespace: String,
    /// The name of the group's record, and the value of its pods' gate label.
    pub name: String,
    /// The record.
    pub record: RecordView,
    /// The workloads whose current template belongs to the group, by name.
    pub workloads: Vec<Workload>,
    /// The group's pods, by name.
    pub pods: Pods,
    /// The ReplicaSets that carry the group's label: the UID of each, and that of the workload that controls it.
    pub replica_sets: BTreeMap<Arc<str>, Arc<str>>,
    /// The nodes that the pods and the active attempt are on, by name. One that is missing here has no Node object.
    pub nodes: BTreeMap<String, Node>,
    /// Other records that a workload of this group belonged to, as far as the watch has brought them.
    pub elders: Vec<Arc<Record>>,
    /// What the watch showed of the active attempt's pod when that went.
    pub last_sight: LastSight,
    /// What was asked for in the last round, fresh from the API server.
    pub live: Live,
}

/// What a watch showed of a pod that is gone, in the moment in which it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LastSight {
    /// Nothing: it is there, or it went while this process did not watch.
    #[default]
    None,
    /// It had neither a signal nor a mark.
    Unsignalled,
    /// It had the signal or the mark of this attempt. Numbers on a pod only grow, so that it never had a later one's.
    Signalled(u32),
}

/// What is known of the group's record.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordView {
    /// There is none.
    Missing,
    /// There is none, and the namespace takes no new objects: it is being deleted.
    Refused,
    /// Here it is.
    Present(Arc<Record>),
    /// Somebody wrote something into it that can't be read.
    Unreadable(Unreadable),
}

/// A record that can't be read. Its group is left alone until it is mended: nobody knows who runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unreadable {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version that can't be read.
    pub resource_version: String,
    /// When it was made: the one time that is known of it.
    pub created: Timestamp,
    /// What is wrong with it.
    pub why: String,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What a write of it must name.
    pub resource_version: String,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// It is being deleted, and a finalizer keeps it.
    pub deleting: bool,
    /// It was made by the controller, not by a person.
    pub managed: bool,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// The operators' orders.
    pub overrides: Vec<Override>,
    /// What is recorded; `None` where nothing ever was.
    pub status: Option<MigrationGateStatus>,
    /// Since when this process has seen the status say that an attempt was given up without a proof
    /// ([`MigrationGateStatus::fenced`]), by its own clock: another leader's may differ.
    pub fenced_since: Option<Timestamp>,
    /// It can't be read, so that nobody knows what its status says.
    pub unreadable: bool,
}

/// An owner of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A workload whose current template belongs to the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// It is being deleted.
    pub deleting: bool,
    /// The fingerprint of its current template.
    pub fingerprint: String,
    /// The image that the migration runs in.
    pub image: String,
    /// The migration's command, for people.
    pub command: String,
    /// The user's revision text.
    pub revision: Option<String>,
    /// Its live settings, or why they can't be read.
    pub policy: Result<Policy, String>,
}

/// A pod that carries the group's label. There may be ten thousand: what only a runner has costs the others a pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What a signal or a mark written to it must name.
    pub resource_version: String,
    /// When it was created.
    pub created: Timestamp,
    /// The fingerprint of its migration.
    pub fingerprint: String,
    /// The UID of the object that controls it, such as a ReplicaSet.
    pub controller: Option<Arc<str>>,
    /// It has a deletionTimestamp.
    pub deleting: bool,
    /// Its grace period in seconds: of its spec, or of its deletion where that is longer.
    pub grace_seconds: u32,
    /// Where it stands.
    pub phase: PodPhase,
    /// The node that it was bound to.
    pub node: Option<String>,
    /// The signal for this very pod; one that names another UID counts as none.
    pub signal: Option<Box<Signal>>,
    /// It has the pass for this very pod and migration.
    pub passed: bool,
    /// Its gate condition is True.
    pub gate_open: bool,
    /// It has our finalizer.
    pub held: bool,
    /// The guards against eviction that it has, whoever set them.
    pub guards: Guards,
    /// Those of them that came with a signal, and go when it is settled.
    pub our_guards: Guards,
    /// Its agent's container.
    pub agent: AgentState,
    /// How often it was started again.
    pub agent_restarts: u32,
    /// Since when the agent's container is seen to run as it does, by the controller's own clock.
    pub agent_since: Timestamp,
    /// How the agent's previous container ended.
    pub agent_before: Option<Exit>,
}

/// Annotations that ask others to leave the pod alone, as a set. A user's own are neither overwritten nor removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Guards(u8);

impl Guards {
    /// Every guard: the annotation's key and the value that a signal gives it.
    pub const ALL: [(&'static str, &'static str); 3] = [
        (annotation::POD_DELETION_COST, "2147483647"),
        (annotation::SAFE_TO_EVICT, "false"),
        (annotation::DO_NOT_DISRUPT, "true"),
    ];

    /// The guards among these annotation keys.
    pub fn among<'a>(keys: impl IntoIterator<Item = &'a str>) -> Guards {
        let bit = |key: &str| Guards::ALL.iter().position(|(guard, _)| *guard == key).map_or(0, |at| 1 << at);
        Guards(keys.into_iter().fold(0, |bits, key| bits | bit(key)))
    }

    /// The guards that are not in this set.
    pub fn missing(self) -> Guards {
        Guards(!self.0 & 0b111)
    }

    /// Keys and values.
    pub fn entries(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        Guards::ALL.into_iter().enumerate().filter(move |(at, _)| self.0 & (1 << at) != 0).map(|(_, guard)| guard)
    }
}

/// A pod's phase, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PodPhase {
    /// Its init containers have not all ended.
    Pending,
    /// Its containers run.
    Running,
    /// The kubelet said that it ended, for good.
    Ended,
    /// The pod garbage collector said that it ended, because its node is gone. It knows nothing of its processes.
    Collected,
}

/// The agent's container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AgentState {
    /// It was not started yet, or waits to be started again.
    Waiting,
    /// It runs.
    Running,
    /// It ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exit {
    /// The kubelet named the container: this state is not made up.
    pub real: bool,
    /// The kernel killed it for its memory.
    pub out_of_memory: bool,
    /// What it said.
    pub report: Option<Box<Report>>,
    /// The last lines of its output.
    pub tail: String,
}

/// A node, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its UID.
    pub uid: String,
    /// Its kubelet reports it Ready.
    pub ready: bool,
    /// It has the taint `node.kubernetes.io/out-of-service`.
    pub out_of_service: bool,
    /// It is about to be drained or removed: cordoned, or tainted by an autoscaler.
    pub leaving: bool,
}

/// Answers to [`Action::Look`](super::decision::Action::Look), read from the API server after the question was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// What was asked about. A watch may have brought another attempt, or another record, before the answer came.
    pub asked: Option<Asked>,
    /// The runner's pod.
    pub runner: Option<Found<Pod>>,
    /// The runner's node.
    pub node: Option<Found<LiveNode>>,
    /// All pods of the group.
    pub pods: Option<Vec<Pod>>,
    /// All other records of the namespace.
    pub elders: Option<Vec<Arc<Record>>>,
}

/// What a question was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// This attempt, in the pod with this UID.
    Runner(u32, String),
    /// The pods of the record with this UID.
    Pods(String),
    /// The records beside the one with this UID, when it had this version.
    Elders(String, String),
}

impl Asked {
    /// The question about an attempt.
    pub fn about(active: &Active) -> Asked {
        Asked::Runner(active.attempt, active.pod_uid.clone())
    }

    /// The question about the records beside this one.
    pub fn beside(record: &Record) -> Asked {
        Asked::Elders(record.uid.clone(), record.resource_version.clone())
    }
}

/// The answer to a live GET.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found<T> {
    /// There is no such object, or only one with another UID.
    Gone,
    /// It is there, but without the label that makes it ours: who took that off may have changed anything.
    Unlabelled,
    /// Here it is.
    Here(T),
}

/// A node, and how long its heartbeat has been seen not to change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LiveNode {
    /// The node.
    pub node: Node,
    /// How long, by this process's own monotonic clock, its Lease was seen unchanged.
    pub silent_for: Duration,
}

impl Snapshot {
    /// The pod with this UID, as cached.
    pub fn pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.uid == uid)
    }

    /// The workload of the group that made this pod, itself or through a ReplicaSet of its own. The labels alone prove
    /// nothing: whoever may create pods can write them.
    pub fn maker(&self, pod: &Pod) -> Option<&Workload> {
        let controller = pod.controller.as_deref()?;
        let uid = self.replica_sets.get(controller).map_or(controller, |workload| &**workload);
        self.workloads.iter().find(|workload| workload.uid == uid)
    }

    /// The workloads whose current template asks for this migration.
    pub fn workloads_of<'a>(&'a self, fingerprint: &'a str) -> impl Iterator<Item = &'a Workload> {
        self.workloads.iter().filter(move |workload| workload.fingerprint == fingerprint && !workload.deleting)
    }

    /// How many pods wait for their gate.
    pub fn waiting(&self) -> u32 {
        let waiting = self.pods.iter().filter(|pod| pod.is_waiting()).count();
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }
}

impl Record {
    /// It has our finalizer.
    pub fn is_protected(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == RECORD_FINALIZER)
    }

    /// Those for whom an attempt of this record may run: the workloads that it elects for and those that left, by its own
    /// account. Owner
    /// references count as well, because a record of an earlier version has no such account, and one that can't be read
    /// shows none; but Kubernetes' garbage collector takes away those whose object is gone.
    pub fn electorate(&self) -> impl Iterator<Item = Member> {
        let status = self.status.iter();
        let here = status.clone().flat_map(|status| status.workloads.iter().cloned());
        let left = status.flat_map(|status| status.departed.iter().map(Member::from));
        here.chain(left).chain(self.owners.iter().map(Member::from))
    }

    /// It is owned by the object with this UID.
    pub fn is_owned_by(&self, uid: &str) -> bool {
        self.owners.iter().any(|owner| owner.uid == uid)
    }
}

impl Member {
    /// It is this workload, or one of the same name before it, whose pods may outlive it.
    pub fn precedes(&self, workload: &Workload) -> bool {
        let now = Member::of(workload);
        self.uid == now.uid || (self.kind == now.kind && self.name == now.name)
    }
}

impl From<&Departed> for Member {
    fn from(departed: &Departed) -> Member {
        Member { kind: departed.kind.clone(), name: departed.name.clone(), uid: departed.workload_uid.clone() }
    }
}

impl From<&Owner> for Member {
    fn from(owner: &Owner) -> Member {
        Member { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() }
    }
}

/// How little a report says of an attempt's end.
fn ignorance(report: &Report) -> u8 {
    match report {
        Report::Verdict(verdict) => match verdict.outcome {
            Outcome::Succeeded | Outcome::Failed | Outcome::TimedOut => 0,
            Outcome::Interrupted => 1,
            Outcome::NotStarted => 3,
        },
        Report::Trace(_) => 2,
    }
}

impl Pod {
    /// It is neither being deleted nor ended.
    pub fn is_alive(&self) -> bool {
        !self.deleting && !self.is_terminal()
    }

    /// Somebody declared it ended: the kubelet, which knows, or the garbage collector, which doesn't.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, PodPhase::Ended | PodPhase::Collected)
    }

    /// It lives, and waits for its gate.
    pub fn is_waiting(&self) -> bool {
        self.is_alive() && !self.is_open()
    }

    /// It has all that opening writes.
    pub fn is_open(&self) -> bool {
        self.passed && self.gate_open
    }

    /// The attempt that its run signal names.
    pub fn running_attempt(&self) -> Option<u32> {
        match self.signal.as_deref() {
            Some(Signal::Run(run)) => Some(run.attempt),
            _ => None,
        }
    }

    /// The attempt that its mark names.
    pub fn settled_attempt(&self) -> Option<u32> {
        match self.signal.as_deref() {
            Some(Signal::Settled(settled)) => Some(settled.attempt),
            _ => None,
        }
    }

    /// What its agent said of this attempt, with the last lines of its output: of its newest container and the one
    /// before it, the one that knew more.
    ///
    /// An agent that was started again says what its journal says. Where the journal was lost or took no outcome, that is
    /// less than what the container before it said: `notStarted`, or `interrupted`, of an attempt that came to its end.
    pub fn report(&self, attempt: u32) -> Option<(&Report, &Exit)> {
        self.reports(attempt).min_by_key(|(report, _)| ignorance(report))
    }

    /// Its newest agent says that it never started this attempt, and won't.
    pub fn denies(&self, attempt: u32) -> bool {
        self.reports(attempt)
            .any(|(report, _)| matches!(report, Report::Verdict(verdict) if verdict.outcome == Outcome::NotStarted))
    }

    /// The attempts that it says to have succeeded.
    pub fn successes(&self) -> impl Iterator<Item = u32> {
        self.all_reports().filter_map(|(report, _)| match report {
            Report::Verdict(verdict) if verdict.outcome == Outcome::Succeeded => Some(verdict.attempt),
            _ => None,
        })
    }

    fn reports(&self, attempt: u32) -> impl Iterator<Item = (&Report, &Exit)> {
        self.all_reports().filter(move |(report, _)| report.attempt() == attempt)
    }

    fn all_reports(&self) -> impl Iterator<Item = (&Report, &Exit)> {
        let now = match &self.agent {
            AgentState::Exited(exit) => Some(exit),
            _ => None,
        };
        let exits = now.into_iter().chain(&self.agent_before);
        exits
            .filter_map(|exit| Some((exit.report.as_deref()?, exit)))
            .filter(|(report, _)| report.pod_uid() == self.uid)
    }
}
