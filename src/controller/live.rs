//! Reads that must not be late: answered by the API server now, not by a watch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};

use crate::contract::label;
use crate::migration::{Active, MigrationGate, MigrationGateSpec};

use super::evidence::Question;
use super::objects::{GroupKey, NodeObject, PodObject, record_facts};
use super::snapshot::{Asked, Found, Live, LiveNode, Pod, Record};
use super::watch::Cache;

/// The namespace of the Leases by which kubelets say that they live. Source: Kubernetes, "Leases", node heartbeats.
const NODE_LEASES: &str = "kube-node-lease";

/// Pods that are read at once. Ten thousand in one answer are 40 MB of text.
const PAGE: u32 = 100;

/// The reader.
#[derive(Clone)]
pub struct Reader {
    /// The client.
    pub client: Client,
    /// What learns what was read.
    pub cache: Arc<Cache>,
    /// The heartbeats seen so far.
    pub heartbeats: Arc<Heartbeats>,
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
    /// Answers a question about a group.
    ///
    /// # Errors
    /// The API server's, if one of the reads failed. Not finding an object is an answer.
    pub async fn answer(
        &self,
        key: &GroupKey,
        question: Question,
        record: Option<&Record>,
        active: Option<&Active>,
    ) -> Result<Live, kube::Error> {
        let mut live = Live::default();
        if question == Question::Pods {
            live.asked = record.map(|record| Asked::Pods(record.uid.clone()));
            live.pods = Some(self.pods(key).await?);
        } else if question == Question::Elders {
            live.asked = record.map(Asked::beside);
            live.elders = Some(self.elders(key).await?);
        } else if let Some(active) = active {
            live.asked = Some(Asked::about(active));
            // The pod is read last: what it says is at least as new as what the node says.
            if question == Question::RunnerAndNode {
                live.node = Some(self.node(active.node_name.as_deref().unwrap_or_default()).await?);
            }
            live.runner = Some(self.runner(key, active).await?);
        }
        Ok(live)
    }

    /// All pods of the group, as they were at one moment: the API server keeps the version of the first page for the
    /// others, or refuses them. Source: Kubernetes API concepts, "Retrieving large results sets in chunks".
    async fn pods(&self, key: &GroupKey) -> Result<Vec<Pod>, kube::Error> {
        let pods: Api<PodObject> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut page = ListParams::default().labels(&format!("{}={}", label::GATE, key.name)).limit(PAGE);
        let mut found = Vec::new();
        loop {
            let listed = pods.list(&page).await?;
            found.extend(listed.items.iter().filter_map(PodObject::facts).map(|(_, pod)| pod));
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// The namespace's other records. One that can't be read is one of which nobody knows who runs.
    async fn elders(&self, key: &GroupKey) -> Result<Vec<Record>, kube::Error> {
        let records: Api<DeserializeGuard<MigrationGate>> = Api::namespaced(self.client.clone(), &key.namespace);
        let listed = records.list(&ListParams::default()).await?.items.into_iter().filter_map(|guarded| {
            let readable = guarded.0.is_ok();
            let gate = guarded.0.unwrap_or_else(|invalid| MigrationGate {
                metadata: invalid.metadata,
                spec: MigrationGateSpec::default(),
                status: None,
            });
            record_facts(&gate).map(|(other, record)| (other, record, readable))
        });
        let mut elders = Vec::new();
        for (other, record, readable) in listed.filter(|(other, ..)| other != key) {
            if readable {
                self.cache.update(|index| index.put_record(other, record.clone()));
            }
            elders.push(record);
        }
        Ok(elders)
    }

    async fn runner(&self, key: &GroupKey, active: &Active) -> Result<Found<Pod>, kube::Error> {
        let pods: Api<PodObject> = Api::namespaced(self.client.clone(), &key.namespace);
        let found = pods.get_opt(&active.pod_name).await?.and_then(|pod| pod.facts());
        match found {
            Some((key, pod)) if pod.uid == active.pod_uid => {
                self.cache.update(|index| index.put_pod(key, pod.clone()));
                Ok(Found::Here(pod))
            }
            _ => {
                self.cache.update(|index| index.remove(&active.pod_uid));
                Ok(Found::Gone)
            }
        }
    }

    async fn node(&self, name: &str) -> Result<Found<LiveNode>, kube::Error> {
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let Some((_, node)) = nodes.get_opt(name).await?.and_then(|node| node.facts()) else {
            return Ok(Found::Gone);
        };
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NODE_LEASES);
        let lease = leases.get_opt(name).await?;
        // A node without a Lease never renews it; that is silence, too, from when it was first seen.
        let beat = lease.and_then(|lease| lease.metadata.resource_version).unwrap_or_default();
        Ok(Found::Here(LiveNode { node, silent_for: self.heartbeats.silent_for(name, beat, Instant::now()) }))
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
