//! Patch: the difference of two JSON values as a JSON Patch (RFC 6902) that people can read.
//!
//! Lists of named things (containers, volumes, mounts, variables) are compared by name, so a container that is added
//! in front shows as one that is added, and not as a change of all that follow.

use super::arena::Arena;
use super::json::Json;
use super::template::{CHANGEABLE, Template};

/// Lists longer than this are replaced as a whole, so that the comparison stays cheap whatever comes in.
const COMPARED_ENTRIES: usize = 500;

/// Where the pod template is in a workload.
const TEMPLATE: &str = "/spec/template";

/// The patch that turns a workload with the template `before` into one with `after`; `None`, if they are the same.
pub(super) fn diff<'a>(before: &Template<'a>, after: &Template<'a>, arena: Arena<'a>) -> Option<Json<'a>> {
    let mut differ = Differ { arena, path: TEMPLATE.to_owned(), steps: Vec::new() };
    debug_assert!(before.has_rest_of(after), "no rewrite touches the rest: {before:?} {after:?}");
    for part in ["metadata", "spec"] {
        let places = CHANGEABLE.into_iter().filter(|place| place.part == part);
        let fields = places.map(|place| (place.field, before.collection(place), after.collection(place)));
        differ.at(part, |differ| differ.fields(fields));
    }
    Some(arena.list(differ.steps)).filter(|steps| !steps.is_hollow())
}

struct Differ<'a> {
    arena: Arena<'a>,
    path: String,
    steps: Vec<Json<'a>>,
}

impl<'a> Differ<'a> {
    fn value(&mut self, before: Json<'a>, after: Json<'a>) {
        match (before, after) {
            _ if before == after => {}
            (Json::Object(fields), Json::Object(after_fields)) => {
                let removed = fields.iter().filter(|(key, _)| after.get(key).is_none());
                let removed = removed.map(|(key, old)| (*key, Some(*old), None));
                let others = after_fields.iter().map(|(key, new)| (*key, before.get(key), Some(*new)));
                self.fields(removed.chain(others));
            }
            (Json::List(before), Json::List(after)) if is_compared(before) && is_compared(after) => {
                self.list(before, after);
            }
            _ => self.step("replace", Some(after)),
        }
    }

    /// Goes through the fields of an object, as they were and as they are to be.
    fn fields<'k>(&mut self, fields: impl Iterator<Item = (&'k str, Option<Json<'a>>, Option<Json<'a>>)>) {
        for (key, before, after) in fields {
            match (before, after) {
                (Some(before), Some(after)) => self.at(key, |differ| differ.value(before, after)),
                (None, Some(after)) => self.at(key, |differ| differ.step("add", Some(after))),
                (Some(_), None) => self.at(key, |differ| differ.step("remove", None)),
                (None, None) => {}
            }
        }
    }

    /// Walks both lists; `at` is the place in the list as the steps so far have left it.
    fn list(&mut self, mut before: &'a [Json<'a>], mut after: &'a [Json<'a>]) {
        let mut at = 0usize;
        loop {
            match (split_first(before), split_first(after)) {
                (None, None) => return,
                (Some((old, old_rest)), Some((new, new_rest))) if are_the_same(old, new) => {
                    self.at(&at.to_string(), |differ| differ.value(old, new));
                    (before, after, at) = (old_rest, new_rest, at + 1);
                }
                (Some((_, old_rest)), new) if new.is_none_or(|(new, _)| contains(old_rest, new)) => {
                    self.at(&at.to_string(), |differ| differ.step("remove", None));
                    before = old_rest;
                }
                (Some((old, old_rest)), Some((new, new_rest))) if !contains(new_rest, old) => {
                    self.at(&at.to_string(), |differ| differ.value(old, new));
                    (before, after, at) = (old_rest, new_rest, at + 1);
                }
                (_, Some((new, new_rest))) => {
                    self.at(&at.to_string(), |differ| differ.step("add", Some(new)));
                    (after, at) = (new_rest, at + 1);
                }
                // Removed above, one by one.
                (Some(_), None) => return,
            }
        }
    }

    /// Goes one name deeper. Source: RFC 6901, in which `~` and `/` in a name are written `~0` and `~1`.
    fn at(&mut self, name: &str, step: impl FnOnce(&mut Differ<'a>)) {
        let above = self.path.len();
        self.path.push('/');
        match name.contains(['~', '/']) {
            true => self.path.push_str(&name.replace('~', "~0").replace('/', "~1")),
            false => self.path.push_str(name),
        }
        step(self);
        self.path.truncate(above);
    }

    fn step(&mut self, op: &'static str, value: Option<Json<'a>>) {
        let step = [("op", Json::Text(op)), ("path", self.arena.text(&self.path))];
        self.steps.push(self.arena.object(step.into_iter().chain(value.map(|value| ("value", value)))));
    }
}

/// Lists of words are replaced as a whole too: a command of which every other word changes is hard to read.
fn is_compared(list: &[Json<'_>]) -> bool {
    list.len() <= COMPARED_ENTRIES && list.iter().all(|entry| entry.is_object())
}

fn split_first<'a>(list: &'a [Json<'a>]) -> Option<(Json<'a>, &'a [Json<'a>])> {
    list.split_first().map(|(first, rest)| (*first, rest))
}

/// Whether two entries are the same thing, perhaps changed: by name, or by value where they have none.
fn are_the_same(a: Json<'_>, b: Json<'_>) -> bool {
    match (a.at("name").text(), b.at("name").text()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn contains(list: &[Json<'_>], wanted: Json<'_>) -> bool {
    list.iter().any(|entry| are_the_same(*entry, wanted))
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::tests::trees::json_value;

    /// The patch of two values that stand under `spec`.
    fn patch(before: &Value, after: &Value) -> json_patch::Patch {
        let bump = Bump::new();
        let arena = Arena(&bump);
        let mut differ = Differ { arena, path: "/spec".to_owned(), steps: Vec::new() };
        differ.value(arena.value(before), arena.value(after));
        serde_json::from_value(arena.list(differ.steps).to_value()).expect("a patch")
    }

    proptest! {
        #[test]
        fn the_patch_of_any_two_values_turns_one_into_the_other(before in json_value(), after in json_value()) {
            let mut object = json!({"spec": before.clone()});
            json_patch::patch(&mut object, &patch(&before, &after)).expect("it applies");
            prop_assert_eq!(&object["spec"], &after);
        }
    }

    #[test]
    fn an_entry_in_front_is_one_addition() {
        let before = json!([{"name": "a", "x": 1}, {"name": "b"}]);
        let after = json!([{"name": "z"}, {"name": "a", "x": 2}, {"name": "b"}, {"name": "c"}]);
        let patch = serde_json::to_value(patch(&before, &after)).expect("plain data");
        assert_eq!(
            patch,
            json!([
                {"op": "add", "path": "/spec/0", "value": {"name": "z"}},
                {"op": "replace", "path": "/spec/1/x", "value": 2},
                {"op": "add", "path": "/spec/3", "value": {"name": "c"}},
            ])
        );
    }

    #[test]
    fn long_lists_are_replaced_as_a_whole() {
        let before: Value = (0..2000).map(|n| json!({"name": n.to_string()})).collect();
        let after: Value = (1..2000).map(|n| json!({"name": n.to_string()})).collect();
        assert_eq!(patch(&before, &after).0.len(), 1);
    }
}
