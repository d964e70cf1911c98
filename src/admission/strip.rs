//! Strip: the template as its user wrote it, whatever is left of an injection in it.
//!
//! What arrives may hold all of an injection (`kubectl edit`), none of it (`kubectl replace`), or parts: a client-side
//! apply puts the user's command back into a wrapped container and leaves the rest. So each part is taken out on its
//! own, and a replaced field is restored only where it still is what injection wrote; any other value is the user's.

use super::arena::Arena;
use super::injected::{Injected, Note, REPLACED, digest_of, is_our_container, is_our_gate, is_our_volume};
use super::json::Json;
use super::template::{ANNOTATIONS, INIT_CONTAINERS, LABELS, Place, READINESS_GATES, Template, VOLUMES, name};
use crate::contract::{annotation, label};

/// Where a wrapped container's mounts are kept in [`Injected::hollow`].
pub(super) const WRAPPED_MOUNTS: &str = "volumeMounts";

/// Takes out whatever is ours, by its name. What isn't ours stays as it is.
pub(super) fn strip<'a>(template: &Template<'a>, arena: Arena<'a>) -> Template<'a> {
    let note = match Injected::read(template, arena) {
        Note::Readable(note) => Some(note),
        Note::Absent | Note::Unreadable => None,
    };
    let mut stripped = *template;
    let mut shrink = |place: Place, change: &dyn Fn(Json<'a>) -> Json<'a>| {
        let hollow = note.and_then(|note| note.hollow.get(place.field));
        stripped.shrink(place, hollow, change);
    };
    shrink(ANNOTATIONS, &|map| arena.keep_fields(map, |(key, _)| *key != annotation::INJECTED));
    shrink(LABELS, &|map| arena.keep_fields(map, |(key, _)| ![label::GATE, label::MIGRATION].contains(key)));
    shrink(READINESS_GATES, &|list| arena.keep_entries(list, |gate| !is_our_gate(gate)));
    shrink(VOLUMES, &|list| arena.keep_entries(list, |volume| !is_our_volume(name(volume))));
    shrink(INIT_CONTAINERS, &|list| {
        let theirs = arena.keep_entries(list, |container| !is_our_container(name(container)));
        note.map_or(theirs, |note| restore_wrapped(theirs, &note, arena))
    });
    stripped
}

/// Puts back what wrapping replaced.
fn restore_wrapped<'a>(containers: Json<'a>, note: &Injected<'a>, arena: Arena<'a>) -> Json<'a> {
    let Some(wrapped) = note.wrapped else { return containers };
    arena.list(containers.list().iter().map(|container| match name(*container) == wrapped.container {
        true => restored(*container, note, wrapped.replaced, arena),
        false => *container,
    }))
}

/// The wrapped container as it was.
fn restored<'a>(container: Json<'a>, note: &Injected<'a>, replaced: Json<'a>, arena: Arena<'a>) -> Json<'a> {
    let is_as_written = |field: &str| container.get(field).map(digest_of).as_deref() == note.written.at(field).text();
    let ours: Vec<&str> = REPLACED.into_iter().filter(|field| is_as_written(field)).collect();
    let users = arena.keep_fields(container, |(field, _)| !ours.contains(field));
    let original = arena.with(users, replaced.fields().iter().copied().filter(|(field, _)| ours.contains(field)));
    let mounts = original.at("volumeMounts");
    if mounts.is_hollow() {
        return original;
    }
    let theirs = arena.keep_entries(mounts, |mount| !is_our_volume(name(mount)));
    match (theirs.is_hollow(), note.hollow.get(WRAPPED_MOUNTS)) {
        (false, _) => arena.with(original, [("volumeMounts", theirs)]),
        (true, Some(hollow)) => arena.with(original, [("volumeMounts", hollow)]),
        (true, None) => arena.keep_fields(original, |(field, _)| *field != "volumeMounts"),
    }
}
