//! From a controller's beliefs to the real decision, and back: numbers get names, and the actions get numbers again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use migration_gate::contract::ending::LONGEST_ENDING;
use migration_gate::contract::{RECORD_FINALIZER, Report, Run, Settled, Signal as RealSignal, Trace, Verdict};
use migration_gate::controller::decide::decide;
use migration_gate::controller::decision::{Action, Hold, PodRef, RecordRef, Rules};
use migration_gate::controller::evidence::{NODE_SILENCE, Question};
use migration_gate::controller::snapshot::{
    AgentState, Asked as RealAsked, Exit as RealExit, Found, Guards, LastSight, Live as RealLive, LiveNode,
    Node as RealNode, Owner, Pod as RealPod, Record as RealRecord, RecordView, Snapshot, Unreadable, Workload,
};
use migration_gate::migration::MigrationGateStatus;
use migration_gate::settings::Policy;

use crate::clock::Hour;
use crate::config::Config;
use crate::intern::Id;
use crate::workloads::{Life, Workload as ModelWorkload, owner_bit, owners};
use crate::world::{
    Asked, Container, Controller, Exit, GROUPS, Label, Live, NODES, NodeObject, PODS, Pod, Record, Said, Signal, Slot,
    Todo, Waited,
};

/// Every time that is ever recorded ([`crate::clock`]).
const RECORDED: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

/// The grace period of a patient pod, in seconds.
const GRACE: u32 = 1800;

/// The workloads' time limit, in seconds, if they have one.
pub const TIME_LIMIT: u64 = 60;

static NOTHING_TO_DO: LazyLock<[Id<Vec<Todo>>; GROUPS]> = LazyLock::new(|| [Id::of(Vec::new()); GROUPS]);
static NOTHING_ANSWERED: LazyLock<[Id<Live>; GROUPS]> = LazyLock::new(|| [Id::of(Live::default()); GROUPS]);

/// The decisions made so far: what was believed, and what followed.
#[derive(Debug, Default)]
pub struct Decisions(RwLock<Known>);

/// By what is believed, the group and the time.
type Known = HashMap<(Controller, usize, Hour), Id<Vec<Todo>>, BuildHasherDefault<DefaultHasher>>;

impl Decisions {
    /// What the real controller does, believing this.
    pub fn of(&self, config: &Config, beliefs: &Controller, group: usize, hour: Hour) -> Id<Vec<Todo>> {
        // What is being done for one group makes no difference to what is decided for another.
        let (todo, mut live) = (*NOTHING_TO_DO, *NOTHING_ANSWERED);
        live[group] = beliefs.live[group];
        let key = (Controller { todo, live, ..*beliefs }, group, hour);
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *known;
        }
        let todo = Id::of(decided(config, beliefs, group, hour));
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, todo);
        todo
    }
}

fn decided(config: &Config, beliefs: &Controller, group: usize, hour: Hour) -> Vec<Todo> {
    let now = time(match hour {
        Hour::Same => RECORDED,
        Hour::Later => RECORDED + HOUR,
    });
    let mut snapshot = snapshot(config, beliefs, group, now);
    if let Some(mutant) = config.mutant {
        mutant.bend(&mut snapshot, beliefs);
    }
    let rules = Rules { node_deletion: config.node_deletion };
    let decision = decide(&snapshot, rules, now);
    let at = beliefs.records[group];
    let incarnation = at.get().as_ref().map_or(0, |record| record.incarnation);
    let mut todo = Vec::new();
    let (looks, rest): (Vec<Action>, Vec<Action>) =
        decision.actions.into_iter().partition(|action| matches!(action, Action::Look(..)));
    let (opens, writes): (Vec<Action>, Vec<Action>) =
        rest.into_iter().partition(|action| matches!(action, Action::Open(_)));
    for action in writes.into_iter().chain(opens).chain(looks) {
        match action {
            Action::Open(pods) => todo.extend(pods.iter().map(|pod| Todo::Open { slot: slot_of(&pod.name) })),
            Action::Look(Question::Pods, _) => todo.push(Todo::AskPods { asked: Asked::Pods(incarnation) }),
            Action::Look(Question::Elders, _) => todo.push(Todo::AskElders { asked: Asked::Elders(at) }),
            Action::Look(question, active) => {
                let Some(active) = active else { continue };
                let (attempt, slot) = (small(active.attempt), slot_of(&active.pod_name));
                let asked = Asked::Runner(attempt, slot);
                // The pod is read last, as the real reader does.
                if question == Question::RunnerAndNode {
                    let node = u8::try_from(config.pods[usize::from(slot)].node).unwrap_or_default();
                    todo.push(Todo::AskNode { asked, node });
                }
                todo.push(Todo::AskRunner { asked, slot });
            }
            Action::Complain(_) => todo.push(Todo::Complain { incarnation }),
            other => todo.push(compact(other)),
        }
    }
    match config.mutant {
        Some(mutant) => mutant.twist(todo, &snapshot, rules, now),
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
            let (slot, limited) = (slot_of(&at.name), run.timeout_seconds.is_some());
            Todo::Signal { slot, at: pod_at(&at), attempt: small(run.attempt), limited }
        }
        Action::Settle(at, settlement) => Todo::Settle {
            slot: slot_of(&at.name),
            at: pod_at(&at),
            mark: settlement.mark.map(small),
            keep: settlement.hold == Hold::Keep,
            open: settlement.open.is_some(),
        },
        // These have names and numbers of their own.
        Action::Open(_) | Action::Complain(_) | Action::Look(..) => Todo::AskPods { asked: Asked::Pods(0) },
    }
}

/// The snapshot that the real controller would make of these beliefs.
pub fn snapshot(config: &Config, beliefs: &Controller, group: usize, now: Timestamp) -> Snapshot {
    let named = |slots: &[Id<Slot>; PODS]| -> Vec<RealPod> {
        let pods = slots.iter().enumerate().filter_map(|(slot, id)| Some((slot, *id, id.get().pod()?)));
        let ours = pods.filter(|(.., found)| usize::from(found.group) == group);
        ours.map(|(slot, id, found)| pod(config, slot, id, &found)).collect()
    };
    let nodes = beliefs.nodes.get();
    let live = beliefs.live[group].get();
    let present = |id: Id<Option<Record>>| Some(real_record(id, id.get().as_ref()?));
    let workloads: Vec<Workload> = (0..config.workloads)
        .filter_map(|index| Some((index, beliefs.workloads.get().each[index])).filter(|(_, each)| each.is_gated()))
        .filter(|(index, each)| config.group_of(*index, *each) == group)
        .map(|(index, each)| workload(config, index, each))
        .collect();
    let record = present(beliefs.records[group]).map(|record| RealRecord {
        fenced_since: now
            .checked_sub(match beliefs.waited[group] {
                Waited::No => Duration::ZERO,
                Waited::Minute => LONGEST_ENDING,
                // Every pod's grace period is over.
                Waited::Hour => Duration::from_secs(HOUR.unsigned_abs()),
            })
            .ok(),
        ..record
    });
    let others = (0..GROUPS).filter(|other| *other != group).filter_map(|other| present(beliefs.records[other]));
    let precedes = |record: &RealRecord| {
        !record.unreadable && record.electorate().any(|member| workloads.iter().any(|each| member.precedes(each)))
    };
    Snapshot {
        namespace: "shop".to_owned(),
        name: group_name(group),
        last_sight: record.as_ref().map_or(LastSight::None, |record| last_sight(beliefs, record)),
        record: match record {
            Some(record) if record.unreadable => RecordView::Unreadable(Unreadable {
                name: record.name,
                uid: record.uid,
                resource_version: record.resource_version,
                created: time(RECORDED),
                why: String::new(),
            }),
            Some(record) => RecordView::Present(Arc::new(record)),
            None if beliefs.refused & (1 << group) != 0 => RecordView::Refused,
            None => RecordView::Missing,
        },
        pods: named(&beliefs.pods).into(),
        replica_sets: replica_sets(config, beliefs),
        nodes: (0..NODES)
            .filter_map(|node| Some((node_name(node), real_node(node, &nodes[node]?))))
            .collect::<BTreeMap<_, _>>(),
        elders: others.filter(precedes).map(Arc::new).collect(),
        workloads,
        live: real_live(config, live, named, present),
    }
}

/// How the active attempt's pod went, as this controller saw it.
fn last_sight(beliefs: &Controller, record: &RealRecord) -> LastSight {
    let active = record.status.as_ref().and_then(|status| status.active.as_ref());
    match active.map(|active| beliefs.pods[usize::from(slot_of(&active.pod_name))].get()) {
        Some(Slot::Gone(sight)) => *sight,
        _ => LastSight::None,
    }
}

fn replica_sets(config: &Config, beliefs: &Controller) -> BTreeMap<Arc<str>, Arc<str>> {
    let sets = config.pods.iter().zip(beliefs.workloads.get().sets).enumerate();
    sets.filter_map(|(slot, (plan, owner))| Some((set_uid(slot).into(), workload_uid(plan.workload, owner?).into())))
        .collect()
}

fn real_live(
    config: &Config,
    live: &Live,
    named: impl Fn(&[Id<Slot>; PODS]) -> Vec<RealPod>,
    present: impl Fn(Id<Option<Record>>) -> Option<RealRecord>,
) -> RealLive {
    let runner = live.runner.map(|(slot, id)| match id.get().pod() {
        Some(found) if found.label == Label::Taken => Found::Unlabelled,
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
    let elders = live.elder.map(|elder| present(elder).into_iter().map(Arc::new).collect());
    RealLive { asked, runner, node, pods: live.pods.map(|pods| named(&pods)), elders }
}

fn real_record(id: Id<Option<Record>>, record: &Record) -> RealRecord {
    // Of one that can't be read, the metadata is all that is known.
    let status = record.status.clone().filter(|status| !record.garbled && status.says_anything());
    RealRecord {
        name: group_name(record.group.into()),
        uid: record.incarnation.to_string(),
        resource_version: id.number().to_string(),
        generation: Some(i64::try_from(record.orders.len()).unwrap_or(i64::MAX)),
        deleting: record.deleting,
        managed: true,
        finalizers: if record.protected { vec![RECORD_FINALIZER.to_owned()] } else { Vec::new() },
        owners: owners(record.owners).map(|(index, incarnation)| owner(index, incarnation)).collect(),
        overrides: record.orders.clone(),
        status,
        fenced_since: None,
        unreadable: record.garbled,
    }
}

fn owner(index: usize, incarnation: u8) -> Owner {
    Owner {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: workload_name(index),
        uid: workload_uid(index, incarnation),
    }
}

fn workload(config: &Config, index: usize, workload: ModelWorkload) -> Workload {
    let timeout = config.limited.then_some(Duration::from_secs(TIME_LIMIT));
    Workload {
        name: workload_name(index),
        uid: workload_uid(index, workload.incarnation),
        generation: workload.generation(),
        deleting: workload.life != Life::Alive,
        fingerprint: fingerprint(config.fingerprint(index, workload)),
        image: String::new(),
        command: String::new(),
        revision: None,
        policy: Ok(Policy { timeout, backoff_limit: config.backoff_limit, suspend: config.suspended }),
    }
}

fn pod(config: &Config, slot: usize, id: Id<Slot>, pod: &Pod) -> RealPod {
    let (uid, stranger) = (pod_uid(slot), config.pods[slot].stranger);
    let signal = match pod.signal {
        Signal::None => None,
        Signal::Run(attempt, limited) => {
            let timeout_seconds = limited.then_some(TIME_LIMIT);
            Some(RealSignal::Run(Run { pod_uid: uid.clone(), attempt: attempt.into(), timeout_seconds }))
        }
        Signal::Settled(attempt) => {
            Some(RealSignal::Settled(Settled { pod_uid: uid.clone(), attempt: attempt.into() }))
        }
    };
    RealPod {
        name: format!("p{slot}"),
        resource_version: id.number().to_string(),
        created: time(RECORDED + i64::try_from(slot).unwrap_or_default() - if stranger { HOUR } else { 0 }),
        fingerprint: fingerprint(pod.fingerprint),
        controller: (!stranger).then(|| set_uid(slot).into()),
        deleting: pod.deleting,
        phase: pod.phase,
        node: Some(node_name(config.pods[slot].node)),
        signal: signal.map(Box::new),
        passed: pod.passed,
        agent_since: time(RECORDED),
        agent_restarts: 0,
        grace_seconds: if config.patient { GRACE } else { 30 },
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
    status.fenced.iter_mut().for_each(|fenced| fenced.at = then);
    for migration in &mut status.migrations {
        migration.tried_at = migration.tried_at.map(|_| then);
        for attempt in &mut migration.attempts {
            attempt.elected = then;
            attempt.recorded = then;
        }
    }
    status.overrides.iter_mut().for_each(|taken| taken.at = then);
    let texts = status.conditions.iter_mut().map(|condition| {
        condition.last_transition_time = then;
        &mut condition.message
    });
    // What people read has times as well, an hour later.
    texts.chain(&mut status.message).for_each(|text| *text = text.replace("T09:", "T08:"));
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

fn set_uid(slot: usize) -> String {
    format!("r{slot}")
}

fn workload_name(index: usize) -> String {
    format!("w{index}")
}

fn workload_uid(index: usize, incarnation: u8) -> String {
    format!("w{index}-{incarnation}")
}

/// The bit of this workload among a record's owners.
fn bit_of(workload: &Workload) -> u8 {
    let incarnation = workload.uid.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    owner_bit(slot_of(&workload.name).into(), incarnation)
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
    workloads.iter().fold(0, |bits, workload| bits | bit_of(workload))
}

fn record_at(at: &RecordRef) -> Id<Option<Record>> {
    Id::numbered(at.resource_version.parse().unwrap_or(u32::MAX))
}

fn pod_at(at: &PodRef) -> Id<Slot> {
    Id::numbered(at.resource_version.parse().unwrap_or(u32::MAX))
}
