//! Five rollouts of a small shop on a real cluster with a real database, as a demonstration and as a test.
//!
//! [`Site`] is the cluster with migration-gate installed the way a user would; [`Shop`] is the application on it;
//! [`steps`] are the rollouts, each of which checks what it shows; [`Table`] is what they come to.

mod delivery;
mod measure;
mod shop;
mod site;
pub mod speed;
pub mod steps;
mod table;
mod user;
mod wait;

pub use delivery::ByImageVolume;
pub use measure::{Ledger, Observed};
pub use shop::{Release, Shop, Visitor};
pub use site::{Artefacts, Site};
pub use table::{Row, Table};
pub use user::{Said, User};

/// Why a step could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster, the database or an image.
    #[error(transparent)]
    Cluster(#[from] testcluster::Error),
    /// An image that can't be made.
    #[error(transparent)]
    Image(#[from] testcluster::image::Error),
    /// A file or a process of the demonstration itself.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// What was promised is not so.
    #[error("not as promised: {0}")]
    Broken(String),
    /// An answer that can't be understood.
    #[error("an answer can't be understood: {0}")]
    Unreadable(String),
}

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

/// Fails unless what was promised holds.
///
/// # Errors
/// [`Error::Broken`] with the sentence.
pub fn promise(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Broken(otherwise())) }
}
