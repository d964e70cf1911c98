//! Random walks: deeper than any search goes, and each ends with a recovery.
//!
//! A walk that takes every possible step with the same chance hardly ever lets one part of a cluster sleep through a
//! migration's life, which is what most defects need. So most walks give each part a priority of its own and let the
//! first one act that can, but for a few moments at which the first becomes the last (Burckhardt and others, "A
//! randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010).

use stateright::Model;

use crate::checker::Cluster;
use crate::recovery::recover;
use crate::step::Step;

/// Moments in a walk at which the part that is first becomes the last.
const TURNS: usize = 4;

/// A part of the cluster that acts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What a controller does for a group.
    Work(usize, usize),
    /// One of a controller's watches.
    Watch(usize, crate::step::Kind),
    /// An agent and its command.
    Agent(usize),
    /// A kubelet that starts and stops a pod's containers.
    Runtime(usize),
    /// A kubelet that brings a signal volume up to date.
    Volume(usize),
    /// A kubelet that reports.
    Report(usize),
    /// The Deployment controller.
    Pods(usize),
    /// The garbage collector.
    Garbage,
    /// Who mends what people did.
    Mender,
    /// Time.
    Clock,
    /// A node and those who look after it.
    Node(usize),
}

fn part(step: &Step) -> Option<Part> {
    Some(match *step {
        Step::See(who, kind) => Part::Watch(who, kind),
        Step::Decide(who, group, _) | Step::Deliver(who, group, _) => Part::Work(who, group),
        Step::Act(slot) | Step::Targets(slot) | Step::Ends(slot, _) | Step::Patience(slot) => Part::Agent(slot),
        Step::Start(slot) | Step::Notice(slot) | Step::Finish(slot) => Part::Runtime(slot),
        Step::Sync(slot) => Part::Volume(slot),
        Step::Publish(slot) => Part::Report(slot),
        Step::Create(slot) | Step::ScaleDown(slot) | Step::Collect(slot) => Part::Pods(slot),
        Step::Ready(node) | Step::Heal(node) | Step::Return(node) | Step::Untaint(node) | Step::Register(node) => {
            Part::Node(node)
        }
        Step::Garbage(_) | Step::Purge(_) | Step::LetGo(_) | Step::Vacate(_) | Step::Adopt(_) => Part::Garbage,
        Step::Relabel(_) | Step::Mend(_) => Part::Mender,
        Step::Minute | Step::Hour => Part::Clock,
        Step::Fault(..) => return None,
    })
}

/// Who goes before whom.
struct Order {
    parts: Vec<Part>,
    turns: Vec<usize>,
}

impl Order {
    fn choose(&mut self, steps: &[Step], now: usize, random: &mut Random) -> Option<usize> {
        for part in steps.iter().filter_map(part) {
            if !self.parts.contains(&part) {
                self.parts.insert(random.below(self.parts.len() + 1), part);
            }
        }
        let able = |wanted: &Part| steps.iter().any(|step| part(step) == Some(*wanted));
        let first = self.parts.iter().position(able)?;
        let first = if self.turns.contains(&now) {
            let last = self.parts.remove(first);
            self.parts.push(last);
            self.parts.iter().position(able)?
        } else {
            first
        };
        let its: Vec<usize> = (0..steps.len()).filter(|at| part(&steps[*at]) == Some(self.parts[first])).collect();
        Some(its[random.below(its.len())])
    }
}

/// Walks at random from the beginning, as the seed says, and recovers at the end.
///
/// # Errors
/// What was broken, and by which steps.
pub fn walk(cluster: &Cluster, seed: u64, length: usize) -> Result<(), (String, Vec<Step>)> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    random.below(2);
    let mut state = cluster.start();
    let mut way = Vec::new();
    let mut steps = Vec::new();
    let mut order = Order { parts: Vec::new(), turns: (0..TURNS).map(|_| random.below(length)).collect() };
    // Every fourth walk goes anywhere at any time; the others do so now and then, so that nobody goes round in circles.
    let aimless = seed.is_multiple_of(4);
    let rate = 5 + random.below(20);
    for now in 0..length {
        steps.clear();
        cluster.actions(&state, &mut steps);
        // Faults are few among many steps; a walk without them is dull, and one of nothing else ends soon.
        let (faults, calm): (Vec<Step>, Vec<Step>) = steps.iter().partition(|step| matches!(step, Step::Fault(..)));
        if steps.is_empty() {
            break;
        }
        let step = if !faults.is_empty() && (calm.is_empty() || random.below(rate) == 0) {
            faults[random.below(faults.len())]
        } else if aimless || random.below(24) == 0 {
            calm[random.below(calm.len())]
        } else {
            let Some(chosen) = order.choose(&calm, now, &mut random) else { break };
            calm[chosen]
        };
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
