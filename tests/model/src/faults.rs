//! What may go wrong, and what follows from it.

use migration_gate::agent::machine::{Action, Input};
use migration_gate::agent::signal::{News, Order};
use migration_gate::controller::evidence::NodeDeletion;
use migration_gate::migration::{Active, Override, OverrideAction};

use crate::api;
use crate::config::{Config, Fault};
use crate::intern::Id;
use crate::step::{Kind, Step, change};
use crate::view;
use crate::world::{Controller, GROUPS, Live, Machine, Signal, Slot, State};

impl Config {
    /// The faults that are possible now.
    pub(crate) fn faults(&self, state: &State, steps: &mut Vec<Step>) {
        let mut may = |fault: Fault, at: usize, possible: bool| {
            if self.kinds.has(fault) && possible {
                steps.push(Step::Fault(fault, at));
            }
        };
        for who in 0..self.controllers {
            let beliefs = &state.controllers[who];
            let busy =
                |group: usize| !beliefs.todo[group].get().is_empty() || *beliefs.live[group].get() != Live::default();
            may(Fault::Crash, who, (0..self.groups()).any(busy));
        }
        for slot in 0..self.pods.len() {
            let pod = state.pod(slot);
            let local = state.locals[slot].get();
            let machine = state.nodes[self.pods[slot].node].machine;
            let here = pod.is_some();
            let on = machine != Machine::Off && *state.pods[slot].get() != Slot::Future;
            let process = local.process;
            let doing = process.and_then(|process| process.doing);
            let running = process.is_some_and(|process| process.command.is_some() && process.doing.is_none());
            may(Fault::Kill, slot, on && process.is_some());
            may(Fault::Sandbox, slot, on && !local.leaving && (process.is_some() || local.app));
            may(Fault::Synthesise, slot, on && !local.leaving && process.is_some());
            may(Fault::Empty, slot, on && !local.rewound && local.journal != crate::world::NO_JOURNAL);
            may(Fault::Rewind, slot, on && !local.emptied && local.news != News::NONE && doing.is_none());
            may(Fault::Delete, slot, pod.is_some_and(|pod| !pod.deleting));
            may(Fault::Force, slot, pod.is_some_and(|pod| !pod.confirmed));
            may(Fault::Evict, slot, machine == Machine::On && here && !local.leaving && doing.is_none());
            may(Fault::Fail, slot, running);
            may(Fault::TimeUp, slot, running && process.is_some_and(|p| p.command.is_some_and(|c| !c.stopped)));
            let writes = matches!(doing, Some(Action::WriteStarted(_) | Action::WriteOutcome(..)));
            may(Fault::DiskFull, slot, writes && !local.rewound && !local.emptied);
            let active = state.status(local.group.into()).and_then(|status| status.active.as_ref());
            let ours = active.is_some_and(|active| usize::from(view::slot_of(&active.pod_name)) == slot);
            let signalled = active.is_some_and(|active| active.signalled_at.is_some());
            may(Fault::Strip, slot, ours && signalled && pod.is_some_and(|pod| pod.held));
            may(Fault::ConfirmDead, slot, ours && self.is_surely_dead(state, slot));
        }
        for node in 0..crate::world::NODES {
            let (object, machine) = (state.nodes[node].object, state.nodes[node].machine);
            let tainted = object.is_some_and(|object| object.tainted);
            let used = self.pods_on(node).next().is_some();
            may(Fault::Cut, node, used && machine == Machine::On && !tainted && object.is_some());
            may(Fault::Off, node, used && machine != Machine::Off);
            // Where a deleted Node object proves nothing, its machine may be one that just can't be reached.
            let away =
                machine == Machine::Off || (machine == Machine::Cut && self.node_deletion == NodeDeletion::Ignored);
            may(Fault::NodeGone, node, used && away && object.is_some());
            may(Fault::Wipe, node, used && machine == Machine::Off);
            may(Fault::NotReady, node, used && machine == Machine::On && object.is_some_and(|object| object.ready));
            // Somebody who taints a node that can't be reached must know that it is off.
            may(Fault::Taint, node, used && machine != Machine::Cut && object.is_some() && !tainted);
        }
        may(Fault::Rollout, 0, state.revision < self.revisions);
        for group in 0..self.groups() {
            may(Fault::Lose, group, state.records[group].get().as_ref().is_some_and(|record| !record.deleting));
        }
        for group in 0..self.groups() {
            let active = state.status(group).and_then(|status| status.active.as_ref());
            let heard = active.is_none_or(|active| {
                let pod = state.pod(usize::from(view::slot_of(&active.pod_name)));
                pod.is_some_and(
                    |pod| matches!(pod.signal, Signal::Run(n) | Signal::Settled(n) if u32::from(n) >= active.attempt),
                )
            });
            may(Fault::Vanish, group, heard && !self.moves && state.records[group].get().is_some());
        }
        let record = state.records[self.group_of(0, state.revision)].get().as_ref();
        let new_order = |action| record.is_some_and(|record| !record.orders.iter().any(|order| order.action == action));
        may(Fault::MarkSucceeded, 0, new_order(OverrideAction::MarkSucceeded));
        may(Fault::Retry, 0, new_order(OverrideAction::Retry) && self.latest(state) > 0);
    }

    /// Nothing of this pod's attempt is alive, and nothing can start it: what an operator must be sure of. A signal that is
    /// still to come can start it.
    fn is_surely_dead(&self, state: &State, slot: usize) -> bool {
        let local = state.locals[slot].get();
        let told = state.pod(slot).is_none_or(|pod| matches!(pod.signal, Signal::Run(_)));
        told && (state.nodes[self.pods[slot].node].machine == Machine::Off
            || (local.leaving && local.process.is_none()))
    }

    /// The latest attempt of the first workload's current migration.
    fn latest(&self, state: &State) -> u32 {
        let fingerprint = view::fingerprint(self.fingerprint(0, state.revision));
        let status = state.status(self.group_of(0, state.revision));
        let migration = status.and_then(|status| status.migration(&fingerprint));
        migration.and_then(|migration| migration.attempts.last()).map_or(0, |attempt| attempt.number)
    }

    /// What a fault leads to.
    pub(crate) fn fail(&self, state: &mut State, fault: Fault, at: usize) {
        match fault {
            Fault::Crash => {
                let (live, todo) = ([Id::of(Live::default()); GROUPS], [Id::of(Vec::new()); GROUPS]);
                state.controllers[at] = Controller { live, todo, ..state.controllers[at] };
                for kind in [Kind::Pods, Kind::Records, Kind::Nodes, Kind::Workloads] {
                    self.see(state, at, kind);
                }
            }
            Fault::Kill => self.at(state, at, |site| site.kill()),
            Fault::Sandbox => self.at(state, at, |site| site.forget()),
            Fault::Synthesise => {
                state.ghost.excused = true;
                self.at(state, at, |site| site.synthesise());
            }
            Fault::Empty => self.at(state, at, |site| site.empty()),
            Fault::Rewind => {
                // The value before a mark is the signal, and before a signal there was none: a later signal of the
                // same pod is no older than the mark before it, which the journal knows all the same.
                let order = match state.locals[at].get().news.order {
                    Order::Settled(attempt) => {
                        Order::Run(migration_gate::agent::signal::Run { attempt, timeout_seconds: None })
                    }
                    _ => Order::None,
                };
                self.at(state, at, |site| site.rewind(order));
            }
            Fault::Delete => change(state, at, |pod| pod.deleting = true),
            Fault::Force => change(state, at, |pod| (pod.deleting, pod.confirmed) = (true, true)),
            Fault::Evict => self.at(state, at, |site| site.ask_to_stop()),
            Fault::Fail => self.at(state, at, |site| site.command_ends(1)),
            Fault::TimeUp => self.at(state, at, |site| site.hear(Input::TimeUp)),
            Fault::DiskFull => self.at(state, at, |site| site.step(true)),
            Fault::Strip => {
                state.ghost.stripped = true;
                state.ghost.excused = true;
                change(state, at, |pod| pod.held = false);
            }
            Fault::Cut => state.nodes[at].machine = Machine::Cut,
            Fault::Off => {
                state.nodes[at].machine = Machine::Off;
                for slot in self.pods_on(at) {
                    self.at(state, slot, |site| site.forget());
                }
            }
            Fault::NodeGone => state.nodes[at].object = None,
            Fault::Wipe => {
                state.ghost.excused = true;
                self.switch_on(state, at);
                for slot in self.pods_on(at) {
                    self.at(state, slot, |site| site.empty());
                }
            }
            Fault::NotReady => state.nodes[at].object.iter_mut().for_each(|object| object.ready = false),
            Fault::Taint => state.nodes[at].object.iter_mut().for_each(|object| object.tainted = true),
            Fault::Rollout => state.revision += 1,
            Fault::Lose => {
                api::delete_record(self, state, at);
            }
            Fault::Vanish => {
                state.records[at] = Id::of(None);
                state.ghost.lost += 1;
            }
            Fault::ConfirmDead => {
                let group = usize::from(state.locals[at].get().group);
                let active = state.status(group).and_then(|status| status.active.clone());
                if let Some(Active { attempt, pod_uid, .. }) = active {
                    self.order(state, group, OverrideAction::ConfirmDead, attempt, pod_uid);
                }
            }
            Fault::MarkSucceeded => {
                state.ghost.marked |= 1 << self.fingerprint(0, state.revision);
                let group = self.group_of(0, state.revision);
                self.order(state, group, OverrideAction::MarkSucceeded, 0, String::new());
            }
            Fault::Retry => {
                let attempt = self.latest(state);
                let group = self.group_of(0, state.revision);
                self.order(state, group, OverrideAction::Retry, attempt, String::new());
            }
        }
    }

    fn order(&self, state: &mut State, group: usize, action: OverrideAction, attempt: u32, pod_uid: String) {
        let Some(mut record) = state.records[group].get().clone() else { return };
        let fingerprint = view::fingerprint(self.fingerprint(0, state.revision));
        let (reason, by) = (String::new(), String::new());
        record.orders.push(Override { fingerprint, action, attempt, pod_uid, reason, by });
        state.records[group] = Id::of(Some(record));
    }
}
