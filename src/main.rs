//! The command `migration-gate`: arguments in, role out.

use std::process::ExitCode;

use migration_gate::cli::{Exit, Program};

fn main() -> ExitCode {
    let program = match Program::try_parse(std::env::args_os()) {
        Ok(program) => program,
        Err(error) => {
            // Nobody reads what can't be printed. Help and version go to standard output and are no errors.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match program.run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("migration-gate: {failure}");
            failure.exit.into()
        }
    }
}
