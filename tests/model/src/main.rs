//! `model NAME [STATES [THREADS [BITS]]]`: searches one of the named clusters, as far as asked.
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
    println!("{:?}\n{:?}\n{:?}", state.pods, state.locals, state.record);
    println!("{:?}\n{:?}", state.nodes, state.ghost);
}

/// Looks for every deliberate defect, by a search for so many states and by so many walks.
fn defects(states: usize, walks: usize) -> ExitCode {
    let mut missed = 0;
    for (mutant, config) in scenarios::defects() {
        let began = Instant::now();
        let cluster = Cluster::new(config);
        let report = explorer::explore(&cluster, states, 2, 22, &|_, _, _| {});
        if let Some((broken, way)) = report.found {
            println!("{mutant:?}: {broken:?} after {} steps, {:?}", way.len(), began.elapsed());
            continue;
        }
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

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let name = arguments.first().map_or("", String::as_str);
    if name == "defects" {
        return defects(number(1, 1_000_000), number(2, 5_000));
    }
    let Some(config) = scenarios::named(name) else {
        eprintln!("there is no cluster {name:?}; there are: {}", scenarios::names().join(", "));
        return ExitCode::from(2);
    };
    let cluster = Cluster::new(config);
    let began = Instant::now();
    if arguments.get(1).is_some_and(|text| text == "walk") {
        for seed in 0..number(2, 1000) {
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
    let progress = |depth: usize, layer: usize, unique: usize| {
        if layer > 1_000_000 {
            eprintln!("{name}: depth {depth}, {layer} to follow, {unique} found, {:?}", began.elapsed());
        }
    };
    let report = explorer::explore(&cluster, limit, threads, bits, &progress);
    println!(
        "{name}: {} unique states of {}, depth {}, complete: {}, {:?}",
        report.unique,
        report.total,
        report.depth,
        report.complete,
        began.elapsed()
    );
    match report.found {
        Some((broken, way)) => {
            println!("{name}: {broken:?}");
            tell(&cluster, &way);
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
