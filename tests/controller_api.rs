//! The controller as a process, on a real API server. Pods are made by the real Deployment controller; what their
//! kubelet would say of them is said here.

mod support;

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use support::client::{MERGE, STRATEGIC, Somebody, namespace};
use support::eventually;
use testcluster::{Cluster, Options, Profile};

use migration_gate::contract::{CONDITION, POD_FINALIZER, annotation, label, pod};

const PODS: &str = "/api/v1/namespaces/shop/pods";
const GATES: &str = "/apis/migration-gate.dev/v1alpha1/namespaces/shop/migrationgates";
const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";

/// A controller process; it is killed when it is dropped.
struct Controller(Child);

impl Controller {
    fn start(cluster: &Cluster, identity: &str) -> Controller {
        let log = std::fs::File::create(cluster.logs_dir().join(format!("controller-{identity}.log"))).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_migration-gate"))
            .args(["controller", "--identity", identity, "--lease-namespace", "shop", "--health-listen", "127.0.0.1:0"])
            .env("KUBECONFIG", cluster.kubeconfig())
            .stdout(log.try_clone().expect("the same log"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the controller starts");
        Controller(child)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(self.0.wait().expect("it ends").success(), "it ends well when it is asked to");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct World {
    cluster: Cluster,
    administrator: Somebody,
}

impl World {
    async fn boot(name: &str) -> World {
        let cluster = Cluster::boot(Options::new(name, Profile::Api)).expect("an API server");
        cluster.apply(include_str!("../deploy/crd.yaml")).expect("the definition is taken");
        let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
        namespace(&administrator, "shop", json!({})).await;
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } });
        administrator.must_create("/api/v1/nodes", &node).await;
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "Test" }] } });
        administrator.patch("/api/v1/nodes/node-1/status", STRATEGIC, &ready).await.expect("a Ready node");
        World { cluster, administrator }
    }

    /// A Deployment as the webhook leaves it, as far as the controller looks.
    async fn deploy(&self, name: &str, replicas: u32) {
        let gate = format!("{name}.deployment");
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name, "labels": { label::GATED: label::GATED_TRUE } },
            "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } }, "template": {
                "metadata": { "labels": { "app": name, label::GATE: gate, label::MIGRATION: FINGERPRINT } },
                "spec": {
                    "readinessGates": [{ "conditionType": CONDITION }],
                    "nodeName": "node-1",
                    "initContainers": [{
                        "name": pod::MIGRATE_CONTAINER, "image": "shop:1", "command": [pod::AGENT_PATH], "args": ["--", "true"],
                    }],
                    "containers": [{ "name": "shop", "image": "shop:1" }],
                },
            } },
        });
        self.administrator.must_create("/apis/apps/v1/namespaces/shop/deployments", &deployment).await;
    }

    async fn pods(&self, name: &str) -> Vec<Value> {
        let list = self.administrator.get(&format!("{PODS}?labelSelector=app%3D{name}")).await.expect("the pods");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for so many pods and says that their agents run.
    async fn agents_run(&self, name: &str, count: usize) {
        let pods =
            eventually("the pods", async || Some(self.pods(name).await).filter(|pods| pods.len() == count)).await;
        for pod in pods {
            self.say(&pod, json!({ "running": { "startedAt": "2026-11-21T10:00:00Z" } })).await;
        }
    }

    /// Says what a kubelet would say of an agent's container.
    async fn say(&self, pod: &Value, state: Value) {
        let status = json!({ "status": { "phase": "Pending", "initContainerStatuses": [{
            "name": pod::MIGRATE_CONTAINER, "image": "shop:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": state,
        }] } });
        let path = format!("{PODS}/{}/status", text(&pod["metadata"]["name"]));
        self.administrator.patch(&path, STRATEGIC, &status).await.expect("the kubelet's word is taken");
    }

    /// Waits until a pod has a run signal, and returns the pod and the attempt.
    async fn elected(&self, name: &str) -> (Value, u64) {
        eventually("a run signal", async || {
            self.pods(name).await.into_iter().find_map(|pod| {
                let signal: Value = serde_json::from_str(&annotated(&pod, annotation::SIGNAL)?).ok()?;
                Some((pod, signal["run"]["attempt"].as_u64()?))
            })
        })
        .await
    }

    /// Ends an attempt in a pod with a verdict.
    async fn verdict(&self, pod: &Value, attempt: u64, outcome: &str) {
        let uid = &pod["metadata"]["uid"];
        let verdict = json!({ "attempt": attempt, "podUid": uid, "outcome": outcome });
        let terminated = json!({
            "containerID": "containerd://1", "exitCode": i32::from(outcome != "succeeded"), "message": format!("{verdict}\nthe last line"),
            "startedAt": "2026-11-21T10:00:00Z", "finishedAt": "2026-11-21T10:00:01Z",
        });
        self.say(pod, json!({ "running": null, "terminated": terminated })).await;
    }

    async fn all_open(&self, name: &str, count: usize) {
        eventually("open gates", async || {
            let pods = self.pods(name).await;
            (pods.len() == count && pods.iter().all(is_open)).then_some(())
        })
        .await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn annotated(pod: &Value, key: &str) -> Option<String> {
    pod["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

fn is_open(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|each| each["type"] == CONDITION && each["status"] == "True"))
}

#[tokio::test]
async fn one_is_elected_its_success_is_recorded_and_all_open() {
    let world = World::boot("t-controller").await;
    let controller = Controller::start(&world.cluster, "a");
    world.deploy("orders", 3).await;
    world.agents_run("orders", 3).await;
    let (runner, attempt) = world.elected("orders").await;
    assert_eq!(attempt, 1);
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
async fn another_takes_over_from_one_that_was_killed_and_from_one_that_ended() {
    let world = World::boot("t-failover").await;
    let first = Controller::start(&world.cluster, "a");
    world.deploy("orders", 2).await;
    world.agents_run("orders", 2).await;
    let (runner, attempt) = world.elected("orders").await;
    let second = Controller::start(&world.cluster, "b");
    // The runner ends while nobody leads; its report is waiting for whoever comes next.
    first.signal(Signal::KILL);
    let killed = std::time::Instant::now();
    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("orders", 2).await;
    println!("after a SIGKILL of the leader the gates opened within {:.1} s", killed.elapsed().as_secs_f32());

    let third = Controller::start(&world.cluster, "c");
    world.deploy("billing", 1).await;
    world.agents_run("billing", 1).await;
    let (runner, attempt) = world.elected("billing").await;
    let ended = std::time::Instant::now();
    second.end();
    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("billing", 1).await;
    println!("after the leader ended the gates opened within {:.1} s", ended.elapsed().as_secs_f32());
    third.end();
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
