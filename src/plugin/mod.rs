//! The verbs for people: see, explain, steer and remove. Each is a subcommand of `migration-gate`, and of `kubectl
//! migration-gate` where the same program is on the PATH as `kubectl-migration_gate`.
//!
//! A verb reaches the [`cluster`] with its user's kubeconfig and rights; what fails is a [`problem`] in words that say what
//! helps. [`seen`] makes of what was read the snapshot that the controller decides on, and [`reason`] explains it by the
//! controller's own rules. [`orders`] writes what operators order. [`terminal`], [`table`] and [`format`] are the only
//! places that know how text looks.

mod cluster;
mod completions;
mod confirm_dead;
mod eject;
mod explain;
mod format;
mod history;
mod leaving;
mod lines;
mod logs;
mod orders;
mod pods;
mod problem;
mod reason;
mod release;
mod seen;
mod status;
mod steer;
mod subject;
mod table;
mod terminal;

use clap::{Command, Subcommand};

use crate::cli::{Exit, Failure};
use problem::Problem;

pub(crate) use completions::answer_kubectl;

/// A verb.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show where each migration stands
    Status(status::StatusArguments),
    /// Say why a workload's pods are not ready, and what would release them
    Explain(explain::ExplainArguments),
    /// Show the log of a migration's runner
    Logs(logs::LogsArguments),
    /// List a workload's migrations and attempts, and the orders that were given
    History(history::HistoryArguments),
    /// Forget a migration's failures, and try it again
    Retry(steer::RetryArguments),
    /// Let a suspended migration run
    Approve(steer::ApproveArguments),
    /// Treat a migration as succeeded without running it
    MarkSucceeded(steer::MarkSucceededArguments),
    /// Vouch that the active attempt's process is dead
    ConfirmDead(confirm_dead::ConfirmDeadArguments),
    /// Open one pod's gate by hand, past the controller (break-glass)
    Release(release::ReleaseArguments),
    /// Take workloads out of migration-gate, without leaving anybody stuck
    Eject(eject::EjectArguments),
    /// Print a script that completes commands in a shell
    Completions(completions::CompletionsArguments),
}

/// How the program was called, for the commands that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// By its own name.
    Program,
    /// As a plugin of kubectl.
    Kubectl,
}

impl Caller {
    fn words(self) -> &'static str {
        match self {
            Caller::Program => "migration-gate",
            Caller::Kubectl => "kubectl migration-gate",
        }
    }
}

impl Verb {
    /// Does what the verb says.
    pub(crate) fn run(self, caller: Caller, command: Command) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::System, error))?;
        let result = runtime.block_on(self.carry_out(caller, command));
        runtime.shutdown_background();
        Ok(result?)
    }

    async fn carry_out(self, caller: Caller, command: Command) -> Result<(), Problem> {
        match self {
            Verb::Status(arguments) => arguments.run().await,
            Verb::Explain(arguments) => arguments.run(caller.words()).await,
            Verb::Logs(arguments) => arguments.run().await,
            Verb::History(arguments) => arguments.run().await,
            Verb::Retry(arguments) => arguments.run().await,
            Verb::Approve(arguments) => arguments.run().await,
            Verb::MarkSucceeded(arguments) => arguments.run().await,
            Verb::ConfirmDead(arguments) => arguments.run().await,
            Verb::Release(arguments) => arguments.run().await,
            Verb::Eject(arguments) => arguments.run().await,
            Verb::Completions(arguments) => arguments.run(command),
        }
    }
}
