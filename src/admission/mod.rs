//! Admission: what the webhook does to a workload, as a pure function from review to answer.
//!
//! The life of a review follows the files: `review` reads the bytes and writes the answer, `decide` says what happens
//! to the workload, `inject` and `strip` change its pod template, `patch` says so in JSON Patch. Of the review, `reader`
//! takes the fields that matter and goes `past` the others; the template, where it is looked into, is a tree of `json` that
//! borrows from the review and lives in its `arena`. `offline` does the same to
//! the objects of a file; `audit` only says what would be done. Nothing here does I/O, keeps state or looks at a clock: the same manifest gives the same object.

mod arena;
mod audit;
mod canonical;
mod decide;
mod denial;
mod fingerprint;
mod inject;
mod injected;
mod json;
mod offline;
mod past;
mod patch;
mod plan;
mod platform;
mod reader;
mod review;
mod strip;
mod template;
mod warnings;
mod workload;

pub use audit::Mode;
pub use offline::{Migration, Rendered, asks, migration, render, unrender, workload_kind};
pub use review::{Answer, Decision, Operation, ReviewError, Subject, review};

/// What an installation of the webhook puts into its injections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Our image, which holds the agent.
    pub agent_image: String,
    /// How the agent gets into the pod.
    pub delivery: AgentDelivery,
    /// The version of this program, written into each injection.
    pub version: &'static str,
}

/// How the agent's binary gets into a gated pod. The choice doesn't change the migration's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AgentDelivery {
    /// An init container of our image copies it into the volume. Works everywhere.
    #[default]
    InstallContainer,
    /// Our image is mounted as a volume: one container less to start, where the runtime mounts images executable.
    ImageVolume,
}

#[cfg(test)]
mod tests;
