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
//! of a volume), and what [`MEANINGLESS`] lists.

use serde_json::{Value, json};

use super::canonical::{self, Object, write};
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

/// What means nothing in an object that stands in a field of this name.
struct Meaningless {
    holder: &'static str,
    /// Values that the API server gives to fields that have none.
    defaults: &'static [(&'static str, Plain)],
    /// Fields that say nothing about what a migration does, whatever their value.
    fields: &'static [&'static str],
}

const fn defaults(holder: &'static str, defaults: &'static [(&'static str, Plain)]) -> Meaningless {
    Meaningless { holder, defaults, fields: &[] }
}

/// Frozen: defaults in `env`, `volumeMounts` and `volumes` (source: Kubernetes 1.36, pkg/apis/core/v1/defaults.go), how
/// large a volume may grow, and when an image is pulled. By the holder, which is looked up once for all of an object's
/// fields.
const MEANINGLESS: &[Meaningless] = &[
    defaults("fieldRef", &[("apiVersion", Text("v1"))]),
    defaults("resourceFieldRef", &[("divisor", Text("0")), ("divisor", Number(0))]),
    defaults("configMap", &[("defaultMode", Number(420))]),
    defaults("secret", &[("defaultMode", Number(420))]),
    defaults("projected", &[("defaultMode", Number(420))]),
    defaults("downwardAPI", &[("defaultMode", Number(420))]),
    defaults("serviceAccountToken", &[("expirationSeconds", Number(3600))]),
    defaults("iscsi", &[("iscsiInterface", Text("default"))]),
    defaults("rbd", &[("pool", Text("rbd")), ("user", Text("admin")), ("keyring", Text("/etc/ceph/keyring"))]),
    defaults("azureDisk", &[("cachingMode", Text("ReadWrite")), ("fsType", Text("ext4")), ("kind", Text("Shared"))]),
    defaults("scaleIO", &[("storageMode", Text("ThinProvisioned")), ("fsType", Text("xfs"))]),
    defaults("awsElasticBlockStore", &[("partition", Number(0))]),
    defaults("gcePersistentDisk", &[("partition", Number(0))]),
    // Of an ephemeral volume's claim.
    Meaningless { holder: "spec", defaults: &[("volumeMode", Text("Filesystem"))], fields: &["resources"] },
    Meaningless { holder: "emptyDir", defaults: &[], fields: &["sizeLimit", "medium"] },
    Meaningless { holder: "image", defaults: &[], fields: &["pullPolicy"] },
];

impl Meaningless {
    /// What means nothing in an object that `holder` holds; `None`, if all of it counts.
    fn of(holder: &str) -> Option<&'static Meaningless> {
        MEANINGLESS.iter().find(|meaningless| meaningless.holder == holder)
    }

    fn has(&self, field: &str, value: &Value) -> bool {
        let is = |default: &Plain| match default {
            Text(text) => value.as_str() == Some(*text),
            Number(number) => value.as_i64() == Some(*number),
        };
        self.fields.contains(&field) || self.defaults.iter().any(|(name, default)| *name == field && is(default))
    }
}

/// The fingerprint of a migration: `container` is its container before the agent comes in, `volumes` are the
/// template's.
pub(super) fn fingerprint(container: &Value, volumes: &[Value], settings: &Settings) -> String {
    let entries = |field: &str| container[field].as_array().map_or(&[][..], Vec::as_slice);
    let mut mounts: Vec<&Value> = entries("volumeMounts").iter().collect();
    mounts.sort_by_key(|mount| mount["mountPath"].as_str());
    let mut mounted: Vec<&Value> =
        volumes.iter().filter(|volume| mounts.iter().any(|mount| name(mount) == name(volume))).collect();
    mounted.sort_by_key(|volume| volume["name"].as_str());
    canonical::digest(DIGITS, |text| {
        let mut identity = Object::open(text);
        identity.telling_field("args", |text| write(&container["args"], text));
        identity.telling_field("command", |text| write(&container["command"], text));
        match &settings.identity_env {
            None => {
                identity.telling_field("env", |text| write_normal("env", &container["env"], text));
                identity.telling_field("envFrom", |text| write_normal("envFrom", &container["envFrom"], text));
            }
            Some(names) => {
                let counting = entries("env").iter().filter(|variable| names.contains(name(variable)));
                identity.telling_field("env", |text| write_normals("env", counting, text));
            }
        }
        identity.telling_field("image", |text| write(&container["image"], text));
        identity.telling_field("revision", |text| write(&json!(settings.revision), text));
        identity.telling_field("verify", |text| write(&json!(settings.verify), text));
        identity.telling_field("volumeMounts", |text| write_normals("volumeMounts", mounts, text));
        identity.telling_field("volumes", |text| write_normals("volumes", mounted, text));
        identity.telling_field("workingDir", |text| write(&container["workingDir"], text));
        identity.close();
    })
}

/// Writes the value without what means nothing. `holder` is the field that holds it; entries of a list keep the list's.
pub(super) fn write_normal(holder: &str, value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Array(items) => write_normals(holder, items, text),
        Value::Object(fields) => {
            let meaningless = Meaningless::of(holder);
            let counts = |key: &str, value| meaningless.is_none_or(|meaningless| !meaningless.has(key, value));
            let mut object = Object::open(text);
            for (key, value) in fields.iter().filter(|(key, value)| counts(key, value)) {
                object.telling_field(key, |text| write_normal(key, value, text));
            }
            object.close();
        }
        plain => write(plain, text),
    }
}

/// The same for the entries of a list. An entry stays even if nothing is left of it: its neighbours' positions may
/// matter.
fn write_normals<'v>(holder: &str, items: impl IntoIterator<Item = &'v Value>, text: &mut Vec<u8>) {
    canonical::list(items, text, |item, text| write_normal(holder, item, text));
}
