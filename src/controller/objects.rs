//! The parts of Kubernetes' objects that are read, and what they come to as plain values.
//!
//! Own types rather than whole Pods: of a pod in ten thousand, a few hundred bytes are kept, and an unknown value in a
//! field that nobody needs can't stop the watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node as KubeNode, Pod as KubePod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Deserialize;

use crate::contract::{CONDITION, Opened, POD_FINALIZER, Report, Signal, annotation, label, pod};
use crate::group::WorkloadKind;
use crate::migration::{Member, MigrationGate, MigrationGateStatus};
use crate::settings::Policy;

use super::metadata;
use super::snapshot::{AgentState, Exit, Guards, Node, Owner, Pod, PodPhase, Record, Unreadable, Workload};

/// The label that says who made a record. Source: Kubernetes, "Recommended Labels".
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on records that the controller made.
pub const MANAGER: &str = "migration-gate";
/// Set by hand on a node that is powered off. Source: Kubernetes, "Non-graceful node shutdown handling".
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Taints of nodes that are about to be drained or removed: cordon, cluster autoscaler, Karpenter.
const LEAVING: [&str; 4] = [
    "node.kubernetes.io/unschedulable",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "karpenter.sh/disrupted",
];
/// The reason of the pod garbage collector's DisruptionTarget condition. Source: pkg/controller/podgc.
const DELETION_BY_POD_GC: &str = "DeletionByPodGC";

/// A gated pod, as it is watched.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = KubePod)]
pub struct PodObject {
    #[serde(deserialize_with = "metadata::read")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    termination_grace_period_seconds: Option<i64>,
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: String,
    command: Vec<String>,
    args: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    conditions: Vec<PodCondition>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    restart_count: u32,
    state: ContainerState,
    last_state: ContainerState,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    running: Option<serde::de::IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: String,
    reason: String,
    message: String,
}

/// A workload, as it is watched.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Deployment)]
pub struct DeploymentObject {
    #[serde(deserialize_with = "metadata::read")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: DeploymentSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    template: PodTemplate,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodTemplate {
    metadata: ObjectMeta,
    spec: PodSpec,
}

/// A ReplicaSet, as it is watched: who controls it is all that is asked of it.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = ReplicaSet)]
pub struct ReplicaSetObject {
    #[serde(deserialize_with = "metadata::read")]
    metadata: ObjectMeta,
}

/// A node, as it is watched.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = KubeNode)]
pub struct NodeObject {
    #[serde(deserialize_with = "metadata::read")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Vec<PodCondition>,
}

/// Where an object belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The namespace.
    pub namespace: String,
    /// The name of the group's record.
    pub name: String,
}

impl PodObject {
    /// The group and the facts; `None` for a pod that isn't gated (any more).
    pub fn facts(&self) -> Option<(GroupKey, Pod)> {
        let (labels, annotations) = (self.metadata.labels.as_ref()?, self.metadata.annotations.as_ref());
        let key = group_key(&self.metadata, labels.get(label::GATE)?)?;
        let uid = self.metadata.uid.clone()?;
        let fingerprint = labels.get(label::MIGRATION).cloned().unwrap_or_default();
        let said = |key: &str| annotations.and_then(|annotations| annotations.get(key));
        let signal = said(annotation::SIGNAL).and_then(|text| serde_json::from_str::<Signal>(text).ok());
        let opened = said(annotation::OPENED).and_then(|text| serde_json::from_str::<Opened>(text).ok());
        let guards = annotations.into_iter().flatten().map(|(key, _)| key.as_str());
        let agent = self.agent_status();
        let pod = Pod {
            name: self.metadata.name.clone()?,
            resource_version: self.metadata.resource_version.clone().unwrap_or_default(),
            controller: controller(&self.metadata),
            created: self.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: self.metadata.deletion_timestamp.is_some(),
            grace_seconds: self.grace_seconds(),
            phase: self.phase(),
            node: self.spec.node_name.clone(),
            signal: signal.filter(|signal| signal.pod_uid() == uid).map(Box::new),
            passed: opened.is_some_and(|opened| opened.pod_uid == uid && opened.migration == fingerprint),
            gate_open: holds(&self.status.conditions, CONDITION),
            held: self.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == POD_FINALIZER),
            guards: Guards::among(guards),
            our_guards: Guards::among(said(annotation::GUARDS).into_iter().flat_map(|keys| keys.split(','))),
            agent: agent.map_or(AgentState::Waiting, |status| {
                match (&status.state.running, &status.state.terminated) {
                    (Some(_), _) => AgentState::Running,
                    (None, Some(terminated)) => AgentState::Exited(terminated.facts()),
                    (None, None) => AgentState::Waiting,
                }
            }),
            agent_restarts: agent.map_or(0, |status| status.restart_count),
            // The index knows since when.
            agent_since: Timestamp::UNIX_EPOCH,
            agent_before: agent.and_then(|status| status.last_state.terminated.as_ref()).map(Terminated::facts),
            uid,
            fingerprint,
        };
        Some((key, pod))
    }

    fn phase(&self) -> PodPhase {
        let collected = self.status.conditions.iter().any(|condition| {
            condition.type_ == "DisruptionTarget"
                && condition.status == "True"
                && condition.reason == DELETION_BY_POD_GC
        });
        match self.status.phase.as_str() {
            "Failed" | "Succeeded" if collected => PodPhase::Collected,
            "Failed" | "Succeeded" => PodPhase::Ended,
            "Running" => PodPhase::Running,
            _ => PodPhase::Pending,
        }
    }

    fn grace_seconds(&self) -> u32 {
        let of_spec = self.spec.termination_grace_period_seconds;
        let longest = of_spec.max(self.metadata.deletion_grace_period_seconds).unwrap_or_default();
        u32::try_from(longest.max(0)).unwrap_or(u32::MAX)
    }

    fn agent_status(&self) -> Option<&ContainerStatus> {
        let name = &agent_container(&self.spec)?.name;
        self.status.init_container_statuses.iter().find(|status| status.name == *name)
    }
}

/// The init container that the agent runs in: ours, or a wrapped one.
fn agent_container(spec: &PodSpec) -> Option<&Container> {
    spec.init_containers.iter().find(|container| pod::runs_agent(&container.command))
}

impl Terminated {
    fn facts(&self) -> Exit {
        let report = Report::parse(&self.message);
        let tail = match &report {
            Some(_) => self.message.split_once('\n').map_or("", |(_, tail)| tail),
            None => self.message.as_str(),
        };
        Exit {
            real: !self.container_id.is_empty(),
            out_of_memory: self.reason == "OOMKilled",
            report: report.map(Box::new),
            tail: super::record::cut_front(tail, super::budget::TAIL_BYTES).to_owned(),
        }
    }
}

impl DeploymentObject {
    /// The group and the facts; `None` for a workload that isn't injected (any more).
    pub fn facts(&self) -> Option<(GroupKey, Workload)> {
        let labels = self.spec.template.metadata.labels.as_ref()?;
        let key = group_key(&self.metadata, labels.get(label::GATE)?)?;
        let annotations: BTreeMap<String, String> = self.metadata.annotations.clone().unwrap_or_default();
        let agent = agent_container(&self.spec.template.spec);
        let command = agent.map_or(&[][..], |agent| {
            let start = agent.args.iter().position(|arg| arg == "--").map_or(0, |at| at + 1);
            &agent.args[start..]
        });
        let workload = Workload {
            name: self.metadata.name.clone()?,
            uid: self.metadata.uid.clone()?,
            generation: self.metadata.generation.unwrap_or_default(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            fingerprint: labels.get(label::MIGRATION)?.clone(),
            image: agent.map(|agent| agent.image.clone()).unwrap_or_default(),
            command: command.join(" "),
            revision: annotations.get(annotation::REVISION).cloned(),
            policy: Policy::of(&annotations).map_err(|error| error.to_string()),
        };
        Some((key, workload))
    }
}

impl ReplicaSetObject {
    /// The group, the ReplicaSet's UID and that of the workload that controls it; `None` for one that isn't gated, or that
    /// nobody controls.
    pub fn facts(&self) -> Option<(GroupKey, Arc<str>, Arc<str>)> {
        let labels = self.metadata.labels.as_ref()?;
        let key = group_key(&self.metadata, labels.get(label::GATE)?)?;
        Some((key, self.metadata.uid.as_deref()?.into(), controller(&self.metadata)?))
    }
}

impl NodeObject {
    /// The name and the facts.
    pub fn facts(&self) -> Option<(String, Node)> {
        let tainted = |keys: &[&str]| self.spec.taints.iter().any(|taint| keys.contains(&taint.key.as_str()));
        let node = Node {
            uid: self.metadata.uid.clone()?,
            ready: holds(&self.status.conditions, "Ready"),
            out_of_service: tainted(&[OUT_OF_SERVICE]),
            leaving: tainted(&LEAVING),
        };
        Some((self.metadata.name.clone()?, node))
    }
}

/// The facts of a record.
pub fn record_facts(gate: &MigrationGate) -> Option<(GroupKey, Record)> {
    let metadata = &gate.metadata;
    let name = metadata.name.clone()?;
    let key = GroupKey { namespace: metadata.namespace.clone()?, name: name.clone() };
    let owner = |owner: &OwnerReference| Owner {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    };
    let record = Record {
        name,
        uid: metadata.uid.clone()?,
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        generation: metadata.generation,
        deleting: metadata.deletion_timestamp.is_some(),
        managed: metadata.labels.iter().flatten().any(|(key, value)| key == MANAGED_BY && value == MANAGER),
        finalizers: metadata.finalizers.clone().unwrap_or_default(),
        owners: metadata.owner_references.iter().flatten().map(owner).collect(),
        overrides: gate.spec.overrides.clone(),
        status: gate.status.clone().filter(MigrationGateStatus::says_anything),
        // The index knows since when.
        fenced_since: None,
        unreadable: false,
    };
    Some((key, record))
}

/// What is known of a record that can't be read.
pub fn unreadable_facts(metadata: &ObjectMeta, why: String) -> Option<(GroupKey, Unreadable)> {
    let name = metadata.name.clone()?;
    let unreadable = Unreadable {
        name: name.clone(),
        uid: metadata.uid.clone()?,
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        why,
    };
    Some((GroupKey { namespace: metadata.namespace.clone()?, name }, unreadable))
}

impl Owner {
    /// The owner that a workload is.
    pub fn of(workload: &Workload) -> Owner {
        Owner {
            api_version: WorkloadKind::Deployment.api_version().to_owned(),
            kind: WorkloadKind::Deployment.kind().to_owned(),
            name: workload.name.clone(),
            uid: workload.uid.clone(),
        }
    }
}

impl Member {
    /// The member that a workload is.
    pub fn of(workload: &Workload) -> Member {
        Member::from(&Owner::of(workload))
    }
}

/// The UID of the one owner that controls an object. Source: Kubernetes, "Owners and Dependents", controller references.
fn controller(metadata: &ObjectMeta) -> Option<Arc<str>> {
    let owners = metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str().into()).next()
}

fn group_key(metadata: &ObjectMeta, gate: &str) -> Option<GroupKey> {
    Some(GroupKey { namespace: metadata.namespace.clone()?, name: gate.to_owned() })
}

fn holds(conditions: &[PodCondition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::{AgentDelivery, Installation, render};

    #[test]
    fn a_complaint_is_no_status() {
        let read = |status: Value| {
            let gate = json!({
                "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate", "spec": {}, "status": status,
                "metadata": { "name": "orders.deployment", "namespace": "shop", "uid": "u" },
            });
            let (_, record) = record_facts(&serde_json::from_value(gate).expect("a record")).expect("a named one");
            record.status
        };
        let condition = |type_| json!({ "type": type_, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-11-27T00:00:00Z" });
        assert_eq!(read(json!({ "conditions": [condition("Stalled")] })), None, "its pods are yet to be asked");
        assert!(read(json!({ "conditions": [condition("Migrated")] })).is_some());
        assert!(read(json!({ "lastAttempt": 1 })).is_some());
    }

    #[test]
    fn a_pod_and_a_replica_set_say_who_controls_them() {
        let metadata = |controller: bool| {
            json!({
                "name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "1",
                "labels": { label::GATE: "orders.deployment", label::MIGRATION: "m" },
                "ownerReferences": [
                    { "apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c" },
                    { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": controller },
                ],
            })
        };
        for controls in [true, false] {
            let object = json!({ "metadata": metadata(controls) });
            let pod = serde_json::from_value::<PodObject>(object.clone()).expect("a pod").facts().expect("gated").1;
            assert_eq!(pod.controller.as_deref(), controls.then_some("r"));
            let facts = serde_json::from_value::<ReplicaSetObject>(object).expect("a ReplicaSet").facts();
            assert_eq!(facts.map(|(_, uid, workload)| (uid, workload)), controls.then(|| ("u".into(), "r".into())));
        }
    }

    #[test]
    fn the_agent_is_found_whichever_way_the_webhook_delivers_it() {
        for delivery in [AgentDelivery::InstallContainer, AgentDelivery::ImageVolume] {
            let mut deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {
                    "name": "orders", "namespace": "shop", "uid": "d", "generation": 1,
                    "labels": { label::GATED: label::GATED_TRUE }, "annotations": { annotation::COMMAND: "migrate up" },
                },
                "spec": { "template": {
                    "metadata": { "labels": { "app": "orders" } },
                    "spec": { "containers": [{ "name": "web", "image": "orders:2" }] },
                } },
            });
            let installation = Installation { agent_image: "gate:1".to_owned(), delivery, version: "0.1.0" };
            render(&mut deployment, WorkloadKind::Deployment, &installation);
            let template = &deployment["spec"]["template"];
            let mut pod = json!({ "metadata": template["metadata"], "spec": template["spec"], "status": {
                "phase": "Pending",
                "initContainerStatuses": [{ "name": pod::MIGRATE_CONTAINER, "state": { "running": {} } }],
            } });
            for (key, value) in [("name", "a"), ("namespace", "shop"), ("uid", "u"), ("resourceVersion", "1")] {
                pod["metadata"][key] = value.into();
            }
            pod["metadata"]["creationTimestamp"] = "2026-11-22T00:00:00Z".into();
            let (_, pod) = serde_json::from_value::<PodObject>(pod).expect("a pod").facts().expect("a gated one");
            assert_eq!(pod.agent, AgentState::Running, "{delivery:?}");
            let template: PodTemplate = serde_json::from_value(template.clone()).expect("a template");
            assert_eq!(agent_container(&template.spec).map(|agent| agent.image.as_str()), Some("orders:2"));
        }
    }
}
