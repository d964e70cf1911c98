//! Pods that nobody runs: a namespace, a node that seems alive, and what a kubelet would say.

use std::time::{Duration, Instant};

use axum::http::Request;
use futures::{StreamExt, TryStreamExt};
use kube::Client;
use serde_json::{Value, json};

use migration_gate::contract::{CONDITION, annotation, label, pod};

use crate::{Result, eventually};

/// Where the pods are.
pub const NAMESPACE: &str = "shop";
const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";
const NODE: &str = "node-1";
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

/// Some pods.
pub struct Pods {
    client: Client,
    name: String,
    kind: Kind,
    /// Their names and UIDs.
    pub names: Vec<(String, String)>,
}

/// The elected one.
pub struct Runner {
    name: String,
    uid: String,
    attempt: u64,
}

/// Sends one request and returns the object that answers.
pub async fn send(client: &Client, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value> {
    let request = Request::builder().method(method).uri(path).header("content-type", format!("application/{kind}"));
    let answer = client.request::<Value>(request.body(body.to_string().into_bytes())?).await;
    answer.map_err(|error| format!("{method} {path}: {error}").into())
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    send(client, "GET", path, "json", &Value::Null).await
}

/// The namespace and the node.
pub async fn prepare(client: &Client) -> Result<()> {
    let namespace = json!({ "metadata": { "name": NAMESPACE } });
    send(client, "POST", "/api/v1/namespaces", "json", &namespace).await?;
    let node = json!({ "metadata": { "name": NODE } });
    send(client, "POST", "/api/v1/nodes", "json", &node).await?;
    let lease =
        json!({ "metadata": { "name": NODE, "namespace": "kube-node-lease" }, "spec": { "holderIdentity": NODE } });
    eventually("the namespace of the nodes' leases", async || {
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        Ok(send(client, "POST", path, "json", &lease).await.ok())
    })
    .await?;
    // A pod is taken only once its namespace has a service account.
    eventually("the default service account", async || {
        Ok(get(client, &format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")).await.ok())
    })
    .await?;
    beat(client).await
}

/// Says for the node, every few seconds, that it is well: else the node controller would evict its pods.
pub async fn keep_node_alive(client: Client) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if let Err(error) = beat(&client).await {
            crate::say(&format!("the node's heartbeat failed: {error}"));
        }
    }
}

async fn beat(client: &Client) -> Result<()> {
    let now = jiff::Timestamp::now();
    let ready = json!({ "status": { "conditions": [{
        "type": "Ready", "status": "True", "reason": "Bench", "lastHeartbeatTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }] } });
    send(client, "PATCH", &format!("/api/v1/nodes/{NODE}/status"), "strategic-merge-patch+json", &ready).await?;
    let renewed = json!({ "spec": { "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string() } });
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}");
    send(client, "PATCH", &lease, "merge-patch+json", &renewed).await?;
    Ok(())
}

/// How many patches of pods' statuses the API server has answered.
pub async fn writes(client: &Client) -> Result<u64> {
    answered(client, |line| {
        [r#"resource="pods""#, r#"subresource="status""#, r#"verb="PATCH""#].iter().all(|part| line.contains(part))
    })
    .await
}

/// How many writes of pods and records the API server has answered.
pub async fn all_writes(client: &Client) -> Result<u64> {
    answered(client, |line| {
        let one_of = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
        one_of(&[r#"resource="pods""#, r#"resource="migrationgates""#])
            && one_of(&[r#"verb="PATCH""#, r#"verb="PUT""#, r#"verb="POST""#, r#"verb="DELETE""#])
    })
    .await
}

async fn answered(client: &Client, which: impl Fn(&str) -> bool) -> Result<u64> {
    let text = client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
    let lines = text.lines().filter(|line| line.starts_with("apiserver_request_total{") && which(line));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

fn init_status(state: &Value) -> Value {
    json!({ "status": { "phase": "Pending", "initContainerStatuses": [{
        "name": pod::MIGRATE_CONTAINER, "image": "shop:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }] } })
}

impl Pods {
    /// Makes the workload and its pods, and says of each that its agent runs.
    pub async fn make(client: &Client, name: &str, number: usize, kind: Kind) -> Result<Pods> {
        let template = template(name, kind);
        if kind == Kind::Gated {
            let deployment = json!({
                "metadata": { "name": name, "labels": { label::GATED: label::GATED_TRUE } },
                "spec": { "replicas": 0, "selector": { "matchLabels": { "app": name } }, "template": {
                    "metadata": { "labels": merged(&template["metadata"]["labels"], &json!({ "app": name })) },
                    "spec": template["spec"],
                } },
            });
            send(client, "POST", "/apis/apps/v1/namespaces/shop/deployments", "json", &deployment).await?;
        }
        let making = (0..number).map(async |at| {
            let mut pod = template.clone();
            pod["metadata"]["name"] = json!(format!("{name}-{at}"));
            let made = send(client, "POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods"), "json", &pod).await?;
            let (name, uid) = (text(&made["metadata"]["name"]), text(&made["metadata"]["uid"]));
            said(client, &name, &json!({ "running": { "startedAt": "2026-11-21T10:00:00Z" } })).await?;
            Ok::<_, Box<dyn std::error::Error>>((name, uid))
        });
        let names = futures::stream::iter(making).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Pods { client: client.clone(), name: name.to_owned(), kind, names })
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
                name: text(&runner["metadata"]["name"]),
                uid: text(&runner["metadata"]["uid"]),
                attempt,
            };
            Ok(signal["run"]["attempt"].as_u64().map(runner))
        })
        .await
    }

    /// The path of a list of them.
    fn list(&self) -> String {
        let label = label::GATE.replace('/', "%2F");
        format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={label}%3D{}.deployment", self.name)
    }

    /// Waits until the record says that the migration succeeded; when that was seen.
    pub async fn recorded(&self) -> Result<Instant> {
        let path =
            format!("/apis/migration-gate.dev/v1alpha1/namespaces/{NAMESPACE}/migrationgates/{}.deployment", self.name);
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
        if self.kind == Kind::Gated {
            let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{}", self.name);
            send(client, "DELETE", &path, "json", &json!({})).await?;
        }
        // No kubelet is there to end them.
        let now = json!({ "gracePeriodSeconds": 0 });
        let deleting = self.names.iter().map(async |(name, _)| {
            send(client, "DELETE", &format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}"), "json", &now).await.map(drop)
        });
        futures::stream::iter(deleting).buffer_unordered(AT_ONCE).try_collect().await
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
        said(client, &self.name, &json!({ "running": null, "terminated": terminated })).await
    }
}

async fn said(client: &Client, name: &str, state: &Value) -> Result<()> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/status");
    send(client, "PATCH", &path, "strategic-merge-patch+json", &init_status(state)).await.map(drop)
}

/// A pod as the webhook leaves it, as far as the controller looks, with an environment as applications have it.
fn template(name: &str, kind: Kind) -> Value {
    let labels = match kind {
        Kind::Gated => json!({ label::GATE: format!("{name}.deployment"), label::MIGRATION: FINGERPRINT }),
        Kind::Other => json!({ "bench/gate": format!("{name}.deployment"), "bench/migration": FINGERPRINT }),
    };
    let environment: Vec<Value> =
        (0..12).map(|at| json!({ "name": format!("SETTING_{at}"), "value": "a value of ordinary length" })).collect();
    json!({
        "metadata": { "labels": labels },
        "spec": {
            "nodeName": NODE,
            "readinessGates": [{ "conditionType": CONDITION }],
            "initContainers": [{
                "name": pod::MIGRATE_CONTAINER, "image": "shop:1", "command": [pod::AGENT_PATH], "args": ["--", "true"],
                "env": environment.clone(),
            }],
            "containers": [{ "name": "shop", "image": "shop:1", "env": environment }],
        },
    })
}

fn merged(one: &Value, other: &Value) -> Value {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    Value::Object(entries(one).into_iter().chain(entries(other)).collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
