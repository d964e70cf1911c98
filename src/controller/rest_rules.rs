//! A decision that is fed its own result comes to rest, whatever the group looks like, and asks for few writes on the way.
//!
//! The world here is the smallest that carries out every action at once: no watch is late and no write fails, which is
//! what the model is for. What it has instead is size: dozens of workloads, hundreds of pods, and histories beyond every
//! limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::contract::{Outcome, RECORD_FINALIZER, Run, Settled, Signal};
use crate::migration::{Attempt, AttemptOutcome, Migration, MigrationGateStatus, Override, OverrideAction, Phase};
use crate::settings::Policy;

use super::budget::SUCCEEDED_KEPT;
use super::decide::decide;
use super::decision::{Action, Hold, PodRef, RecordRef};
use super::evidence::Question;
use super::snapshot::{AgentState, Asked, Live, Owner, Pod, Record, RecordView, Snapshot, Workload};
use super::testing::{RULES, at, node, pod, policy, verdict, workload};

/// Status writes of one record that one change may lead to: a success takes six (elected, signalled, ended, and what is
/// said for people in between), a failure the same.
const WRITES_PER_CHANGE: usize = 8;
/// Decisions in a row for one group that ask for something, the pods that are settled one by one aside.
const ROUNDS: usize = 16;

/// A namespace.
struct World {
    now: Timestamp,
    version: u64,
    /// Each workload, and the name of its group's record.
    workloads: Vec<(String, Workload)>,
    pods: BTreeMap<String, (String, Pod)>,
    records: BTreeMap<String, Record>,
    /// Status writes since the last change, by record.
    writes: BTreeMap<String, usize>,
}

impl World {
    fn new() -> World {
        let (workloads, pods) = (Vec::new(), BTreeMap::new());
        World { now: at(0), version: 100, workloads, pods, records: BTreeMap::new(), writes: BTreeMap::new() }
    }

    fn groups(&self) -> BTreeSet<String> {
        let named = self.workloads.iter().map(|(group, _)| group).chain(self.pods.values().map(|(group, _)| group));
        named.chain(self.records.keys()).cloned().collect()
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn snapshot(&self, group: &str, live: Live) -> Snapshot {
        let here = self.workloads.iter().filter(|(of, _)| of == group);
        let mut workloads: Vec<Workload> = here.map(|(_, workload)| workload.clone()).collect();
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        let others = self.records.iter().filter(|(name, _)| *name != group).map(|(_, record)| record);
        let precedes = |record: &&Record| {
            record.electorate().any(|member| workloads.iter().any(|workload| member.precedes(workload)))
        };
        Snapshot {
            namespace: "shop".to_owned(),
            name: group.to_owned(),
            record: match self.records.get(group) {
                Some(record) => RecordView::Present(Arc::new(record.clone())),
                None => RecordView::Missing,
            },
            elders: others.filter(precedes).cloned().map(Arc::new).collect(),
            workloads,
            pods: self.pods_of(group).into(),
            replica_sets: BTreeMap::new(),
            nodes: [("node-1".to_owned(), node())].into(),
            last_sight: Default::default(),
            live,
        }
    }

    fn pods_of(&self, group: &str) -> Vec<Pod> {
        self.pods.values().filter(|(of, _)| of == group).map(|(_, pod)| pod.clone()).collect()
    }

    /// Decides for a group and does what was decided, until nothing more is asked. Returns when time alone may change that.
    fn settle(&mut self, group: &str) -> Option<Timestamp> {
        let mut live = Live::default();
        let (mut rounds, mut trail) = (0, Vec::new());
        loop {
            let decision = decide(&self.snapshot(group, std::mem::take(&mut live)), RULES, self.now);
            if decision.actions.is_empty() {
                return decision.look_again_at;
            }
            rounds += 1;
            trail.push(decision.actions.iter().map(brief).collect::<Vec<_>>());
            assert!(rounds <= ROUNDS, "{group} does not come to rest: {trail:#?}");
            for action in decision.actions {
                live = self.carry_out(group, action).unwrap_or(live);
            }
        }
    }

    /// Lets every group come to rest, also from what the others did. Returns the earliest time to look again.
    fn rest(&mut self) -> Option<Timestamp> {
        for _ in 0..4 {
            let before = self.version;
            let again = self.groups().iter().filter_map(|group| self.settle(group)).min();
            if self.version == before {
                for (record, writes) in std::mem::take(&mut self.writes) {
                    assert!(writes <= WRITES_PER_CHANGE, "{record} was written {writes} times");
                }
                return again;
            }
        }
        panic!("the groups keep each other busy");
    }

    fn carry_out(&mut self, group: &str, action: Action) -> Option<Live> {
        let version = self.next_version();
        match action {
            Action::CreateRecord(owners) => {
                let record = Record {
                    name: group.to_owned(),
                    uid: format!("uid-of-{group}"),
                    resource_version: version,
                    generation: Some(1),
                    deleting: false,
                    managed: true,
                    finalizers: Vec::new(),
                    owners: owners.iter().map(Owner::of).collect(),
                    overrides: Vec::new(),
                    status: None,
                    fenced_since: None,
                    unreadable: false,
                };
                self.records.insert(group.to_owned(), record);
            }
            Action::Own(at, owners) => self.record(&at, version).owners.extend(owners.iter().map(Owner::of)),
            Action::Protect(at) => self.record(&at, version).finalizers.push(RECORD_FINALIZER.to_owned()),
            Action::Release(at) => self.record(&at, version).finalizers.clear(),
            Action::Delete(at) => {
                self.record(&at, version);
                self.records.remove(&at.name);
            }
            Action::WriteStatus(at, status) => {
                *self.writes.entry(at.name.clone()).or_default() += 1;
                let now = self.now;
                let record = self.record(&at, version);
                let before = record.status.as_ref();
                let lost = |fingerprint: &&String| !status.has_succeeded(fingerprint);
                let lost: Vec<_> = before.iter().flat_map(|before| &before.succeeded).filter(lost).collect();
                let full = status.succeeded.len() == SUCCEEDED_KEPT;
                assert!(full || lost.is_empty(), "{} forgot {lost:?}", at.name);
                if before.and_then(|before| before.fenced.as_ref()) != status.fenced.as_ref() {
                    record.fenced_since = status.fenced.as_ref().map(|_| now);
                }
                record.status = Some(*status);
            }
            Action::Signal(at, run, _) => {
                let pod = self.pod(&at, version);
                (pod.signal, pod.held) = (Some(Box::new(Signal::Run(run))), true);
            }
            Action::Settle(at, settlement) => {
                let pod = self.pod(&at, version);
                if let Some(attempt) = settlement.mark {
                    pod.signal = Some(Box::new(Signal::Settled(Settled { pod_uid: pod.uid.clone(), attempt })));
                }
                pod.held &= settlement.hold == Hold::Keep;
                pod.passed |= settlement.open.is_some();
                pod.gate_open |= settlement.open.is_some();
            }
            Action::Open(pods) => {
                for pod in &pods {
                    let (_, pod) = self.pods.get_mut(&pod.uid).expect("it is there");
                    (pod.passed, pod.gate_open, pod.resource_version) = (true, true, version.clone());
                }
            }
            Action::Complain(_) => panic!("every record here can be read"),
            Action::Look(question, _) => {
                // A question changes nothing.
                self.version -= 1;
                return Some(self.answer(group, question));
            }
        }
        None
    }

    fn answer(&self, group: &str, question: Question) -> Live {
        let record = &self.records[group];
        match question {
            Question::Pods => {
                let asked = Some(Asked::Pods(record.uid.clone()));
                Live { asked, pods: Some(self.pods_of(group)), ..Live::default() }
            }
            Question::Elders => {
                let others = self.records.iter().filter(|(name, _)| *name != group);
                let elders = others.map(|(_, record)| Arc::new(record.clone())).collect();
                Live { asked: Some(Asked::beside(record)), elders: Some(elders), ..Live::default() }
            }
            Question::Runner | Question::RunnerAndNode => panic!("every pod here is known, and so is its node"),
        }
    }

    /// The record at the version that was decided on.
    fn record(&mut self, at: &RecordRef, version: String) -> &mut Record {
        let record = self.records.get_mut(&at.name).expect("it is there");
        assert_eq!(record.at(), *at, "one write of a record for each decision");
        record.resource_version = version;
        record
    }

    fn pod(&mut self, at: &PodRef, version: String) -> &mut Pod {
        let (_, pod) = self.pods.get_mut(&at.uid).expect("it is there");
        assert_eq!(pod.at(), *at, "one write of a pod for each decision");
        pod.resource_version = version;
        pod
    }

    /// The agents that have a signal report: each is one change.
    fn agents_report(&mut self, outcome: Outcome) -> bool {
        let version = self.next_version();
        let runs = |(_, pod): &&mut (String, Pod)| pod.running_attempt().is_some() && pod.agent == AgentState::Running;
        let Some((_, pod)) = self.pods.values_mut().find(runs) else { return false };
        let attempt = pod.running_attempt().expect("it has a signal");
        let exit = verdict(&pod.name, attempt, outcome);
        (pod.agent_before, pod.agent_restarts) = (Some(exit), pod.agent_restarts + 1);
        pod.resource_version = version;
        true
    }
}

fn brief(action: &Action) -> String {
    let words = format!("{action:?}");
    words.chars().take(120).collect()
}

fn fingerprint(number: usize) -> String {
    format!("{number:032x}")
}

/// A history: migrations beyond every limit, succeeded, given up or never tried.
fn history() -> impl Strategy<Value = MigrationGateStatus> {
    let succeeded = prop_oneof![4 => 0usize..40, 1 => Just(SUCCEEDED_KEPT + 3)];
    (0usize..90, 0u32..25, 0u32..8, succeeded, any::<bool>()).prop_map(
        |(known, attempts, failures, succeeded, long)| {
            let attempt = |number| Attempt {
                number,
                pod: "before".to_owned(),
                node: None,
                outcome: AttemptOutcome::Failed,
                exit_code: Some(1),
                signal: None,
                elected: at(-9000),
                started: None,
                ended: None,
                recorded: at(-8000),
                evidence: None,
                log_tail: Some("x".repeat(if long { 1024 } else { 3 })),
            };
            let migration = |number| Migration {
                image: "x".repeat(if long { 512 } else { 9 }),
                phase: if number < succeeded { Phase::Succeeded } else { Phase::Superseded },
                failures,
                attempts: (1..=attempts).map(attempt).collect(),
                ..Migration::unknown(&fingerprint(number))
            };
            MigrationGateStatus {
                last_attempt: 30,
                migrations: (0..known).map(migration).collect(),
                succeeded: (0..succeeded).map(fingerprint).collect(),
                ..MigrationGateStatus::default()
            }
        },
    )
}

/// What a pod is like when the controller comes to it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Waiting,
    Starting,
    Open,
    Signalled,
    Marked,
    Held,
    Deleting,
    Stranger,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        8 => Just(Kind::Waiting),
        2 => Just(Kind::Starting),
        2 => Just(Kind::Open),
        1 => Just(Kind::Signalled),
        1 => Just(Kind::Marked),
        1 => Just(Kind::Held),
        1 => Just(Kind::Deleting),
        1 => Just(Kind::Stranger),
    ]
}

/// A workload: which of 64 migrations it asks for, its group, and how it is set.
fn workloads() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    prop::collection::vec(
        (0usize..64, prop_oneof![9 => Just(0usize), 1 => 1usize..3], prop::bool::weighted(0.1)),
        1..60,
    )
}

fn world() -> impl Strategy<Value = World> {
    let pods = prop::collection::vec((any::<prop::sample::Index>(), kind()), 1..200);
    let orders = prop::collection::vec((0usize..64, 0u8..4, 1u32..40), 0..6);
    (workloads(), pods, history(), orders, any::<bool>()).prop_map(|(workloads, pods, history, orders, fresh)| {
        let mut world = World::new();
        for (number, (asks, group, suspend)) in workloads.iter().enumerate() {
            let policy = Ok(Policy { suspend: *suspend, ..policy() });
            let name = format!("w{number}");
            let workload = Workload { fingerprint: fingerprint(*asks), policy, generation: 2, ..workload(&name) };
            world.workloads.push((format!("g{group}"), workload));
        }
        for (number, (of, kind)) in pods.iter().enumerate() {
            let (group, workload) = of.get(&world.workloads).clone();
            let attempt = u32::try_from(number).expect("a small number") % 30 + 1;
            let name = format!("p{number}");
            let signal = |signal| Some(Box::new(signal));
            let pod_uid = super::testing::uid(&name);
            let mut made = Pod {
                fingerprint: workload.fingerprint.clone(),
                controller: Some(workload.uid.as_str().into()),
                created: at(i64::from(attempt)),
                ..pod(&name)
            };
            match kind {
                Kind::Waiting => {}
                Kind::Starting => made.agent = AgentState::Waiting,
                Kind::Open => (made.passed, made.gate_open) = (true, true),
                Kind::Signalled => {
                    made.signal = signal(Signal::Run(Run { pod_uid, attempt, timeout_seconds: None }));
                    made.held = true;
                }
                Kind::Marked => made.signal = signal(Signal::Settled(Settled { pod_uid, attempt })),
                Kind::Held => made.held = true,
                Kind::Deleting => made.deleting = true,
                Kind::Stranger => made.controller = None,
            }
            world.pods.insert(made.uid.clone(), (group, made));
        }
        if !fresh {
            world.carry_out("g0", Action::CreateRecord(Vec::new()));
            let record = world.records.get_mut("g0").expect("it was made");
            record.status = Some(history);
            record.overrides = orders.iter().map(|(asks, action, attempt)| order(*asks, *action, *attempt)).collect();
        }
        world
    })
}

fn order(asks: usize, action: u8, attempt: u32) -> Override {
    let action =
        [OverrideAction::Approve, OverrideAction::Retry, OverrideAction::MarkSucceeded, OverrideAction::ConfirmDead]
            [usize::from(action)];
    let (reason, by) = (String::new(), String::new());
    Override { fingerprint: fingerprint(asks), action, attempt, pod_uid: "uid-of-p1".to_owned(), reason, by }
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} workloads, {} pods, records {:?}",
            self.workloads.len(),
            self.pods.len(),
            self.records.keys()
        )
    }
}

/// Lets a world go on until nothing changes any more, with every attempt ending like that. Returns how many ended.
fn live_out(world: &mut World, outcome: Outcome) -> usize {
    let mut ended = 0;
    for _ in 0..2_000 {
        let again = world.rest();
        if world.agents_report(outcome) {
            ended += 1;
        } else if let Some(again) = again {
            assert!(again > world.now, "it looks again at once");
            world.now = again;
        } else {
            return ended;
        }
    }
    panic!("it goes on for ever");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_group_comes_to_rest(mut world in world(), moved in 0usize..60) {
        let ended = live_out(&mut world, Outcome::Succeeded);
        prop_assert!(ended <= world.workloads.len() + world.pods.len());
        // An edit moves a workload, and its success goes with it.
        let moved = moved % world.workloads.len();
        let (group, workload) = &mut world.workloads[moved];
        (*group, workload.generation) = ("g9".to_owned(), workload.generation + 1);
        let again = live_out(&mut world, Outcome::Succeeded);
        prop_assert!(again <= 1, "{again} attempts for one that moved");
        for (group, pod) in world.pods.values() {
            let succeeded = world.records[group].status.as_ref().is_some_and(|status| status.has_succeeded(&pod.fingerprint));
            prop_assert!(pod.is_open() || !pod.is_alive() || !succeeded, "{} waits for a success that is there", pod.name);
        }
        let before = world.version;
        world.now = world.now.checked_add(SignedDuration::from_hours(9)).expect("a time");
        world.rest();
        prop_assert_eq!(world.version, before, "time alone leads to no write");
    }

    #[test]
    fn what_fails_comes_to_rest_as_well(mut world in world(), never_starts in any::<bool>()) {
        let outcome = if never_starts { Outcome::NotStarted } else { Outcome::Failed };
        live_out(&mut world, outcome);
        prop_assert!(world.records.values().all(|record| record.status.as_ref().is_none_or(|status| status.active.is_none())));
    }
}

/// Seen on a real cluster: 25 Deployments of one group, each with a migration of its own; three waited for ever, and the
/// record was written 42 times a second.
#[test]
fn more_current_migrations_than_are_kept_as_history_all_succeed_and_rest() {
    let mut world = World::new();
    for number in 0..25 {
        let name = format!("w{number}");
        let workload = Workload { fingerprint: fingerprint(number), ..workload(&name) };
        let controller = Some(workload.uid.as_str().into());
        let pod = Pod { fingerprint: fingerprint(number), controller, ..pod(&format!("p{number}")) };
        world.workloads.push(("g0".to_owned(), workload));
        world.pods.insert(pod.uid.clone(), ("g0".to_owned(), pod));
    }
    assert_eq!(live_out(&mut world, Outcome::Succeeded), 25);
    assert!(world.pods.values().all(|(_, pod)| pod.is_open()));
}
