//! What `migration-gate run` needs beside the library that has the locks: the guard between the wrapper and its
//! command, which shares the agent's way with processes, the lock that is a Lease, and the report for who started it.

pub mod guard;
pub mod lease;
pub mod report;

/// The variable that holds the lock's URL, unless another is named.
pub const LOCK_VARIABLE: &str = "MIGRATION_GATE_LOCK";
