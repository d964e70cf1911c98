//! Offline: what the webhook would do to an object of a file, on the same path.
//!
//! An object of a file is one that is to be created: whatever the cluster holds under its name isn't known here.

use bumpalo::Bump;
use serde_json::{Map, Value};

use super::arena::Arena;
use super::decide::{Admission, Case, Rewrite, decide};
use super::denial::Denial;
use super::injected::{Injected, Note, find};
use super::strip::strip;
use super::template::{INIT_CONTAINERS, LABELS, NotATemplate, Template};
use super::warnings::Warning;
use super::workload::Workload;
use super::{Decision, Installation};
use crate::contract::{label, pod};
use crate::group::WorkloadKind;

/// What the webhook would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What was decided; [`Decision::Ignored`] where the workload doesn't ask for a gate.
    pub decision: Decision,
    /// The denial's sentence, or the warnings.
    pub notes: Vec<String>,
}

/// Does to an object what the webhook would do if it were created. A denied one stays as it is.
pub fn render(object: &mut Value, kind: WorkloadKind, installation: &Installation) -> Rendered {
    if !asks(object) {
        return ungate(object);
    }
    if let Err(denial) = check_text(object) {
        return denied(&denial);
    }
    let (bump, text) = (Bump::new(), object.to_string());
    let arena = Arena(&bump);
    let new = match Workload::read(&text) {
        Ok(new) => new,
        Err(error) => return denied(&Denial::Unreadable(error.to_string())),
    };
    let decided = decide(&Case { kind, is_update: false, old: None, new }, installation, arena);
    let decision = match decided.admission {
        Admission::Deny(denial) => return denied(&denial),
        Admission::Inject(Rewrite { to, .. }) => {
            object["spec"]["template"] = to.to_json(arena).to_value();
            Decision::Injected
        }
        Admission::Ignore | Admission::AdmitUngated => Decision::Ignored,
        Admission::Keep | Admission::Restore(_) | Admission::Strip(_) => Decision::Kept,
    };
    Rendered { decision, notes: decided.warnings.iter().map(Warning::to_string).collect() }
}

fn denied(denial: &Denial) -> Rendered {
    Rendered { decision: Decision::Denied, notes: vec![denial.to_string()] }
}

/// Whether an object asks for a gate. A label that isn't text can only be meant as one, but for `false`.
pub fn asks(object: &Value) -> bool {
    match &object["metadata"]["labels"][label::GATED] {
        Value::Null | Value::Bool(false) => false,
        Value::String(value) => value == label::GATED_TRUE,
        _ => true,
    }
}

/// Who doesn't ask for a gate has nothing of ours, and nothing else of it matters. The webhook's configuration selects by
/// the label, so it sees such an object only if it was labelled before; a copy of an injected one it never sees.
fn ungate(object: &mut Value) -> Rendered {
    if !unrender(object) {
        return Rendered { decision: Decision::Ignored, notes: Vec::new() };
    }
    let note = format!(
        "the pod template carries an injection, but the workload has no label {}: \"{}\", so its pods may wait for ever; \
         put the label on the workload, or take the injection out, as inject does",
        label::GATED,
        label::GATED_TRUE
    );
    Rendered { decision: Decision::Stripped, notes: vec![note] }
}

/// Labels and annotations are text; YAML makes other things of `true` and `3`, which the API server refuses.
fn check_text(object: &Value) -> Result<(), Denial> {
    for field in ["labels", "annotations"] {
        let entries = object["metadata"][field].as_object().into_iter().flatten();
        if let Some((key, value)) = entries.into_iter().find(|(_, value)| !value.is_string()) {
            let wrong = format!("metadata.{field}: {key} is {value}, and must be text; write \"{value}\" in quotes");
            return Err(Denial::Unreadable(wrong));
        }
    }
    Ok(())
}

/// Takes an injection out of an object, whether or not it asks for one. Says whether there was any.
pub fn unrender(object: &mut Value) -> bool {
    let bump = Bump::new();
    let arena = Arena(&bump);
    let Ok(template) = template(object, arena) else { return false };
    let stripped = strip(&template, arena);
    let has_changed = stripped != template;
    if has_changed {
        object["spec"]["template"] = stripped.to_json(arena).to_value();
    }
    has_changed
}

/// An object's pod template, checked.
pub(super) fn template<'a>(object: &Value, arena: Arena<'a>) -> Result<Template<'a>, NotATemplate> {
    Template::new(arena.value(&object["spec"]["template"]), arena)
}

/// What an injected workload would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The name of its group's record.
    pub record: String,
    /// The migration's fingerprint.
    pub fingerprint: String,
    /// The image that it runs in.
    pub image: String,
    /// The user's command.
    pub command: Vec<String>,
    /// The init container that is wrapped; `None`, if one is added.
    pub wrapped: Option<String>,
}

/// Reads from an object what its injection would run; `None` if it has none.
pub fn migration(object: &Value) -> Option<Migration> {
    let bump = Bump::new();
    let arena = Arena(&bump);
    migration_of(&template(object, arena).ok()?, arena)
}

/// Reads from a template what its injection would run; `None` if it has none.
pub(super) fn migration_of<'a>(template: &Template<'a>, arena: Arena<'a>) -> Option<Migration> {
    let Note::Readable(note) = Injected::read(template, arena) else { return None };
    let container = find(template, INIT_CONTAINERS, note.migration_container())?;
    let words = container.at("args").list().iter().filter_map(|word| word.text());
    Some(Migration {
        record: template.entry(LABELS, label::GATE)?.to_owned(),
        fingerprint: template.entry(LABELS, label::MIGRATION)?.to_owned(),
        image: container.at("image").text().unwrap_or_default().to_owned(),
        command: words.skip_while(|word| *word != pod::COMMAND_SEPARATOR).skip(1).map(str::to_owned).collect(),
        wrapped: note.wrapped.map(|wrapped| wrapped.container.to_owned()),
    })
}

/// The kind of an object that could be gated; `None` for all others.
pub fn workload_kind(object: &Map<String, Value>) -> Option<WorkloadKind> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    WorkloadKind::of(text("apiVersion"), text("kind"))
}
