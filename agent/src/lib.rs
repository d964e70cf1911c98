//! The agent: waits inside the migration init container, in the app's own image, and runs the command when its pod is
//! elected.
//!
//! [`machine`] decides, with [`past`] as its memory, and [`run`](mod@run) does; [`signal`] and [`journal`] are what both
//! speak of. The rest is one thing a file: [`args`], [`install`], [`watch`] (the signal directory), [`wait_for`] and
//! [`probe`], [`running`] with [`output`] and [`family`], [`fence`], [`report`], [`notify`] (Unix signals), [`say`].
//!
//! # Exit codes
//!
//! | code | meaning |
//! |---|---|
//! | 0 | the pass was there, or the attempt succeeded |
//! | the command's own, or 128 + its signal | the attempt failed; 127 and 126: the command could not be started |
//! | 64 | arguments that it does not understand |
//! | 73 | the agent could not be installed |
//! | 75 | the attempt was not started |
//! | 78 | there is no signal directory |
//! | 124 | the time limit was over |
//! | 143 | asked to stop, while it waited or while the command ran |
//!
//! They are for people. What counts is the verdict in the termination message: Kubernetes can make up an exit code, and
//! a command's own may be any of these.

pub mod args;
pub mod attempt;
pub mod family;
pub mod fence;
pub mod install;
pub mod journal;
pub mod machine;
pub mod notify;
pub mod output;
pub mod past;
pub mod probe;
pub mod report;
pub mod run;
pub mod running;
pub mod say;
pub mod signal;
mod tls_anybody;
pub mod wait_for;
pub mod watch;

#[cfg(test)]
mod journal_rules;
#[cfg(test)]
mod machine_laws;
#[cfg(test)]
mod machine_rules;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use args::{Paths, Task};
use attempt::{EXIT_CANNOT_INSTALL, EXIT_USAGE};
use report::Message;

/// Does what the arguments (without the program's own name) say.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut message = Message::at(Paths::below(Path::new("/")).message);
    let code = match args::parse(arguments) {
        Ok(Task::Run(task)) => run::run(*task),
        Ok(Task::Install(to)) => match install::install(&to.agent, &to.others) {
            Ok(()) => 0,
            Err(sentence) => {
                run::complain(&mut message, &sentence);
                EXIT_CANNOT_INSTALL
            }
        },
        Err(sentence) => {
            run::complain(&mut message, &sentence);
            EXIT_USAGE
        }
    };
    ExitCode::from(code)
}
