//! migration-gate runs a workload's schema migration once, in one pod, before any new pod takes traffic.
//!
//! Three programs share this library. The webhook injects a readiness gate and a migration init container
//! into labelled workloads; the controller elects one waiting pod, records the outcome and opens the gates; the
//! agent waits inside the init container and runs the command. They meet only in the [contract].

pub mod admission;
pub mod api_error;
pub mod cli;
pub mod controller;
pub mod group;
pub mod health;
pub mod metrics;
pub mod migration;
pub mod otlp;
pub mod page;
mod plugin;
pub mod run;
pub mod server;
pub mod settings;
pub mod supervise;
pub mod telemetry;
pub mod tls;
pub mod webhook;

pub use migration_gate_agent as agent;
pub use migration_gate_contract as contract;
