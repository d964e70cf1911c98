//! A pod template as JSON, checked just far enough that the rest can't trip over it.
//!
//! The template must come through verbatim: fields that this program has never heard of, in any version of Kubernetes.
//! So it stays JSON, and this file is the only one that knows where in it things are.

use std::fmt;

use super::arena::Arena;
use super::json::Json;

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Template<'a> {
    /// All but the changeable collections.
    rest: Rest<'a>,
    collections: [Option<Json<'a>>; CHANGEABLE.len()],
}

/// The two parts without their changeable collections, and what else there is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rest<'a> {
    metadata: Json<'a>,
    spec: Json<'a>,
    others: Json<'a>,
}

/// The JSON isn't a pod template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotATemplate {
    /// A part of it isn't what the API says.
    #[error("spec.template{0} is not {1}")]
    Part(String, &'static str),
    /// It can't be read at all.
    #[error("spec.template can't be read: {0}")]
    Unreadable(String),
}

impl<'a> Template<'a> {
    /// Checks the parts that injection looks at.
    ///
    /// # Errors
    /// For the first part that isn't what the API says.
    pub(super) fn new(template: Json<'a>, arena: Arena<'a>) -> Result<Template<'a>, NotATemplate> {
        let wrong = |at: String, what| Err(NotATemplate::Part(at, what));
        for part in ["metadata", "spec"] {
            if !template.at(part).is_object() {
                return wrong(format!(".{part}"), "an object");
            }
        }
        let collection = |place: Place| template.at(place.part).get(place.field);
        for place in [LABELS, ANNOTATIONS] {
            match collection(place) {
                None | Some(Json::Null) => {}
                Some(Json::Object(map)) if map.iter().all(|(_, value)| value.is_text()) => {}
                Some(_) => return wrong(place.to_string(), "a map of strings"),
            }
        }
        for place in [INIT_CONTAINERS, CONTAINERS, VOLUMES, READINESS_GATES] {
            match collection(place) {
                None | Some(Json::Null) => {}
                Some(Json::List(list)) if list.iter().all(|entry| entry.is_object()) => {}
                Some(_) => return wrong(place.to_string(), "a list of objects"),
            }
        }
        let rest = |part: &str| {
            let is_changeable = |field: &str| CHANGEABLE.iter().any(|place| place.part == part && place.field == field);
            arena.keep_fields(template.at(part), |(field, _)| !is_changeable(field))
        };
        let others = arena.keep_fields(template, |(field, _)| !["metadata", "spec"].contains(field));
        let rest = Rest { metadata: rest("metadata"), spec: rest("spec"), others };
        Ok(Template { rest, collections: CHANGEABLE.map(collection) })
    }

    /// The whole template as JSON.
    pub(super) fn to_json(self, arena: Arena<'a>) -> Json<'a> {
        let whole = |part: &str, rest: Json<'a>| {
            let places = CHANGEABLE.into_iter().filter(|place| place.part == part);
            arena.with(rest, places.filter_map(|place| Some((place.field, self.collection(place)?))))
        };
        let parts = [("metadata", whole("metadata", self.rest.metadata)), ("spec", whole("spec", self.rest.spec))];
        arena.with(self.rest.others, parts)
    }

    /// Whether the two differ in nothing but the changeable collections.
    pub(super) fn has_rest_of(&self, other: &Template<'_>) -> bool {
        self.rest == other.rest
    }

    /// A field of `metadata`; null if it is absent. Not for the changeable ones.
    pub(super) fn metadata(&self, field: &str) -> Json<'a> {
        self.rest.metadata.at(field)
    }

    /// A field of `spec`; null if it is absent. Not for the changeable ones.
    pub(super) fn spec(&self, field: &str) -> Json<'a> {
        self.rest.spec.at(field)
    }

    /// A collection, if it is there.
    pub(super) fn collection(&self, place: Place) -> Option<Json<'a>> {
        match place.slot {
            Some(slot) => self.collections[slot],
            None => self.rest.spec.get(place.field),
        }
    }

    /// A list; empty if it is absent.
    pub(super) fn list(&self, place: Place) -> &'a [Json<'a>] {
        self.collection(place).map_or(&[], Json::list)
    }

    /// A value of a map of strings.
    pub(super) fn entry(&self, place: Place, key: &str) -> Option<&'a str> {
        self.collection(place)?.get(key)?.text()
    }

    /// The collection as it stands, if it is there but holds nothing.
    pub(super) fn hollow(&self, place: Place) -> Option<Json<'a>> {
        self.collection(place).filter(|value| value.is_hollow())
    }

    /// Takes the collection away if it holds nothing.
    pub(super) fn drop_hollow(&mut self, place: Place) {
        self.slot(place).take_if(|value| value.is_hollow());
    }

    /// Changes a collection, null if it isn't there.
    pub(super) fn change(&mut self, place: Place, change: impl FnOnce(Json<'a>) -> Json<'a>) {
        let slot = self.slot(place);
        *slot = Some(change(slot.unwrap_or(Json::Null)));
    }

    /// Changes a collection only if it is there, and puts `hollow` in its place, or nothing, if that leaves it empty
    /// and it wasn't before.
    pub(super) fn shrink(&mut self, place: Place, hollow: Option<Json<'a>>, change: impl FnOnce(Json<'a>) -> Json<'a>) {
        let slot = self.slot(place);
        let Some(value) = slot.filter(|value| !value.is_hollow()) else { return };
        *slot = Some(change(value)).filter(|value| !value.is_hollow()).or(hollow);
    }

    fn slot(&mut self, place: Place) -> &mut Option<Json<'a>> {
        let slot = place
            .slot
            .expect("one of the changeable collections: the only other one is CONTAINERS, which is only read");
        &mut self.collections[slot]
    }
}

/// As in `spec.template.metadata.labels`, behind the template.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".{}.{}", self.part, self.field)
    }
}

/// The `name` of a list's entry; empty if it has none.
pub(super) fn name(entry: Json<'_>) -> &str {
    entry.at("name").text().unwrap_or_default()
}
