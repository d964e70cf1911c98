//! The book of pods: every version that was seen, as far as it matters later.

use std::collections::HashMap;
use std::time::Duration;

use migration_gate_contract::{Outcome, Signal};

use super::facts::Pod;

/// All pods that ever were.
#[derive(Debug, Default)]
pub struct Pods(HashMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    last: Pod,
    first_seen: Duration,
    gone: bool,
}

/// What a version changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is ordered to run this attempt.
    Ordered(u32),
    /// Its attempt is marked as settled.
    Settled,
    /// It has its pass, or its gate is open: both come in one write.
    Opened,
    /// Only one of the two came.
    HalfOpened,
    /// The pass names another pod or another migration.
    WrongPass,
    /// The gate was open and is so no more.
    Closed,
    /// Its signal was removed.
    SignalRemoved,
    /// Its signal names an earlier attempt than before.
    SignalBack(u32, u32),
    /// It was ordered to run without our finalizer.
    OrderedUnheld(u32),
    /// It reports this attempt as succeeded.
    Reported(u32),
}

impl Pods {
    /// Reads a version, and says what it changed.
    pub fn read(&mut self, pod: Pod, now: Duration) -> Vec<Change> {
        let before = self.0.get(&pod.uid);
        let changes = changes(before.map(|entry| &entry.last), &pod);
        let first_seen = before.map_or(now, |entry| entry.first_seen);
        self.0.insert(pod.uid.clone(), Entry { last: pod, first_seen, gone: false });
        changes
    }

    /// When a pod was seen first.
    #[must_use]
    pub fn first_seen(&self, uid: &str) -> Option<Duration> {
        self.0.get(uid).map(|entry| entry.first_seen)
    }

    /// A pod is gone.
    pub fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.0.get_mut(uid) {
            entry.gone = true;
        }
    }

    /// The last version of a pod, even if it is gone.
    #[must_use]
    pub fn last(&self, uid: &str) -> Option<&Pod> {
        self.0.get(uid).map(|entry| &entry.last)
    }

    /// All that are there now.
    pub fn all(&self) -> impl Iterator<Item = &Pod> {
        self.0.values().filter(|entry| !entry.gone).map(|entry| &entry.last)
    }

    /// How many there ever were.
    #[must_use]
    pub fn ever(&self) -> usize {
        self.0.len()
    }
}

fn changes(before: Option<&Pod>, pod: &Pod) -> Vec<Change> {
    let mut changes = Vec::new();
    let old = before.and_then(|pod| pod.signal.as_ref());
    match (old, &pod.signal) {
        (Some(_), None) => changes.push(Change::SignalRemoved),
        (Some(old), Some(new)) if new.attempt() < old.attempt() => {
            changes.push(Change::SignalBack(old.attempt(), new.attempt()));
        }
        (old, Some(new)) if old != Some(new) => match new {
            Signal::Run(run) => {
                changes.push(Change::Ordered(run.attempt));
                if !pod.held {
                    changes.push(Change::OrderedUnheld(run.attempt));
                }
            }
            Signal::Settled(_) => changes.push(Change::Settled),
        },
        _ => {}
    }
    let open = |pod: &Pod| pod.gate_true || pod.opened.is_some();
    if open(pod) && !before.is_some_and(open) {
        changes.push(Change::Opened);
        if !(pod.gate_true && pod.opened.is_some()) {
            changes.push(Change::HalfOpened);
        }
    }
    let wrong = |pod: &Pod| {
        pod.opened.as_ref().is_some_and(|pass| pass.pod_uid != pod.uid || pass.migration != pod.fingerprint)
    };
    if wrong(pod) && !before.is_some_and(wrong) {
        changes.push(Change::WrongPass);
    }
    if before.is_some_and(|before| before.gate_true) && !pod.gate_true {
        changes.push(Change::Closed);
    }
    let succeeded = |pod: &Pod| -> Vec<u32> {
        let good = pod.verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Succeeded);
        good.map(|verdict| verdict.attempt).collect()
    };
    let known = before.map(succeeded).unwrap_or_default();
    changes.extend(succeeded(pod).into_iter().filter(|attempt| !known.contains(attempt)).map(Change::Reported));
    changes
}
