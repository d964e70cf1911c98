//! `migration-gate run` against real servers: many starters, killed holders, lost locks, bad inputs.
//!
//! The figures of the long versions come from MIGRATION_GATE_LONG=1 (`make test-run-long`).

mod exits;
mod fence;
mod figures;
mod losses;
mod many;
mod mariadb;
mod pgbouncer;
mod proxy;
mod recipes;
mod starter;
mod tls;
mod vanished;
