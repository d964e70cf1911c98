//! What can go wrong.

use std::path::PathBuf;

/// Everything that this crate reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A document of the image lacks something that the specification requires.
    #[error("the image does not follow the specification: {0}")]
    Document(#[from] oci_spec::OciSpecError),
    /// An archive can't be put together, for example because a path is too long.
    #[error("the archive can't be put together: {0}")]
    Archive(#[from] std::io::Error),
}

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
