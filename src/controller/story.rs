//! What people are told: the events that a change of the record's status comes to.

use kube::runtime::events::{Event, EventType};

use crate::migration::{Active, Attempt, AttemptOutcome, ConditionStatus, ConditionType, MigrationGateStatus, Phase};

use super::standing::whole_seconds;

/// From so many attempts in a row that never started on, that is no accident.
const NEVER_STARTED: u32 = 3;

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
    fenced(before, after, &mut story);
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
    let attempts = &after.migration(&active.fingerprint)?.attempts;
    Some((active, attempts.iter().rfind(|attempt| attempt.number == active.attempt)?))
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
    let in_a_row = after.migration(&active.fingerprint).map_or(0, |migration| migration.never_started);
    let (type_, reason) = match attempt.outcome {
        AttemptOutcome::Succeeded => (EventType::Normal, "MigrationSucceeded"),
        AttemptOutcome::Failed => (EventType::Warning, "MigrationFailed"),
        AttemptOutcome::TimedOut => (EventType::Warning, "MigrationTimedOut"),
        AttemptOutcome::Interrupted => (EventType::Warning, "MigrationInterrupted"),
        AttemptOutcome::NotStarted if in_a_row >= NEVER_STARTED => (EventType::Warning, "MigrationNotStarted"),
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

/// An attempt was given up, and nobody knows yet that its process is gone.
fn fenced(before: &MigrationGateStatus, after: &MigrationGateStatus, story: &mut Vec<Chapter>) {
    let Some(fenced) = after.fenced.as_ref().filter(|fenced| before.fenced.as_ref() != Some(fenced)) else { return };
    let until = fenced.at.checked_add(fenced.longest_ending()).unwrap_or(fenced.at);
    let note = format!(
        "attempt {} in pod {} was given up without a proof that its process is gone: nobody is elected before {}, unless its agent reports",
        fenced.attempt,
        fenced.pod_name,
        whole_seconds(until)
    );
    let fingerprint = before.active.as_ref().map(|active| active.fingerprint.as_str());
    story.push(chapter(EventType::Warning, "MigrationFenced", fenced.attempt, fingerprint, note));
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

#[cfg(test)]
mod tests {
    use super::super::snapshot::{AgentState, Owner, Pod, Snapshot};
    use super::super::testing::{FP, at, decided, group, marked, runner, running, verdict, workload, written};
    use super::*;
    use crate::contract::Outcome;
    use crate::migration::Migration;

    /// What is told of the writes of the record that a group comes to, one after the other.
    fn told(snapshot: &mut Snapshot) -> Vec<Chapter> {
        let mut story = Vec::new();
        for _ in 0..8 {
            let decision = decided(snapshot);
            let Some(after) = written(&decision).cloned() else { return story };
            story.extend(between(snapshot.status_mut(), &after));
            *snapshot.status_mut() = after;
        }
        panic!("the record never comes to rest");
    }

    fn reasons(story: &[Chapter]) -> Vec<(bool, &str)> {
        story.iter().map(|chapter| (chapter.event.type_ == EventType::Warning, &*chapter.event.reason)).collect()
    }

    fn note(story: &[Chapter], reason: &str) -> String {
        let chapter = story.iter().find(|chapter| chapter.event.reason == reason).expect("it is told");
        assert_eq!(chapter.fingerprint.as_deref(), Some(FP));
        chapter.event.note.clone().unwrap_or_default()
    }

    #[test]
    fn the_third_attempt_in_a_row_that_never_started_is_a_warning() {
        for (before, warns) in [(0, false), (1, false), (2, true), (5, true)] {
            let pod = Pod { agent: AgentState::Exited(verdict("a", 7, Outcome::NotStarted)), ..runner("a", 7) };
            let mut snapshot = group(running("a", 7), vec![pod]);
            let mut migration = Migration::unknown(FP);
            migration.never_started = before;
            snapshot.status_mut().migrations.push(migration);
            let story = told(&mut snapshot);
            assert_eq!(reasons(&story), [(warns, "MigrationNotStarted")], "after {before}");
        }
    }

    #[test]
    fn a_group_that_waits_for_what_may_still_run_says_for_which_pod_and_until_when() {
        let slow = Pod { grace_seconds: 600, ..marked("a", 1) };
        let mut snapshot = group(running("a", 1), vec![slow]);
        let story = told(&mut snapshot);
        assert_eq!(reasons(&story), [(true, "MigrationInterrupted"), (true, "MigrationFenced")]);
        let note = note(&story, "MigrationFenced");
        let fenced = snapshot.status_mut().fenced.clone().expect("it was given up");
        let until = at(10).checked_add(fenced.longest_ending()).expect("this century").to_string();
        assert!(note.contains("attempt 1") && note.contains("pod a") && note.contains(&until), "{note}");
        assert!(told(&mut snapshot).is_empty(), "once");
    }

    #[test]
    fn an_end_is_told_although_nobody_asks_for_that_migration_any_more() {
        let pod = Pod { agent: AgentState::Exited(verdict("a", 1, Outcome::Succeeded)), ..runner("a", 1) };
        let mut snapshot = group(running("a", 1), vec![pod]);
        snapshot.workloads = (0..40)
            .map(|at| {
                let mut workload = workload(&at.to_string());
                workload.fingerprint = format!("{at:032x}");
                workload
            })
            .collect();
        let owners = snapshot.workloads.iter().map(Owner::of).collect();
        snapshot.record_mut().owners = owners;
        let story = told(&mut snapshot);
        assert!(reasons(&story).contains(&(false, "MigrationSucceeded")), "{:?}", reasons(&story));
    }

    #[test]
    fn the_end_that_is_told_is_that_of_the_attempt_that_was_active() {
        let before = running("a", 2);
        let mut after = MigrationGateStatus { active: None, ..before.clone() };
        let ended = |number| Attempt {
            number,
            pod: "a".to_owned(),
            node: None,
            outcome: AttemptOutcome::Failed,
            exit_code: None,
            signal: None,
            elected: at(0),
            started: None,
            ended: None,
            recorded: at(1),
            evidence: None,
            log_tail: None,
        };
        let mut migration = Migration::unknown(FP);
        migration.attempts = vec![ended(1)];
        after.migrations = vec![migration];
        assert_eq!(attempt_ended(&before, &after), None, "that one was told of");
        after.migrations[0].attempts.push(ended(2));
        assert_eq!(attempt_ended(&before, &after).map(|(_, attempt)| attempt.number), Some(2));
    }
}
