//! The command line of `migration-gate`: raw arguments in, validated options out, and a role to play with them.
//!
//! Every option can also be given as an environment variable, `MIGRATION_GATE_` and the option's name; the command line
//! goes before it.

#[cfg(test)]
mod cases_tests;
mod controller;
mod crd;
mod exit;
mod guard;
mod inject;
mod installation;
mod lint;
mod man;
mod manifests;
mod run;
mod webhook;
mod workloads;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::plugin::{self, Caller, Verb};
use crate::supervise::Shutdown;
use crate::telemetry::{self, LogFormat};

pub use exit::{Exit, Failure};
pub(crate) use inject::injected_workloads;

/// Runs a Deployment's schema migration once, in one pod, before any new pod takes traffic.
#[derive(Debug, Parser)]
#[command(name = "migration-gate", version, after_help = exit::HELP)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the admission webhook that puts the gate into labelled workloads
    Webhook(webhook::WebhookArguments),
    /// Run the controller that elects, records and opens the gates
    Controller(controller::ControllerArguments),
    /// Print manifests as the webhook would make them
    Inject(inject::InjectArguments),
    /// Explain what would happen to manifests, and fail if a workload would be refused or start without its migration
    Lint(lint::LintArguments),
    /// Run a command once among many starters, under a lock in a database, a file or a cluster
    Run(Box<run::RunArguments>),
    /// Print the CustomResourceDefinition of MigrationGate as YAML
    Crd(crd::CrdArguments),
    #[command(flatten)]
    Verb(Verb),
    #[command(hide = true)]
    Man(man::ManArguments),
    #[command(hide = true)]
    Guard(guard::GuardArguments),
    #[command(hide = true)]
    GuardExec(guard::GuardExecArguments),
}

/// The name under which kubectl finds its plugin `kubectl migration-gate`. Source: Kubernetes, "Extend kubectl with
/// plugins": a dash in the plugin's name is an underscore in the program's.
const PLUGIN: &str = "kubectl-migration_gate";
/// The name under which kubectl finds what completes the plugin's commands.
const PLUGIN_COMPLETION: &str = "kubectl_complete-migration_gate";

/// See, explain, steer and remove schema migrations that run once, before any new pod takes traffic.
#[derive(Debug, Parser)]
#[command(name = PLUGIN, bin_name = "kubectl migration-gate", version, after_help = exit::PLUGIN_HELP)]
struct PluginArguments {
    #[command(subcommand)]
    verb: Verb,
}

/// What the process was started to do.
#[derive(Debug)]
pub enum Program {
    /// As itself.
    Whole(Arguments),
    /// As a plugin of kubectl.
    Plugin(PluginVerb),
    /// To complete a plugin's command line: the words so far.
    Completion(Vec<String>),
}

/// A verb of the plugin.
#[derive(Debug)]
pub struct PluginVerb(Verb);

impl Program {
    /// Reads the command line; the program's own name, without folders, says as what it was started.
    ///
    /// # Errors
    /// The command line is wrong, or help or the version was asked for.
    pub fn try_parse(words: impl IntoIterator<Item = OsString>) -> Result<Program, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let name = words.first().map(Path::new).and_then(Path::file_stem).unwrap_or_default();
        if name == PLUGIN {
            return PluginArguments::try_parse_from(words).map(|arguments| Program::Plugin(PluginVerb(arguments.verb)));
        }
        if name == PLUGIN_COMPLETION {
            let words = words.into_iter().skip(1).map(|word| word.to_string_lossy().into_owned());
            return Ok(Program::Completion(words.collect()));
        }
        Arguments::try_parse_from(words).map(Program::Whole)
    }

    /// Does it; returns the exit code, which is 0 but for `run`.
    ///
    /// # Errors
    /// Why it failed, with the exit code that says so to scripts.
    pub fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Program::Whole(arguments) => arguments.run(),
            Program::Plugin(PluginVerb(verb)) => {
                verb.run(Caller::Kubectl, PluginArguments::command()).map(|()| ExitCode::SUCCESS)
            }
            Program::Completion(words) => {
                print!("{}", plugin::answer_kubectl(&PluginArguments::command(), &words));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// What every long-running role takes.
#[derive(Debug, Args)]
struct LogArguments {
    /// The form of the log lines
    #[arg(long, env = "MIGRATION_GATE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or MODULE=LEVEL pairs separated by commas
    #[arg(long, env = "MIGRATION_GATE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: String,
}

impl Arguments {
    /// Plays the role that the arguments ask for, until it ends; returns the exit code, which is 0 but for `run`.
    ///
    /// # Errors
    /// Why it failed, with the exit code that says so to scripts.
    pub fn run(self) -> Result<ExitCode, Failure> {
        let done = match self.command {
            Command::Webhook(arguments) => arguments.run(),
            Command::Controller(arguments) => arguments.run(),
            Command::Inject(arguments) => arguments.run(),
            Command::Lint(arguments) => arguments.run(),
            Command::Crd(arguments) => arguments.run(),
            Command::Run(arguments) => return arguments.run(),
            Command::Man(arguments) => arguments.run(Arguments::command()),
            Command::Verb(verb) => verb.run(Caller::Program, Arguments::command()),
            Command::Guard(arguments) => arguments.run(),
            Command::GuardExec(arguments) => return Ok(arguments.run()),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Starts logging, and plays a long-running role on the asynchronous runtime until SIGTERM or SIGINT.
fn serve<E: Into<Failure>>(
    log: &LogArguments,
    role: impl AsyncFnOnce(Shutdown) -> Result<(), E>,
) -> Result<(), Failure> {
    telemetry::start(log.log_format, &log.log_level).map_err(|error| Failure::new(Exit::Usage, error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::System, error))?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals().map_err(|error| Failure::new(Exit::System, error))?;
        role(shutdown).await.map_err(Into::into)
    });
    // A reader of a file or a resolver that hangs must not keep the process.
    runtime.shutdown_background();
    result
}
