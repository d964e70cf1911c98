//! `make test-faults`: injects every fault many times, prints the table, and fails if any promise was broken.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use faults::{Amount, Arena, Controller, Points, Result, Table, all, enumerate, run, scale};

#[derive(Debug, Parser)]
struct Arguments {
    /// How often each fault of a pod is injected
    #[arg(long, default_value_t = 5)]
    pods: usize,
    /// How often each fault of a node or of the control plane is injected
    #[arg(long, default_value_t = 2)]
    others: usize,
    /// Only the faults whose names contain this
    #[arg(long, default_value = "")]
    only: String,
    /// Runs this program's controller, outside of the cluster, in place of those in it: a broken one, say
    #[arg(long)]
    controller: Option<PathBuf>,
}

fn main() -> ExitCode {
    match hurt(&Arguments::parse()) {
        Ok(table) => {
            println!("\n{table}");
            if table.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the faults could not be injected: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hurt(arguments: &Arguments) -> Result<Table> {
    let arena = Arena::set_up("faults")?;
    let mut _other = None;
    if let Some(program) = &arguments.controller {
        scale(&arena, 0)?;
        _other = Some(Controller::start(&arena, Some(program), &arena.site.cluster.kubeconfig())?);
    }
    let chosen: Vec<_> = all().into_iter().filter(|fault| fault.name.contains(&arguments.only)).collect();
    let mut table = run(&arena, &chosen, Amount { of_pods: arguments.pods, of_others: arguments.others })?;
    if "a write".contains(&arguments.only) {
        table.0.extend(enumerate(&arena, Points::All)?);
    }
    arena.site.cluster.down()?;
    Ok(table)
}
