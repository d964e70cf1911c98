//! What the page shows, as values: everything is cut to a bound here, and nothing is drawn.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::controller::index::Glimpse;
use crate::controller::objects::GroupKey;
use crate::controller::shown;
use crate::controller::snapshot::{Pod, RecordView, Snapshot};
use crate::controller::standing::{Standing, standing, unaccounted};
use crate::migration::{Active, Attempt, AttemptOutcome, Migration, MigrationGateStatus, Override, Phase};

use super::text;
use super::timeline::{Timeline, Times};

/// Pods that are listed by name.
pub(super) const PODS: usize = 50;
/// Characters of a message.
const MESSAGE: usize = 600;
/// Characters of a name, an image or a command.
const NAME: usize = 300;

/// What a group asks of whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mood {
    /// Nothing goes on before somebody acts.
    Held,
    /// An attempt is active.
    Running,
    /// It will go on by itself.
    Waiting,
    /// Nothing goes on, and nothing has to.
    Rest,
}

impl Mood {
    /// All of them, the most urgent first.
    pub const ALL: [Mood; 4] = [Mood::Held, Mood::Running, Mood::Waiting, Mood::Rest];

    /// Its word in addresses and class names.
    pub fn word(self) -> &'static str {
        match self {
            Mood::Held => "held",
            Mood::Running => "running",
            Mood::Waiting => "waiting",
            Mood::Rest => "rest",
        }
    }

    /// From a record and the number of pods that wait.
    fn of(status: &MigrationGateStatus, waiting: u32) -> Mood {
        match status.phase {
            Some(Phase::Failed | Phase::Suspended) => Mood::Held,
            _ if unaccounted(status).is_some() => Mood::Held,
            Some(Phase::Running) => Mood::Running,
            Some(Phase::Pending) => Mood::Waiting,
            _ if waiting > 0 => Mood::Waiting,
            _ => Mood::Rest,
        }
    }
}

/// A group in a list: what decides whether and where it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: GroupKey,
    /// What it asks for.
    pub mood: Mood,
    /// When its phase began.
    pub since: Option<Timestamp>,
}

impl Entry {
    /// What is seen of a group in passing; nothing of one that has neither a record nor a pod that waits.
    pub fn of(glimpse: Glimpse<'_>) -> Option<Entry> {
        let waiting = glimpse.pods.filter(|pod| pod.is_waiting()).count();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let status = glimpse.record.and_then(|record| record.status.as_ref());
        let mood = match (status, glimpse.unreadable) {
            (_, Some(_)) => Mood::Held,
            (Some(status), None) => Mood::of(status, waiting),
            (None, None) if waiting > 0 || glimpse.record.is_some() => Mood::Waiting,
            (None, None) => return None,
        };
        let since = status.and_then(|status| shown::since(status, shown::shown(status)));
        Some(Entry { key: glimpse.key.clone(), mood, since })
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its namespace.
    pub namespace: String,
    /// Its record's name.
    pub name: String,
    /// The workloads that belong to it, and those that own its record.
    pub workloads: Vec<String>,
    /// What it asks for.
    pub mood: Mood,
    /// Its phase; none before there is a record.
    pub phase: Option<Phase>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The phase in a sentence.
    pub message: String,
    /// When the next attempt may start, where that is all that it waits for.
    pub next: Option<Timestamp>,
    /// The migration that the phase is about.
    pub migration: Option<Shown>,
    /// The others, newest first; only where one group is shown.
    pub earlier: Vec<Shown>,
    /// How many pods wait.
    pub waiting: u32,
    /// The first of them, oldest first; only where one group is shown.
    pub pods: Vec<Waiting>,
    /// The operators' orders; only where one group is shown.
    pub orders: Vec<Order>,
    /// The line of the shown migration's attempts.
    pub timeline: Option<Timeline>,
}

/// A migration.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Its identity.
    pub fingerprint: String,
    /// Its image.
    pub image: String,
    /// Its command.
    pub command: String,
    /// The user's revision text.
    pub revision: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// Failed attempts that count.
    pub failures: u32,
    /// How many it may have, as far as a workload asks for it.
    pub limit: Option<u32>,
    /// Its newest attempts, oldest first; the active one last.
    pub attempts: Vec<Tried>,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Its number.
    pub number: u32,
    /// Its pod.
    pub pod: String,
    /// Its node.
    pub node: Option<String>,
    /// How it ended; it runs, if `None`.
    pub outcome: Option<AttemptOutcome>,
    /// The command's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// When it was elected.
    pub from: Timestamp,
    /// When its end was recorded.
    pub to: Option<Timestamp>,
    /// How long the command ran, in milliseconds.
    pub took: Option<i64>,
    /// What its end rests on, where it isn't the agent's own word.
    pub evidence: Option<String>,
    /// The last lines of its log.
    pub tail: Option<String>,
}

/// A pod that waits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: Option<String>,
    /// Since when it exists.
    pub created: Timestamp,
    /// What it does.
    pub state: String,
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// What was ordered.
    pub action: String,
    /// The migration that it is about.
    pub fingerprint: String,
    /// The attempt that it names.
    pub attempt: u32,
    /// Who gave it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What became of it.
    pub answer: String,
}

/// How much of a group is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// In a list.
    Listed,
    /// On a page of its own.
    Whole,
}

impl Group {
    /// What is shown of a group.
    pub fn of(snapshot: &Snapshot, depth: Depth, now: Timestamp) -> Group {
        let empty = MigrationGateStatus::default();
        let (status, orders) = match &snapshot.record {
            RecordView::Present(record) => (record.status.as_ref().unwrap_or(&empty), &record.overrides[..]),
            _ => (&empty, &[][..]),
        };
        let whole = depth == Depth::Whole;
        let waiting = snapshot.waiting();
        let current = shown::shown(status);
        // By name: a pod's UID isn't recorded, but what it reports names its own.
        let pods: HashMap<&str, &Pod> = snapshot.pods.iter().map(|pod| (pod.name.as_str(), pod)).collect();
        let view = |migration: &Migration| Shown::of(migration, status.active.as_ref(), snapshot, &pods);
        // The record's list may not have the active one any more: it knows a number of them.
        let unlisted = || status.active.as_ref().map(|active| Migration::unknown(&active.fingerprint));
        let migration = current.map(view).or_else(|| unlisted().as_ref().map(view));
        let others = status.migrations.iter().rev();
        let others = others.filter(|other| current.is_none_or(|current| current.fingerprint != other.fingerprint));
        let mut waits: Vec<&Pod> = snapshot.pods.iter().filter(|pod| pod.is_waiting()).collect();
        waits.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let unreadable = matches!(snapshot.record, RecordView::Unreadable(_));
        let mood = if unreadable { Mood::Held } else { Mood::of(status, waiting) };
        let next = next_try(snapshot, status, migration.as_ref()).filter(|next| mood == Mood::Waiting && *next > now);
        let line = Times {
            attempts: migration.as_ref().map_or(&[], |migration| &migration.attempts),
            next,
            created: &waits.iter().map(|pod| pod.created).collect::<Vec<_>>(),
            goes_on: matches!(mood, Mood::Running | Mood::Waiting),
            now,
        };
        Group {
            namespace: snapshot.namespace.clone(),
            name: text::line(&snapshot.name, NAME),
            workloads: workloads(snapshot),
            mood,
            phase: status.phase,
            since: shown::since(status, current),
            message: message(snapshot, status),
            next,
            waiting,
            timeline: line.line(),
            earlier: others.filter(|_| whole).map(view).collect(),
            pods: waits.iter().take(if whole { PODS } else { 0 }).map(|pod| Waiting::of(pod, snapshot)).collect(),
            orders: orders.iter().filter(|_| whole).map(|order| Order::of(order, status)).collect(),
            migration,
        }
    }
}

/// The names of the workloads: those that ask for it now, or else those that the record is owned by.
fn workloads(snapshot: &Snapshot) -> Vec<String> {
    let now = snapshot.workloads.iter().map(|workload| text::line(&workload.name, NAME));
    let owners = match &snapshot.record {
        RecordView::Present(record) if snapshot.workloads.is_empty() => &record.owners[..],
        _ => &[],
    };
    now.chain(owners.iter().map(|owner| text::line(&owner.name, NAME))).take(PODS).collect()
}

fn message(snapshot: &Snapshot, status: &MigrationGateStatus) -> String {
    match &snapshot.record {
        RecordView::Unreadable(unreadable) => {
            text::line(&format!("its record can't be read, so that it is left alone: {}", unreadable.why), MESSAGE)
        }
        RecordView::Missing => "it has no record yet".to_owned(),
        RecordView::Refused => "its namespace is being deleted".to_owned(),
        RecordView::Present(_) => {
            let message = status.message.as_deref().unwrap_or("nothing was recorded yet");
            text::line(&shown::about(message, shown::shown(status)), MESSAGE)
        }
    }
}

/// When the shown migration may be tried again, if it only waits for that.
fn next_try(snapshot: &Snapshot, status: &MigrationGateStatus, migration: Option<&Shown>) -> Option<Timestamp> {
    let mut workloads = snapshot.workloads_of(&migration?.fingerprint);
    workloads.find_map(|workload| match standing(workload, status) {
        Standing::BackingOff(until) => Some(until),
        _ => None,
    })
}

impl Shown {
    fn of(migration: &Migration, active: Option<&Active>, snapshot: &Snapshot, pods: &HashMap<&str, &Pod>) -> Shown {
        let ended =
            migration.attempts.iter().map(|attempt| Tried::of(attempt, pods.get(attempt.pod.as_str()).copied()));
        let runs = active.filter(|active| active.fingerprint == migration.fingerprint).map(Tried::active);
        let policies =
            snapshot.workloads_of(&migration.fingerprint).filter_map(|workload| workload.policy.as_ref().ok());
        Shown {
            fingerprint: text::line(&migration.fingerprint, NAME),
            image: text::line(&migration.image, NAME),
            command: text::line(&migration.command, NAME),
            revision: migration.revision.as_deref().map(|revision| text::line(revision, NAME)),
            phase: migration.phase,
            failures: migration.failures,
            limit: policies.map(|policy| policy.backoff_limit).max(),
            attempts: ended.chain(runs).collect(),
        }
    }

    /// The newest tail of a log that is known.
    pub fn tail(&self) -> Option<(&Tried, &str)> {
        self.attempts.iter().rev().find_map(|attempt| Some((attempt, attempt.tail.as_deref()?)))
    }
}

impl Tried {
    fn of(attempt: &Attempt, pod: Option<&Pod>) -> Tried {
        // The record keeps the newest failure's; a pod that is still there tells the others'.
        let told = || pod?.report(attempt.number).map(|(_, exit)| exit.tail.as_str());
        let tail = attempt.log_tail.as_deref().or_else(told).map(text::lines);
        Tried {
            number: attempt.number,
            pod: text::line(&attempt.pod, NAME),
            node: attempt.node.as_deref().map(|node| text::line(node, NAME)),
            outcome: Some(attempt.outcome),
            exit_code: attempt.exit_code,
            signal: attempt.signal,
            from: attempt.elected,
            to: Some(attempt.recorded),
            took: attempt.started.zip(attempt.ended).map(|(from, to)| millis(from, to)),
            evidence: attempt.evidence.as_deref().map(|evidence| text::line(evidence, NAME)),
            tail: tail.filter(|tail| !tail.trim().is_empty()),
        }
    }

    fn active(active: &Active) -> Tried {
        Tried {
            number: active.attempt,
            pod: text::line(&active.pod_name, NAME),
            node: active.node_name.as_deref().map(|node| text::line(node, NAME)),
            outcome: None,
            exit_code: None,
            signal: None,
            from: active.elected_at,
            to: None,
            took: None,
            evidence: None,
            tail: None,
        }
    }
}

fn millis(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millisecond().saturating_sub(from.as_millisecond()).max(0)
}

impl Waiting {
    fn of(pod: &Pod, snapshot: &Snapshot) -> Waiting {
        let status = match &snapshot.record {
            RecordView::Present(record) => record.status.as_ref(),
            _ => None,
        };
        let runs = status.and_then(|status| status.active.as_ref()).filter(|active| active.pod_uid == pod.uid);
        let passes = status.is_some_and(|status| status.has_succeeded(&pod.fingerprint));
        let state = match (runs, snapshot.obstacle(pod)) {
            (Some(active), _) => format!("runs attempt {}", active.attempt),
            (None, _) if passes => "its gate is about to open".to_owned(),
            (None, _) if snapshot.workloads_of(&pod.fingerprint).next().is_none() => {
                "its template is not the current one any more".to_owned()
            }
            (None, Some(obstacle)) => format!("can't run it now: {obstacle}"),
            (None, None) => "waits, and could run it".to_owned(),
        };
        Waiting {
            name: text::line(&pod.name, NAME),
            node: pod.node.as_deref().map(|node| text::line(node, NAME)),
            created: pod.created,
            state: text::line(&state, NAME),
        }
    }
}

impl Order {
    fn of(order: &Override, status: &MigrationGateStatus) -> Order {
        let taken = status.overrides.iter().find(|taken| order.is_answered_by(taken));
        Order {
            action: format!("{:?}", order.action),
            fingerprint: text::line(&order.fingerprint, NAME),
            attempt: order.attempt,
            by: text::line(&order.by, NAME),
            reason: text::line(&order.reason, MESSAGE),
            answer: match taken {
                None => "not answered yet".to_owned(),
                Some(taken) => match &taken.refusal {
                    Some(why) => text::line(&format!("refused: {why}"), MESSAGE),
                    None => "followed".to_owned(),
                },
            },
        }
    }
}
