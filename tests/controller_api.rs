//! The controller as a process, on a real API server.

mod support;

use serde_json::{Value, json};
use support::client::MERGE;
use support::controller::{Controller, FINGERPRINT, GATES, World, annotated, text};
use support::eventually;

use migration_gate::contract::{POD_FINALIZER, annotation, label};

#[tokio::test]
async fn one_is_elected_its_success_is_recorded_and_all_open() {
    let world = World::boot("t-controller").await;
    let controller = Controller::start(&world.cluster, "a");
    world.deploy("orders", 3).await;
    let stranger = world.stranger("orders").await;
    world.verdict(&stranger, 1, "succeeded").await;
    world.agents_run("orders", 3).await;
    let (runner, attempt) = world.elected("orders").await;
    assert_eq!(attempt, 1);
    let signalled = eventually("a record of the signal", async || {
        let record = world.administrator.get(&format!("{GATES}/orders.deployment")).await.expect("the record");
        Some(record).filter(|record| !record["status"]["active"]["signalledAt"].is_null())
    })
    .await;
    assert_eq!(signalled["status"]["succeeded"], Value::Null, "a pod that nobody elected is believed");
    let held =
        |pod: &Value| pod["metadata"]["finalizers"].as_array().is_some_and(|all| all.contains(&json!(POD_FINALIZER)));
    assert!(held(&runner), "the runner is kept until its outcome is recorded");
    assert_eq!(runner["metadata"]["labels"][label::ROLE], label::ROLE_RUNNER);
    assert_eq!(annotated(&runner, annotation::SAFE_TO_EVICT).as_deref(), Some("false"));

    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("orders", 3).await;
    for pod in world.pods("orders").await {
        assert!(!held(&pod), "nothing keeps the pods any more");
        assert!(annotated(&pod, annotation::OPENED).is_some_and(|pass| pass.contains(FINGERPRINT)));
        assert_eq!(annotated(&pod, annotation::SAFE_TO_EVICT), None, "the guard went with the signal");
    }
    let record = world.administrator.get(&format!("{GATES}/orders.deployment")).await.expect("the record");
    assert_eq!(record["status"]["succeeded"], json!([FINGERPRINT]));
    assert_eq!(record["status"]["phase"], "Succeeded");
    let events = eventually("events on the Deployment", async || {
        let events = world.administrator.get("/apis/events.k8s.io/v1/namespaces/shop/events").await.expect("events");
        let ours = |event: &&Value| {
            event["regarding"]["kind"] == "Deployment" && event["reportingController"] == "migration-gate-controller"
        };
        let reasons: Vec<String> =
            events["items"].as_array()?.iter().filter(ours).map(|event| text(&event["reason"])).collect();
        (reasons.len() >= 2).then_some(reasons)
    })
    .await;
    assert!(
        events.contains(&"MigrationStarted".to_owned()) && events.contains(&"MigrationSucceeded".to_owned()),
        "{events:?}"
    );
    controller.end();
    world.cluster.down().expect("nothing is left behind");
}

#[tokio::test]
async fn a_record_of_nonsense_stalls_its_group_and_no_other() {
    let world = World::boot("t-nonsense").await;
    let controller = Controller::start(&world.cluster, "a");
    world.deploy("orders", 1).await;
    let path = format!("{GATES}/orders.deployment");
    eventually("the record", async || {
        world.administrator.get(&path).await.ok().filter(|record| !record["status"].is_null())
    })
    .await;
    let active = json!({ "fingerprint": FINGERPRINT, "attempt": 99_999_999_999_u64, "podName": "a", "podUid": "u", "electedAt": "2026-11-21T10:00:00Z" });
    let nonsense = json!({ "status": { "active": active } });
    world.administrator.patch(&format!("{path}/status"), MERGE, &nonsense).await.expect("the schema lets it through");
    let stalled = async || {
        let record = world.administrator.get(&path).await.expect("the record");
        let conditions = record["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["reason"] == "RecordUnreadable").cloned()
    };
    let condition = eventually("the condition", stalled).await;
    assert!(text(&condition["message"]).contains("99999999999"), "it names what is wrong: {condition}");
    eventually("the event", async || {
        let events = world.administrator.get("/apis/events.k8s.io/v1/namespaces/shop/events").await.expect("events");
        events["items"].as_array()?.iter().find(|event| event["reason"] == "RecordUnreadable").cloned()
    })
    .await;
    world.agents_run("orders", 1).await;

    // The watch goes on, and the others with it.
    world.deploy("billing", 1).await;
    world.agents_run("billing", 1).await;
    world.elected("billing").await;
    let orders = world.pods("orders").await;
    assert!(orders.iter().all(|pod| annotated(pod, annotation::SIGNAL).is_none()), "nobody knows who runs: {orders:?}");

    let mended = json!({ "status": { "active": null } });
    world.administrator.patch(&format!("{path}/status"), MERGE, &mended).await.expect("it is mended");
    world.elected("orders").await;
    controller.end();
    world.cluster.down().expect("nothing is left behind");
}

/// The group has more pods than are read at once, and the runner's name is the last.
#[tokio::test]
async fn a_lost_record_is_rebuilt_from_all_pods_of_a_large_group() {
    const PODS: usize = 120;
    let world = World::boot("t-lost").await;
    let controller = Controller::start(&world.cluster, "a");
    world.deploy("orders", 120).await;
    let all = async || Some(world.pods("orders").await).filter(|pods| pods.len() == PODS);
    let mut pods = eventually("the pods", all).await;
    pods.sort_by_key(|pod| text(&pod["metadata"]["name"]));
    let last = pods.last().expect("pods");
    world.say(last, json!({ "running": { "startedAt": "2026-11-21T10:00:00Z" } })).await;
    let (runner, attempt) = world.elected("orders").await;
    assert_eq!(runner["metadata"]["name"], last["metadata"]["name"]);
    controller.end();

    let path = format!("{GATES}/orders.deployment");
    let free = json!({ "metadata": { "finalizers": null } });
    world.administrator.patch(&path, MERGE, &free).await.expect("nothing holds the record");
    world.administrator.delete(&path, &json!({})).await.expect("the record is gone");
    let records = world.administrator.get(GATES).await.expect("no records");
    world.agents_run("orders", PODS).await;
    let controller = Controller::start(&world.cluster, "b");
    eventually("the record", async || {
        world.administrator.get(&path).await.ok().filter(|record| !record["status"].is_null())
    })
    .await;
    let versions = world.administrator.history(GATES, &text(&records["metadata"]["resourceVersion"])).await;
    let first = versions.iter().find(|version| !version["status"].is_null()).expect("a status");
    assert_eq!(first["status"]["active"]["podName"], runner["metadata"]["name"], "{first}");

    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("orders", PODS).await;
    controller.end();
    world.cluster.down().expect("nothing is left behind");
}
