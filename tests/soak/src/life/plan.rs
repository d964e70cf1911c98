//! The life, made from a seed: which workloads there are, and what happens to them when.
//!
//! It knows what every owner wants, and nothing of what came of it. So the same seed plans the same life, however fast
//! the machine and whatever the controllers do.

use std::time::Duration;

use super::act::{Act, Copy, Disturbance, Hurt, Order, Propagation};
use super::sizes::Sizes;
use super::workload::{Release, Workload, script};
use crate::dice::Dice;

/// Something that happens, and when in its phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Duration,
    /// What.
    pub act: Act,
}

/// What is planned, and what every owner wants by then.
#[derive(Clone, Debug)]
pub struct Plan {
    dice: Dice,
    sizes: Sizes,
    alive: Vec<Workload>,
    /// Deleted ones; whether their pods were left behind.
    deleted: Vec<(Workload, bool)>,
    tags: u32,
    names: u32,
    /// Groups of several, by namespace and name, and how many workloads each had at first.
    groups: Vec<(String, String, u64)>,
    phases: u32,
}

/// What can happen next, and how often it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Release,
    ReleaseAndHurt,
    RollBack,
    Reshape,
    Move,
    Scale,
    Delete,
    Create,
    Ungate,
    Suspend,
    Unsuspend,
    Approve,
    Retry,
    MarkSucceeded,
    ConfirmDead,
    DeletePod,
    CopyPod,
    CopyWorkload,
    CopyTemplate,
    Again,
    DeleteNode,
}

const KINDS: [(u64, Kind); 21] = [
    (16, Kind::Release),
    (12, Kind::ReleaseAndHurt),
    (6, Kind::RollBack),
    (6, Kind::Reshape),
    (9, Kind::Move),
    (9, Kind::Scale),
    (9, Kind::Delete),
    (11, Kind::Create),
    (5, Kind::Ungate),
    (3, Kind::Suspend),
    (3, Kind::Unsuspend),
    (4, Kind::Approve),
    (5, Kind::Retry),
    (3, Kind::MarkSucceeded),
    (2, Kind::ConfirmDead),
    (6, Kind::DeletePod),
    (5, Kind::CopyPod),
    (2, Kind::CopyWorkload),
    (1, Kind::CopyTemplate),
    (4, Kind::Again),
    (1, Kind::DeleteNode),
];

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64, sizes: Sizes) -> Plan {
        let dice = Dice::named(seed, "life");
        let (alive, deleted, groups) = (Vec::new(), Vec::new(), Vec::new());
        Plan { dice, sizes, alive, deleted, tags: 0, names: 0, groups, phases: 0 }
    }

    /// What happens in the next phase, in its order.
    pub fn next_phase(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.phases += 1;
        if self.phases == 1 {
            self.beginning(&mut steps);
        }
        let length = self.sizes.phase.as_millis() as u64;
        let count = self.sizes.phase.as_secs() * self.sizes.pace;
        let mut moments: Vec<u64> = (0..count).map(|_| self.dice.within(0..=length)).collect();
        moments.sort_unstable();
        for moment in moments {
            self.happen(Duration::from_millis(moment), &mut steps);
        }
        self.disturbances(&mut steps);
        self.ending(&mut steps);
        steps.sort_by_key(|step| step.at);
        steps
    }

    /// All workloads are made at once, as when a cluster is restored.
    fn beginning(&mut self, steps: &mut Vec<Step>) {
        let namespaces = self.sizes.names_of_namespaces();
        for (number, size) in self.sizes.groups.clone().into_iter().enumerate() {
            let namespace = namespaces[number % namespaces.len()].clone();
            let group = format!("db-{number}");
            self.groups.push((namespace.clone(), group.clone(), size));
            (0..size).for_each(|_| self.create(namespace.clone(), Some(group.clone()), Duration::ZERO, steps));
        }
        for number in 0..self.sizes.alone {
            let namespace = namespaces[number as usize % namespaces.len()].clone();
            self.create(namespace, None, Duration::ZERO, steps);
        }
    }

    fn create(&mut self, namespace: String, group: Option<String>, at: Duration, steps: &mut Vec<Step>) {
        self.names += 1;
        let nodes = self.sizes.names_of_nodes();
        let node = nodes[self.dice.below(nodes.len())].clone();
        let twins: Vec<Release> = match &group {
            Some(_) => self.members(&namespace, group.as_ref()).map(|one| one.release.clone()).collect(),
            None => Vec::new(),
        };
        let backoff_limit = self.dice.within(1..=3) as u32;
        let twin = self.dice.chance(15).then(|| self.dice.pick(&twins).cloned()).flatten();
        let release = twin.unwrap_or_else(|| self.release(backoff_limit));
        let workload = Workload {
            name: format!("app-{}", self.names),
            namespace,
            group,
            release,
            before: None,
            shape: 0,
            replicas: self.dice.weighted(&[(6, 1), (3, 2), (1, 3)]),
            gated: true,
            suspended: self.dice.chance(4),
            backoff_limit,
            node,
        };
        self.alive.push(workload.clone());
        steps.push(Step { at, act: Act::Apply(Box::new(workload), "created") });
    }

    fn release(&mut self, backoff_limit: u32) -> Release {
        self.tags += 1;
        Release { tag: self.tags, script: script(&mut self.dice, backoff_limit) }
    }

    fn members<'a>(&'a self, namespace: &'a str, group: Option<&'a String>) -> impl Iterator<Item = &'a Workload> {
        self.alive.iter().filter(move |one| one.namespace == namespace && one.group.as_ref() == group)
    }

    /// A workload of which this holds.
    fn one(&mut self, fits: impl Fn(&Workload) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.alive.len()).filter(|at| fits(&self.alive[*at])).collect();
        self.dice.pick(&all).copied()
    }

    fn change(&mut self, at: Duration, which: usize, why: &'static str, steps: &mut Vec<Step>) {
        steps.push(Step { at, act: Act::Apply(Box::new(self.alive[which].clone()), why) });
    }

    fn happen(&mut self, at: Duration, steps: &mut Vec<Step>) {
        let kind = self.dice.weighted(&KINDS);
        match kind {
            Kind::Create => return self.create_or_recreate(at, steps),
            Kind::DeleteNode => {
                let nodes = self.sizes.names_of_nodes();
                let node = nodes[self.dice.below(nodes.len())].clone();
                // Twice a phase would leave no time to come back.
                let before = steps.iter().any(|step| matches!(step.act, Act::DeleteNode(_)));
                if !before && at + Duration::from_secs(20) < self.sizes.phase {
                    steps.push(Step { at, act: Act::DeleteNode(node) });
                }
                return;
            }
            _ => {}
        }
        let found = self.one(|workload| match kind {
            Kind::Ungate | Kind::Scale | Kind::Delete | Kind::Again => true,
            Kind::RollBack => workload.before.is_some() && workload.gated,
            Kind::Unsuspend | Kind::Approve => workload.suspended && workload.gated,
            Kind::CopyPod | Kind::CopyTemplate => workload.gated && workload.replicas > 0,
            _ => workload.gated,
        });
        let Some(which) = found else { return };
        match kind {
            Kind::Release | Kind::ReleaseAndHurt => {
                let release = self.release(self.alive[which].backoff_limit);
                let workload = &mut self.alive[which];
                workload.before = Some(std::mem::replace(&mut workload.release, release));
                self.change(at, which, "released", steps);
                if kind == Kind::ReleaseAndHurt {
                    let hurt = self.dice.weighted(&[
                        (7, Hurt::DeleteRunner),
                        (2, Hurt::ForceRunner),
                        (1, Hurt::StripRunner),
                        (3, Hurt::KillRunner),
                        (2, Hurt::ForgetRunner),
                    ]);
                    self.push(at, which, |workload| Act::Hurt(workload, hurt), steps);
                }
            }
            Kind::RollBack => {
                let workload = &mut self.alive[which];
                if let Some(before) = workload.before.take() {
                    workload.before = Some(std::mem::replace(&mut workload.release, before));
                }
                self.change(at, which, "rolled back", steps);
            }
            Kind::Reshape => {
                self.alive[which].shape += 1;
                self.change(at, which, "changed, its migration is the same", steps);
            }
            Kind::Move => {
                let here = self.alive[which].namespace.clone();
                let group = self.group_in(&here);
                if group == self.alive[which].group {
                    return;
                }
                self.alive[which].group = group;
                self.change(at, which, "moved", steps);
            }
            Kind::Scale => {
                self.alive[which].replicas = self.dice.weighted(&[(1, 0), (5, 1), (3, 2), (2, 4)]);
                self.change(at, which, "scaled", steps);
            }
            Kind::Delete => {
                if self.alive.len() < self.sizes.most / 2 {
                    return;
                }
                let how = self.dice.weighted(&[
                    (6, Propagation::Background),
                    (1, Propagation::Foreground),
                    (4, Propagation::Orphan),
                ]);
                self.push(at, which, |workload| Act::Delete(workload, how), steps);
                let workload = self.alive.swap_remove(which);
                self.deleted.push((workload, how == Propagation::Orphan));
            }
            Kind::Ungate => {
                self.alive[which].gated ^= true;
                let why = if self.alive[which].gated { "gated again" } else { "un-gated" };
                self.change(at, which, why, steps);
            }
            Kind::Suspend | Kind::Unsuspend => {
                self.alive[which].suspended = kind == Kind::Suspend;
                self.change(at, which, if kind == Kind::Suspend { "suspended" } else { "resumed" }, steps);
            }
            Kind::Approve => self.push(at, which, |workload| Act::Order(workload, Order::Approve), steps),
            Kind::Retry => self.push(at, which, |workload| Act::Order(workload, Order::Retry), steps),
            Kind::MarkSucceeded => self.push(at, which, |workload| Act::Order(workload, Order::MarkSucceeded), steps),
            Kind::ConfirmDead => self.push(at, which, |workload| Act::Order(workload, Order::ConfirmDead), steps),
            Kind::DeletePod => self.push(at, which, |workload| Act::Hurt(workload, Hurt::DeleteAny), steps),
            Kind::CopyPod => {
                let forged = Copy::Forged(self.dice.within(1..=3) as u32);
                let copy = self.dice.weighted(&[(1, Copy::Owned), (2, Copy::Bare), (2, forged)]);
                self.push(at, which, |workload| Act::CopyPod(workload, copy), steps);
            }
            Kind::CopyWorkload => {
                if self.alive.len() >= self.sizes.most {
                    return;
                }
                self.names += 1;
                let copy = Workload { name: format!("app-{}", self.names), before: None, ..self.alive[which].clone() };
                self.push(at, which, |workload| Act::CopyWorkload(workload, Box::new(copy.clone())), steps);
                self.alive.push(copy);
            }
            Kind::CopyTemplate => {
                self.names += 1;
                let name = format!("{}{}", crate::witness::calm::STRAY, self.names);
                self.push(at, which, |workload| Act::CopyTemplate(workload, name), steps);
            }
            Kind::Again => self.push(at, which, Act::Again, steps),
            Kind::Create | Kind::DeleteNode => {}
        }
    }

    fn push(&self, at: Duration, which: usize, act: impl FnOnce(Box<Workload>) -> Act, steps: &mut Vec<Step>) {
        steps.push(Step { at, act: act(Box::new(self.alive[which].clone())) });
    }

    /// A workload that was deleted is made again under its name, with the same or another group; or a new one is made.
    fn create_or_recreate(&mut self, at: Duration, steps: &mut Vec<Step>) {
        if !self.deleted.is_empty() && self.dice.chance(70) {
            let which = self.dice.below(self.deleted.len());
            let (mut workload, _) = self.deleted.swap_remove(which);
            if self.dice.chance(40) {
                workload.group = self.group_in(&workload.namespace);
            }
            if self.dice.chance(40) {
                workload.before = None;
                workload.release = self.release(workload.backoff_limit);
            }
            self.alive.push(workload);
            return self.change(at, self.alive.len() - 1, "made again", steps);
        }
        if self.alive.len() < self.sizes.most {
            let namespaces = self.sizes.names_of_namespaces();
            let namespace = namespaces[self.dice.below(namespaces.len())].clone();
            let group = self.group_in(&namespace);
            self.create(namespace, group, at, steps);
        }
    }

    /// A group of this namespace, the large ones more often, so that they stay large; or none.
    fn group_in(&mut self, namespace: &str) -> Option<String> {
        let here: Vec<&(String, String, u64)> = self.groups.iter().filter(|(there, ..)| there == namespace).collect();
        let all: u64 = here.iter().map(|(.., size)| size).sum();
        let choices: Vec<(u64, Option<&String>)> =
            here.iter().map(|(_, group, size)| (*size, Some(group))).chain([(all / 4 + 1, None)]).collect();
        self.dice.weighted(&choices).cloned()
    }

    /// Each kind has its turn, in an order and at moments of the seed's.
    fn disturbances(&mut self, steps: &mut Vec<Step>) {
        let mut kinds = vec![
            Disturbance::KillLeader,
            Disturbance::StopLeader(Duration::from_secs(self.dice.within(17..=25))),
            Disturbance::RestartApi,
            Disturbance::KillOther,
            Disturbance::EndLeader,
        ];
        let length = self.sizes.phase.as_secs();
        // One needs up to half a minute until everything goes on as before.
        let count = (length / 16).min(kinds.len() as u64);
        for number in 0..count {
            // The first three are in every phase.
            let first = kinds.len().min(3_usize.saturating_sub(number as usize).max(1));
            let kind = kinds.remove(self.dice.below(first));
            let slot = length / count;
            let at = Duration::from_secs(number * slot + self.dice.within(2..=slot / 2));
            steps.push(Step { at, act: Act::Disturb(kind) });
        }
    }

    /// Nobody's pods stay without anybody who looks after them, and what was copied goes.
    fn ending(&mut self, steps: &mut Vec<Step>) {
        let at = self.sizes.phase;
        for (workload, orphaned) in std::mem::take(&mut self.deleted) {
            if orphaned {
                self.alive.push(workload);
                self.change(at, self.alive.len() - 1, "made again", steps);
            } else {
                self.deleted.push((workload, false));
            }
        }
        for namespace in self.sizes.names_of_namespaces() {
            steps.push(Step { at, act: Act::RemoveCopies(namespace) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_plans_the_same_life_and_another_one_another() {
        let phases = |seed| {
            let mut plan = Plan::new(seed, Sizes::of(120));
            [plan.next_phase(), plan.next_phase()].concat()
        };
        assert_eq!(phases(7), phases(7));
        assert_ne!(phases(7), phases(8));
    }

    #[test]
    fn everything_happens_in_a_long_life() {
        let mut plan = Plan::new(1, Sizes::of(3600));
        let steps: Vec<Step> = (0..6).flat_map(|_| plan.next_phase()).collect();
        let told: String = steps.iter().map(|step| format!("{}\n", step.act)).collect();
        let words = [
            "created",
            "released",
            "rolled back",
            "migration is the same",
            "moved",
            "scaled",
            "Background",
            "Foreground",
            "Orphan",
            "made again",
            "un-gated",
            "gated again",
            "suspended",
            "resumed",
            "Approve",
            "Retry",
            "MarkSucceeded",
            "ConfirmDead",
            "DeleteAny",
            "DeleteRunner",
            "ForceRunner",
            "StripRunner",
            "KillRunner",
            "ForgetRunner",
            "Owned",
            "Bare",
            "Forged",
            "copied as",
            "copied into",
            "manifest again",
            "node-",
            "KillLeader",
            "StopLeader",
            "EndLeader",
            "KillOther",
            "RestartApi",
            "ok:",
            "fail:",
            "die:",
            "hang:",
            "crash:",
            "sandbox:",
            "/deaf:",
        ];
        let missing: Vec<&str> = words.into_iter().filter(|word| !told.contains(word)).collect();
        assert!(missing.is_empty(), "never: {missing:?}");
        let most = plan.alive.len();
        assert!((160..=340).contains(&most), "{most} workloads");
        let names: HashSet<String> = plan.alive.iter().map(Workload::key).collect();
        assert_eq!(names.len(), most, "no name is there twice");
    }
}
