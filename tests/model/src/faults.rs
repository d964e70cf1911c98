//! What may go wrong, and what follows from it.

use migration_gate::agent::machine::{Action, Input};
use migration_gate::agent::signal::{News, Order};
use migration_gate::contract::Outcome;
use migration_gate::controller::evidence::NodeDeletion;
use migration_gate::migration::{Active, Override, OverrideAction};

use crate::api::{self, Course};
use crate::config::{Config, Fault};
use crate::intern::Id;
use crate::step::{Kind, Step, change};
use crate::view;
use crate::workloads::{Life, Workload};
use crate::world::{
    Container, Controller, Exit, GROUPS, Label, Live, Machine, Record, Said, Signal, Slot, State, Stop, Waited,
};

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
            for group in 0..self.groups() {
                let writes = beliefs.todo[group].get().first().is_some_and(|todo| !todo.is_question());
                may(Fault::Unheard, who * GROUPS + group, writes);
                may(Fault::Refused, who * GROUPS + group, writes);
            }
        }
        for slot in 0..self.pods.len() {
            let pod = state.pod(slot);
            let local = state.locals[slot].get();
            let machine = state.nodes[self.pods[slot].node].machine;
            let here = pod.is_some();
            let stranger = self.pods[slot].stranger;
            let on = machine != Machine::Off && *state.pods[slot].get() != Slot::Future && !stranger;
            let process = local.process;
            let doing = process.and_then(|process| process.doing);
            let running = process.is_some_and(|process| process.command.is_some() && process.doing.is_none());
            may(Fault::Kill, slot, on && process.is_some());
            may(Fault::Sandbox, slot, on && !local.leaving && (process.is_some() || local.app));
            may(Fault::Synthesise, slot, on && !local.leaving && process.is_some());
            may(Fault::Empty, slot, on && !local.rewound && local.journal != crate::world::NO_JOURNAL);
            may(Fault::Rewind, slot, on && !local.emptied && local.news != News::NONE && doing.is_none());
            may(Fault::Delete, slot, pod.is_some_and(|pod| !pod.deleting) && !stranger);
            may(Fault::Force, slot, pod.is_some_and(|pod| !pod.confirmed));
            may(Fault::Evict, slot, machine == Machine::On && here && !stranger && !local.leaving && doing.is_none());
            may(Fault::Fail, slot, running);
            may(Fault::TimeUp, slot, running && process.is_some_and(|p| p.command.is_some_and(|c| c.stop == Stop::No)));
            let writes = matches!(doing, Some(Action::WriteStarted(_) | Action::WriteOutcome(..)));
            may(Fault::DiskFull, slot, writes && !local.rewound && !local.emptied);
            let active = state.status(local.group.into()).and_then(|status| status.active.as_ref());
            let ours = active.is_some_and(|active| usize::from(view::slot_of(&active.pod_name)) == slot);
            may(Fault::Strip, slot, ours && pod.is_some_and(|pod| pod.held));
            may(Fault::ConfirmDead, slot, ours && self.is_new(state, local.group.into(), OverrideAction::ConfirmDead));
            may(Fault::Unlabel, slot, pod.is_some_and(|pod| pod.label != Label::Taken) && ours);
            let latest = state.status(local.group.into()).map_or(0, |status| status.last_attempt);
            let says = pod.is_some_and(|pod| matches!(pod.agent, Container::Exited(_)));
            may(Fault::Forge, slot, stranger && here && latest > 0 && !says);
        }
        for node in 0..crate::world::NODES {
            let (object, machine) = (state.nodes[node].object, state.nodes[node].machine);
            let tainted = object.is_some_and(|object| object.tainted);
            let used = self.pods_on(node).next().is_some();
            may(Fault::Cut, node, used && machine == Machine::On && object.is_some());
            may(Fault::Off, node, used && machine != Machine::Off);
            may(Fault::NodeGone, node, used && object.is_some());
            may(Fault::Wipe, node, used && machine == Machine::Off);
            may(Fault::NotReady, node, used && machine == Machine::On && object.is_some_and(|object| object.ready));
            may(Fault::Taint, node, used && object.is_some() && !tainted);
        }
        self.faults_of_workloads(state, &mut may);
        for group in 0..self.groups() {
            may(Fault::Lose, group, state.records[group].get().as_ref().is_some_and(|record| !record.deleting));
        }
        for group in 0..self.groups() {
            let active = state.status(group).and_then(|status| status.active.as_ref());
            let heard = active.is_none_or(|active| {
                let pod = state.pod(usize::from(view::slot_of(&active.pod_name)));
                pod.is_some_and(
                    |pod| matches!(pod.signal, Signal::Run(n, _) | Signal::Settled(n) if u32::from(n) >= active.attempt),
                )
            });
            may(Fault::Vanish, group, heard && !self.moves && state.records[group].get().is_some());
        }
        let (first, home) = self.first(state);
        let new = |action| self.is_new(state, home, action);
        may(Fault::MarkSucceeded, 0, new(OverrideAction::MarkSucceeded));
        may(Fault::Retry, 0, new(OverrideAction::Retry) && self.latest(state) > 0);
        may(
            Fault::Approve,
            0,
            self.suspended && state.ghost.approved & (1 << first) == 0 && state.records[home].get().is_some(),
        );
        for group in 0..self.groups() {
            may(Fault::Garble, group, state.records[group].get().as_ref().is_some_and(|record| !record.garbled));
        }
    }

    fn faults_of_workloads(&self, state: &State, may: &mut impl FnMut(Fault, usize, bool)) {
        let workload = state.workloads.get().each[0];
        let (alive, gone) = (workload.life == Life::Alive, workload.life == Life::Gone && !state.dying);
        may(Fault::Rollout, 0, alive && workload.is_gated() && workload.revision < self.revisions);
        may(Fault::Remove, 0, alive);
        may(Fault::RemoveLast, 0, alive);
        may(Fault::Orphan, 0, alive);
        // Three of one name are enough.
        may(Fault::Again, 0, gone && workload.incarnation < 2);
        may(Fault::AgainElsewhere, 0, gone && workload.incarnation < 2 && workload.revision < self.revisions);
        may(Fault::Ungate, 0, alive && workload.toggles < 2);
        may(Fault::Dying, 0, !state.dying);
    }

    /// The first workload's migration and its group.
    fn first(&self, state: &State) -> (u8, usize) {
        let (fingerprint, group) = self.template(0, state.workloads.get().each[0]);
        (fingerprint, group.into())
    }

    /// No such order was given.
    fn is_new(&self, state: &State, group: usize, action: OverrideAction) -> bool {
        let record = state.records[group].get().as_ref();
        record.is_some_and(|record| !record.orders.iter().any(|order| order.action == action))
    }

    /// Nothing of this pod's attempt is alive, and nothing can start it: what an operator should be sure of. A signal that is
    /// still to come can start it.
    fn is_surely_dead(&self, state: &State, slot: usize) -> bool {
        let local = state.locals[slot].get();
        let told = state.pod(slot).is_none_or(|pod| matches!(pod.signal, Signal::Run(..)));
        told && (state.nodes[self.pods[slot].node].machine == Machine::Off
            || (local.leaving && local.process.is_none()))
    }

    /// The latest attempt of the first workload's current migration.
    fn latest(&self, state: &State) -> u32 {
        let (fingerprint, group) = self.first(state);
        let migration = state.status(group).and_then(|status| status.migration(&view::fingerprint(fingerprint)));
        migration.and_then(|migration| migration.attempts.last()).map_or(0, |attempt| attempt.number)
    }

    /// What a fault leads to.
    pub(crate) fn fail(&self, state: &mut State, fault: Fault, at: usize) {
        match fault {
            Fault::Crash => {
                let (live, todo) = ([Id::of(Live::default()); GROUPS], [Id::of(Vec::new()); GROUPS]);
                let pods = state.pods.map(|slot| Id::of(slot.get().listed()));
                state.controllers[at] =
                    Controller { live, todo, pods, waited: [Waited::No; GROUPS], refused: 0, ..state.controllers[at] };
                for kind in Kind::ALL {
                    self.see(state, at, kind);
                }
                // Who begins now didn't see how a pod went that was stripped: docs/design.md, section 9.
                let unseen = (0..self.pods.len()).filter(|slot| state.pod(*slot).is_none());
                let unseen = unseen.fold(0, |bits, slot| bits | 1 << slot);
                state.ghost.misjudged |= state.ghost.stripped & unseen;
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
                        let timeout_seconds = self.limited.then_some(view::TIME_LIMIT);
                        Order::Run(migration_gate::agent::signal::Run { attempt, timeout_seconds })
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
                state.ghost.stripped |= 1 << at;
                state.ghost.excused = true;
                change(state, at, |pod| pod.held = false);
            }
            Fault::Cut => {
                state.nodes[at].machine = Machine::Cut;
                self.misjudge(state, at);
            }
            Fault::Off => {
                state.nodes[at].machine = Machine::Off;
                for slot in self.pods_on(at) {
                    self.at(state, slot, |site| site.forget());
                }
            }
            Fault::NodeGone => {
                state.nodes[at].object = None;
                state.nodes[at].past += 1;
                self.misjudge(state, at);
            }
            Fault::Wipe => {
                state.ghost.excused = true;
                self.switch_on(state, at);
                for slot in self.pods_on(at) {
                    self.at(state, slot, |site| site.empty());
                }
            }
            Fault::NotReady => state.nodes[at].object.iter_mut().for_each(|object| object.ready = false),
            Fault::Taint => {
                state.nodes[at].object.iter_mut().for_each(|object| object.tainted = true);
                self.misjudge(state, at);
            }
            Fault::Rollout => state.change_workload(0, |workload| workload.revision += 1),
            Fault::Ungate => state.change_workload(0, |workload| workload.toggles += 1),
            Fault::Remove => state.change_workload(0, |workload| workload.life = Life::Gone),
            Fault::RemoveLast => state.change_workload(0, |workload| workload.life = Life::Deleting),
            Fault::Orphan => state.change_workload(0, |workload| workload.life = Life::Orphaning),
            Fault::Again => state.change_workload(0, |workload| {
                let incarnation = workload.incarnation + 1;
                *workload = Workload { life: Life::Alive, incarnation, toggles: 0, ..*workload };
            }),
            Fault::AgainElsewhere => state.change_workload(0, |workload| {
                let (incarnation, revision) = (workload.incarnation + 1, workload.revision + 1);
                *workload = Workload { life: Life::Alive, incarnation, revision, toggles: 0 };
            }),
            Fault::Dying => {
                state.dying = true;
                state.change_workloads(|workloads| workloads.each.iter_mut().for_each(|each| each.life = Life::Gone));
            }
            Fault::Forge => {
                let latest = state.status(state.locals[at].get().group.into()).map_or(0, |status| status.last_attempt);
                let said = Said::Verdict(u8::try_from(latest).unwrap_or(u8::MAX), Outcome::Succeeded);
                let exit = Exit { real: true, zero: true, said };
                change(state, at, |pod| pod.agent = Container::Exited(exit));
            }
            Fault::Unlabel => change(state, at, |pod| pod.label = Label::Taken),
            Fault::Garble => {
                if let Some(record) = state.records[at].get().clone() {
                    state.records[at] = Id::of(Some(Record { garbled: true, ..record }));
                }
            }
            Fault::Unheard => api::deliver(self, state, at / GROUPS, at % GROUPS, Course::Unheard),
            Fault::Refused => api::deliver(self, state, at / GROUPS, at % GROUPS, Course::Refused),
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
                if !self.is_surely_dead(state, at) {
                    state.ghost.misjudged |= 1 << at;
                }
                if let Some(Active { attempt, pod_uid, .. }) = active {
                    self.order(state, group, OverrideAction::ConfirmDead, attempt, pod_uid);
                }
            }
            Fault::MarkSucceeded => {
                let (fingerprint, group) = self.first(state);
                state.ghost.marked |= 1 << fingerprint;
                self.order(state, group, OverrideAction::MarkSucceeded, 0, String::new());
            }
            Fault::Retry => {
                let (attempt, (_, group)) = (self.latest(state), self.first(state));
                self.order(state, group, OverrideAction::Retry, attempt, String::new());
            }
            Fault::Approve => {
                let (fingerprint, group) = self.first(state);
                state.ghost.approved |= 1 << fingerprint;
                self.order(state, group, OverrideAction::Approve, 0, String::new());
            }
        }
    }

    /// Somebody says of a node that its machine is off, and is wrong about that.
    fn misjudge(&self, state: &mut State, node: usize) {
        let crate::world::Node { object, machine, .. } = state.nodes[node];
        let deleted = object.is_none() && self.node_deletion == NodeDeletion::Proves && machine != Machine::Off;
        // As long as its Lease is renewed, the taint isn't believed.
        let tainted = object.is_some_and(|object| object.tainted) && machine == Machine::Cut;
        if deleted || tainted {
            let pods = self.pods_on(node).fold(0, |bits, slot| bits | 1 << slot);
            state.ghost.misjudged |= pods;
        }
    }

    fn order(&self, state: &mut State, group: usize, action: OverrideAction, attempt: u32, pod_uid: String) {
        let Some(mut record) = state.records[group].get().clone() else { return };
        let fingerprint = view::fingerprint(self.first(state).0);
        let (reason, by) = (String::new(), String::new());
        record.orders.push(Override { fingerprint, action, attempt, pod_uid, reason, by });
        state.records[group] = Id::of(Some(record));
    }
}
