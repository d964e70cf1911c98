//! What a model consists of, and what may go wrong in it.

use migration_gate::controller::evidence::NodeDeletion;

use crate::mutants::Mutant;
use crate::workloads::Workload;
use crate::world::State;

/// One model.
#[derive(Clone, Debug)]
pub struct Config {
    /// The workload and the node of each pod.
    pub pods: Vec<PodPlan>,
    /// The pods that exist from the beginning; the others are made when one is missing.
    pub replicas: usize,
    /// The workloads of the group: one or two.
    pub workloads: usize,
    /// Whether the first workload's template moves to another group when it changes, with the same migration.
    pub moves: bool,
    /// How often the first workload's template may change.
    pub revisions: u8,
    /// The controllers that act at once.
    pub controllers: usize,
    /// No attempt beyond this one is explored.
    pub attempts: u8,
    /// Failed attempts before a migration is given up.
    pub backoff_limit: u32,
    /// Whether each new migration waits for an approval.
    pub suspended: bool,
    /// Whether the workloads have a time limit.
    pub limited: bool,
    /// Whether the pods have a grace period that is longer than an agent needs to end its command.
    pub patient: bool,
    /// Whether it begins before the group's record is made.
    pub cold: bool,
    /// The faults that may happen, one after another.
    pub faults: u8,
    /// Of these kinds.
    pub kinds: Kinds,
    /// Whether a deleted Node object proves that its processes are dead.
    pub node_deletion: NodeDeletion,
    /// Whether it matters which controller is which. A search need not try both.
    pub distinct: bool,
    /// The protocol's deliberate defect, if it has one.
    pub mutant: Option<Mutant>,
}

/// Where a pod belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Its workload.
    pub workload: usize,
    /// Its node.
    pub node: usize,
    /// Nobody's workload made it: somebody who may create pods gave it the labels of the workload's, and says in it
    /// whatever he wants.
    pub stranger: bool,
}

impl PodPlan {
    const fn of(workload: usize, node: usize) -> PodPlan {
        PodPlan { workload, node, stranger: false }
    }
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A controller dies with what it decided and didn't do; another starts, with fresh lists.
    Crash,
    /// The agent's container is killed.
    Kill,
    /// The pod's sandbox is made anew: the container starts again with an empty lastState.
    Sandbox,
    /// After a reboot the kubelet reports an exit code 0 that it made up.
    Synthesise,
    /// The emptyDir is emptied.
    Empty,
    /// The signal volume shows an old value for a while.
    Rewind,
    /// A pod is deleted.
    Delete,
    /// A pod is deleted by force.
    Force,
    /// A pod is evicted by its kubelet.
    Evict,
    /// A machine can't be reached.
    Cut,
    /// A machine goes off.
    Off,
    /// A Node object is deleted, whatever its machine does.
    NodeGone,
    /// A machine returns with an empty disk.
    Wipe,
    /// A node is NotReady although its machine works.
    NotReady,
    /// A node is tainted as out of service.
    Taint,
    /// The workload's template changes.
    Rollout,
    /// The record is deleted.
    Lose,
    /// The record is gone at once, because somebody stripped our finalizer off it. Not while a signal is due: a leader
    /// that was paused before its signal would write it all the same (docs/design.md, "What is not promised").
    Vanish,
    /// The command fails.
    Fail,
    /// The command takes longer than it may.
    TimeUp,
    /// The journal can't be written.
    DiskFull,
    /// Somebody strips a pod of our finalizer, perhaps before its signal is on record.
    Strip,
    /// An operator confirms that the attempt is dead, whether it is or not.
    ConfirmDead,
    /// An operator marks the migration as succeeded.
    MarkSucceeded,
    /// An operator orders another try.
    Retry,
    /// An operator approves the migration.
    Approve,
    /// A workload is deleted; what it owned is collected as garbage.
    Remove,
    /// The same, in the foreground: it goes after its pods.
    RemoveLast,
    /// A workload is deleted, and what it owned is left alone.
    Orphan,
    /// A workload is made again under its name, as it was.
    Again,
    /// A workload is made again under its name, in another group.
    AgainElsewhere,
    /// A workload's label is taken off, or given back.
    Ungate,
    /// The namespace is deleted.
    Dying,
    /// A stranger's pod says that the group's latest attempt succeeded.
    Forge,
    /// A pod loses the label that makes it ours.
    Unlabel,
    /// Somebody writes something into the record that can't be read.
    Garble,
    /// A write is made, and its author gets no answer.
    Unheard,
    /// A write fails, and the decision's others are made.
    Refused,
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u64);

impl Kinds {
    /// These.
    pub const fn of(faults: &[Fault]) -> Kinds {
        let mut bits = 0;
        let mut at = 0;
        while at < faults.len() {
            bits |= 1 << faults[at] as u64;
            at += 1;
        }
        Kinds(bits)
    }

    /// Whether this one is among them.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u64) != 0
    }
}

impl Config {
    /// One workload with two pods on two nodes, and one controller; nothing goes wrong.
    pub fn calm() -> Config {
        Config {
            pods: vec![PodPlan::of(0, 0), PodPlan::of(0, 1)],
            replicas: 2,
            workloads: 1,
            moves: false,
            revisions: 1,
            controllers: 1,
            attempts: 3,
            backoff_limit: 2,
            suspended: false,
            limited: false,
            patient: false,
            cold: false,
            faults: 0,
            kinds: Kinds::default(),
            node_deletion: NodeDeletion::Proves,
            distinct: false,
            mutant: None,
        }
    }

    /// The same, and so many faults of these kinds.
    pub fn with(self, faults: u8, kinds: &[Fault]) -> Config {
        Config { faults, kinds: Kinds::of(kinds), ..self }
    }

    /// Two controllers act at once, as when a leader was paused and wakes up.
    pub fn two_leaders(self) -> Config {
        Config { controllers: 2, ..self }
    }

    /// A third pod is there to replace one that is gone, or that of a new template.
    pub fn with_spare(mut self) -> Config {
        self.pods.push(PodPlan::of(0, 1));
        self
    }

    /// A pod is there that no workload made, older than all others.
    pub fn with_stranger(mut self) -> Config {
        self.pods.push(PodPlan { stranger: true, ..PodPlan::of(0, 1) });
        self
    }

    /// Each new migration waits for an approval.
    pub fn suspended(self) -> Config {
        Config { suspended: true, ..self }
    }

    /// The workloads have a time limit.
    pub fn limited(self) -> Config {
        Config { limited: true, ..self }
    }

    /// The pods have a grace period of an hour.
    pub fn patient(self) -> Config {
        Config { patient: true, ..self }
    }

    /// A Node object that was deleted proves nothing.
    pub fn nodes_ignored(self) -> Config {
        Config { node_deletion: NodeDeletion::Ignored, ..self }
    }

    /// Two workloads share a database; each has a pod and a migration of its own.
    pub fn group(mut self) -> Config {
        self.workloads = 2;
        self.pods[1].workload = 1;
        self
    }

    /// An edit moves the first workload from its own group to the other one, and perhaps back.
    pub fn moving(mut self, revisions: u8) -> Config {
        self.moves = true;
        self.revisions = revisions;
        self
    }

    /// Nothing has happened yet, and nothing is known.
    pub fn from_nothing(self) -> Config {
        Config { cold: true, ..self }
    }

    /// Each workload has one pod at a time.
    pub fn single(self) -> Config {
        Config { replicas: self.workloads, ..self }
    }

    /// Whether a pod can be fenced off here: only then is it marked before what it reported is on record.
    pub fn fences(&self) -> bool {
        [Fault::NodeGone, Fault::Wipe, Fault::Taint, Fault::ConfirmDead].into_iter().any(|fault| self.kinds.has(fault))
    }

    /// With a deliberate defect.
    pub fn mutated(self, mutant: Mutant) -> Config {
        Config { mutant: Some(mutant), ..self }
    }

    /// Whether these two pods must never run at once: they are of one group, or of one workload that moved or was made
    /// again. Not where the promise has an exception.
    pub fn excludes(&self, state: &State, one: usize, other: usize) -> bool {
        let group = |slot: usize| state.locals[slot].get().group;
        let excused = state.ghost.beyond & (1 << one | 1 << other) != 0;
        !excused && (group(one) == group(other) || self.pods[one].workload == self.pods[other].workload)
    }

    /// The groups that there are.
    pub fn groups(&self) -> usize {
        if self.moves { 2 } else { 1 }
    }

    /// The migration and the group that this workload's template asks for, gated or not.
    pub fn template(&self, index: usize, workload: Workload) -> (u8, u8) {
        let Workload { revision, incarnation, .. } = workload;
        match index {
            // One that is made again elsewhere has a migration of its own: nothing carries over from the one before it.
            0 if self.moves => (incarnation, revision % 2),
            0 => (revision, 0),
            other => (u8::try_from(other).unwrap_or_default() + 4, 0),
        }
    }

    /// The migration that this workload's template asks for.
    pub fn fingerprint(&self, index: usize, workload: Workload) -> u8 {
        self.template(index, workload).0
    }

    /// The group that this workload's template belongs to.
    pub fn group_of(&self, index: usize, workload: Workload) -> usize {
        self.template(index, workload).1.into()
    }
}
