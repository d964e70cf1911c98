//! Patch: the difference of two JSON values as a JSON Patch (RFC 6902) that people can read.
//!
//! Lists of named things (containers, volumes, mounts, variables) are compared by name, so a container that is added
//! in front shows as one that is added, and not as a change of all that follow.

use serde::Serialize;
use serde_json::Value;

use super::template::{CHANGEABLE, Template};

/// Lists longer than this are replaced as a whole, so that the comparison stays cheap whatever comes in.
const COMPARED_ENTRIES: usize = 500;

/// One operation of a JSON Patch. It borrows what it adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Step<'a> {
    op: Op,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Add,
    Remove,
    Replace,
}

/// Where the pod template is in a workload.
const TEMPLATE: &str = "/spec/template";

/// The steps that turn a workload with the template `before` into one with `after`.
pub(super) fn diff<'a>(before: &'a Template, after: &'a Template) -> Vec<Step<'a>> {
    let mut differ = Differ { path: TEMPLATE.to_owned(), steps: Vec::new() };
    debug_assert!(before.has_rest_of(after), "no rewrite touches the rest: {before:?} {after:?}");
    for part in ["metadata", "spec"] {
        let places = CHANGEABLE.into_iter().filter(|place| place.part == part);
        let fields = places.map(|place| (place.field, before.collection(place), after.collection(place)));
        differ.at(part, |differ| differ.fields(fields));
    }
    differ.steps
}

struct Differ<'a> {
    path: String,
    steps: Vec<Step<'a>>,
}

impl<'a> Differ<'a> {
    fn value(&mut self, before: &'a Value, after: &'a Value) {
        match (before, after) {
            _ if before == after => {}
            (Value::Object(before), Value::Object(after)) => {
                let removed = before.iter().filter(|(key, _)| !after.contains_key(*key));
                let removed = removed.map(|(key, old)| (key.as_str(), Some(old), None));
                let others = after.iter().map(|(key, new)| (key.as_str(), before.get(key), Some(new)));
                self.fields(removed.chain(others));
            }
            (Value::Array(before), Value::Array(after)) if is_compared(before) && is_compared(after) => {
                self.list(before, after);
            }
            _ => self.step(Op::Replace, Some(after)),
        }
    }

    /// Goes through the fields of an object, as they were and as they are to be.
    fn fields<'k>(&mut self, fields: impl Iterator<Item = (&'k str, Option<&'a Value>, Option<&'a Value>)>) {
        for (key, before, after) in fields {
            match (before, after) {
                (Some(before), Some(after)) => self.at(key, |differ| differ.value(before, after)),
                (None, Some(after)) => self.at(key, |differ| differ.step(Op::Add, Some(after))),
                (Some(_), None) => self.at(key, |differ| differ.step(Op::Remove, None)),
                (None, None) => {}
            }
        }
    }

    /// Walks both lists; `at` is the place in the list as the steps so far have left it.
    fn list(&mut self, mut before: &'a [Value], mut after: &'a [Value]) {
        let mut at = 0usize;
        loop {
            match (before.split_first(), after.split_first()) {
                (None, None) => return,
                (Some((old, old_rest)), Some((new, new_rest))) if are_the_same(old, new) => {
                    self.at(&at.to_string(), |differ| differ.value(old, new));
                    (before, after, at) = (old_rest, new_rest, at + 1);
                }
                (Some((_, old_rest)), new) if new.is_none_or(|(new, _)| contains(old_rest, new)) => {
                    self.at(&at.to_string(), |differ| differ.step(Op::Remove, None));
                    before = old_rest;
                }
                (Some((old, old_rest)), Some((new, new_rest))) if !contains(new_rest, old) => {
                    self.at(&at.to_string(), |differ| differ.value(old, new));
                    (before, after, at) = (old_rest, new_rest, at + 1);
                }
                (_, Some((new, new_rest))) => {
                    self.at(&at.to_string(), |differ| differ.step(Op::Add, Some(new)));
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

    fn step(&mut self, op: Op, value: Option<&'a Value>) {
        self.steps.push(Step { op, path: self.path.clone(), value });
    }
}

/// Lists of words are replaced as a whole too: a command of which every other word changes is hard to read.
fn is_compared(list: &[Value]) -> bool {
    list.len() <= COMPARED_ENTRIES && list.iter().all(Value::is_object)
}

/// Whether two entries are the same thing, perhaps changed: by name, or by value where they have none.
fn are_the_same(a: &Value, b: &Value) -> bool {
    match (a["name"].as_str(), b["name"].as_str()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn contains(list: &[Value], wanted: &Value) -> bool {
    list.iter().any(|entry| are_the_same(entry, wanted))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2i64..3).prop_map(Value::from),
            "[a~/]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let named = ("[ab]", inner.clone()).prop_map(|(name, value)| json!({"name": name, "x": value}));
            prop_oneof![
                prop::collection::vec(prop_oneof![inner.clone(), named], 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a~/]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The patch of two values that stand under `spec`.
    fn patch(before: &Value, after: &Value) -> json_patch::Patch {
        let mut differ = Differ { path: "/spec".to_owned(), steps: Vec::new() };
        differ.value(before, after);
        serde_json::from_value(serde_json::to_value(differ.steps).expect("plain data")).expect("a patch")
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
