//! The note that injection leaves in the template: the annotation `injected`.
//!
//! It says what an injection was made from, what it wrote and what it replaced, so that any later version can tell
//! whether it still fits, and can take it out again, without knowing how the version that wrote it went about it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::canonical::{self, Object, write};
use super::template::{ANNOTATIONS, INIT_CONTAINERS, Place, READINESS_GATES, Template, VOLUMES, is_hollow, name};
use crate::contract::{CONDITION, annotation, pod};

/// The digits of a digest in the note: enough against chance, and nobody gains by forging one.
const DIGITS: usize = 16;

/// The fields of the migration container that wrapping replaces.
pub(super) const REPLACED: [&str; 4] = ["command", "args", "terminationMessagePath", "terminationMessagePolicy"];

/// Those of them that the API gives a default, which is also what injection writes there.
pub(super) const TERMINATION_DEFAULTS: [(&str, &str); 2] =
    [("terminationMessagePath", pod::TERMINATION_PATH), ("terminationMessagePolicy", "File")];

/// Takes out of an init container what wrapping writes too, where it is as the API server would have it anyway.
pub(super) fn drop_defaults(container: &mut Value) {
    let Some(fields) = container.as_object_mut() else { return };
    fields.retain(|field, value| {
        let is_default = TERMINATION_DEFAULTS.iter().any(|(name, default)| field == name && value == default);
        !(is_default || field == "volumeMounts" && is_hollow(value))
    });
}

/// What an injection was made from, wrote and replaced. The fields stand in the order of their names, in which they are
/// written too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Injected {
    /// Collections that were there, but empty or null, before injection added to them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) hollow: Map<String, Value>,
    /// The digest of what the injection was made from, beside what the fingerprint covers.
    pub(super) inputs: String,
    /// The digest of all else that injection wrote and that the migration depends on.
    pub(super) rest: String,
    /// The version of migration-gate that injected; for people.
    pub(super) version: String,
    /// The init container that was wrapped; none, if one of ours was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wrapped: Option<Wrapped>,
    /// The digest of each replaced field of the migration container as injection wrote it.
    pub(super) written: Map<String, Value>,
}

/// An init container that was wrapped in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wrapped {
    /// Its name.
    pub(super) container: String,
    /// What stood in the fields of [`REPLACED`]; a field that was absent is absent here.
    pub(super) replaced: Map<String, Value>,
}

/// What a template says about its injection.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Note {
    /// Nothing.
    Absent,
    /// What was injected.
    Readable(Injected),
    /// Something that can't be read.
    Unreadable,
}

impl Injected {
    /// Reads the note of a template.
    pub(super) fn read(template: &Template) -> Note {
        match template.entry(ANNOTATIONS, annotation::INJECTED).map(serde_json::from_str) {
            None => Note::Absent,
            Some(Ok(injected)) => Note::Readable(injected),
            Some(Err(_)) => Note::Unreadable,
        }
    }

    /// The note as the annotation's value.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and JSON values, whose keys are texts")
    }

    /// The name of the container that runs the migration.
    pub(super) fn migration_container(&self) -> &str {
        self.wrapped.as_ref().map_or(pod::MIGRATE_CONTAINER, |wrapped| &wrapped.container)
    }

    /// Whether the template still holds what this injection wrote.
    pub(super) fn is_intact(&self, template: &Template) -> bool {
        let Some(container) = find(template, INIT_CONTAINERS, self.migration_container()) else { return false };
        written(container) == self.written && rest(template, self.migration_container()) == self.rest
    }
}

/// The digest of a value for the note.
pub(super) fn digest_of(value: &Value) -> String {
    short_digest(|text| write(value, text))
}

/// The digest for the note of what is written as canonical JSON.
pub(super) fn short_digest(write: impl FnOnce(&mut Vec<u8>)) -> String {
    canonical::digest(DIGITS, write)
}

/// The digests of the replaced fields as they stand; an absent field has none.
pub(super) fn written(container: &Value) -> Map<String, Value> {
    let fields = REPLACED.iter().filter_map(|field| Some((*field, container.get(field)?)));
    fields.map(|(field, value)| (field.to_owned(), Value::String(digest_of(value)))).collect()
}

/// The digest of what the migration depends on beside the replaced fields. Whatever else other people's webhooks or
/// the API server's defaults add to our containers is theirs, and doesn't matter.
pub(super) fn rest(template: &Template, migration_container: &str) -> String {
    let install = find(template, INIT_CONTAINERS, pod::INSTALL_CONTAINER);
    let migration = find(template, INIT_CONTAINERS, migration_container);
    let gates = template.list(READINESS_GATES).iter().filter(|gate| gate["conditionType"] == CONDITION).count();
    let volume = |volume_name| find(template, VOLUMES, volume_name);
    let value = |value: Option<&Value>, text: &mut Vec<u8>| write(value.unwrap_or(&Value::Null), text);
    let mounts = |container: Option<&Value>, text: &mut Vec<u8>| match container {
        Some(container) => canonical::list(our_mounts(container), text, write),
        None => write(&Value::Null, text),
    };
    short_digest(|text| {
        let mut rest = Object::open(text);
        rest.field("agentVolume", |text| write(&json!(volume(pod::AGENT_VOLUME).is_some()), text));
        rest.field("gates", |text| write(&json!(gates), text));
        rest.field("install", |text| value(install.map(|container| &container["command"]), text));
        rest.field("installMounts", |text| mounts(install, text));
        rest.field("migrationMounts", |text| mounts(migration, text));
        rest.field("signalVolume", |text| value(volume(pod::SIGNAL_VOLUME), text));
        rest.field("volume", |text| value(volume(pod::VOLUME), text));
        rest.close();
    })
}

/// The mounts of our volumes.
fn our_mounts(container: &Value) -> impl Iterator<Item = &Value> {
    container["volumeMounts"].as_array().into_iter().flatten().filter(|mount| is_our_volume(name(mount)))
}

/// Whether a volume's name is one of ours.
pub(super) fn is_our_volume(name: &str) -> bool {
    [pod::VOLUME, pod::SIGNAL_VOLUME, pod::AGENT_VOLUME].contains(&name)
}

/// Whether a container's name is one of ours.
pub(super) fn is_our_container(name: &str) -> bool {
    [pod::INSTALL_CONTAINER, pod::MIGRATE_CONTAINER].contains(&name)
}

/// The entry of a list with this name.
pub(super) fn find<'a>(template: &'a Template, place: Place, wanted: &str) -> Option<&'a Value> {
    template.list(place).iter().find(|entry| name(entry) == wanted)
}
