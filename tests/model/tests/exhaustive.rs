//! Every interleaving of these clusters, within their numbers of faults.

use model::checker::Cluster;
use model::scenarios;
use stateright::{Checker, Model};

/// Searches the whole cluster with this name.
fn check(name: &str) {
    let config = scenarios::named(name).expect("a cluster of this name");
    let checker = Cluster::new(config).checker().threads(2).spawn_bfs().join();
    println!("{name}: {} unique states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn nothing_goes_wrong() {
    check("calm");
}

#[test]
fn one_fault_of_a_controller_or_a_container() {
    check("crash");
}

#[test]
fn two_leaders_at_once() {
    check("leaders");
}

#[test]
fn two_workloads_share_a_database() {
    check("group");
}
