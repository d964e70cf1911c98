//! What must have been on record before something else was written. Records and pods come by different watches, so that
//! the answer may be a moment late.

use std::time::Duration;

use super::blame::Promise;
use super::records::Records;

/// How long an answer may be late, with a watch that works.
const LATENESS: Duration = Duration::from_secs(60);

/// Something that a record must have said before the write of a number.
#[derive(Clone, Debug)]
pub enum Basis {
    /// That it gave this attempt to this pod.
    Given {
        /// The attempt.
        attempt: u32,
        /// The pod.
        pod_uid: String,
    },
    /// That the migration succeeded.
    Success {
        /// The migration.
        fingerprint: String,
    },
}

/// What was seen, and what it must rest on.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The record's name with its namespace.
    pub record: String,
    /// What it must have said.
    pub basis: Basis,
    /// The number of the write that rests on it.
    pub before: u64,
    /// The promise that is broken otherwise.
    pub promise: Promise,
    /// What was seen, in a sentence.
    pub what: String,
    /// Whom it concerns.
    pub about: Vec<String>,
}

/// The claims that are not yet proven.
#[derive(Debug, Default)]
pub struct Claims {
    open: Vec<(Duration, Claim)>,
    /// How many were proven.
    pub proven: usize,
}

impl Claims {
    /// Adds one.
    pub fn add(&mut self, claim: Claim, now: Duration) {
        self.open.push((now, claim));
    }

    /// Looks whether they are proven by now, and returns those that should be. The watch of records works without a
    /// break since `seeing`, if it does.
    pub fn settle(&mut self, records: &Records, seeing: Option<Duration>, now: Duration) -> Vec<Claim> {
        self.drop_the_proven(records);
        let overdue = |since: Duration| since + LATENESS < now && seeing.is_some_and(|seeing| seeing + LATENESS < now);
        let (refuted, open) = self.open.drain(..).partition(|(since, _)| overdue(*since));
        self.open = open;
        let refuted: Vec<(Duration, Claim)> = refuted;
        refuted.into_iter().map(|(_, claim)| claim).collect()
    }
}

impl Claims {
    /// Returns those that are not proven, now that everything is on record.
    pub fn settle_all(&mut self, records: &Records) -> Vec<Claim> {
        self.drop_the_proven(records);
        self.open.drain(..).map(|(_, claim)| claim).collect()
    }

    fn drop_the_proven(&mut self, records: &Records) {
        let before = self.open.len();
        self.open.retain(|(_, claim)| !claim.holds(records));
        self.proven += before - self.open.len();
    }
}

impl Claim {
    fn holds(&self, records: &Records) -> bool {
        match &self.basis {
            Basis::Given { attempt, pod_uid } => records.gave(&self.record, *attempt, pod_uid, self.before),
            Basis::Success { fingerprint } => records.said_success(&self.record, fingerprint, self.before),
        }
    }
}
