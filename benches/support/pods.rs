//! Pods that nobody runs: made as their controllers would, and what a kubelet would say of them.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use kube::Client;
use serde_json::{Value, json};

use migration_gate::contract::{CONDITION, annotation, label, pod};

use super::{Result, eventually, get, send};

/// The migration of every workload here.
pub const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";
/// Requests at once while pods are made, which is not measured.
const AT_ONCE: usize = 32;

/// Whether the controller is to see them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Gated, of a workload of their own.
    Gated,
    /// The same in size, for the bare client.
    Other,
}

/// Where pods are.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// How many nodes they are on: `node-0` and so on.
    pub nodes: usize,
}

/// Some pods.
pub struct Pods {
    client: Client,
    namespace: String,
    name: String,
    kind: Kind,
    /// Their names and UIDs.
    pub names: Vec<(String, String)>,
}

/// The elected one.
pub struct Runner {
    namespace: String,
    name: String,
    uid: String,
    attempt: u64,
}

fn init_status(state: &Value) -> Value {
    json!({ "status": { "phase": "Pending", "initContainerStatuses": [{
        "name": pod::MIGRATE_CONTAINER, "image": "shop:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }] } })
}

impl Pods {
    /// Makes the workload, its ReplicaSet and its pods, and says of each that its agent runs.
    pub async fn make(client: &Client, place: Place<'_>, name: &str, number: usize, kind: Kind) -> Result<Pods> {
        let namespace = place.namespace;
        let mut template = template(name, kind);
        if kind == Kind::Gated {
            let (apps, labels) = (format!("/apis/apps/v1/namespaces/{namespace}"), &template["metadata"]["labels"]);
            let template_of_both = json!({ "metadata": { "labels": labels }, "spec": template["spec"] });
            let spec = json!({ "replicas": number, "selector": { "matchLabels": { "app": name } }, "template": template_of_both });
            let deployment = json!({
                "metadata": { "name": name, "labels": { label::GATED: label::GATED_TRUE } }, "spec": spec,
            });
            let deployment = send(client, "POST", &format!("{apps}/deployments"), "json", &deployment).await?;
            let replica_set = json!({
                "metadata": { "name": name, "labels": labels, "ownerReferences": [controlled_by("Deployment", &deployment)] },
                "spec": spec,
            });
            let replica_set = send(client, "POST", &format!("{apps}/replicasets"), "json", &replica_set).await?;
            template["metadata"]["ownerReferences"] = json!([controlled_by("ReplicaSet", &replica_set)]);
        }
        let making = (0..number).map(async |at| {
            let mut pod = template.clone();
            pod["metadata"]["name"] = json!(format!("{name}-{at}"));
            pod["spec"]["nodeName"] = json!(format!("node-{}", at % place.nodes));
            let made = send(client, "POST", &format!("/api/v1/namespaces/{namespace}/pods"), "json", &pod).await?;
            let (name, uid) = (text(&made["metadata"]["name"]), text(&made["metadata"]["uid"]));
            said(client, namespace, &name, &json!({ "running": { "startedAt": "2026-11-21T10:00:00Z" } })).await?;
            Ok::<_, Box<dyn std::error::Error>>((name, uid))
        });
        let names = futures::stream::iter(making).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Pods { client: client.clone(), namespace: namespace.to_owned(), name: name.to_owned(), kind, names })
    }

    /// Waits until one of them has its run signal.
    pub async fn elected(&self) -> Result<Runner> {
        let path = format!("{}%2C{}%3D{}", self.list(), label::ROLE.replace('/', "%2F"), label::ROLE_RUNNER);
        eventually("a run signal", async || {
            let list = get(&self.client, &path).await?;
            let Some(runner) = list["items"].as_array().and_then(|items| items.first()) else { return Ok(None) };
            let signal = runner["metadata"]["annotations"][annotation::SIGNAL].as_str().unwrap_or("{}");
            let signal: Value = serde_json::from_str(signal)?;
            let runner = |attempt| Runner {
                namespace: self.namespace.clone(),
                name: text(&runner["metadata"]["name"]),
                uid: text(&runner["metadata"]["uid"]),
                attempt,
            };
            Ok(signal["run"]["attempt"].as_u64().map(runner))
        })
        .await
    }

    /// What the controller knows their group by.
    pub fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// The path of a list of them.
    fn list(&self) -> String {
        let label = label::GATE.replace('/', "%2F");
        format!("/api/v1/namespaces/{}/pods?labelSelector={label}%3D{}.deployment", self.namespace, self.name)
    }

    /// Waits until the record says that the migration succeeded; when that was seen.
    pub async fn recorded(&self) -> Result<Instant> {
        let records = format!("/apis/migration-gate.dev/v1alpha1/namespaces/{}/migrationgates", self.namespace);
        let path = format!("{records}/{}.deployment", self.name);
        eventually("the success to be recorded", async || {
            let record = get(&self.client, &path).await?;
            Ok((record["status"]["succeeded"] == json!([FINGERPRINT])).then(Instant::now))
        })
        .await
    }

    /// Fails unless every one of them has an open gate.
    pub async fn must_be_open(&self) -> Result<()> {
        let list = get(&self.client, &self.list()).await?;
        let open = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|each| each["type"] == CONDITION && each["status"] == "True"))
        };
        let count = list["items"].as_array().into_iter().flatten().filter(open).count();
        if count == self.names.len() { Ok(()) } else { Err(format!("{count} of {} are open", self.names.len()).into()) }
    }

    /// Deletes them and their workload.
    pub async fn delete(self, client: &Client) -> Result<()> {
        // No kubelet is there to end them.
        let now = json!({ "gracePeriodSeconds": 0 });
        let pods = format!("/api/v1/namespaces/{}/pods", self.namespace);
        let deleting = self
            .names
            .iter()
            .map(async |(name, _)| send(client, "DELETE", &format!("{pods}/{name}"), "json", &now).await.map(drop));
        futures::stream::iter(deleting).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        if self.kind == Kind::Gated {
            let path = format!("/apis/apps/v1/namespaces/{}/deployments/{}", self.namespace, self.name);
            send(client, "DELETE", &path, "json", &json!({})).await?;
        }
        Ok(())
    }
}

impl Runner {
    /// Says what its kubelet would when its agent reports success.
    pub async fn succeed(&self, client: &Client) -> Result<()> {
        let verdict = json!({ "attempt": self.attempt, "podUid": self.uid, "outcome": "succeeded" });
        let terminated = json!({
            "containerID": "containerd://1", "exitCode": 0, "message": format!("{verdict}\ndone"),
            "startedAt": "2026-11-21T10:00:00Z", "finishedAt": "2026-11-21T10:00:01Z",
        });
        said(client, &self.namespace, &self.name, &json!({ "running": null, "terminated": terminated })).await
    }
}

async fn said(client: &Client, namespace: &str, name: &str, state: &Value) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
    send(client, "PATCH", &path, "strategic-merge-patch+json", &init_status(state)).await.map(drop)
}

/// A pod as the webhook leaves it, as far as the controller looks, with an environment as applications have it.
fn template(name: &str, kind: Kind) -> Value {
    let labels = match kind {
        Kind::Gated => {
            json!({ "app": name, label::GATE: format!("{name}.deployment"), label::MIGRATION: FINGERPRINT })
        }
        Kind::Other => {
            json!({ "app": name, "bench/gate": format!("{name}.deployment"), "bench/migration": FINGERPRINT })
        }
    };
    let environment: Vec<Value> =
        (0..12).map(|at| json!({ "name": format!("SETTING_{at}"), "value": "a value of ordinary length" })).collect();
    json!({
        "metadata": { "labels": labels },
        "spec": {
            "readinessGates": [{ "conditionType": CONDITION }],
            "initContainers": [{
                "name": pod::MIGRATE_CONTAINER, "image": "shop:1", "command": [pod::AGENT_PATH], "args": ["--", "true"],
                "env": environment.clone(),
            }],
            "containers": [{ "name": "shop", "image": "shop:1", "env": environment }],
        },
    })
}

fn controlled_by(kind: &str, owner: &Value) -> Value {
    let (name, uid) = (&owner["metadata"]["name"], &owner["metadata"]["uid"]);
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
