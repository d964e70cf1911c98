//! Decide: what happens to a workload, as data.
//!
//! The order of the questions is the policy. An object that is being deleted passes. Who isn't gated has nothing of ours.
//! Who changed nothing that is the user's keeps everything as it was, so no other version of this program ever rolls
//! anything out. Whose injection still fits keeps it, so an undo finds its old ReplicaSet. Everybody else is injected.

use super::Installation;
use super::arena::Arena;
use super::denial::Denial;
use super::inject::inject;
use super::injected::{Injected, Note, is_our_container, is_our_volume, without_defaults};
use super::json::Json;
use super::patch::diff;
use super::plan::{Plan, Source};
use super::strip::strip;
use super::template::{
    ANNOTATIONS, CONTAINERS, INIT_CONTAINERS, LABELS, Place, READINESS_GATES, Template, VOLUMES, name,
};
use super::warnings::{self, Warning};
use super::workload::Workload;
use crate::contract::{label, pod};
use crate::group::{Group, WorkloadKind, record_name};
use crate::settings::{Policy, Settings};

/// A workload that is to be created or changed.
pub(super) struct Case<'a> {
    /// Its kind.
    pub(super) kind: WorkloadKind,
    /// It exists already.
    pub(super) is_update: bool,
    /// What it was before, if it exists and could be read.
    pub(super) old: Option<Workload<'a>>,
    /// What it is to be.
    pub(super) new: Workload<'a>,
}

/// What happens to the workload's pod template.
#[derive(Debug, PartialEq)]
pub(super) enum Admission<'a> {
    /// It isn't ours to look at.
    Ignore,
    /// It stays as it came.
    Keep,
    /// It gets back what it was before: nothing of the user's changed.
    Restore(Rewrite<'a>),
    /// It is injected, newly or anew.
    Inject(Rewrite<'a>),
    /// The injection is taken out.
    Strip(Rewrite<'a>),
    /// It stays without an injection although it asks for one.
    AdmitUngated,
    /// It is refused.
    Deny(Denial),
}

/// A change of the pod template.
#[derive(Debug, PartialEq)]
pub(super) struct Rewrite<'a> {
    /// As it came.
    pub(super) from: Template<'a>,
    /// As it is to be.
    pub(super) to: Template<'a>,
}

impl<'a> Rewrite<'a> {
    /// The change as a patch of the whole object; `None`, if it comes to nothing.
    pub(super) fn patch(&self, arena: Arena<'a>) -> Option<Json<'a>> {
        diff(&self.from, &self.to, arena)
    }
}

/// What is decided, and what the user should know.
#[derive(Debug)]
pub(super) struct Decided<'a> {
    pub(super) admission: Admission<'a>,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> From<Admission<'a>> for Decided<'a> {
    fn from(admission: Admission<'a>) -> Decided<'a> {
        Decided { admission, warnings: Vec::new() }
    }
}

/// Decides what happens to the workload.
pub(super) fn decide<'a>(case: &Case<'a>, installation: &Installation, arena: Arena<'a>) -> Decided<'a> {
    if case.new.is_terminating() {
        return Admission::Ignore.into();
    }
    if !case.new.is_gated() {
        return ungate(&case.new, arena).into();
    }
    let unchanged = case.old.as_ref().map_or(Ok(None), |old| stick(old, &case.new, arena));
    let decided = match unchanged {
        Ok(Some(decided)) => Ok(decided),
        Ok(None) => gate(case, installation, arena),
        Err(denial) => Err(denial),
    };
    decided.unwrap_or_else(|denial| Admission::Deny(denial).into())
}

/// Without the label there is no gate. This never refuses anything: it is the way out.
fn ungate<'a>(new: &Workload<'a>, arena: Arena<'a>) -> Admission<'a> {
    let Ok(from) = new.template(arena) else { return Admission::Ignore };
    let to = strip(&from, arena);
    if from == to { Admission::Ignore } else { Admission::Strip(Rewrite { from, to }) }
}

/// If nothing changed that is the user's and reaches the template, the template stays as it was.
fn stick<'a>(old: &Workload<'a>, new: &Workload<'a>, arena: Arena<'a>) -> Result<Option<Decided<'a>>, Denial> {
    if !old.asks_the_same(new) {
        return Ok(None);
    }
    let admission = if old.template_text() == new.template_text() {
        Admission::Keep
    } else {
        let from = new.template(arena)?;
        let Ok(to) = old.template(arena) else { return Ok(None) };
        if users_part(&from, arena) != users_part(&to, arena) {
            return Ok(None);
        }
        if from == to { Admission::Keep } else { Admission::Restore(Rewrite { from, to }) }
    };
    let mut warnings = Vec::new();
    if !old.is_timed_the_same(new) {
        warnings = warnings::of_timing(new, &Policy::of(new.annotations())?);
    }
    Ok(Some(Decided { admission, warnings }))
}

/// What is the user's in a template, in the form that the API server would give it: one that was injected in a file lacks
/// defaults, and has collections with nothing in them.
fn users_part<'a>(template: &Template<'a>, arena: Arena<'a>) -> Template<'a> {
    let mut part = strip(template, arena);
    for place in [ANNOTATIONS, LABELS, READINESS_GATES, VOLUMES, INIT_CONTAINERS] {
        part.drop_hollow(place);
    }
    if !part.list(INIT_CONTAINERS).is_empty() {
        part.change(INIT_CONTAINERS, |list| {
            arena.list(list.list().iter().map(|container| without_defaults(*container, arena)))
        });
    }
    part
}

/// The workload is new, or something changed: it gets the injection that it asks for, unless it has it.
fn gate<'a>(case: &Case<'a>, installation: &Installation, arena: Arena<'a>) -> Result<Decided<'a>, Denial> {
    let settings = Settings::parse(case.new.annotations())?;
    let template = case.new.template(arena)?;
    let group = Group::of(settings.group.as_ref(), case.kind, &case.new.metadata.name);
    if group == (Group::Workload { kind: case.kind, name: "" }) {
        return Err(Denial::NoName);
    }
    let record = record_name(group);
    let note = Injected::read(&template, arena);
    check_note(&template, &note)?;
    let stripped = strip(&template, arena);
    let plan = match Plan::new(&stripped, &settings, arena) {
        // An undo to before the adoption brings back the old annotations, but keeps the label. It may be an emergency.
        Err(Denial::NoCommand { .. }) if case.is_update && stripped == template => {
            return Ok(Decided { admission: Admission::AdmitUngated, warnings: vec![warnings::ungated()] });
        }
        plan => plan?,
    };
    let mut warnings = warnings::of_timing(&case.new, &settings.policy);
    warnings.extend(warnings::of_owner(&case.new));
    warnings.extend(warnings::of_template(&stripped, &plan, &settings));
    let carries_it = matches!(&note, Note::Readable(note) if fits(note, &template, &plan, &settings, &record, arena));
    if carries_it {
        return Ok(Decided { admission: Admission::Keep, warnings });
    }
    let to = inject(&stripped, &plan, &settings, &record, installation, arena);
    Ok(Decided { admission: Admission::Inject(Rewrite { from: template, to }), warnings })
}

/// Names of ours are ours only beside a note that can be read; otherwise taking them out could take something of the
/// user's.
fn check_note(template: &Template<'_>, note: &Note<'_>) -> Result<(), Denial> {
    match note {
        Note::Readable(_) => return Ok(()),
        Note::Unreadable => return Err(Denial::UnreadableNote),
        Note::Absent => {}
    }
    let reserved = |place: Place, what: &'static str, is_ours: fn(&str) -> bool| {
        let entry = template.list(place).iter().find(|entry| is_ours(name(**entry)));
        entry.map_or(Ok(()), |entry| Err(Denial::ReservedName { what, name: name(*entry).to_owned() }))
    };
    reserved(INIT_CONTAINERS, "container", is_our_container)?;
    reserved(CONTAINERS, "container", is_our_container)?;
    reserved(VOLUMES, "volume", is_our_volume)
}

/// Whether the injection that the template carries is one that the plan would make, whichever version made it.
fn fits<'a>(
    note: &Injected<'a>,
    template: &Template<'a>,
    plan: &Plan<'a>,
    settings: &Settings,
    record: &str,
    arena: Arena<'a>,
) -> bool {
    let init_containers = template.list(INIT_CONTAINERS);
    let at = |wanted: &str| init_containers.iter().position(|container| name(*container) == wanted);
    // Sidecars must run before the migration, and nothing that waits for it may come before the agent.
    let is_in_place = match plan.source {
        Source::Wrap(wrapped) => note.migration_container() == name(wrapped),
        Source::Copy => note.wrapped.is_none() && at(pod::MIGRATE_CONTAINER) == init_containers.len().checked_sub(1),
    };
    is_in_place
        && matches!(at(pod::INSTALL_CONTAINER), None | Some(0))
        && template.entry(LABELS, label::GATE) == Some(record)
        && template.entry(LABELS, label::MIGRATION) == Some(&plan.fingerprint)
        && note.inputs == plan.inputs(settings)
        && note.is_intact(template, arena)
}
