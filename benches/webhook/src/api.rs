//! What a webhook adds to a real API server's `POST deployments`: one namespace for each, asked in turns.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use migration_gate_contract::label;
use serde_json::{Value, json};
use testcluster::{Cluster, Options, Profile};

use crate::Failure;
use crate::load::{self, Door};
use crate::reviews::{self, Question, Size};
use crate::rivals::{Identity, Place, Rival, Running};
use crate::table::{Table, quantile};

/// Creations that are not counted.
const WARM_UP: usize = 50;

/// The webhooks, in the order in which they are asked. The fixed patch is the one that ours makes, so ours starts first.
const WEBHOOKS: [(Rival, &str); 4] = [
    (Rival::Floor, "null webhook"),
    (Rival::Ours, "ours"),
    (Rival::FixedPatch, "null webhook with our patch"),
    (Rival::Peer, "controller-runtime"),
];

/// Their places among the namespaces, the first of which has no webhook.
const OURS: usize = 2;
const FIXED_PATCH: usize = 3;

/// Measures so many creations in each namespace, and returns the table.
pub fn run(program: &Path, creations: usize) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(program, creations))
}

async fn measure(program: &Path, creations: usize) -> Result<String, Failure> {
    let cluster = Cluster::boot(Options::new("bench-webhook", Profile::Api))?;
    let host = cluster.host_address();
    let identity = Identity::new(&[host])?;
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let client = Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?;
    let mut namespaces = vec![("none".to_owned(), "no webhook")];
    let mut servers = Vec::new();
    for (rival, name) in WEBHOOKS {
        let running = Running::start(rival, host, &identity, program, Place::Anywhere)?;
        if rival == Rival::Ours {
            identity.keep_patch(&patch_of(&running, &identity).await?)?;
        }
        namespaces.push((format!("{rival:?}").to_lowercase(), name));
        servers.push(running);
    }
    for (namespace, _) in &namespaces {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        post(&client, "/api/v1/namespaces", &object).await?;
    }
    for (running, (namespace, _)) in servers.iter().zip(&namespaces[1..]) {
        let object = configuration(running, namespace, &identity);
        post(&client, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", &object).await?;
    }
    for (namespace, name) in &namespaces[2..] {
        let start = Instant::now();
        while !is_gated(&create(&client, namespace, 0).await?) {
            if start.elapsed() > Duration::from_secs(30) {
                return Err(format!("the API server doesn't call {name}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let mut times = vec![Vec::new(); namespaces.len()];
    for creation in 0..WARM_UP + creations {
        for ((namespace, _), times) in namespaces.iter().zip(&mut times) {
            let start = Instant::now();
            create(&client, namespace, creation).await?;
            if creation >= WARM_UP {
                times.push(start.elapsed());
            }
        }
    }
    let share = share(&times[OURS], &times[FIXED_PATCH]);
    let mut table = Table::new(&["POST deployments (6 kB, dry run)", "p50", "p99", "p50 beyond no webhook"]);
    let base = quantile(&mut times[0], 500).unwrap_or_default();
    let milliseconds = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
    for ((_, name), times) in namespaces.iter().zip(&mut times) {
        let (p50, p99) = (quantile(times, 500).unwrap_or_default(), quantile(times, 990).unwrap_or_default());
        table.row(vec![
            (*name).to_owned(),
            milliseconds(p50),
            milliseconds(p99),
            milliseconds(p50.saturating_sub(base)),
        ]);
    }
    let share = share.ok_or("nothing was measured")?;
    Ok(format!("{}\nours beyond the fixed patch, turn by turn: median {share:.3} ms\n", table.text()))
}

/// How much longer the first took than the second, in milliseconds: the median of the turns' differences, which whatever
/// else the machine does moves less than the difference of two medians.
fn share(first: &[Duration], second: &[Duration]) -> Option<f64> {
    let micros = |time: &Duration| time.as_micros() as i64;
    let mut differences: Vec<i64> =
        first.iter().zip(second).map(|(first, second)| micros(first) - micros(second)).collect();
    quantile(&mut differences, 500).map(|median| median as f64 / 1e3)
}

/// The patch that a webhook makes of the Deployment, in base64.
async fn patch_of(running: &Running, identity: &Identity) -> Result<String, Failure> {
    let review = reviews::review(Question::Create, Size::Usual, &Value::Null);
    let answer = Door::new(running.address, &identity.authority)?.open().await?.ask(&load::request(&review)).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    Ok(answer["response"]["patch"].as_str().ok_or("no patch")?.to_owned())
}

/// A webhook for one namespace.
fn configuration(running: &Running, namespace: &str, identity: &Identity) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": format!("{namespace}.bench.example"),
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "url": format!("https://{}/mutate", running.address),
                "caBundle": BASE64_STANDARD.encode(&identity.authority),
            },
            "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchLabels": {label::GATED: label::GATED_TRUE}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": 5,
        }],
    })
}

/// Creates a Deployment of the usual size; a dry run takes the same way but for the store, whose time would only blur it.
async fn create(client: &Client, namespace: &str, number: usize) -> Result<Value, Failure> {
    let mut object = reviews::deployment(Size::Usual);
    object["metadata"]["namespace"] = json!(namespace);
    object["metadata"]["name"] = json!(format!("orders-{number}"));
    post(client, &format!("/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All"), &object).await
}

fn is_gated(deployment: &Value) -> bool {
    deployment["spec"]["template"]["spec"]["readinessGates"].is_array()
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<Value, Failure> {
    let request = axum::http::Request::post(path).header("content-type", "application/json");
    Ok(client.request(request.body(object.to_string().into_bytes())?).await?)
}
