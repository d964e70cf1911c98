//! The checks can fail: each deliberate defect of the protocol is found.

use std::time::Instant;

use model::checker::Cluster;
use model::config::Config;
use model::mutants::Mutant;
use model::{explorer, scenarios, walk};

/// States to search for a defect before walks are tried.
const STATES: usize = 40_000;
/// Walks to look for a defect.
const WALKS: u64 = 30_000;
/// Steps of a walk before it recovers.
const STEPS: usize = 120;

/// What a defect breaks.
fn caught(config: Config) -> Option<String> {
    let report = explorer::explore(&Cluster::new(config.clone()), STATES, 2, 17, &|_, _, _| {});
    if let Some((broken, way)) = report.found {
        return Some(format!("{broken:?} after {} steps", way.len()));
    }
    let cluster = Cluster::to_walk(config);
    (0..WALKS).find_map(|seed| Some(format!("{} with seed {seed}", walk::walk(&cluster, seed, STEPS).err()?.0)))
}

#[test]
fn every_deliberate_defect_is_caught() {
    let mut missed: Vec<Mutant> = Vec::new();
    for (mutant, config) in scenarios::defects() {
        let began = Instant::now();
        match caught(config) {
            Some(how) => println!("{mutant:?}: {how}, {:.1} s", began.elapsed().as_secs_f32()),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "missed: {missed:?}");
}

#[test]
fn every_defect_is_looked_for() {
    for mutant in Mutant::ALL {
        assert!(scenarios::defects().iter().any(|(known, _)| known == mutant), "{mutant:?}");
    }
}
