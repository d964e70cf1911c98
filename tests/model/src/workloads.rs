//! The workloads, the ReplicaSets between them and their pods, and Kubernetes' garbage collector.
//!
//! What is collected, and how, is the garbage collector's own rule (pkg/controller/garbagecollector,
//! `attemptToDeleteItem`): an object loses its references to owners that are gone as long as another owner is there,
//! and goes when none is. An owner that is deleted in the foreground counts as gone; one that is deleted and leaves what
//! it owned alone is there until the references to it were taken away.
//!
//! A controller learns of ReplicaSets together with the workloads. That one of the two watches is behind the other makes no
//! pod eligible: a pod counts only if the chain that is known leads to a workload that is known.

use crate::config::Config;
use crate::intern::Id;
use crate::step::Step;
use crate::world::{PODS, Record, Slot, State};

/// The most workloads of a model.
pub const WORKLOADS: usize = 2;

/// All workloads, and who controls each pod's ReplicaSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workloads {
    /// Each workload.
    pub each: [Workload; WORKLOADS],
    /// For each pod's ReplicaSet, the incarnation of the workload that controls it; `None` for one that nobody
    /// controls, and where there is none.
    pub sets: [Option<u8>; PODS],
}

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Whether it is there.
    pub life: Life,
    /// How many of its name there were before it: its UID.
    pub incarnation: u8,
    /// How often its template was changed.
    pub revision: u8,
    /// How often its label was taken off or given back: it has it, if the number is even.
    pub toggles: u8,
}

/// Whether a workload is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// It is.
    Alive,
    /// It is being deleted, and what it owned is left alone.
    Orphaning,
    /// It is being deleted, after its pods.
    Deleting,
    /// It is not.
    Gone,
}

impl Workload {
    /// A new one.
    pub const NEW: Workload = Workload { life: Life::Alive, incarnation: 0, revision: 0, toggles: 0 };

    /// It is there, and its template is injected.
    pub fn is_gated(self) -> bool {
        self.life != Life::Gone && self.toggles.is_multiple_of(2)
    }

    /// It is there, and goes on making pods.
    pub fn makes_pods(self) -> bool {
        self.life == Life::Alive && self.is_gated()
    }

    /// The generation of its spec.
    pub fn generation(self) -> i64 {
        1 + i64::from(self.revision) + i64::from(self.toggles)
    }
}

impl Workloads {
    /// Those that the records can name as their owners, as bits, under this condition.
    fn bits(&self, suits: impl Fn(Workload) -> bool) -> u8 {
        let suitable = (0..WORKLOADS).filter(|index| suits(self.each[*index]));
        suitable.fold(0, |bits, index| bits | owner_bit(index, self.each[index].incarnation))
    }
}

/// The bit of a workload among a record's owners.
pub fn owner_bit(index: usize, incarnation: u8) -> u8 {
    1 << (usize::from(incarnation) * WORKLOADS + index)
}

/// The workloads that these bits stand for: the number and the incarnation of each.
pub fn owners(bits: u8) -> impl Iterator<Item = (usize, u8)> {
    let each = (0..8usize).filter(move |bit| bits & (1 << bit) != 0);
    each.map(|bit| (bit % WORKLOADS, u8::try_from(bit / WORKLOADS).unwrap_or_default()))
}

impl State {
    /// Changes a workload.
    pub fn change_workload(&mut self, index: usize, change: impl FnOnce(&mut Workload)) {
        self.change_workloads(|workloads| change(&mut workloads.each[index]));
    }

    /// Changes the workloads.
    pub fn change_workloads(&mut self, change: impl FnOnce(&mut Workloads)) {
        let mut workloads = *self.workloads.get();
        change(&mut workloads);
        self.workloads = Id::of(workloads);
    }
}

impl Config {
    /// What the workloads' controllers and the garbage collector may do now.
    pub(crate) fn steps_of_workloads(&self, state: &State, steps: &mut Vec<Step>) {
        let workloads = state.workloads.get();
        for (index, workload) in workloads.each.iter().enumerate().take(self.workloads) {
            let owns = |slot: &usize| self.is_set_of(workloads, *slot, index);
            match workload.life {
                Life::Orphaning => steps.push(Step::LetGo(index)),
                Life::Deleting => {
                    let left = |slot: usize| matches!(state.pods[slot].get(), Slot::Here(_));
                    if !(0..self.pods.len()).filter(owns).any(left) {
                        steps.push(Step::Vacate(index));
                    }
                }
                Life::Alive
                    if workload.incarnation > 0
                        && (0..self.pods.len()).any(|slot| self.is_orphan(state, slot, index)) =>
                {
                    steps.push(Step::Adopt(index));
                }
                Life::Alive | Life::Gone => {}
            }
        }
        for group in 0..self.groups() {
            let Some(record) = state.records[group].get() else { continue };
            if self.is_garbage(state, record) {
                steps.push(Step::Garbage(group));
            }
            if state.dying && !record.deleting {
                steps.push(Step::Purge(group));
            }
        }
    }

    /// Whether the pod's ReplicaSet is this workload's.
    fn is_set_of(&self, workloads: &Workloads, slot: usize, index: usize) -> bool {
        self.pods[slot].workload == index && workloads.sets[slot] == Some(workloads.each[index].incarnation)
    }

    fn is_orphan(&self, state: &State, slot: usize, index: usize) -> bool {
        let plan = self.pods[slot];
        let here = matches!(state.pods[slot].get(), Slot::Here(_));
        here && !plan.stranger && plan.workload == index && state.workloads.get().sets[slot].is_none()
    }

    fn is_garbage(&self, state: &State, record: &Record) -> bool {
        let dangling = record.owners & !solid(state.workloads.get());
        dangling != 0 && (dangling != record.owners || !record.deleting)
    }

    /// The garbage collector looks at a record that has owners that are gone.
    pub(crate) fn collect_garbage(&self, state: &mut State, group: usize) {
        let Some(mut record) = state.records[group].get().clone() else { return };
        match record.owners & solid(state.workloads.get()) {
            0 => crate::api::delete_record(self, state, group),
            owners => {
                record.owners = owners;
                state.records[group] = Id::of(Some(record));
            }
        }
    }

    /// What a workload owned is let go of, and it goes.
    pub(crate) fn let_go(&self, state: &mut State, index: usize) {
        let incarnation = state.workloads.get().each[index].incarnation;
        state.change_workloads(|workloads| {
            workloads.each[index].life = Life::Gone;
            for (slot, plan) in self.pods.iter().enumerate() {
                if plan.workload == index && workloads.sets[slot] == Some(incarnation) {
                    workloads.sets[slot] = None;
                }
            }
        });
        for group in 0..self.groups() {
            if let Some(mut record) = state.records[group].get().clone() {
                record.owners &= !owner_bit(index, incarnation);
                state.records[group] = Id::of(Some(record));
            }
        }
    }

    /// A new workload takes over the ReplicaSets that the one before it left alone.
    pub(crate) fn adopt(&self, state: &mut State, index: usize) {
        let orphans: Vec<usize> = (0..self.pods.len()).filter(|slot| self.is_orphan(state, *slot, index)).collect();
        state.change_workloads(|workloads| {
            let incarnation = workloads.each[index].incarnation;
            orphans.iter().for_each(|slot| workloads.sets[*slot] = Some(incarnation));
        });
    }

    /// Whether this pod is to be made now.
    pub(crate) fn is_missing(&self, state: &State, slot: usize) -> bool {
        let (workloads, plan) = (state.workloads.get(), self.pods[slot]);
        let workload = workloads.each[plan.workload];
        if plan.stranger || state.dying || !workload.makes_pods() {
            return false;
        }
        let asked = self.template(plan.workload, workload);
        let counts = |other: &usize| {
            let pod = state.pod(*other).filter(|pod| !pod.deleting && !pod.is_terminal());
            self.is_set_of(workloads, *other, plan.workload)
                && pod.is_some_and(|pod| (pod.fingerprint, pod.group) == asked)
        };
        (0..self.pods.len()).filter(counts).count() < self.replicas / self.workloads
    }

    /// Whether this pod is one too many: of an older template, of a workload that is gone, or in a namespace that goes.
    pub(crate) fn is_surplus(&self, state: &State, slot: usize) -> bool {
        let (workloads, plan) = (state.workloads.get(), self.pods[slot]);
        let Some(pod) = state.pod(slot).filter(|pod| !pod.deleting) else { return false };
        let workload = workloads.each[plan.workload];
        // A pod whose ReplicaSet nobody controls is left alone.
        let Some(incarnation) = workloads.sets[slot] else { return state.dying };
        let current = workload.makes_pods()
            && workload.incarnation == incarnation
            && (pod.fingerprint, pod.group) == self.template(plan.workload, workload);
        state.dying || (!current && workload.life != Life::Orphaning)
    }
}

/// The owners that are there, for the garbage collector.
fn solid(workloads: &Workloads) -> u8 {
    workloads.bits(|workload| matches!(workload.life, Life::Alive | Life::Orphaning))
}
