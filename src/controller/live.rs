//! Reads that must not be late: answered by the API server now, not by a watch.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::api_error::{ApiFailure, classify};
use crate::contract::label;
use crate::metrics::ControllerMetrics;
use crate::migration::{Active, Member, MigrationGate, MigrationGateSpec};
use crate::supervise::with_causes;

use super::apply::REQUEST;
use super::evidence::Question;
use super::kin::Sign;
use super::lists::Lists;
use super::objects::{NodeObject, PodObject, record_facts};
use super::snapshot::{Asked, Found, Live, LiveNode, Pod, Record, RecordView, Snapshot};
use super::watch::Cache;

/// The namespace of the Leases by which kubelets say that they live. Source: Kubernetes, "Leases", node heartbeats.
const NODE_LEASES: &str = "kube-node-lease";

/// Pods that are read at once. Ten thousand in one answer are 40 MB of text.
const POD_PAGE: u32 = 100;
/// Records that are read at once: one may have more than half a megabyte, though most have a few kilobytes.
const RECORD_PAGE: u32 = 25;

/// The reader.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    cache: Arc<Cache>,
    metrics: Arc<ControllerMetrics>,
    heartbeats: Arc<Heartbeats>,
    pods: Arc<Lists<String, Arc<Vec<Pod>>, ReadFailure>>,
    records: Arc<Lists<Vec<Member>, Vec<Arc<Record>>, ReadFailure>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFailure {
    /// What that means.
    pub failure: ApiFailure,
    /// In words, with all causes.
    pub error: String,
}

impl Asked {
    /// What a question is about, if it is asked of a group with this record.
    pub(super) fn subject(question: Question, record: Option<&Record>, active: Option<&Active>) -> Option<Asked> {
        match question {
            Question::Pods => record.map(|record| Asked::Pods(record.uid.clone())),
            Question::Elders => record.map(Asked::beside),
            Question::Runner | Question::RunnerAndNode => active.map(Asked::about),
        }
    }
}

/// When each node's Lease was first seen as it is now, by this process's own monotonic clock: two machines' clocks are
/// never compared.
#[derive(Debug, Default)]
pub struct Heartbeats(Mutex<HashMap<String, (String, Instant)>>);

impl Heartbeats {
    /// Notes what a node's Lease says now, and tells for how long it has been seen to say so.
    fn silent_for(&self, node: &str, lease: String, now: Instant) -> Duration {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get(node) {
            Some((known, since)) if *known == lease => now.duration_since(*since),
            _ => {
                seen.insert(node.to_owned(), (lease, now));
                Duration::ZERO
            }
        }
    }
}

impl Reader {
    /// One that asks by this client. What it finds is learnt by the cache, before a watch brings it.
    pub fn new(client: Client, cache: Arc<Cache>, metrics: Arc<ControllerMetrics>) -> Reader {
        let (heartbeats, pods, records) = (Arc::default(), Arc::default(), Arc::default());
        Reader { client, cache, metrics, heartbeats, pods, records }
    }

    /// Answers a question about a group.
    ///
    /// # Errors
    /// If one of the reads failed. Not finding an object is an answer.
    pub async fn answer(
        &self,
        snapshot: &Snapshot,
        question: Question,
        active: Option<&Active>,
    ) -> Result<Live, ReadFailure> {
        let record = match &snapshot.record {
            RecordView::Present(record) => Some(&**record),
            _ => None,
        };
        let mut live = Live { asked: Asked::subject(question, record, active), ..Live::default() };
        match (question, active) {
            (Question::Pods, _) => live.pods = Some(self.pods(snapshot).await?),
            (Question::Elders, _) => live.elders = Some(self.elders(snapshot).await?),
            (Question::Runner, Some(active)) => live.runner = Some(self.runner(snapshot, active).await?),
            (Question::RunnerAndNode, Some(active)) => {
                // The pod is read last: what it says is at least as new as what the node says.
                live.node = Some(self.node(active.node_name.as_deref().unwrap_or_default()).await?);
                live.runner = Some(self.runner(snapshot, active).await?);
            }
            (Question::Runner | Question::RunnerAndNode, None) => {}
        }
        Ok(live)
    }

    /// All pods of the group, as they were at one moment.
    async fn pods(&self, snapshot: &Snapshot) -> Result<Vec<Pod>, ReadFailure> {
        let list = |groups| self.pods_of(&snapshot.namespace, groups);
        let pods = self.pods.ask(&snapshot.namespace, snapshot.name.clone(), list).await?;
        Ok(Arc::unwrap_or_clone(pods))
    }

    /// The pods of each of these groups: whatever the selector, the API server goes through all of the namespace.
    async fn pods_of(&self, namespace: &str, groups: Vec<String>) -> Result<Vec<Arc<Vec<Pod>>>, ReadFailure> {
        let mut found: BTreeMap<&str, Vec<Pod>> = groups.iter().map(|group| (group.as_str(), Vec::new())).collect();
        let names: Vec<&str> = found.keys().copied().collect();
        let page = ListParams::default().labels(&format!("{} in ({})", label::GATE, names.join(","))).limit(POD_PAGE);
        self.list(namespace, page, |pod: PodObject| {
            if let Some((key, pod)) = pod.facts()
                && let Some(pods) = found.get_mut(key.name.as_str())
            {
                pods.push(pod);
            }
        })
        .await?;
        let found: BTreeMap<&str, Arc<Vec<Pod>>> =
            found.into_iter().map(|(group, pods)| (group, Arc::new(pods))).collect();
        Ok(groups.iter().map(|group| found.get(group.as_str()).cloned().unwrap_or_default()).collect())
    }

    /// The namespace's other records, as far as they may have to do with the workloads of this one.
    async fn elders(&self, snapshot: &Snapshot) -> Result<Vec<Arc<Record>>, ReadFailure> {
        let workloads = snapshot.workloads.iter().map(Member::of).collect();
        let list = |workloads| self.records_of(&snapshot.namespace, workloads);
        let mut elders = self.records.ask(&snapshot.namespace, workloads, list).await?;
        elders.retain(|record| record.name != snapshot.name);
        Ok(elders)
    }

    /// For each of these lists of workloads, the records that may have elected for one of them: all that can't be read,
    /// because nobody knows who runs there, and those that elect for one of all these workloads. Of a thousand records of
    /// a namespace the others are let go of page by page.
    async fn records_of(
        &self,
        namespace: &str,
        workloads: Vec<Vec<Member>>,
    ) -> Result<Vec<Vec<Arc<Record>>>, ReadFailure> {
        let signs: HashSet<Sign> = workloads.iter().flatten().cloned().flat_map(Sign::of).collect();
        let mut found = Vec::new();
        let page = ListParams::default().limit(RECORD_PAGE);
        self.list(namespace, page, |guarded: DeserializeGuard<MigrationGate>| {
            let unreadable = guarded.0.is_err();
            let gate = guarded.0.unwrap_or_else(|invalid| MigrationGate {
                metadata: invalid.metadata,
                spec: MigrationGateSpec::default(),
                status: None,
            });
            let Some((key, record)) = record_facts(&gate) else { return };
            if unreadable {
                found.push(Arc::new(Record { unreadable, ..record }));
            } else if record.electorate().flat_map(Sign::of).any(|sign| signs.contains(&sign)) {
                // Else a watch that is late would show what was answered already.
                self.cache.update(|index| index.put_record(key, record.clone()));
                found.push(Arc::new(record));
            }
        })
        .await?;
        Ok(vec![found; workloads.len()])
    }

    /// A list in pages, each of which has its own time: how many there are is nobody's fault.
    async fn list<K: Clone + Debug + DeserializeOwned + Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
        &self,
        namespace: &str,
        mut page: ListParams,
        mut each: impl FnMut(K),
    ) -> Result<(), ReadFailure> {
        let objects: Api<K> = Api::namespaced(self.client.clone(), namespace);
        loop {
            let listed = self.read(objects.list(&page)).await?;
            listed.items.into_iter().for_each(&mut each);
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(()),
            }
        }
    }

    async fn runner(&self, snapshot: &Snapshot, active: &Active) -> Result<Found<Pod>, ReadFailure> {
        let pods: Api<PodObject> = Api::namespaced(self.client.clone(), &snapshot.namespace);
        let found = self.read(pods.get_opt(&active.pod_name)).await?;
        let Some(found) = found.filter(|pod| pod.meta().uid.as_ref() == Some(&active.pod_uid)) else {
            // The watch will show how it went, and take it out of the index.
            return Ok(Found::Gone);
        };
        let Some((key, pod)) = found.facts() else { return Ok(Found::Unlabelled) };
        self.cache.update(|index| index.put_pod(key, pod.clone()));
        Ok(Found::Here(pod))
    }

    async fn node(&self, name: &str) -> Result<Found<LiveNode>, ReadFailure> {
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let Some((_, node)) = self.read(nodes.get_opt(name)).await?.and_then(|node| node.facts()) else {
            return Ok(Found::Gone);
        };
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NODE_LEASES);
        let lease = self.read(leases.get_opt(name)).await?;
        // A node without a Lease never renews it; that is silence, too, from when it was first seen.
        let beat = lease.and_then(|lease| lease.metadata.resource_version).unwrap_or_default();
        Ok(Found::Here(LiveNode { node, silent_for: self.heartbeats.silent_for(name, beat, Instant::now()) }))
    }

    /// One request.
    async fn read<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ReadFailure> {
        let failed = match tokio::time::timeout(REQUEST, request).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => ReadFailure { failure: classify(&error), error: with_causes(&error) },
            Err(_) => ReadFailure {
                failure: ApiFailure::Transient { retry_after: None },
                error: "there was no answer in time".to_owned(),
            },
        };
        self.metrics.api_errors.of(failed.failure).inc();
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_from_the_last_change_that_was_seen() {
        let heartbeats = Heartbeats::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(heartbeats.silent_for("a", "1".to_owned(), at(0)), Duration::ZERO);
        assert_eq!(heartbeats.silent_for("a", "1".to_owned(), at(30)), Duration::from_secs(30));
        assert_eq!(heartbeats.silent_for("b", "1".to_owned(), at(35)), Duration::ZERO);
        assert_eq!(heartbeats.silent_for("a", "2".to_owned(), at(40)), Duration::ZERO);
        assert_eq!(heartbeats.silent_for("a", "2".to_owned(), at(45)), Duration::from_secs(5));
    }
}
