//! `migration-gate guard` and `guard-exec`: what `migration-gate run` starts itself as.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Exit, Failure};
use crate::run::guard::{self, Task};

/// Guard a command for `migration-gate run`; of no use by itself.
#[derive(Debug, Args)]
pub(super) struct GuardArguments {
    #[arg(long)]
    socket: String,
    #[arg(long)]
    parent: u32,
    #[arg(long)]
    watchdog: Option<u64>,
    #[arg(long)]
    terminal: bool,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl GuardArguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let task = Task {
            socket: self.socket,
            parent: self.parent,
            watchdog: self.watchdog.map(Duration::from_millis),
            terminal: self.terminal,
            command: self.command,
        };
        guard::run(&task).map_err(|error| Failure::new(Exit::System, error))
    }
}

/// Become a command that dies with its guard; of no use by itself.
#[derive(Debug, Args)]
pub(super) struct GuardExecArguments {
    guard: u32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl GuardExecArguments {
    pub(super) fn run(self) -> ExitCode {
        guard::exec(self.guard, &self.command).into()
    }
}
