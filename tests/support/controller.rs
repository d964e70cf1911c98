//! The controller as a process, on a real API server. Pods are made by the real Deployment controller; what their
//! kubelet would say of them is said here.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use migration_gate::contract::{CONDITION, annotation, label, pod};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use testcluster::{Cluster, Options, Profile};

use super::client::{STRATEGIC, Somebody, namespace};
use super::eventually;

/// The pods.
const PODS: &str = "/api/v1/namespaces/shop/pods";
/// The records.
pub const GATES: &str = "/apis/migration-gate.dev/v1alpha1/namespaces/shop/migrationgates";
/// The migration of every Deployment here.
pub const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";

/// A controller process; it is killed when it is dropped.
pub struct Controller {
    process: Child,
    /// Where it serves its metrics.
    pub health: SocketAddr,
    log: PathBuf,
}

impl Controller {
    pub fn start(cluster: &Cluster, identity: &str) -> Controller {
        Controller::start_with(cluster, identity, &[])
    }

    /// Starts one with more arguments.
    pub fn start_with(cluster: &Cluster, identity: &str, more: &[&str]) -> Controller {
        Controller::spawn(cluster, identity, &cluster.kubeconfig(), "shop", more)
    }

    /// Starts one with somebody's rights, with its Lease in this namespace.
    pub fn start_as(cluster: &Cluster, identity: &str, kubeconfig: &Path, namespace: &str) -> Controller {
        Controller::spawn(cluster, identity, kubeconfig, namespace, &[])
    }

    fn spawn(cluster: &Cluster, identity: &str, kubeconfig: &Path, namespace: &str, more: &[&str]) -> Controller {
        let log = cluster.logs_dir().join(format!("controller-{identity}.log"));
        let file = File::create(&log).expect("a log");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let process = Command::new(env!("CARGO_BIN_EXE_migration-gate"))
            .args(["controller", "--identity", identity, "--lease-namespace", namespace])
            .args(["--health-listen", &free.to_string()])
            .args(more)
            .env("KUBECONFIG", kubeconfig)
            .stdout(file.try_clone().expect("the same log"))
            .stderr(file)
            .stdin(Stdio::null())
            .spawn()
            .expect("the controller starts");
        Controller { process, health: free, log }
    }

    /// Waits until it has read everything, so that it could act at once.
    pub async fn is_ready(&self) {
        eventually("a ready controller", async || {
            let mut answer = String::new();
            let mut connection = TcpStream::connect(self.health).ok()?;
            connection.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").ok()?;
            connection.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.0 200").then_some(())
        })
        .await;
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Stops it. The kernel stops thread after thread, as each is scheduled: it is waited until all are.
    pub async fn stop(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.process.id());
        eventually("a stopped controller", async || {
            let threads = std::fs::read_dir(&threads).expect("it runs").flatten();
            let mut states = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
            states.all(|state| state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))).then_some(())
        })
        .await;
    }

    pub fn end(mut self) {
        self.signal(Signal::TERM);
        assert!(self.process.wait().expect("it ends").success(), "it ends well when it is asked to");
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An API server with a Ready node and a namespace.
pub struct World {
    pub cluster: Cluster,
    pub administrator: Somebody,
}

impl World {
    pub async fn boot(name: &str) -> World {
        World::boot_with(Options::new(name, Profile::Api)).await
    }

    pub async fn boot_with(options: Options) -> World {
        let cluster = Cluster::boot(options).expect("an API server");
        cluster.apply(include_str!("../../deploy/crd.yaml")).expect("the definition is taken");
        let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
        namespace(&administrator, "shop", json!({})).await;
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } });
        administrator.must_create("/api/v1/nodes", &node).await;
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "Test" }] } });
        administrator.patch("/api/v1/nodes/node-1/status", STRATEGIC, &ready).await.expect("a Ready node");
        World { cluster, administrator }
    }

    /// A Deployment as the webhook leaves it, as far as the controller looks.
    pub async fn deploy(&self, name: &str, replicas: u32) {
        self.deploy_with(name, replicas, json!({})).await;
    }

    /// The same, with these annotations.
    pub async fn deploy_with(&self, name: &str, replicas: u32, annotations: Value) {
        let gate = format!("{name}.deployment");
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": name, "labels": { label::GATED: label::GATED_TRUE }, "annotations": annotations },
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

    /// A pod with the labels of a workload's pods that nobody's workload made.
    pub async fn stranger(&self, name: &str) -> Value {
        let gate = format!("{name}.deployment");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "stranger", "labels": { label::GATE: gate, label::MIGRATION: FINGERPRINT } },
            "spec": {
                "nodeName": "node-1",
                "initContainers": [{ "name": pod::MIGRATE_CONTAINER, "image": "forger:1", "command": [pod::AGENT_PATH] }],
                "containers": [{ "name": "shop", "image": "shop:1" }],
            },
        });
        self.administrator.must_create(PODS, &pod).await
    }

    pub async fn pods(&self, name: &str) -> Vec<Value> {
        let list = self.administrator.get(&format!("{PODS}?labelSelector=app%3D{name}")).await.expect("the pods");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for so many pods and says that their agents run.
    pub async fn agents_run(&self, name: &str, count: usize) {
        let pods =
            eventually("the pods", async || Some(self.pods(name).await).filter(|pods| pods.len() == count)).await;
        for pod in pods {
            self.say(&pod, json!({ "running": { "startedAt": "2026-11-21T10:00:00Z" } })).await;
        }
    }

    /// Says what a kubelet would say of an agent's container.
    pub async fn say(&self, pod: &Value, state: Value) {
        let status = json!({ "status": { "phase": "Pending", "initContainerStatuses": [{
            "name": pod::MIGRATE_CONTAINER, "image": "shop:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": state,
        }] } });
        let path = format!("{PODS}/{}/status", text(&pod["metadata"]["name"]));
        self.administrator.patch(&path, STRATEGIC, &status).await.expect("the kubelet's word is taken");
    }

    /// Waits until a pod has a run signal, and returns the pod and the attempt.
    pub async fn elected(&self, name: &str) -> (Value, u64) {
        eventually("a run signal", async || {
            self.pods(name).await.into_iter().find_map(|pod| {
                let signal: Value = serde_json::from_str(&annotated(&pod, annotation::SIGNAL)?).ok()?;
                Some((pod, signal["run"]["attempt"].as_u64()?))
            })
        })
        .await
    }

    /// Ends an attempt in a pod with a verdict.
    pub async fn verdict(&self, pod: &Value, attempt: u64, outcome: &str) {
        let uid = &pod["metadata"]["uid"];
        let verdict = json!({ "attempt": attempt, "podUid": uid, "outcome": outcome, "start": 1, "end": 1_001 });
        let terminated = json!({
            "containerID": "containerd://1", "exitCode": i32::from(outcome != "succeeded"), "message": format!("{verdict}\nthe last line"),
            "startedAt": "2026-11-21T10:00:00Z", "finishedAt": "2026-11-21T10:00:01Z",
        });
        self.say(pod, json!({ "running": null, "terminated": terminated })).await;
    }

    pub async fn all_open(&self, name: &str, count: usize) {
        eventually("open gates", async || {
            let pods = self.pods(name).await;
            (pods.len() == count && pods.iter().all(is_open)).then_some(())
        })
        .await;
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn annotated(pod: &Value, key: &str) -> Option<String> {
    pod["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

pub fn is_open(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|each| each["type"] == CONDITION && each["status"] == "True"))
}
