//! The command line of `migration-gate`: raw arguments in, validated options out, and a role to play with them.
//!
//! Every option can also be given as an environment variable, `MIGRATION_GATE_` and the option's name; the command line
//! goes before it.

mod controller;
mod crd;
mod exit;
mod guard;
mod inject;
mod installation;
mod lint;
mod manifests;
mod run;
mod webhook;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::supervise::Shutdown;
use crate::telemetry::{self, LogFormat};

pub use exit::{Exit, Failure};

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
    /// Explain what would happen to manifests, and fail if a workload would be refused
    Lint(lint::LintArguments),
    /// Run a command once among many starters, under a lock in a database, a file or a cluster
    Run(Box<run::RunArguments>),
    /// Print the CustomResourceDefinition of MigrationGate as YAML
    Crd(crd::CrdArguments),
    #[command(hide = true)]
    Guard(guard::GuardArguments),
    #[command(hide = true)]
    GuardExec(guard::GuardExecArguments),
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
