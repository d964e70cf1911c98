//! What the witness reads of Kubernetes' objects. It shares the contract with the controller (what the names and
//! messages on pods are called), and nothing else.

use migration_gate_contract::{
    CONDITION, Opened, POD_FINALIZER, RECORD_FINALIZER, Report, Signal, Verdict, annotation, label, pod,
};
use serde::Deserialize;
use serde_json::Value;

use crate::life::copies::COPY;
use crate::watching::number;

/// A name with its namespace, as `namespace/name`.
#[must_use]
pub fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn own_key(object: &Value) -> String {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    key(part("namespace"), part("name"))
}

/// One version of a pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name with its namespace.
    pub key: String,
    /// Its UID.
    pub uid: String,
    /// The version's number.
    pub at: u64,
    /// The group's record that its label names, with the namespace.
    pub gate: Option<String>,
    /// The fingerprint that its label names.
    pub fingerprint: String,
    /// The workload that it says to be of (the label `app`), with the namespace.
    pub app: String,
    /// Somebody made it who is not a workload's controller.
    pub foreign: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// Its phase.
    pub phase: String,
    /// The signal for this very pod.
    pub signal: Option<Signal>,
    /// The pass, whatever it names.
    pub opened: Option<Opened>,
    /// The gate condition is True.
    pub gate_true: bool,
    /// It has our finalizer.
    pub held: bool,
    /// It is Ready.
    pub ready: bool,
    /// What its agent's containers reported.
    pub verdicts: Vec<Verdict>,
    /// Its agent's container runs.
    pub agent_runs: bool,
}

impl Pod {
    /// Reads one.
    #[must_use]
    pub fn of(object: &Value) -> Pod {
        let metadata = &object["metadata"];
        let part = |name: &str| metadata[name].as_str().unwrap_or_default();
        let (namespace, name) = (part("namespace"), part("name"));
        let (labels, annotations, status) = (&metadata["labels"], &metadata["annotations"], &object["status"]);
        let uid = text(&metadata["uid"]).unwrap_or_default();
        let signal: Option<Signal> = annotated(annotations, annotation::SIGNAL);
        let is_true = |name: &str| {
            let conditions = status["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == name && one["status"] == "True"))
        };
        let agent = agent_status(object);
        let messages = ["state", "lastState"].map(|state| text(&agent[state]["terminated"]["message"]));
        let verdicts = messages.into_iter().flatten().filter_map(|message| match Report::parse(&message)? {
            Report::Verdict(verdict) if verdict.pod_uid == uid => Some(verdict),
            _ => None,
        });
        let owners = metadata["ownerReferences"].as_array();
        let controlling = |owner: &Value| owner["kind"] == "ReplicaSet" && owner["controller"] == true;
        Pod {
            key: own_key(object),
            at: number(object),
            gate: labels[label::GATE].as_str().map(|gate| key(namespace, gate)),
            fingerprint: text(&labels[label::MIGRATION]).unwrap_or_default(),
            app: key(namespace, labels["app"].as_str().unwrap_or_default()),
            // A copy may name any owner.
            foreign: name.starts_with(COPY) || !owners.is_some_and(|owners| owners.iter().any(controlling)),
            deleting: metadata["deletionTimestamp"].is_string(),
            phase: text(&status["phase"]).unwrap_or_default(),
            signal: signal.filter(|signal| signal.pod_uid() == uid),
            opened: annotated(annotations, annotation::OPENED),
            gate_true: is_true(CONDITION),
            held: holds(metadata, POD_FINALIZER),
            ready: is_true("Ready"),
            verdicts: verdicts.collect(),
            agent_runs: agent["state"]["running"].is_object(),
            uid,
        }
    }

    /// It is neither being deleted nor ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.deleting && self.phase != "Failed" && self.phase != "Succeeded"
    }

    /// The attempt that its run signal names.
    #[must_use]
    pub fn ordered(&self) -> Option<u32> {
        match &self.signal {
            Some(Signal::Run(run)) => Some(run.attempt),
            _ => None,
        }
    }
}

fn annotated<T: serde::de::DeserializeOwned>(annotations: &Value, key: &str) -> Option<T> {
    serde_json::from_str(annotations[key].as_str()?).ok()
}

fn holds(metadata: &Value, finalizer: &str) -> bool {
    metadata["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == finalizer))
}

/// The name of the container that the agent runs in.
#[must_use]
pub fn agent_container(object: &Value) -> Option<&Value> {
    object["spec"]["initContainers"].as_array()?.iter().find(|container| {
        let command = container["command"].as_array().map(Vec::as_slice).unwrap_or_default();
        let command: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
        pod::runs_agent(&command)
    })
}

fn agent_status(object: &Value) -> Value {
    let name = agent_container(object).map_or(&Value::Null, |container| &container["name"]);
    let statuses = object["status"]["initContainerStatuses"].as_array();
    statuses.and_then(|all| all.iter().find(|status| status["name"] == *name)).cloned().unwrap_or_default()
}

/// One version of a group's record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name with its namespace.
    pub key: String,
    /// Its UID.
    pub uid: String,
    /// The version's number.
    pub at: u64,
    /// The spec's generation.
    pub generation: Option<i64>,
    /// It is being deleted.
    pub deleting: bool,
    /// The lock's finalizer is there.
    pub protected: bool,
    /// Somebody owns it.
    pub owned: bool,
    /// The operators' orders.
    pub orders: Vec<Order>,
    /// What is on record.
    pub status: Status,
    /// How large that is.
    pub bytes: usize,
}

/// An operator's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Order {
    /// The migration.
    pub fingerprint: String,
    /// What is to be done.
    pub action: String,
    /// The attempt that is meant.
    pub attempt: u32,
}

/// What is on record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation of the spec that it took into account.
    pub observed_generation: Option<i64>,
    /// Where the group stands.
    pub phase: Option<String>,
    /// The same in a sentence.
    pub message: Option<String>,
    /// The attempt that may run.
    pub active: Option<Active>,
    /// The highest number that was given.
    pub last_attempt: u32,
    /// The migrations that are remembered.
    pub migrations: Vec<Migration>,
    /// What succeeded.
    pub succeeded: Vec<String>,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// The orders that were answered.
    pub overrides: Vec<Order>,
}

/// The attempt that may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Active {
    /// Its migration.
    pub fingerprint: String,
    /// Its number.
    pub attempt: u32,
    /// Its pod's UID.
    pub pod_uid: String,
    /// Its pod's name.
    pub pod_name: String,
}

/// A migration on record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Migration {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Where it stands.
    pub phase: String,
    /// Whether it was approved.
    pub approved: bool,
    /// Failures that count.
    pub failures: u32,
    /// Interruptions that count.
    pub interruptions: u32,
    /// Its attempts.
    pub attempts: Vec<Attempt>,
}

/// An attempt on record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// Its pod's name.
    pub pod: String,
    /// How it ended.
    pub outcome: String,
    /// What that rests on, where it isn't the agent's word.
    pub evidence: Option<String>,
    /// The end of its output.
    pub log_tail: Option<String>,
}

/// A condition on record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
}

impl Record {
    /// Reads one.
    #[must_use]
    pub fn of(object: &Value) -> Record {
        let metadata = &object["metadata"];
        let read = |value: &Value| Status::deserialize(value).unwrap_or_default();
        Record {
            key: own_key(object),
            uid: text(&metadata["uid"]).unwrap_or_default(),
            at: number(object),
            generation: metadata["generation"].as_i64(),
            deleting: metadata["deletionTimestamp"].is_string(),
            protected: holds(metadata, RECORD_FINALIZER),
            owned: metadata["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty()),
            orders: Vec::deserialize(&object["spec"]["overrides"]).unwrap_or_default(),
            status: read(&object["status"]),
            bytes: if object["status"].is_null() { 0 } else { object["status"].to_string().len() },
        }
    }
}

impl Status {
    /// What is remembered of a migration.
    #[must_use]
    pub fn migration(&self, fingerprint: &str) -> Option<&Migration> {
        self.migrations.iter().find(|migration| migration.fingerprint == fingerprint)
    }

    /// Whether it says that a migration succeeded.
    #[must_use]
    pub fn has_succeeded(&self, fingerprint: &str) -> bool {
        self.succeeded.iter().any(|one| one == fingerprint)
    }

    /// A condition of this type that is True.
    #[must_use]
    pub fn holding(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
    }
}

/// One version of a workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name with its namespace.
    pub key: String,
    /// Its UID.
    pub uid: String,
    /// The version's number.
    pub at: u64,
    /// The spec's generation.
    pub generation: i64,
    /// It asks for a gate.
    pub gated: bool,
    /// The group's record that its template names, with the namespace; none, if it isn't injected.
    pub gate: Option<String>,
    /// Its template's fingerprint.
    pub fingerprint: String,
    /// It is being deleted.
    pub deleting: bool,
    /// Each new migration waits for an approval.
    pub suspended: bool,
    /// Failures after which it is given up.
    pub backoff_limit: u32,
    /// The pods that it wants.
    pub replicas: u64,
    /// Its pods are there as it wants them: all of the current template, all Ready.
    pub complete: bool,
}

impl Workload {
    /// Reads one.
    #[must_use]
    pub fn of(object: &Value) -> Workload {
        let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        let labels = &spec["template"]["metadata"]["labels"];
        let said = |key: &str| metadata["annotations"][key].as_str();
        let count = |name: &str| status[name].as_u64().unwrap_or(0);
        let replicas = spec["replicas"].as_u64().unwrap_or(1);
        let generation = metadata["generation"].as_i64().unwrap_or(0);
        let all = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
        Workload {
            key: own_key(object),
            uid: text(&metadata["uid"]).unwrap_or_default(),
            at: number(object),
            generation,
            gated: metadata["labels"][label::GATED] == label::GATED_TRUE,
            gate: labels[label::GATE].as_str().map(|gate| key(namespace, gate)),
            fingerprint: text(&labels[label::MIGRATION]).unwrap_or_default(),
            deleting: metadata["deletionTimestamp"].is_string(),
            suspended: said(annotation::SUSPEND) == Some("true"),
            // Six is what an installation promises where nothing is said.
            backoff_limit: said(annotation::BACKOFF_LIMIT).and_then(|text| text.parse().ok()).unwrap_or(6),
            replicas,
            complete: status["observedGeneration"].as_i64() == Some(generation)
                && all.iter().all(|name| count(name) == replicas),
        }
    }
}
