//! The agent: waits inside the migration init container, and runs the command when its pod is elected.

pub mod attempt;
pub mod journal;
pub mod machine;
pub mod signal;

#[cfg(test)]
mod machine_laws;
#[cfg(test)]
mod machine_rules;
