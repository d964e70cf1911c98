//! The command `migration-gate`.
fn main() {}
