//! The workload: the few fields of the object that matter, read without looking at the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::arena::Arena;
use super::template::{NotATemplate, Template};
use crate::contract::label;
use crate::settings::{is_ours, reaches_template};

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
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    deletion_timestamp: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec<'a> {
    #[serde(borrow)]
    template: Option<&'a RawValue>,
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
        labels.and_then(|labels| labels.get(label::GATED)).is_some_and(|value| value == label::GATED_TRUE)
    }

    /// Whether the workload is being deleted.
    pub(super) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The workload's annotations.
    pub(super) fn annotations(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata.annotations.as_ref().unwrap_or(&NONE)
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
        self.spec.template.map_or("null", RawValue::get)
    }

    /// The template, checked.
    ///
    /// # Errors
    /// If it isn't one.
    pub(super) fn template(&self, arena: Arena<'a>) -> Result<Template<'a>, NotATemplate> {
        // A RawValue is valid JSON, so this fails only where it is nested too deeply, or too large, to be read.
        let template = arena.read(self.template_text()).map_err(|error| NotATemplate::Unreadable(error.to_string()))?;
        Template::new(template, arena)
    }
}
