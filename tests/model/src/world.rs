//! The state of the modelled cluster: what the API server holds, what the machines do, what the controllers believe.
//!
//! A resourceVersion is the number of the object's content. So an object that returns to an earlier content returns to
//! an earlier version, and a late write may be accepted that a real API server would refuse: the model allows more
//! than a cluster does, never less.

use migration_gate::agent::journal::JournalView;
use migration_gate::agent::machine::{Action as AgentAction, Agent};
use migration_gate::agent::signal::News;
use migration_gate::contract::Outcome;
use migration_gate::controller::snapshot::{LastSight, PodPhase};
use migration_gate::migration::{Fenced, MigrationGateStatus, Override};

use crate::intern::Id;
use crate::interned;
use crate::workloads::Workloads;

/// The most pods of a model.
pub const PODS: usize = 3;
/// The most nodes.
pub const NODES: usize = 2;
/// The most groups.
pub const GROUPS: usize = 2;
/// The most controllers.
pub const CONTROLLERS: usize = 2;

/// The journal of a pod whose agent never ran anything.
pub const NO_JOURNAL: JournalView = JournalView::EMPTY;

/// Everything at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The pods, as the API server has them.
    pub pods: [Id<Slot>; PODS],
    /// The pods, as their machines have them.
    pub locals: [Id<Local>; PODS],
    /// The nodes.
    pub nodes: [Node; NODES],
    /// The groups' records.
    pub records: [Id<Option<Record>>; GROUPS],
    /// The workloads, and who controls the pods' ReplicaSets.
    pub workloads: Id<Workloads>,
    /// The namespace is being deleted.
    pub dying: bool,
    /// The controllers; those that a model doesn't have never do anything.
    pub controllers: [Controller; CONTROLLERS],
    /// The faults that may still happen.
    pub faults: u8,
    /// What no part of the cluster knows, for the properties.
    pub ghost: Ghost,
}

/// A pod, before, during and after its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// It may be created.
    Future,
    /// The API server has it.
    Here(Pod),
    /// It is gone for good; another pod has another slot. Who watched saw how it went.
    Gone(LastSight),
}

/// A pod object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The migration that it waits for.
    pub fingerprint: u8,
    /// Its group.
    pub group: u8,
    /// It has a deletionTimestamp.
    pub deleting: bool,
    /// Nothing but finalizers keeps it: its kubelet is done with it, or it was deleted by force.
    pub confirmed: bool,
    /// Its phase.
    pub phase: PodPhase,
    /// Its signal.
    pub signal: Signal,
    /// It has the pass.
    pub passed: bool,
    /// Its gate condition is True.
    pub gate: bool,
    /// It has our finalizer.
    pub held: bool,
    /// It has the label that makes it ours.
    pub label: Label,
    /// Its agent's container.
    pub agent: Container,
    /// How the container before it ended.
    pub before: Option<Exit>,
}

/// The label that makes a pod ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// It has it.
    Kept,
    /// Somebody took it off.
    Taken,
    /// It has it again: that is another version of the pod.
    Back,
}

/// A pod's signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// None.
    None,
    /// Run this attempt, with a time limit or without.
    Run(u8, bool),
    /// This attempt is over.
    Settled(u8),
}

/// The agent's container, in a pod's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// It waits to be started.
    Waiting,
    /// It runs.
    Running,
    /// It ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exit {
    /// It has a containerID.
    pub real: bool,
    /// Its exit code is 0.
    pub zero: bool,
    /// What its termination message says.
    pub said: Said,
}

/// A termination message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// The attempt was started.
    Trace(u8),
    /// The attempt is over.
    Verdict(u8, Outcome),
}

/// A pod, as the machine has it that it is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    /// The migration that the pod waits for.
    pub fingerprint: u8,
    /// The pod's group.
    pub group: u8,
    /// The agent's process.
    pub process: Option<Process>,
    /// The container's state, as the kubelet would report it.
    pub container: Container,
    /// The state of the container before it.
    pub before: Option<Exit>,
    /// The journal on the emptyDir.
    pub journal: JournalView,
    /// The termination message as it is in its file.
    pub message: Said,
    /// The signal volume.
    pub news: News,
    /// The pod is on its way out: deleted, evicted, or declared failed by others.
    pub leaving: bool,
    /// The init containers are done and the app runs.
    pub app: bool,
    /// The emptyDir was emptied.
    pub emptied: bool,
    /// The journal lost an outcome, or didn't take it.
    pub forgetful: bool,
    /// The signal volume showed an old value. That and an empty emptyDir together are more than the agent can bear:
    /// nothing is then left that knows of an earlier process.
    pub rewound: bool,
}

/// An agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The real state machine.
    pub agent: Agent,
    /// What it does now; nothing, if it waits.
    pub doing: Option<AgentAction>,
    /// What it waits for, if it does.
    pub waits: Waits,
    /// It was asked to stop.
    pub asked: bool,
    /// Its command, while that lives.
    pub command: Option<Command>,
}

/// What an agent waits for, beside news and a termination signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waits {
    /// Nothing else.
    News,
    /// The targets that must be reachable.
    Targets,
    /// The command's end.
    Command,
    /// The end of its patience.
    Patience,
}

/// A live migration process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// Its attempt.
    pub attempt: u8,
    /// It got a termination signal.
    pub stop: Stop,
}

/// Whether a command got a termination signal, and who is how patient. A command may live on in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// It got none.
    No,
    /// Its pod goes. How long it may take is up to its user.
    Asked,
    /// Its attempt is over, or took too long: its agent kills it after the grace period.
    Due,
}

/// A node and its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// The Node object.
    pub object: Option<NodeObject>,
    /// The machine.
    pub machine: Machine,
    /// The Node objects that it had before.
    pub past: u8,
}

/// A Node object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeObject {
    /// Its UID.
    pub uid: u8,
    /// It is Ready.
    pub ready: bool,
    /// It has the out-of-service taint.
    pub tainted: bool,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// It runs, and its kubelet renews its Lease.
    On,
    /// It runs, and can't reach the API server.
    Cut,
    /// It is off.
    Off,
}

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its group.
    pub group: u8,
    /// Its UID, with the group: how many there were before it.
    pub incarnation: u8,
    /// It has a deletionTimestamp.
    pub deleting: bool,
    /// It has our finalizer.
    pub protected: bool,
    /// The workloads that own it, as bits (see [`Workloads`]).
    pub owners: u8,
    /// Somebody wrote something into it that can't be read.
    pub garbled: bool,
    /// The operators' orders.
    pub orders: Vec<Override>,
    /// The status, every time in it the same.
    pub status: Option<MigrationGateStatus>,
}

/// A controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Controller {
    /// The pods as it knows them.
    pub pods: [Id<Slot>; PODS],
    /// The records as it knows them.
    pub records: [Id<Option<Record>>; GROUPS],
    /// The nodes as it knows them.
    pub nodes: Id<[Option<NodeObject>; NODES]>,
    /// The workloads as it knows them.
    pub workloads: Id<Workloads>,
    /// For how long, for each group, it has seen the record say that an attempt was given up without a proof.
    pub waited: [Waited; GROUPS],
    /// The groups, as bits, whose record it couldn't make because the namespace is being deleted.
    pub refused: u8,
    /// Answers to its questions, for each group: groups don't wait for each other.
    pub live: [Id<Live>; GROUPS],
    /// What it decided and didn't do yet, for each group.
    pub todo: [Id<Vec<Todo>>; GROUPS],
}

/// For how long something was awaited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Waited {
    /// Not for long enough.
    #[default]
    No,
    /// For as long as the end of an attempt may take that its agent brings about.
    Minute,
    /// For as long as the longest grace period of any pod.
    Hour,
}

/// Answers from the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Live {
    /// The attempt and the slot of its pod, or the record, that was asked about.
    pub asked: Option<Asked>,
    /// The runner's pod, with its slot.
    pub runner: Option<(u8, Id<Slot>)>,
    /// The runner's node, and whether its Lease was silent for long enough.
    pub node: Option<(Option<NodeObject>, bool)>,
    /// Every pod.
    pub pods: Option<[Id<Slot>; PODS]>,
    /// The other group's record.
    pub elder: Option<Id<Option<Record>>>,
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// This attempt, in this slot.
    Runner(u8, u8),
    /// The pods of this record.
    Pods(u8),
    /// The records beside this one.
    Elders(Id<Option<Record>>),
}

/// A step of a decision: [`migration_gate::controller::decision::Action`] with numbers for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each stands for the action of the same name")]
pub enum Todo {
    Create { owners: u8 },
    Own { at: Id<Option<Record>>, owners: u8 },
    Protect { at: Id<Option<Record>> },
    Release { at: Id<Option<Record>> },
    Delete { at: Id<Option<Record>> },
    Write { group: u8, at: Id<Option<Record>>, status: Id<MigrationGateStatus> },
    Signal { slot: u8, at: Id<Slot>, attempt: u8, limited: bool },
    Settle { slot: u8, at: Id<Slot>, mark: Option<u8>, keep: bool, open: bool },
    Open { slot: u8 },
    Complain { incarnation: u8 },
    AskNode { asked: Asked, node: u8 },
    AskRunner { asked: Asked, slot: u8 },
    AskPods { asked: Asked },
    AskElders { asked: Asked },
}

impl Todo {
    /// It only reads.
    pub fn is_question(self) -> bool {
        matches!(self, Todo::AskNode { .. } | Todo::AskRunner { .. } | Todo::AskPods { .. } | Todo::AskElders { .. })
    }

    /// It is a write that nothing new follows from, if it was made before.
    pub fn is_idle(self) -> bool {
        self.is_question() || matches!(self, Todo::Complain { .. })
    }
}

/// What no part of the cluster knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The attempts that were executed on each pod, as bits.
    pub executed: [u8; PODS],
    /// Migrations whose command ended well and by itself, as bits.
    pub true_success: u8,
    /// Migrations that an operator marked, as bits.
    pub marked: u8,
    /// Migrations that a record ever called succeeded, as bits.
    pub recorded: u8,
    /// Migrations whose success ever stood in a pod's status, as bits.
    pub reported: u8,
    /// Records that were lost.
    pub lost: u8,
    /// The pods, as bits, that somebody stripped of our finalizer: each may take its report with it.
    pub stripped: u8,
    /// The pods, as bits, about whose attempt somebody said what wasn't so: an operator confirmed that it is dead, a
    /// node was deleted or tainted whose machine lives. What is recorded about them may be wrong.
    pub misjudged: u8,
    /// The pods, as bits, in which such an attempt outlived the wait for its end, because no mark could reach it: the
    /// exception from the first promise that docs/design.md makes, section 9.
    pub beyond: u8,
    /// Migrations that an operator approved, as bits.
    pub approved: u8,
    /// Something happened after which only an operator can go on.
    pub excused: bool,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Two migration processes were alive at once.
    TwoRunners,
    /// A gate opened without a recorded success, or a success was recorded that was none.
    UnsoundGate,
    /// An app started before its migration succeeded.
    EarlyStart,
    /// An attempt was executed twice.
    RanTwice,
    /// A migration was executed again after its success was reported.
    LostSuccess,
    /// A migration was executed after its attempts were used up.
    TooManyAttempts,
    /// An attempt was recorded as over while its process lived, or was executed although it was not the active one.
    FalseEnd,
    /// A migration was executed that was suspended and not approved.
    Unapproved,
    /// A command was started without the time limit that its workload has.
    Unlimited,
    /// A pod was given an attempt that no workload made.
    StrangerElected,
}

interned!(Workloads, Slot, Local, Option<Record>, [Option<NodeObject>; NODES], Live, Vec<Todo>, MigrationGateStatus);

impl Slot {
    /// The pod, if the API server has it.
    pub fn pod(self) -> Option<Pod> {
        match self {
            Slot::Here(pod) => Some(pod),
            _ => None,
        }
    }

    /// The slot as a watch of the labelled pods shows it: of one that is not there any more, how it went.
    pub fn watched(self) -> Slot {
        match self {
            Slot::Here(pod) if pod.label == Label::Taken => Slot::Gone(pod.sight()),
            slot => slot,
        }
    }

    /// The slot as a fresh list shows it, which says nothing of what is gone.
    pub fn listed(self) -> Slot {
        match self.watched() {
            Slot::Gone(_) => Slot::Gone(LastSight::None),
            slot => slot,
        }
    }
}

impl Controller {
    /// The record that it knows says that an attempt was given up without a proof, and not for this long.
    pub fn waits(&self, group: usize, time: Waited) -> bool {
        self.waited[group] < time && fenced(self.records[group]).is_some()
    }

    /// It learns of a record.
    pub fn believe(&mut self, group: usize, record: Id<Option<Record>>) {
        if fenced(self.records[group]) != fenced(record) {
            self.waited[group] = Waited::No;
        }
        if record.get().is_some() {
            self.refused &= !(1 << group);
        }
        self.records[group] = record;
    }
}

/// The attempt that this record says was given up without a proof.
fn fenced(record: Id<Option<Record>>) -> Option<&'static Fenced> {
    let record = record.get().as_ref().filter(|record| !record.garbled)?;
    record.status.as_ref()?.fenced.as_ref()
}

impl Pod {
    /// What a watch shows of it in the moment in which it goes.
    pub fn sight(&self) -> LastSight {
        match self.signal {
            Signal::None => LastSight::Unsignalled,
            Signal::Run(attempt, _) | Signal::Settled(attempt) => LastSight::Signalled(attempt.into()),
        }
    }

    /// Somebody declared it ended.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, PodPhase::Ended | PodPhase::Collected)
    }
}

impl State {
    /// The pod in this slot, if the API server has it.
    pub fn pod(&self, slot: usize) -> Option<Pod> {
        self.pods[slot].get().pod()
    }

    /// Changes a pod; one that nothing keeps any more goes.
    pub fn set_pod(&mut self, slot: usize, pod: Pod) {
        let kept = !(pod.deleting && pod.confirmed) || pod.held;
        self.pods[slot] = Id::of(if kept { Slot::Here(pod) } else { Slot::Gone(pod.sight()) });
    }

    /// The pods in which a migration process is alive.
    pub fn runners(&self) -> impl Iterator<Item = usize> + '_ {
        (0..PODS).filter(|slot| self.command(*slot).is_some())
    }

    /// The migration process in this pod, if one is alive.
    pub fn command(&self, slot: usize) -> Option<Command> {
        self.locals[slot].get().process.and_then(|process| process.command)
    }

    /// The status of a group's record.
    pub fn status(&self, group: usize) -> Option<&'static MigrationGateStatus> {
        self.records[group].get().as_ref()?.status.as_ref()
    }

    /// The Node objects.
    pub fn node_objects(&self) -> Id<[Option<NodeObject>; NODES]> {
        Id::of(self.nodes.map(|node| node.object))
    }
}

impl Ghost {
    /// Notes a broken promise; the first one stays.
    pub fn blame(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }
}
