//! `logs`: what the runner writes, from one attempt to the next.

use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::time::timeout;

use super::cluster::{Cluster, Place, in_the_end};
use super::lines::{Lines, Part, Wanted};
use super::problem::Problem;
use super::subject::{Subject, record_of, short};
use super::terminal::{Progress, print};
use crate::controller::standing::for_people;
use crate::migration::{Active, Attempt, AttemptOutcome, MigrationGate, MigrationGateStatus, Phase};

/// How often the record is read while somebody follows.
const LOOK: Duration = Duration::from_millis(500);
/// How long the log's last lines are waited for once an attempt is recorded: they travel by another way, and from a
/// node that is gone they never come.
const LAST_LINES: Duration = Duration::from_secs(10);
/// How long that is nothing to speak of.
const SOON: Duration = Duration::from_secs(2);

/// Show the log of a migration's runner
#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArguments {
    /// The workload: NAME or deployment/NAME; or the record: migrationgate/NAME
    #[arg(value_name = "WORKLOAD")]
    subject: Subject,
    /// Follow until the migration has succeeded, or has no attempts left, from one attempt's pod to the next one's
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,
    /// Put the time before each line
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    place: Place,
}

impl LogsArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.place).await?;
        let record = record_of(&cluster, &self.subject).await?;
        match self.follow {
            true => self.follow(&cluster, record).await,
            false => self.once(&cluster, &record).await,
        }
    }

    /// The active attempt's log, or the last one's; what the record kept of it, where its pod is gone.
    async fn once(&self, cluster: &Cluster, record: &MigrationGate) -> Result<(), Problem> {
        let status = record.status.clone().unwrap_or_default();
        if let Some(active) = &status.active {
            say(&format!("attempt {} in pod {}", active.attempt, active.pod_name));
            return Lines::of(cluster, &active.pod_name, active.attempt, self.wanted()).print(Part::SoFar).await;
        }
        let last = status.migrations.iter().flat_map(|migration| &migration.attempts).max_by_key(|last| last.number);
        let Some(last) = last else {
            return Err(Problem::Unfit(format!(
                "no attempt has run: {}",
                status.message.as_deref().unwrap_or("nothing is recorded yet")
            )));
        };
        say(&format!("attempt {} in pod {} {}", last.number, last.pod, how(last)));
        match Lines::of(cluster, &last.pod, last.number, self.wanted()).print(Part::Whole).await {
            Err(Problem::Unfit(_)) => match &last.log_tail {
                Some(tail) => {
                    say("the pod is gone; the record kept the last lines");
                    print(&format!("{}\n", tail.trim_end()))
                }
                None => Err(Problem::Unfit(format!(
                    "pod {} is gone, and the record keeps lines of the newest failure only",
                    last.pod
                ))),
            },
            done => done,
        }
    }

    async fn follow(&self, cluster: &Cluster, mut record: MigrationGate) -> Result<(), Problem> {
        let name = record.metadata.name.clone().unwrap_or_default();
        let mut followed: Option<Active> = None;
        let mut progress = Progress::new();
        let waiting = Instant::now();
        loop {
            let status = record.status.clone().unwrap_or_default();
            if let Some(ended) = followed.as_ref().and_then(|last| attempt(&status, last)) {
                say(&format!("attempt {} {}", ended.number, how(ended)));
            }
            match next(&status, followed.as_ref()) {
                Next::Follow(active) => {
                    progress.clear();
                    say(&format!(
                        "attempt {} of migration {} in pod {}",
                        active.attempt,
                        short(&active.fingerprint),
                        active.pod_name
                    ));
                    record = self.follow_attempt(cluster, &name, &active).await?;
                    followed = Some(active);
                    continue;
                }
                Next::Done => {
                    say(status.message.as_deref().unwrap_or("it succeeded"));
                    return Ok(());
                }
                Next::GivenUp => {
                    return Err(Problem::Failed(status.message.unwrap_or_else(|| "it failed".to_owned())));
                }
                Next::Nobody => {
                    return Err(Problem::Unfit(status.message.unwrap_or_else(|| "nobody asks for it".to_owned())));
                }
                Next::Wait => {
                    let message = status.message.as_deref().unwrap_or("the controller has not looked at it yet");
                    progress.say(message, waiting.elapsed());
                }
            }
            followed = None;
            tokio::time::sleep(LOOK).await;
            record = read_in_the_end(cluster, &name).await?;
        }
    }

    /// Shows an attempt's log until it is recorded as ended, and its last lines; returns the record.
    async fn follow_attempt(&self, cluster: &Cluster, name: &str, active: &Active) -> Result<MigrationGate, Problem> {
        let lines = Lines::of(cluster, &active.pod_name, active.attempt, self.wanted());
        let mut reading = pin!(lines.print(Part::Follow));
        let mut open = true;
        let mut said = String::new();
        let record = loop {
            tokio::select! {
                done = &mut reading, if open => {
                    open = false;
                    tell_once(done, &mut said)?;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            let record = read_in_the_end(cluster, name).await?;
            let now = record.status.as_ref().and_then(|status| status.active.as_ref());
            if now.is_none_or(|now| now.attempt != active.attempt) {
                break record;
            }
            if !open {
                // The connection broke, or the container was started again. What can't be had now is not asked for at
                // once again.
                tokio::time::sleep(LOOK).await;
                reading.set(lines.print(Part::Follow));
                open = true;
            }
        };
        let ended = record.status.as_ref().and_then(|status| attempt(status, active));
        if ended.is_some_and(|attempt| attempt.outcome == AttemptOutcome::NotStarted) {
            // It wrote nothing, and its container may wait on for another attempt.
            return Ok(record);
        }
        if !open {
            // The reading may have broken off before the last line; what was shown is not shown again.
            reading.set(lines.print(Part::Whole));
        }
        match within_last_lines(reading).await {
            Some(done) => tell_once(done, &mut said)?,
            None => say(&format!("the end of its log did not come within {} s", LAST_LINES.as_secs())),
        }
        Ok(record)
    }

    fn wanted(&self) -> Wanted {
        Wanted { tail: self.tail, timestamps: self.timestamps }
    }
}

/// A word of ours, beside the log and not in it.
fn say(text: &str) {
    eprintln!("migration-gate: {text}");
}

/// A pod that went away takes its log along, and the record goes on: what can't be read is told, once, and is no error.
fn tell_once(read: Result<(), Problem>, said: &mut String) -> Result<(), Problem> {
    match read {
        Err(Problem::Unfit(why) | Problem::Unreachable(why) | Problem::Refused(why)) => {
            if *said != why {
                say(&format!("its log can't be read: {why}"));
            }
            *said = why;
            Ok(())
        }
        done => done,
    }
}

/// What the reading of an ended attempt's log ends with; `None` if it does not in time.
async fn within_last_lines<T>(mut reading: impl Future<Output = T> + Unpin) -> Option<T> {
    if let Ok(done) = timeout(SOON, &mut reading).await {
        return Some(done);
    }
    say("the attempt is over; waiting for the end of its log");
    timeout(LAST_LINES - SOON, reading).await.ok()
}

/// The record, however long the API server can't be had.
async fn read_in_the_end(cluster: &Cluster, name: &str) -> Result<MigrationGate, Problem> {
    let read = in_the_end(async || cluster.get::<MigrationGate>(&cluster.namespace, name).await);
    read.await?.ok_or_else(|| Problem::Unfit(format!("the record {name} is gone")))
}

/// What one who follows does next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Follow this attempt.
    Follow(Active),
    /// It succeeded.
    Done,
    /// It failed for good.
    GivenUp,
    /// No workload asks for a migration any more: no attempt follows.
    Nobody,
    /// Wait for an attempt.
    Wait,
}

fn next(status: &MigrationGateStatus, followed: Option<&Active>) -> Next {
    if let Some(active) = &status.active {
        return match followed.is_some_and(|followed| followed.attempt == active.attempt) {
            true => Next::Wait,
            false => Next::Follow(active.clone()),
        };
    }
    match status.phase {
        Some(Phase::Succeeded) => Next::Done,
        Some(Phase::Failed) => Next::GivenUp,
        Some(Phase::Superseded) => Next::Nobody,
        _ => Next::Wait,
    }
}

fn attempt<'a>(status: &'a MigrationGateStatus, active: &Active) -> Option<&'a Attempt> {
    let attempts = &status.migration(&active.fingerprint)?.attempts;
    attempts.iter().find(|attempt| attempt.number == active.attempt)
}

fn how(attempt: &Attempt) -> String {
    let word = match attempt.outcome {
        AttemptOutcome::Succeeded => "succeeded",
        AttemptOutcome::Failed => "failed",
        AttemptOutcome::TimedOut => "was ended because its time was over",
        AttemptOutcome::Interrupted => "was interrupted",
        AttemptOutcome::NotStarted => "never started",
    };
    let took = match (attempt.started, attempt.ended) {
        (Some(started), Some(ended)) => format!(" after {}", for_people(ended.duration_since(started))),
        _ => String::new(),
    };
    let code =
        attempt.exit_code.filter(|code| *code != 0).map_or_else(String::new, |code| format!(" with exit code {code}"));
    format!("{word}{code}{took}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_who_follows_goes_from_attempt_to_attempt_until_it_is_decided() {
        let active = json!({ "fingerprint": "f", "attempt": 2, "podName": "p", "podUid": "u", "electedAt": "2026-11-21T10:00:00Z" });
        let status = |value: serde_json::Value| serde_json::from_value::<MigrationGateStatus>(value).expect("a status");
        let running = status(json!({ "phase": "Running", "active": active }));
        let Next::Follow(found) = next(&running, None) else { panic!("an attempt is active") };
        assert_eq!(found.attempt, 2);
        assert_eq!(next(&running, Some(&found)), Next::Wait);
        assert_eq!(next(&status(json!({ "phase": "Pending" })), Some(&found)), Next::Wait);
        assert_eq!(next(&status(json!({ "phase": "Suspended" })), None), Next::Wait);
        assert_eq!(next(&status(json!({ "phase": "Failed" })), Some(&found)), Next::GivenUp);
        assert_eq!(next(&status(json!({ "phase": "Succeeded" })), None), Next::Done);
        assert_eq!(next(&status(json!({ "phase": "Superseded" })), Some(&found)), Next::Nobody);
    }
}
