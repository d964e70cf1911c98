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

use super::canonical::{self, Object, write};
use super::json::{Json, Number as Numeral};
use super::template::name;
use crate::settings::Settings;

/// The digits of a fingerprint.
const DIGITS: usize = 32;

/// A default.
enum Plain {
    Text(&'static str),
    Number(u64),
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

    fn has(&self, field: &str, value: Json<'_>) -> bool {
        let is = |default: &Plain| match default {
            Text(text) => value.text() == Some(*text),
            Number(number) => value == Json::Number(Numeral::Whole(*number)),
        };
        self.fields.contains(&field) || self.defaults.iter().any(|(name, default)| *name == field && is(default))
    }
}

/// The fingerprint of a migration: `container` is its container before the agent comes in, `volumes` are the
/// template's.
pub(super) fn fingerprint(container: Json<'_>, volumes: &[Json<'_>], settings: &Settings) -> String {
    let mut mounts: Vec<Json<'_>> = container.at("volumeMounts").list().to_vec();
    mounts.sort_by_key(|mount| mount.at("mountPath").text());
    let is_mounted = |volume: Json<'_>| mounts.iter().any(|mount| name(*mount) == name(volume));
    let mut mounted: Vec<Json<'_>> = volumes.iter().copied().filter(|volume| is_mounted(*volume)).collect();
    mounted.sort_by_key(|volume| volume.at("name").text());
    canonical::digest(DIGITS, |text| {
        let mut identity = Object::open(text);
        identity.telling_field("args", |text| write(container.at("args"), text));
        identity.telling_field("command", |text| write(container.at("command"), text));
        match &settings.identity_env {
            None => {
                identity.telling_field("env", |text| write_normal("env", container.at("env"), text));
                identity.telling_field("envFrom", |text| write_normal("envFrom", container.at("envFrom"), text));
            }
            Some(names) => {
                let variables = container.at("env").list().iter().copied();
                let counting = variables.filter(|variable| names.contains(name(*variable)));
                identity.telling_field("env", |text| write_normals("env", counting, text));
            }
        }
        identity.telling_field("image", |text| write(container.at("image"), text));
        identity.telling_field("revision", |text| canonical::of(&settings.revision, text));
        identity.telling_field("verify", |text| canonical::of(&settings.verify, text));
        identity.telling_field("volumeMounts", |text| write_normals("volumeMounts", mounts, text));
        identity.telling_field("volumes", |text| write_normals("volumes", mounted, text));
        identity.telling_field("workingDir", |text| write(container.at("workingDir"), text));
        identity.close();
    })
}

/// Writes the value without what means nothing. `holder` is the field that holds it; entries of a list keep the list's.
pub(super) fn write_normal(holder: &str, value: Json<'_>, text: &mut String) {
    write_without(Meaningless::of(holder), value, text);
}

/// The same for the entries of a list. An entry stays even if nothing is left of it: its neighbours' positions may
/// matter.
fn write_normals<'v>(holder: &str, items: impl IntoIterator<Item = Json<'v>>, text: &mut String) {
    let meaningless = Meaningless::of(holder);
    canonical::list(items, text, |item, text| write_without(meaningless, item, text));
}

fn write_without(meaningless: Option<&Meaningless>, value: Json<'_>, text: &mut String) {
    match value {
        Json::List(items) => {
            canonical::list(items.iter().copied(), text, |item, text| write_without(meaningless, item, text));
        }
        Json::Object(fields) => {
            let counts = |key, value| meaningless.is_none_or(|meaningless| !meaningless.has(key, value));
            let mut object = Object::open(text);
            for (key, value) in fields.iter().filter(|(key, value)| counts(key, *value)) {
                object.telling_field(key, |text| write_normal(key, *value, text));
            }
            object.close();
        }
        plain => write(plain, text),
    }
}
