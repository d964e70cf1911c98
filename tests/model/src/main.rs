//! Searches clusters further than the tests do.
//!
//! - `model NAME [STATES [THREADS [BITS]]]`: one of the named clusters, up to so many different states, with a table of
//!   2^BITS states. A state takes 16 bytes there, and some 150 more while it is to be followed.
//! - `model NAME walk [SEEDS [STEPS [FIRST]]]`: random walks instead, with the seeds from FIRST to SEEDS.
//! - `model deep [STATES]`: the clusters that no test searches whole, one after another, each up to so many states.
//! - `model defects [STATES [WALKS]]`: looks for each deliberate defect.

use std::process::ExitCode;
use std::time::Instant;

use model::checker::Cluster;
use model::scenarios;
use model::step::Step;
use model::{explorer, walk};

/// The way, and where it led to.
fn tell(cluster: &Cluster, way: &[Step]) {
    let mut state = cluster.start();
    for step in way {
        println!("  {step:?}");
        state = cluster.config.next(&state, &cluster.decisions, *step);
    }
    println!("{:?}\n{:?}\n{:?}", state.pods, state.locals, state.records);
    println!("{:?}\n{:?}", state.nodes, state.ghost);
}

/// Looks for every deliberate defect, by a search for so many states and by so many walks.
fn defects(states: usize, walks: usize) -> ExitCode {
    let mut missed = 0;
    for (mutant, config) in scenarios::defects() {
        let began = Instant::now();
        let cluster = Cluster::new(config.clone());
        let report = explorer::explore(&cluster, states, 2, 22, &|_, _, _| {});
        if let Some((broken, way)) = report.found {
            println!("{mutant:?}: {broken:?} after {} steps, {:?}", way.len(), began.elapsed());
            continue;
        }
        let cluster = Cluster::to_walk(config);
        let caught = (0..walks).find_map(|seed| Some((seed, walk::walk(&cluster, seed as u64, 120).err()?.0)));
        match caught {
            Some((seed, why)) => println!("{mutant:?}: {why} with seed {seed}, {:?}", began.elapsed()),
            None => {
                println!("{mutant:?}: missed among {} states, {:?}", report.unique, began.elapsed());
                missed += 1;
            }
        }
    }
    ExitCode::from(missed)
}

/// Searches every cluster that is too large for a test, each up to so many states.
fn deep(each: usize) -> ExitCode {
    let (began, mut all, mut broken) = (Instant::now(), 0, false);
    for (name, config) in scenarios::all() {
        let cluster = Cluster::new(config);
        let report = explorer::explore(&cluster, each, 2, 25, &progress(name, began));
        all += report.unique;
        tell_report(name, &report, began);
        println!("{all} unique states so far, {:.0} s", began.elapsed().as_secs_f32());
        if let Some((promise, way)) = &report.found {
            println!("{name}: {promise:?}");
            tell(&cluster, way);
            broken = true;
        }
    }
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn progress(name: &'static str, began: Instant) -> impl Fn(usize, usize, usize) {
    move |depth, layer, unique| {
        if layer > 500_000 {
            let seconds = began.elapsed().as_secs();
            eprintln!("{name}: depth {depth}, {layer} to follow, {unique} found, {seconds} s");
        }
    }
}

fn tell_report(name: &str, report: &explorer::Report, began: Instant) {
    println!(
        "{name}: {} unique states of {}, depth {}, {}, {:.1} s since the start",
        report.unique,
        report.total,
        report.depth,
        if report.complete { "all of them" } else { "not all" },
        began.elapsed().as_secs_f32()
    );
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let name = arguments.first().map_or("", String::as_str);
    if name == "defects" {
        return defects(number(1, 100_000), number(2, 30_000));
    }
    if name == "deep" {
        return deep(number(1, 10_000_000));
    }
    let Some(config) = scenarios::named(name) else {
        eprintln!("there is no cluster {name:?}; there are: {}", scenarios::names().join(", "));
        return ExitCode::from(2);
    };
    let cluster = Cluster::new(config.clone());
    let began = Instant::now();
    if arguments.get(1).is_some_and(|text| text == "walk") {
        let cluster = Cluster::to_walk(config);
        for seed in number(4, 0)..number(2, 1000) {
            if let Err((why, way)) = walk::walk(&cluster, seed as u64, number(3, 120)) {
                println!("{name}: seed {seed}: {why}");
                tell(&cluster, &way);
                return ExitCode::FAILURE;
            }
        }
        println!("{name}: walks done in {:?}", began.elapsed());
        return ExitCode::SUCCESS;
    }
    let (limit, threads) = (number(1, 1_000_000), number(2, 2));
    let bits = u32::try_from(number(3, 24)).unwrap_or(24);
    let name = scenarios::names().into_iter().find(|known| *known == name).unwrap_or_default();
    let report = explorer::explore(&cluster, limit, threads, bits, &progress(name, began));
    tell_report(name, &report, began);
    match report.found {
        Some((broken, way)) => {
            println!("{name}: {broken:?}");
            tell(&cluster, &way);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
