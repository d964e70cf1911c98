//! `migration-gate lint`: what the webhook would say about manifests.

use std::fmt::Write;

use clap::Args;
use serde_json::Value;

use super::inject::{InputArguments, Workload, workloads};
use super::manifests::Document;
use super::{Exit, Failure};
use crate::admission::{self, AgentDelivery, Decision, Installation};
use crate::contract::{annotation, label};
use crate::supervise::Sentence;

/// Explain what would happen to manifests, and fail if a workload would be refused.
#[derive(Debug, Args)]
pub(super) struct LintArguments {
    #[command(flatten)]
    input: InputArguments,
}

impl LintArguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut documents = self.input.read()?;
        let (text, denials) = explain(&mut documents);
        print!("{text}");
        match denials {
            0 => Ok(()),
            _ => Err(Failure::new(Exit::Data, Sentence(format!("workloads that would be refused: {denials}")))),
        }
    }
}

/// Says what would happen to each workload, and counts those that would be refused.
fn explain(documents: &mut [Document]) -> (String, usize) {
    // The image of the agent is the installation's; it has no part in what is explained.
    let installation = Installation {
        agent_image: "agent".to_owned(),
        delivery: AgentDelivery::default(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let (mut text, mut denials) = (String::new(), 0);
    for document in documents {
        let place = document.place.clone();
        for Workload { kind, title, object } in workloads(document) {
            let rendered = admission::render(object, kind, &installation);
            denials += usize::from(rendered.decision == Decision::Denied);
            let verdict = match rendered.decision {
                Decision::Denied => "refused".to_owned(),
                Decision::Ignored => not_gated(object),
                _ => gated(object),
            };
            let _ = writeln!(text, "{place}: {title}: {verdict}");
            let what = if rendered.decision == Decision::Denied { "error" } else { "warning" };
            for note in rendered.notes {
                let _ = writeln!(text, "  {what}: {note}");
            }
        }
    }
    (text, denials)
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
