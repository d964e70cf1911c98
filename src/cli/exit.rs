//! Exit codes, as in BSD's sysexits.h.

use std::fmt;
use std::process::ExitCode;

use crate::supervise::with_causes;

/// How the process ends when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// The command line is wrong (EX_USAGE).
    Usage,
    /// What was given is not valid, or would be refused (EX_DATAERR).
    Data,
    /// A file that was given can't be read (EX_NOINPUT).
    NoInput,
    /// An address or a service that is needed is not to be had (EX_UNAVAILABLE).
    Unavailable,
    /// A task of the program ended that never should (EX_SOFTWARE).
    Software,
    /// The operating system refused something (EX_OSERR).
    System,
    /// Something can't be written that must be before anything is done (EX_CANTCREAT).
    CannotCreate,
    /// What was done could not be recorded (EX_IOERR).
    Unrecorded,
    /// The same may succeed if it is tried again (EX_TEMPFAIL).
    Temporary,
    /// A password is wrong or a right is missing (EX_NOPERM).
    NoPermission,
    /// The migration that was followed failed for good.
    Failed,
    /// A file that belongs to the installation is missing or unfit, as the certificate (EX_CONFIG).
    Config,
}

/// The table for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
   0  done, or ended because it was asked to
   1  `logs --follow`: the migration failed and has no attempts left
  64  the command line is wrong, or the answer to a question was no
  65  a manifest is not valid, would be refused, or is labelled and of a kind that is not gated; a verb makes no sense for
      what was found, or was refused
  66  a file that was given can't be read
  69  an address or a service that is needed is not to be had
  70  a part of the program ended that never should
  71  the operating system refused something
  73  `run`: the history can't be written, so nothing was run
  74  `run`: the command succeeded, but that could not be recorded
  75  `run`: the lock was not free in time, or it was lost and the command was ended; a verb: not in time
  77  a password is wrong, credentials are not accepted or a right is missing
  78  a file of the installation is missing or unfit, such as the certificate, or the kubeconfig can't be used
`run` passes on the code of a command that failed, or 128 and the number of the signal that ended it; 127 and 126 as of
a shell: the command was not found, or can't be executed.";

/// The table for the plugin's `--help`.
pub(super) const PLUGIN_HELP: &str = "\
Exit codes:
   0  done
   1  `logs --follow`: the migration failed and has no attempts left
  64  the command line is wrong, or the answer to a question was no
  65  the verb makes no sense for what was found, or was refused; the message says why
  66  a file that was given can't be read
  69  the API server does not answer
  75  something did not happen in time, or somebody else wrote at the same time; the same may succeed later
  77  the credentials are not accepted, or a right is missing; the message names it
  78  the kubeconfig can't be used";

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Usage => 64,
            Exit::Data => 65,
            Exit::NoInput => 66,
            Exit::Unavailable => 69,
            Exit::Software => 70,
            Exit::System => 71,
            Exit::CannotCreate => 73,
            Exit::Unrecorded => 74,
            Exit::Temporary => 75,
            Exit::NoPermission => 77,
            Exit::Failed => 1,
            Exit::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why the program failed: for people, and for scripts.
#[derive(Debug)]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    reason: String,
}

impl Failure {
    /// A failure with an error's text and causes.
    pub fn new(exit: Exit, error: impl std::error::Error) -> Failure {
        Failure { exit, reason: with_causes(&error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}
