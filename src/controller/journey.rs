//! A rollout as a trace: from its first pod to its last gate.
//!
//! ```text
//! rollout      first pod admitted ───────────────────────────────────────▶ last gate open
//!   wait       first pod admitted ──▶ elected
//!   attempt                           elected ─────────────────▶ recorded
//!     run                                 started ──▶ ended
//!   open                                                         recorded ──▶ last gate open
//! ```
//!
//! An attempt is told of when it is on record, whatever came of it; the rollout when its gates are open. Another leader may
//! tell the rest: the spans find each other by the record and the migration.

use std::collections::{BTreeSet, HashSet};
use std::time::SystemTime;

use jiff::Timestamp;
use opentelemetry::trace::Status;

use crate::metrics::Label;
use crate::migration::{Attempt, AttemptOutcome, MigrationGateStatus, OverrideAction};
use crate::otlp::{KeyValue, Span};

use super::decision::{Action, Settlement};
use super::snapshot::{Pod, Record, RecordView, Snapshot};
use super::story;

/// The rollout's own span.
const ROLLOUT: &str = "rollout";
/// The span of the time before its first attempt.
const WAIT: &str = "wait";

/// What is to be told of some actions once they were carried out.
pub struct Journey {
    /// Spans that have their end, once the status is written.
    ended: Vec<Span>,
    /// For each migration whose gates are all open then, the spans of that.
    opened: Vec<(String, Vec<Span>)>,
}

impl Journey {
    /// The spans, now that the actions were carried out: whether the status was written, and the migrations of which some
    /// gates stayed shut.
    pub fn until(self, now: Timestamp, recorded: bool, shut: &BTreeSet<String>) -> Vec<Span> {
        let end = SystemTime::from(now);
        let ended = self.ended.into_iter().filter(|_| recorded);
        let opened = self.opened.into_iter().filter(|(fingerprint, _)| !shut.contains(fingerprint));
        // They end with the last gate.
        let open = opened.flat_map(|(_, parts)| parts).map(|span| match span.name {
            WAIT => span,
            _ => Span { end, ..span },
        });
        ended.chain(open).collect()
    }
}

/// What these actions will have done.
pub fn of(snapshot: &Snapshot, actions: &[Action]) -> Journey {
    let mut journey = Journey { ended: Vec::new(), opened: Vec::new() };
    let RecordView::Present(record) = &snapshot.record else { return journey };
    let Some(status) = &record.status else { return journey };
    let route = Route { snapshot, record };
    let mut opened = HashSet::new();
    for action in actions {
        match action {
            Action::WriteStatus(at, after) if at.uid == record.uid => {
                journey.ended.extend(route.attempt(status, after));
            }
            Action::Open(pods) => opened.extend(pods.iter().map(|pod| pod.uid.as_str())),
            Action::Settle(pod, Settlement { open: Some(_), .. }) => {
                opened.insert(pod.uid.as_str());
            }
            _ => {}
        }
    }
    let pods = snapshot.pods.iter().filter(|pod| opened.contains(pod.uid.as_str()));
    let fingerprints: BTreeSet<&str> = pods.map(|pod| pod.fingerprint.as_str()).collect();
    for fingerprint in fingerprints {
        let parts = route.opening(status, fingerprint, &opened);
        journey.opened.push((fingerprint.to_owned(), parts));
    }
    journey
}

struct Route<'a> {
    snapshot: &'a Snapshot,
    record: &'a Record,
}

impl Route<'_> {
    /// The attempt that ended between these two statuses.
    fn attempt(&self, before: &MigrationGateStatus, after: &MigrationGateStatus) -> Vec<Span> {
        let Some((active, attempt)) = story::attempt_ended(before, after) else { return Vec::new() };
        let fingerprint = &active.fingerprint;
        let id = format!("attempt {}", attempt.number);
        let mut attributes = vec![
            KeyValue::new("migration_gate.attempt", i64::from(attempt.number)),
            KeyValue::new("migration_gate.outcome", attempt.outcome.value()),
            KeyValue::new("k8s.pod.name", attempt.pod.clone()),
        ];
        attributes.extend(attempt.node.clone().map(|node| KeyValue::new("k8s.node.name", node)));
        let mut spans = Vec::new();
        if let Some((started, ended)) = attempt.started.zip(attempt.ended) {
            let mut run = self.span(fingerprint, "run", &format!("run {}", attempt.number), Some(&id), started, ended);
            run.attributes.extend(attempt.exit_code.map(|code| KeyValue::new("process.exit.code", i64::from(code))));
            run.status = status_of(attempt);
            spans.push(run);
        }
        let mut span = self.span(fingerprint, "attempt", &id, Some(ROLLOUT), attempt.elected, attempt.recorded);
        span.attributes.extend(attributes);
        span.status = status_of(attempt);
        spans.push(span);
        spans
    }

    /// These gates; and with the last of those that waited, the rollout. What comes later passes at once, and is no
    /// rollout.
    fn opening(&self, status: &MigrationGateStatus, fingerprint: &str, opened: &HashSet<&str>) -> Vec<Span> {
        let Some(recorded) = succeeded_at(status, fingerprint) else { return Vec::new() };
        let waited = |pod: &&Pod| pod.fingerprint == fingerprint && pod.is_alive() && pod.created <= recorded;
        let opens = |pod: &Pod| opened.contains(pod.uid.as_str());
        let waiters: Vec<&Pod> = self.snapshot.pods.iter().filter(waited).collect();
        let Some(admitted) = waiters.iter().map(|pod| pod.created).min() else { return Vec::new() };
        if waiters.iter().any(|pod| !pod.is_open() && !opens(pod)) || !waiters.iter().any(|pod| opens(pod)) {
            return Vec::new();
        }
        let count = KeyValue::new("migration_gate.pods", i64::try_from(waiters.len()).unwrap_or(i64::MAX));
        let mut rollout = self.span(fingerprint, ROLLOUT, ROLLOUT, None, admitted, recorded);
        rollout.attributes.push(count.clone());
        let migration = status.migration(fingerprint);
        let image = migration.map(|migration| KeyValue::new("container.image.name", migration.image.clone()));
        rollout.attributes.extend(image);
        let names = self.snapshot.workloads_of(fingerprint).map(|workload| workload.name.clone());
        rollout.attributes.extend(names.map(|name| KeyValue::new("k8s.deployment.name", name)).next());
        let first = migration.and_then(|migration| migration.attempts.first()).map_or(recorded, |first| first.elected);
        let wait = self.span(fingerprint, WAIT, WAIT, Some(ROLLOUT), admitted, first);
        let mut open = self.span(fingerprint, "open", "open", Some(ROLLOUT), recorded, recorded);
        open.attributes.push(count);
        vec![wait, rollout, open]
    }

    fn span(
        &self,
        fingerprint: &str,
        name: &'static str,
        id: &str,
        parent: Option<&str>,
        start: Timestamp,
        end: Timestamp,
    ) -> Span {
        Span {
            trace: format!("{} {fingerprint}", self.record.uid),
            id: id.to_owned(),
            name,
            parent: parent.map(str::to_owned),
            start: SystemTime::from(start),
            end: SystemTime::from(end),
            attributes: vec![
                KeyValue::new("k8s.namespace.name", self.snapshot.namespace.clone()),
                KeyValue::new("migration_gate.record", self.snapshot.name.clone()),
                KeyValue::new("migration_gate.migration", fingerprint.to_owned()),
            ],
            status: Status::Unset,
        }
    }
}

/// When the migration was known to have succeeded: by its attempt, or by an operator's word.
fn succeeded_at(status: &MigrationGateStatus, fingerprint: &str) -> Option<Timestamp> {
    let attempts = status.migration(fingerprint).into_iter().flat_map(|migration| &migration.attempts);
    let success = attempts.rev().find(|attempt| attempt.outcome == AttemptOutcome::Succeeded);
    let order = || {
        let orders = status.overrides.iter().rev();
        let mut marks = orders.filter(|taken| taken.accepted && taken.action == OverrideAction::MarkSucceeded);
        marks.find(|taken| taken.fingerprint == fingerprint)
    };
    success.map(|attempt| attempt.recorded).or_else(|| order().map(|taken| taken.at))
}

fn status_of(attempt: &Attempt) -> Status {
    match attempt.outcome {
        AttemptOutcome::Succeeded => Status::Ok,
        AttemptOutcome::NotStarted => Status::Unset,
        AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Interrupted => {
            Status::error(story::how(attempt))
        }
    }
}
