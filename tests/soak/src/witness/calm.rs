//! What must be so when nothing changes any more.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Books;
use super::blame::Promise;
use super::facts::{Record, Workload};

/// Interruptions after which an operator must decide.
const INTERRUPTIONS: u32 = 10;
/// Deployments whose name begins so were copied by somebody, labels and all: what becomes of them is not promised.
pub const STRAY: &str = "stray-";

/// What is not yet as it must be in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Whom it concerns.
    pub about: Vec<String>,
    /// Why.
    pub why: String,
}

/// Where a migration stands in the end, the least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stand {
    Succeeded,
    Pending,
    Suspended,
    Failed,
}

impl Books {
    /// When anything last went forward.
    #[must_use]
    pub fn forward(&self) -> Duration {
        self.forward
    }

    /// The attempts that wait for an operator: record, attempt, pod UID, and fingerprint.
    #[must_use]
    pub fn unaccounted(&self) -> Vec<(String, u32, String, String)> {
        let stalled = self.records.all().filter(|record| {
            record.status.holding("Stalled").is_some_and(|condition| condition.reason != "AttemptsExhausted")
        });
        stalled
            .filter_map(|record| {
                let active = record.status.active.as_ref()?;
                Some((record.key.clone(), active.attempt, active.pod_uid.clone(), active.fingerprint.clone()))
            })
            .collect()
    }

    /// Migrations that may be tried again, and are not for the moment because they failed or were interrupted before:
    /// record, fingerprint and latest attempt.
    #[must_use]
    pub fn backing_off(&self) -> Vec<(String, String, u32)> {
        let current = self.workloads.all().filter(|workload| !workload.deleting);
        let waiting = current.filter_map(|workload| {
            let record = self.records.now(workload.gate.as_ref()?)?;
            let migration = record.status.migration(&workload.fingerprint)?;
            let tried = migration.failures + migration.interruptions > 0 && migration.phase == "Pending";
            let latest = migration.attempts.last().map(|attempt| attempt.number);
            tried.then(|| Some((record.key.clone(), workload.fingerprint.clone(), latest?)))?
        });
        waiting.collect()
    }

    /// The record of this name as it was seen last.
    #[must_use]
    pub fn record_now(&self, key: &str) -> Option<&Record> {
        self.records.now(key)
    }

    /// What is not yet as it must be in the end.
    #[must_use]
    pub fn unsettled(&self) -> Vec<Unsettled> {
        let mut found = Vec::new();
        for workload in self.workloads.all().filter(|workload| !is_stray(&workload.key)) {
            if let Err(why) = self.stand(workload) {
                let about = vec![workload.key.clone(), workload.gate.clone().unwrap_or_default()];
                found.push(Unsettled { about, why: format!("{}: {why}", workload.key) });
            }
        }
        for pod in self.pods.all().filter(|pod| pod.gate.is_some()) {
            let why = match () {
                () if pod.ordered().is_some() => "it has a run signal",
                () if pod.held => "it has the finalizer",
                () if pod.deleting => "it is being deleted",
                () => continue,
            };
            let about = vec![pod.key.clone(), pod.gate.clone().unwrap_or_default(), pod.app.clone()];
            found.push(Unsettled { about, why: format!("pod {}: {why}", pod.key) });
        }
        for run in self.runs.alive() {
            let about = vec![run.pod.clone(), run.gate.clone(), run.app.clone()];
            found.push(Unsettled { about, why: format!("attempt {} runs in {}", run.attempt, run.pod) });
        }
        for record in self.records.all() {
            let needed = self.workloads.all().any(|workload| workload.gate.as_ref() == Some(&record.key))
                || self.pods.all().any(|pod| pod.gate.as_ref() == Some(&record.key));
            let why = match () {
                () if record.status.active.is_some() => "an attempt is active",
                () if record.deleting => "it is being deleted",
                () if !needed && !record.owned => "nobody needs it",
                () => continue,
            };
            found.push(Unsettled { about: vec![record.key.clone()], why: format!("record {}: {why}", record.key) });
        }
        found
    }

    /// Where a workload's migration stands in the end; or what it still waits for.
    fn stand(&self, workload: &Workload) -> Result<Stand, String> {
        let ready = || match workload.complete {
            true => Ok(Stand::Succeeded),
            false => Err("not all of its pods are Ready, although nothing is in their way".to_owned()),
        };
        if workload.deleting {
            return Err("it is being deleted".to_owned());
        }
        let Some(gate) = &workload.gate else { return ready() };
        let record = self.records.now(gate).ok_or_else(|| format!("there is no record {gate}"))?;
        let status = &record.status;
        if status.has_succeeded(&workload.fingerprint) {
            return ready();
        }
        let Some(migration) = status.migration(&workload.fingerprint) else {
            return Err(format!("{gate} knows nothing of its migration {}", workload.fingerprint));
        };
        if migration.failures >= workload.backoff_limit || migration.interruptions >= INTERRUPTIONS {
            return Ok(Stand::Failed);
        }
        if workload.suspended && !migration.approved {
            return Ok(Stand::Suspended);
        }
        if workload.replicas == 0 {
            return Ok(Stand::Pending);
        }
        let message = status.message.as_deref().unwrap_or_default();
        let (fingerprint, phase) = (&workload.fingerprint, &migration.phase);
        Err(format!("its migration {fingerprint} is {phase} and has attempts left; {gate} says: {message}"))
    }

    /// Judges what is left, when nothing changes any more.
    pub fn judge_calm(&mut self) {
        for claim in self.claims.settle_all(&self.records) {
            self.blame(claim.promise, claim.about, claim.what);
        }
        self.judge_successes();
        self.judge_gates();
        self.judge_records();
        for one in self.told.untold() {
            let what = format!(
                "{} recorded that attempt {} of {} {}, and no event says so",
                one.record, one.attempt, one.fingerprint, one.outcome
            );
            self.blame(Promise::FailClosed, vec![one.record], what);
        }
    }

    fn judge_successes(&mut self) {
        for one in std::mem::take(&mut self.reported) {
            let record = self.records.now(&one.record).filter(|record| record.uid == one.record_uid);
            if record.is_some_and(|record| !record.status.has_succeeded(&one.fingerprint)) {
                let what = format!(
                    "{} reported that attempt {} of {} succeeded, and {} does not say so",
                    one.pod, one.attempt, one.fingerprint, one.record
                );
                self.blame(Promise::NoOutcomeLost, vec![one.record, one.pod], what);
            }
        }
    }

    fn judge_gates(&mut self) {
        let mut found = Vec::new();
        for pod in self.pods.all().filter(|pod| pod.is_alive() && !pod.foreign && !is_stray(&pod.app)) {
            let Some(record) = pod.gate.as_ref().and_then(|gate| self.records.now(gate)) else { continue };
            let may = record.status.has_succeeded(&pod.fingerprint);
            let about = vec![pod.key.clone(), record.key.clone(), pod.app.clone()];
            if pod.gate_true && !may {
                let what = format!("the gate of {} is open, and {} does not say that it may", pod.key, record.key);
                found.push((Promise::GateSoundness, about, what));
            } else if may && !(pod.gate_true && pod.opened.is_some()) {
                let what = format!("the gate of {} is closed, and {} says that it may open", pod.key, record.key);
                found.push((Promise::Progress, about, what));
            } else if may && !(self.apps.contains_key(&pod.uid) && pod.ready) {
                let what = format!("{} is open, but its application does not run", pod.key);
                found.push((Promise::Progress, about, what));
            }
        }
        found.into_iter().for_each(|(promise, about, what)| self.blame(promise, about, what));
    }

    /// A record says where its group stands.
    fn judge_records(&mut self) {
        let mut groups: BTreeMap<String, Vec<Stand>> = BTreeMap::new();
        for workload in self.workloads.all().filter(|workload| !is_stray(&workload.key)) {
            let (Some(gate), Ok(stand)) = (&workload.gate, self.stand(workload)) else { continue };
            let has_strays = self.workloads.all().any(|w| is_stray(&w.key) && w.gate.as_ref() == Some(gate));
            // Whether a copy counts as one of the group is nobody's promise.
            if !has_strays {
                groups.entry(gate.clone()).or_default().push(stand);
            }
        }
        for (gate, stands) in groups {
            let (Some(record), Some(worst)) = (self.records.now(&gate), stands.iter().max()) else { continue };
            let status = &record.status;
            let expected = format!("{worst:?}");
            let mut lies = Vec::new();
            if status.phase.as_ref() != Some(&expected) {
                lies.push(format!("its phase is {:?}, and its workloads' is {expected}", status.phase));
            }
            if status.holding("Migrated").is_some() != (*worst == Stand::Succeeded) {
                lies.push(format!("Migrated is wrong, for its workloads' phase is {expected}"));
            }
            if status.holding("Stalled").is_some() != (*worst == Stand::Failed) {
                lies.push(format!("Stalled is wrong, for its workloads' phase is {expected}"));
            }
            if status.observed_generation != record.generation {
                lies.push("it did not take note of its newest orders".to_owned());
            }
            if status.overrides.len() != record.orders.len() {
                let (answers, orders) = (status.overrides.len(), record.orders.len());
                lies.push(format!("it has {orders} orders and {answers} answers"));
            }
            for lie in lies {
                self.blame(Promise::TrueRecord, vec![gate.clone()], format!("{gate}: {lie}"));
            }
        }
    }
}

fn is_stray(key: &str) -> bool {
    key.split_once('/').is_some_and(|(_, name)| name.starts_with(STRAY))
}
