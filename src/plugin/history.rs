//! `history`: what was tried, how it ended, and what operators ordered.

use clap::Args;
use jiff::Timestamp;

use super::cluster::{Cluster, Place};
use super::format::Output;
use super::problem::Problem;
use super::subject::{Subject, record_of, short};
use super::table::{Cell, Table};
use super::terminal::{Screen, Tone};
use crate::controller::standing::{for_people, phase_word};
use crate::migration::{Attempt, AttemptOutcome, Migration, MigrationGateStatus, Override, Phase, TakenOverride};

/// List a workload's migrations and attempts, newest last, and the orders that were given
#[derive(Clone, Debug, Args)]
pub(crate) struct HistoryArguments {
    /// The workload: NAME or deployment/NAME; or the record: migrationgate/NAME
    #[arg(value_name = "WORKLOAD")]
    subject: Subject,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
}

impl HistoryArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.place).await?;
        let record = record_of(&cluster, &self.subject).await?;
        let status = record.status.unwrap_or_default();
        let orders = record.spec.overrides;
        let value = serde_json::json!({
            "migrations": status.migrations, "orders": orders, "answers": status.overrides, "succeeded": status.succeeded,
        });
        self.output
            .write(&value, || text(&status, &orders, Timestamp::now(), self.output.is_wide(), &Screen::of_stdout()))
    }
}

fn text(status: &MigrationGateStatus, orders: &[Override], now: Timestamp, wide: bool, screen: &Screen) -> String {
    let mut headings = vec!["MIGRATION", "PHASE", "IMAGE", "ATTEMPT", "OUTCOME", "POD", "TOOK", "AGE"];
    if wide {
        headings.extend(["NODE", "COMMAND"]);
    }
    headings.push("DETAIL");
    let mut table = Table::new(&headings);
    for migration in &status.migrations {
        let attempts: Vec<Option<&Attempt>> = match migration.attempts.len() {
            0 => vec![None],
            _ => migration.attempts.iter().map(Some).collect(),
        };
        for attempt in attempts {
            table.push(row(migration, attempt, now, wide));
        }
    }
    let mut text = table.render(screen);
    if !orders.is_empty() {
        let mut table = Table::new(&["ORDER", "MIGRATION", "ATTEMPT", "BY", "AGE", "ANSWER", "REASON"]);
        for order in orders {
            let taken = status.overrides.iter().find(|taken| order.is_answered_by(taken));
            table.push(order_row(order, taken, now));
        }
        text.push('\n');
        text.push_str(&table.render(screen));
    }
    text
}

fn row(migration: &Migration, attempt: Option<&Attempt>, now: Timestamp, wide: bool) -> Vec<Cell> {
    let tone = match migration.phase {
        Phase::Succeeded => Tone::Good,
        Phase::Failed => Tone::Bad,
        Phase::Running => Tone::Busy,
        Phase::Pending | Phase::Suspended => Tone::Warn,
        Phase::Superseded => Tone::Dim,
    };
    let took = attempt.and_then(|attempt| Some(for_people(attempt.ended?.duration_since(attempt.started?))));
    let age = attempt.map(|attempt| for_people(now.duration_since(attempt.recorded)));
    let mut row: Vec<Cell> = vec![
        if wide { migration.fingerprint.as_str().into() } else { short(&migration.fingerprint).into() },
        Cell::new(phase_word(migration.phase), tone),
        migration.image.as_str().into(),
        attempt.map_or_else(String::new, |attempt| attempt.number.to_string()).into(),
        attempt.map_or_else(Cell::default, outcome),
        attempt.map_or("", |attempt| &attempt.pod).into(),
        took.unwrap_or_default().into(),
        age.unwrap_or_default().into(),
    ];
    if wide {
        let node = attempt.and_then(|attempt| attempt.node.as_deref());
        row.extend([node.unwrap_or_default().into(), migration.command.as_str().into()]);
    }
    row.push(attempt.map_or_else(String::new, detail).into());
    row
}

fn outcome(attempt: &Attempt) -> Cell {
    match attempt.outcome {
        AttemptOutcome::Succeeded => Cell::new("succeeded", Tone::Good),
        AttemptOutcome::Failed => Cell::new("failed", Tone::Bad),
        AttemptOutcome::TimedOut => Cell::new("timed out", Tone::Bad),
        AttemptOutcome::Interrupted => Cell::new("interrupted", Tone::Warn),
        AttemptOutcome::NotStarted => Cell::new("not started", Tone::Dim),
    }
}

/// The exit code or signal, what the outcome rests on, and the log's last line.
fn detail(attempt: &Attempt) -> String {
    let code = match (attempt.exit_code, attempt.signal) {
        (Some(code), _) if code != 0 => Some(format!("exit code {code}")),
        (None, Some(signal)) => Some(format!("signal {signal}")),
        _ => None,
    };
    let line = attempt.log_tail.as_deref().and_then(|tail| tail.trim_end().lines().last()).map(str::to_owned);
    let parts: Vec<String> = [code, attempt.evidence.clone(), line].into_iter().flatten().collect();
    parts.join(": ")
}

fn order_row(order: &Override, taken: Option<&TakenOverride>, now: Timestamp) -> Vec<Cell> {
    let answer = match taken {
        None => Cell::new("none yet", Tone::Warn),
        Some(TakenOverride { refusal: Some(why), .. }) => Cell::new(format!("refused: {why}"), Tone::Bad),
        Some(_) => Cell::new("followed", Tone::Good),
    };
    let attempt = if order.attempt == 0 { String::new() } else { order.attempt.to_string() };
    vec![
        format!("{:?}", order.action).into(),
        short(&order.fingerprint).into(),
        attempt.into(),
        order.by.as_str().into(),
        taken.map_or_else(String::new, |taken| for_people(now.duration_since(taken.at))).into(),
        answer,
        order.reason.as_str().into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn attempts_and_orders_are_listed() {
        let status: MigrationGateStatus = serde_json::from_value(json!({
            "migrations": [
                { "fingerprint": "f".repeat(32), "image": "orders:1", "command": "true", "phase": "Succeeded" },
                { "fingerprint": FINGERPRINT, "image": "orders:2", "command": "alembic upgrade head", "phase": "Failed",
                  "attempts": [
                    { "number": 1, "pod": "orders-a", "outcome": "Interrupted", "evidence": "its node was deleted",
                      "elected": "2026-11-21T10:00:00Z", "recorded": "2026-11-21T10:00:00Z" },
                    { "number": 2, "pod": "orders-b", "outcome": "Failed", "exitCode": 1, "logTail": "a\nno such table\n",
                      "elected": "2026-11-21T10:00:00Z", "recorded": "2026-11-21T10:01:00Z",
                      "started": "2026-11-21T10:00:55Z", "ended": "2026-11-21T10:01:00Z" }] }],
            "overrides": [{ "fingerprint": FINGERPRINT, "action": "Retry", "attempt": 1, "accepted": false,
                "refusal": "the latest attempt of this migration is 2, not 1", "at": "2026-11-21T10:01:30Z" }],
        }))
        .expect("a status");
        let orders: Vec<Override> = serde_json::from_value(json!([
            { "fingerprint": FINGERPRINT, "action": "Retry", "attempt": 1, "by": "jane", "reason": "mended" },
            { "fingerprint": FINGERPRINT, "action": "Approve" },
        ]))
        .expect("orders");
        let now = "2026-11-21T10:02:00Z".parse().expect("a time");
        let expected = "\
MIGRATION   PHASE       IMAGE      ATTEMPT   OUTCOME       POD        TOOK   AGE    DETAIL
ffffffff    Succeeded   orders:1   -         -             -          -      -      -
01234567    Failed      orders:2   1         interrupted   orders-a   -      2m0s   its node was deleted
01234567    Failed      orders:2   2         failed        orders-b   5s     1m0s   exit code 1: no such table

ORDER     MIGRATION   ATTEMPT   BY     AGE   ANSWER                                                      REASON
Retry     01234567    1         jane   30s   refused: the latest attempt of this migration is 2, not 1   mended
Approve   01234567    -         -      -     none yet                                                    -
";
        assert_eq!(text(&status, &orders, now, false, &Screen::PLAIN), expected);
    }
}
