//! The verbs for people, as people call them: with their own kubeconfigs, on a real API server, beside the real controller.

mod support;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use support::client::{MERGE, STRATEGIC};
use support::controller::{Controller, FINGERPRINT, GATES, World, annotated, is_open, text};
use support::eventually;
use support::people::{Person, Said};

use migration_gate::contract::{POD_FINALIZER, RECORD_FINALIZER, annotation, label, pod};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";
const PODS: &str = "/api/v1/namespaces/shop/pods";

/// The installation, but for the webhook, which World's Deployments don't need.
async fn install(world: &World) {
    for file in [
        include_str!("../deploy/namespace.yaml"),
        include_str!("../deploy/rbac.yaml"),
        include_str!("../webhook-config/policies.yaml"),
    ] {
        world.cluster.apply(file).expect("the installation is taken");
    }
}

/// Waits until Kubernetes' own roles have taken up those of the installation.
async fn aggregated(person: &Person, verb: &[&str]) {
    eventually("the aggregated roles", async || (person.says(verb).code != 77).then_some(())).await;
}

async fn annotate(world: &World, name: &str, key: &str, value: Value) {
    let patch = json!({ "metadata": { "annotations": { key: value } } });
    world.administrator.patch(&format!("{DEPLOYMENTS}/{name}"), MERGE, &patch).await.expect("an annotation");
}

async fn phase(world: &World, name: &str, phase: &str) -> Value {
    eventually(&format!("{name} to be {phase}"), async || {
        let record = world.administrator.get(&format!("{GATES}/{name}.deployment")).await.ok()?;
        (record["status"]["phase"] == phase).then_some(record)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_and_steer_with_no_more_rights_than_they_need() {
    let world = World::boot("t-plugin").await;
    install(&world).await;
    let controller = Controller::start(&world.cluster, "a");
    let person =
        async |name: &str, role| Person::with_role(&world.cluster, &world.administrator, "shop", name, role).await;
    let (viewer, editor) = (person("viewer", Some("view")).await, person("editor", Some("edit")).await);
    let (fireman, nobody) = (person("fireman", Some("migration-gate-break-glass")).await, person("nobody", None).await);
    aggregated(&viewer, &["status"]).await;
    aggregated(&editor, &["approve", "nothing"]).await;

    // Who may not is told which right is missing.
    nobody.says(&["status"]).fails(77, "may not list migrationgates.migration-gate.dev in namespace shop");
    viewer.says(&["status", "-A"]).fails(77, "may not list migrationgates.migration-gate.dev in the whole cluster");
    viewer.says(&["status"]);
    viewer.says(&["explain", "orders"]).fails(65, "namespace shop has no deployment orders");

    // A suspended migration is approved, by who may.
    world.deploy("orders", 2).await;
    annotate(&world, "orders", annotation::SUSPEND, json!("true")).await;
    phase(&world, "orders", "Suspended").await;
    world.agents_run("orders", 2).await;
    viewer.says(&["explain", "orders"]).has("migration-gate approve orders -n shop").has("2 pods of orders wait");
    viewer.says(&["status"]).has("waits for an approval, because orders is suspended");
    viewer
        .says(&["approve", "orders"])
        .fails(77, "viewer may not patch migrationgates.migration-gate.dev in namespace shop");
    editor.says(&["approve", "orders", "--reason", "reviewed"]).has("runs as soon as a pod can run it");
    let (runner, attempt) = world.elected("orders").await;
    let name = text(&runner["metadata"]["name"]);
    viewer.says(&["explain", "orders"]).has(&format!("attempt 1 in pod {name} has been running for"));
    viewer.says(&["status"]).has(&name).has("Running");
    editor.says(&["approve", "orders"]).fails(65, "no migration of orders waits for an approval");

    // It fails; what it said is seen, and it is tried again.
    world.verdict(&runner, attempt, "failed").await;
    phase(&world, "orders", "Pending").await;
    viewer.says(&["explain", "orders"]).has("tried again in").has("the last line");
    viewer
        .says(&["history", "orders"])
        .has("failed")
        .has("the last line")
        .has("system:serviceaccount:shop:editor")
        .has("reviewed");
    let listed: Value = serde_json::from_str(&viewer.says(&["status", "-o", "json"]).out).expect("JSON");
    assert_eq!(listed[0]["migration"], FINGERPRINT, "{listed:#}");
    world.agents_run("orders", 2).await;
    editor.says(&["retry", "orders"]).has("is tried again");
    let (runner, attempt) = world.elected("orders").await;
    assert_eq!(attempt, 2, "without waiting for the back-off");

    // Its pod is lost. Only a person can know that it is dead.
    let path = format!("{PODS}/{}", text(&runner["metadata"]["name"]));
    let strip = json!({ "metadata": { "finalizers": null } });
    world.administrator.patch(&path, MERGE, &strip).await.expect("the finalizer goes");
    world.administrator.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await.expect("the pod goes");
    eventually("a stall", async || {
        viewer.says(&["explain", "orders"]).out.contains("somebody removed its finalizer").then_some(())
    })
    .await;
    editor
        .says(&["confirm-dead", "orders"])
        .fails(64, "give --yes")
        .out
        .contains("gone, without a report")
        .then_some(())
        .expect("the evidence is shown");
    viewer.says(&["confirm-dead", "orders", "--yes"]).fails(77, "may not patch");
    editor.says(&["confirm-dead", "orders", "--yes"]).has("attempt 2 counts as interrupted");

    // The rest is done by hand.
    editor.says(&["mark-succeeded", "orders"]).fails(64, "give --yes");
    editor.says(&["mark-succeeded", "orders", "--yes"]).has("counts as succeeded; its gates open");
    world.all_open("orders", 2).await;
    editor.says(&["mark-succeeded", "orders", "--yes"]).fails(65, "no migration of orders is held");
    // The attempt that was confirmed dead ends by itself; the gates did not wait for that.
    eventually("a status without the attempt", async || {
        viewer.says(&["status"]).out.contains("Succeeded").then_some(())
    })
    .await;

    // An existing application is adopted: its first migration never runs.
    let manifest = world.cluster.folder("manifests").expect("a folder").join("adopted.json");
    std::fs::write(&manifest, adopted().to_string()).expect("a file");
    let file = manifest.to_string_lossy().into_owned();
    editor.says(&["mark-succeeded", "adopted", "--yes", "-f", &file]).has("counts as succeeded");
    editor.says(&["mark-succeeded", "orders", "--yes", "-f", &file]).fails(65, "has no gated Deployment orders");

    // One pod is released although nobody leads.
    world.deploy("billing", 2).await;
    world.agents_run("billing", 2).await;
    let (runner, _) = world.elected("billing").await;
    controller.end();
    let waiting = world
        .pods("billing")
        .await
        .into_iter()
        .find(|pod| pod["metadata"]["uid"] != runner["metadata"]["uid"])
        .expect("another");
    let waiting = text(&waiting["metadata"]["name"]);
    editor.says(&["release", &waiting, "--yes"]).fails(77, "may not open gates.migration-gate.dev in namespace shop");
    fireman.says(&["release", &text(&runner["metadata"]["name"]), "--yes"]).fails(65, "has been told to run attempt 1");
    fireman.says(&["release", &waiting]).fails(64, "has not succeeded");
    fireman.says(&["release", &waiting, "--yes"]).has("is open; its migration");
    let released = world.administrator.get(&format!("{PODS}/{waiting}")).await.expect("the pod");
    assert!(is_open(&released) && annotated(&released, annotation::OPENED).is_some(), "{released:#}");
    world.cluster.down().expect("nothing is left behind");
}

fn adopted() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "adopted", "labels": { label::GATED: label::GATED_TRUE },
            "annotations": { annotation::COMMAND: "alembic upgrade head" } },
        "spec": { "selector": { "matchLabels": { "app": "adopted" } }, "template": {
            "metadata": { "labels": { "app": "adopted" } }, "spec": { "containers": [{ "name": "web", "image": "shop:1" }] } } },
    })
}

/// From outside a group that lacks its image and a namespace that lacks patience look as if we held them.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_said_who_holds_what_we_dont() {
    let world = World::boot("t-holders").await;
    let controller = Controller::start(&world.cluster, "a");
    let administrator = Person::administrator(&world.cluster);
    let explained = |subject: &str| administrator.says(&["explain", subject, "-n", "shop"]);
    world.deploy("orders", 0).await;
    let slow = json!({ "spec": { "replicas": 2, "template": { "spec": { "terminationGracePeriodSeconds": 720 } } } });
    world.administrator.patch(&format!("{DEPLOYMENTS}/orders"), MERGE, &slow).await.expect("two patient pods");
    let pods = eventually("two pods", async || Some(world.pods("orders").await).filter(|pods| pods.len() == 2)).await;
    phase(&world, "orders", "Pending").await;

    let pulling = json!({ "waiting": { "reason": "ErrImagePull", "message": "shop:1: not found" } });
    world.say(&pods[1], pulling).await;
    let name = text(&pods[1]["metadata"]["name"]);
    explained("orders").has(&format!("{name}: the image shop:1 of its container migration-gate-migrate can't be had"));
    explained("orders").has("ErrImagePull: shop:1: not found").has("an image that is there: change the Deployment");

    // One of them runs when the namespace is deleted, and its outcome is not known.
    world.say(&pods[1], json!({ "waiting": null, "running": { "startedAt": "2026-11-21T10:00:00Z" } })).await;
    world.elected("orders").await;
    world.administrator.delete("/api/v1/namespaces/shop", &json!({})).await.expect("the namespace is deleted");
    let said = eventually("its pods to be in deletion", async || {
        let said = explained("orders");
        said.out.contains("terminationGracePeriodSeconds").then_some(said)
    })
    .await;
    said.has("namespace shop is being deleted")
        .has(&format!("pod {name} (finalizer {POD_FINALIZER}, until the end of its attempt is known)"))
        .has("has a grace period of 12m0s");
    // Without us the pods are left. Kubernetes before 1.33 may delete a namespace's Deployments before its pods.
    controller.end();
    let free = json!({ "metadata": { "finalizers": null } });
    world.administrator.patch(&format!("{PODS}/{name}"), MERGE, &free).await.expect("the pod's finalizer goes");
    world.administrator.patch(&format!("{GATES}/orders.deployment"), MERGE, &free).await.expect("the record's goes");
    explained("orders")
        .has("nothing of ours holds it; pod ")
        .has("has a grace period of 12m0s")
        .has("pods beside it: 1");
    world.administrator.delete(&format!("{DEPLOYMENTS}/orders"), &json!({})).await.expect("the Deployment is deleted");
    eventually("the Deployment to go", async || world.administrator.get(&format!("{DEPLOYMENTS}/orders")).await.err())
        .await;
    explained("orders").has("namespace shop is being deleted").has("nothing of ours holds it; pod ");
    explained(&format!("pod/{name}")).has("nothing of ours holds it; pod ");
    world.cluster.down().expect("nothing is left behind");
}

/// Plays the kubelet of pods without a gate: they get ready, and those that are deleted go.
struct Kubelet(Arc<AtomicBool>);

impl Kubelet {
    fn start(world: &World) -> Kubelet {
        let (ends, somebody) = (Arc::new(AtomicBool::new(false)), world.administrator.clone());
        let told = ends.clone();
        tokio::spawn(async move {
            while !told.load(Ordering::Relaxed) {
                let pods = somebody.get(PODS).await.map(|list| list["items"].clone()).unwrap_or_default();
                for pod in pods.as_array().into_iter().flatten() {
                    let path = format!("{PODS}/{}", text(&pod["metadata"]["name"]));
                    let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
                    if !pod["metadata"]["deletionTimestamp"].is_null() {
                        let _ = somebody.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await;
                    } else if pod["metadata"]["labels"][label::GATE].is_null() && pod["status"]["phase"] != "Running" {
                        let _ = somebody.patch(&format!("{path}/status"), STRATEGIC, &ready).await;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        });
        Kubelet(ends)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Workloads in every phase. Returns the runner of the one that runs.
async fn every_phase(world: &World) -> (Value, u64) {
    for name in ["pending", "running", "succeeded", "failed", "suspended"] {
        world.deploy(name, 2).await;
    }
    annotate(world, "suspended", annotation::SUSPEND, json!("true")).await;
    annotate(world, "failed", annotation::BACKOFF_LIMIT, json!("1")).await;
    for name in ["running", "succeeded", "failed", "suspended"] {
        world.agents_run(name, 2).await;
    }
    for (name, outcome) in [("succeeded", "succeeded"), ("failed", "failed")] {
        let (runner, attempt) = world.elected(name).await;
        world.verdict(&runner, attempt, outcome).await;
    }
    phase(world, "succeeded", "Succeeded").await;
    phase(world, "failed", "Failed").await;
    phase(world, "suspended", "Suspended").await;
    phase(world, "pending", "Pending").await;
    world.elected("running").await
}

async fn nothing_is_left(world: &World) {
    let pods = world.administrator.get(PODS).await.expect("the pods");
    for pod in pods["items"].as_array().into_iter().flatten() {
        assert_eq!(pod["metadata"]["labels"][label::GATE], Value::Null, "{pod:#}");
        let finalizers = pod["metadata"]["finalizers"].to_string();
        assert!(!finalizers.contains(POD_FINALIZER), "{pod:#}");
    }
    let records = world.administrator.get(GATES).await.expect("the records");
    for record in records["items"].as_array().into_iter().flatten() {
        let finalizers = record["metadata"]["finalizers"].to_string();
        assert!(!finalizers.contains(RECORD_FINALIZER), "{record:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ejecting_leaves_nobody_stuck_in_any_phase() {
    let world = World::boot("t-eject").await;
    install(&world).await;
    let opted_in = json!({ "metadata": { "labels": { label::INJECT: label::INJECT_ENABLED } } });
    world.administrator.patch("/api/v1/namespaces/shop", MERGE, &opted_in).await.expect("the namespace opts in");
    let controller = Controller::start(&world.cluster, "a");
    let (runner, attempt) = every_phase(&world).await;
    let _kubelet = Kubelet::start(&world);
    let editor = Person::with_role(&world.cluster, &world.administrator, "shop", "editor", Some("edit")).await;
    aggregated(&editor, &["eject", "suspended", "--dry-run"]).await;
    let administrator = Person::administrator(&world.cluster);

    editor.says(&["eject", "suspended"]).fails(64, "its version starts without it");
    // One workload by itself, by who may edit the namespace.
    editor.says(&["eject", "suspended", "--yes"]).has("shop/suspended has left");
    let left = world.administrator.get(&format!("{DEPLOYMENTS}/suspended")).await.expect("the Deployment");
    assert_eq!(left["metadata"]["annotations"][annotation::SUSPEND], "true", "the user's own stays: {left:#}");
    assert_eq!(left["spec"]["template"]["spec"]["initContainers"], Value::Null);
    editor.says(&["eject", "suspended", "--yes"]).has("nothing to do");

    // Who waits in vain leaves things as they were.
    editor.says(&["eject", "running", "--yes", "--timeout", "2s"]).fails(75, "attempt 1 has not ended");
    let stays = world.administrator.get(&format!("{DEPLOYMENTS}/running")).await.expect("the Deployment");
    assert_eq!(stays["metadata"]["annotations"][annotation::SUSPEND], Value::Null, "{stays:#}");
    assert_eq!(stays["metadata"]["labels"][label::GATED], label::GATED_TRUE);

    // The whole namespace; the running migration is waited for, and no other attempt follows.
    editor.says(&["eject", "--all", "--yes"]).fails(77, "may not patch namespaces");
    let ejecting = administrator
        .command(&["eject", "--all", "--yes", "-n", "shop"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let ejecting = ejecting.expect("the program was built");
    eventually("the hold", async || {
        let running = world.administrator.get(&format!("{DEPLOYMENTS}/running")).await.ok()?;
        (running["metadata"]["annotations"][annotation::SUSPEND] == "true").then_some(())
    })
    .await;
    assert!(
        world.pods("running").await.iter().all(|pod| pod["metadata"]["labels"][label::GATE].is_string()),
        "it waits"
    );
    world.verdict(&runner, attempt, "failed").await;
    let said = Said::of(tokio::task::block_in_place(|| ejecting.wait_with_output()).expect("it ends"));
    said.has("shop/running has left")
        .has("shop/pending has left")
        .has("shop/failed has left")
        .has("namespace shop has opted out");
    nothing_is_left(&world).await;
    let record = world.administrator.get(&format!("{GATES}/running.deployment")).await.expect("the record");
    assert_eq!(record["status"]["lastAttempt"], 1, "nothing was tried again meanwhile: {record:#}");
    let space = world.administrator.get("/api/v1/namespaces/shop").await.expect("the namespace");
    assert_eq!(space["metadata"]["labels"][label::INJECT], Value::Null);

    // Then everything can be uninstalled.
    controller.end();
    world
        .cluster
        .kubectl(&["delete", "crd", "migrationgates.migration-gate.dev", "--timeout=30s"])
        .expect("no finalizer holds it");
    world.cluster.down().expect("nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn gates_open_for_good_where_nothing_may_be_rolled_out() {
    let world = World::boot("t-keep").await;
    let controller = Controller::start(&world.cluster, "a");
    let (runner, attempt) = every_phase(&world).await;
    let administrator = Person::administrator(&world.cluster);
    let before: Vec<String> = uids(&world).await;
    let ejecting = administrator
        .command(&["eject", "--all", "--keep-injected", "--yes", "-n", "shop"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let ejecting = ejecting.expect("the program was built");
    phase(&world, "failed", "Succeeded").await;
    world.verdict(&runner, attempt, "failed").await;
    let said = Said::of(tokio::task::block_in_place(|| ejecting.wait_with_output()).expect("it ends"));
    said.has("every gate is open; the controller must stay");
    for name in ["pending", "running", "succeeded", "failed", "suspended"] {
        world.all_open(name, 2).await;
    }
    assert_eq!(uids(&world).await, before, "nothing was rolled out");
    let suspended = world.administrator.get(&format!("{DEPLOYMENTS}/running")).await.expect("the Deployment");
    assert_eq!(suspended["metadata"]["annotations"][annotation::SUSPEND], Value::Null, "the hold is gone");
    controller.end();
    world.cluster.down().expect("nothing is left behind");
}

async fn uids(world: &World) -> Vec<String> {
    let pods = world.administrator.get(PODS).await.expect("the pods");
    let mut uids: Vec<String> =
        pods["items"].as_array().into_iter().flatten().map(|pod| text(&pod["metadata"]["uid"])).collect();
    uids.sort();
    uids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_controller_left_behind_is_taken_off() {
    let world = World::boot("t-orphans").await;
    let controller = Controller::start(&world.cluster, "a");
    world.deploy("running", 2).await;
    world.agents_run("running", 2).await;
    world.elected("running").await;
    controller.signal(rustix::process::Signal::KILL);
    let _kubelet = Kubelet::start(&world);
    let administrator = Person::administrator(&world.cluster);
    let said = administrator.says(&["eject", "--all", "-A", "--yes", "--without-controller"]);
    said.has("shop/running has left").has("finalizer taken off").has("nothing is gated any more");
    nothing_is_left(&world).await;
    assert_eq!(world.pods("running").await.len(), 2);
    assert!(
        world
            .pods("running")
            .await
            .iter()
            .all(|each| each["spec"]["initContainers"].to_string().find(pod::MIGRATE_CONTAINER).is_none())
    );
    world.cluster.down().expect("nothing is left behind");
}
