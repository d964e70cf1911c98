//! A small web shop: it serves what its database holds, and it can say what was done to that database.
//!
//! `shop serve` is the application. `shop ledger COMMAND…` runs a migration tool and writes down in the database itself
//! when it started and ended; it holds a session advisory lock meanwhile, so that the database would notice two at
//! once. `shop visit URL` is a customer who asks all the time until its input ends, and then tells how often it was
//! refused.

mod ledger;
mod serve;
mod visit;

use std::process::ExitCode;

use clap::Parser;

/// What went wrong, in a sentence.
type Failure = Box<dyn std::error::Error>;

#[derive(Debug, Parser)]
enum Arguments {
    /// Serve the shop on port 8080
    Serve,
    /// Run a migration tool, and write down in the database when it started and ended
    Ledger {
        /// The tool and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Ask ADDRESS:PORT all the time until the standard input ends
    Visit {
        /// Where the shop is
        address: String,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse() {
        Arguments::Visit { address } => visit::visit(&address),
        Arguments::Serve => asynchronously(serve::serve()),
        Arguments::Ledger { command } => asynchronously(ledger::ledger(&command)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("shop: {error}");
        ExitCode::FAILURE
    })
}

fn asynchronously(role: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(role)
}

/// A session of its own with the database that DATABASE_URL names.
async fn database() -> Result<tokio_postgres::Client, Failure> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("shop: the connection to the database ended: {error}");
        }
    });
    Ok(client)
}
