//! Nodes whose kubelets are real clients of the API, with a node's rights, and whose containers are made up: but in
//! each waits the agent's real state machine.
//!
//! [`worker`] is one pod from its first container to the last word about it; [`process`] is the agent in it,
//! [`command`] what that runs, and [`said`] how the API server learns of it.

pub mod command;
pub mod process;
pub mod said;
pub mod worker;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::Result;
use crate::api::{Api, Kind, Refusal};
use crate::chronicle::Chronicle;
use crate::script::{End, Fate};
use crate::watching::{self, Word as Watched};
use crate::witness::Witness;
use crate::witness::facts::Pod;

use said::{Said, Subject, publish};
use worker::{Word, Worker};

/// Between two signs of life of a node; four are missed before anybody says that it is down.
const HEARTBEAT: Duration = Duration::from_secs(8);
/// How long a node whose object was deleted does without one: until its kubelet is started again, say.
const REGISTERS_AFTER: Duration = Duration::from_secs(12);
const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// What all nodes share.
pub struct House {
    /// Whom they tell what really runs.
    pub witness: Witness,
    /// What happened.
    pub chronicle: Chronicle,
    /// The seed of their delays.
    pub seed: u64,
    /// How a command goes whose words say nothing.
    pub usual: Fate,
    present: Mutex<HashMap<String, Presence>>,
    runs: Mutex<HashMap<(String, String), usize>>,
}

/// A pod on a node.
#[derive(Clone, Debug)]
pub struct Presence {
    /// What was seen of it last.
    pub pod: Pod,
    /// The attempt whose command runs in it.
    pub running: Option<u32>,
    /// Nothing runs in it any more.
    pub over: bool,
    words: mpsc::UnboundedSender<Word>,
}

impl House {
    /// Nodes that tell this witness.
    #[must_use]
    pub fn new(witness: Witness, chronicle: Chronicle, seed: u64) -> Arc<House> {
        let usual = Fate::new(End::Succeeds, Duration::from_millis(300));
        let (present, runs) = (Mutex::default(), Mutex::default());
        Arc::new(House { witness, chronicle, seed, usual, present, runs })
    }

    fn present(&self) -> MutexGuard<'_, HashMap<String, Presence>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next run of this pod's migration, from 0: a database would know.
    fn count_run(&self, pod: &Pod) -> usize {
        let namespace = pod.key.split('/').next().unwrap_or_default().to_owned();
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let count = runs.entry((namespace, pod.fingerprint.clone())).or_default();
        *count += 1;
        *count - 1
    }

    fn set_running(&self, uid: &str, attempt: Option<u32>) {
        if let Some(presence) = self.present().get_mut(uid) {
            presence.running = attempt;
        }
    }

    fn note(&self, pod: &Pod, over: bool) {
        if let Some(presence) = self.present().get_mut(&pod.uid) {
            presence.pod.clone_from(pod);
            presence.over = over;
        }
    }

    /// The pods of a workload, by its key.
    #[must_use]
    pub fn pods_of(&self, app: &str) -> Vec<Presence> {
        let mut pods: Vec<Presence> = self.present().values().filter(|one| one.pod.app == app).cloned().collect();
        pods.sort_by(|one, other| one.pod.key.cmp(&other.pod.key));
        pods
    }

    /// Whether a command may still be alive in the pod of this UID.
    #[must_use]
    pub fn may_run(&self, uid: &str) -> bool {
        self.present().get(uid).is_some_and(|presence| !presence.over)
    }

    /// Kills the agent's container in a pod.
    pub fn kill_container(&self, uid: &str, forgotten: bool) {
        self.send(uid, Word::KillContainer { forgotten });
    }

    fn send(&self, uid: &str, word: Word) {
        if let Some(presence) = self.present().get(uid) {
            // A worker that is over hears nothing any more.
            let _ = presence.words.send(word);
        }
    }
}

/// A node.
pub struct Node {
    name: String,
    api: Api,
    house: Arc<House>,
}

impl Node {
    /// A node of this name, with a node's rights.
    ///
    /// # Errors
    /// When the kubeconfig can't be used.
    pub async fn new(kubeconfig: &Path, name: &str, house: Arc<House>) -> Result<Node> {
        let groups = ["system:nodes", "system:authenticated"];
        let api = Api::as_user(kubeconfig, &format!("system:node:{name}"), &groups).await?;
        Ok(Node { name: name.to_owned(), api, house })
    }

    /// Says again and again that it is alive, and registers if nobody knows it.
    pub async fn beat(&self) {
        let mut registered = false;
        loop {
            match self.renew().await {
                Err(refusal) if refusal.is_absence() => {
                    if registered {
                        tokio::time::sleep(REGISTERS_AFTER).await;
                    }
                    registered = self.register().await.is_ok();
                    self.house.chronicle.note([self.name.clone()], format!("node: registered {registered}"));
                    if !registered {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                }
                _ => tokio::time::sleep(HEARTBEAT).await,
            }
        }
    }

    async fn register(&self) -> std::result::Result<(), Refusal> {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": self.name } });
        tolerate(self.api.create(NODES, &node).await)?;
        let lease = json!({ "metadata": { "name": self.name, "namespace": "kube-node-lease" },
            "spec": { "holderIdentity": self.name, "leaseDurationSeconds": 40 } });
        tolerate(self.api.create(LEASES, &lease).await)?;
        self.renew().await
    }

    async fn renew(&self) -> std::result::Result<(), Refusal> {
        let ready = json!({ "status": { "conditions": [{
            "type": "Ready", "status": "True", "reason": "Soak", "lastHeartbeatTime": said::now(),
        }] } });
        self.api.patch(&format!("{NODES}/{}/status", self.name), Kind::Strategic, &ready).await?;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let renewed = json!({ "spec": { "renewTime": now } });
        self.api.patch(&format!("{LEASES}/{}", self.name), Kind::Merge, &renewed).await.map(drop)
    }

    /// Runs the pods that are bound to it.
    pub async fn run(&self) {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.name);
        let hear = |word| {
            match word {
                Watched::Version(object) => self.seen(object),
                Watched::Gone(object) => {
                    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                    self.house.send(uid, Word::Gone);
                }
                Watched::UpTo(_) | Watched::Missed | Watched::Whole => {}
            }
            true
        };
        watching::watch(self.api.clone(), path, hear).await;
    }

    fn seen(&self, object: Value) {
        let pod = Pod::of(&object);
        let object = Arc::new(object);
        let mut present = self.house.present();
        if let Some(presence) = present.get(&pod.uid) {
            let _ = presence.words.send(Word::Seen(object));
            return;
        }
        let (words, heard) = mpsc::unbounded_channel();
        let _ = words.send(Word::Seen(Arc::clone(&object)));
        let (namespace, name) = pod.key.split_once('/').unwrap_or_default();
        let subject = Subject { path: format!("/api/v1/namespaces/{namespace}/pods/{name}"), uid: pod.uid.clone() };
        let (said, listening) = watch::channel(Said::default());
        let worker = Worker::new(Arc::clone(&self.house), object, said);
        let uid = pod.uid.clone();
        present.insert(uid.clone(), Presence { pod, running: None, over: false, words });
        drop(present);
        tokio::spawn(publish(self.api.clone(), subject, listening));
        let house = Arc::clone(&self.house);
        tokio::spawn(async move {
            worker.live(heard).await;
            house.present().remove(&uid);
        });
    }
}

/// What is there already needs not be made.
fn tolerate(answer: crate::api::Answer) -> std::result::Result<(), Refusal> {
    match answer {
        Err(refusal) if !refusal.is_conflict() => Err(refusal),
        _ => Ok(()),
    }
}
