//! A breadth-first search for runs that are too large for the general checker: sixteen bytes for each state.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use stateright::Model;

use crate::checker::Cluster;
use crate::step::Step;
use crate::world::{Broken, State};

/// How a search went.
#[derive(Debug)]
pub struct Report {
    /// Different states that were found.
    pub unique: usize,
    /// States that were found, again or for the first time.
    pub total: usize,
    /// Steps from the beginning to the last layer.
    pub depth: usize,
    /// Whether every reachable state was found, rather than as many as were asked for.
    pub complete: bool,
    /// The shortest way to a broken promise, if there is one.
    pub found: Option<(Broken, Vec<Step>)>,
}

/// Every state found so far, by a hash of 64 bits, with the hash of the state that it was first reached from.
struct Seen {
    slots: Vec<[AtomicU64; 2]>,
    count: AtomicUsize,
}

impl Seen {
    fn new(bits: u32) -> Seen {
        let slots = (0..1usize << bits).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect();
        Seen { slots, count: AtomicUsize::new(0) }
    }

    /// Whether the state is new.
    fn insert(&self, state: u64, parent: u64) -> bool {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(state).unwrap_or_default() & mask;
        loop {
            match self.slots[at][0].compare_exchange(0, state, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.slots[at][1].store(parent, Ordering::Release);
                    self.count.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                Err(known) if known == state => return false,
                Err(_) => at = (at + 1) & mask,
            }
        }
    }

    fn parent(&self, state: u64) -> u64 {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(state).unwrap_or_default() & mask;
        while self.slots[at][0].load(Ordering::Acquire) != state {
            at = (at + 1) & mask;
        }
        self.slots[at][1].load(Ordering::Acquire)
    }
}

/// Searches until `limit` different states are found, with `threads` threads. The table of states holds 2^`bits`.
pub fn explore(
    cluster: &Cluster,
    limit: usize,
    threads: usize,
    bits: u32,
    progress: &dyn Fn(usize, usize, usize),
) -> Report {
    let seen = Seen::new(bits);
    let full = seen.slots.len() / 10 * 9;
    let total = AtomicUsize::new(1);
    let broken: Mutex<Option<(Broken, u64)>> = Mutex::new(None);
    let mut layer = vec![cluster.start()];
    seen.insert(hash(&cluster.start()), 0);
    let mut depth = 0;
    while !layer.is_empty() {
        progress(depth, layer.len(), seen.count.load(Ordering::Relaxed));
        let stop = || seen.count.load(Ordering::Relaxed) >= limit.min(full);
        if stop() || broken.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            break;
        }
        let next: Mutex<Vec<Vec<State>>> = Mutex::default();
        let chunk = layer.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for part in layer.chunks(chunk) {
                let (seen, next, total, broken, stop) = (&seen, &next, &total, &broken, &stop);
                scope.spawn(move || {
                    let (mut fresh, mut steps) = (Vec::new(), Vec::new());
                    for state in part {
                        if stop() {
                            break;
                        }
                        let parent = hash(state);
                        steps.clear();
                        cluster.actions(state, &mut steps);
                        for step in &steps {
                            let Some(after) = cluster.next_state(state, *step) else { continue };
                            if !cluster.within_boundary(&after) {
                                continue;
                            }
                            total.fetch_add(1, Ordering::Relaxed);
                            let name = hash(&after);
                            if seen.insert(name, parent) {
                                if let Some(promise) = after.ghost.broken {
                                    broken
                                        .lock()
                                        .unwrap_or_else(PoisonError::into_inner)
                                        .get_or_insert((promise, name));
                                }
                                fresh.push(after);
                            }
                        }
                    }
                    next.lock().unwrap_or_else(PoisonError::into_inner).push(fresh);
                });
            }
        });
        layer.clear();
        layer.shrink_to_fit();
        layer = next.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect();
        depth += 1;
    }
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    Report {
        unique: seen.count.load(Ordering::Relaxed),
        total: total.load(Ordering::Relaxed),
        depth,
        complete: layer.is_empty(),
        found: broken.map(|(promise, name)| (promise, way_to(cluster, &seen, name))),
    }
}

fn way_to(cluster: &Cluster, seen: &Seen, name: u64) -> Vec<Step> {
    let mut names = vec![name];
    while let Some(parent) = names.last().map(|name| seen.parent(*name)).filter(|parent| *parent != 0) {
        names.push(parent);
    }
    let (mut state, mut way) = (cluster.start(), Vec::new());
    for name in names.iter().rev().skip(1) {
        let mut steps = Vec::new();
        cluster.actions(&state, &mut steps);
        let found = steps.into_iter().find_map(|step| {
            let after = cluster.next_state(&state, step)?;
            (hash(&after) == *name).then_some((step, after))
        });
        let Some((step, after)) = found else { break };
        way.push(step);
        state = after;
    }
    way
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    // 0 stands for a free slot.
    hasher.finish().max(1)
}
