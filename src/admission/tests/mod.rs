//! Tests of the whole path from review to answer, which is where the promises of admission are made.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bumpalo::Bump;
use serde_json::{Value, json};

use super::arena::Arena;
use super::offline::template;
use super::strip::strip;
use super::{AgentDelivery, Answer, Decision, Installation, Mode, review};
use crate::contract::{annotation, label};

mod arbitrary;
mod audit;
mod decisions;
mod fingerprints;
mod laws;
mod others;
mod snapshots;
mod sticky;
pub(super) mod trees;
mod warnings;

/// An installation, as its operator would name it.
fn installation() -> Installation {
    Installation {
        agent_image: "registry.example/migration-gate:0.1.0".to_owned(),
        delivery: AgentDelivery::InstallContainer,
        version: "0.1.0",
    }
}

/// Another version of it.
fn upgraded() -> Installation {
    Installation { agent_image: "registry.example/migration-gate:0.2.0".to_owned(), version: "0.2.0", ..installation() }
}

/// A gated Deployment with one container and a command.
fn orders() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "orders",
            "namespace": "shop",
            "labels": { label::GATED: label::GATED_TRUE },
            "annotations": { annotation::COMMAND: "alembic upgrade head" },
        },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "orders" } },
            "template": {
                "metadata": { "labels": { "app": "orders" } },
                "spec": { "containers": [{ "name": "web", "image": "orders:1" }] },
            },
        },
    })
}

/// A review of an object that is created, or changed if there is an old one.
fn a_review(old: Option<&Value>, new: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "apps", "version": "v1", "kind": "Deployment" },
            "resource": { "group": "apps", "version": "v1", "resource": "deployments" },
            "name": new["metadata"]["name"].as_str().unwrap_or_default(),
            "namespace": "shop",
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": { "username": "jane" },
            "object": new,
            "oldObject": old,
            "dryRun": false,
            "options": { "apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions" },
        },
    })
}

/// What came of a review.
#[derive(Debug)]
struct Outcome {
    decision: Decision,
    /// The object with the patch applied.
    object: Value,
    /// The patch as it was sent; null if there was none.
    patch: Value,
    /// The response as it was sent.
    response: Value,
}

impl Outcome {
    fn message(&self) -> &str {
        self.response["status"]["message"].as_str().expect("a denial's message")
    }

    fn warnings(&self) -> Vec<&str> {
        self.response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn template(&self) -> &Value {
        &self.object["spec"]["template"]
    }
}

/// Sends a review and applies its patch, as the API server would.
fn admit_with(installation: &Installation, old: Option<&Value>, new: &Value) -> Outcome {
    let review_text = a_review(old, new).to_string();
    let Answer { body, decision, .. } = review(review_text.as_bytes(), installation, Mode::Enforce).expect("a review");
    let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
    let response = answer["response"].clone();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!(response["patch"].is_string(), response["patchType"] == "JSONPatch");
    assert_eq!(response["allowed"], decision != Decision::Denied);
    for warning in response["warnings"].as_array().into_iter().flatten() {
        assert!(warning.as_str().expect("text").chars().count() <= 120, "{warning}");
    }
    let mut object = new.clone();
    let mut patch = Value::Null;
    if let Some(encoded) = response["patch"].as_str() {
        patch = serde_json::from_slice(&BASE64_STANDARD.decode(encoded).expect("base64")).expect("JSON");
        let steps: json_patch::Patch = serde_json::from_value(patch.clone()).expect("a JSON Patch");
        json_patch::patch(&mut object, &steps).expect("the patch applies");
    }
    Outcome { decision, object, patch, response }
}

fn create(new: &Value) -> Outcome {
    admit_with(&installation(), None, new)
}

fn update(old: &Value, new: &Value) -> Outcome {
    admit_with(&installation(), Some(old), new)
}

/// The object's pod template without what is ours.
fn stripped(object: &Value) -> Value {
    let bump = Bump::new();
    let arena = Arena(&bump);
    strip(&template(object, arena).expect("a template"), arena).to_json(arena).to_value()
}

/// Sets what a pointer names, in an object or at the end of a list.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().expect("an index")] = value,
        parent => parent[key.replace("~1", "/")] = value,
    }
}

/// The object with one place changed, or taken out if `value` is null.
fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    if value.is_null() {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
            Value::Array(list) => drop(list.remove(key.parse().expect("an index"))),
            Value::Object(map) => drop(map.remove(&key.replace("~1", "/"))),
            other => panic!("{pointer} is inside {other}"),
        }
    } else {
        set(&mut object, pointer, value);
    }
    object
}

/// The names of an object's init containers.
fn init_containers(object: &Value) -> Vec<&str> {
    let list = object["spec"]["template"]["spec"]["initContainers"].as_array();
    list.into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
}

/// The path of a file under `tests/data`.
fn data(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

/// Compares with what was reviewed and kept in a file; with `UPDATE_SNAPSHOTS=1` the file is written instead.
fn check_snapshot(path: &str, actual: &str) {
    let file = data(path);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, actual).expect("a writable work tree");
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == actual, "{path} differs (UPDATE_SNAPSHOTS=1 writes it); now:\n{actual}");
}

fn annotated(object: &Value, key: &str, value: &str) -> Value {
    with(object, &format!("/metadata/annotations/{}", key.replace('/', "~1")), json!(value))
}

/// `orders`, with an init container that migrates, wrapped.
fn wrapping() -> Value {
    let mut object = orders();
    object["metadata"]["annotations"] = json!({ annotation::CONTAINER: "migrate" });
    object["spec"]["template"]["spec"]["initContainers"] =
        json!([{ "name": "migrate", "image": "orders:1", "command": ["alembic"], "args": ["upgrade", "head"] }]);
    object
}

/// The same, but the init container leaves its program to the image, and the annotation says it.
fn with_entrypoint() -> Value {
    let object = with(&wrapping(), "/spec/template/spec/initContainers/0/command", Value::Null);
    annotated(&object, annotation::ENTRYPOINT, "alembic")
}
