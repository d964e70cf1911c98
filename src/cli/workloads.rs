//! The workloads in manifests: those that can be gated, and those that are labelled as if they could.

use std::fmt;

use serde_json::Value;

use super::manifests::Document;
use super::{Exit, Failure};
use crate::admission::{self, Decision, Installation, Rendered};
use crate::contract::label;
use crate::group::{UNGATED, WorkloadKind};
use crate::supervise::Sentence;

/// A workload in a document.
pub(super) struct Workload<'a> {
    /// Its kind; `None` for one that can't be gated, but carries the label.
    pub(super) kind: Option<WorkloadKind>,
    /// Its kind, namespace and name, for messages.
    pub(super) title: String,
    pub(super) object: &'a mut Value,
}

/// The workloads of a document, in their order. One without the label whose kind is not gated is none of ours.
pub(super) fn workloads(document: &mut Document) -> impl Iterator<Item = Workload<'_>> {
    document.objects().into_iter().filter_map(|object| {
        let kind = admission::workload_kind(object.as_object()?);
        if kind.is_none() && !(admission::asks(object) && starts_pods(object)) {
            return None;
        }
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or("(no name)");
        let spelt = object["kind"].as_str().unwrap_or("(no kind)");
        let title = match metadata["namespace"].as_str() {
            Some(namespace) => format!("{spelt} {namespace}/{name}"),
            None => format!("{spelt} {name}"),
        };
        Some(Workload { kind, title, object })
    })
}

impl Workload<'_> {
    /// Does to it what the webhook would do if it were created; what can't be gated stays as it is.
    pub(super) fn render(&mut self, installation: &Installation) -> Rendered {
        match self.kind {
            Some(kind) => admission::render(self.object, kind, installation),
            None => Rendered { decision: Decision::Ungated, notes: vec![not_gated(self.object)] },
        }
    }
}

/// Why the label has no effect.
fn not_gated(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let gated = WorkloadKind::ALL.map(|kind| format!("{kind} ({})", kind.api_version())).join(", ");
    format!(
        "kind {} ({}) is not gated, so its pods start without a migration; allowed: {gated}; take the label {} off, and \
         let a workload of such a kind migrate",
        text("kind"),
        text("apiVersion"),
        label::GATED
    )
}

/// Whether an object starts pods: by its kind, or because it holds a pod template, whatever it calls it.
fn starts_pods(object: &Value) -> bool {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    UNGATED.contains(&(group, text("kind"))) || holds_containers(object)
}

/// Whether there are a pod's containers somewhere in it.
fn holds_containers(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(field, value)| {
            let entries = value.as_array().map_or(&[][..], Vec::as_slice);
            let are_containers = field == "containers" && entries.iter().any(|entry| entry["name"].is_string());
            are_containers || holds_containers(value)
        }),
        Value::Array(entries) => entries.iter().any(holds_containers),
        _ => false,
    }
}

/// The workloads that can't be left like this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// They would be refused.
    pub(super) denied: usize,
    /// They are labelled, and would start without a migration.
    pub(super) ungated: usize,
}

impl Faults {
    /// Counts what was decided about a workload, and says whether it is a fault.
    pub(super) fn count(&mut self, decision: Decision) -> bool {
        match decision {
            Decision::Denied => self.denied += 1,
            Decision::Ungated => self.ungated += 1,
            _ => return false,
        }
        true
    }

    /// A failure, if there is any.
    pub(super) fn conclude(self) -> Result<(), Failure> {
        match self == Faults::default() {
            true => Ok(()),
            false => Err(Failure::new(Exit::Data, Sentence(self.to_string()))),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("workloads that would be refused", self.denied),
            ("labelled workloads of a kind that is not gated", self.ungated),
        ];
        let told = counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}"));
        f.write_str(&told.collect::<Vec<_>>().join("; "))
    }
}
