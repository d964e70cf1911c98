//! `make demo`: boots a cluster, installs migration-gate, and shows five rollouts. KEEP=1 leaves everything up until
//! Ctrl-C.

use std::process::ExitCode;

use demo::{Result, Shop, Site, Table, steps};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    match show() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nthe demonstration failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<()> {
    let begin = std::time::Instant::now();
    let site = Site::set_up("demo", 1)?;
    let shop = Shop::open(&site)?;
    println!("\nA shop with a PostgreSQL database; goose migrates it. What is added to its Deployment:");
    println!("  labels:      migration-gate.dev/gated: \"true\"");
    println!("  annotations: migration-gate.dev/command: /bin/shop ledger /bin/goose up");
    println!("(`shop ledger` writes each run into the database, under a lock, so that the database is the witness.)");
    let mut table = Table::default();
    for step in
        [steps::first_rollout, steps::scale_up, steps::slow_migration, steps::failing_migration, steps::roll_back]
    {
        table.0.push(step(&shop)?);
    }
    println!("\n{table}");
    println!("All as promised, in {:.0} s from nothing.", begin.elapsed().as_secs_f32());
    if std::env::var_os("KEEP").is_some_and(|keep| keep != "0") {
        stay(&site)?;
    }
    site.cluster.down()?;
    Ok(())
}

fn stay(site: &Site) -> Result<()> {
    let end = |error| demo::Error::System { what: "waiting for Ctrl-C".to_owned(), error };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(end)?;
    println!("\nEverything stays up until Ctrl-C. To play with it, in another terminal:");
    println!("  export KUBECONFIG={}", site.cluster.kubeconfig().display());
    signals.forever().next();
    Ok(())
}
