//! What can happen next, and what follows from it.

use migration_gate::agent::machine::Input;
use migration_gate::agent::signal::News;
use migration_gate::controller::snapshot::PodPhase;

use crate::api::{self, Course};
use crate::clock::Hour;
use crate::config::{Config, Fault, PodPlan};
use crate::intern::Id;
use crate::kubelet::{Site, is_reachable, news_of};
use crate::view::Decisions;
use crate::workloads::{Life, WORKLOADS, Workload, Workloads};
use crate::world::{
    Container, Controller, GROUPS, Label, Live, Local, Machine, NodeObject, PODS, Pod, Record, Said, Signal, Slot,
    State, Stop, Todo, Waited, Waits,
};

/// Something that happens. Numbers are of controllers, of pods or of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A watch brings a controller up to date.
    See(usize, Kind),
    /// A controller decides for a group.
    Decide(usize, usize, Hour),
    /// A controller's next write or read for a group reaches the API server; with a Lease that was silent long enough,
    /// or not.
    Deliver(usize, usize, bool),
    /// A kubelet starts the agent's container.
    Start(usize),
    /// A kubelet brings the signal volume up to date.
    Sync(usize),
    /// An agent does what it is about to do.
    Act(usize),
    /// The agent's targets are reachable.
    Targets(usize),
    /// The command ends with this exit code, by itself or because it was asked to.
    Ends(usize, i32),
    /// An agent's patience ends.
    Patience(usize),
    /// A kubelet notices that the pod is to go.
    Notice(usize),
    /// A kubelet kills what didn't stop in time.
    Finish(usize),
    /// A kubelet reports.
    Publish(usize),
    /// A missing pod is made.
    Create(usize),
    /// A pod of an older template is deleted.
    ScaleDown(usize),
    /// A node's Ready condition follows its machine, in the end.
    Ready(usize),
    /// A machine can be reached again.
    Heal(usize),
    /// A machine is switched on again.
    Return(usize),
    /// The pod garbage collector finds a pod without a node.
    Collect(usize),
    /// A taint is taken off again.
    Untaint(usize),
    /// A machine that runs gets a Node object again.
    Register(usize),
    /// The garbage collector looks at a record.
    Garbage(usize),
    /// A namespace that is being deleted takes a record along.
    Purge(usize),
    /// What a deleted workload owned is let go of, and the workload goes.
    LetGo(usize),
    /// A workload that was deleted goes after its pods.
    Vacate(usize),
    /// A workload takes over what was left alone of the one before it.
    Adopt(usize),
    /// A pod gets its label again.
    Relabel(usize),
    /// A record can be read again.
    Mend(usize),
    /// The longest time passes that an agent may need to end its command.
    Minute,
    /// The longest grace period of any pod passes.
    Hour,
    /// A fault, at a controller, pod or node.
    Fault(Fault, usize),
}

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pods.
    Pods,
    /// Records.
    Records,
    /// Nodes.
    Nodes,
    /// Workloads and their ReplicaSets.
    Workloads,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Pods, Kind::Records, Kind::Nodes, Kind::Workloads];
}

impl Config {
    /// The state in which everything begins: a new group, all pods created and none started.
    pub fn beginning(&self) -> State {
        let fresh = Local {
            fingerprint: 0,
            group: 0,
            process: None,
            container: Container::Waiting,
            before: None,
            journal: migration_gate::agent::journal::JournalView::EMPTY,
            message: Said::Nothing,
            news: News::NONE,
            leaving: false,
            app: false,
            emptied: false,
            forgetful: false,
            rewound: false,
        };
        let node = crate::world::Node {
            object: Some(NodeObject { uid: 0, ready: true, tainted: false }),
            machine: Machine::On,
            past: 0,
        };
        let workloads = Id::of(Workloads { each: [Workload::NEW; WORKLOADS], sets: [None; PODS] });
        let nodes = [node; crate::world::NODES];
        let future = [Id::of(Slot::Future); crate::world::PODS];
        let nobody = Controller {
            pods: future,
            records: [Id::of(None); GROUPS],
            nodes: Id::of(nodes.map(|node| node.object)),
            workloads,
            waited: [Waited::No; GROUPS],
            refused: 0,
            live: [Id::of(Live::default()); GROUPS],
            todo: [Id::of(Vec::new()); GROUPS],
        };
        let mut state = State {
            pods: future,
            locals: [Id::of(fresh); crate::world::PODS],
            nodes,
            records: [Id::of(None); GROUPS],
            workloads,
            dying: false,
            controllers: [nobody; crate::world::CONTROLLERS],
            faults: self.faults,
            ghost: crate::world::Ghost::default(),
        };
        let strangers = (0..self.pods.len()).filter(|slot| self.pods[*slot].stranger);
        (0..self.replicas).chain(strangers).for_each(|slot| self.create(&mut state, slot));
        // They were there when the controllers began.
        state.controllers.iter_mut().for_each(|controller| controller.workloads = state.workloads);
        state
    }

    fn create(&self, state: &mut State, slot: usize) {
        let PodPlan { workload: index, stranger, .. } = self.pods[slot];
        let workload = state.workloads.get().each[index];
        let (fingerprint, group) = self.template(index, workload);
        let pod = Pod {
            fingerprint,
            group,
            deleting: false,
            confirmed: false,
            phase: PodPhase::Pending,
            signal: Signal::None,
            passed: false,
            gate: false,
            held: false,
            label: Label::Kept,
            // What a stranger's container does is not modelled; it looks as if an agent ran in it.
            agent: if stranger { Container::Running } else { Container::Waiting },
            before: None,
        };
        if !stranger {
            state.change_workloads(|workloads| workloads.sets[slot] = Some(workload.incarnation));
        }
        state.pods[slot] = Id::of(Slot::Here(pod));
        state.locals[slot] = Id::of(Local { fingerprint, group, ..state.locals[slot].get().clone() });
    }

    /// Everything that can happen in this state.
    pub fn steps(&self, state: &State, decisions: &Decisions, steps: &mut Vec<Step>) {
        for who in 0..self.controllers {
            self.steps_of_controller(state, decisions, who, steps);
        }
        for slot in 0..self.pods.len() {
            self.steps_of_pod(state, slot, steps);
        }
        self.steps_of_workloads(state, steps);
        for node in 0..crate::world::NODES {
            let (object, machine) = (state.nodes[node].object, state.nodes[node].machine);
            if object.is_some_and(|object| object.ready != is_reachable(machine)) {
                steps.push(Step::Ready(node));
            }
            match machine {
                Machine::On if object.is_none() => steps.push(Step::Register(node)),
                Machine::On => {}
                Machine::Cut => steps.push(Step::Heal(node)),
                Machine::Off => steps.push(Step::Return(node)),
            }
            if object.is_some_and(|object| object.tainted) {
                steps.push(Step::Untaint(node));
            }
        }
        for group in 0..self.groups() {
            if state.records[group].get().as_ref().is_some_and(|record| record.garbled) {
                steps.push(Step::Mend(group));
            }
        }
        self.steps_of_time(state, steps);
        if state.faults > 0 {
            self.faults(state, steps);
        }
    }

    fn steps_of_controller(&self, state: &State, decisions: &Decisions, who: usize, steps: &mut Vec<Step>) {
        let beliefs = &state.controllers[who];
        for group in 0..self.groups() {
            match beliefs.todo[group].get().first() {
                None => {
                    let live = *beliefs.live[group].get() != Live::default();
                    let later = decisions.of(self, beliefs, group, Hour::Later);
                    if live || !later.get().is_empty() {
                        steps.push(Step::Decide(who, group, Hour::Later));
                    }
                    let same = decisions.of(self, beliefs, group, Hour::Same);
                    if same != later && !same.get().is_empty() {
                        steps.push(Step::Decide(who, group, Hour::Same));
                    }
                }
                Some(Todo::AskNode { node, .. }) => {
                    steps.push(Step::Deliver(who, group, false));
                    if !is_reachable(state.nodes[usize::from(*node)].machine) {
                        steps.push(Step::Deliver(who, group, true));
                    }
                }
                Some(_) => steps.push(Step::Deliver(who, group, false)),
            }
        }
        let late = [
            (Kind::Pods, (0..PODS).any(|slot| seen(beliefs.pods[slot], state.pods[slot]) != beliefs.pods[slot])),
            (Kind::Records, beliefs.records != state.records),
            (Kind::Nodes, beliefs.nodes != state.node_objects()),
            (Kind::Workloads, beliefs.workloads != state.workloads),
        ];
        steps.extend(late.into_iter().filter(|(_, late)| *late).map(|(kind, _)| Step::See(who, kind)));
    }

    fn steps_of_pod(&self, state: &State, slot: usize, steps: &mut Vec<Step>) {
        let node = &state.nodes[self.pods[slot].node];
        let reachable = is_reachable(node.machine);
        let found = state.pods[slot].get();
        if *found == Slot::Future {
            if self.is_missing(state, slot) {
                steps.push(Step::Create(slot));
            }
            return;
        }
        let local = state.locals[slot].get();
        let pod = found.pod();
        if let Some(pod) = pod {
            if self.is_surplus(state, slot) {
                steps.push(Step::ScaleDown(slot));
            }
            if pod.label == Label::Taken {
                steps.push(Step::Relabel(slot));
            }
            let orphaned = node.object.is_none() && pod.phase != PodPhase::Collected;
            let abandoned = pod.deleting && node.object.is_some_and(|object| object.tainted && !object.ready);
            if (orphaned || abandoned) && !pod.confirmed {
                steps.push(Step::Collect(slot));
            }
        }
        if self.pods[slot].stranger {
            return;
        }
        if node.machine == Machine::Off {
            return;
        }
        let waits = local.process.is_none_or(|process| process.doing.is_none());
        if reachable {
            let going = pod.is_none_or(|pod| pod.deleting || pod.is_terminal());
            if going && !local.leaving && waits {
                steps.push(Step::Notice(slot));
            }
            if let Some(pod) = pod {
                if waits && !local.leaving && local.news != news_of(&pod) {
                    steps.push(Step::Sync(slot));
                }
                let mut seen = *state;
                if Site::new(self, &mut seen, slot).reported(pod) != pod {
                    steps.push(Step::Publish(slot));
                }
            }
        }
        let Some(process) = local.process else {
            let done = local.app || matches!(local.container, Container::Exited(exit) if exit.zero);
            if !local.leaving && !done {
                steps.push(Step::Start(slot));
            }
            return;
        };
        if local.leaving {
            steps.push(Step::Finish(slot));
        }
        if process.doing.is_some() {
            steps.push(Step::Act(slot));
            return;
        }
        match process.waits {
            Waits::News => {}
            Waits::Targets => steps.push(Step::Targets(slot)),
            Waits::Patience => steps.push(Step::Patience(slot)),
            Waits::Command => {
                steps.push(Step::Ends(slot, 0));
                if process.command.is_some_and(|command| command.stop != Stop::No) {
                    steps.push(Step::Ends(slot, 1));
                }
            }
        }
    }

    /// What happens in a step. It must be possible.
    pub fn next(&self, before: &State, decisions: &Decisions, step: Step) -> State {
        let mut state = *before;
        match step {
            Step::See(who, kind) => self.see(&mut state, who, kind),
            Step::Decide(who, group, hour) => {
                state.controllers[who].todo[group] = decisions.of(self, &before.controllers[who], group, hour);
                state.controllers[who].live[group] = Id::of(Live::default());
            }
            Step::Deliver(who, group, silent) => api::deliver(self, &mut state, who, group, Course::Answered(silent)),
            Step::Start(slot) => self.at(&mut state, slot, |site| site.start()),
            Step::Sync(slot) => self.at(&mut state, slot, |site| site.sync()),
            Step::Act(slot) => self.at(&mut state, slot, |site| site.step(false)),
            Step::Targets(slot) => self.at(&mut state, slot, |site| site.hear(Input::TargetsReached)),
            Step::Ends(slot, code) => self.at(&mut state, slot, |site| site.command_ends(code)),
            Step::Patience(slot) => self.at(&mut state, slot, |site| site.hear(Input::LingerOver)),
            Step::Notice(slot) => self.at(&mut state, slot, |site| site.ask_to_stop()),
            Step::Finish(slot) => self.at(&mut state, slot, |site| site.kill()),
            Step::Publish(slot) => self.at(&mut state, slot, |site| site.publish()),
            Step::Create(slot) => self.create(&mut state, slot),
            Step::ScaleDown(slot) => {
                let stranger = self.pods[slot].stranger;
                change(&mut state, slot, |pod| (pod.deleting, pod.confirmed) = (true, pod.confirmed || stranger));
            }
            Step::Ready(node) => {
                let reachable = is_reachable(state.nodes[node].machine);
                if let Some(object) = &mut state.nodes[node].object {
                    object.ready = reachable;
                }
            }
            Step::Heal(node) => state.nodes[node].machine = Machine::On,
            Step::Return(node) => self.switch_on(&mut state, node),
            Step::Collect(slot) => {
                // Where the node is out of service, the garbage collector doesn't say that it was him (pkg/controller/podgc,
                // gcTerminating).
                let orphaned = state.nodes[self.pods[slot].node].object.is_none();
                let phase = if orphaned { PodPhase::Collected } else { PodPhase::Ended };
                change(&mut state, slot, |pod| {
                    if !pod.is_terminal() {
                        pod.phase = phase;
                    }
                    (pod.deleting, pod.confirmed) = (true, true);
                });
            }
            Step::Register(node) => self.register(&mut state, node),
            Step::Garbage(group) => self.collect_garbage(&mut state, group),
            Step::Purge(group) => api::delete_record(self, &mut state, group),
            Step::LetGo(index) => self.let_go(&mut state, index),
            Step::Vacate(index) => state.change_workload(index, |workload| workload.life = Life::Gone),
            Step::Adopt(index) => self.adopt(&mut state, index),
            Step::Relabel(slot) => change(&mut state, slot, |pod| pod.label = Label::Back),
            Step::Mend(group) => {
                if let Some(record) = state.records[group].get().clone() {
                    state.records[group] = Id::of(Some(Record { garbled: false, ..record }));
                }
            }
            Step::Minute => self.pass(&mut state, Waited::Minute),
            Step::Hour => self.pass(&mut state, Waited::Hour),
            Step::Untaint(node) => {
                if let Some(object) = &mut state.nodes[node].object {
                    object.tainted = false;
                }
            }
            Step::Fault(fault, at) => {
                state.faults -= 1;
                self.fail(&mut state, fault, at);
            }
        }
        if !self.distinct {
            state.controllers[..self.controllers].sort_unstable();
        }
        state
    }

    pub(crate) fn at(&self, state: &mut State, slot: usize, what: impl FnOnce(&mut Site<'_>)) {
        let mut site = Site::new(self, state, slot);
        what(&mut site);
        site.leave();
    }

    pub(crate) fn see(&self, state: &mut State, who: usize, kind: Kind) {
        let (pods, records, nodes, workloads) = (state.pods, state.records, state.node_objects(), state.workloads);
        let beliefs = &mut state.controllers[who];
        match kind {
            Kind::Pods => (0..PODS).for_each(|slot| beliefs.pods[slot] = seen(beliefs.pods[slot], pods[slot])),
            Kind::Records => (0..GROUPS).for_each(|group| beliefs.believe(group, records[group])),
            Kind::Nodes => beliefs.nodes = nodes,
            Kind::Workloads => beliefs.workloads = workloads,
        }
    }

    pub(crate) fn switch_on(&self, state: &mut State, node: usize) {
        state.nodes[node].machine = Machine::On;
        if state.nodes[node].object.is_none() {
            self.register(state, node);
        }
        for slot in self.pods_on(node) {
            self.at(state, slot, |site| site.boot());
        }
    }

    /// A kubelet that finds no Node object of its own makes one.
    fn register(&self, state: &mut State, node: usize) {
        let uid = state.nodes[node].past;
        state.nodes[node].object = Some(NodeObject { uid, ready: false, tainted: false });
    }

    pub(crate) fn pods_on(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.pods.len()).filter(move |slot| self.pods[*slot].node == node)
    }
}

/// What a watch makes of what was known of a slot: how a pod went is seen once, and not again.
fn seen(known: Id<Slot>, now: Id<Slot>) -> Id<Slot> {
    if known == now {
        return known;
    }
    let watched = now.get().watched();
    match (known.get(), watched) {
        (Slot::Gone(_), Slot::Gone(_)) => known,
        _ => Id::of(watched),
    }
}

/// Changes a pod that is there.
pub(crate) fn change(state: &mut State, slot: usize, what: impl FnOnce(&mut Pod)) {
    let Some(mut pod) = state.pod(slot) else { return };
    what(&mut pod);
    state.set_pod(slot, pod);
}
