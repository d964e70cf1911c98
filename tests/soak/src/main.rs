//! `make soak`: lives a long life, says what was seen, and fails if a promise was broken.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use soak::Arguments;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
struct Line {
    /// About how long it lasts, in seconds; up to 180 it is a small life
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// What it is made from; without one a new one is taken, and told
    #[arg(long)]
    seed: Option<u64>,
    /// migration-gate's program
    #[arg(long, default_value = "target/debug/migration-gate")]
    program: PathBuf,
    /// The cluster's name: clusters with different names run side by side
    #[arg(long, default_value = "soak")]
    name: String,
    /// To narrow a failure down: leave out what is told with one of these words, such as Forged or RestartApi
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// To narrow a failure down: no group has more workloads than this at first
    #[arg(long)]
    largest: Option<u64>,
    /// Go on with the next phase after a promise was seen broken
    #[arg(long)]
    keep_going: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Line { seconds, seed, program, name, without, largest, keep_going } = Line::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = seed.unwrap_or(now.as_secs() % 1_000_000);
    let arguments = Arguments { seconds, seed, program, name, without, largest, keep_going };
    let mut term = match signal(SignalKind::terminate()) {
        Ok(term) => term,
        Err(error) => {
            eprintln!("SIGTERM can't be handled: {error}");
            return ExitCode::FAILURE;
        }
    };
    let interrupted = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = term.recv() => {}
        }
    };
    let lived = tokio::select! {
        lived = soak::live(&arguments) => lived,
        () = interrupted => {
            eprintln!("[soak] interrupted, with SEED={seed}");
            return ExitCode::FAILURE;
        }
    };
    match lived {
        Ok(report) => {
            println!("\n{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the life could not be lived, with SEED={seed}: {error}");
            ExitCode::FAILURE
        }
    }
}
