//! The command `migration-gate-agent`.
fn main() {}
