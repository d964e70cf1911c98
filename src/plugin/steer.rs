//! `retry`, `approve` and `mark-succeeded`: orders about a migration.

use std::path::PathBuf;

use clap::Args;

use super::cluster::{Cluster, Place};
use super::orders::{Answer, give, myself, order};
use super::problem::Problem;
use super::subject::{Choice, Subject, record_of, short};
use super::terminal::{Consent, print};
use crate::admission;
use crate::cli::injected_workloads;
use crate::group::{Group, WorkloadKind, record_name};
use crate::migration::{Migration, MigrationGateStatus, OverrideAction, Phase};

/// Which migration an order is about, and why it is given.
#[derive(Clone, Debug, Args)]
pub(crate) struct OrderArguments {
    /// The workload: NAME or deployment/NAME; or the record: migrationgate/NAME
    #[arg(value_name = "WORKLOAD")]
    subject: Subject,
    /// The migration, by the first digits of its fingerprint, where several fit
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    migration: Option<String>,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Forget a migration's failures, and try it again
#[derive(Clone, Debug, Args)]
pub(crate) struct RetryArguments {
    #[command(flatten)]
    order: OrderArguments,
}

/// Let a suspended migration run
#[derive(Clone, Debug, Args)]
pub(crate) struct ApproveArguments {
    #[command(flatten)]
    order: OrderArguments,
}

/// Treat a migration as succeeded without running it: its gates open
///
/// This is also the baseline when an application is adopted whose database is up to date: name the workload before it is
/// gated, with `-f` and the manifest as it will be applied, so that its first migration does not run.
#[derive(Clone, Debug, Args)]
pub(crate) struct MarkSucceededArguments {
    #[command(flatten)]
    order: OrderArguments,
    /// A manifest of the workload, gated: the migration is the one that it would have
    #[arg(short, long, value_name = "FILE", conflicts_with = "migration")]
    filename: Option<PathBuf>,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
}

/// Checks the first digits of a fingerprint.
fn fingerprint(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match text.len() {
        4..=32 if digits => Ok(text.to_owned()),
        _ => Err("4 to 32 hexadecimal digits are needed, as `history` shows them".to_owned()),
    }
}

impl RetryArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.order.place).await?;
        let choice = Choice {
            prefix: self.order.migration.as_deref(),
            fits: |migration, status| {
                let tried = migration.failures + migration.interruptions > 0;
                tried
                    && matches!(migration.phase, Phase::Failed | Phase::Pending | Phase::Suspended)
                    && !status.has_succeeded(&migration.fingerprint)
            },
            what: "has failed and waits for another try",
        };
        let record = record_of(&cluster, &self.order.subject).await?;
        let migration = choice.make(&cluster, &self.order.subject, &record).await?;
        let Some(last) = migration.attempts.last() else {
            return Err(Problem::Unfit(format!("migration {} was never tried", short(&migration.fingerprint))));
        };
        let by = myself(&cluster).await;
        let mut wanted = order(&migration.fingerprint, OverrideAction::Retry, self.order.reason.clone(), by);
        wanted.attempt = last.number;
        let name = record.metadata.name.unwrap_or_default();
        conclude(&migration, "is tried again as soon as a pod can run it", give(&cluster, &name, &wanted).await?)
    }
}

impl ApproveArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.order.place).await?;
        let choice = Choice {
            prefix: self.order.migration.as_deref(),
            fits: |migration, _| migration.phase == Phase::Suspended,
            what: "waits for an approval",
        };
        let record = record_of(&cluster, &self.order.subject).await?;
        let migration = choice.make(&cluster, &self.order.subject, &record).await?;
        let by = myself(&cluster).await;
        let wanted = order(&migration.fingerprint, OverrideAction::Approve, self.order.reason.clone(), by);
        let name = record.metadata.name.unwrap_or_default();
        conclude(&migration, "runs as soon as a pod can run it", give(&cluster, &name, &wanted).await?)
    }
}

impl MarkSucceededArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.order.place).await?;
        let (name, migration) = match &self.filename {
            Some(file) => self.of_manifest(file)?,
            None => self.recorded(&cluster).await?,
        };
        let what =
            format!("migration {} ({}, in {})", short(&migration.fingerprint), migration.command, migration.image);
        let warning = match migration.phase {
            Phase::Running => " An attempt of it is active and is not stopped by this.",
            _ => "",
        };
        Consent::from_yes(self.yes).obtain(&format!(
            "{what} will not run, and pods that need it will start: is the schema as they need it?{warning}"
        ))?;
        let by = myself(&cluster).await;
        let reason = self.order.reason.clone();
        let wanted = order(&migration.fingerprint, OverrideAction::MarkSucceeded, reason, by);
        conclude(&migration, "counts as succeeded; its gates open", give(&cluster, &name, &wanted).await?)
    }

    async fn recorded(&self, cluster: &Cluster) -> Result<(String, Migration), Problem> {
        let whole = self.order.migration.as_deref().filter(|prefix| prefix.len() == 32);
        let record = match (record_of(cluster, &self.order.subject).await, whole) {
            (Err(Problem::Unfit(_)), Some(fingerprint)) => return Ok((self.name()?, Migration::unknown(fingerprint))),
            (record, _) => record?,
        };
        let choice = Choice {
            prefix: self.order.migration.as_deref(),
            fits: |migration, status: &MigrationGateStatus| {
                !matches!(migration.phase, Phase::Succeeded | Phase::Superseded)
                    && !status.has_succeeded(&migration.fingerprint)
            },
            what: "is held",
        };
        let name = record.metadata.name.clone().unwrap_or_default();
        let known = choice.make(cluster, &self.order.subject, &record).await;
        match (known, whole) {
            (Err(Problem::Unfit(_)), Some(fingerprint)) => Ok((name, Migration::unknown(fingerprint))),
            (known, _) => Ok((name, known?)),
        }
    }

    /// The record that the workload will have, if it has no group.
    fn name(&self) -> Result<String, Problem> {
        match &self.order.subject {
            Subject::Record(name) => Ok(name.clone()),
            Subject::Workload(name) => Ok(record_name(Group::Workload { kind: WorkloadKind::Deployment, name })),
            Subject::Pod(_) => Err(Problem::Usage("name the workload, not a pod".to_owned())),
        }
    }

    /// The migration that a manifest would have.
    fn of_manifest(&self, file: &std::path::Path) -> Result<(String, Migration), Problem> {
        let objects = injected_workloads(file).map_err(|failure| Problem::Unfit(failure.to_string()))?;
        let named = objects.into_iter().find(|object| object["metadata"]["name"] == self.order.subject.name());
        let object = named.ok_or_else(|| {
            Problem::Unfit(format!("{} has no gated Deployment {}", file.display(), self.order.subject.name()))
        })?;
        let found = admission::migration(&object).ok_or_else(|| {
            Problem::Unfit(format!("{} of {} is not gated", self.order.subject.name(), file.display()))
        })?;
        let command = found.command.join(" ");
        Ok((found.record, Migration { image: found.image, command, ..Migration::unknown(&found.fingerprint) }))
    }
}

/// Says what became of an order.
pub(crate) fn conclude(migration: &Migration, so: &str, answer: Answer) -> Result<(), Problem> {
    let short = short(&migration.fingerprint);
    match answer {
        Answer::Accepted => print(&format!("migration {short} {so}\n")),
        Answer::AcceptedBefore => print(&format!("that was ordered before: migration {short} {so}\n")),
        Answer::Refused(why) => Err(Problem::Unfit(format!("the controller refused it: {why}"))),
    }
}
