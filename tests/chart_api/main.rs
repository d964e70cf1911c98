//! The Helm chart: the same objects as the kustomization's, values that are checked, and a life on a real API server.

#[path = "../support/mod.rs"]
mod support;

mod ask;
mod installation;
mod life;
mod pods;
mod readme;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testcluster::tools::{self, Tool};

/// An object's kind, namespace and name.
type Key = (String, String, String);
type Objects = BTreeMap<Key, Value>;

const NAMESPACE: &str = "migration-gate-system";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs Helm with a home of its own. What it says, or what it complains about.
fn helm(home: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tools::path(Tool::Helm).expect("helm"))
        .args(arguments)
        .current_dir(root())
        .env("HELM_CACHE_HOME", home.join("cache"))
        .env("HELM_CONFIG_HOME", home.join("config"))
        .env("HELM_DATA_HOME", home.join("data"))
        .output()
        .expect("helm starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// What an installation with these values consists of, or why there can't be one.
fn chart(values: &Value) -> Result<Objects, String> {
    let home = std::env::temp_dir();
    let values = values.to_string();
    let template = ["template", "migration-gate", "deploy/chart", "--namespace", NAMESPACE, "--set-json", &values];
    helm(&home, &template).map(|stream| objects(&stream))
}

/// The default installation.
fn usual() -> Objects {
    chart(&serde_json::json!({})).expect("the defaults")
}

/// The key of an object in the installation's namespace.
fn namespaced(kind: &str, name: &str) -> Key {
    (kind.to_owned(), NAMESPACE.to_owned(), name.to_owned())
}

/// The one object of a kind.
fn only<'a>(objects: &'a Objects, kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|((found, _, _), _)| found == kind).map(|(_, object)| object);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    one
}

/// A program's Deployment.
fn deployment<'a>(objects: &'a Objects, program: &str) -> &'a Value {
    &objects[&namespaced("Deployment", &format!("migration-gate-{program}"))]
}

/// The spec of a program's pods.
fn pod<'a>(objects: &'a Objects, program: &str) -> &'a Value {
    &deployment(objects, program)["spec"]["template"]["spec"]
}

/// The objects in which two installations differ.
fn differing<'a>(one: &'a Objects, other: &'a Objects) -> Vec<&'a Key> {
    let mut keys: Vec<&Key> = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))).collect();
    keys.retain(|key| one.get(*key) != other.get(*key));
    keys.sort();
    keys
}

/// The objects of a stream.
fn objects(stream: &str) -> Objects {
    let read: Vec<Value> = serde_saphyr::from_multiple(stream).expect("YAML");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let keyed = read.into_iter().filter(|object| !object.is_null()).map(|object| {
        let metadata = &object["metadata"];
        ((text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"])), object)
    });
    keyed.collect()
}
