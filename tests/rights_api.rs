//! The controller's roles hold what it uses, and nothing else: it runs with them alone through all that it ever does, and the
//! API server's audit log says what it asked for.

mod support;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use support::client::{MERGE, STRATEGIC};
use support::controller::{Controller, FINGERPRINT, GATES, World, text};
use support::eventually;
use support::people::Person;
use testcluster::{Options, Profile};

use migration_gate::contract::{POD_FINALIZER, label, pod};

const SYSTEM: &str = "migration-gate-system";
const CONTROLLER: &str = "migration-gate-controller";
const USER: &str = "system:serviceaccount:migration-gate-system:migration-gate-controller";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const NODE: &str = "/api/v1/nodes/node-1";

/// A right: the verb, the resource, and the namespace if it ends there.
type Right = (String, String, Option<String>);

/// The rights in the roles of the installation. The one to `open` gates is asked for by the policies, not by a request;
/// without it no gate would open here.
fn granted() -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for document in include_str!("../deploy/rbac.yaml").split("\n---\n") {
        let role: Value = serde_saphyr::from_str(document).expect("YAML");
        if !text(&role["kind"]).ends_with("Role") || role["metadata"]["name"] != CONTROLLER {
            continue;
        }
        let namespace = role["metadata"]["namespace"].as_str().map(str::to_owned);
        for rule in role["rules"].as_array().expect("rules") {
            for resource in rule["resources"].as_array().expect("resources") {
                let resource = named(&text(&rule["apiGroups"][0]), &text(resource));
                for verb in rule["verbs"].as_array().expect("verbs") {
                    rights.insert((text(verb), resource.clone(), namespace.clone()));
                }
            }
        }
    }
    assert!(rights.remove(&("open".to_owned(), "migration-gate.dev/gates".to_owned(), None)));
    rights
}

fn named(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{group}/{resource}") }
}

/// A line of the audit log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Option<Object>,
    #[serde(default)]
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Status {
    code: u16,
}

/// What the controller asked for; leases are granted by namespace, everything else for the whole cluster.
fn used(log: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for line in log.lines() {
        // The last line may be half-written.
        let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
        let Some(object) = line.object_ref.filter(|_| line.user.username == USER) else { continue };
        let code = line.response_status.map_or(0, |status| status.code);
        assert_ne!(code, 403, "{} {}/{} in {}", line.verb, object.resource, object.subresource, object.namespace);
        let resource = match object.subresource.as_str() {
            "" => object.resource.clone(),
            subresource => format!("{}/{subresource}", object.resource),
        };
        let namespace = (object.resource == "leases").then_some(object.namespace);
        rights.insert((line.verb, named(&object.api_group, &resource), namespace));
    }
    rights
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_roles_hold_exactly_what_it_uses() {
    let world = World::boot_with(Options::new("t-rights", Profile::Api).audit()).await;
    for file in [
        include_str!("../deploy/namespace.yaml"),
        include_str!("../deploy/rbac.yaml"),
        include_str!("../webhook-config/policies.yaml"),
    ] {
        world.cluster.apply(file).expect("the installation is taken");
    }
    let person = Person::with_role(&world.cluster, &world.administrator, SYSTEM, CONTROLLER, None).await;
    let controller = Controller::start_as(&world.cluster, "a", &person.kubeconfig, SYSTEM);
    an_ordinary_rollout(&world).await;
    orders_that_are_refused_alike(&world).await;
    a_runner_that_vanished(&world).await;
    a_node_that_died(&world).await;
    a_record_that_nobody_needs(&world).await;

    let log = eventually("the audit log to be written", async || {
        let log = std::fs::read_to_string(world.cluster.audit_log()).ok()?;
        let missing = granted().difference(&used(&log)).count();
        (missing == 0).then_some(log)
    });
    let patience = std::time::Duration::from_secs(20);
    let log = match tokio::time::timeout(patience, log).await {
        Ok(log) => log,
        Err(_) => std::fs::read_to_string(world.cluster.audit_log()).expect("the audit log"),
    };
    let (granted, used) = (granted(), used(&log));
    let unused: Vec<_> = granted.difference(&used).collect();
    let missing: Vec<_> = used.difference(&granted).collect();
    assert!(unused.is_empty() && missing.is_empty(), "never used: {unused:#?}\nnot granted there: {missing:#?}");
    controller.end();
    world.cluster.down().expect("nothing is left behind");
}

async fn an_ordinary_rollout(world: &World) {
    world.deploy("orders", 2).await;
    world.agents_run("orders", 2).await;
    let (runner, attempt) = world.elected("orders").await;
    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("orders", 2).await;
}

/// Two events of the same kind about the same object are one, which is patched.
async fn orders_that_are_refused_alike(world: &World) {
    let order = |digit: &str| json!({ "fingerprint": digit.repeat(32), "action": "Retry", "attempt": 9 });
    let path = format!("{GATES}/orders.deployment");
    for orders in [json!([order("a")]), json!([order("a"), order("b")])] {
        let count = orders.as_array().map_or(0, Vec::len);
        let patch = json!({ "spec": { "overrides": orders } });
        world.administrator.patch(&path, MERGE, &patch).await.expect("an order");
        eventually("the answer", async || {
            let record = world.administrator.get(&path).await.ok()?;
            (record["status"]["overrides"].as_array()?.len() == count).then_some(())
        })
        .await;
    }
}

/// It is looked for live before anything is concluded from its absence.
async fn a_runner_that_vanished(world: &World) {
    world.deploy("billing", 1).await;
    world.agents_run("billing", 1).await;
    let (runner, _) = world.elected("billing").await;
    let path = format!("{PODS}/{}", text(&runner["metadata"]["name"]));
    signalled(world, "billing").await;
    world.administrator.patch(&path, MERGE, &json!({ "metadata": { "finalizers": null } })).await.expect("it goes");
    world.administrator.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await.expect("the pod goes");
    eventually("a stall", async || {
        let record = world.administrator.get(&format!("{GATES}/billing.deployment")).await.ok()?;
        record["status"]["message"].as_str()?.contains("somebody removed its finalizer").then_some(())
    })
    .await;
}

async fn signalled(world: &World, name: &str) {
    eventually("the record to know of the signal", async || {
        let record = world.administrator.get(&format!("{GATES}/{name}.deployment")).await.ok()?;
        record["status"]["active"]["signalledAt"].is_string().then_some(())
    })
    .await;
}

/// The node and its Lease are read live before its taint is believed.
async fn a_node_that_died(world: &World) {
    world.deploy("users", 1).await;
    world.agents_run("users", 1).await;
    world.elected("users").await;
    signalled(world, "users").await;
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "node-1" } });
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let _ = world.administrator.create(leases, &lease).await;
    let taint = json!({ "spec": { "taints": [{ "key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "value": "x" }] } });
    world.administrator.patch(NODE, MERGE, &taint).await.expect("a taint");
    let down = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown", "reason": "Test" }] } });
    world.administrator.patch(&format!("{NODE}/status"), STRATEGIC, &down).await.expect("a dead node");
}

/// A pod by itself, with our finalizer: its record is made for it alone, and goes with it.
async fn a_record_that_nobody_needs(world: &World) {
    let orphan = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "orphan", "finalizers": [POD_FINALIZER],
            "labels": { label::GATE: "orphan.deployment", label::MIGRATION: FINGERPRINT } },
        "spec": { "nodeName": "node-1", "initContainers": [{ "name": pod::MIGRATE_CONTAINER, "image": "shop:1",
            "command": [pod::AGENT_PATH], "args": ["--", "true"] }], "containers": [{ "name": "shop", "image": "shop:1" }] },
    });
    world.administrator.must_create(PODS, &orphan).await;
    let path = format!("{GATES}/orphan.deployment");
    eventually("its record", async || world.administrator.get(&path).await.ok()).await;
    eventually("the finalizer to go", async || {
        let pod = world.administrator.get(&format!("{PODS}/orphan")).await.ok()?;
        (!pod["metadata"]["finalizers"].to_string().contains(POD_FINALIZER)).then_some(())
    })
    .await;
    world.administrator.delete(&format!("{PODS}/orphan"), &json!({ "gracePeriodSeconds": 0 })).await.expect("it goes");
    eventually("its record to go", async || world.administrator.get(&path).await.is_err().then_some(())).await;
}
