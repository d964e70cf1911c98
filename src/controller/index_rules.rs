//! What the index knows, and whom it wakes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::gauges::Tally;
use super::index::{Concerned, Index};
use super::objects::GroupKey;
use super::snapshot::{LastSight, Live, Node, Owner, Pod, Record, RecordView, Snapshot, Unreadable, Workload};
use super::testing::{active, at, marked, member, node, owner, pod, record, runner, running, uid, workload};
use crate::migration::{Fenced, Member, MigrationGateStatus};

fn key(name: &str) -> GroupKey {
    GroupKey { namespace: "shop".to_owned(), name: name.to_owned() }
}

fn see(index: &Index, name: &str) -> Snapshot {
    index.snapshot(&key(name), Live::default()).expect("the group is known")
}

fn known(snapshot: &Snapshot) -> Arc<Record> {
    match &snapshot.record {
        RecordView::Present(record) => Arc::clone(record),
        other => panic!("no record, but {other:?}"),
    }
}

fn sorted(mut keys: Concerned) -> Concerned {
    keys.sort();
    keys
}

/// A record of another group, with these members and owners.
fn other_record(name: &str, members: Vec<Member>, owners: Vec<Owner>) -> Record {
    let mut other = record(MigrationGateStatus::default());
    other.status.as_mut().expect("a status").workloads = members;
    Record { name: name.to_owned(), uid: format!("uid-of-{name}"), owners, ..other }
}

fn version(mut record: Record, version: &str) -> Record {
    record.resource_version = version.to_owned();
    record
}

fn unreadable(name: &str) -> Unreadable {
    Unreadable {
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        resource_version: "3".to_owned(),
        created: at(0),
        why: "nonsense".to_owned(),
    }
}

// Kin.

#[test]
fn a_change_of_a_record_wakes_the_groups_that_its_workloads_and_their_namesakes_went_to() {
    let mut index = Index::default();
    index.put_workload(key("moved"), workload("shop"));
    let namesake = Workload { uid: "another".to_owned(), ..workload("made-again") };
    index.put_workload(key("namesake"), namesake);
    index.put_workload(key("neither"), workload("billing"));
    let elder = other_record("elder", vec![member("made-again")], vec![owner("shop")]);
    let all = [key("elder"), key("moved"), key("namesake")];
    assert_eq!(sorted(index.put_record(key("elder"), elder.clone())), all);
    assert_eq!(index.put_record(key("elder"), elder.clone()), [], "nothing changed");
    // What it says now is what they waited for.
    let without = version(other_record("elder", Vec::new(), Vec::new()), "8");
    assert_eq!(sorted(index.put_record(key("elder"), without)), all);
    assert_eq!(index.put_record(key("elder"), version(elder, "7")), [], "it is older");
    let elder = other_record("elder", vec![member("made-again")], vec![owner("shop")]);
    index.put_record(key("elder"), version(elder, "9"));
    assert_eq!(sorted(index.remove_record(&key("elder"), "uid-of-elder")), all);
    assert_eq!(index.remove_record(&key("elder"), "uid-of-elder"), []);
}

#[test]
fn a_record_that_cannot_be_read_wakes_its_namespace_when_it_comes_and_when_it_goes() {
    let mut index = Index::default();
    index.put_workload(key("one"), workload("one"));
    index.put_workload(key("two"), workload("two"));
    let far = GroupKey { namespace: "shop2".to_owned(), name: "far".to_owned() };
    index.put_workload(far, workload("far"));
    let all = [key("broken"), key("one"), key("two")];
    assert_eq!(sorted(index.put_unreadable(key("broken"), unreadable("broken"))), all);
    assert_eq!(index.put_unreadable(key("broken"), unreadable("broken")), [], "nothing changed");
    assert_eq!(sorted(index.remove_record(&key("broken"), "uid-of-broken")), all);
    index.put_unreadable(key("broken"), unreadable("broken"));
    assert_eq!(sorted(index.retain_records(&HashSet::new())), all, "also if only a list says so");
}

#[test]
fn a_record_that_cannot_be_read_any_more_is_nobodys_elder_as_far_as_the_watch_knows() {
    let mut index = Index::default();
    index.put_workload(key("moved"), workload("shop"));
    index.put_record(key("elder"), other_record("elder", vec![member("shop")], Vec::new()));
    assert_eq!(see(&index, "moved").elders.len(), 1);
    index.put_unreadable(key("elder"), unreadable("elder"));
    assert_eq!(see(&index, "moved").elders, []);
    assert!(matches!(see(&index, "elder").record, RecordView::Unreadable(_)));
}

// A fence.

#[test]
fn a_fence_counts_from_when_it_was_first_seen() {
    let fence = |attempt| {
        let fenced =
            Fenced { attempt, pod_name: "a".to_owned(), pod_uid: uid("a"), at: at(-1_000_000), grace_seconds: None };
        MigrationGateStatus { fenced: Some(fenced), last_attempt: attempt, ..MigrationGateStatus::default() }
    };
    let mut index = Index::default();
    let mut put = |version: &str, status| {
        let read = Record { resource_version: version.to_owned(), ..record(status) };
        index.put_record(key("shop.deployment"), read);
        known(&see(&index, "shop.deployment")).fenced_since
    };
    let start = Timestamp::now();
    let first = put("1", fence(1)).expect("it was seen just now, with the record");
    assert!(first >= start && first <= Timestamp::now(), "by our own clock: {first}");
    let other = MigrationGateStatus { waiting: 3, ..fence(1) };
    assert_eq!(put("2", other), Some(first), "the rest of the status does not matter");
    let second = put("3", fence(2)).expect("another fence");
    assert!(second > first);
    assert_eq!(put("4", MigrationGateStatus::default()), None);
    assert!(put("5", fence(2)).expect("it is back") > second);
}

// Pods that go.

#[test]
fn the_last_sight_of_a_runner_is_what_the_watch_showed_when_it_went() {
    let sight = |last: Option<Pod>| {
        let mut index = Index::default();
        index.put_record(key("shop.deployment"), record(running("a", 3)));
        index.put_pod(key("shop.deployment"), last.clone().unwrap_or_else(|| pod("a")));
        assert_eq!(see(&index, "shop.deployment").last_sight, LastSight::None, "it is there");
        let concerned = match last {
            Some(last) => index.end_pod(&uid("a"), "12", last.signal.map_or(0, |signal| signal.attempt())),
            None => index.retain_pods(&HashSet::new()),
        };
        assert_eq!(concerned, [key("shop.deployment")]);
        see(&index, "shop.deployment").last_sight
    };
    assert_eq!(sight(Some(pod("a"))), LastSight::Unsignalled);
    assert_eq!(sight(Some(marked("a", 2))), LastSight::Signalled(2));
    assert_eq!(sight(Some(runner("a", 3))), LastSight::Signalled(3));
    assert_eq!(sight(Some(marked("a", 3))), LastSight::Signalled(3));
    assert_eq!(sight(None), LastSight::None, "it went while nobody watched");
}

#[test]
fn what_was_seen_of_a_pod_that_came_back_is_forgotten() {
    let mut index = Index::default();
    index.put_record(key("shop.deployment"), record(running("a", 1)));
    index.put_pod(key("shop.deployment"), pod("a"));
    // Its label was taken off: for the watch it went.
    index.end_pod(&uid("a"), "12", 0);
    let back = Pod { resource_version: "13".to_owned(), ..runner("a", 1) };
    index.put_pod(key("shop.deployment"), back);
    index.retain_pods(&HashSet::new());
    assert_eq!(see(&index, "shop.deployment").last_sight, LastSight::None);
}

#[test]
fn the_end_of_a_runner_wakes_its_group_wherever_the_pod_was_known() {
    let mut index = Index::default();
    let mut status = running("a", 2);
    status.fenced =
        Some(Fenced { attempt: 1, pod_name: "b".to_owned(), pod_uid: uid("b"), at: at(0), grace_seconds: None });
    index.put_record(key("shop.deployment"), record(status));
    assert_eq!(index.end_pod(&uid("a"), "12", 2), [key("shop.deployment")], "the pod was never seen");
    index.put_pod(key("elsewhere"), pod("b"));
    assert_eq!(sorted(index.end_pod(&uid("b"), "12", 2)), [key("elsewhere"), key("shop.deployment")]);
    let ended = Record { resource_version: "8".to_owned(), ..record(MigrationGateStatus::default()) };
    index.put_record(key("shop.deployment"), ended);
    assert_eq!(index.end_pod(&uid("a"), "13", 2), [], "its attempt is over");
}

#[test]
fn an_old_answer_does_not_take_a_pod_back_to_the_group_that_it_left() {
    let mut index = Index::default();
    let now = Pod { resource_version: "20".to_owned(), ..pod("a") };
    index.put_pod(key("new"), now);
    assert_eq!(index.put_pod(key("old"), pod("a")), []);
    assert_eq!(see(&index, "new").pods.len(), 1);
    assert!(index.snapshot(&key("old"), Live::default()).is_none());
}

// ReplicaSets.

#[test]
fn a_replica_set_is_known_in_the_group_of_its_label_until_it_goes() {
    let mut index = Index::default();
    let put = |index: &mut Index, group| index.put_replica_set(key(group), "set".into(), uid("shop").as_str().into());
    let sets = |index: &Index, group: &str| {
        index.snapshot(&key(group), Live::default()).map_or(0, |snapshot| snapshot.replica_sets.len())
    };
    assert_eq!(put(&mut index, "one"), [key("one")]);
    assert_eq!(put(&mut index, "one"), [], "nothing changed");
    assert_eq!(see(&index, "one").replica_sets.get("set").map(|workload| &**workload), Some(&*uid("shop")));
    assert_eq!(put(&mut index, "two"), [key("one"), key("two")], "its label was changed");
    assert_eq!((sets(&index, "one"), sets(&index, "two")), (0, 1));
    assert_eq!(index.retain_pods(&HashSet::new()), [], "a list of pods says nothing of it");
    assert_eq!(index.retain_replica_sets(&HashSet::from(["set".to_owned()])), []);
    assert_eq!(index.end("set", "9"), [key("two")]);
    assert_eq!(sets(&index, "two"), 0);
    put(&mut index, "two");
    assert_eq!(index.retain_replica_sets(&HashSet::new()), [key("two")]);
    assert_eq!(index.keys(), []);
}

#[test]
fn pods_of_one_replica_set_share_its_uid() {
    let made = |name: &str| Pod { controller: Some("set".into()), ..pod(name) };
    for set_first in [true, false] {
        let mut index = Index::default();
        let put_set = |index: &mut Index| {
            index.put_replica_set(key("shop.deployment"), "set".into(), uid("shop").as_str().into())
        };
        if set_first {
            put_set(&mut index);
        }
        (0..100).for_each(|at| _ = index.put_pod(key("shop.deployment"), made(&at.to_string())));
        put_set(&mut index);
        index.put_workload(key("shop.deployment"), workload("shop"));
        let snapshot = see(&index, "shop.deployment");
        let (set, by) = snapshot.replica_sets.first_key_value().expect("the ReplicaSet");
        assert!(snapshot.pods.iter().all(|pod| pod.controller.as_ref().is_some_and(|uid| Arc::ptr_eq(uid, set))));
        assert_eq!(snapshot.maker(&snapshot.pods[0]).map(|workload| workload.uid.as_str()), Some(&**by));
    }
}

// Nodes.

#[test]
fn a_node_wakes_those_who_wait_on_it_and_whose_attempt_is_there() {
    let mut index = Index::default();
    let open = Pod { passed: true, gate_open: true, ..pod("open") };
    index.put_pod(key("open"), open);
    index.put_pod(key("waits"), pod("waits"));
    index.put_pod(key("elsewhere"), Pod { node: Some("node-2".to_owned()), ..pod("elsewhere") });
    index.put_record(key("runs"), record(running("gone", 1)));
    let minding = [key("runs"), key("waits")];
    assert_eq!(sorted(index.put_node("node-1".to_owned(), node())), minding);
    assert_eq!(index.put_node("node-1".to_owned(), node()), [], "nothing changed");
    let down = Node { ready: false, ..node() };
    assert_eq!(sorted(index.put_node("node-1".to_owned(), down)), minding);
    assert_eq!(see(&index, "open").nodes.len(), 1, "who shows the pod shows its node");
    assert_eq!(sorted(index.remove_node_by_uid(&uid("node-1"))), minding);
    index.put_node("node-1".to_owned(), node());
    assert_eq!(sorted(index.retain_nodes(&HashSet::new())), minding);
    assert_eq!(see(&index, "waits").nodes, BTreeMap::new());
}

// All of it, beside plain maps.

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Change {
    PutPod { group: usize, pod: usize, node: usize, version: u8, open: bool },
    RemovePod(usize),
    PutWorkload { group: usize, name: usize, life: u8 },
    RemoveWorkload { name: usize, life: u8 },
    PutRecord { group: usize, members: Vec<(usize, u8)>, owners: Vec<(usize, u8)>, runner: Option<usize> },
    PutUnreadable(usize),
    RemoveRecord(usize),
    PutNode { node: usize, ready: bool },
    RemoveNode(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let one = || 0..NAMES.len();
    let lives = || prop::collection::vec((0..NAMES.len(), 0..2u8), 0..3);
    prop_oneof![
        6 => (one(), 0..12usize, one(), any::<u8>(), any::<bool>())
            .prop_map(|(group, pod, node, version, open)| Change::PutPod { group, pod, node, version, open }),
        2 => (0..12usize).prop_map(Change::RemovePod),
        3 => (one(), one(), 0..2u8).prop_map(|(group, name, life)| Change::PutWorkload { group, name, life }),
        1 => (one(), 0..2u8).prop_map(|(name, life)| Change::RemoveWorkload { name, life }),
        4 => (one(), lives(), lives(), prop::option::of(one()))
            .prop_map(|(group, members, owners, runner)| Change::PutRecord { group, members, owners, runner }),
        1 => one().prop_map(Change::PutUnreadable),
        1 => one().prop_map(Change::RemoveRecord),
        2 => (one(), any::<bool>()).prop_map(|(node, ready)| Change::PutNode { node, ready }),
        1 => one().prop_map(Change::RemoveNode),
    ]
}

/// The same as plain maps, in which everything is looked for by going through all.
#[derive(Default)]
struct Plain {
    pods: BTreeMap<String, (usize, Pod)>,
    workloads: BTreeMap<String, (usize, Workload)>,
    records: BTreeMap<usize, Record>,
    unreadable: BTreeSet<usize>,
    nodes: BTreeMap<String, Node>,
    versions: u64,
}

fn life(name: usize, life: u8) -> Workload {
    Workload { uid: format!("uid-of-{}-{life}", NAMES[name]), ..workload(NAMES[name]) }
}

impl Plain {
    fn pods(&self, group: usize) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(move |(home, _)| *home == group).map(|(_, pod)| pod)
    }

    fn attempt_on(&self, group: usize) -> Option<&str> {
        self.records.get(&group)?.status.as_ref()?.active.as_ref()?.node_name.as_deref()
    }

    fn nodes(&self, group: usize) -> BTreeMap<String, Node> {
        let on = self.pods(group).filter_map(|pod| pod.node.as_deref()).chain(self.attempt_on(group));
        on.filter_map(|name| Some((name.to_owned(), self.nodes.get(name)?.clone()))).collect()
    }

    fn minding(&self, node: &str) -> Vec<GroupKey> {
        let minds = |group: &usize| {
            let waits = |pod: &Pod| pod.node.as_deref() == Some(node) && !pod.is_open();
            self.pods(*group).any(waits) || self.attempt_on(*group) == Some(node)
        };
        (0..NAMES.len()).filter(minds).map(|group| key(NAMES[group])).collect()
    }

    fn workloads(&self, group: usize) -> Vec<Workload> {
        self.workloads.values().filter(|(home, _)| *home == group).map(|(_, workload)| workload.clone()).collect()
    }

    fn elders(&self, group: usize) -> Vec<&str> {
        let mine = self.workloads(group);
        let precedes = |record: &Record| record.electorate().any(|member| mine.iter().any(|w| member.precedes(w)));
        let others = self.records.iter().filter(|(other, _)| **other != group);
        others.filter(|(_, record)| precedes(record)).map(|(_, record)| record.name.as_str()).collect()
    }

    fn apply(&mut self, index: &mut Index, change: Change) {
        match change {
            Change::PutPod { group, pod: at, node, version, open } => {
                let name = at.to_string();
                let new = Pod {
                    resource_version: version.to_string(),
                    node: Some(NAMES[node].to_owned()),
                    passed: open,
                    gate_open: open,
                    created: Timestamp::from_second(i64::from(version)).expect("1970"),
                    ..pod(&name)
                };
                let known = self.pods.get(&new.uid).map(|(_, known)| known.resource_version.parse().unwrap_or(0));
                index.put_pod(key(NAMES[group]), new.clone());
                if known.is_none_or(|known: u8| version >= known) {
                    self.pods.insert(new.uid.clone(), (group, new));
                }
            }
            Change::RemovePod(at) => {
                let uid = uid(&at.to_string());
                index.remove(&uid);
                self.pods.remove(&uid);
            }
            Change::PutWorkload { group, name, life: number } => {
                let workload = life(name, number);
                index.put_workload(key(NAMES[group]), workload.clone());
                self.workloads.insert(workload.uid.clone(), (group, workload));
            }
            Change::RemoveWorkload { name, life: number } => {
                let uid = life(name, number).uid;
                index.remove(&uid);
                self.workloads.remove(&uid);
            }
            Change::PutRecord { group, members, owners, runner } => {
                self.versions += 1;
                let of = |(name, number): (usize, u8)| Member::of(&life(name, number));
                let owners = owners.into_iter().map(|(name, number)| Owner::of(&life(name, number))).collect();
                let mut record = other_record(NAMES[group], members.into_iter().map(of).collect(), owners);
                record.resource_version = self.versions.to_string();
                let mut attempt = runner.map(|_| active("a", 1));
                if let (Some(attempt), Some(node)) = (&mut attempt, runner) {
                    attempt.node_name = Some(NAMES[node].to_owned());
                }
                record.status.as_mut().expect("a status").active = attempt;
                index.put_record(key(NAMES[group]), record.clone());
                self.unreadable.remove(&group);
                self.records.insert(group, record);
            }
            Change::PutUnreadable(group) => {
                index.put_unreadable(key(NAMES[group]), unreadable(NAMES[group]));
                self.records.remove(&group);
                self.unreadable.insert(group);
            }
            Change::RemoveRecord(group) => {
                index.remove_record(&key(NAMES[group]), &format!("uid-of-{}", NAMES[group]));
                self.records.remove(&group);
                self.unreadable.remove(&group);
            }
            Change::PutNode { node: at, ready } => {
                let new = Node { uid: uid(NAMES[at]), ready, ..node() };
                let same = self.nodes.insert(NAMES[at].to_owned(), new.clone()) == Some(new.clone());
                let expected = if same { Vec::new() } else { self.minding(NAMES[at]) };
                assert_eq!(sorted(index.put_node(NAMES[at].to_owned(), new)), expected);
            }
            Change::RemoveNode(at) => {
                let was = self.nodes.remove(NAMES[at]).is_some();
                let expected = if was { self.minding(NAMES[at]) } else { Vec::new() };
                assert_eq!(sorted(index.remove_node_by_uid(&uid(NAMES[at]))), expected);
            }
        }
    }

    fn compare(&self, index: &mut Index) {
        let mut tally = Tally::default();
        for (group, name) in NAMES.into_iter().enumerate() {
            let empty = self.pods(group).next().is_none()
                && self.workloads(group).is_empty()
                && !self.records.contains_key(&group)
                && !self.unreadable.contains(&group);
            let Some(snapshot) = index.snapshot(&key(name), Live::default()) else {
                assert!(empty, "{name} was forgotten");
                continue;
            };
            assert!(!empty, "{name} was not forgotten");
            tally.add(&Tally::of(&snapshot.pods, self.records.get(&group)));
            let plain = |pod: &Pod| Pod { agent_since: at(0), ..pod.clone() };
            let pods: BTreeMap<String, Pod> = snapshot.pods.iter().map(|pod| (pod.uid.clone(), plain(pod))).collect();
            assert_eq!(pods.len(), snapshot.pods.len(), "none is there twice");
            assert_eq!(pods, self.pods(group).map(|pod| (pod.uid.clone(), plain(pod))).collect());
            assert_eq!(snapshot.nodes, self.nodes(group));
            let elders: Vec<&str> = snapshot.elders.iter().map(|record| record.name.as_str()).collect();
            assert_eq!(elders, self.elders(group), "{name}");
        }
        assert_eq!(index.tally(), tally);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_index_knows_what_plain_maps_know(changes in prop::collection::vec(change(), 1..60)) {
        let (mut index, mut plain) = (Index::default(), Plain::default());
        for change in changes {
            plain.apply(&mut index, change);
            plain.compare(&mut index);
        }
    }
}
