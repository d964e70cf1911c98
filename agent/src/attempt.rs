//! What an attempt consists of, how it ends, and the exit codes that say so.

use migration_gate_contract::{Outcome, Verdict};

/// The exit code of an agent that was started with arguments that it does not understand: sysexits' EX_USAGE.
pub const EXIT_USAGE: u8 = 64;
/// The exit code of an agent that can't install itself: sysexits' EX_CANTCREAT.
pub const EXIT_CANNOT_INSTALL: u8 = 73;
/// The exit code of an agent that finds no signal directory, or can't read it: sysexits' EX_CONFIG.
pub const EXIT_CONFIG: u8 = 78;
/// The exit code of an agent whose attempt was not started: sysexits' EX_TEMPFAIL.
pub const EXIT_NOT_STARTED: u8 = 75;
/// The exit code of an agent that ended its command because time was up, as of coreutils' `timeout`.
pub const EXIT_TIMED_OUT: u8 = 124;
/// The exit code of an agent that was asked to stop, whether it waited or ran: 128 + SIGTERM.
pub const EXIT_STOPPED: u8 = 143;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ending {
    /// The outcome that is reported.
    pub outcome: Outcome,
    /// How the command that decided it ended, if one ran and its end is known.
    pub exit: Option<Exit>,
}

impl Ending {
    /// The command was not started.
    pub const NOT_STARTED: Ending = Ending { outcome: Outcome::NotStarted, exit: None };
    /// The command was started, and its end is unknown.
    pub const INTERRUPTED: Ending = Ending { outcome: Outcome::Interrupted, exit: None };

    /// The ending that a verdict tells of.
    pub fn of(verdict: &Verdict) -> Ending {
        let exit = match (verdict.signal, verdict.exit_code) {
            (Some(signal), _) => Some(Exit::Signal(signal)),
            (None, code) => code.map(Exit::Code),
        };
        Ending { outcome: verdict.outcome, exit }
    }

    /// The agent's own exit code: 0 if and only if the attempt succeeded. A failed command's own code is kept, as far
    /// as it is one, because that is what people look for.
    pub fn code(self) -> u8 {
        match (self.outcome, self.exit) {
            (Outcome::Succeeded, _) => 0,
            (Outcome::Failed, Some(Exit::Code(code))) => u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(1),
            (Outcome::Failed, Some(Exit::Signal(signal))) => u8::try_from(signal.saturating_add(128)).unwrap_or(1),
            (Outcome::Failed, None) => 1,
            (Outcome::TimedOut, _) => EXIT_TIMED_OUT,
            (Outcome::Interrupted, _) => EXIT_STOPPED,
            (Outcome::NotStarted, _) => EXIT_NOT_STARTED,
        }
    }
}

/// What an attempt consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// The command.
    Command,
    /// The command and, if it succeeded, the one that verifies it.
    CommandAndVerify,
}

/// One of the commands of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The command.
    Command,
    /// The one that verifies it.
    Verify,
}
