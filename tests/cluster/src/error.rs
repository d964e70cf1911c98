//! What can go wrong, each in a sentence that says what to look at next.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that this crate reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something; said before anything is started.
    #[error("{0}")]
    Preflight(String),
    /// A program that should have succeeded did not.
    #[error("`{command}` failed ({status}): {output}")]
    Command {
        /// The command line, without its environment.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// A component ended by itself.
    #[error("{component} ended by itself; the end of {}:\n{tail}", log.display())]
    Ended {
        /// Which component.
        component: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of that file.
        tail: String,
    },
    /// Something did not come true in time.
    #[error("gave up after {} s waiting for {what}: {last}", after.as_secs())]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// What was seen last.
        last: String,
    },
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// An image can't be made.
    #[error(transparent)]
    Image(#[from] oci_image::Error),
    /// An answer could not be understood, or a request makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the file in the errors of file operations.
pub(crate) trait At<T> {
    /// The same result, its error naming `path`.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::File { path: path.to_owned(), source })
    }
}
