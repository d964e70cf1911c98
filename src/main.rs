//! The command `migration-gate`: arguments in, role out.

use std::process::ExitCode;

use clap::Parser;
use migration_gate::cli::{Arguments, Exit};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody reads what can't be printed. Help and version go to standard output and are no errors.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match arguments.run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("migration-gate: {failure}");
            failure.exit.into()
        }
    }
}
