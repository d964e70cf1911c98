//! Each fault once, where it is quick. The long run is `make test-faults`.

use faults::{Amount, Arena, Points, Result, enumerate, run};

#[test]
fn no_fault_makes_it_run_twice_loses_an_outcome_or_leaves_a_pod_stuck() -> Result<()> {
    let arena = Arena::set_up("t-faults")?;
    let mut table = run(&arena, &faults::quick(), Amount { of_pods: 1, of_others: 1 })?;
    assert!(table.0.iter().all(|row| row.times() == 1), "\n{table}");
    table.0.extend(enumerate(&arena, Points::OneOf(5))?);
    println!("{table}");
    assert!(table.is_clean(), "\n{table}");
    arena.site.cluster.down()?;
    Ok(())
}
