//! What the benches of the controller share: a real API server, the real controller, and pods that nobody runs, whose
//! kubelet's words are said here.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod controller;
pub mod pods;

use std::error::Error;
use std::time::{Duration, Instant};

use axum::http::Request;
use kube::Client;
use serde_json::{Value, json};
use testcluster::{Cluster, Options, Profile};

/// What can go wrong in a measurement is the end of it.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Nothing here takes longer, unless it is broken.
const LIMIT: Duration = Duration::from_secs(1800);

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The controllers that would take part in what the bench plays: they make pods and count them, and take a node without a
/// kubelet for dead.
const PLAYED: &str = "--controllers=*,-deployment-controller,-replicaset-controller,-node-lifecycle-controller";

/// After this time without a write nothing more is expected.
const QUIET: Duration = Duration::from_secs(5);

/// Boots an API server that knows records, and returns a client of it which never repeats a request.
pub async fn boot(name: &str) -> Result<(Cluster, Client)> {
    let options = Options::new(name, Profile::Api).argument("kube-controller-manager", PLAYED);
    let cluster = Cluster::boot(options)?;
    cluster.apply(include_str!("../../deploy/crd.yaml"))?;
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok((cluster, Client::try_from(config)?))
}

/// A number that is chosen by an environment variable.
pub fn number(variable: &str, usual: usize) -> Result<usize> {
    Ok(std::env::var(variable).map_or(Ok(usual), |number| number.parse())?)
}

/// Looks again and again until `look` returns something.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    eventually_every(LOOK_EVERY, what, look).await
}

/// The same, looking as seldom as that.
pub async fn eventually_every<T>(
    every: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if start.elapsed() > LIMIT {
            return Err(format!("{what}: not within {LIMIT:?}").into());
        }
        tokio::time::sleep(every).await;
    }
}

/// Sends one request and returns the object that answers.
pub async fn send(client: &Client, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value> {
    let request = Request::builder().method(method).uri(path).header("content-type", format!("application/{kind}"));
    let answer = client.request::<Value>(request.body(body.to_string().into_bytes())?).await;
    answer.map_err(|error| format!("{method} {path}: {error}").into())
}

/// Reads an object or a list.
pub async fn get(client: &Client, path: &str) -> Result<Value> {
    send(client, "GET", path, "json", &Value::Null).await
}

/// Makes a namespace in which pods can be made.
pub async fn make_namespace(client: &Client, name: &str) -> Result<()> {
    send(client, "POST", "/api/v1/namespaces", "json", &json!({ "metadata": { "name": name } })).await?;
    // A pod is taken only once its namespace has a service account.
    let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
    eventually("the default service account", async || Ok(get(client, &account).await.ok())).await.map(drop)
}

/// Makes a node that is Ready for ever.
pub async fn make_node(client: &Client, name: &str) -> Result<()> {
    send(client, "POST", "/api/v1/nodes", "json", &json!({ "metadata": { "name": name } })).await?;
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "Bench" }] } });
    let path = format!("/api/v1/nodes/{name}/status");
    send(client, "PATCH", &path, "strategic-merge-patch+json", &ready).await.map(drop)
}

/// How many requests the API server has answered whose counter's line has all of these parts.
pub async fn answered(client: &Client, parts: &[&str]) -> Result<u64> {
    counted(client, |line| parts.iter().all(|part| line.contains(part))).await
}

/// How many writes of pods and records the API server has answered.
pub async fn all_writes(client: &Client) -> Result<u64> {
    counted(client, |line| {
        let one_of = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
        one_of(&[r#"resource="pods""#, r#"resource="migrationgates""#])
            && one_of(&[r#"verb="PATCH""#, r#"verb="PUT""#, r#"verb="POST""#, r#"verb="DELETE""#])
    })
    .await
}

/// How many requests the API server has answered that a controller at rest could send, but for watches and Leases.
pub async fn restless(client: &Client) -> Result<u64> {
    const OURS: [&str; 6] = ["pods", "migrationgates", "deployments", "replicasets", "nodes", "events"];
    counted(client, |line| {
        let ours = OURS.iter().any(|resource| line.contains(&format!(r#"resource="{resource}""#)));
        ours && !line.contains(r#"verb="WATCH""#)
    })
    .await
}

async fn counted(client: &Client, which: impl Fn(&str) -> bool) -> Result<u64> {
    let text = client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
    let lines = text.lines().filter(|line| line.starts_with("apiserver_request_total{") && which(line));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// Waits until nobody has written a pod or a record for a while.
pub async fn quiet(client: &Client) -> Result<()> {
    let mut last = (all_writes(client).await?, Instant::now());
    eventually_every(Duration::from_millis(250), "nothing more to be written", async || {
        let now = all_writes(client).await?;
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok((last.1.elapsed() >= QUIET).then_some(()))
    })
    .await
}

/// Progress, for people.
pub fn say(what: &str) {
    eprintln!("[bench] {what}");
}
