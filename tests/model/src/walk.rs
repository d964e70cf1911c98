//! Random walks: deeper than any search goes, and each ends with a recovery.

use stateright::Model;

use crate::checker::Cluster;
use crate::recovery::recover;
use crate::step::Step;

/// Walks at random from the beginning, as the seed says, and recovers at the end.
///
/// # Errors
/// What was broken, and by which steps.
pub fn walk(cluster: &Cluster, seed: u64, length: usize) -> Result<(), (String, Vec<Step>)> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut state = cluster.start();
    let mut way = Vec::new();
    let mut steps = Vec::new();
    for _ in 0..length {
        steps.clear();
        cluster.actions(&state, &mut steps);
        // Faults are few among many steps; a walk without them is dull, and one of nothing else ends soon.
        let faults = steps.iter().filter(|step| matches!(step, Step::Fault(..))).count();
        let calm = steps.len() - faults;
        if steps.is_empty() {
            break;
        }
        let wants_fault = faults > 0 && (calm == 0 || random.below(10) == 0);
        let nth = random.below(if wants_fault { faults } else { calm });
        let chosen = steps.iter().filter(|step| matches!(step, Step::Fault(..)) == wants_fault).nth(nth);
        let Some(step) = chosen.copied() else { break };
        way.push(step);
        let Some(next) = cluster.next_state(&state, step) else { continue };
        if !cluster.within_boundary(&next) {
            break;
        }
        state = next;
        if let Some(broken) = state.ghost.broken {
            return Err((format!("{broken:?}"), way));
        }
    }
    recover(cluster, &state).map_err(|why| (why, way))?;
    Ok(())
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(high).unwrap_or_default() % bound.max(1)
    }
}
