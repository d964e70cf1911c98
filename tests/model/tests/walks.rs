//! Random walks, each to the end of a migration.

use model::checker::Cluster;
use model::scenarios;
use model::walk::walk;

/// Walks of each cluster.
const SEEDS: u64 = 600;
/// Steps of a walk before it recovers.
const STEPS: usize = 120;

#[test]
fn every_walk_keeps_the_promises_and_ends_well() {
    for (name, config) in scenarios::all() {
        let cluster = Cluster::new(config);
        for seed in 0..SEEDS {
            if let Err((why, way)) = walk(&cluster, seed, STEPS) {
                panic!("{name}, seed {seed}: {why}: {way:?}");
            }
        }
    }
}
