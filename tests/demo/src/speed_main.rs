//! `make bench-node`: how long what takes on a real node, as a table for docs/performance.md.

use std::process::ExitCode;

use demo::{Result, Site, speed};
use testcluster::{Options, Profile};

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the measurement failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let site = Site::with(Options::new("speed", Profile::Node { nodes: 1 }).audit())?;
    for line in speed::measure(&site)? {
        println!("{line}");
    }
    site.cluster.down()?;
    Ok(())
}
