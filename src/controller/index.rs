//! Everything that is known of the cluster, by group: what watches and writes say goes in, snapshots come out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::migration::{Active, Fenced, Member};

use super::gauges::Tally;
use super::gone::Gone;
use super::kin::Kin;
use super::objects::GroupKey;
use super::places::{Places, Stake};
use super::pods::Pods;
use super::snapshot::{LastSight, Live, Node, Pod, Record, RecordView, Snapshot, Unreadable, Workload};

/// The known state of all groups and nodes. Of ten thousand pods in one group, what they have in common is kept once.
#[derive(Debug, Default)]
pub struct Index {
    groups: BTreeMap<Arc<GroupKey>, Entry>,
    /// Where each pod, workload and ReplicaSet was seen last, by UID: its label may have moved it.
    homes: HashMap<Arc<str>, Home>,
    /// Which record may have elected for which workload.
    kin: Kin,
    places: Places,
    /// The groups whose records name these pods as having, or having had, an attempt, by the pod's UID.
    runners: HashMap<String, Arc<GroupKey>>,
    /// Workloads that ask for a gate and have none, by UID.
    ungated: HashSet<String>,
    /// What ended lately.
    gone: Gone,
    /// UIDs that several objects name.
    shared: Shared,
}

#[derive(Clone, Debug)]
struct Home {
    group: Arc<GroupKey>,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A pod, at this place among those of its group.
    Pod(usize),
    Workload,
    ReplicaSet,
}

#[derive(Debug, Default)]
struct Entry {
    pods: Pods,
    workloads: BTreeMap<Arc<str>, Workload>,
    replica_sets: BTreeMap<Arc<str>, Arc<str>>,
    record: Option<Arc<Record>>,
    unreadable: Option<Unreadable>,
    refused: bool,
    /// The nodes that its pods and its active attempt are on.
    nodes: BTreeSet<Arc<str>>,
    /// What there is to count in it, if that was counted since it changed.
    tally: Option<Tally>,
}

impl Entry {
    fn record_uid(&self) -> Option<&str> {
        let unreadable = || self.unreadable.as_ref().map(|unreadable| unreadable.uid.as_str());
        self.record.as_ref().map(|record| record.uid.as_str()).or_else(unreadable)
    }

    fn is_empty(&self) -> bool {
        self.pods.is_empty()
            && self.workloads.is_empty()
            && self.replica_sets.is_empty()
            && self.record.is_none()
            && self.unreadable.is_none()
    }
}

/// A group as it is, not copied.
pub struct Glimpse<'a> {
    /// Its key.
    pub key: &'a GroupKey,
    /// Its record, where there is one that can be read.
    pub record: Option<&'a Record>,
    /// Its record, where there is one that can't be read.
    pub unreadable: Option<&'a Unreadable>,
    /// Its pods.
    pub pods: &'a mut dyn Iterator<Item = &'a Pod>,
}

/// The groups that a change may concern.
pub type Concerned = Vec<GroupKey>;

impl Index {
    /// A pod was seen. Nothing changes where a newer version of it is known.
    pub fn put_pod(&mut self, key: GroupKey, mut pod: Pod) -> Concerned {
        if self.gone.knows(&pod.uid, &pod.resource_version) {
            return Concerned::new();
        }
        let known = self.pod(&pod.uid);
        if known.is_some_and(|known| is_older(&pod.resource_version, &known.resource_version)) {
            return Concerned::new();
        }
        let as_before = |known: &&Pod| known.agent == pod.agent && known.agent_restarts == pod.agent_restarts;
        pod.agent_since = known.filter(as_before).map_or_else(Timestamp::now, |known| known.agent_since);
        pod.controller = pod.controller.map(|controller| self.shared.one(controller));
        let mut concerned = self.leave(&pod.uid, &key);
        let home = self.home(&key);
        let entry = self.groups.entry(Arc::clone(&home)).or_default();
        let at = match self.homes.get(pod.uid.as_str()) {
            Some(Home { what: What::Pod(at), .. }) => Some(*at),
            _ => None,
        };
        match at.and_then(|at| entry.pods.get(at)) {
            Some(known) if **known == pod => return concerned,
            Some(known) => self.places.take(&home, Stake::of(known), &mut entry.nodes),
            None => self.gone.forget(&pod.uid),
        }
        self.places.add(&home, Stake::of(&pod), &mut entry.nodes);
        match at {
            Some(at) => entry.pods.replace(at, pod),
            None => {
                let what = What::Pod(entry.pods.len());
                self.homes.insert(pod.uid.as_str().into(), Home { group: home, what });
                entry.pods.push(pod);
            }
        }
        entry.tally = None;
        concerned.push(key);
        concerned
    }

    /// A workload was seen.
    pub fn put_workload(&mut self, key: GroupKey, workload: Workload) -> Concerned {
        let mut concerned = self.leave(&workload.uid, &key);
        self.ungated.remove(&workload.uid);
        let (home, uid) = (self.home(&key), self.shared.one(workload.uid.as_str().into()));
        self.homes.insert(Arc::clone(&uid), Home { group: Arc::clone(&home), what: What::Workload });
        self.kin.add_workload(&home, Member::of(&workload));
        let workloads = &mut self.groups.entry(home).or_default().workloads;
        if workloads.get(&uid) != Some(&workload) {
            workloads.insert(uid, workload);
            concerned.push(key);
        }
        concerned
    }

    /// A ReplicaSet was seen, with the workload that controls it.
    pub fn put_replica_set(&mut self, key: GroupKey, uid: Arc<str>, workload: Arc<str>) -> Concerned {
        let (uid, workload) = (self.shared.one(uid), self.shared.one(workload));
        let mut concerned = self.leave(&uid, &key);
        let home = self.home(&key);
        self.homes.insert(Arc::clone(&uid), Home { group: Arc::clone(&home), what: What::ReplicaSet });
        let replica_sets = &mut self.groups.entry(home).or_default().replica_sets;
        if replica_sets.get(&uid) != Some(&workload) {
            replica_sets.insert(uid, workload);
            concerned.push(key);
        }
        concerned
    }

    /// A workload was seen that asks for a gate and has none.
    pub fn put_ungated(&mut self, uid: &str) -> Concerned {
        let concerned = self.remove(uid);
        self.ungated.insert(uid.to_owned());
        concerned
    }

    /// How many workloads ask for a gate and have none.
    pub fn ungated(&self) -> usize {
        self.ungated.len()
    }

    /// A record was seen, or came back from a write of it. Nothing changes where a newer version of it is known.
    pub fn put_record(&mut self, key: GroupKey, mut record: Record) -> Concerned {
        if self.gone.knows(&record.uid, &record.resource_version) {
            return Concerned::new();
        }
        let home = self.home(&key);
        let entry = self.groups.entry(Arc::clone(&home)).or_default();
        let known = entry.record.as_ref().filter(|known| known.uid == record.uid);
        if known.is_some_and(|known| is_older(&record.resource_version, &known.resource_version)) {
            return Concerned::new();
        }
        record.fenced_since = fenced(&record).map(|now| {
            let before = known.filter(|known| fenced(known) == Some(now)).and_then(|known| known.fenced_since);
            before.unwrap_or_else(Timestamp::now)
        });
        if known.is_some_and(|known| **known == record) {
            return Concerned::new();
        }
        entry.unreadable = None;
        entry.refused = false;
        let mut concerned = self.set_record(&home, Some(Arc::new(record)));
        concerned.push(key);
        concerned
    }

    /// A record was seen that can't be read. The one that was known before is not believed any more.
    pub fn put_unreadable(&mut self, key: GroupKey, unreadable: Unreadable) -> Concerned {
        let home = self.home(&key);
        let entry = self.groups.entry(Arc::clone(&home)).or_default();
        if entry.unreadable.as_ref() == Some(&unreadable) {
            return Concerned::new();
        }
        entry.unreadable = Some(unreadable);
        self.set_record(&home, None);
        self.neighbours(&key)
    }

    /// The namespace takes no new objects.
    pub fn refuse_record(&mut self, key: &GroupKey) {
        if let Some(entry) = self.groups.get_mut(key) {
            entry.refused = true;
        }
    }

    /// A record is gone.
    pub fn remove_record(&mut self, key: &GroupKey, uid: &str) -> Concerned {
        let home = self.home(key);
        let Some(entry) = self.groups.get_mut(key).filter(|entry| entry.record_uid() == Some(uid)) else {
            return Concerned::new();
        };
        let was_unreadable = entry.unreadable.take().is_some();
        let mut concerned = self.set_record(&home, None);
        concerned.push(key.clone());
        if was_unreadable {
            concerned = self.neighbours(key);
        }
        self.forget_if_empty(key);
        concerned
    }

    /// Replaces what is known of a group's record, and returns the other groups that may wait for it.
    fn set_record(&mut self, home: &Arc<GroupKey>, record: Option<Arc<Record>>) -> Concerned {
        let Some(entry) = self.groups.get_mut(home) else { return Concerned::new() };
        let before = std::mem::replace(&mut entry.record, record);
        let (before, after) = (before.as_deref(), entry.record.as_deref());
        entry.tally = None;
        self.places.add(home, after.and_then(stake), &mut entry.nodes);
        self.places.take(home, before.and_then(stake), &mut entry.nodes);
        for uid in before.into_iter().flat_map(runners) {
            self.runners.remove(uid);
        }
        for uid in after.into_iter().flat_map(runners) {
            self.runners.insert(uid.to_owned(), Arc::clone(home));
        }
        self.kin.put_record(home, before, after).into_iter().map(|key| (*key).clone()).collect()
    }

    /// The groups of a namespace: of a record that can't be read nobody knows who waits for it.
    fn neighbours(&self, key: &GroupKey) -> Concerned {
        let first = GroupKey { namespace: key.namespace.clone(), name: String::new() };
        let neighbours = self.groups.range(first..).map(|(key, _)| key);
        neighbours.take_while(|other| other.namespace == key.namespace).map(|key| (**key).clone()).collect()
    }

    /// A watch said that a record ended with this version. What is said of it later, but was true before, changes nothing.
    pub fn end_record(&mut self, key: &GroupKey, uid: &str, version: &str) -> Concerned {
        self.gone.note(uid, version);
        self.remove_record(key, uid)
    }

    /// The same of a workload or a ReplicaSet.
    pub fn end(&mut self, uid: &str, version: &str) -> Concerned {
        self.gone.note(uid, version);
        self.remove(uid)
    }

    /// The same of a pod, and the attempt that its last signal or mark named; 0 without one.
    pub fn end_pod(&mut self, uid: &str, version: &str, attempt: u32) -> Concerned {
        self.gone.note_pod(uid, version, attempt);
        let mut concerned = self.remove(uid);
        // It may be known here no more, or elsewhere, while its attempt is still active.
        let runner = self.runners.get(uid).filter(|key| !concerned.contains(key));
        concerned.extend(runner.map(|key| (**key).clone()));
        concerned
    }

    /// A pod, workload or ReplicaSet is gone, or is ours no more.
    pub fn remove(&mut self, uid: &str) -> Concerned {
        self.ungated.remove(uid);
        let Some(Home { group, what }) = self.homes.remove(uid) else { return Concerned::new() };
        if let Some(entry) = self.groups.get_mut(&group) {
            match what {
                What::Pod(at) => {
                    if let Some(pod) = entry.pods.swap_remove(at) {
                        self.places.take(&group, Stake::of(&pod), &mut entry.nodes);
                    }
                    let moved = entry.pods.get(at).and_then(|pod| self.homes.get_mut(pod.uid.as_str()));
                    if let Some(moved) = moved {
                        moved.what = What::Pod(at);
                    }
                    entry.tally = None;
                }
                What::Workload => {
                    if let Some(workload) = entry.workloads.remove(uid) {
                        self.kin.take_workload(&group, Member::of(&workload));
                    }
                }
                What::ReplicaSet => _ = entry.replica_sets.remove(uid),
            }
        }
        self.forget_if_empty(&group);
        vec![(*group).clone()]
    }

    /// A node was seen. Only what matters wakes those who have pods on it.
    pub fn put_node(&mut self, name: String, node: Node) -> Concerned {
        self.places.put(name, node).into_iter().map(|key| (*key).clone()).collect()
    }

    /// A node is gone.
    pub fn remove_node_by_uid(&mut self, uid: &str) -> Concerned {
        self.places.remove(|node| node.uid == uid).into_iter().map(|key| (*key).clone()).collect()
    }

    /// After a complete list: forgets the pods that are not in it.
    pub fn retain_pods(&mut self, listed: &HashSet<String>) -> Concerned {
        self.retain(listed, |what| matches!(what, What::Pod(_)))
    }

    /// After a complete list: forgets the workloads that are not in it.
    pub fn retain_workloads(&mut self, listed: &HashSet<String>) -> Concerned {
        self.ungated.retain(|uid| listed.contains(uid));
        self.retain(listed, |what| what == What::Workload)
    }

    /// After a complete list: forgets the ReplicaSets that are not in it.
    pub fn retain_replica_sets(&mut self, listed: &HashSet<String>) -> Concerned {
        self.retain(listed, |what| what == What::ReplicaSet)
    }

    fn retain(&mut self, listed: &HashSet<String>, suits: impl Fn(What) -> bool) -> Concerned {
        let gone = self.homes.iter().filter(|(uid, home)| suits(home.what) && !listed.contains(&***uid));
        let gone: Vec<Arc<str>> = gone.map(|(uid, _)| Arc::clone(uid)).collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// After a complete list: forgets the records that are not in it.
    pub fn retain_records(&mut self, listed: &HashSet<String>) -> Concerned {
        let gone: Vec<(Arc<GroupKey>, String)> = self
            .groups
            .iter()
            .filter_map(|(key, entry)| Some((Arc::clone(key), entry.record_uid()?.to_owned())))
            .filter(|(_, uid)| !listed.contains(uid))
            .collect();
        gone.iter().flat_map(|(key, uid)| self.remove_record(key, uid)).collect()
    }

    /// After a complete list: forgets the nodes that are not in it.
    pub fn retain_nodes(&mut self, listed: &HashSet<String>) -> Concerned {
        let gone = self.places.remove(|node| !listed.contains(&node.uid));
        gone.into_iter().map(|key| (*key).clone()).collect()
    }

    /// Every group.
    pub fn keys(&self) -> Concerned {
        self.groups.keys().map(|key| (**key).clone()).collect()
    }

    /// A group's record, where there is one that can be read.
    pub fn record(&self, key: &GroupKey) -> Option<&Arc<Record>> {
        self.groups.get(key)?.record.as_ref()
    }

    /// One group as it is known now; `None` where nothing is known of it. Its pods are not copied.
    pub fn snapshot(&self, key: &GroupKey, live: Live) -> Option<Snapshot> {
        let entry = self.groups.get(key)?;
        let mut workloads: Vec<Workload> = entry.workloads.values().cloned().collect();
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        let nodes = entry.nodes.iter().filter_map(|name| Some(((**name).to_owned(), self.places.node(name)?.clone())));
        Some(Snapshot {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            record: match (&entry.record, &entry.unreadable) {
                (Some(record), _) => RecordView::Present(Arc::clone(record)),
                (None, Some(unreadable)) => RecordView::Unreadable(unreadable.clone()),
                (None, None) if entry.refused => RecordView::Refused,
                (None, None) => RecordView::Missing,
            },
            elders: self.elders(key, &workloads),
            last_sight: entry
                .record
                .as_deref()
                .and_then(active)
                .map_or(LastSight::None, |active| self.last_sight(active)),
            replica_sets: entry.replica_sets.clone(),
            workloads,
            pods: entry.pods.clone(),
            nodes: nodes.collect(),
            live,
        })
    }

    /// Every group in passing, in the order of their keys: for lists.
    pub fn survey(&self, mut see: impl FnMut(Glimpse<'_>)) {
        for (key, entry) in &self.groups {
            see(Glimpse {
                key,
                record: entry.record.as_deref(),
                unreadable: entry.unreadable.as_ref(),
                pods: &mut entry.pods.iter(),
            });
        }
    }

    /// What there is to count in all groups. Only those that changed since the last time are gone through.
    pub(super) fn tally(&mut self) -> Tally {
        let mut total = Tally::default();
        for entry in self.groups.values_mut() {
            total.add(entry.tally.get_or_insert_with(|| Tally::of(&entry.pods, entry.record.as_deref())));
        }
        total
    }

    fn elders(&self, key: &GroupKey, workloads: &[Workload]) -> Vec<Arc<Record>> {
        let elders = self.kin.elders(key, workloads.iter().map(Member::of));
        elders.iter().filter_map(|key| self.groups.get(key)?.record.clone()).collect()
    }

    /// What the watch showed of the attempt's pod when that went.
    fn last_sight(&self, active: &Active) -> LastSight {
        if self.pod(&active.pod_uid).is_some() {
            return LastSight::None;
        }
        match self.gone.attempt_of(&active.pod_uid) {
            None => LastSight::None,
            Some(0) => LastSight::Unsignalled,
            Some(attempt) => LastSight::Signalled(attempt),
        }
    }

    fn pod(&self, uid: &str) -> Option<&Pod> {
        let Home { group, what: What::Pod(at) } = self.homes.get(uid)? else { return None };
        self.groups.get(group)?.pods.get(*at).map(|pod| &**pod)
    }

    /// The key as it is known already, or a new one.
    fn home(&self, key: &GroupKey) -> Arc<GroupKey> {
        self.groups.get_key_value(key).map_or_else(|| Arc::new(key.clone()), |(known, _)| Arc::clone(known))
    }

    fn leave(&mut self, uid: &str, key: &GroupKey) -> Concerned {
        match self.homes.get(uid) {
            Some(home) if *home.group != *key => self.remove(uid),
            _ => Concerned::new(),
        }
    }

    fn forget_if_empty(&mut self, key: &GroupKey) {
        if self.groups.get(key).is_some_and(Entry::is_empty) {
            self.groups.remove(key);
        }
    }
}

fn active(record: &Record) -> Option<&Active> {
    record.status.as_ref()?.active.as_ref()
}

fn fenced(record: &Record) -> Option<&Fenced> {
    record.status.as_ref()?.fenced.as_ref()
}

/// What a record has on a node: its active attempt.
fn stake(record: &Record) -> Option<Stake<'_>> {
    active(record)?.node_name.as_deref().map(Stake::of_attempt)
}

/// The pods that a record names as having, or having had, an attempt.
fn runners(record: &Record) -> impl Iterator<Item = &str> {
    let active = active(record).map(|active| active.pod_uid.as_str());
    active.into_iter().chain(fenced(record).map(|fenced| fenced.pod_uid.as_str()))
}

/// Texts of which each is kept once.
#[derive(Debug, Default)]
struct Shared {
    texts: HashSet<Arc<str>>,
    /// How many there were after those that nobody uses any more were let go of.
    used: usize,
}

impl Shared {
    /// The one that is the same as this one.
    fn one(&mut self, text: Arc<str>) -> Arc<str> {
        if let Some(known) = self.texts.get(&text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= 2 * self.used.max(64) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.texts.shrink_to_fit();
            self.used = self.texts.len();
        }
        self.texts.insert(Arc::clone(&text));
        text
    }
}

/// Whether one version of an object is older than another of the same object. Versions are numbers that grow
/// (Kubernetes, "API Concepts", resource versions, since 1.35); where they are not, what came last counts.
pub(super) fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}
