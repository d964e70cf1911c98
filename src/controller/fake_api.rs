//! An API server that answers as a test wants it to: refusals, silence and lost answers, which a real one gives at no
//! convenient time. What a real one does is tested with a real one, in `tests/`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::objects::{GroupKey, MANAGED_BY, MANAGER};
use super::snapshot::{Pod, Record};
use crate::contract::{CONDITION, annotation, label};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

impl Asked {
    /// Whether it is this method on a path with this end.
    pub(super) fn is(&self, method: &str, end: &str) -> bool {
        self.method == method && self.path.ends_with(end)
    }
}

/// How long the answer takes, its status code and the object in it.
pub(super) type Answer = (Duration, (u16, Value));

/// An object as the answer, at once.
pub(super) fn object(object: Value) -> Answer {
    (Duration::ZERO, (200, object))
}

/// No answer.
pub(super) fn silence() -> Answer {
    (Duration::from_secs(365 * 24 * 3600), (200, Value::Null))
}

/// The server: what it was asked, in order.
#[derive(Default)]
pub(super) struct FakeApi {
    asked: Mutex<Vec<Asked>>,
}

impl FakeApi {
    /// A server that answers like that, and a client of it.
    pub(super) fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Arc<FakeApi>, Client) {
        let (fake, answer) = (Arc::new(FakeApi::default()), Arc::new(answer));
        let server = Arc::clone(&fake);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, answer) = (Arc::clone(&server), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let asked = Asked {
                    method: parts.method.to_string(),
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                };
                server.asked.lock().expect("nobody panicked").push(asked.clone());
                let (takes, (code, object)) = answer(&asked);
                tokio::time::sleep(takes).await;
                let response = Response::builder().status(code).header("content-type", "application/json");
                Ok::<_, kube::Error>(response.body(Body::from(object.to_string().into_bytes())).expect("a response"))
            }
        });
        (fake, Client::new(service, "shop"))
    }

    /// What it was asked that suits.
    pub(super) fn asked(&self, suits: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        self.asked.lock().expect("nobody panicked").iter().filter(|asked| suits(asked)).cloned().collect()
    }
}

/// A list, or a page of one.
pub(super) fn page(items: Vec<Value>, next: Option<usize>) -> Answer {
    let next = next.map(|next| next.to_string());
    object(json!({ "metadata": { "resourceVersion": "1", "continue": next }, "items": items }))
}

/// A record as the API server has it.
pub(super) fn record_object(namespace: &str, record: &Record) -> Value {
    let owners = record.owners.iter().map(
        |owner| json!({ "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid }),
    );
    json!({
        "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate",
        "metadata": {
            "name": record.name, "namespace": namespace, "uid": record.uid, "resourceVersion": record.resource_version,
            "generation": record.generation, "finalizers": record.finalizers, "labels": { MANAGED_BY: MANAGER },
            "ownerReferences": owners.collect::<Vec<_>>(),
        },
        "spec": {}, "status": record.status,
    })
}

/// A pod as the API server has it, as far as its gate goes.
pub(super) fn pod_object(key: &GroupKey, pod: &Pod) -> Value {
    let opened = json!({ "podUid": pod.uid, "migration": pod.fingerprint }).to_string();
    let annotations = if pod.passed { json!({ annotation::OPENED: opened }) } else { json!({}) };
    let open = json!([{ "type": CONDITION, "status": "True" }]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod.name, "namespace": key.namespace, "uid": pod.uid, "resourceVersion": pod.resource_version,
            "creationTimestamp": pod.created.to_string(), "annotations": annotations,
            "labels": { label::GATE: key.name, label::MIGRATION: pod.fingerprint },
        },
        "spec": { "nodeName": pod.node },
        "status": { "phase": "Pending", "conditions": if pod.gate_open { open } else { json!([]) } },
    })
}

/// A refusal.
pub(super) fn refusal(code: u16, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason, "code": code,
    });
    (Duration::ZERO, (code, status))
}
