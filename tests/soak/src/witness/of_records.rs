//! What each change of a record must rest on, and what each version of one must be like.

use std::time::Duration;

use super::blame::Promise;
use super::facts::{self, Active, Attempt, Record, Workload};
use super::runs::Truth;
use super::told::Expected;
use super::{Books, Object, records};

/// The bytes that a status may have: what docs/design.md promises, so that whoever lists records can read them.
pub(super) const STATUS_BYTES: usize = 128 * 1024;

impl Books {
    /// Judges a version of a record.
    pub(super) fn record(&mut self, record: Record) {
        let now = self.chronicle.now();
        let missed = self.missing.contains(&Object::Record);
        let name = record.key.clone();
        let before = self.records.now(&name).filter(|known| known.uid == record.uid).cloned();
        let changes = self.records.read(record.clone(), missed, now);
        self.look_at(&record);
        for change in changes {
            let about = vec![name.clone()];
            if !matches!(change, records::Change::Stormed(..)) {
                self.chronicle.note(about.clone(), format!("record: {change} (version {})", record.at));
            }
            match change {
                records::Change::Succeeded(fingerprint) => self.recorded_success(&name, &fingerprint, now),
                records::Change::Elected(active) => {
                    let before = before.as_ref().filter(|_| !missed);
                    self.elected(&record, before, &active);
                }
                records::Change::Ended(active, attempt) => {
                    self.forward = now;
                    self.attempt_ended(&name, &active, attempt.as_ref(), missed);
                }
                records::Change::Forgot(fingerprints) => {
                    let what = format!("{name} forgot that these succeeded: {}", fingerprints.join(", "));
                    self.blame(Promise::Progress, about, what);
                }
                records::Change::CountedBack(from) => {
                    let what = format!("{name} counted {from} attempts, and now {}", record.status.last_attempt);
                    self.blame(Promise::AttemptOnce, about, what);
                }
                records::Change::Replaced(old, new) => {
                    let what =
                        format!("{name}: attempt {} took the place of active attempt {}", new.attempt, old.attempt);
                    self.blame(Promise::SingleRunner, about, what);
                }
                records::Change::GivenTwice(active) => {
                    let what = format!("{name} gave attempt {} a second time, to {}", active.attempt, active.pod_name);
                    self.blame(Promise::AttemptOnce, about, what);
                }
                records::Change::Stormed(writes, within) => {
                    let what = format!("{name} was written more than {writes} times within {within:?}");
                    self.blame(Promise::Rest, about, what);
                }
            }
        }
    }

    /// What each version of a record must be like.
    fn look_at(&mut self, record: &Record) {
        let (name, status) = (&record.key, &record.status);
        let mut lies = Vec::new();
        let phase = status.phase.as_deref().unwrap_or_default();
        let migrated = status.holding("Migrated").is_some();
        if status.active.is_some() != (phase == "Running") {
            lies.push(format!("its phase is {phase:?}, and an attempt is active: {}", status.active.is_some()));
        }
        if migrated != (phase == "Succeeded") && !status.conditions.is_empty() {
            lies.push(format!("its phase is {phase:?}, and Migrated holds: {migrated}"));
        }
        let mut called = status.migrations.iter().filter(|migration| migration.phase == "Succeeded");
        if let Some(migration) = called.find(|migration| !status.has_succeeded(&migration.fingerprint)) {
            lies.push(format!("it calls {} Succeeded, which is not among those that did", migration.fingerprint));
        }
        if record.bytes > STATUS_BYTES {
            lies.push(format!("its status has {} bytes", record.bytes));
        }
        for lie in lies {
            self.blame(Promise::TrueRecord, vec![name.clone()], format!("{name}: {lie}"));
        }
    }

    fn recorded_success(&mut self, name: &str, fingerprint: &str, now: Duration) {
        self.since.entry((name.to_owned(), fingerprint.to_owned())).or_insert(now);
        let justified = self.runs.succeeded_near(name, fingerprint)
            || self.records.was_ordered(name, "MarkSucceeded", fingerprint)
            || self.records.known_elsewhere(name, fingerprint);
        if !justified {
            let what = format!("{name} says that {fingerprint} succeeded, and no command of it ever did");
            self.blame(Promise::GateSoundness, vec![name.to_owned()], what);
        }
    }

    fn elected(&mut self, record: &Record, before: Option<&Record>, active: &Active) {
        let (name, fingerprint) = (&record.key, &active.fingerprint);
        let pod = self.pods.last(&active.pod_uid).cloned();
        let adopted =
            pod.as_ref().is_some_and(|pod| pod.signal.as_ref().is_some_and(|s| s.attempt() >= active.attempt));
        // Of a record that was lost, or of versions that were missed, nobody knows what it rested on.
        let Some(before) = before.filter(|_| !adopted) else { return };
        let about = vec![name.clone(), active.pod_name.clone()];
        let elected = format!("{name} gave attempt {} of {fingerprint} to {}", active.attempt, active.pod_name);
        if before.status.has_succeeded(fingerprint) {
            self.blame(Promise::Progress, about.clone(), format!("{elected}, though it had succeeded"));
        }
        if !before.protected {
            let what = format!("{elected} without the finalizer that keeps the record");
            self.blame(Promise::SingleRunner, about.clone(), what);
        }
        if before.deleting {
            self.blame(Promise::SingleRunner, about.clone(), format!("{elected}, though it was being deleted"));
        }
        let now = self.chronicle.now();
        let asking: Vec<Workload> = self.workloads.asking(name, fingerprint, now).cloned().collect();
        if asking.is_empty() && self.seeing.contains_key(&Object::Workload) {
            self.blame(Promise::Progress, about.clone(), format!("{elected}, which no workload asks for"));
            return;
        }
        let migration = before.status.migration(fingerprint);
        let limit = asking.iter().map(|workload| workload.backoff_limit).max().unwrap_or(u32::MAX);
        let retried = |order: &facts::Order| order.action == "Retry" && order.fingerprint == *fingerprint;
        if migration.is_some_and(|migration| migration.failures >= limit) && !record.orders.iter().any(retried) {
            self.blame(Promise::FailClosed, about.clone(), format!("{elected}, which had no attempts left"));
        }
        let approved = migration.is_some_and(|migration| migration.approved)
            || self.records.was_ordered(name, "Approve", fingerprint);
        if !asking.is_empty() && asking.iter().all(|workload| workload.suspended) && !approved {
            self.blame(Promise::FailClosed, about, format!("{elected}, which nobody had approved"));
        }
    }

    fn attempt_ended(&mut self, name: &str, active: &Active, attempt: Option<&Attempt>, missed: bool) {
        let about = vec![name.to_owned(), active.pod_name.clone()];
        let Some(attempt) = attempt else {
            if !missed {
                let what = format!("{name} ended attempt {} and says nothing of how", active.attempt);
                self.blame(Promise::NoOutcomeLost, about, what);
            }
            return;
        };
        *self.figures.outcomes.entry(attempt.outcome.clone()).or_default() += 1;
        self.told.expect(Expected {
            record: name.to_owned(),
            outcome: attempt.outcome.clone(),
            attempt: active.attempt,
            fingerprint: active.fingerprint.clone(),
            at: self.chronicle.now(),
        });
        let run = self.runs.find(&active.pod_uid, active.attempt);
        let truth = run.map(|run| run.ended.map(|(_, truth)| truth));
        let said = format!("{name} says that attempt {} in {} {}", active.attempt, active.pod_name, attempt.outcome);
        let lie = match (attempt.outcome.as_str(), truth) {
            ("Succeeded", Some(Some(Truth::Succeeded))) => None,
            ("Succeeded", _) => Some("but its command did not exit with 0 by itself"),
            ("NotStarted", Some(_)) => Some("but its command was started"),
            ("Failed" | "TimedOut", Some(Some(Truth::Succeeded))) => Some("but its command succeeded"),
            _ => None,
        };
        let mark = run.map(|run| run.mark.clone());
        if let Some(lie) = lie {
            self.blame(Promise::TrueRecord, about.clone(), format!("{said}, {lie}"));
        }
        // Where the agent could say so, the log's tail came with it.
        let by_verdict = attempt.evidence.is_none() && attempt.outcome == "Failed";
        let tail = attempt.log_tail.as_deref().unwrap_or_default();
        if let Some(mark) = mark.filter(|mark| by_verdict && truth == Some(Some(Truth::Failed)) && !tail.contains(mark))
        {
            self.blame(Promise::FailClosed, about, format!("{said} without the last line of its log, {mark:?}"));
        }
    }
}
