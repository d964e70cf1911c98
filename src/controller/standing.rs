//! Whether a migration may be tried now, and what a record says about that to people.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::migration::{
    Active, Attempt, AttemptOutcome, Condition, ConditionStatus, ConditionType, Migration, MigrationGateStatus, Phase,
};

use super::budget::{self, MESSAGE_BYTES};
use super::record;
use super::snapshot::{Snapshot, Workload};

/// Interrupted attempts after which an operator must decide: so many disruptions are no accident.
pub const INTERRUPTIONS_CAP: u32 = 10;
/// Attempts in a row that never started after which an operator must decide: an agent whose disk takes no journal refuses
/// every one of them.
pub const NEVER_STARTED_CAP: u32 = 10;
/// The back-off after the first failure. Source: Kubernetes, Job, "Pod backoff failure policy".
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// The longest back-off. Source: as above.
const BACKOFF_MOST: Duration = Duration::from_secs(360);

/// Whether a migration may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It succeeded or was marked so: there is nothing to try.
    Done,
    /// It may be tried now.
    Ready,
    /// It may be tried at this time.
    BackingOff(Timestamp),
    /// It waits for an approval.
    Suspended,
    /// It failed as often as its back-off limit allows.
    OutOfAttempts,
    /// It was interrupted too often.
    OutOfInterruptions,
    /// It was given out too often and never started.
    OutOfStarts,
    /// Its workload's settings can't be read.
    Unreadable,
}

/// Where a workload's current migration stands, its active attempt left aside.
pub fn standing(workload: &Workload, status: &MigrationGateStatus) -> Standing {
    standing_if(status.has_succeeded(&workload.fingerprint), workload, status)
}

/// The same, where it is known whether the migration succeeded.
pub(super) fn standing_if(done: bool, workload: &Workload, status: &MigrationGateStatus) -> Standing {
    if done {
        return Standing::Done;
    }
    let Ok(policy) = &workload.policy else { return Standing::Unreadable };
    let migration = status.migration(&workload.fingerprint);
    if policy.suspend && !migration.is_some_and(|migration| migration.approved) {
        return Standing::Suspended;
    }
    let Some(migration) = migration else { return Standing::Ready };
    if migration.failures >= policy.backoff_limit {
        return Standing::OutOfAttempts;
    }
    if migration.interruptions >= INTERRUPTIONS_CAP {
        return Standing::OutOfInterruptions;
    }
    if migration.never_started >= NEVER_STARTED_CAP {
        return Standing::OutOfStarts;
    }
    match backing_off_until(migration) {
        Some(until) => Standing::BackingOff(until),
        None => Standing::Ready,
    }
}

/// How long an agent must be seen to run before its pod is elected.
///
/// The kubelet says that a container runs as soon as it was started, and an agent answers a signal that is there
/// before itself with `notStarted`: where processors are scarce, a signal can be faster than an agent. So nobody waits at
/// first, and ever longer after attempts that never started.
pub fn head_start(migration: Option<&Migration>) -> Duration {
    match migration.map_or(0, |migration| migration.never_started) {
        0 => Duration::ZERO,
        times => Duration::from_secs(1 << (times - 1).min(16)).min(BACKOFF_MOST),
    }
}

fn backing_off_until(migration: &Migration) -> Option<Timestamp> {
    let tries = migration.failures + migration.interruptions;
    let counted = |attempt: &&Attempt| attempt.outcome != AttemptOutcome::NotStarted;
    // A record of an earlier version has the attempts only.
    let of_attempts = || migration.attempts.iter().rev().find(counted).map(|attempt| attempt.recorded);
    let last = migration.tried_at.or_else(of_attempts)?;
    let doublings = tries.checked_sub(1)?.min(16);
    let wait = (BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MOST);
    last.checked_add(wait).ok()
}

/// The reason of `Stalled` while an attempt's end can't be proven.
const UNACCOUNTED: &str = "AttemptUnaccounted";

/// Why nothing goes on before an operator decides.
pub type Stall = Option<String>;

/// Brings all that a status says for people into line with what it says for the controller.
///
/// `before` is the attempt that was active when the status was read: what became of it is yet to be told.
pub fn describe(
    status: &mut MigrationGateStatus,
    snapshot: &Snapshot,
    stall: &Stall,
    before: Option<&Active>,
    now: Timestamp,
) {
    for workload in &snapshot.workloads {
        record::remember(status, workload);
    }
    let asked = snapshot.workloads.iter().map(|workload| workload.fingerprint.as_str());
    let done = succeeded_among(status, asked.chain(status.migrations.iter().map(|each| each.fingerprint.as_str())));
    let phase = |migration: &Migration| phase_of(&migration.fingerprint, status, &done, snapshot);
    let phases: Vec<Phase> = status.migrations.iter().map(phase).collect();
    for (migration, phase) in status.migrations.iter_mut().zip(phases) {
        migration.phase = phase;
    }
    let (phase, message, culprit) = summary(status, &done, snapshot);
    let message = record::cut(&message, MESSAGE_BYTES).to_owned();
    status.phase = phase;
    let shown = culprit.or_else(|| status.migrations.last().map(|migration| migration.fingerprint.clone()));
    if let Some(migration) = shown.and_then(|fingerprint| status.migration(&fingerprint).cloned()) {
        status.image = Some(migration.image);
        if let Some(attempt) = migration.attempts.last() {
            status.runner = Some(attempt.pod.clone());
            status.duration = match (attempt.started, attempt.ended) {
                (Some(started), Some(ended)) => Some(for_people(ended.duration_since(started))),
                _ => None,
            };
        }
    }
    if let Some(active) = &status.active {
        status.runner = Some(active.pod_name.clone());
        status.duration = None;
    }
    status.waiting = snapshot.waiting();
    let migrated = match phase {
        Some(Phase::Succeeded) => ConditionStatus::True,
        None => ConditionStatus::Unknown,
        _ => ConditionStatus::False,
    };
    let reason = status.phase.map_or("Unknown", phase_word);
    set(status, ConditionType::Migrated, migrated, reason, &message, now);
    let gave_up = status.phase == Some(Phase::Failed);
    let (stalled, reason, why) = match stall {
        Some(why) => (ConditionStatus::True, UNACCOUNTED, why.as_str()),
        None if gave_up => (ConditionStatus::True, "AttemptsExhausted", message.as_str()),
        None => (ConditionStatus::False, "Progressing", ""),
    };
    set(status, ConditionType::Stalled, stalled, reason, why, now);
    status.message = Some(if stall.is_some() { why.to_owned() } else { message });
    budget::keep_within(status, snapshot, before.map(|active| active.fingerprint.as_str()));
}

/// Why the record says that an attempt is unaccounted for, if it does.
pub fn unaccounted(status: &MigrationGateStatus) -> Stall {
    let stalled = |condition: &&Condition| {
        condition.type_ == ConditionType::Stalled
            && condition.status == ConditionStatus::True
            && condition.reason == UNACCOUNTED
    };
    status.conditions.iter().find(stalled).map(|condition| condition.message.clone())
}

/// Those of these migrations that succeeded. There may be thousands that did, and hundreds that are asked about.
pub(super) fn succeeded_among<'a>(
    status: &MigrationGateStatus,
    asked: impl Iterator<Item = &'a str>,
) -> HashSet<String> {
    let asked: HashSet<&str> = asked.collect();
    status.succeeded.iter().filter(|fingerprint| asked.contains(fingerprint.as_str())).cloned().collect()
}

fn phase_of(fingerprint: &str, status: &MigrationGateStatus, done: &HashSet<String>, snapshot: &Snapshot) -> Phase {
    if done.contains(fingerprint) {
        return Phase::Succeeded;
    }
    if status.active.as_ref().is_some_and(|active| active.fingerprint == fingerprint) {
        return Phase::Running;
    }
    let phases = snapshot.workloads_of(fingerprint).map(|workload| phase_for(standing_if(false, workload, status)));
    phases.max_by_key(|phase| urgency(*phase)).unwrap_or(Phase::Superseded)
}

fn phase_for(standing: Standing) -> Phase {
    match standing {
        Standing::Done => Phase::Succeeded,
        Standing::Ready | Standing::BackingOff(_) => Phase::Pending,
        Standing::Suspended => Phase::Suspended,
        Standing::OutOfAttempts | Standing::OutOfInterruptions | Standing::OutOfStarts | Standing::Unreadable => {
            Phase::Failed
        }
    }
}

/// Which of several phases a person should hear of first.
fn urgency(phase: Phase) -> u8 {
    match phase {
        Phase::Superseded => 0,
        Phase::Succeeded => 1,
        Phase::Pending => 2,
        Phase::Suspended => 3,
        Phase::Failed => 4,
        Phase::Running => 5,
    }
}

/// The group's phase, a sentence about it, and the fingerprint that decided it. Where no workload is left, the phase is
/// the newest migration's: what it waited for, or failed in, before everybody left concerns nobody now.
fn summary(
    status: &MigrationGateStatus,
    done: &HashSet<String>,
    snapshot: &Snapshot,
) -> (Option<Phase>, String, Option<String>) {
    let standing = |workload: &Workload| standing_if(done.contains(&workload.fingerprint), workload, status);
    if let Some(active) = &status.active {
        let text =
            format!("attempt {} of migration {} runs in pod {}", active.attempt, active.fingerprint, active.pod_name);
        return (Some(Phase::Running), text, Some(active.fingerprint.clone()));
    }
    let current = snapshot.workloads.iter().filter(|workload| !workload.deleting);
    let worst = current.max_by_key(|workload| urgency(phase_for(standing(workload))));
    let Some(workload) = worst else {
        let newest = status.migrations.last().map(|migration| migration.phase);
        return (newest, "no workload asks for a migration".to_owned(), None);
    };
    let (fingerprint, standing) = (&workload.fingerprint, standing(workload));
    let last = status.migration(fingerprint).and_then(|migration| migration.attempts.last());
    let fenced = status.fenced.as_ref().filter(|_| matches!(standing, Standing::Ready | Standing::BackingOff(_)));
    if let Some(fenced) = fenced {
        let until = fenced.at.checked_add(fenced.longest_ending()).unwrap_or(fenced.at);
        let text = format!(
            "migration {fingerprint} waits until {}, because attempt {} in pod {} was given up without a proof that its process is gone",
            until.strftime(TIME),
            fenced.attempt,
            fenced.pod_name
        );
        return (Some(Phase::Pending), text, Some(fingerprint.clone()));
    }
    let text = match standing {
        Standing::Done => format!("migration {fingerprint} succeeded"),
        Standing::Ready => format!("migration {fingerprint} waits for a pod of {} whose agent runs", workload.name),
        Standing::BackingOff(until) => {
            format!("migration {fingerprint} is tried again after {}", until.strftime(TIME))
        }
        Standing::Suspended => {
            format!("migration {fingerprint} waits for an approval, because {} is suspended", workload.name)
        }
        Standing::OutOfAttempts => {
            format!("migration {fingerprint} failed and has no attempts left{}", last_line(last))
        }
        Standing::OutOfInterruptions => format!("migration {fingerprint} was interrupted {INTERRUPTIONS_CAP} times"),
        Standing::OutOfStarts => format!(
            "migration {fingerprint} was given to a pod {NEVER_STARTED_CAP} times in a row and never started; see the log of its init container"
        ),
        Standing::Unreadable => match &workload.policy {
            Err(why) => format!("the settings of {} can't be used: {why}", workload.name),
            Ok(_) => String::new(),
        },
    };
    (Some(phase_for(standing)), text, Some(fingerprint.clone()))
}

/// How times are written in messages.
const TIME: &str = "%Y-%m-%dT%H:%M:%SZ";

fn last_line(attempt: Option<&Attempt>) -> String {
    let line = attempt.and_then(|attempt| attempt.log_tail.as_deref()).and_then(|tail| tail.trim_end().lines().last());
    line.map_or_else(String::new, |line| format!(": {line}"))
}

/// The word for a phase, as `kubectl` shows it.
pub fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
        Phase::Suspended => "Suspended",
        Phase::Superseded => "Superseded",
    }
}

fn set(
    status: &mut MigrationGateStatus,
    type_: ConditionType,
    holds: ConditionStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let before = status.conditions.iter().find(|condition| condition.type_ == type_);
    let same = before.filter(|condition| condition.status == holds);
    let since = same.map_or(whole_seconds(now), |condition| condition.last_transition_time);
    let condition = Condition {
        type_,
        status: holds,
        observed_generation: status.observed_generation,
        last_transition_time: since,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    status.conditions.retain(|condition| condition.type_ != type_);
    status.conditions.push(condition);
    status.conditions.sort_by_key(|condition| condition.type_);
}

/// The second that a time is in: the times of Kubernetes' own conditions are whole seconds.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A duration as people write it: `850ms`, `12s`, `3m5s`, `2h0m`.
pub fn for_people(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0 => format!("{}ms", duration.as_millis().max(0)),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}
