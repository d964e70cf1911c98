//! `make bench-webhook`: the webhook beside a controller-runtime webhook that makes the same patch, and beside a handler
//! that does nothing on the same HTTP stack. Prints the tables of docs/performance.md.

mod api;
mod compare;
mod floor;
mod instructions;
mod load;
mod reviews;
mod rivals;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Why a measurement could not be made. A person reads it, so any text will do.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the servers by themselves: one core for the server, another for the load
    Compare {
        /// The webhook's program
        #[arg(long)]
        program: PathBuf,
        /// How often each load is put on each server; the table shows medians
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Milliseconds that each load lasts
        #[arg(long, default_value_t = 1000)]
        milliseconds: u64,
    },
    /// Measure what each adds to a real API server's answer
    Api {
        /// The webhook's program
        #[arg(long)]
        program: PathBuf,
        /// How many Deployments are created through each
        #[arg(long, default_value_t = 1000)]
        creations: usize,
    },
    /// Count the instructions that a request takes, with valgrind: the figure that no load of the machine moves
    Instructions {
        /// The webhook's program
        #[arg(long)]
        program: PathBuf,
        /// How many requests of each kind are counted
        #[arg(long, default_value_t = 200)]
        requests: usize,
    },
    /// Serve a handler that does nothing
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        tls_dir: PathBuf,
        /// A file with the patch to send, in base64
        #[arg(long)]
        patch: Option<PathBuf>,
    },
}

fn main() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::Compare { program, rounds, milliseconds } => {
            let mut core = CpuSet::new();
            core.set(rivals::SERVERS_CORE + 1);
            sched_setaffinity(None, &core).map_err(|error| format!("two cores are needed: {error}"))?;
            println!("{}", compare::run(&program, rounds, Duration::from_millis(milliseconds))?);
        }
        Command::Api { program, creations } => println!("{}", api::run(&program, creations)?),
        Command::Instructions { program, requests } => println!("{}", instructions::run(&program, requests)?),
        Command::Floor { listen, tls_dir, patch } => {
            let patch = patch.map(std::fs::read_to_string).transpose()?;
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?
                .block_on(floor::serve(listen, &tls_dir, patch))?;
        }
    }
    Ok(())
}
