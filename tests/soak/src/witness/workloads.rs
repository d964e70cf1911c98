//! The book of workloads: what each asked for, and until when.

use std::collections::HashMap;
use std::time::Duration;

use super::facts::Workload;

/// How long what a workload asked for may still be acted upon after it changed: a controller may have been stopped that
/// long, and a watch is late.
const LATENESS: Duration = Duration::from_secs(60);

/// All workloads.
#[derive(Debug, Default)]
pub struct Workloads(HashMap<String, Vec<Wish>>);

/// What a workload asked for.
#[derive(Clone, Debug)]
struct Wish {
    workload: Workload,
    /// When something else took its place.
    until: Option<Duration>,
}

impl Workloads {
    /// Reads a version.
    pub fn read(&mut self, workload: Workload, now: Duration) {
        let wishes = self.0.entry(workload.uid.clone()).or_default();
        if let Some(last) = wishes.last_mut() {
            if is_same(&last.workload, &workload) {
                last.workload = workload;
                return;
            }
            last.until = Some(now);
        }
        wishes.push(Wish { workload, until: None });
        wishes.retain(|wish| wish.until.is_none_or(|until| until + LATENESS > now));
    }

    /// A workload is gone.
    pub fn remove(&mut self, uid: &str, now: Duration) {
        if let Some(last) = self.0.get_mut(uid).and_then(|wishes| wishes.last_mut()) {
            last.until = Some(now);
        }
        self.0.retain(|_, wishes| wishes.iter().any(|wish| wish.until.is_none_or(|until| until + LATENESS > now)));
    }

    /// All that are there now.
    pub fn all(&self) -> impl Iterator<Item = &Workload> {
        self.0
            .values()
            .filter_map(|wishes| wishes.last())
            .filter(|wish| wish.until.is_none())
            .map(|wish| &wish.workload)
    }

    /// Those that ask a group for a migration, or did a short while ago.
    pub fn asking<'a>(
        &'a self,
        gate: &'a str,
        fingerprint: &'a str,
        now: Duration,
    ) -> impl Iterator<Item = &'a Workload> {
        let late = move |wish: &&Wish| wish.until.is_none_or(|until| until + LATENESS > now);
        let wishes = self.0.values().flatten().filter(late);
        wishes
            .map(|wish| &wish.workload)
            .filter(move |workload| workload.gate.as_deref() == Some(gate) && workload.fingerprint == fingerprint)
    }
}

/// Whether two versions ask for the same.
fn is_same(one: &Workload, other: &Workload) -> bool {
    one.gate == other.gate
        && one.fingerprint == other.fingerprint
        && one.suspended == other.suspended
        && one.backoff_limit == other.backoff_limit
        && one.deleting == other.deleting
}
