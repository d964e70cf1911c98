//! The workload: the few fields of the object that matter, read without looking at the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::arena::Arena;
use super::reader::Text;
use super::template::{NotATemplate, Template};
use crate::contract::label;
use crate::settings::{is_ours, reaches_template};

/// Helm's annotation on an object that it deletes and makes anew.
pub(super) const HELM_HOOK: &str = "helm.sh/hook";

/// The fields of a workload that matter here. Everything else, the pod template foremost, is passed over as text.
#[derive(Debug, Deserialize)]
pub(super) struct Workload<'a> {
    #[serde(borrow, default)]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow, default)]
    pub(super) spec: Spec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    labels: Option<Ours>,
    annotations: Option<Ours>,
    #[serde(borrow)]
    deletion_timestamp: Option<Text<'a>>,
}

/// The labels or annotations that are ours, and [`HELM_HOOK`]. A value of somebody else's may be a whole manifest.
#[derive(Debug)]
struct Ours(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Ours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ours, D::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Pick;

        impl<'de> Visitor<'de> for Pick {
            type Value = Ours;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ours, A::Error> {
                let mut ours = BTreeMap::new();
                while let Some(Key(key)) = map.next_key()? {
                    if is_ours(&key) || key == HELM_HOOK {
                        ours.insert(key.into_owned(), map.next_value()?);
                    } else if !map.next_value::<Text<'_>>()?.0.starts_with('"') {
                        return Err(A::Error::custom(format_args!("the value of {key:?} is not a string")));
                    }
                }
                Ok(Ours(ours))
            }
        }

        deserializer.deserialize_map(Pick)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec<'a> {
    #[serde(borrow)]
    template: Option<Text<'a>>,
    pub(super) progress_deadline_seconds: Option<i64>,
    pub(super) strategy: Option<Strategy>,
}

/// How a Deployment replaces its pods.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct Strategy {
    pub(super) r#type: Option<String>,
    pub(super) rolling_update: Option<RollingUpdate>,
}

/// The limits of a rolling update.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RollingUpdate {
    pub(super) max_unavailable: Value,
}

impl<'a> Workload<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// If a field that matters isn't of the type that the API says.
    pub(super) fn read(object: &'a str) -> Result<Workload<'a>, serde_json::Error> {
        serde_json::from_str(object)
    }

    /// Whether the workload asks to be gated.
    pub(super) fn is_gated(&self) -> bool {
        let labels = self.metadata.labels.as_ref();
        labels.and_then(|Ours(labels)| labels.get(label::GATED)).is_some_and(|value| value == label::GATED_TRUE)
    }

    /// Whether the workload is being deleted.
    pub(super) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The workload's annotations, as far as they matter.
    pub(super) fn annotations(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata.annotations.as_ref().map_or(&NONE, |Ours(annotations)| annotations)
    }

    /// The annotations of ours that have a part in the template.
    fn reaching(&self) -> impl Iterator<Item = (&String, &String)> {
        self.annotations().iter().filter(|(key, _)| reaches_template(key))
    }

    /// Whether both ask for the same template to be gated in the same way: the label and the annotations.
    pub(super) fn asks_the_same(&self, other: &Workload<'_>) -> bool {
        self.is_gated() == other.is_gated() && self.reaching().eq(other.reaching())
    }

    /// Whether both would get the same warnings and errors about their timing.
    pub(super) fn is_timed_the_same(&self, other: &Workload<'_>) -> bool {
        self.spec.progress_deadline_seconds == other.spec.progress_deadline_seconds
            && self.spec.strategy == other.spec.strategy
            && self.policy().eq(other.policy())
    }

    /// The annotations of ours that only the controller reads.
    fn policy(&self) -> impl Iterator<Item = (&String, &String)> {
        self.annotations().iter().filter(|(key, _)| is_ours(key) && !reaches_template(key))
    }

    /// The template's text; `null` if there is none.
    pub(super) fn template_text(&self) -> &'a str {
        self.spec.template.map_or("null", |Text(text)| text)
    }

    /// The template, checked.
    ///
    /// # Errors
    /// If it isn't one.
    pub(super) fn template(&self, arena: Arena<'a>) -> Result<Template<'a>, NotATemplate> {
        // It fails where it is nested too deeply, or too large, to be read.
        let template = arena.read(self.template_text()).map_err(|error| NotATemplate::Unreadable(error.to_string()))?;
        Template::new(template, arena)
    }
}
