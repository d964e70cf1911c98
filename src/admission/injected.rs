//! The note that injection leaves in the template: the annotation `injected`.
//!
//! It says what an injection was made from, what it wrote and what it replaced, so that any later version can tell
//! whether it still fits, and can take it out again, without knowing how the version that wrote it went about it.

use super::arena::Arena;
use super::canonical::{self, Object, write};
use super::json::{Field, Json};
use super::template::{ANNOTATIONS, INIT_CONTAINERS, Place, READINESS_GATES, Template, VOLUMES, name};
use crate::contract::{CONDITION, annotation, pod};

/// The digits of a digest in the note: enough against chance, and nobody gains by forging one.
const DIGITS: usize = 16;

/// The fields of the migration container that wrapping replaces.
pub(super) const REPLACED: [&str; 4] = ["command", "args", "terminationMessagePath", "terminationMessagePolicy"];

/// Those of them that the API gives a default, which is also what injection writes there.
pub(super) const TERMINATION_DEFAULTS: [(&str, &str); 2] =
    [("terminationMessagePath", pod::TERMINATION_PATH), ("terminationMessagePolicy", "File")];

/// The init container without what wrapping writes too, where it is as the API server would have it anyway.
pub(super) fn without_defaults<'a>(container: Json<'a>, arena: Arena<'a>) -> Json<'a> {
    arena.keep_fields(container, |(field, value)| {
        let is_default = TERMINATION_DEFAULTS.iter().any(|(name, default)| field == name && *value == **default);
        !(is_default || ["args", "command", "volumeMounts"].contains(field) && value.is_hollow())
    })
}

/// What an injection was made from, wrote and replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Injected<'a> {
    /// Collections that were there, but empty or null, before injection added to them.
    pub(super) hollow: Json<'a>,
    /// The digest of what the injection was made from, beside what the fingerprint covers.
    pub(super) inputs: &'a str,
    /// The digest of all else that injection wrote and that the migration depends on.
    pub(super) rest: &'a str,
    /// The version of migration-gate that injected; for people.
    pub(super) version: &'a str,
    /// The init container that was wrapped; none, if one of ours was added.
    pub(super) wrapped: Option<Wrapped<'a>>,
    /// The digest of each replaced field of the migration container as injection wrote it.
    pub(super) written: Json<'a>,
}

/// An init container that was wrapped in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wrapped<'a> {
    /// Its name.
    pub(super) container: &'a str,
    /// What stood in the fields of [`REPLACED`]; a field that was absent is absent here.
    pub(super) replaced: Json<'a>,
}

/// What a template says about its injection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Note<'a> {
    /// Nothing.
    Absent,
    /// What was injected.
    Readable(Injected<'a>),
    /// Something that can't be read.
    Unreadable,
}

impl<'a> Injected<'a> {
    /// Reads the note of a template.
    pub(super) fn read(template: &Template<'a>, arena: Arena<'a>) -> Note<'a> {
        match template.entry(ANNOTATIONS, annotation::INJECTED) {
            None => Note::Absent,
            Some(text) => arena.read(text).ok().and_then(Injected::of).map_or(Note::Unreadable, Note::Readable),
        }
    }

    fn of(note: Json<'a>) -> Option<Injected<'a>> {
        let text = |field: &str| note.at(field).text();
        let map = |json: Json<'a>| json.is_object().then_some(json);
        let wrapped = match note.at("wrapped") {
            Json::Null => None,
            wrapped => {
                Some(Wrapped { container: wrapped.at("container").text()?, replaced: map(wrapped.at("replaced"))? })
            }
        };
        Some(Injected {
            hollow: map(note.get("hollow").unwrap_or(Json::Object(&[])))?,
            inputs: text("inputs")?,
            rest: text("rest")?,
            version: text("version")?,
            wrapped,
            written: map(note.at("written"))?,
        })
    }

    /// The note as the annotation's value.
    pub(super) fn to_text(self, arena: Arena<'a>) -> String {
        let hollow = Some(("hollow", self.hollow)).filter(|(_, hollow)| !hollow.is_hollow());
        let wrapped = self.wrapped.map(|Wrapped { container, replaced }| {
            ("wrapped", arena.object([("container", Json::Text(container)), ("replaced", replaced)]))
        });
        let others = [
            ("inputs", Json::Text(self.inputs)),
            ("rest", Json::Text(self.rest)),
            ("version", Json::Text(self.version)),
            ("written", self.written),
        ];
        canonical::text(arena.object(others.into_iter().chain(hollow).chain(wrapped)))
    }

    /// The name of the container that runs the migration.
    pub(super) fn migration_container(&self) -> &'a str {
        self.wrapped.map_or(pod::MIGRATE_CONTAINER, |wrapped| wrapped.container)
    }

    /// Whether the template still holds what this injection wrote.
    pub(super) fn is_intact(&self, template: &Template<'a>, arena: Arena<'a>) -> bool {
        let Some(container) = find(template, INIT_CONTAINERS, self.migration_container()) else { return false };
        written(container, arena) == self.written && rest(template, self.migration_container()) == self.rest
    }
}

/// The digest of a value for the note.
pub(super) fn digest_of(value: Json<'_>) -> String {
    short_digest(|text| write(value, text))
}

/// The digest for the note of what is written as canonical JSON.
pub(super) fn short_digest(write: impl FnOnce(&mut String)) -> String {
    canonical::digest(DIGITS, write)
}

/// The digests of the replaced fields as they stand; an absent field has none.
pub(super) fn written<'a>(container: Json<'a>, arena: Arena<'a>) -> Json<'a> {
    arena.object(replaced(container).map(|(field, value)| (field, arena.text(&digest_of(value)))))
}

/// Those of the replaced fields that the container has.
pub(super) fn replaced<'a>(container: Json<'a>) -> impl Iterator<Item = Field<'a>> {
    REPLACED.iter().filter_map(move |field| Some((*field, container.get(field)?)))
}

/// The digest of what the migration depends on beside the replaced fields. Whatever else other people's webhooks or
/// the API server's defaults add to our containers is theirs, and doesn't matter.
pub(super) fn rest(template: &Template<'_>, migration_container: &str) -> String {
    let install = find(template, INIT_CONTAINERS, pod::INSTALL_CONTAINER);
    let migration = find(template, INIT_CONTAINERS, migration_container);
    let gates = template.list(READINESS_GATES).iter().filter(|gate| is_our_gate(**gate)).count();
    let volume = |volume_name| find(template, VOLUMES, volume_name);
    let value = |value: Option<Json<'_>>, text: &mut String| write(value.unwrap_or(Json::Null), text);
    let mounts = |container: Option<Json<'_>>, text: &mut String| match container {
        Some(container) => canonical::list(our_mounts(container), text, write),
        None => write(Json::Null, text),
    };
    short_digest(|text| {
        let mut rest = Object::open(text);
        rest.field("agentVolume", |text| write(Json::Bool(volume(pod::AGENT_VOLUME).is_some()), text));
        rest.field("gates", |text| canonical::of(&gates, text));
        rest.field("install", |text| value(install.map(|container| container.at("command")), text));
        rest.field("installMounts", |text| mounts(install, text));
        rest.field("migrationMounts", |text| mounts(migration, text));
        rest.field("signalVolume", |text| value(volume(pod::SIGNAL_VOLUME), text));
        rest.field("volume", |text| value(volume(pod::VOLUME), text));
        rest.close();
    })
}

/// The mounts of our volumes.
fn our_mounts(container: Json<'_>) -> impl Iterator<Item = Json<'_>> {
    container.at("volumeMounts").list().iter().copied().filter(|mount| is_our_volume(name(*mount)))
}

/// Whether a readiness gate is ours.
pub(super) fn is_our_gate(gate: Json<'_>) -> bool {
    gate.at("conditionType") == *CONDITION
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
pub(super) fn find<'a>(template: &Template<'a>, place: Place, wanted: &str) -> Option<Json<'a>> {
    template.list(place).iter().copied().find(|entry| name(*entry) == wanted)
}
