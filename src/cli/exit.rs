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
    /// A file that belongs to the installation is missing or unfit, as the certificate (EX_CONFIG).
    Config,
}

/// The table for `--help`.
pub(super) const HELP: &str = "\
Exit codes:
   0  done, or ended because it was asked to
  64  the command line is wrong
  65  a manifest is not valid, or would be refused
  66  a file that was given can't be read
  69  an address or a service that is needed is not to be had
  70  a part of the program ended that never should
  71  the operating system refused something
  78  a file of the installation is missing or unfit, such as the certificate";

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
