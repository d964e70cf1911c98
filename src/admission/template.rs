//! A pod template as JSON, checked just far enough that the rest can't trip over it.
//!
//! The template must come through verbatim: fields that this program has never heard of, in any version of Kubernetes.
//! So it stays JSON, and this file is the only one that knows where in it things are.

use std::rc::Rc;

use serde_json::{Map, Value};

/// Where in the template a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `metadata` or `spec`.
    pub(super) part: &'static str,
    /// The field.
    pub(super) field: &'static str,
    /// Which of the changeable collections it is, in the order of [`CHANGEABLE`].
    slot: Option<usize>,
}

/// The collections that injection adds to. Everything else in a template is only read.
pub(super) const CHANGEABLE: [Place; 5] = [ANNOTATIONS, LABELS, INIT_CONTAINERS, READINESS_GATES, VOLUMES];

/// The template's labels.
pub(super) const LABELS: Place = Place { part: "metadata", field: "labels", slot: Some(1) };
/// The template's annotations.
pub(super) const ANNOTATIONS: Place = Place { part: "metadata", field: "annotations", slot: Some(0) };
/// The pods' init containers.
pub(super) const INIT_CONTAINERS: Place = Place { part: "spec", field: "initContainers", slot: Some(2) };
/// The pods' containers.
pub(super) const CONTAINERS: Place = Place { part: "spec", field: "containers", slot: None };
/// The pods' volumes.
pub(super) const VOLUMES: Place = Place { part: "spec", field: "volumes", slot: Some(4) };
/// The pods' readiness gates.
pub(super) const READINESS_GATES: Place = Place { part: "spec", field: "readinessGates", slot: Some(3) };

/// A pod template: it has metadata and a spec, its maps are maps of strings, and its lists are lists of objects; maps
/// and lists may be absent or null.
///
/// A copy shares all but the [`CHANGEABLE`] collections, so stripping and injecting cost no more than what they change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    /// All but the changeable collections.
    rest: Rc<Value>,
    collections: [Option<Value>; CHANGEABLE.len()],
}

/// The JSON isn't a pod template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("spec.template{0} is not {1}")]
pub(super) struct NotATemplate(String, &'static str);

impl Template {
    /// Checks the parts that injection looks at.
    ///
    /// # Errors
    /// For the first part that isn't what the API says.
    pub(super) fn new(mut template: Value) -> Result<Template, NotATemplate> {
        let wrong = |at: String, what| Err(NotATemplate(at, what));
        for part in ["metadata", "spec"] {
            if !template[part].is_object() {
                return wrong(format!(".{part}"), "an object");
            }
        }
        for Place { part, field, .. } in [LABELS, ANNOTATIONS] {
            match template[part].get(field) {
                None | Some(Value::Null) => {}
                Some(Value::Object(map)) if map.values().all(Value::is_string) => {}
                Some(_) => return wrong(format!(".{part}.{field}"), "a map of strings"),
            }
        }
        for Place { part, field, .. } in [INIT_CONTAINERS, CONTAINERS, VOLUMES, READINESS_GATES] {
            match template[part].get(field) {
                None | Some(Value::Null) => {}
                Some(Value::Array(list)) if list.iter().all(Value::is_object) => {}
                Some(_) => return wrong(format!(".{part}.{field}"), "a list of objects"),
            }
        }
        let collections = CHANGEABLE.map(|place| template[place.part].as_object_mut()?.remove(place.field));
        Ok(Template { rest: Rc::new(template), collections })
    }

    /// The whole template as JSON.
    pub(super) fn to_value(&self) -> Value {
        let mut whole = Value::clone(&self.rest);
        for (place, collection) in CHANGEABLE.iter().zip(&self.collections) {
            if let Some(collection) = collection {
                whole[place.part][place.field] = collection.clone();
            }
        }
        whole
    }

    /// Whether the two differ in nothing but the changeable collections.
    pub(super) fn has_rest_of(&self, other: &Template) -> bool {
        self.rest == other.rest
    }

    /// A field of `metadata`; null if it is absent. Not for the changeable ones.
    pub(super) fn metadata(&self, field: &str) -> &Value {
        &self.rest["metadata"][field]
    }

    /// A field of `spec`; null if it is absent. Not for the changeable ones.
    pub(super) fn spec(&self, field: &str) -> &Value {
        &self.rest["spec"][field]
    }

    /// A collection, if it is there.
    pub(super) fn collection(&self, place: Place) -> Option<&Value> {
        match place.slot {
            Some(slot) => self.collections[slot].as_ref(),
            None => self.rest[place.part].get(place.field),
        }
    }

    /// A list; empty if it is absent.
    pub(super) fn list(&self, place: Place) -> &[Value] {
        self.collection(place).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// A value of a map of strings.
    pub(super) fn entry(&self, place: Place, key: &str) -> Option<&str> {
        self.collection(place)?.get(key)?.as_str()
    }

    /// The collection as it stands, if it is there but holds nothing.
    pub(super) fn hollow(&self, place: Place) -> Option<&Value> {
        self.collection(place).filter(|value| is_hollow(value))
    }

    /// Takes the collection away if it holds nothing.
    pub(super) fn drop_hollow(&mut self, place: Place) {
        let slot = self.slot(place);
        slot.take_if(|value| is_hollow(value));
    }

    /// The list, made if it isn't there.
    pub(super) fn list_mut(&mut self, place: Place) -> &mut Vec<Value> {
        let value = self.slot(place).get_or_insert_default();
        if !value.is_array() {
            *value = Value::Array(Vec::new());
        }
        value.as_array_mut().expect("a list, made just above if it wasn't one")
    }

    /// The map of strings, made if it isn't there.
    pub(super) fn map_mut(&mut self, place: Place) -> &mut Map<String, Value> {
        let value = self.slot(place).get_or_insert_default();
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value.as_object_mut().expect("a map, made just above if it wasn't one")
    }

    /// Changes a collection only if it is there, and puts `hollow` in its place, or nothing, if that leaves it empty
    /// and it wasn't before.
    pub(super) fn shrink(&mut self, place: Place, hollow: Option<&Value>, change: impl FnOnce(&mut Value)) {
        let slot = self.slot(place);
        let Some(value) = slot.as_mut().filter(|value| !is_hollow(value)) else { return };
        change(value);
        if is_hollow(value) {
            *slot = hollow.cloned();
        }
    }

    fn slot(&mut self, place: Place) -> &mut Option<Value> {
        let slot = place
            .slot
            .expect("one of the changeable collections: the only other one is CONTAINERS, which is only read");
        &mut self.collections[slot]
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
