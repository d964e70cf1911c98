//! From a controller's beliefs to the real decision, and back: numbers get names, and the actions get numbers again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{LazyLock, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use migration_gate::contract::{RECORD_FINALIZER, Report, Run, Settled, Signal as RealSignal, Trace, Verdict};
use migration_gate::controller::decide::decide;
use migration_gate::controller::decision::{Action, Hold, PodRef, RecordRef, Rules};
use migration_gate::controller::evidence::{NODE_SILENCE, Question};
use migration_gate::controller::snapshot::{
    AgentState, Asked as RealAsked, Exit as RealExit, Found, Guards, Live as RealLive, LiveNode, Node as RealNode,
    Owner, Pod as RealPod, Record as RealRecord, RecordView, Snapshot, Workload,
};
use migration_gate::migration::MigrationGateStatus;
use migration_gate::settings::Policy;

use crate::config::Config;
use crate::intern::Id;
use crate::world::{
    Asked, Container, Controller, Exit, GROUPS, Live, NODES, NodeObject, PODS, Pod, Record, Said, Signal, Slot, Todo,
};

/// Every time that is ever recorded. A decision's own time is so much later that no back-off holds: a back-off that
/// does hold is a controller that isn't heard of for a while.
const RECORDED: i64 = 1_800_000_000;
const LATER: i64 = RECORDED + 3600;

static NOTHING_TO_DO: LazyLock<[Id<Vec<Todo>>; GROUPS]> = LazyLock::new(|| [Id::of(Vec::new()); GROUPS]);
static NOTHING_ANSWERED: LazyLock<[Id<Live>; GROUPS]> = LazyLock::new(|| [Id::of(Live::default()); GROUPS]);

/// The decisions made so far: what was believed, and what followed.
#[derive(Debug, Default)]
pub struct Decisions(RwLock<Known>);

/// By what is believed, and the group.
type Known = HashMap<(Controller, usize), Id<Vec<Todo>>, BuildHasherDefault<DefaultHasher>>;

impl Decisions {
    /// What the real controller does, believing this.
    pub fn of(&self, config: &Config, beliefs: &Controller, group: usize) -> Id<Vec<Todo>> {
        // What is being done for one group makes no difference to what is decided for another.
        let (todo, mut live) = (*NOTHING_TO_DO, *NOTHING_ANSWERED);
        live[group] = beliefs.live[group];
        let key = (Controller { todo, live, ..*beliefs }, group);
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *known;
        }
        let todo = Id::of(decided(config, beliefs, group));
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, todo);
        todo
    }
}

fn decided(config: &Config, beliefs: &Controller, group: usize) -> Vec<Todo> {
    let mut snapshot = snapshot(config, beliefs, group);
    if let Some(mutant) = config.mutant {
        mutant.bend(&mut snapshot, beliefs);
    }
    let rules = Rules { node_deletion: config.node_deletion };
    let decision = decide(&snapshot, rules, time(LATER));
    let active = match &snapshot.record {
        RecordView::Present(record) => record.status.as_ref().and_then(|status| status.active.as_ref()),
        _ => None,
    };
    let runner = active.map(|active| (small(active.attempt), slot_of(&active.pod_name)));
    let at = beliefs.records[group];
    let incarnation = at.get().as_ref().map_or(0, |record| record.incarnation);
    let mut todo = Vec::new();
    let (looks, rest): (Vec<Action>, Vec<Action>) =
        decision.actions.into_iter().partition(|action| matches!(action, Action::Look(_)));
    let (opens, writes): (Vec<Action>, Vec<Action>) =
        rest.into_iter().partition(|action| matches!(action, Action::Open(_)));
    for action in writes.into_iter().chain(opens).chain(looks) {
        match action {
            Action::Open(pods) => todo.extend(pods.iter().map(|pod| Todo::Open { slot: slot_of(&pod.name) })),
            Action::Look(Question::Pods) => todo.push(Todo::AskPods { asked: Asked::Pods(incarnation) }),
            Action::Look(Question::Elders) => todo.push(Todo::AskElders { asked: Asked::Elders(at) }),
            Action::Look(question) => {
                let Some((attempt, slot)) = runner else { continue };
                let asked = Asked::Runner(attempt, slot);
                // The pod is read last, as the real reader does.
                if question == Question::RunnerAndNode {
                    let node = u8::try_from(config.pods[usize::from(slot)].node).unwrap_or_default();
                    todo.push(Todo::AskNode { asked, node });
                }
                todo.push(Todo::AskRunner { asked, slot });
            }
            other => todo.push(compact(other)),
        }
    }
    match config.mutant {
        Some(mutant) => mutant.twist(todo, &snapshot, rules, time(LATER)),
        None => todo,
    }
}

/// An action with numbers for names.
pub fn compact(action: Action) -> Todo {
    match action {
        Action::CreateRecord(owners) => Todo::Create { owners: mask(&owners) },
        Action::Own(at, owners) => Todo::Own { at: record_at(&at), owners: mask(&owners) },
        Action::Protect(at) => Todo::Protect { at: record_at(&at) },
        Action::Release(at) => Todo::Release { at: record_at(&at) },
        Action::Delete(at) => Todo::Delete { at: record_at(&at) },
        Action::WriteStatus(at, status) => {
            let status = Id::of(timeless(*status));
            Todo::Write { group: group_named(&at.name), at: record_at(&at), status }
        }
        Action::Signal(at, run, _) => {
            Todo::Signal { slot: slot_of(&at.name), at: pod_at(&at), attempt: small(run.attempt) }
        }
        Action::Settle(at, settlement) => Todo::Settle {
            slot: slot_of(&at.name),
            at: pod_at(&at),
            mark: settlement.mark.map(small),
            keep: settlement.hold == Hold::Keep,
            open: settlement.open.is_some(),
        },
        // There is no record here that can't be read, and passes and questions have names and numbers of their own.
        Action::Open(_) | Action::Complain(_) | Action::Look(_) => Todo::AskPods { asked: Asked::Pods(0) },
    }
}

/// The snapshot that the real controller would make of these beliefs.
pub fn snapshot(config: &Config, beliefs: &Controller, group: usize) -> Snapshot {
    let named = |slots: &[Id<Slot>; PODS]| -> Vec<RealPod> {
        let pods = slots.iter().enumerate().filter_map(|(slot, id)| Some((slot, *id, id.get().pod()?)));
        let ours = pods.filter(|(.., found)| usize::from(found.group) == group);
        ours.map(|(slot, id, found)| pod(config, slot, id, &found)).collect()
    };
    let nodes = beliefs.nodes.get();
    let live = beliefs.live[group].get();
    let present = |id: Id<Option<Record>>| Some(real_record(id, id.get().as_ref()?, config, beliefs.revision));
    let here = (0..config.workloads).filter(|index| config.group_of(*index, beliefs.revision) == group);
    let workloads: Vec<Workload> = here.map(|index| workload(config, index, beliefs.revision)).collect();
    let others = (0..GROUPS).filter(|other| *other != group).filter_map(|other| present(beliefs.records[other]));
    let owned = |record: &RealRecord| record.owners.iter().any(|owner| workloads.iter().any(|w| owner.precedes(w)));
    Snapshot {
        namespace: "shop".to_owned(),
        name: group_name(group),
        record: present(beliefs.records[group])
            .map_or(RecordView::Missing, |record| RecordView::Present(Box::new(record))),
        pods: named(&beliefs.pods).into(),
        nodes: (0..NODES)
            .filter_map(|node| Some((node_name(node), real_node(node, &nodes[node]?))))
            .collect::<BTreeMap<_, _>>(),
        elders: others.filter(owned).collect(),
        workloads,
        live: real_live(config, live, named, present),
    }
}

fn real_live(
    config: &Config,
    live: &Live,
    named: impl Fn(&[Id<Slot>; PODS]) -> Vec<RealPod>,
    present: impl Fn(Id<Option<Record>>) -> Option<RealRecord>,
) -> RealLive {
    let runner = live.runner.map(|(slot, id)| match id.get().pod() {
        Some(found) => Found::Here(pod(config, usize::from(slot), id, &found)),
        None => Found::Gone,
    });
    let node_index = live.runner.map_or(0, |(slot, _)| config.pods[usize::from(slot)].node);
    let node = live.node.map(|(object, silent)| match object {
        Some(object) => Found::Here(LiveNode {
            node: real_node(node_index, &object),
            silent_for: if silent { NODE_SILENCE } else { Duration::ZERO },
        }),
        None => Found::Gone,
    });
    let asked = live.asked.map(|asked| match asked {
        Asked::Runner(attempt, slot) => RealAsked::Runner(attempt.into(), pod_uid(slot.into())),
        Asked::Pods(incarnation) => RealAsked::Pods(incarnation.to_string()),
        Asked::Elders(at) => {
            let incarnation = at.get().as_ref().map_or(0, |record| record.incarnation);
            RealAsked::Elders(incarnation.to_string(), at.number().to_string())
        }
    });
    let elders = live.elder.map(|elder| present(elder).into_iter().collect());
    RealLive { asked, runner, node, pods: live.pods.map(|pods| named(&pods)), elders }
}

fn real_record(id: Id<Option<Record>>, record: &Record, config: &Config, revision: u8) -> RealRecord {
    let owner = |index: &usize| record.owners & (1 << index) != 0;
    RealRecord {
        name: group_name(record.group.into()),
        uid: record.incarnation.to_string(),
        resource_version: id.number().to_string(),
        generation: Some(i64::try_from(record.orders.len()).unwrap_or(i64::MAX)),
        deleting: record.deleting,
        managed: true,
        finalizers: if record.protected { vec![RECORD_FINALIZER.to_owned()] } else { Vec::new() },
        owners: (0..config.workloads)
            .filter(owner)
            .map(|index| Owner::of(&workload(config, index, revision)))
            .collect(),
        overrides: record.orders.clone(),
        status: record.status.clone(),
    }
}

fn workload(config: &Config, index: usize, revision: u8) -> Workload {
    Workload {
        name: format!("w{index}"),
        uid: format!("w{index}-uid"),
        generation: 1 + i64::from(if index == 0 { revision } else { 0 }),
        deleting: false,
        fingerprint: fingerprint(config.fingerprint(index, revision)),
        image: String::new(),
        command: String::new(),
        revision: None,
        policy: Ok(Policy { timeout: None, backoff_limit: config.backoff_limit, suspend: false }),
    }
}

fn pod(config: &Config, slot: usize, id: Id<Slot>, pod: &Pod) -> RealPod {
    let uid = pod_uid(slot);
    let signal = match pod.signal {
        Signal::None => None,
        Signal::Run(attempt) => {
            Some(RealSignal::Run(Run { pod_uid: uid.clone(), attempt: attempt.into(), timeout_seconds: None }))
        }
        Signal::Settled(attempt) => {
            Some(RealSignal::Settled(Settled { pod_uid: uid.clone(), attempt: attempt.into() }))
        }
    };
    RealPod {
        name: format!("p{slot}"),
        resource_version: id.number().to_string(),
        created: time(RECORDED + i64::try_from(slot).unwrap_or_default()),
        fingerprint: fingerprint(pod.fingerprint),
        deleting: pod.deleting,
        phase: pod.phase,
        node: Some(node_name(config.pods[slot].node)),
        signal: signal.map(Box::new),
        passed: pod.passed,
        agent_since: time(RECORDED),
        agent_restarts: 0,
        gate_open: pod.gate,
        held: pod.held,
        guards: Guards::default(),
        our_guards: Guards::default(),
        agent: match pod.agent {
            Container::Waiting => AgentState::Waiting,
            Container::Running => AgentState::Running,
            Container::Exited(exit) => AgentState::Exited(real_exit(slot, exit)),
        },
        agent_before: pod.before.map(|exit| real_exit(slot, exit)),
        uid,
    }
}

fn real_exit(slot: usize, exit: Exit) -> RealExit {
    let pod_uid = pod_uid(slot);
    let report = match exit.said {
        Said::Nothing => None,
        Said::Trace(attempt) => Some(Report::Trace(Trace { attempt: attempt.into(), pod_uid, started: 0 })),
        Said::Verdict(attempt, outcome) => Some(Report::Verdict(Verdict {
            attempt: attempt.into(),
            pod_uid,
            outcome,
            exit_code: None,
            signal: None,
            start: None,
            end: None,
        })),
    };
    RealExit { real: exit.real, out_of_memory: false, report: report.map(Box::new), tail: String::new() }
}

fn real_node(node: usize, object: &NodeObject) -> RealNode {
    RealNode {
        uid: format!("n{node}-uid-{}", object.uid),
        ready: object.ready,
        out_of_service: object.tainted,
        leaving: false,
    }
}

/// The same status with every time the same: a state must not differ by when it came about.
fn timeless(mut status: MigrationGateStatus) -> MigrationGateStatus {
    let then = time(RECORDED);
    status.waiting = 0;
    if let Some(active) = &mut status.active {
        active.elected_at = then;
        active.signalled_at = active.signalled_at.map(|_| then);
    }
    for attempt in status.migrations.iter_mut().flat_map(|migration| &mut migration.attempts) {
        attempt.elected = then;
        attempt.recorded = then;
    }
    status.overrides.iter_mut().for_each(|taken| taken.at = then);
    status.conditions.iter_mut().for_each(|condition| condition.last_transition_time = then);
    status
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

/// The fingerprint as pods carry it.
pub fn fingerprint(number: u8) -> String {
    format!("{number:032x}")
}

/// The number of a fingerprint.
pub fn fingerprint_number(text: &str) -> u8 {
    u8::from_str_radix(text, 16).unwrap_or(u8::MAX)
}

/// The UID of a pod.
pub fn pod_uid(slot: usize) -> String {
    format!("p{slot}-uid")
}

fn node_name(node: usize) -> String {
    format!("n{node}")
}

fn group_name(group: usize) -> String {
    format!("g{group}")
}

/// The group with this name.
fn group_named(name: &str) -> u8 {
    slot_of(name)
}

/// The slot of the pod with this name.
pub fn slot_of(name: &str) -> u8 {
    name[1..].parse().unwrap_or(u8::MAX)
}

fn small(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn mask(workloads: &[Workload]) -> u8 {
    workloads.iter().fold(0, |bits, workload| bits | 1 << slot_of(&workload.name))
}

fn record_at(at: &RecordRef) -> Id<Option<Record>> {
    Id::numbered(at.resource_version.parse().unwrap_or(u32::MAX))
}

fn pod_at(at: &PodRef) -> Id<Slot> {
    Id::numbered(at.resource_version.parse().unwrap_or(u32::MAX))
}
