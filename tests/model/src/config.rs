//! What a model consists of, and what may go wrong in it.

use migration_gate::controller::evidence::NodeDeletion;

use crate::mutants::Mutant;
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
    /// A Node object is deleted, its machine being off.
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
    /// Somebody strips the finalizer off a signalled pod.
    Strip,
    /// An operator confirms that the attempt is dead.
    ConfirmDead,
    /// An operator marks the migration as succeeded.
    MarkSucceeded,
    /// An operator orders another try.
    Retry,
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u32);

impl Kinds {
    /// These.
    pub const fn of(faults: &[Fault]) -> Kinds {
        let mut bits = 0;
        let mut at = 0;
        while at < faults.len() {
            bits |= 1 << faults[at] as u32;
            at += 1;
        }
        Kinds(bits)
    }

    /// Whether this one is among them.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u32) != 0
    }
}

impl Config {
    /// One workload with two pods on two nodes, and one controller; nothing goes wrong.
    pub fn calm() -> Config {
        Config {
            pods: vec![PodPlan { workload: 0, node: 0 }, PodPlan { workload: 0, node: 1 }],
            replicas: 2,
            workloads: 1,
            moves: false,
            revisions: 1,
            controllers: 1,
            attempts: 3,
            backoff_limit: 2,
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
        self.pods.push(PodPlan { workload: 0, node: 1 });
        self
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

    /// With a deliberate defect.
    pub fn mutated(self, mutant: Mutant) -> Config {
        Config { mutant: Some(mutant), ..self }
    }

    /// Whether these two pods must never run at once: they are of one group, or of one workload that moved.
    pub fn excludes(&self, state: &State, one: usize, other: usize) -> bool {
        let group = |slot: usize| state.locals[slot].get().group;
        group(one) == group(other) || self.pods[one].workload == self.pods[other].workload
    }

    /// The groups that there are.
    pub fn groups(&self) -> usize {
        if self.moves { 2 } else { 1 }
    }

    /// The group of a workload's template.
    pub fn group_of(&self, workload: usize, revision: u8) -> usize {
        match workload {
            0 if self.moves => usize::from(revision % 2),
            _ => 0,
        }
    }

    /// The migration of a workload's template.
    pub fn fingerprint(&self, workload: usize, revision: u8) -> u8 {
        match workload {
            0 if self.moves => 0,
            0 => revision,
            other => u8::try_from(other).unwrap_or_default() + 4,
        }
    }
}
