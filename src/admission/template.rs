//! A pod template as JSON, checked just far enough that the rest can't trip over it.
//!
//! The template must come through verbatim: fields that this program has never heard of, in any version of Kubernetes.
//! So it stays JSON, and this file is the only one that knows where in it things are.

use serde_json::{Map, Value};

/// Where in the template a collection is that injection adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `metadata` or `spec`.
    pub(super) part: &'static str,
    /// The field.
    pub(super) field: &'static str,
}

/// The template's labels.
pub(super) const LABELS: Place = Place { part: "metadata", field: "labels" };
/// The template's annotations.
pub(super) const ANNOTATIONS: Place = Place { part: "metadata", field: "annotations" };
/// The pods' init containers.
pub(super) const INIT_CONTAINERS: Place = Place { part: "spec", field: "initContainers" };
/// The pods' containers.
pub(super) const CONTAINERS: Place = Place { part: "spec", field: "containers" };
/// The pods' volumes.
pub(super) const VOLUMES: Place = Place { part: "spec", field: "volumes" };
/// The pods' readiness gates.
pub(super) const READINESS_GATES: Place = Place { part: "spec", field: "readinessGates" };

/// A pod template: it has metadata and a spec, its maps are maps of strings, and its lists are lists of objects; maps
/// and lists may be absent or null.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Value);

/// The JSON isn't a pod template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.template{0} is not {1}")]
pub(super) struct NotATemplate(String, &'static str);

impl Template {
    /// Checks the parts that injection looks at.
    ///
    /// # Errors
    /// For the first part that isn't what the API says.
    pub(super) fn new(template: Value) -> Result<Template, NotATemplate> {
        let wrong = |at: String, what| Err(NotATemplate(at, what));
        for part in ["metadata", "spec"] {
            if !template[part].is_object() {
                return wrong(format!(".{part}"), "an object");
            }
        }
        for Place { part, field } in [LABELS, ANNOTATIONS] {
            match template[part].get(field) {
                None | Some(Value::Null) => {}
                Some(Value::Object(map)) if map.values().all(Value::is_string) => {}
                Some(_) => return wrong(format!(".{part}.{field}"), "a map of strings"),
            }
        }
        for Place { part, field } in [INIT_CONTAINERS, CONTAINERS, VOLUMES, READINESS_GATES] {
            match template[part].get(field) {
                None | Some(Value::Null) => {}
                Some(Value::Array(list)) if list.iter().all(Value::is_object) => {}
                Some(_) => return wrong(format!(".{part}.{field}"), "a list of objects"),
            }
        }
        Ok(Template(template))
    }

    /// The whole template.
    pub(super) fn as_value(&self) -> &Value {
        &self.0
    }

    /// A field of `spec`; null if it is absent.
    pub(super) fn spec(&self, field: &str) -> &Value {
        &self.0["spec"][field]
    }

    /// A list; empty if it is absent.
    pub(super) fn list(&self, place: Place) -> &[Value] {
        self.0[place.part][place.field].as_array().map_or(&[], Vec::as_slice)
    }

    /// A value of a map of strings.
    pub(super) fn entry(&self, place: Place, key: &str) -> Option<&str> {
        self.0[place.part][place.field].get(key)?.as_str()
    }

    /// The collection as it stands, if it is there but holds nothing.
    pub(super) fn hollow(&self, place: Place) -> Option<Value> {
        self.0[place.part].get(place.field).filter(|value| is_hollow(value)).cloned()
    }

    /// Takes the collection away if it holds nothing.
    pub(super) fn drop_hollow(&mut self, place: Place) {
        if self.hollow(place).is_some()
            && let Some(part) = self.0[place.part].as_object_mut()
        {
            part.remove(place.field);
        }
    }

    /// The list, made if it isn't there.
    pub(super) fn list_mut(&mut self, place: Place) -> &mut Vec<Value> {
        let value = self.at(place);
        if !value.is_array() {
            *value = Value::Array(Vec::new());
        }
        value.as_array_mut().expect("a list, made just above if it wasn't one")
    }

    /// The map of strings, made if it isn't there.
    pub(super) fn map_mut(&mut self, place: Place) -> &mut Map<String, Value> {
        let value = self.at(place);
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value.as_object_mut().expect("a map, made just above if it wasn't one")
    }

    /// Changes a collection only if it is there, and puts `hollow` in its place, or nothing, if that leaves it empty
    /// and it wasn't before.
    pub(super) fn shrink(&mut self, place: Place, hollow: Option<&Value>, change: impl FnOnce(&mut Value)) {
        let Some(part) = self.0.get_mut(place.part).and_then(Value::as_object_mut) else { return };
        let Some(value) = part.get_mut(place.field) else { return };
        if is_hollow(value) {
            return;
        }
        change(value);
        if is_hollow(value) {
            match hollow {
                Some(hollow) => *value = hollow.clone(),
                None => {
                    part.remove(place.field);
                }
            }
        }
    }

    fn at(&mut self, place: Place) -> &mut Value {
        &mut self.0[place.part][place.field]
    }
}

/// Null, `{}` or `[]`.
pub(super) fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The `name` of a list's entry; empty if it has none.
pub(super) fn name(entry: &Value) -> &str {
    entry["name"].as_str().unwrap_or_default()
}
