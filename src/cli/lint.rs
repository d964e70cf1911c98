//! `migration-gate lint`: what the webhook would say about manifests.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::inject::InputArguments;
use super::manifests::Document;
use super::workloads::{Faults, workloads};
use crate::admission::{self, AgentDelivery, Decision, Installation};
use crate::contract::{annotation, label};

/// Explain what would happen to manifests, and fail if a workload would be refused or start without its migration.
#[derive(Debug, Args)]
pub(super) struct LintArguments {
    #[command(flatten)]
    input: InputArguments,
}

impl LintArguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut documents = self.input.read()?;
        let (text, faults) = explain(&mut documents);
        print!("{text}");
        faults.conclude()
    }
}

/// Says what would happen to each workload, and counts those that can't be left like this.
pub(super) fn explain(documents: &mut [Document]) -> (String, Faults) {
    // The image of the agent is the installation's; it has no part in what is explained.
    let installation = Installation {
        agent_image: "agent".to_owned(),
        delivery: AgentDelivery::default(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let (mut text, mut faults) = (String::new(), Faults::default());
    for document in documents {
        let place = document.place.clone();
        for mut workload in workloads(document) {
            let rendered = workload.render(&installation);
            let verdict = match rendered.decision {
                Decision::Denied => "refused".to_owned(),
                Decision::Ungated => "not gated".to_owned(),
                Decision::Ignored | Decision::Stripped => not_gated(workload.object),
                _ => gated(workload.object),
            };
            let _ = writeln!(text, "{place}: {}: {verdict}", workload.title);
            let what = if faults.count(rendered.decision) { "error" } else { "warning" };
            for note in rendered.notes {
                let _ = writeln!(text, "  {what}: {note}");
            }
        }
    }
    (text, faults)
}

/// What a gated workload would run.
fn gated(object: &Value) -> String {
    let Some(migration) = admission::migration(object) else { return "gated".to_owned() };
    let how = match &migration.wrapped {
        Some(container) => format!("init container {container} is wrapped"),
        None => format!("a copy of a container runs in {}", migration.image),
    };
    let command: Vec<String> = migration.command.iter().map(|word| quoted(word)).collect();
    format!("gated; migration {} of {}: {how}: {}", migration.fingerprint, migration.record, command.join(" "))
}

/// Why a workload isn't gated, if it looks as if it should be.
fn not_gated(object: &Value) -> String {
    let metadata = &object["metadata"];
    if let Some(value) = metadata["labels"][label::GATED].as_str() {
        return format!("not gated: label {} is '{value}', not '{}'", label::GATED, label::GATED_TRUE);
    }
    for key in [annotation::COMMAND, annotation::CONTAINER] {
        if metadata["annotations"][key].is_string() {
            return format!("not gated: it has {key}, but no label {}: \"{}\"", label::GATED, label::GATED_TRUE);
        }
    }
    "not gated".to_owned()
}

/// A word as a shell would take it, on one line.
fn quoted(word: &str) -> String {
    if word.contains(char::is_control) {
        return format!("{word:?}");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
#[path = "lint_tests.rs"]
mod tests;
