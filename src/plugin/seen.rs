//! A namespace as the controller would know it, read with a person's rights: what is explained rests on the same
//! snapshot and the same rules as what is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;

use super::cluster::{Cluster, if_allowed};
use super::pods;
use super::problem::Problem;
use crate::contract::{RECORD_FINALIZER, label};
use crate::controller::index::Index;
use crate::controller::objects::{
    DeploymentObject, GroupKey, NodeObject, ReplicaSetObject, record_facts, unreadable_facts,
};
use crate::controller::pods::Pods;
use crate::controller::snapshot::{Asked, Found, LastSight, Live, LiveNode, RecordView, Snapshot};
use crate::controller::{decision, evidence, snapshot};
use crate::migration::{Active, MigrationGate};

/// What was read of one namespace.
pub(crate) struct Seen {
    namespace: String,
    index: Index,
    /// Every Deployment, gated or not, by name.
    pub(crate) deployments: BTreeMap<String, Deployment>,
    /// Every gated pod, by name.
    pub(crate) pods: BTreeMap<String, Pod>,
    /// The records that our finalizer keeps.
    pub(crate) held: Vec<String>,
    /// Nodes that may not be read are taken for healthy.
    pub(crate) nodes: Nodes,
}

/// Whether nodes could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// They are known.
    Known,
    /// The right is missing.
    Assumed,
}

impl Seen {
    /// Reads Deployments, gated pods and records, and the nodes that they are on.
    pub(crate) async fn read(cluster: &Cluster, namespace: &str) -> Result<Seen, Problem> {
        let records: Vec<DeserializeGuard<MigrationGate>> = cluster.list(Some(namespace), "").await?;
        let deployments: Vec<Deployment> = cluster.list(Some(namespace), "").await?;
        let replica_sets: Vec<ReplicaSet> = cluster.list(Some(namespace), label::GATE).await?;
        let pods: Vec<Pod> = cluster.list(Some(namespace), label::GATE).await?;
        let mut seen = Seen::of(namespace, &records, deployments, &replica_sets, pods);
        seen.read_nodes(cluster).await?;
        Ok(seen)
    }

    /// The same of objects that were read.
    pub(crate) fn of(
        namespace: &str,
        records: &[DeserializeGuard<MigrationGate>],
        deployments: Vec<Deployment>,
        replica_sets: &[ReplicaSet],
        pods: Vec<Pod>,
    ) -> Seen {
        let mut index = Index::default();
        for record in records {
            match &record.0 {
                Ok(gate) => {
                    record_facts(gate).map(|(key, record)| index.put_record(key, record));
                }
                Err(invalid) => {
                    let facts = unreadable_facts(&invalid.metadata, invalid.error.to_string());
                    facts.map(|(key, unreadable)| index.put_unreadable(key, unreadable));
                }
            }
        }
        for deployment in deployments.iter().filter(|deployment| is_gated(deployment)) {
            facts_of(deployment).map(|(key, workload)| index.put_workload(key, workload));
        }
        for (key, uid, workload) in replica_sets.iter().filter_map(replica_set_facts) {
            index.put_replica_set(key, uid, workload);
        }
        for (key, pod) in pods.iter().filter_map(pods::facts) {
            index.put_pod(key, pod);
        }
        let named = |name: &Option<String>| name.clone().unwrap_or_default();
        let held = records
            .iter()
            .map(metadata_of)
            .filter(|metadata| metadata.finalizers.iter().flatten().any(|finalizer| finalizer == RECORD_FINALIZER));
        Seen {
            namespace: namespace.to_owned(),
            index,
            deployments: deployments.into_iter().map(|each| (named(&each.metadata.name), each)).collect(),
            pods: pods.into_iter().map(|each| (named(&each.metadata.name), each)).collect(),
            held: held.map(|metadata| named(&metadata.name)).collect(),
            nodes: Nodes::Known,
        }
    }

    /// A node, Ready or not.
    #[cfg(test)]
    pub(crate) fn put_node(&mut self, name: &str, ready: bool) {
        let node = snapshot::Node { uid: String::new(), ready, out_of_service: false, leaving: false };
        self.index.put_node(name.to_owned(), node);
    }

    async fn read_nodes(&mut self, cluster: &Cluster) -> Result<(), Problem> {
        for (name, uid) in self.nodes_in_use() {
            if self.nodes == Nodes::Known {
                match if_allowed(cluster.get_global::<Node>(&name).await)? {
                    Some(node) => {
                        node.and_then(|node| node_facts(&node)).map(|(name, node)| self.index.put_node(name, node));
                        continue;
                    }
                    None => self.nodes = Nodes::Assumed,
                }
            }
            let healthy = snapshot::Node { uid, ready: true, out_of_service: false, leaving: false };
            self.index.put_node(name, healthy);
        }
        Ok(())
    }

    /// The nodes of pods and active attempts, with the UID that a record knows.
    fn nodes_in_use(&self) -> BTreeSet<(String, String)> {
        let mut nodes = BTreeMap::new();
        for key in self.index.keys() {
            let Some(snapshot) = self.index.snapshot(&key, Live::default()) else { continue };
            nodes.extend(snapshot.pods.iter().filter_map(|pod| Some((pod.node.clone()?, String::new()))));
        }
        for key in self.index.keys() {
            let Some(snapshot) = self.index.snapshot(&key, Live::default()) else { continue };
            if let Some(active) = active(&snapshot) {
                nodes.extend(active.node_name.clone().map(|name| (name, active.node_uid.clone().unwrap_or_default())));
            }
        }
        nodes.into_iter().collect()
    }

    /// The group that a workload's template belongs to.
    pub(crate) fn group_of(&self, workload: &str) -> Option<(GroupKey, snapshot::Workload)> {
        self.deployments.get(workload).and_then(facts_of)
    }

    /// One group, as the controller would know it if it had just read all that it can ask for.
    pub(crate) fn snapshot(&self, record: &str) -> Snapshot {
        let key = GroupKey { namespace: self.namespace.clone(), name: record.to_owned() };
        let empty = Snapshot {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            record: RecordView::Missing,
            workloads: Vec::new(),
            pods: Pods::default(),
            nodes: BTreeMap::new(),
            replica_sets: BTreeMap::new(),
            elders: Vec::new(),
            last_sight: LastSight::None,
            live: Live::default(),
        };
        let mut snapshot = self.index.snapshot(&key, Live::default()).unwrap_or(empty);
        snapshot.live = answers(&snapshot);
        snapshot
    }
}

/// What the controller would hear if it asked: all of it was read just now. How long a node has been silent can't be
/// told from one look, so that it counts as none.
fn answers(snapshot: &Snapshot) -> Live {
    let Some(active) = active(snapshot) else { return Live::default() };
    let runner = snapshot.pod(&active.pod_uid).cloned().map_or(Found::Gone, Found::Here);
    let node = active.node_name.as_ref().map(|name| match snapshot.nodes.get(name) {
        Some(node) => Found::Here(LiveNode { node: node.clone(), silent_for: std::time::Duration::ZERO }),
        None => Found::Gone,
    });
    Live { asked: Some(Asked::about(active)), runner: Some(runner), node, ..Live::default() }
}

/// The active attempt of a group.
pub(crate) fn active(snapshot: &Snapshot) -> Option<&Active> {
    match &snapshot.record {
        RecordView::Present(record) => record.status.as_ref()?.active.as_ref(),
        _ => None,
    }
}

/// What an installation takes for proof, as far as a person can know: the default.
pub(crate) const RULES: decision::Rules = decision::Rules { node_deletion: evidence::NodeDeletion::Proves };

/// Whether a Deployment asks for a gate.
pub(crate) fn is_gated(deployment: &Deployment) -> bool {
    let labels = deployment.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(label::GATED)).is_some_and(|value| value == label::GATED_TRUE)
}

fn metadata_of(record: &DeserializeGuard<MigrationGate>) -> &ObjectMeta {
    match &record.0 {
        Ok(gate) => &gate.metadata,
        Err(invalid) => &invalid.metadata,
    }
}

fn facts_of(deployment: &Deployment) -> Option<(GroupKey, snapshot::Workload)> {
    let value = serde_json::to_value(deployment).ok()?;
    serde_json::from_value::<DeploymentObject>(value).ok()?.facts()
}

fn replica_set_facts(replica_set: &ReplicaSet) -> Option<(GroupKey, Arc<str>, Arc<str>)> {
    let value = serde_json::to_value(replica_set).ok()?;
    serde_json::from_value::<ReplicaSetObject>(value).ok()?.facts()
}

fn node_facts(node: &Node) -> Option<(String, snapshot::Node)> {
    let value = serde_json::to_value(node).ok()?;
    serde_json::from_value::<NodeObject>(value).ok()?.facts()
}
