//! Every fault that a cluster deals out, injected into a real one while a migration runs.
//!
//! The migration is a *witness*: it holds two locks and writes down when it starts and ends, so that the database
//! itself would notice two at once. [`Arena`] is the cluster with migration-gate on it; a [`Case`] is one Deployment
//! whose migration is hurt by one fault; what comes of it is [tallied](Tally) into a row of the [`Table`].
//!
//! The order of the modules is that of a case: where it happens, what is hurt, how it is hurt, what it comes to.

mod api;
mod arena;
mod case;
mod control_faults;
mod node_faults;
mod outside;
mod pod_faults;
mod processes;
mod proxy;
mod run;
mod shape;
mod stripped;
mod table;
mod writes;

pub use api::Api;
pub use arena::Arena;
pub use case::{Case, Run, Tally};
pub use control_faults::scale;
pub use outside::Controller;
pub use run::{Amount, Company, Fault, Injected, Rounds, Verdict, Way, run};
pub use stripped::{STRIPPED, strip};
pub use table::{Row, Table};
pub use writes::{Points, enumerate};

use shape::{Shape, Temper};

/// Every fault.
#[must_use]
pub fn all() -> Vec<Fault> {
    [pod_faults::ALL, node_faults::ALL, control_faults::ALL].concat()
}

/// Those that take less than half a minute, without the time that a cut-off node must be left alone; and one whose
/// command lives as long as it can.
#[must_use]
pub fn quick() -> Vec<Fault> {
    // One takes longer than all others: it is begun first, and they run beside it. Of those whose command does not heed
    // SIGTERM it is enough here; the others' command does.
    let longest = pod_faults::ALL.iter().filter(|fault| fault.name == pod_faults::CONFIRMED);
    let pods = pod_faults::ALL.iter().filter(|fault| !fault.name.starts_with(pod_faults::CONFIRMED));
    let nodes =
        node_faults::ALL.iter().filter(|fault| fault.name.contains("drained") || fault.name.contains("rebooted"));
    let others = pods.chain(&control_faults::ALL[..2]).chain(nodes);
    let meek = others.map(|fault| Fault {
        shape: Shape { temper: Temper::Meek, grace: Shape::USUAL.grace, ..fault.shape },
        ..*fault
    });
    longest.copied().chain(meek).collect()
}

/// Why a fault could not be injected, or what came of it not be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster, the database or an image.
    #[error(transparent)]
    Cluster(#[from] testcluster::Error),
    /// The installation.
    #[error(transparent)]
    Site(#[from] demo::Error),
    /// A file or a process of the test itself.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The API server did not do what it was asked to.
    #[error("{0}")]
    Refused(String),
    /// An answer that can't be understood.
    #[error("{0}")]
    Unreadable(String),
    /// What was promised is not so.
    #[error("not as promised: {0}")]
    Broken(String),
}

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, Error>;

/// Fails unless what was promised holds.
///
/// # Errors
/// [`Error::Broken`] with the sentence.
pub fn promise(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Broken(otherwise())) }
}
