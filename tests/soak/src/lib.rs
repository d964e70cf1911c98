//! A long life: hundreds of workloads that come, change, move, fail, are ordered about, deleted and copied, on a real API
//! server with its real controllers, while migration-gate's controllers are killed and stopped and the API server is
//! started again; and a witness that compares what it sees with what is promised.
//!
//! [`life`] is made from a seed and carried out against the API; [`kubelet`] plays the nodes, with the agent's real state
//! machine in every pod; [`witness`] judges. [`day`] puts them together: after each phase of the life comes an evening, in
//! which everything must come to its end and to rest.

pub mod api;
pub mod audit;
pub mod chronicle;
pub mod day;
pub mod dice;
pub mod install;
pub mod kubelet;
pub mod life;
pub mod pair;
pub mod processes;
pub mod report;
pub mod rest;
pub mod script;
pub mod watching;
pub mod witness;

use std::path::Path;

pub use day::{Arguments, live};
pub use report::Report;

/// Why a life could not be lived, or what came of it not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] testcluster::Error),
    /// A file or a process of the test itself.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// Something that is needed can't be used.
    #[error("{0}")]
    Unusable(String),
}

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the system about a file.
pub(crate) fn system(path: &Path, error: std::io::Error) -> Error {
    Error::System { what: path.display().to_string(), error }
}
