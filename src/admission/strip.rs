//! Strip: the template as its user wrote it, whatever is left of an injection in it.
//!
//! What arrives may hold all of an injection (`kubectl edit`), none of it (`kubectl replace`), or parts: a client-side
//! apply puts the user's command back into a wrapped container and leaves the rest. So each part is taken out on its
//! own, and a replaced field is restored only where it still is what injection wrote; any other value is the user's.

use serde_json::Value;

use super::injected::{Injected, Note, REPLACED, digest_of, is_our_container, is_our_volume};
use super::template::{ANNOTATIONS, INIT_CONTAINERS, LABELS, READINESS_GATES, Template, VOLUMES, is_hollow, name};
use crate::contract::{CONDITION, annotation, label};

/// Where a wrapped container's mounts are kept in [`Injected::hollow`].
pub(super) const WRAPPED_MOUNTS: &str = "volumeMounts";

/// Takes out whatever is ours, by its name. What isn't ours stays as it is.
pub(super) fn strip(template: &Template) -> Template {
    let note = match Injected::read(template) {
        Note::Readable(note) => Some(note),
        Note::Absent | Note::Unreadable => None,
    };
    let hollow = |key: &str| note.as_ref().and_then(|note| note.hollow.get(key));
    let mut template = template.clone();

    template.shrink(ANNOTATIONS, hollow(ANNOTATIONS.field), |map| remove_keys(map, &[annotation::INJECTED]));
    template.shrink(LABELS, hollow(LABELS.field), |map| remove_keys(map, &[label::GATE, label::MIGRATION]));
    template.shrink(READINESS_GATES, hollow(READINESS_GATES.field), |list| {
        retain(list, |gate| gate["conditionType"] != CONDITION);
    });
    template.shrink(VOLUMES, hollow(VOLUMES.field), |list| retain(list, |volume| !is_our_volume(name(volume))));
    template.shrink(INIT_CONTAINERS, hollow(INIT_CONTAINERS.field), |list| {
        retain(list, |container| !is_our_container(name(container)));
        if let Some(note) = &note {
            restore_wrapped(list, note);
        }
    });
    template
}

/// Puts back what wrapping replaced.
fn restore_wrapped(containers: &mut Value, note: &Injected) {
    let Some(wrapped) = &note.wrapped else { return };
    let Some(containers) = containers.as_array_mut() else { return };
    for container in containers.iter_mut().filter(|container| name(container) == wrapped.container) {
        let Some(fields) = container.as_object_mut() else { continue };
        for field in REPLACED {
            let is_as_written =
                fields.get(field).map(digest_of).as_deref() == note.written.get(field).and_then(Value::as_str);
            match wrapped.replaced.get(field) {
                _ if !is_as_written => {}
                Some(original) => {
                    fields.insert(field.to_owned(), original.clone());
                }
                None => {
                    fields.remove(field);
                }
            }
        }
        if let Some(mounts) = fields.get_mut("volumeMounts").filter(|mounts| !is_hollow(mounts)) {
            retain(mounts, |mount| !is_our_volume(name(mount)));
            if is_hollow(mounts) {
                match note.hollow.get(WRAPPED_MOUNTS) {
                    Some(hollow) => *mounts = hollow.clone(),
                    None => {
                        fields.remove("volumeMounts");
                    }
                }
            }
        }
    }
}

fn remove_keys(map: &mut Value, keys: &[&str]) {
    if let Some(map) = map.as_object_mut() {
        map.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

fn retain(list: &mut Value, keep: impl Fn(&Value) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(|entry| keep(entry));
    }
}
