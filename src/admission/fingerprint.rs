//! The fingerprint: which migration this is.
//!
//! Two pods with the same fingerprint would run the same migration, so it runs once for both. It is the SHA-256 of the
//! canonical JSON of these fields, its first 32 hexadecimal digits:
//!
//! | field | what |
//! |---|---|
//! | `image`, `command`, `args`, `workingDir` | the migration container's, as the user gave them |
//! | `env` | its variables in their order; only those that `identity-env` names, if it is set |
//! | `envFrom` | in its order; left out if `identity-env` is set |
//! | `volumeMounts` | sorted by their mount path |
//! | `volumes` | the definitions of the mounted volumes, sorted by their names |
//! | `verify`, `revision` | the annotations, `verify` as its list of words |
//!
//! **The algorithm is frozen.** A different result for the same workload would migrate again everywhere, so the golden
//! vectors in `tests/data/fingerprints` never change; whatever must count in future is a new field of a new label.
//!
//! An object in the API carries defaults that the same object in a file lacks. So what means nothing is left out: fields
//! that are null, false, an empty text, list or object (Go drops most of those itself, and `emptyDir: {}` is the default
//! of a volume), and the values of [`DEFAULTS`].

use serde_json::{Map, Value, json};

use super::canonical;
use super::template::name;
use crate::settings::Settings;

/// The digits of a fingerprint.
const DIGITS: usize = 32;

/// A default.
enum Plain {
    Text(&'static str),
    Number(i64),
}

use Plain::{Number, Text};

/// Frozen: the defaults that the API server gives to fields in `env`, `volumeMounts` and `volumes`, by the name of the
/// object that holds them. Source: Kubernetes 1.36, pkg/apis/core/v1/defaults.go.
const DEFAULTS: &[(&str, &str, Plain)] = &[
    ("fieldRef", "apiVersion", Text("v1")),
    ("resourceFieldRef", "divisor", Text("0")),
    ("resourceFieldRef", "divisor", Number(0)),
    ("configMap", "defaultMode", Number(420)),
    ("secret", "defaultMode", Number(420)),
    ("projected", "defaultMode", Number(420)),
    ("downwardAPI", "defaultMode", Number(420)),
    ("serviceAccountToken", "expirationSeconds", Number(3600)),
    ("iscsi", "iscsiInterface", Text("default")),
    ("rbd", "pool", Text("rbd")),
    ("rbd", "user", Text("admin")),
    ("rbd", "keyring", Text("/etc/ceph/keyring")),
    ("azureDisk", "cachingMode", Text("ReadWrite")),
    ("azureDisk", "fsType", Text("ext4")),
    ("azureDisk", "kind", Text("Shared")),
    ("scaleIO", "storageMode", Text("ThinProvisioned")),
    ("scaleIO", "fsType", Text("xfs")),
    ("awsElasticBlockStore", "partition", Number(0)),
    ("gcePersistentDisk", "partition", Number(0)),
    // Of an ephemeral volume's claim.
    ("spec", "volumeMode", Text("Filesystem")),
];

/// Frozen: fields that say nothing about what a migration does, whatever their value. How large a volume may grow, and when an
/// image is pulled.
const IRRELEVANT: &[(&str, &str)] =
    &[("emptyDir", "sizeLimit"), ("emptyDir", "medium"), ("spec", "resources"), ("image", "pullPolicy")];

/// The fingerprint of a migration: `container` is its container before the agent comes in, `volumes` are the
/// template's.
pub(super) fn fingerprint(container: &Value, volumes: &[Value], settings: &Settings) -> String {
    let mounts = sorted_by(&container["volumeMounts"], "mountPath");
    let mounted: Vec<Value> = volumes.iter().filter(|v| mounts.iter().any(|m| name(m) == name(v))).cloned().collect();
    let (env, env_from) = match &settings.identity_env {
        None => (container["env"].clone(), container["envFrom"].clone()),
        Some(names) => (named(&container["env"], names), Value::Null),
    };
    let identity = json!({
        "image": container["image"],
        "command": container["command"],
        "args": container["args"],
        "workingDir": container["workingDir"],
        "env": normal("env", env),
        "envFrom": normal("envFrom", env_from),
        "volumeMounts": normal("volumeMounts", Value::Array(mounts)),
        "volumes": normal("volumes", Value::Array(sorted_by(&Value::Array(mounted), "name"))),
        "verify": settings.verify,
        "revision": settings.revision,
    });
    canonical::digest(&without_empty(identity), DIGITS)
}

/// The variables that count.
fn named(env: &Value, names: &std::collections::BTreeSet<String>) -> Value {
    env.as_array().map_or(Value::Null, |env| env.iter().filter(|v| names.contains(name(v))).cloned().collect())
}

/// A list of objects in the order of a field; entries without it come first.
fn sorted_by(list: &Value, field: &str) -> Vec<Value> {
    let mut list = list.as_array().cloned().unwrap_or_default();
    list.sort_by(|a, b| a[field].as_str().cmp(&b[field].as_str()));
    list
}

/// The value without what means nothing. `holder` is the field that holds it; entries of a list keep the list's.
pub(super) fn normal(holder: &str, value: Value) -> Value {
    match value {
        // An entry of a list stays even if nothing is left of it: its neighbours' positions may matter.
        Value::Array(items) => items.into_iter().map(|item| normal(holder, item)).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(key, value)| !is_default(holder, key, value));
            without_empty(fields.map(|(key, value)| (key.clone(), normal(&key, value))).collect())
        }
        plain => plain,
    }
}

fn is_default(holder: &str, key: &str, value: &Value) -> bool {
    let is = |default: &Plain| match default {
        Text(text) => value.as_str() == Some(*text),
        Number(number) => value.as_i64() == Some(*number),
    };
    IRRELEVANT.contains(&(holder, key))
        || DEFAULTS.iter().any(|(object, field, default)| (*object, *field) == (holder, key) && is(default))
}

/// An object without its fields that are null, false, or an empty text, list or object.
pub(super) fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().filter(|(_, value)| !is_empty(value)).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
