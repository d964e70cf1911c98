//! The loop of the one that leads: takes a group that changed, decides, writes, and decides again until nothing is
//! left to do. Groups don't wait for each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};

use crate::api_error::{ApiFailure, classify};
use crate::migration::{MigrationGate, MigrationGateStatus};
use crate::otlp::Traces;
use crate::supervise::{Sentence, Shutdown};

use super::apply::{UNREADABLE, Writer};
use super::decide::decide;
use super::decision::{Action, Decision, Rules};
use super::journey;
use super::live::Reader;
use super::objects::GroupKey;
use super::pods::Pods;
use super::queue::Turn;
use super::snapshot::{Live, Owner, RecordView, Snapshot, Unreadable};
use super::story;
use super::watch::{Cache, Synced};

/// Groups that are worked on at once.
const GROUPS_AT_ONCE: usize = 64;
/// Decisions for one group before the others have their turn again.
const ROUNDS: usize = 32;
/// The longest wait after a failed write: a pod that could open must not wait for a back-off that grew.
const RETRY_MOST: Duration = Duration::from_secs(10);
/// The wait after the first failed write, and after a lost race whose winner the watch is about to bring.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// How often an unanswered question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What works.
#[derive(Clone)]
pub struct Worker {
    /// What is known.
    pub cache: Arc<Cache>,
    /// The writer.
    pub writer: Writer,
    /// The reader.
    pub reader: Reader,
    /// Where events go.
    pub recorder: Recorder,
    /// What the installation chose.
    pub rules: Rules,
    /// Where traces go, if anywhere.
    pub traces: Option<Traces>,
}

/// Events that are being written while the work goes on, in their order.
#[derive(Default)]
struct Telling(Option<JoinHandle<()>>);

impl Telling {
    fn add(&mut self, worker: Worker, events: Vec<(Event, Vec<ObjectReference>)>) {
        if events.is_empty() {
            return;
        }
        let before = self.0.take();
        self.0 = Some(tokio::spawn(async move {
            Telling(before).finish().await;
            for (event, subjects) in events {
                for subject in subjects {
                    worker.publish(&event, &subject).await;
                }
            }
        }));
    }

    async fn finish(self) {
        // A panic there was said where it happened, and costs an event.
        if let Some(telling) = self.0 {
            let _ = telling.await;
        }
    }
}

enum End {
    /// Nothing is left to do before something changes.
    Settled,
    /// There is more to do, after this time.
    Again(Duration),
}

impl Worker {
    /// Works as long as the lease is held.
    ///
    /// # Errors
    /// When a group's work panicked: a defect, after which nothing here is to be trusted.
    pub async fn run(
        self,
        synced: Synced,
        mut leading: watch::Receiver<bool>,
        shutdown: Shutdown,
    ) -> Result<(), Sentence> {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = synced.complete() => {}
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                led = leading.wait_for(|leading| *leading) => {
                    if led.is_err() {
                        return Ok(());
                    }
                }
            }
            let keys = self.cache.index().keys();
            info!(groups = keys.len(), "leading");
            self.cache.queue.add(keys);
            self.lead(&mut leading, &shutdown).await?;
        }
    }

    async fn lead(&self, leading: &mut watch::Receiver<bool>, shutdown: &Shutdown) -> Result<(), Sentence> {
        let places = Arc::new(Semaphore::new(GROUPS_AT_ONCE));
        let mut tasks: JoinSet<()> = JoinSet::new();
        loop {
            let place = tokio::select! {
                () = shutdown.requested() => break,
                changed = leading.wait_for(|leading| !*leading) => {
                    drop(changed);
                    break;
                }
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    ended.map_err(|error| Sentence(format!("the work on a group panicked: {error}")))?;
                    continue;
                }
                place = Arc::clone(&places).acquire_owned() => place,
            };
            // The semaphore is never closed.
            let Ok(place) = place else { break };
            let turn = tokio::select! {
                () = shutdown.requested() => break,
                changed = leading.wait_for(|leading| !*leading) => {
                    drop(changed);
                    break;
                }
                turn = self.cache.queue.next() => turn,
            };
            let (worker, leading) = (self.clone(), leading.clone());
            tasks.spawn(async move {
                let mut telling = Telling::default();
                let end = worker.group(&turn, &leading, &mut telling).await;
                worker.cache.queue.done(&turn.key);
                if let End::Again(wait) = end {
                    worker.cache.queue.add_at(turn.key, Instant::now() + wait);
                }
                drop(place);
                telling.finish().await;
            });
        }
        // What was begun is finished: a write that is under way is not lost, and it is safe beside another leader.
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Sentence(format!("the work on a group panicked: {error}")))?;
        }
        Ok(())
    }

    async fn group(&self, turn: &Turn, leading: &watch::Receiver<bool>, telling: &mut Telling) -> End {
        let key = &turn.key;
        let mut live = Live::default();
        for _ in 0..ROUNDS {
            if !*leading.borrow() {
                return End::Settled;
            }
            let Some(mut snapshot) = self.cache.index().snapshot(key, std::mem::take(&mut live)) else {
                return End::Settled;
            };
            let now = Timestamp::now();
            let Decision { mut actions, look_again_at } = decide(&snapshot, self.rules, now);
            if let [Action::Complain(record)] = &actions[..] {
                return self.complain(turn, record, &actions).await;
            }
            if actions.is_empty() {
                return look_again_at.map_or(End::Settled, |at| End::Again(until(at, now)));
            }
            debug!(namespace = key.namespace, record = key.name, ?actions, "decided");
            // Only a question was asked, and the same answers were already there: time must pass.
            let only_looked = actions.iter().all(|action| matches!(action, Action::Look(_)));
            let journey = self.traces.as_ref().map(|traces| (traces, journey::of(&snapshot, &actions)));
            let passes = take_passes(&mut actions);
            if !passes.is_empty() {
                // From here on they alone hold on to pods: ten thousand are not kept twice until the last is open.
                snapshot.pods.clear();
            }
            let mut failures = self.writer.carry_out(turn, &actions).await;
            failures.extend(self.writer.open(turn, passes).await);
            if failures.is_empty() {
                // The gates don't wait for the events.
                telling.add(self.clone(), self.told(&snapshot, &actions));
                if let Some((traces, journey)) = journey {
                    traces.send(journey.until(Timestamp::now()));
                }
            }
            if let Some(wait) = wait_after(&failures) {
                return End::Again(wait);
            }
            match self.look(key, &snapshot, &actions).await {
                Ok(answers) => live = answers,
                Err(wait) => return End::Again(wait),
            }
            if only_looked && live == snapshot.live {
                return End::Again(ASK_AGAIN);
            }
        }
        End::Again(Duration::ZERO)
    }

    /// Nothing more is done for the group before somebody mends its record.
    async fn complain(&self, turn: &Turn, record: &Unreadable, actions: &[Action]) -> End {
        let failures = self.writer.carry_out(turn, actions).await;
        let event = Event {
            type_: EventType::Warning,
            reason: UNREADABLE.to_owned(),
            note: Some(super::record::cut(&record.why, 1000).to_owned()),
            action: "Read".to_owned(),
            secondary: None,
        };
        let subject = reference(
            &turn.key.namespace,
            (
                MigrationGate::api_version(&()).into_owned(),
                MigrationGate::kind(&()).into_owned(),
                record.name.clone(),
                record.uid.clone(),
            ),
        );
        self.publish(&event, &subject).await;
        wait_after(&failures).map_or(End::Settled, End::Again)
    }

    async fn publish(&self, event: &Event, subject: &ObjectReference) {
        match tokio::time::timeout(super::apply::REQUEST, self.recorder.publish(event, subject)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let failure = classify(&error);
                self.writer.metrics.api_errors.of(failure).inc();
                debug!(namespace = subject.namespace, %failure, "an event could not be written");
            }
            Err(_) => debug!(namespace = subject.namespace, "the write of an event had no answer in time"),
        }
    }

    async fn look(&self, key: &GroupKey, snapshot: &Snapshot, actions: &[Action]) -> Result<Live, Duration> {
        let Some(question) = actions.iter().find_map(|action| match action {
            Action::Look(question) => Some(*question),
            _ => None,
        }) else {
            return Ok(Live::default());
        };
        let active = match &snapshot.record {
            RecordView::Present(record) => record.status.as_ref().and_then(|status| status.active.clone()),
            RecordView::Refused | RecordView::Missing | RecordView::Unreadable(_) => {
                snapshot.pods.iter().find_map(|pod| {
                    pod.running_attempt().map(|attempt| super::record::adopted(pod, attempt, Timestamp::now()))
                })
            }
        };
        let record = match &snapshot.record {
            RecordView::Present(record) => Some(&**record),
            _ => None,
        };
        let answer = self.reader.answer(key, question, record, active.as_ref());
        let Ok(answer) = tokio::time::timeout(super::apply::REQUEST, answer).await else {
            warn!(namespace = key.namespace, record = key.name, "a read had no answer in time");
            return Err(ASK_AGAIN);
        };
        answer.map_err(|error| {
            let failure = classify(&error);
            self.writer.metrics.api_errors.of(failure).inc();
            let error = crate::supervise::with_causes(&error);
            warn!(namespace = key.namespace, record = key.name, %failure, error, "a read failed");
            ASK_AGAIN
        })
    }

    /// Logs what was written, and returns the events about it: one for each thing that happened, none for each pod.
    fn told(&self, snapshot: &Snapshot, actions: &[Action]) -> Vec<(Event, Vec<ObjectReference>)> {
        let RecordView::Present(record) = &snapshot.record else { return Vec::new() };
        let before = record.status.clone().unwrap_or_default();
        let mut events = Vec::new();
        for action in actions {
            let Action::WriteStatus(at, after) = action else { continue };
            if at.name != snapshot.name {
                continue;
            }
            self.count(&before, after);
            for chapter in story::between(&before, after) {
                let note = chapter.event.note.as_deref().unwrap_or_default();
                info!(namespace = snapshot.namespace, record = snapshot.name, event = chapter.event.reason, "{note}");
                let subjects = subjects(snapshot, chapter.fingerprint.as_deref());
                events.push((chapter.event, subjects));
            }
        }
        events
    }

    fn count(&self, before: &MigrationGateStatus, after: &MigrationGateStatus) {
        let Some((_, attempt)) = story::attempt_ended(before, after) else { return };
        self.writer.metrics.attempts.of(attempt.outcome).inc();
        let ran = attempt.started.zip(attempt.ended).map(|(started, ended)| ended.duration_since(started));
        if let Some(ran) = ran.and_then(|ran| Duration::try_from(ran).ok()) {
            self.writer.metrics.attempt_duration.observe(ran);
        }
    }
}

/// The workloads that an event is about; the record itself, where there is none.
fn subjects(snapshot: &Snapshot, fingerprint: Option<&str>) -> Vec<ObjectReference> {
    let asks =
        |uid: &str| fingerprint.is_none_or(|fingerprint| snapshot.workloads_of(fingerprint).any(|w| w.uid == uid));
    let workloads = snapshot.workloads.iter().filter(|workload| asks(&workload.uid)).map(|workload| {
        let owner = Owner::of(workload);
        (owner.api_version, owner.kind, owner.name, owner.uid)
    });
    let mut subjects: Vec<_> = workloads.collect();
    if let (true, RecordView::Present(record)) = (subjects.is_empty(), &snapshot.record) {
        let (version, kind) = (MigrationGate::api_version(&()).into_owned(), MigrationGate::kind(&()).into_owned());
        subjects.push((version, kind, record.name.clone(), record.uid.clone()));
    }
    subjects.into_iter().map(|subject| reference(&snapshot.namespace, subject)).collect()
}

fn reference(namespace: &str, (api_version, kind, name, uid): (String, String, String, String)) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind),
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid),
        ..ObjectReference::default()
    }
}

/// Takes the pods that are to be opened out of these actions.
fn take_passes(actions: &mut Vec<Action>) -> Pods {
    let opens = actions.extract_if(.., |action| matches!(action, Action::Open(_)));
    let pods = opens.filter_map(|action| match action {
        Action::Open(pods) => Some(pods),
        _ => None,
    });
    pods.flatten().collect()
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// How long to wait before deciding again, if any write failed.
fn wait_after(failures: &[ApiFailure]) -> Option<Duration> {
    let wait = |failure: &ApiFailure| match failure {
        ApiFailure::Conflict | ApiFailure::NotFound | ApiFailure::AlreadyExists | ApiFailure::Expired => RETRY_FIRST,
        ApiFailure::NamespaceTerminating => Duration::ZERO,
        ApiFailure::Transient { retry_after } => retry_after.unwrap_or(Duration::from_secs(1)).min(RETRY_MOST),
        ApiFailure::Forbidden | ApiFailure::Invalid | ApiFailure::Unreadable => RETRY_MOST,
    };
    failures.iter().map(wait).max()
}
