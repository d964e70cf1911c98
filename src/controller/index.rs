//! Everything that is known of the cluster, by group: what watches and writes say goes in, snapshots come out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::gone::Gone;
use super::objects::GroupKey;
use super::snapshot::{Live, Node, Pod, Record, RecordView, Snapshot, Unreadable, Workload};

/// The known state of all groups and nodes. Of ten thousand pods in one group the group's name is kept once.
#[derive(Debug, Default)]
pub struct Index {
    groups: BTreeMap<Arc<GroupKey>, Entry>,
    nodes: HashMap<String, Node>,
    /// Where a pod or workload was seen last, by UID: its label may have moved it.
    homes: HashMap<Arc<str>, Arc<GroupKey>>,
    /// Workloads that ask for a gate and have none, by UID.
    ungated: HashSet<String>,
    /// What ended lately.
    gone: Gone,
}

#[derive(Debug, Default)]
struct Entry {
    pods: BTreeMap<Arc<str>, Arc<Pod>>,
    workloads: BTreeMap<Arc<str>, Workload>,
    record: Option<Record>,
    unreadable: Option<Unreadable>,
    refused: bool,
}

impl Entry {
    fn record_uid(&self) -> Option<&str> {
        let unreadable = || self.unreadable.as_ref().map(|unreadable| unreadable.uid.as_str());
        self.record.as_ref().map(|record| record.uid.as_str()).or_else(unreadable)
    }

    fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.workloads.is_empty() && self.record.is_none() && self.unreadable.is_none()
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
        let mut concerned = self.leave(&pod.uid, &key);
        let home = self.home(&key);
        let pods = &mut self.groups.entry(Arc::clone(&home)).or_default().pods;
        let as_before = |known: &&Arc<Pod>| known.agent == pod.agent && known.agent_restarts == pod.agent_restarts;
        let known = pods.get_mut(pod.uid.as_str());
        pod.agent_since = known.as_deref().filter(as_before).map_or_else(Timestamp::now, |known| known.agent_since);
        match known {
            Some(known) if is_older(&pod.resource_version, &known.resource_version) => return concerned,
            Some(known) if **known == pod => return concerned,
            Some(known) => *known = Arc::new(pod),
            None => {
                let uid: Arc<str> = pod.uid.as_str().into();
                self.homes.insert(Arc::clone(&uid), home);
                pods.insert(uid, Arc::new(pod));
            }
        }
        concerned.push(key);
        concerned
    }

    /// A workload was seen.
    pub fn put_workload(&mut self, key: GroupKey, workload: Workload) -> Concerned {
        let mut concerned = self.leave(&workload.uid, &key);
        self.ungated.remove(&workload.uid);
        let (home, uid) = (self.home(&key), Arc::<str>::from(workload.uid.as_str()));
        self.homes.insert(Arc::clone(&uid), Arc::clone(&home));
        let workloads = &mut self.groups.entry(home).or_default().workloads;
        if workloads.get(&uid) != Some(&workload) {
            workloads.insert(uid, workload);
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
    pub fn put_record(&mut self, key: GroupKey, record: Record) -> Concerned {
        if self.gone.knows(&record.uid, &record.resource_version) {
            return Concerned::new();
        }
        let entry = self.groups.entry(self.home(&key)).or_default();
        if let Some(known) = &entry.record {
            let older = known.uid == record.uid && is_older(&record.resource_version, &known.resource_version);
            if older || *known == record {
                return Vec::new();
            }
        }
        // A group that one of its workloads moved to may wait for this record.
        let homes = record.owners.iter().filter_map(|owner| self.homes.get(owner.uid.as_str()));
        let mut concerned: Concerned = homes.filter(|home| ***home != key).map(|home| (**home).clone()).collect();
        entry.record = Some(record);
        entry.unreadable = None;
        entry.refused = false;
        concerned.push(key);
        concerned
    }

    /// A record was seen that can't be read. The one that was known before is not believed any more.
    pub fn put_unreadable(&mut self, key: GroupKey, unreadable: Unreadable) -> Concerned {
        let entry = self.groups.entry(self.home(&key)).or_default();
        if entry.unreadable.as_ref() == Some(&unreadable) {
            return Vec::new();
        }
        entry.record = None;
        entry.unreadable = Some(unreadable);
        vec![key]
    }

    /// The namespace takes no new objects.
    pub fn refuse_record(&mut self, key: &GroupKey) {
        if let Some(entry) = self.groups.get_mut(key) {
            entry.refused = true;
        }
    }

    /// A record is gone.
    pub fn remove_record(&mut self, key: &GroupKey, uid: &str) -> Concerned {
        let Some(entry) = self.groups.get_mut(key) else { return Vec::new() };
        if entry.record_uid() != Some(uid) {
            return Vec::new();
        }
        entry.record = None;
        entry.unreadable = None;
        self.forget_if_empty(key);
        vec![key.clone()]
    }

    /// A record is gone, of which only the UID is known.
    pub fn remove_record_by_uid(&mut self, uid: &str) -> Concerned {
        let has = |entry: &Entry| entry.record_uid() == Some(uid);
        let key = self.groups.iter().find(|(_, entry)| has(entry)).map(|(key, _)| Arc::clone(key));
        key.map_or_else(Concerned::new, |key| self.remove_record(&key, uid))
    }

    /// A watch said that an object ended with this version; `remove` forgets it. What is said of it later, but was
    /// true before, changes nothing.
    pub fn end(&mut self, uid: &str, version: &str, remove: impl Fn(&mut Index, &str) -> Concerned) -> Concerned {
        self.gone.note(uid, version);
        remove(self, uid)
    }

    /// A pod or workload is gone, or is ours no more.
    pub fn remove(&mut self, uid: &str) -> Concerned {
        self.ungated.remove(uid);
        let Some(key) = self.homes.remove(uid) else { return Vec::new() };
        if let Some(entry) = self.groups.get_mut(&key) {
            entry.pods.remove(uid);
            entry.workloads.remove(uid);
        }
        self.forget_if_empty(&key);
        vec![(*key).clone()]
    }

    /// A node was seen. Only what matters wakes those who have pods on it.
    pub fn put_node(&mut self, name: String, node: Node) -> Concerned {
        if self.nodes.get(&name) == Some(&node) {
            return Vec::new();
        }
        let concerned = self.groups_on(&name);
        self.nodes.insert(name, node);
        concerned
    }

    /// A node is gone.
    pub fn remove_node_by_uid(&mut self, uid: &str) -> Concerned {
        let gone: Vec<String> =
            self.nodes.iter().filter(|(_, node)| node.uid == uid).map(|(name, _)| name.clone()).collect();
        gone.iter().flat_map(|name| self.remove_node(name)).collect()
    }

    fn remove_node(&mut self, name: &str) -> Concerned {
        match self.nodes.remove(name) {
            Some(_) => self.groups_on(name),
            None => Vec::new(),
        }
    }

    /// After a complete list: forgets the pods that are not in it.
    pub fn retain_pods(&mut self, listed: &HashSet<String>) -> Concerned {
        let gone = self.uids(|entry| entry.pods.keys(), listed);
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// After a complete list: forgets the workloads that are not in it.
    pub fn retain_workloads(&mut self, listed: &HashSet<String>) -> Concerned {
        self.ungated.retain(|uid| listed.contains(uid));
        let gone = self.uids(|entry| entry.workloads.keys(), listed);
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
        let gone: Vec<String> =
            self.nodes.iter().filter(|(_, node)| !listed.contains(&node.uid)).map(|(name, _)| name.clone()).collect();
        gone.iter().flat_map(|name| self.remove_node(name)).collect()
    }

    /// Every group.
    pub fn keys(&self) -> Concerned {
        self.groups.keys().map(|key| (**key).clone()).collect()
    }

    /// One group as it is known now; `None` where nothing is known of it.
    pub fn snapshot(&self, key: &GroupKey, live: Live) -> Option<Snapshot> {
        let entry = self.groups.get(key)?;
        let mut workloads: Vec<Workload> = entry.workloads.values().cloned().collect();
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        let active =
            entry.record.iter().filter_map(|record| record.status.as_ref()?.active.as_ref()?.node_name.as_ref());
        let used: BTreeSet<&String> = entry.pods.values().filter_map(|pod| pod.node.as_ref()).chain(active).collect();
        let nodes = used.into_iter().filter_map(|name| Some((name.clone(), self.nodes.get(name)?.clone()))).collect();
        Some(Snapshot {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            record: match (&entry.record, &entry.unreadable) {
                (Some(record), _) => RecordView::Present(Box::new(record.clone())),
                (None, Some(unreadable)) => RecordView::Unreadable(unreadable.clone()),
                (None, None) if entry.refused => RecordView::Refused,
                (None, None) => RecordView::Missing,
            },
            elders: self.elders(key, &workloads),
            workloads,
            pods: entry.pods.values().cloned().collect(),
            nodes,
            live,
        })
    }

    /// Every group in passing, in the order of their keys: for gauges and lists.
    pub fn survey(&self, mut see: impl FnMut(Glimpse<'_>)) {
        for (key, entry) in &self.groups {
            see(Glimpse {
                key,
                record: entry.record.as_ref(),
                unreadable: entry.unreadable.as_ref(),
                pods: &mut entry.pods.values().map(|pod| &**pod),
            });
        }
    }

    fn elders(&self, key: &GroupKey, workloads: &[Workload]) -> Vec<Record> {
        let first = GroupKey { namespace: key.namespace.clone(), name: String::new() };
        let neighbours = self.groups.range(first..).take_while(|(other, _)| other.namespace == key.namespace);
        neighbours
            .filter(|(other, _)| ***other != *key)
            .filter_map(|(_, entry)| entry.record.as_ref())
            .filter(|record| record.owners.iter().any(|owner| workloads.iter().any(|w| owner.precedes(w))))
            .cloned()
            .collect()
    }

    fn groups_on(&self, node: &str) -> Concerned {
        let on = |pod: &Pod| pod.node.as_deref() == Some(node) && !pod.is_open();
        let active = |record: &Record| {
            record
                .status
                .as_ref()
                .and_then(|status| status.active.as_ref())
                .is_some_and(|a| a.node_name.as_deref() == Some(node))
        };
        let concerned =
            |entry: &Entry| entry.pods.values().map(|pod| &**pod).any(on) || entry.record.as_ref().is_some_and(active);
        self.groups.iter().filter(|(_, entry)| concerned(entry)).map(|(key, _)| (**key).clone()).collect()
    }

    /// The key as it is known already, or a new one.
    fn home(&self, key: &GroupKey) -> Arc<GroupKey> {
        self.groups.get_key_value(key).map_or_else(|| Arc::new(key.clone()), |(known, _)| Arc::clone(known))
    }

    fn leave(&mut self, uid: &str, key: &GroupKey) -> Concerned {
        match self.homes.get(uid) {
            Some(home) if **home != *key => self.remove(uid),
            _ => Vec::new(),
        }
    }

    fn uids<'a, I: Iterator<Item = &'a Arc<str>>>(
        &'a self,
        keys: impl Fn(&'a Entry) -> I,
        listed: &HashSet<String>,
    ) -> Vec<Arc<str>> {
        self.groups.values().flat_map(keys).filter(|uid| !listed.contains(&***uid)).cloned().collect()
    }

    fn forget_if_empty(&mut self, key: &GroupKey) {
        if self.groups.get(key).is_some_and(Entry::is_empty) {
            self.groups.remove(key);
        }
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
