//! Pods, at every door: who may change what is guarded, and who passes.

use serde_json::{Value, json};

use migration_gate::contract::{CONDITION, POD_FINALIZER, annotation, label};

use crate::people::{NODE, PODS, People, bare, gated, guarded_changes, opened, passed, refused, with};
use crate::support::client::{MERGE, STRATEGIC, namespace};
use crate::support::eventually;

pub(crate) async fn pods_are_created_with_nothing_of_the_controllers(people: &People) {
    for who in [&people.app, &people.owner] {
        for (pointer, value, said) in [
            ("/metadata/annotations", json!({ annotation::SIGNAL: "" }), "annotations"),
            ("/metadata/annotations", json!({ annotation::OPENED: "{}" }), "annotations"),
            ("/metadata/labels", json!({ label::ROLE: label::ROLE_RUNNER }), "role"),
            ("/metadata/finalizers", json!([POD_FINALIZER]), "finalizer"),
        ] {
            let object = with(&bare("made"), pointer, value);
            refused(who.create(PODS, &object).await, who, &format!("create a pod with {pointer}"), said);
        }
    }
}

pub(crate) async fn nobody_else_changes_what_is_guarded(people: &People) {
    people.administrator.must_create(PODS, &gated("guarded")).await;
    let (main, status) = (format!("{PODS}/guarded"), format!("{PODS}/guarded/status"));
    for (said, patch) in guarded_changes() {
        let who = &people.app;
        for kind in [MERGE, STRATEGIC] {
            refused(who.patch(&status, kind, &patch).await, who, &format!("patch the status with {patch}"), said);
        }
        // The condition doesn't reach a pod through its main resource.
        if patch["status"].is_null() {
            refused(who.patch(&main, MERGE, &patch).await, who, &format!("patch with {patch}"), said);
            refused(
                people.owner.patch(&main, MERGE, &patch).await,
                &people.owner,
                &format!("patch with {patch}"),
                said,
            );
            let mut object = people.administrator.get(&main).await.expect("it exists");
            json_patch::merge(&mut object, &patch);
            refused(who.replace(&main, &object).await, who, &format!("replace with {patch}"), said);
            refused(who.replace(&status, &object).await, who, &format!("replace the status with {patch}"), said);
        }
    }
    let harmless = json!({"metadata": {"annotations": {"note": "x"}, "labels": {"team": "blue"}}});
    passed(people.owner.patch(&main, MERGE, &harmless).await, &people.owner, "annotate a pod");
    let other = json!({"status": {"conditions": [{"type": "example.com/other", "status": "True"}]}});
    passed(people.app.patch(&status, STRATEGIC, &other).await, &people.app, "set another condition");
}

pub(crate) async fn the_controller_and_the_fireman_may(people: &People) {
    for who in [&people.controller, &people.fireman] {
        let name = format!("for-{}", who.name.rsplit(':').next().expect("a name"));
        people.administrator.must_create(PODS, &gated(&name)).await;
        for (_, patch) in guarded_changes() {
            let status = format!("{PODS}/{name}/status?dryRun=All");
            passed(who.patch(&status, STRATEGIC, &patch).await, who, &format!("patch with {patch}"));
        }
    }
    // The role for emergencies was bound in one namespace, and so is worth nothing elsewhere.
    namespace(&people.administrator, "elsewhere", json!({})).await;
    let elsewhere = "/api/v1/namespaces/elsewhere/pods";
    people.administrator.must_create(elsewhere, &gated("guarded")).await;
    let answer = people.fireman.patch(&format!("{elsewhere}/guarded/status"), STRATEGIC, &opened()).await;
    assert_eq!(answer.expect_err("no right there").code, 403);
}

pub(crate) async fn subresources_are_no_way_around(people: &People) {
    let who = &people.app;
    people.administrator.must_create(PODS, &gated("doors")).await;
    let path = format!("{PODS}/doors");
    let before = people.administrator.get(&path).await.expect("it exists");
    let debug = json!({"name": "debug", "image": "registry.example/debug:1"});
    for (door, spec) in [
        ("ephemeralcontainers", json!({"ephemeralContainers": [debug]})),
        ("resize", json!({"containers": [{"name": "web", "resources": {"requests": {"cpu": "1m"}}}]})),
    ] {
        for (_, mut patch) in guarded_changes() {
            patch["spec"] = spec.clone();
            // Refused, or taken without what is guarded: the registry drops what isn't the door's.
            let _ = who.patch(&format!("{path}/{door}"), STRATEGIC, &patch).await;
        }
    }
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": "doors", "namespace": "shop", "annotations": {annotation::OPENED: "{}"}},
        "deleteOptions": {"dryRun": ["All"]},
    });
    passed(who.create(&format!("{path}/eviction"), &eviction).await, who, "evict a pod");
    let after = people.administrator.get(&path).await.expect("it exists");
    for field in ["annotations", "labels", "finalizers"] {
        assert_eq!(after["metadata"][field], before["metadata"][field], "{field}");
    }
    assert!(!after["status"].to_string().contains(CONDITION));
}

pub(crate) async fn bindings_carry_nothing(people: &People) {
    let binding = |name: &str, metadata: Value| {
        let mut binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        json_patch::merge(&mut binding["metadata"], &metadata);
        binding
    };
    people.administrator.must_create(PODS, &gated("bound")).await;
    for who in [&people.scheduler, &people.app] {
        for metadata in [
            json!({"annotations": {annotation::SIGNAL: "{}"}}),
            json!({"annotations": {annotation::OPENED: "{}"}}),
            json!({"labels": {label::ROLE: label::ROLE_RUNNER}}),
            json!({"labels": {label::MIGRATION: "1".repeat(32)}}),
            json!({"labels": {label::GATE: "x"}}),
        ] {
            for path in [format!("{PODS}/bound/binding"), "/api/v1/namespaces/shop/bindings".to_owned()] {
                let answer = who.create(&path, &binding("bound", metadata.clone())).await;
                // The scheduler has no right on the older resource.
                match path.ends_with("bindings") && who.name == people.scheduler.name {
                    true => assert_eq!(answer.expect_err("no right").code, 403),
                    false => drop(refused(answer, who, &format!("bind with {metadata}"), "binding")),
                }
            }
        }
    }
    let who = &people.scheduler;
    let plain = binding("bound", json!({"annotations": {"scheduled-by": "me"}}));
    passed(who.create(&format!("{PODS}/bound/binding"), &plain).await, who, "bind a gated pod");
    let scheduled = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}});
    passed(who.patch(&format!("{PODS}/bound/status"), STRATEGIC, &scheduled).await, who, "report on a gated pod");
}

pub(crate) async fn what_was_guarded_stays_guarded_when_it_is_there(people: &People) {
    people.administrator.must_create(PODS, &gated("running")).await;
    let (main, status) = (format!("{PODS}/running"), format!("{PODS}/running/status"));
    let elected = json!({
        "metadata": {
            "annotations": {annotation::SIGNAL: "{\"run\":{}}", annotation::OPENED: "{}"},
            "labels": {label::ROLE: label::ROLE_RUNNER},
            "finalizers": [POD_FINALIZER],
        },
        "status": {"conditions": [{"type": CONDITION, "status": "False"}]},
    });
    passed(people.controller.patch(&status, STRATEGIC, &elected).await, &people.controller, "elect a pod");
    let drop = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [POD_FINALIZER]}});
    let who = &people.app;
    for (said, patch) in [
        ("annotations", json!({"metadata": {"annotations": {annotation::SIGNAL: null}}})),
        ("annotations", json!({"metadata": {"annotations": {annotation::SIGNAL: "{\"settled\":{}}"}}})),
        ("annotations", json!({"metadata": {"annotations": {annotation::OPENED: null}}})),
        ("role", json!({"metadata": {"labels": {label::ROLE: null}}})),
        ("finalizer", json!({"metadata": {"finalizers": null}})),
        ("finalizer", drop.clone()),
    ] {
        refused(who.patch(&main, STRATEGIC, &patch).await, who, &format!("patch with {patch}"), said);
        refused(who.patch(&status, STRATEGIC, &patch).await, who, &format!("patch the status with {patch}"), said);
    }
    refused(who.patch(&status, STRATEGIC, &opened()).await, who, "turn a condition", "condition");
    let none = json!({"status": {"conditions": null}});
    refused(who.patch(&status, MERGE, &none).await, who, "remove a condition", "condition");
    // Also while it is being deleted; and only then does the controller let go.
    passed(who.delete(&main, &json!({"gracePeriodSeconds": 0})).await, who, "delete a pod");
    refused(who.patch(&main, STRATEGIC, &drop).await, who, "drop the finalizer of a dying pod", "finalizer");
    passed(people.controller.patch(&status, STRATEGIC, &drop).await, &people.controller, "drop the finalizer");
    eventually("the pod to go", async || people.administrator.get(&main).await.err()).await;
}

/// A kubelet writes the status of its pods, whatever they hold, and may not open a gate.
pub(crate) async fn a_kubelet_is_never_refused(people: &People) {
    let who = &people.kubelet;
    let many: Vec<String> = (0..500).map(|number| format!("example.com/finalizer-{number}")).collect();
    let conditions: Vec<Value> =
        (0..500).map(|number| json!({"type": format!("example.com/condition-{number}"), "status": "True"})).collect();
    let all = json!({
        "metadata": {
            "annotations": {annotation::SIGNAL: "", annotation::OPENED: "not json", "big": "x".repeat(200_000)},
            "labels": {label::ROLE: ""},
            "finalizers": [POD_FINALIZER],
        },
        "status": {"conditions": [{"type": CONDITION, "status": "True"}]},
    });
    for (name, pod, patch) in [
        ("k-bare", bare("k-bare"), json!({})),
        ("k-gated", gated("k-gated"), json!({})),
        ("k-open", gated("k-open"), opened()),
        ("k-no-status", gated("k-no-status"), json!({"status": {"conditions": [{"type": CONDITION}]}})),
        ("k-all", gated("k-all"), all),
        ("k-many", gated("k-many"), json!({"metadata": {"finalizers": many}, "status": {"conditions": conditions}})),
    ] {
        let pod = with(&pod, "/spec/nodeName", json!(NODE));
        people.administrator.must_create(PODS, &pod).await;
        let status = format!("{PODS}/{name}/status");
        people.administrator.patch(&status, STRATEGIC, &patch).await.expect("the administrator may");
        let report = json!({
            "metadata": {"uid": people.administrator.get(&format!("{PODS}/{name}")).await.expect("it exists")["metadata"]["uid"]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
                "containerStatuses": [{"name": "web", "ready": true, "restartCount": 0, "image": "x", "imageID": "x",
                    "state": {"running": {}}}],
            },
        });
        passed(who.patch(&status, STRATEGIC, &report).await, who, &format!("report on {name}"));
        let read = people.administrator.get(&format!("{PODS}/{name}")).await.expect("it exists");
        passed(who.replace(&status, &read).await, who, &format!("replace the status of {name}"));
        let open = json!({"status": {"conditions": [{"type": CONDITION, "status": "Unknown"}]}});
        refused(who.patch(&status, STRATEGIC, &open).await, who, &format!("turn the condition of {name}"), "condition");
    }
}

pub(crate) async fn the_controller_keeps_to_gated_pods(people: &People) {
    let who = &people.controller;
    people.administrator.must_create(PODS, &bare("not-ours")).await;
    let status = format!("{PODS}/not-ours/status");
    for patch in [opened(), json!({"metadata": {"labels": {label::GATE: "x.deployment"}}})] {
        refused(
            who.patch(&status, STRATEGIC, &patch).await,
            who,
            &format!("patch with {patch}"),
            "only pods with the label",
        );
    }
}
