//! `make test-faults`: injects every fault many times, prints the table, and fails if any promise was broken.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use faults::{Amount, Arena, Controller, Points, Result, STRIPPED, Table, all, enumerate, run, scale, strip};

#[derive(Debug, Parser)]
struct Arguments {
    /// How often each fault of a pod is injected
    #[arg(long, default_value_t = 5)]
    pods: usize,
    /// How often each fault of a node or of the control plane is injected
    #[arg(long, default_value_t = 2)]
    others: usize,
    /// Only the faults whose names contain one of these; the killing at every write is called `every write`
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The cluster's name: clusters with different names run side by side
    #[arg(long, default_value = "faults")]
    name: String,
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
    let mut arena = Arena::set_up(&arguments.name)?;
    let other = match &arguments.controller {
        Some(program) => {
            arena.controller.clone_from(program);
            scale(&arena, 0)?;
            Some(Controller::start(&arena, &arena.site.cluster.kubeconfig())?)
        }
        None => None,
    };
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part));
    let chosen: Vec<_> = all().into_iter().filter(|fault| wanted(fault.name)).collect();
    let mut table = run(&arena, &chosen, Amount { of_pods: arguments.pods, of_others: arguments.others })?;
    // Those that are killed take its place.
    drop(other);
    if wanted(STRIPPED) {
        table.0.push(strip(&arena, arguments.others)?);
    }
    if wanted("every write") {
        table.0.extend(enumerate(&arena, Points::All)?);
    }
    arena.site.cluster.down()?;
    Ok(table)
}
