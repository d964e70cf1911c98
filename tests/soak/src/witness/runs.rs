//! The book of runs: when each command began and ended, told by whoever ran it.

use std::collections::HashMap;
use std::time::Duration;

/// All runs.
#[derive(Debug, Default)]
pub struct Runs {
    of_pod: HashMap<String, Vec<Run>>,
    /// The pods, by UID, in which one is alive.
    alive: Vec<String>,
}

/// A command that was started.
#[derive(Clone, Debug)]
pub struct Run {
    /// The pod's UID.
    pub pod_uid: String,
    /// The pod's name with its namespace.
    pub pod: String,
    /// The group's record, with its namespace.
    pub gate: String,
    /// The workload, with its namespace.
    pub app: String,
    /// The migration.
    pub fingerprint: String,
    /// The attempt.
    pub attempt: u32,
    /// When it began.
    pub began: Duration,
    /// When it ended, and how.
    pub ended: Option<(Duration, Truth)>,
    /// A line that only this run wrote.
    pub mark: String,
}

/// How a command really ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// With exit code 0, before anybody asked it to stop.
    Succeeded,
    /// With another code, or by a signal of its own.
    Failed,
    /// It was asked to stop.
    Stopped,
    /// It was killed with its container.
    Killed,
}

impl Run {
    /// Whether both may not be alive at once: they migrate the same group's database, or that of the same workload.
    #[must_use]
    pub fn excludes(&self, other: &Run) -> bool {
        self.gate == other.gate || self.app == other.app
    }
}

impl Runs {
    /// A command begins. Returns those that are alive and must not be, and the earlier run of the same attempt here.
    pub fn begin(&mut self, run: Run) -> (Vec<Run>, Option<Run>) {
        let alive = self.alive.iter().filter(|uid| **uid != run.pod_uid).filter_map(|uid| self.of_pod.get(uid)?.last());
        let clashes = alive.filter(|other| other.excludes(&run)).cloned().collect();
        let runs = self.of_pod.entry(run.pod_uid.clone()).or_default();
        let again = runs.iter().find(|other| other.attempt == run.attempt).cloned();
        self.alive.push(run.pod_uid.clone());
        runs.push(run);
        (clashes, again)
    }

    /// The command in this pod ended.
    pub fn end(&mut self, pod_uid: &str, truth: Truth, now: Duration) -> Option<&Run> {
        self.alive.retain(|uid| uid != pod_uid);
        let run = self.of_pod.get_mut(pod_uid)?.last_mut()?;
        run.ended = Some((now, truth));
        Some(run)
    }

    /// The run of this attempt in this pod.
    #[must_use]
    pub fn find(&self, pod_uid: &str, attempt: u32) -> Option<&Run> {
        self.of_pod.get(pod_uid)?.iter().find(|run| run.attempt == attempt)
    }

    /// Those that are alive.
    pub fn alive(&self) -> impl Iterator<Item = &Run> {
        self.alive.iter().filter_map(|uid| self.of_pod.get(uid)?.last())
    }

    /// A command of this migration really succeeded in this pod.
    #[must_use]
    pub fn succeeded_in(&self, pod_uid: &str) -> bool {
        self.of_pod.get(pod_uid).is_some_and(|runs| runs.iter().any(is_success))
    }

    /// A command of this migration really succeeded in this namespace.
    #[must_use]
    pub fn succeeded_near(&self, gate: &str, fingerprint: &str) -> bool {
        let near = |run: &&Run| run.gate.split('/').next() == gate.split('/').next() && run.fingerprint == fingerprint;
        self.of_pod.values().flatten().filter(near).any(is_success)
    }

    /// How many there were, and how each kind of end was.
    #[must_use]
    pub fn counts(&self) -> (usize, [usize; 4]) {
        let all = || self.of_pod.values().flatten();
        let kinds = [Truth::Succeeded, Truth::Failed, Truth::Stopped, Truth::Killed];
        let count = |kind| all().filter(|run| run.ended.is_some_and(|(_, truth)| truth == kind)).count();
        (all().count(), kinds.map(count))
    }
}

fn is_success(run: &Run) -> bool {
    run.ended.is_some_and(|(_, truth)| truth == Truth::Succeeded)
}
