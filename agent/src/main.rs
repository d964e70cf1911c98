//! The command `migration-gate-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    migration_gate_agent::main(std::env::args_os().skip(1))
}
