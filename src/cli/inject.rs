//! `migration-gate inject`: what the webhook would do to manifests, in a file or in a pipe.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::installation::{Delivery, installation};
use super::manifests::{self, Document, ManifestError};
use super::workloads::{Faults, Workload, workloads};
use super::{Exit, Failure};
use crate::admission::{self, Decision, Installation};
use crate::supervise::Sentence;

/// Print manifests as the webhook would make them.
///
/// Works in a pipe after `helm template` or `kustomize build`. What isn't a labelled workload comes out as it went in,
/// but without an injection that was copied into it. If a workload would be refused, nothing is printed; if one is labelled
/// whose kind is not gated, all is printed, that one as it went in, and the exit code says so.
#[derive(Debug, Args)]
pub(super) struct InjectArguments {
    #[command(flatten)]
    input: InputArguments,
    /// Take injections out instead
    #[arg(long)]
    strip: bool,
    /// The image that brings the agent into gated pods, as the webhook has it
    #[arg(long, env = "MIGRATION_GATE_AGENT_IMAGE", value_name = "IMAGE", required_unless_present = "strip")]
    agent_image: Option<String>,
    /// How the agent gets into gated pods, as the webhook has it
    #[arg(long, env = "MIGRATION_GATE_AGENT_DELIVERY", value_enum, default_value_t)]
    agent_delivery: Delivery,
}

/// Which manifests.
#[derive(Debug, Args)]
pub(super) struct InputArguments {
    /// A file with YAML or JSON manifests, a folder of them, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filenames: Vec<PathBuf>,
}

impl InputArguments {
    pub(super) fn read(&self) -> Result<Vec<Document>, Failure> {
        manifests::read(&self.filenames).map_err(Failure::from)
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Failure {
        let exit = match &error {
            ManifestError::Read { .. } | ManifestError::Empty(_) => Exit::NoInput,
            ManifestError::Syntax(..) => Exit::Data,
        };
        Failure::new(exit, error)
    }
}

impl InjectArguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut documents = self.input.read()?;
        if self.strip {
            strip(&mut documents);
        } else {
            // The command line is refused without one.
            let installation = installation(self.agent_image.unwrap_or_default(), self.agent_delivery);
            let faults = inject(&mut documents, &installation, &mut std::io::stderr());
            if faults.denied > 0 {
                return Err(Failure::new(Exit::Data, Sentence(format!("{faults}; nothing is printed"))));
            }
            print(&documents)?;
            return faults.conclude();
        }
        print(&documents)
    }
}

/// Takes the injections out of all workloads, labelled or not.
fn strip(documents: &mut [Document]) {
    for document in documents {
        let gateable = workloads(document).filter(|workload| workload.kind.is_some());
        let stripped: Vec<bool> = gateable.map(|workload| admission::unrender(workload.object)).collect();
        document.has_changed = stripped.contains(&true);
    }
}

/// Injects into all workloads, says what there is to say about them, and counts those that can't be left like this.
pub(super) fn inject(documents: &mut [Document], installation: &Installation, messages: &mut impl Write) -> Faults {
    let mut faults = Faults::default();
    for document in documents {
        let place = document.place.clone();
        let mut has_changed = false;
        for mut workload in workloads(document) {
            let rendered = workload.render(installation);
            has_changed |= matches!(rendered.decision, Decision::Injected | Decision::Stripped);
            let what = if faults.count(rendered.decision) { "Error" } else { "Warning" };
            for note in rendered.notes {
                // Nobody reads what can't be written.
                let _ = writeln!(messages, "{what}: {place}: {}: {note}", workload.title);
            }
        }
        document.has_changed = has_changed;
    }
    faults
}

/// The workloads of a file as the webhook would make them, for those who ask what their migrations would be. The image
/// of the agent is the installation's; it has no part in that.
///
/// # Errors
/// If the file can't be read, or a workload would be refused.
pub(crate) fn injected_workloads(file: &Path) -> Result<Vec<Value>, Failure> {
    let installation = installation("agent".to_owned(), Delivery::default());
    let mut injected = Vec::new();
    for mut document in manifests::read(&[file.to_owned()])? {
        for Workload { kind, title, object } in workloads(&mut document) {
            let Some(kind) = kind else { continue };
            let rendered = admission::render(object, kind, &installation);
            if rendered.decision == Decision::Denied {
                let sentence = format!("{title} would be refused: {}", rendered.notes.join("; "));
                return Err(Failure::new(Exit::Data, Sentence(sentence)));
            }
            injected.push(object.clone());
        }
    }
    Ok(injected)
}

/// Prints all documents.
fn print(documents: &[Document]) -> Result<(), Failure> {
    let text = manifests::write(documents)?;
    let mut output = std::io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| Failure::new(Exit::System, error))
}

#[cfg(test)]
#[path = "inject_tests.rs"]
mod tests;
