//! The record's definition on a real API server: what its rules let through, and what they refuse with which words.

mod support;

use serde_json::{Value, json};
use support::client::{MERGE, Somebody, namespace};
use support::eventually;

use migration_gate::controller::budget::{DEPARTED_KEPT, MESSAGE_BYTES, MIGRATIONS_BYTES, SUCCEEDED_KEPT};
use migration_gate::migration::{Departed, Migration, MigrationGateStatus};
use testcluster::{Cluster, Options, Profile};

const GATES: &str = "/apis/migration-gate.dev/v1alpha1/namespaces/shop/migrationgates";
const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";

fn gate(name: &str, overrides: &Value) -> Value {
    json!({
        "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate",
        "metadata": {"name": name}, "spec": {"overrides": overrides},
    })
}

fn order(action: &str) -> Value {
    json!({ "fingerprint": FINGERPRINT, "action": action })
}

fn active(attempt: u32) -> Value {
    json!({
        "fingerprint": FINGERPRINT, "attempt": attempt, "podName": "a", "podUid": "u",
        "electedAt": "2026-11-21T10:00:00.123456789Z",
    })
}

#[tokio::test]
async fn the_definition_refuses_what_no_controller_would_write() {
    let cluster = Cluster::boot(Options::new("t-crd", Profile::Api)).expect("an API server");
    let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
    let applied = cluster.apply(include_str!("../deploy/crd.yaml")).expect("the definition is taken");
    assert!(!applied.contains("Warning"), "the API server warns of the definition: {applied}");
    namespace(&administrator, "shop", json!({})).await;
    eventually("the API server to serve the definition", async || administrator.get(GATES).await.ok()).await;

    orders(&administrator).await;
    lock(&administrator).await;
    largest(&administrator).await;
    cluster.down().expect("nothing is left behind");
}

/// Operators' orders: complete, and never changed.
async fn orders(administrator: &Somebody) {
    for (order, remedy) in [
        (order("Retry"), "Retry must name the latest attempt"),
        (order("ConfirmDead"), "ConfirmDead must name the attempt and the UID"),
        (json!({ "fingerprint": FINGERPRINT, "action": "ConfirmDead", "attempt": 3 }), "and the UID of the pod"),
        (json!({ "fingerprint": "latest", "action": "Approve" }), "fingerprint"),
        (json!({ "fingerprint": FINGERPRINT, "action": "Skip" }), "action"),
    ] {
        let refusal = administrator.create(GATES, &gate("refused", &json!([order]))).await;
        let message = refusal.expect_err("an order that can't be followed is refused").message;
        assert!(message.contains(remedy), "{order} is refused with other words: {message}");
    }
    administrator.must_create(GATES, &gate("orders", &json!([order("Approve")]))).await;
    let path = format!("{GATES}/orders");
    let changed =
        json!({ "spec": { "overrides": [{ "fingerprint": FINGERPRINT, "action": "Approve", "by": "eve" }] } });
    let refusal = administrator.patch(&path, MERGE, &changed).await.expect_err("an order can't be changed");
    assert!(refusal.message.contains("remove it, or add another one"), "{}", refusal.message);
    let added = json!({ "spec": { "overrides": [order("Approve"), order("MarkSucceeded")] } });
    administrator.patch(&path, MERGE, &added).await.expect("another order can be added");
    let removed = json!({ "spec": { "overrides": [order("MarkSucceeded")] } });
    administrator.patch(&path, MERGE, &removed).await.expect("an order can be removed");
    let twice = json!({ "spec": { "overrides": [order("Approve"), order("Approve")] } });
    administrator.patch(&path, MERGE, &twice).await.expect_err("the same order can't be given twice");
}

/// The largest status that a controller writes is taken, and can be replaced.
async fn largest(administrator: &Somebody) {
    administrator.must_create(GATES, &gate("largest", &json!([]))).await;
    let number = |number: usize| format!("{number:032x}");
    let migration = |at| Migration { command: "x".repeat(1000), ..Migration::unknown(&number(at)) };
    let departed =
        |at| Departed { workload_uid: number(at), kind: "Deployment".to_owned(), name: "x".repeat(253), generation: 1 };
    let mut status = MigrationGateStatus {
        succeeded: (0..SUCCEEDED_KEPT).map(number).collect(),
        migrations: (0..2 * MIGRATIONS_BYTES / 1000).map(migration).collect(),
        departed: (0..DEPARTED_KEPT).map(departed).collect(),
        message: Some("x".repeat(MESSAGE_BYTES)),
        ..MigrationGateStatus::default()
    };
    for last_attempt in [1, 2] {
        status.last_attempt = last_attempt;
        let written = json!({ "status": status });
        administrator.patch(&format!("{GATES}/largest/status"), MERGE, &written).await.expect("it is not too large");
    }
    let read = administrator.get(&format!("{GATES}/largest")).await.expect("the record");
    let read: MigrationGateStatus = serde_json::from_value(read["status"].clone()).expect("a status");
    assert_eq!(read, status);
}

/// The lock: numbers only grow, and an attempt ends before the next one begins.
async fn lock(administrator: &Somebody) {
    let path = format!("{GATES}/orders/status");
    let write = async |status: Value| administrator.patch(&path, MERGE, &json!({ "status": status })).await;
    write(json!({ "lastAttempt": 3, "active": active(3) })).await.expect("an election");
    let written = administrator.get(&format!("{GATES}/orders")).await.expect("the record");
    assert_eq!(written["status"]["active"]["electedAt"], "2026-11-21T10:00:00.123456789Z", "times are kept whole");
    let refusal =
        write(json!({ "lastAttempt": 4, "active": active(4) })).await.expect_err("one attempt replaces another");
    assert!(refusal.message.contains("ends before the next one is elected"), "{}", refusal.message);
    let refusal = write(json!({ "lastAttempt": 2 })).await.expect_err("a number shrinks");
    assert!(refusal.message.contains("never reused"), "{}", refusal.message);
    write(json!({ "active": null })).await.expect("the attempt ends");
    write(json!({ "lastAttempt": 4, "active": active(4) })).await.expect("the next election");
    // Its own subresource: whoever may only write the spec can't touch the lock.
    let spec = json!({ "status": { "active": null } });
    administrator.patch(&format!("{GATES}/orders"), MERGE, &spec).await.expect("the status is left out");
    let left = administrator.get(&format!("{GATES}/orders")).await.expect("the record");
    assert_eq!(left["status"]["active"]["attempt"], 4);
}
