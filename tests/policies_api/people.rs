//! Everybody who meets the policies, and the pods that they try themselves on.

use serde_json::{Value, json};
use testcluster::{Cluster, Options, Profile};

use migration_gate::contract::{CONDITION, POD_FINALIZER, annotation, label};

use crate::support::client::{Answer, Somebody, namespace};
use crate::support::eventually;

pub(crate) const PODS: &str = "/api/v1/namespaces/shop/pods";
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
}

pub(crate) async fn boot(name: &str) -> (Cluster, People) {
    let cluster = Cluster::boot(Options::new(name, Profile::Api)).expect("an API server");
    for file in ["deploy/namespace.yaml", "deploy/rbac.yaml", "webhook-config/policies.yaml"] {
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
    };
    // As a workload in the namespace sees the policy for workloads.
    namespace(&people.administrator, "shop", json!({ label::INJECT: label::INJECT_ENABLED })).await;
    let role = |name: &str, subject: Value, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "shop"}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        })
    };
    let user = |name: &str| json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    for object in [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all-of-pods"},
            "rules": [{
                "apiGroups": [""], "verbs": ["*"],
                "resources": ["pods", "pods/status", "pods/ephemeralcontainers", "pods/resize", "pods/eviction",
                    "pods/binding", "bindings"],
            }],
        }),
        role("app", json!({"kind": "ServiceAccount", "name": "app", "namespace": "shop"}), "all-of-pods"),
        role("olivia", user("olivia"), "admin"),
        role("frank", user("frank"), "migration-gate-break-glass"),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}),
    ] {
        cluster.apply(&object.to_string()).expect("an ordinary object");
    }
    let probe = with(&gated("probe"), "/metadata/annotations", json!({ annotation::SIGNAL: "x" }));
    eventually("the policies to act", async || {
        let answer = people.app.create(&format!("{PODS}?dryRun=All"), &probe).await;
        answer.err().filter(|status| status.message.contains("pods.migration-gate.dev"))
    })
    .await;
    (cluster, people)
}

pub(crate) fn bare(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "web", "image": "registry.example/shop:1.0"}]},
    })
}

/// A pod as a ReplicaSet makes it from an injected template.
pub(crate) fn gated(name: &str) -> Value {
    let mut gated = bare(name);
    gated["metadata"]["labels"] = json!({ label::GATE: "orders.deployment", label::MIGRATION: "0".repeat(32) });
    gated["spec"]["readinessGates"] = json!([{ "conditionType": CONDITION }]);
    gated
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

#[track_caller]
pub(crate) fn refused(answer: Answer, who: &Somebody, what: &str, said: &str) {
    match answer {
        Ok(_) => panic!("{} may {what}", who.name),
        Err(status) => assert!(
            status.code == 403 && status.message.contains("ValidatingAdmissionPolicy") && status.message.contains(said),
            "{} may not {what}, but for another reason: {status:?}",
            who.name
        ),
    }
}

#[track_caller]
pub(crate) fn passed(answer: Answer, who: &Somebody, what: &str) -> Value {
    answer.unwrap_or_else(|status| panic!("{} may {what}: {status:?}", who.name))
}
