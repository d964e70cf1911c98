//! The command `migration-gate-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    migration_gate::agent::main(std::env::args_os().skip(1))
}
