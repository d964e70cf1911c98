//! Everybody who meets the policies, and the pods that they try themselves on.

use serde_json::{Value, json};
use testcluster::{Cluster, Options, Profile};

use migration_gate::contract::{CONDITION, POD_FINALIZER, RECORD_FINALIZER, annotation, label};

use crate::support::client::{Answer, Somebody, namespace};
use crate::support::eventually;

pub(crate) const PODS: &str = "/api/v1/namespaces/shop/pods";
pub(crate) const RECORDS: &str = "/apis/migration-gate.dev/v1alpha1/namespaces/shop/migrationgates";
pub(crate) const NODE: &str = "node-1";

/// Everybody who meets the policies.
pub(crate) struct People {
    pub(crate) administrator: Somebody,
    /// A service account with every right on pods and all their subresources, and none on gates.
    pub(crate) app: Somebody,
    /// A person with the built-in role `admin` in the namespace.
    pub(crate) owner: Somebody,
    pub(crate) scheduler: Somebody,
    pub(crate) kubelet: Somebody,
    pub(crate) controller: Somebody,
    /// A person with the role for emergencies, in this namespace alone.
    pub(crate) fireman: Somebody,
    /// A service account that may do nothing but create pods.
    pub(crate) pod_maker: Somebody,
    /// One that may do nothing but create Jobs and CronJobs.
    pub(crate) job_maker: Somebody,
    /// One with every right on the workloads that aren't gated, and on ReplicaSets.
    pub(crate) crafter: Somebody,
    /// One with every right on Deployments.
    pub(crate) deployer: Somebody,
    /// One with the role migration-gate-edit.
    pub(crate) editor: Somebody,
    /// The user of a control plane that gives its controllers no accounts of their own.
    pub(crate) one_for_all: Somebody,
    pub(crate) collector: Somebody,
}

pub(crate) async fn boot(name: &str) -> (Cluster, People) {
    let cluster = Cluster::boot(Options::new(name, Profile::Api)).expect("an API server");
    for file in ["deploy/namespace.yaml", "deploy/crd.yaml", "deploy/rbac.yaml", "webhook-config/policies.yaml"] {
        cluster.kubectl(&["apply", "-f", file]).expect("a part of the installation");
    }
    let config = cluster.kubeconfig();
    let everyone = ["system:authenticated"];
    let people = People {
        administrator: Somebody::administrator(&config).await,
        app: Somebody::service_account(&config, "shop", "app").await,
        owner: Somebody::user(&config, "olivia", &everyone).await,
        scheduler: Somebody::user(&config, "system:kube-scheduler", &everyone).await,
        kubelet: Somebody::user(&config, &format!("system:node:{NODE}"), &["system:nodes", "system:authenticated"])
            .await,
        controller: Somebody::service_account(&config, "migration-gate-system", "migration-gate-controller").await,
        fireman: Somebody::user(&config, "frank", &everyone).await,
        pod_maker: Somebody::service_account(&config, "shop", "pod-maker").await,
        job_maker: Somebody::service_account(&config, "shop", "job-maker").await,
        crafter: Somebody::service_account(&config, "shop", "crafter").await,
        deployer: Somebody::service_account(&config, "shop", "deployer").await,
        editor: Somebody::service_account(&config, "shop", "editor").await,
        collector: Somebody::service_account(&config, "kube-system", "generic-garbage-collector").await,
        one_for_all: Somebody::user(&config, "system:kube-controller-manager", &everyone).await,
    };
    // As a workload in the namespace sees the policy for workloads.
    namespace(&people.administrator, "shop", json!({ label::INJECT: label::INJECT_ENABLED })).await;
    for object in roles() {
        cluster.apply(&object.to_string()).expect("a role or its binding");
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    cluster.apply(&node.to_string()).expect("a node");
    // They take effect one after the other, the first and the last of them here.
    let probe = with(&gated("probe"), "/metadata/annotations", json!({ annotation::SIGNAL: "x" }));
    eventually("the policies for pods to act", async || {
        let answer = people.app.create(&format!("{PODS}?dryRun=All"), &probe).await;
        answer.err().filter(|status| status.message.contains("pods.migration-gate.dev"))
    })
    .await;
    let probe = with(&record("probe"), "/metadata/finalizers", json!([RECORD_FINALIZER]));
    eventually("the policies for records to act", async || {
        let answer = people.editor.create(&format!("{RECORDS}?dryRun=All"), &probe).await;
        answer.err().filter(|status| status.message.contains("records.migration-gate.dev"))
    })
    .await;
    (cluster, people)
}

/// Who may do what in the namespace.
fn roles() -> Vec<Value> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let rules = |name: &str, group: &str, resources: &[&str], verbs: &[&str]| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": [group], "resources": resources, "verbs": verbs}],
        })
    };
    let bound = |subject: Value, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{}-{role}", subject["name"].as_str().expect("a name")), "namespace": "shop"},
            "subjects": [subject],
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        })
    };
    let user = |name: &str| json!({"kind": "User", "name": name, "apiGroup": GROUP});
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name, "namespace": "shop"});
    let pods =
        ["pods", "pods/status", "pods/ephemeralcontainers", "pods/resize", "pods/eviction", "pods/binding", "bindings"];
    vec![
        rules("all-of-pods", "", &pods, &["*"]),
        rules("make-pods", "", &["pods"], &["create"]),
        rules("make-jobs", "batch", &["jobs", "cronjobs"], &["create"]),
        rules("all-of-sets", "apps", &["replicasets", "statefulsets", "daemonsets"], &["*"]),
        rules("all-of-controllers", "", &["replicationcontrollers"], &["*"]),
        rules("all-of-deployments", "apps", &["deployments"], &["*"]),
        bound(account("app"), "all-of-pods"),
        bound(user("olivia"), "admin"),
        bound(user("frank"), "migration-gate-break-glass"),
        bound(account("pod-maker"), "make-pods"),
        bound(account("job-maker"), "make-jobs"),
        bound(account("crafter"), "all-of-sets"),
        bound(account("crafter"), "all-of-controllers"),
        bound(account("deployer"), "all-of-deployments"),
        bound(account("editor"), "migration-gate-edit"),
        bound(user("system:kube-controller-manager"), "make-pods"),
        bound(user("system:kube-controller-manager"), "migration-gate-edit"),
    ]
}

pub(crate) fn bare(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "web", "image": "registry.example/shop:1.0"}]},
    })
}

/// What the webhook writes into a template's labels.
pub(crate) fn identity() -> Value {
    json!({ label::GATE: "orders.deployment", label::MIGRATION: "0".repeat(32) })
}

/// A pod as a ReplicaSet makes it from an injected template.
pub(crate) fn gated(name: &str) -> Value {
    let mut gated = bare(name);
    gated["metadata"]["labels"] = identity();
    gated["spec"]["readinessGates"] = json!([{ "conditionType": CONDITION }]);
    gated
}

/// A record, as a person writes one.
pub(crate) fn record(name: &str) -> Value {
    json!({"apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate", "metadata": {"name": name}, "spec": {}})
}

pub(crate) fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[key] = value;
    object
}

/// The condition that opens the gate, as a patch of the status.
pub(crate) fn opened() -> Value {
    json!({"status": {"conditions": [{"type": CONDITION, "status": "True"}]}})
}

/// All that the controller writes on a pod, each as a patch.
pub(crate) fn guarded_changes() -> Vec<(&'static str, Value)> {
    vec![
        ("condition migration-gate.dev/migrated", opened()),
        ("annotations", json!({"metadata": {"annotations": {annotation::SIGNAL: "{}"}}})),
        ("annotations", json!({"metadata": {"annotations": {annotation::OPENED: "{}"}}})),
        ("role", json!({"metadata": {"labels": {label::ROLE: label::ROLE_RUNNER}}})),
        ("finalizer", json!({"metadata": {"finalizers": [POD_FINALIZER]}})),
        ("can't be changed", json!({"metadata": {"labels": {label::GATE: "other.deployment"}}})),
        ("can't be changed", json!({"metadata": {"labels": {label::MIGRATION: "1".repeat(32)}}})),
        ("can't be changed", json!({"metadata": {"labels": {label::MIGRATION: null}}})),
    ]
}

/// A policy refused it with these words. All of them are returned.
#[track_caller]
pub(crate) fn refused(answer: Answer, who: &Somebody, what: &str, said: &str) -> String {
    let Err(status) = answer else { panic!("{} may {what}", who.name) };
    assert!(
        status.code == 403 && status.message.contains("ValidatingAdmissionPolicy") && status.message.contains(said),
        "{} may not {what}, but for another reason: {status:?}",
        who.name
    );
    status.message
}

#[track_caller]
pub(crate) fn passed(answer: Answer, who: &Somebody, what: &str) -> Value {
    answer.unwrap_or_else(|status| panic!("{} may {what}: {status:?}", who.name))
}
