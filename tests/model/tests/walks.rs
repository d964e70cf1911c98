//! Random walks, each to the end of a migration.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use model::checker::Cluster;
use model::scenarios;
use model::walk::walk;

/// Walks over all clusters.
const SEEDS: u64 = 100_000;
/// Steps of a walk before it recovers.
const STEPS: usize = 120;

#[test]
fn every_walk_keeps_the_promises_and_ends_well() {
    let began = Instant::now();
    let clusters: Vec<_> =
        scenarios::all().into_iter().map(|(name, config)| (name, Cluster::to_walk(config))).collect();
    let each = SEEDS.div_ceil(clusters.len() as u64);
    let next = AtomicU64::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let walkers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((name, cluster)) = clusters.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                        for seed in 0..each {
                            if let Err((why, way)) = walk(cluster, seed, STEPS) {
                                return Some(format!("{name}, seed {seed}: {why}: {way:?}"));
                            }
                        }
                    }
                    None
                })
            })
            .collect();
        walkers.into_iter().filter_map(|walker| walker.join().expect("a walker doesn't panic")).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let (walks, seconds) = (each * clusters.len() as u64, began.elapsed().as_secs_f32());
    println!("{walks} walks of up to {STEPS} steps in {} clusters, {seconds:.1} s", clusters.len());
}
