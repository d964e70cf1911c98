//! Every interleaving of these clusters, within their numbers of faults.

use std::time::Instant;

use model::checker::Cluster;
use model::{explorer, scenarios};
use stateright::{Checker, Model};

/// Clusters small enough to be searched whole.
const WHOLE: &[&str] = &["calm", "crash", "strip", "rollout", "lost", "leaders", "group", "group-leaders"];
/// Clusters that are searched up to [`STATES`] different states, breadth first.
const PART: &[&str] =
    &["container", "disk", "deleted", "nodes", "orders", "leaders-fail", "vanish", "moving", "moving-group"];
/// See [`PART`].
const STATES: usize = 500_000;
/// A table of 2^22 states.
const BITS: u32 = 22;

#[test]
fn no_interleaving_breaks_a_promise() {
    let (began, mut all) = (Instant::now(), 0);
    for (name, whole) in WHOLE.iter().map(|name| (name, true)).chain(PART.iter().map(|name| (name, false))) {
        let config = scenarios::named(name).expect("a cluster of this name");
        let limit = if whole { usize::MAX } else { STATES };
        let (cluster, began) = (Cluster::new(config), Instant::now());
        let report = explorer::explore(&cluster, limit, 2, BITS, &|_, _, _| {});
        println!(
            "{name}: {} unique states of {}, depth {}, {:.1} s{}",
            report.unique,
            report.total,
            report.depth,
            began.elapsed().as_secs_f32(),
            if report.complete { ", all of them" } else { "" }
        );
        assert!(report.found.is_none(), "{name}: {:?}", report.found);
        assert_eq!(report.complete, whole, "{name}");
        all += report.unique;
    }
    println!("{all} unique states in {:.1} s", began.elapsed().as_secs_f32());
    assert!(all >= 1_000_000, "a million is promised");
}

/// The promises are stated as properties, too, for a checker that isn't ours.
#[test]
fn another_checker_agrees() {
    for name in ["calm", "leaders", "group"] {
        let config = scenarios::named(name).expect("a cluster of this name");
        let report = explorer::explore(&Cluster::new(config.clone()), usize::MAX, 1, BITS, &|_, _, _| {});
        let checker = Cluster::new(config).checker().spawn_bfs().join();
        checker.assert_properties();
        assert_eq!(checker.unique_state_count(), report.unique, "{name}");
    }
}
