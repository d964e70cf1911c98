//! Before a workload leaves: no attempt of its migration begins any more, and the one that runs ends.

use std::time::{Duration, Instant};

use kube::api::Patch;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, Part};
use super::super::orders::{Answer, give, myself, order};
use super::super::problem::Problem;
use super::super::terminal::{Progress, print};
use super::interrupt::pause;
use super::plan::{Standing, Step};
use crate::contract::annotation;
use crate::migration::{ConditionStatus, ConditionType, MigrationGate, MigrationGateStatus, OverrideAction};

/// How often the record is read.
const LOOK: Duration = Duration::from_millis(500);
/// How long the controller's acknowledgement is waited for where nothing runs: without a controller nobody elects.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(15);

/// What was done to hold a workload, to be undone with the injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    AsItWas,
    /// It was suspended by us; before, the annotation had this value or none.
    Suspended(Option<String>),
}

/// Suspends the workload's migration, unless it succeeded, and waits until no attempt of it runs. Whoever is
/// interrupted meanwhile leaves everything as it was.
pub(super) async fn hold(
    cluster: &Cluster,
    step: &Step,
    deadline: Instant,
    without_controller: bool,
) -> Result<Held, Problem> {
    let Some((record, fingerprint)) = &step.gate else { return Ok(Held::AsItWas) };
    if step.standing == Standing::Succeeded || without_controller {
        return Ok(Held::AsItWas);
    }
    let before = suspend(cluster, step).await?;
    match no_attempt_runs(cluster, step, record, fingerprint, deadline).await {
        Ok(()) => Ok(Held::Suspended(before)),
        Err(problem) => {
            set_suspend(cluster, step, before.map(Value::String).unwrap_or(Value::Null)).await?;
            Err(problem)
        }
    }
}

/// Suspends, and returns what the annotation was.
async fn suspend(cluster: &Cluster, step: &Step) -> Result<Option<String>, Problem> {
    let object = cluster.whole_deployment(&step.namespace, &step.workload).await?.unwrap_or_default();
    let before = object["metadata"]["annotations"][annotation::SUSPEND].as_str().map(str::to_owned);
    if before.as_deref() != Some("true") {
        set_suspend(cluster, step, json!("true")).await?;
    }
    Ok(before)
}

async fn set_suspend(cluster: &Cluster, step: &Step, value: Value) -> Result<(), Problem> {
    type Deployment = k8s_openapi::api::apps::v1::Deployment;
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { annotation::SUSPEND: value } } }));
    cluster.patch::<Deployment, _>(&step.namespace, &step.workload, Part::Whole, &patch).await.map(|_| ())
}

async fn no_attempt_runs(
    cluster: &Cluster,
    step: &Step,
    record: &str,
    fingerprint: &str,
    deadline: Instant,
) -> Result<(), Problem> {
    let start = Instant::now();
    let mut progress = Progress::new();
    loop {
        let gate: Option<MigrationGate> = cluster.get(&step.namespace, record).await?;
        let status = gate.and_then(|gate| gate.status);
        match Standing::of(fingerprint, status.as_ref()) {
            Standing::Running(attempt) => {
                let why = status.as_ref().and_then(stalled).map_or_else(String::new, |why| format!(": {why}"));
                if Instant::now() >= deadline {
                    return Err(Problem::Late(format!(
                        "{}/{}: attempt {attempt} has not ended{why}; `confirm-dead` takes your word if it is dead",
                        step.namespace, step.workload
                    )));
                }
                progress.say(
                    &format!("{}/{}: waiting for the end of attempt {attempt}{why}", step.namespace, step.workload),
                    start.elapsed(),
                );
            }
            Standing::Succeeded | Standing::NotInjected => return Ok(()),
            // Pending is what it was before it was suspended; an approved one stays so.
            Standing::Held(phase) if phase != "Pending" || start.elapsed() >= ACKNOWLEDGEMENT => return Ok(()),
            Standing::Held(_) => {
                progress
                    .say(&format!("{}/{}: suspending its migration", step.namespace, step.workload), start.elapsed());
            }
        }
        pause(LOOK).await?;
    }
}

fn stalled(status: &MigrationGateStatus) -> Option<String> {
    let holds = |condition: &&crate::migration::Condition| {
        condition.type_ == ConditionType::Stalled && condition.status == ConditionStatus::True
    };
    status.conditions.iter().find(holds).map(|condition| condition.message.clone())
}

/// With `--keep-injected`: waits for what runs, then lets every pod of the template pass, now and later.
pub(super) async fn open_for_good(cluster: &Cluster, step: &Step, deadline: Instant) -> Result<(), Problem> {
    let Some((record, fingerprint)) = &step.gate else { return Ok(()) };
    let held = hold(cluster, step, deadline, false).await?;
    let gate: Option<MigrationGate> = cluster.get(&step.namespace, record).await?;
    let succeeded = gate.and_then(|gate| gate.status).is_some_and(|status| status.has_succeeded(fingerprint));
    let marked = match succeeded {
        true => Ok(()),
        false => mark(cluster, step, record, fingerprint).await,
    };
    if let Held::Suspended(before) = held {
        set_suspend(cluster, step, before.map(Value::String).unwrap_or(Value::Null)).await?;
    }
    marked?;
    print(&format!("{}/{}: its gates open\n", step.namespace, step.workload))
}

async fn mark(cluster: &Cluster, step: &Step, record: &str, fingerprint: &str) -> Result<(), Problem> {
    let by = myself(cluster).await;
    let reason = Some("ejected with --keep-injected".to_owned());
    let wanted = order(fingerprint, OverrideAction::MarkSucceeded, reason, by);
    match give(&cluster.in_namespace(&step.namespace), record, &wanted).await? {
        Answer::Accepted | Answer::AcceptedBefore => Ok(()),
        Answer::Refused(why) => Err(Problem::Unfit(format!("{}/{}: {why}", step.namespace, step.workload))),
    }
}
