//! Patch: the difference of two JSON values as a JSON Patch (RFC 6902) that people can read.
//!
//! Lists of named things (containers, volumes, mounts, variables) are compared by name, so a container that is added
//! in front shows as one that is added, and not as a change of all that follow.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::Value;

/// Lists longer than this are replaced as a whole, so that the comparison stays cheap whatever comes in.
const COMPARED_ENTRIES: usize = 500;

/// The steps that turn `before` into `after`, both of which stand at `path`, the names from the root down to them.
pub(super) fn diff(path: &[&str], before: &Value, after: &Value) -> Patch {
    let mut differ = Differ { path: PointerBuf::from_tokens(path.iter().copied()), steps: Vec::new() };
    differ.value(before, after);
    Patch(differ.steps)
}

struct Differ {
    path: PointerBuf,
    steps: Vec<PatchOperation>,
}

impl Differ {
    fn value(&mut self, before: &Value, after: &Value) {
        match (before, after) {
            _ if before == after => {}
            (Value::Object(before), Value::Object(after)) => {
                for key in before.keys().filter(|key| !after.contains_key(*key)) {
                    self.at(key, Differ::remove);
                }
                for (key, value) in after {
                    match before.get(key) {
                        Some(old) => self.at(key, |differ| differ.value(old, value)),
                        None => self.at(key, |differ| differ.add(value)),
                    }
                }
            }
            (Value::Array(before), Value::Array(after)) if is_compared(before) && is_compared(after) => {
                self.list(before, after);
            }
            _ => self
                .steps
                .push(PatchOperation::Replace(ReplaceOperation { path: self.path.clone(), value: after.clone() })),
        }
    }

    /// Walks both lists; `at` is the place in the list as the steps so far have left it.
    fn list(&mut self, mut before: &[Value], mut after: &[Value]) {
        let mut at = 0usize;
        loop {
            match (before.split_first(), after.split_first()) {
                (None, None) => return,
                (Some((old, old_rest)), Some((new, new_rest))) if are_the_same(old, new) => {
                    self.at(&at.to_string(), |differ| differ.value(old, new));
                    (before, after, at) = (old_rest, new_rest, at + 1);
                }
                (Some((_, old_rest)), new) if new.is_none_or(|(new, _)| contains(old_rest, new)) => {
                    self.at(&at.to_string(), Differ::remove);
                    before = old_rest;
                }
                (Some((old, old_rest)), Some((new, new_rest))) if !contains(new_rest, old) => {
                    self.at(&at.to_string(), |differ| differ.value(old, new));
                    (before, after, at) = (old_rest, new_rest, at + 1);
                }
                (_, Some((new, new_rest))) => {
                    self.at(&at.to_string(), |differ| differ.add(new));
                    (after, at) = (new_rest, at + 1);
                }
                // Removed above, one by one.
                (Some(_), None) => return,
            }
        }
    }

    fn at(&mut self, token: &str, step: impl FnOnce(&mut Differ)) {
        self.path.push_back(token);
        step(self);
        self.path.pop_back();
    }

    fn add(&mut self, value: &Value) {
        self.steps.push(PatchOperation::Add(AddOperation { path: self.path.clone(), value: value.clone() }));
    }

    fn remove(&mut self) {
        self.steps.push(PatchOperation::Remove(RemoveOperation { path: self.path.clone() }));
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

    proptest! {
        #[test]
        fn the_patch_of_any_two_values_turns_one_into_the_other(before in json_value(), after in json_value()) {
            let mut object = json!({"spec": {"template": before.clone()}});
            let patch = diff(&["spec", "template"], &before, &after);
            json_patch::patch(&mut object, &patch).expect("it applies");
            prop_assert_eq!(&object["spec"]["template"], &after);
        }
    }

    #[test]
    fn an_entry_in_front_is_one_addition() {
        let before = json!([{"name": "a", "x": 1}, {"name": "b"}]);
        let after = json!([{"name": "z"}, {"name": "a", "x": 2}, {"name": "b"}, {"name": "c"}]);
        let patch = serde_json::to_value(diff(&["l"], &before, &after)).expect("plain data");
        assert_eq!(
            patch,
            json!([
                {"op": "add", "path": "/l/0", "value": {"name": "z"}},
                {"op": "replace", "path": "/l/1/x", "value": 2},
                {"op": "add", "path": "/l/3", "value": {"name": "c"}},
            ])
        );
    }

    #[test]
    fn long_lists_are_replaced_as_a_whole() {
        let before: Value = (0..2000).map(|n| json!({"name": n.to_string()})).collect();
        let after: Value = (1..2000).map(|n| json!({"name": n.to_string()})).collect();
        assert_eq!(diff(&[], &before, &after).0.len(), 1);
    }
}
