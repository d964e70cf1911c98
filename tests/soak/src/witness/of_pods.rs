//! What each change of a pod must rest on.

use std::time::Duration;

use super::blame::Promise;
use super::claims::{Basis, Claim};
use super::facts::{Active, Pod};
use super::{Books, Reported, pods};

impl Books {
    /// Judges a version of a pod.
    pub(super) fn pod(&mut self, pod: Pod) {
        let Some(gate) = pod.gate.clone() else { return };
        let about = vec![gate.clone(), pod.app.clone(), pod.key.clone()];
        let now = self.chronicle.now();
        if self.pods.last(&pod.uid).is_none() {
            self.figures.foreign += usize::from(pod.foreign);
            self.chronicle.note(about.clone(), format!("pod: {} with migration {}", pod.uid, pod.fingerprint));
        }
        let claim = |basis, promise, what| Claim {
            record: gate.clone(),
            basis,
            before: pod.at,
            promise,
            what,
            about: about.clone(),
        };
        for change in self.pods.read(pod.clone(), now) {
            self.chronicle.note(about.clone(), format!("pod: {change:?} (version {})", pod.at));
            match change {
                pods::Change::Ordered(attempt) => {
                    if pod.foreign {
                        let what = format!("{} is no workload's pod, and was ordered to run {attempt}", pod.key);
                        self.blame(Promise::GateSoundness, about.clone(), what);
                    }
                    let basis = Basis::Given { attempt, pod_uid: pod.uid.clone() };
                    let what = format!("{} was ordered to run attempt {attempt}, which no record gave to it", pod.key);
                    self.claims.add(claim(basis, Promise::SingleRunner, what), now);
                }
                pods::Change::Opened => {
                    let basis = Basis::Success { fingerprint: pod.fingerprint.clone() };
                    let what = format!("the gate of {} opened, but its record does not say that it may", pod.key);
                    self.claims.add(claim(basis, Promise::GateSoundness, what), now);
                    self.opened(&pod, now);
                }
                pods::Change::HalfOpened => {
                    let what = format!("{} got its pass or its condition, but not both in one write", pod.key);
                    self.blame(Promise::GateSoundness, about.clone(), what);
                }
                pods::Change::WrongPass => {
                    let what = format!("the pass of {} names another pod or another migration", pod.key);
                    self.blame(Promise::GateSoundness, about.clone(), what);
                }
                pods::Change::Closed => {
                    let what = format!("the gate of {} was open, and is not any more", pod.key);
                    self.blame(Promise::FailClosed, about.clone(), what);
                }
                pods::Change::SignalRemoved => {
                    let what = format!("the signal of {} was removed, not replaced by its mark", pod.key);
                    self.blame(Promise::AttemptOnce, about.clone(), what);
                }
                pods::Change::SignalBack(old, new) => {
                    let what = format!("the signal of {} went back from attempt {old} to {new}", pod.key);
                    self.blame(Promise::AttemptOnce, about.clone(), what);
                }
                pods::Change::OrderedUnheld(attempt) => {
                    let what = format!("{} was ordered to run attempt {attempt} without the finalizer", pod.key);
                    self.blame(Promise::NoOutcomeLost, about.clone(), what);
                }
                pods::Change::Reported(attempt) => self.success_reported(&pod, &gate, attempt),
                pods::Change::Settled => {}
            }
        }
    }

    fn opened(&mut self, pod: &Pod, now: Duration) {
        self.figures.opened += 1;
        self.forward = now;
        let recorded = pod.gate.clone().and_then(|gate| self.since.get(&(gate, pod.fingerprint.clone())));
        let Some((recorded, made)) = recorded.zip(self.pods.first_seen(&pod.uid)) else { return };
        let took = now.saturating_sub(made.max(*recorded));
        if self.figures.slowest.as_ref().is_none_or(|(slowest, _)| took > *slowest) {
            self.figures.slowest = Some((took, pod.key.clone()));
        }
    }

    fn success_reported(&mut self, pod: &Pod, gate: &str, attempt: u32) {
        let Some(record) = self.records.now(gate) else { return };
        let is_active = |active: &Active| active.attempt == attempt && active.pod_uid == pod.uid;
        if record.status.active.as_ref().is_some_and(is_active) {
            self.reported.push(Reported {
                record: gate.to_owned(),
                record_uid: record.uid.clone(),
                fingerprint: pod.fingerprint.clone(),
                pod: pod.key.clone(),
                attempt,
            });
        }
    }
}
