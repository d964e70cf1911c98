//! What people are told: the events that a change of the record's status comes to.

use kube::runtime::events::{Event, EventType};

use crate::migration::{Active, Attempt, AttemptOutcome, ConditionStatus, ConditionType, MigrationGateStatus, Phase};

/// An event and the migration that it is about.
pub struct Chapter {
    /// The migration; the workloads that ask for it get the event.
    pub fingerprint: Option<String>,
    /// What is told.
    pub event: Event,
}

/// Tells what happened between two statuses of a record.
pub fn between(before: &MigrationGateStatus, after: &MigrationGateStatus) -> Vec<Chapter> {
    let mut story = Vec::new();
    started(before, after, &mut story);
    ended(before, after, &mut story);
    held(before, after, &mut story);
    ordered(before, after, &mut story);
    story
}

/// The attempt that was active before and ended, as it is on record.
pub(super) fn attempt_ended<'a>(
    before: &'a MigrationGateStatus,
    after: &'a MigrationGateStatus,
) -> Option<(&'a Active, &'a Attempt)> {
    let active = before.active.as_ref().filter(|_| after.active.is_none())?;
    Some((active, after.migration(&active.fingerprint)?.attempts.last()?))
}

fn started(before: &MigrationGateStatus, after: &MigrationGateStatus, story: &mut Vec<Chapter>) {
    let Some(active) = after.active.as_ref().filter(|active| active.signalled_at.is_some()) else { return };
    let known = before.active.as_ref().is_some_and(|known| known.signalled_at.is_some());
    if !known {
        let note = format!(
            "attempt {} of migration {} started in pod {}",
            active.attempt, active.fingerprint, active.pod_name
        );
        story.push(chapter(EventType::Normal, "MigrationStarted", active.attempt, Some(&active.fingerprint), note));
    }
}

fn ended(before: &MigrationGateStatus, after: &MigrationGateStatus, story: &mut Vec<Chapter>) {
    let Some((active, attempt)) = attempt_ended(before, after) else { return };
    let (type_, reason) = match attempt.outcome {
        AttemptOutcome::Succeeded => (EventType::Normal, "MigrationSucceeded"),
        AttemptOutcome::Failed => (EventType::Warning, "MigrationFailed"),
        AttemptOutcome::TimedOut => (EventType::Warning, "MigrationTimedOut"),
        AttemptOutcome::Interrupted => (EventType::Warning, "MigrationInterrupted"),
        AttemptOutcome::NotStarted => (EventType::Normal, "MigrationNotStarted"),
    };
    let note = format!(
        "attempt {} of migration {} in pod {}: {}",
        attempt.number,
        active.fingerprint,
        attempt.pod,
        how(attempt)
    );
    story.push(chapter(type_, reason, attempt.number, Some(&active.fingerprint), note));
}

/// How an attempt ended, in a few words, with the last line of its log.
pub(super) fn how(attempt: &Attempt) -> String {
    let code = match (attempt.exit_code, attempt.signal) {
        (Some(code), _) => format!(" with exit code {code}"),
        (None, Some(signal)) => format!(" by signal {signal}"),
        (None, None) => String::new(),
    };
    let took = match (attempt.started, attempt.ended) {
        (Some(started), Some(ended)) => {
            format!(" after {}", super::standing::for_people(ended.duration_since(started)))
        }
        _ => String::new(),
    };
    let word = match attempt.outcome {
        AttemptOutcome::Succeeded => "succeeded".to_owned(),
        AttemptOutcome::Failed => format!("failed{code}"),
        AttemptOutcome::TimedOut => "was ended because its time was over".to_owned(),
        AttemptOutcome::Interrupted => "was interrupted".to_owned(),
        AttemptOutcome::NotStarted => "never started".to_owned(),
    };
    let basis = attempt.evidence.as_ref().map_or_else(String::new, |basis| format!(" ({basis})"));
    let line = attempt.log_tail.as_deref().and_then(|tail| tail.trim_end().lines().last());
    let line = line.map_or_else(String::new, |line| format!(": {line}"));
    format!("{word}{took}{basis}{line}")
}

fn held(before: &MigrationGateStatus, after: &MigrationGateStatus, story: &mut Vec<Chapter>) {
    let message = after.message.clone().unwrap_or_default();
    let fingerprint = after.migrations.iter().find(|migration| Some(migration.phase) == after.phase);
    let fingerprint = fingerprint.map(|migration| migration.fingerprint.as_str());
    if before.phase != after.phase {
        let told = match after.phase {
            Some(Phase::Failed) => Some((EventType::Warning, "MigrationHeld")),
            Some(Phase::Suspended) => Some((EventType::Normal, "MigrationSuspended")),
            _ => None,
        };
        if let Some((type_, reason)) = told {
            story.push(chapter(type_, reason, after.last_attempt, fingerprint, message.clone()));
        }
    }
    let stalled = |status: &MigrationGateStatus| {
        let holds = |condition: &&crate::migration::Condition| {
            condition.type_ == ConditionType::Stalled && condition.status == ConditionStatus::True
        };
        status.conditions.iter().find(holds).map(|condition| condition.reason.clone())
    };
    let stall = stalled(after).filter(|reason| stalled(before).as_ref() != Some(reason));
    // A migration without attempts left was told of above.
    if let Some(reason) = stall.filter(|_| after.phase != Some(Phase::Failed)) {
        let active = after.active.as_ref().map(|active| active.fingerprint.as_str());
        story.push(chapter(
            EventType::Warning,
            "MigrationStalled",
            after.last_attempt,
            active,
            format!("{reason}: {message}"),
        ));
    }
}

fn ordered(before: &MigrationGateStatus, after: &MigrationGateStatus, story: &mut Vec<Chapter>) {
    for taken in after.overrides.iter().filter(|taken| !before.overrides.contains(taken)) {
        let (type_, reason, note) = match &taken.refusal {
            None => (
                EventType::Normal,
                "OverrideAccepted",
                format!("{:?} of migration {}", taken.action, taken.fingerprint),
            ),
            Some(why) => (
                EventType::Warning,
                "OverrideRefused",
                format!("{:?} of migration {}: {why}", taken.action, taken.fingerprint),
            ),
        };
        story.push(chapter(type_, reason, taken.attempt, Some(&taken.fingerprint), note));
    }
}

/// Events of the same action and reason are counted as one series by whoever shows them, with the first note only:
/// the attempt's number in the action keeps each attempt's words.
fn chapter(type_: EventType, reason: &str, attempt: u32, fingerprint: Option<&str>, note: String) -> Chapter {
    let action = format!("Attempt{attempt}");
    let note = Some(super::record::cut(&note, 1000).to_owned());
    let event = Event { type_, reason: reason.to_owned(), note, action, secondary: None };
    Chapter { fingerprint: fingerprint.map(str::to_owned), event }
}
