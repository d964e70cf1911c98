//! What `migration-gate run` needs beside the library that has the locks: the guard between the wrapper and its
//! command, which shares the agent's way with processes, and the lock that is a Lease.

pub mod guard;
pub mod lease;
