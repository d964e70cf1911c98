//! Telling what was recorded: events for people, a line in the log, metrics and traces.
//!
//! Each is told of a status that was written, whatever became of the other writes of the same decision.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use crate::api_error::classify;
use crate::metrics::ControllerMetrics;
use crate::migration::{MigrationGate, MigrationGateStatus};
use crate::otlp::Traces;

use super::apply::{REQUEST, UNREADABLE};
use super::journey::{self, Journey};
use super::objects::GroupKey;
use super::snapshot::{Owner, RecordView, Snapshot, Unreadable};
use super::story;

/// Who tells.
#[derive(Clone)]
pub struct Teller {
    /// Where events go.
    pub recorder: Recorder,
    /// What is counted.
    pub metrics: Arc<ControllerMetrics>,
    /// Where traces go, if anywhere.
    pub traces: Option<Traces>,
}

/// Events that are being written while the work goes on, in their order: no gate waits for them.
#[derive(Default)]
pub(super) struct Telling(Option<JoinHandle<()>>);

impl Telling {
    fn add(&mut self, teller: &Teller, events: Vec<(Event, Vec<ObjectReference>)>) {
        if events.is_empty() {
            return;
        }
        let (before, teller) = (self.0.take(), teller.clone());
        self.0 = Some(tokio::spawn(async move {
            Telling(before).finish().await;
            for (event, subjects) in events {
                for subject in subjects {
                    teller.publish(&event, &subject).await;
                }
            }
        }));
    }

    /// Waits until all is told.
    pub(super) async fn finish(self) {
        // A panic there was said where it happened, and costs an event.
        if let Some(telling) = self.0 {
            let _ = telling.await;
        }
    }
}

impl Teller {
    /// Tells what happened to a group's status, which was written: in the log, in metrics, and in events, one for each thing
    /// that happened, none for each pod.
    pub(super) fn recorded(
        &self,
        snapshot: &Snapshot,
        before: &MigrationGateStatus,
        after: &MigrationGateStatus,
        telling: &mut Telling,
    ) {
        self.count(before, after);
        let mut events = Vec::new();
        for chapter in story::between(before, after) {
            let note = chapter.event.note.as_deref().unwrap_or_default();
            info!(namespace = snapshot.namespace, record = snapshot.name, event = chapter.event.reason, "{note}");
            let subjects = subjects(snapshot, chapter.fingerprint.as_deref());
            events.push((chapter.event, subjects));
        }
        telling.add(self, events);
    }

    /// Tells that a record can't be read.
    pub(super) fn unreadable(&self, key: &GroupKey, record: &Unreadable, telling: &mut Telling) {
        let event = Event {
            type_: EventType::Warning,
            reason: UNREADABLE.to_owned(),
            note: Some(super::record::cut(&record.why, 1000).to_owned()),
            action: "Read".to_owned(),
            secondary: None,
        };
        telling.add(self, vec![(event, vec![of_record(&key.namespace, &record.name, &record.uid)])]);
    }

    /// The part of a trace that these actions come to, if anybody wants one.
    pub(super) fn journey(&self, snapshot: &Snapshot, actions: &[super::decision::Action]) -> Option<Journey> {
        self.traces.as_ref().map(|_| journey::of(snapshot, actions))
    }

    /// Tells that part of a trace, as far as it came to be: the status was written, and all pods were opened but those of
    /// these migrations.
    pub(super) fn travelled(&self, journey: Option<Journey>, recorded: bool, shut: &BTreeSet<String>) {
        if let (Some(traces), Some(journey)) = (&self.traces, journey) {
            traces.send(journey.until(Timestamp::now(), recorded, shut));
        }
    }

    async fn publish(&self, event: &Event, subject: &ObjectReference) {
        match tokio::time::timeout(REQUEST, self.recorder.publish(event, subject)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let failure = classify(&error);
                self.metrics.api_errors.of(failure).inc();
                debug!(namespace = subject.namespace, %failure, "an event could not be written");
            }
            Err(_) => debug!(namespace = subject.namespace, "the write of an event had no answer in time"),
        }
    }

    fn count(&self, before: &MigrationGateStatus, after: &MigrationGateStatus) {
        let Some((_, attempt)) = story::attempt_ended(before, after) else { return };
        self.metrics.attempts.of(attempt.outcome).inc();
        let ran = attempt.started.zip(attempt.ended).map(|(started, ended)| ended.duration_since(started));
        if let Some(ran) = ran.and_then(|ran| Duration::try_from(ran).ok()) {
            self.metrics.attempt_duration.observe(ran);
        }
    }
}

/// The workloads that an event is about; the record itself, where there is none.
fn subjects(snapshot: &Snapshot, fingerprint: Option<&str>) -> Vec<ObjectReference> {
    let asks =
        |uid: &str| fingerprint.is_none_or(|fingerprint| snapshot.workloads_of(fingerprint).any(|w| w.uid == uid));
    let workloads = snapshot.workloads.iter().filter(|workload| asks(&workload.uid)).map(|workload| {
        let owner = Owner::of(workload);
        reference(&snapshot.namespace, owner.api_version, owner.kind, owner.name, owner.uid)
    });
    let mut subjects: Vec<_> = workloads.collect();
    if let (true, RecordView::Present(record)) = (subjects.is_empty(), &snapshot.record) {
        subjects.push(of_record(&snapshot.namespace, &record.name, &record.uid));
    }
    subjects
}

fn of_record(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    let (version, kind) = (MigrationGate::api_version(&()).into_owned(), MigrationGate::kind(&()).into_owned());
    reference(namespace, version, kind, name.to_owned(), uid.to_owned())
}

fn reference(namespace: &str, api_version: String, kind: String, name: String, uid: String) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind),
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}
