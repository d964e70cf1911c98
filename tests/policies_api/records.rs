//! Records: who may change what keeps them, and what the garbage collector still does.

use serde_json::{Value, json};

use migration_gate::contract::RECORD_FINALIZER;

use crate::people::{People, RECORDS, passed, record, refused, with};
use crate::support::client::{APPLY, MERGE, namespace};
use crate::support::eventually;

const CONFIG_MAPS: &str = "/api/v1/namespaces/shop/configmaps";
const FINALIZERS: &str = "metadata.finalizers of a MigrationGate";
const OWNERS: &str = "metadata.ownerReferences of a MigrationGate";

/// Who may give orders can't take the lock or the memory away.
pub(crate) async fn orders_are_no_way_to_the_lock(people: &People) {
    let who = &people.editor;
    let dangling = json!([owner("x", "00000000-0000-0000-0000-000000000000")]);
    for (pointer, value, said) in [
        ("/metadata/finalizers", json!([RECORD_FINALIZER]), FINALIZERS),
        ("/metadata/finalizers", json!(["example.com/mine"]), FINALIZERS),
        ("/metadata/ownerReferences", dangling.clone(), OWNERS),
    ] {
        let object = with(&record("made"), pointer, value);
        refused(who.create(RECORDS, &object).await, who, &format!("create a record with {pointer}"), said);
    }
    passed(who.create(RECORDS, &record("made")).await, who, "create a record");

    // As the controller leaves it, with an attempt under way.
    let real = people.administrator.must_create(CONFIG_MAPS, &config_map("workload")).await;
    let owners = json!([owner("workload", real["metadata"]["uid"].as_str().expect("a UID"))]);
    let held = with(&record("held"), "/metadata/finalizers", json!([RECORD_FINALIZER]));
    let held = with(&held, "/metadata/ownerReferences", owners);
    let before = people.controller.create(RECORDS, &held).await;
    let before = passed(before, &people.controller, "make a record")["metadata"].clone();
    let path = format!("{RECORDS}/held");
    for (said, metadata) in [
        (FINALIZERS, json!({"finalizers": null})),
        (FINALIZERS, json!({"finalizers": [RECORD_FINALIZER, "example.com/mine"]})),
        (OWNERS, json!({"ownerReferences": dangling})),
        (OWNERS, json!({"ownerReferences": null})),
        ("a MigrationGate is the controller's", json!({"finalizers": null, "ownerReferences": dangling})),
    ] {
        let patch = json!({ "metadata": metadata });
        for who in [who, &people.owner] {
            let answer = who.patch(&path, MERGE, &patch).await;
            let said = refused(answer, who, &format!("patch with {patch}"), said);
            assert!(said.contains(&format!("{} may not 'open' gates.migration-gate.dev", who.name)), "{said}");
        }
        let mut object = people.administrator.get(&path).await.expect("it exists");
        json_patch::merge(&mut object, &patch);
        refused(who.replace(&path, &object).await, who, &format!("replace with {patch}"), "MigrationGate");
    }
    let applied = with(&record("held"), "/metadata/finalizers", json!(["example.com/mine"]));
    let answer = who.patch(&format!("{path}?fieldManager=me"), APPLY, &applied).await;
    refused(answer, who, "apply a finalizer", FINALIZERS);
    assert_eq!(who.delete(&path, &json!({})).await.expect_err("no right").code, 403);
    // The subresource takes no metadata, from whoever may write it.
    let status = json!({"metadata": {"finalizers": null, "ownerReferences": null, "labels": {"x": "y"}}, "status": {"lastAttempt": 1}});
    passed(people.administrator.patch(&format!("{path}/status"), MERGE, &status).await, who, "write a status");
    let order = json!({"spec": {"overrides": [{"fingerprint": "0".repeat(32), "action": "Approve", "by": "me"}]}});
    passed(who.patch(&path, MERGE, &order).await, who, "give an order");
    let note = json!({"metadata": {"annotations": {"note": "x"}, "labels": {"team": "blue"}}});
    passed(who.patch(&path, MERGE, &note).await, who, "annotate a record");
    let after = people.administrator.get(&path).await.expect("it exists");
    for field in ["finalizers", "ownerReferences", "deletionTimestamp"] {
        assert_eq!(after["metadata"][field], before[field], "{field}");
    }
    assert_eq!((&after["status"]["lastAttempt"], &after["metadata"]["labels"]["x"]), (&json!(1), &Value::Null));
    for who in [&people.administrator, &people.controller] {
        for patch in [json!({"finalizers": null}), json!({"ownerReferences": null})] {
            let answer = who.patch(&format!("{path}?dryRun=All"), MERGE, &json!({ "metadata": patch })).await;
            passed(answer, who, &format!("patch with {patch}"));
        }
    }
}

/// The garbage collector takes away owners that are gone, and records with them, and never the lock.
pub(crate) async fn the_garbage_collector_works_on(people: &People) {
    let who = &people.administrator;
    let mut owners = Vec::new();
    for name in ["first", "second", "orphaning"] {
        let made = who.must_create(CONFIG_MAPS, &config_map(name)).await;
        owners.push(owner(name, made["metadata"]["uid"].as_str().expect("a UID")));
    }
    let held = with(&record("shared"), "/metadata/finalizers", json!([RECORD_FINALIZER]));
    who.must_create(RECORDS, &with(&held, "/metadata/ownerReferences", json!(owners[..2]))).await;
    let orphan = with(&record("orphan"), "/metadata/finalizers", json!([RECORD_FINALIZER]));
    who.must_create(RECORDS, &with(&orphan, "/metadata/ownerReferences", json!(owners[2..]))).await;
    let metadata = async |name: &str| {
        let record = who.get(&format!("{RECORDS}/{name}")).await.ok()?;
        Some(record["metadata"].clone())
    };

    // It learns of a new kind of object within half a minute; a deletion before that would be seen all the same, later.
    passed(who.delete(&format!("{CONFIG_MAPS}/first"), &json!({})).await, who, "delete an owner");
    let left = eventually("the absent owner to be taken out", async || {
        metadata("shared").await.filter(|metadata| metadata["ownerReferences"] == json!(owners[1..2]))
    })
    .await;
    assert_eq!((&left["finalizers"], &left["deletionTimestamp"]), (&json!([RECORD_FINALIZER]), &Value::Null));
    let orphaning = json!({"propagationPolicy": "Orphan"});
    passed(who.delete(&format!("{CONFIG_MAPS}/orphaning"), &orphaning).await, who, "delete an owner without its own");
    let left = eventually("the owner to be taken out", async || {
        metadata("orphan").await.filter(|metadata| metadata["ownerReferences"].is_null())
    })
    .await;
    assert_eq!((&left["finalizers"], &left["deletionTimestamp"]), (&json!([RECORD_FINALIZER]), &Value::Null));

    passed(who.delete(&format!("{CONFIG_MAPS}/second"), &json!({})).await, who, "delete the last owner");
    let left = eventually("the record to be deleted", async || {
        metadata("shared").await.filter(|metadata| metadata["deletionTimestamp"].is_string())
    })
    .await;
    assert_eq!(left["finalizers"], json!([RECORD_FINALIZER]), "an attempt is active");
    let free = json!({"metadata": {"finalizers": null}});
    passed(people.controller.patch(&format!("{RECORDS}/shared"), MERGE, &free).await, &people.controller, "let it go");
    eventually("the record to go", async || metadata("shared").await.is_none().then_some(())).await;

    // Whoever may delete a record tells how; the garbage collector takes its own finalizer off.
    passed(people.controller.patch(&format!("{RECORDS}/orphan"), MERGE, &free).await, &people.controller, "let it go");
    let who = &people.owner;
    for policy in ["Foreground", "Orphan"] {
        let path = if policy == "Orphan" { "made" } else { "orphan" };
        let answer = who.delete(&format!("{RECORDS}/{path}"), &json!({"propagationPolicy": policy})).await;
        passed(answer, who, &format!("delete a record, {policy}"));
        eventually("the record to go", async || metadata(path).await.is_none().then_some(())).await;
    }
}

/// The one controller for everything may do what the garbage collector may, and neither takes off the lock.
pub(crate) async fn no_garbage_collector_takes_off_the_lock(people: &People) {
    let administrator = &people.administrator;
    let held = with(&record("collected"), "/metadata/finalizers", json!(["orphan", RECORD_FINALIZER]));
    administrator.must_create(RECORDS, &held).await;
    let path = format!("{RECORDS}/collected");
    for who in [&people.collector, &people.one_for_all] {
        for left in [json!(null), json!(["orphan"]), json!(["example.com/mine", RECORD_FINALIZER])] {
            let patch = json!({"metadata": {"finalizers": left}});
            refused(who.patch(&path, MERGE, &patch).await, who, &format!("leave {left}"), FINALIZERS);
        }
        let patch = json!({"metadata": {"finalizers": [RECORD_FINALIZER]}});
        passed(who.patch(&format!("{path}?dryRun=All"), MERGE, &patch).await, who, "take off its own");
    }
    let free = json!({"metadata": {"finalizers": null}});
    passed(administrator.patch(&path, MERGE, &free).await, administrator, "take off all");
    passed(administrator.delete(&path, &json!({})).await, administrator, "delete it");
}

/// A namespace goes, with its records.
pub(crate) async fn a_namespace_goes_with_its_records(people: &People) {
    let who = &people.administrator;
    namespace(who, "leaving", json!({})).await;
    let records = "/apis/migration-gate.dev/v1alpha1/namespaces/leaving/migrationgates";
    who.must_create(records, &record("orders.deployment")).await;
    passed(who.delete("/api/v1/namespaces/leaving", &json!({})).await, who, "delete a namespace");
    eventually("the namespace to go", async || who.get("/api/v1/namespaces/leaving").await.err()).await;
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid})
}
