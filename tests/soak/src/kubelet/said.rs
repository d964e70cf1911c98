//! What a kubelet says of a pod, and how it says it: the newest word only, again and again until it is taken.

use std::sync::Arc;
use std::time::Duration;

use migration_gate_contract::CONDITION;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::{Api, Kind, Refusal};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);

/// What is to be said of a pod.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Its status; nothing, if there is nothing to say yet.
    pub status: Option<Arc<Value>>,
    /// All of its containers are gone for good: once that was said, the object may go.
    pub last: bool,
}

/// The pod that it is said of.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The path of the object.
    pub path: String,
    /// Its UID.
    pub uid: String,
}

/// Says whatever is said last, as long as the pod's worker lives: an API server that was just started may not know the pod.
pub async fn publish(api: Api, subject: Subject, mut words: watch::Receiver<Said>) {
    loop {
        let said = words.borrow_and_update().clone();
        if said.status.is_some() && say(&api, &subject, &said).await.is_err() {
            if words.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        if words.changed().await.is_err() {
            return;
        }
    }
}

async fn say(api: &Api, subject: &Subject, said: &Said) -> Result<(), Refusal> {
    if let Some(status) = &said.status {
        let body = json!({ "metadata": { "uid": subject.uid }, "status": **status });
        api.patch(&format!("{}/status", subject.path), Kind::Strategic, &body).await?;
    }
    if said.last {
        // One that is kept by a finalizer goes when that goes.
        let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": subject.uid } });
        api.delete(&subject.path, &options).await?;
    }
    Ok(())
}

/// A pod's status, from the states of its containers.
#[derive(Clone, Debug)]
pub struct Status {
    /// The phase.
    pub phase: &'static str,
    /// The init containers' names and states: the agent's last, the others done.
    pub init: Vec<(String, Value)>,
    /// The app containers' names.
    pub apps: Vec<String>,
    /// Whether these run.
    pub running: bool,
    /// Whether the pod counts as Ready.
    pub ready: bool,
}

impl Status {
    /// The status as the API server takes it.
    #[must_use]
    pub fn body(&self) -> Value {
        let init = self.init.iter().map(|(name, status)| {
            let mut status = status.clone();
            status["name"] = json!(name);
            status["image"] = json!("soak");
            status["imageID"] = json!("");
            status
        });
        let app = |name: &String| {
            let state = match (self.running, self.phase) {
                (true, _) => json!({ "running": { "startedAt": now() } }),
                (false, "Pending") => json!({ "waiting": { "reason": "PodInitializing" } }),
                (false, _) => json!({ "terminated": { "exitCode": 0, "containerID": "containerd://app" } }),
            };
            json!({ "name": name, "image": "soak", "imageID": "", "restartCount": 0, "ready": self.running, "state": state })
        };
        let condition = |name: &str, holds: bool| json!({ "type": name, "status": if holds { "True" } else { "False" }, "lastTransitionTime": now() });
        json!({
            "phase": self.phase,
            "initContainerStatuses": init.collect::<Vec<_>>(),
            "containerStatuses": self.apps.iter().map(app).collect::<Vec<_>>(),
            "conditions": [
                condition("Initialized", self.running), condition("ContainersReady", self.running),
                condition("Ready", self.running && self.ready),
            ],
        })
    }
}

/// Whether a pod waits for its gate.
#[must_use]
pub fn has_gate(object: &Value) -> bool {
    let gates = object["spec"]["readinessGates"].as_array();
    gates.is_some_and(|gates| gates.iter().any(|gate| gate["conditionType"] == CONDITION))
}

/// The time as Kubernetes writes it.
#[must_use]
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
