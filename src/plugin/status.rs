//! `status`: where each migration stands, once or live.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use serde::Serialize;

use super::cluster::{Cluster, Place, if_allowed, in_the_end};
use super::format::Output;
use super::pods;
use super::problem::Problem;
use super::subject::{short, workload_names};
use super::table::{Cell, Table};
use super::terminal::{Screen, Tone, harmless, print, spinner};
use crate::contract::label;
use crate::controller::shown::{about, shown, since};
use crate::controller::standing::{for_people, phase_word};
use crate::migration::{MigrationGate, MigrationGateStatus, Phase};

/// How often the cluster is asked while somebody watches.
const LOOK: Duration = Duration::from_secs(1);
/// How often the picture moves meanwhile.
const TICK: Duration = Duration::from_millis(125);

/// Show where each migration stands
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    place: Place,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Keep on showing, live on a terminal, otherwise one line for each change
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// One group, as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    namespace: String,
    /// The workloads that own the record.
    workload: String,
    record: String,
    /// The migration's fingerprint.
    migration: Option<String>,
    image: Option<String>,
    phase: Option<Phase>,
    attempt: Option<u32>,
    runner: Option<String>,
    /// When the phase began, as far as the record says.
    since: Option<Timestamp>,
    waiting: u32,
    /// The last line of the log, while an attempt runs and after the last one failed.
    last_line: Option<String>,
    message: Option<String>,
}

impl StatusArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.place).await?;
        let namespace = (!self.all_namespaces).then(|| cluster.namespace.clone());
        let mut look = Look { cluster, namespace, lines: HashMap::new() };
        if self.watch {
            return self.follow(&mut look).await;
        }
        let rows = look.rows().await?;
        if rows.is_empty() && self.output.is_for_people() {
            eprintln!("{}", look.nothing());
            return Ok(());
        }
        let now = Timestamp::now();
        self.output.write(&rows, || self.table(&rows, now, None).render(&Screen::of_stdout()))
    }

    fn table(&self, rows: &[Row], now: Timestamp, tick: Option<usize>) -> Table {
        let detail = if self.output.is_wide() { Detail::Whole } else { Detail::Short };
        let place = if self.all_namespaces { Spread::AllNamespaces } else { Spread::OneNamespace };
        table(rows, place, detail, now, tick)
    }

    async fn follow(&self, look: &mut Look) -> Result<(), Problem> {
        let screen = Screen::of_stdout();
        if !screen.moves || !self.output.is_for_people() {
            return self.follow_in_lines(look).await;
        }
        let (mut drawn, mut tick) = (0, 0);
        loop {
            let rows = in_the_end(async || look.rows().await).await?;
            let looked = Instant::now();
            while looked.elapsed() < LOOK {
                let text = match rows.is_empty() {
                    true => format!("{} {}\n", spinner(tick), look.nothing()),
                    false => self.table(&rows, Timestamp::now(), Some(tick)).render(&screen),
                };
                // Up to the first line again, and nothing left of what was there.
                let up = if drawn == 0 { String::new() } else { format!("\x1b[{drawn}A\r\x1b[J") };
                print(&format!("{up}{text}"))?;
                drawn = text.lines().count();
                tick += 1;
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// A heading, then each row that is not as it was.
    async fn follow_in_lines(&self, look: &mut Look) -> Result<(), Problem> {
        let mut shown: HashMap<(String, String), Row> = HashMap::new();
        let mut first = true;
        loop {
            let mut changed = Vec::new();
            for row in in_the_end(async || look.rows().await).await? {
                let key = (row.namespace.clone(), row.record.clone());
                if shown.get(&key) != Some(&row) {
                    shown.insert(key, row.clone());
                    changed.push(row);
                }
            }
            if !changed.is_empty() {
                let text = self.table(&changed, Timestamp::now(), None).render(&Screen::PLAIN);
                let skip = usize::from(!first);
                let people = || text.lines().skip(skip).map(|line| format!("{line}\n")).collect();
                if self.output.is_for_people() {
                    self.output.write(&changed, people)?;
                } else {
                    changed.iter().try_for_each(|row| self.output.write(row, String::new))?;
                }
                first = false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What is looked at, again and again.
struct Look {
    cluster: Cluster,
    namespace: Option<String>,
    /// The last line of each runner's log, as far as it may be read.
    lines: HashMap<(String, String), String>,
}

impl Look {
    fn nothing(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("no migrations in namespace {namespace} (-A looks everywhere)"),
            None => "no migrations in this cluster".to_owned(),
        }
    }

    async fn rows(&mut self) -> Result<Vec<Row>, Problem> {
        let records: Vec<MigrationGate> = self.cluster.list(self.namespace.as_deref(), "").await?;
        let pods = if_allowed(self.cluster.list::<Pod>(self.namespace.as_deref(), label::GATE).await)?;
        let waiting = pods.as_ref().map(|pods| pods::waiting(pods));
        let mut rows: Vec<Row> = records.iter().map(|record| row(record, waiting.as_ref())).collect();
        rows.sort_by(|a, b| (&a.namespace, &a.workload, &a.record).cmp(&(&b.namespace, &b.workload, &b.record)));
        for row in &mut rows {
            let runner = row.runner.clone().filter(|_| row.phase == Some(Phase::Running));
            let Some(name) = runner else { continue };
            let runs = |pod: &&Pod| {
                pod.metadata.name.as_ref() == Some(&name) && pod.metadata.namespace.as_ref() == Some(&row.namespace)
            };
            let key = (row.namespace.clone(), name.clone());
            let container = pods.iter().flatten().find(runs).and_then(pods::agent_container);
            if let Some(container) = container
                && let Some(line) = last_line(&self.cluster, &row.namespace, &name, container).await
            {
                self.lines.insert(key.clone(), line);
            }
            row.last_line = self.lines.get(&key).cloned();
        }
        Ok(rows)
    }
}

/// The last line of a container's log. It is a comfort: where it can't be had, there is none.
async fn last_line(cluster: &Cluster, namespace: &str, pod: &str, container: String) -> Option<String> {
    let params = LogParams { container: Some(container), tail_lines: Some(1), ..LogParams::default() };
    let text = cluster.api::<Pod>(namespace).logs(pod, &params).await.ok()?;
    let line = harmless(text.trim_end().lines().last()?);
    (!line.is_empty()).then_some(line)
}

/// What a record says, for one row.
fn row(record: &MigrationGate, waiting: Option<&HashMap<(String, String), u32>>) -> Row {
    let empty = MigrationGateStatus::default();
    let status = record.status.as_ref().unwrap_or(&empty);
    let namespace = record.metadata.namespace.clone().unwrap_or_default();
    let name = record.metadata.name.clone().unwrap_or_default();
    let migration = shown(status);
    let attempt = migration.and_then(|migration| migration.attempts.last());
    let counted = waiting.map(|waiting| waiting.get(&(namespace.clone(), name.clone())).copied().unwrap_or(0));
    let failed = status.phase == Some(Phase::Failed);
    let tail = attempt.filter(|_| failed).and_then(|attempt| attempt.log_tail.as_deref());
    Row {
        workload: workload_names(record),
        migration: migration.map(|migration| migration.fingerprint.clone()),
        image: migration.map(|migration| migration.image.clone()).filter(|image| !image.is_empty()),
        phase: status.phase,
        attempt: status.active.as_ref().map(|active| active.attempt).or(attempt.map(|attempt| attempt.number)),
        runner: status.active.as_ref().map(|active| active.pod_name.clone()).or(attempt.map(|last| last.pod.clone())),
        since: since(status, migration),
        waiting: counted.unwrap_or(status.waiting),
        last_line: tail.and_then(|tail| tail.trim_end().lines().last()).map(harmless),
        message: status.message.as_deref().map(|message| about(message, migration)).filter(|text| !text.is_empty()),
        namespace,
        record: name,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    OneNamespace,
    AllNamespaces,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Short,
    Whole,
}

fn tone(phase: Option<Phase>) -> Tone {
    match phase {
        Some(Phase::Succeeded) => Tone::Good,
        Some(Phase::Running) => Tone::Busy,
        Some(Phase::Pending | Phase::Suspended) => Tone::Warn,
        Some(Phase::Failed) => Tone::Bad,
        Some(Phase::Superseded) | None => Tone::Dim,
    }
}

fn table(rows: &[Row], spread: Spread, detail: Detail, now: Timestamp, tick: Option<usize>) -> Table {
    let mut headings = vec!["NAMESPACE"; usize::from(spread == Spread::AllNamespaces)];
    headings.extend(["WORKLOAD", "MIGRATION", "PHASE", "ATTEMPT", "RUNNER", "SINCE", "WAITING"]);
    if detail == Detail::Whole {
        headings.extend(["RECORD", "IMAGE"]);
    }
    headings.push("LAST LINE");
    let mut table = Table::new(&headings);
    for row in rows {
        let mut cells: Vec<Cell> = Vec::new();
        if spread == Spread::AllNamespaces {
            cells.push(row.namespace.as_str().into());
        }
        let fingerprint = row.migration.as_deref().unwrap_or_default();
        let word = row.phase.map_or("Unknown", phase_word);
        let phase = match tick.filter(|_| row.phase == Some(Phase::Running)) {
            Some(tick) => format!("{} {word}", spinner(tick)),
            None => word.to_owned(),
        };
        let since = row.since.map(|since| for_people(now.duration_since(since).max(jiff::SignedDuration::ZERO)));
        cells.extend([
            row.workload.as_str().into(),
            if detail == Detail::Whole { fingerprint.into() } else { short(fingerprint).into() },
            Cell::new(phase, tone(row.phase)),
            row.attempt.map_or_else(String::new, |attempt| attempt.to_string()).into(),
            row.runner.as_deref().unwrap_or_default().into(),
            since.unwrap_or_default().into(),
            Cell::new(row.waiting.to_string(), if row.waiting > 0 { Tone::Warn } else { Tone::Plain }),
        ]);
        if detail == Detail::Whole {
            cells.extend([row.record.as_str().into(), row.image.as_deref().unwrap_or_default().into()]);
        }
        cells.push(last_words(row).into());
        table.push(cells);
    }
    table
}

/// The log's last line; where no log is of interest, what is waited for.
fn last_words(row: &Row) -> &str {
    let settled = matches!(row.phase, Some(Phase::Succeeded | Phase::Running));
    let message = row.message.as_deref().filter(|_| !settled);
    row.last_line.as_deref().or(message).unwrap_or_default()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
