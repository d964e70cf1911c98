//! The life: what people do to workloads, and what befalls them.
//!
//! [`plan`] makes it from a seed and its [`sizes`], out of [`workload`]s and [`act`]s; [`people`] carry it out, [`copies`] are what
//! somebody else makes of it, and [`operator`] answers for what waits for an operator.

pub mod act;
pub mod copies;
pub mod operator;
pub mod people;
pub mod plan;
pub mod sizes;
pub mod workload;

pub use copies::forged_attempt;
