//! Orders: how an operator's word gets into a record, and what the controller answers.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PostParams};
use serde_json::json;

use super::cluster::{Cluster, Part};
use super::problem::Problem;
use super::terminal::Progress;
use crate::migration::{MigrationGate, MigrationGateSpec, Override, OverrideAction, TakenOverride};

/// How long the controller's answer is waited for.
const ANSWER: Duration = Duration::from_secs(15);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(250);
/// Tries against others who write to the same record.
const TRIES: usize = 8;
/// Orders that a record may hold; answered ones make room. Source: the schema's `maxItems`, 64.
const ROOM: usize = 48;
/// Characters of a reason and of a name. Source: the schema.
const REASON_BYTES: usize = 1024;
const BY_BYTES: usize = 256;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The controller follows it.
    Accepted,
    /// It did so before.
    AcceptedBefore,
    /// It won't.
    Refused(String),
}

impl Answer {
    fn of(taken: &TakenOverride, accepted: Answer) -> Answer {
        match &taken.refusal {
            Some(why) => Answer::Refused(why.clone()),
            None if taken.accepted => accepted,
            None => Answer::Refused("no reason is given".to_owned()),
        }
    }
}

/// Who gives orders, as the API server knows them; empty where it doesn't say.
pub(crate) async fn myself(cluster: &Cluster) -> String {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let name = review.ok().and_then(|review| review.status?.user_info?.username).unwrap_or_default();
    crate::controller::record::cut(&name, BY_BYTES).to_owned()
}

/// An order about a migration.
pub(crate) fn order(fingerprint: &str, action: OverrideAction, reason: Option<String>, by: String) -> Override {
    let reason = reason.unwrap_or_default();
    Override {
        fingerprint: fingerprint.to_owned(),
        action,
        attempt: 0,
        pod_uid: String::new(),
        reason: crate::controller::record::cut(&reason, REASON_BYTES).to_owned(),
        by,
    }
}

/// Writes an order into a record, which is made if `name` is none yet, and waits for the controller's answer.
pub(crate) async fn give(cluster: &Cluster, name: &str, order: &Override) -> Result<Answer, Problem> {
    if let Some(before) = write(cluster, name, order).await? {
        return Ok(before);
    }
    let start = Instant::now();
    let mut progress = Progress::new();
    while start.elapsed() < ANSWER {
        if let Some(taken) = answer(cluster, name, order).await? {
            return Ok(Answer::of(&taken, Answer::Accepted));
        }
        progress.say("waiting for the controller's answer", start.elapsed());
        tokio::time::sleep(LOOK).await;
    }
    progress.clear();
    Err(Problem::Late(format!(
        "the order stands in the record {name}, but no controller has answered within {} s; it will as soon as one runs: \
         kubectl -n migration-gate-system get pods",
        ANSWER.as_secs()
    )))
}

async fn answer(cluster: &Cluster, name: &str, order: &Override) -> Result<Option<TakenOverride>, Problem> {
    let record: Option<MigrationGate> = cluster.get(&cluster.namespace, name).await?;
    let taken = record.and_then(|record| record.status).map(|status| status.overrides).unwrap_or_default();
    Ok(taken.into_iter().find(|taken| order.is_answered_by(taken)))
}

/// Writes the order, unless it stands there already; an earlier answer to it is returned.
async fn write(cluster: &Cluster, name: &str, order: &Override) -> Result<Option<Answer>, Problem> {
    let namespace = &cluster.namespace;
    for _ in 0..TRIES {
        let Some(record) = cluster.get::<MigrationGate>(namespace, name).await? else {
            let record = MigrationGate {
                metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
                spec: MigrationGateSpec { overrides: vec![order.clone()] },
                status: None,
            };
            match cluster.create(namespace, &record).await {
                Err(Problem::Conflict(_)) => continue,
                made => return made.map(|_| None),
            }
        };
        let status = record.status.clone().unwrap_or_default();
        let taken = |order: &Override| status.overrides.iter().find(|taken| order.is_answered_by(taken));
        let same = |other: &&Override| {
            (&other.fingerprint, other.action, other.attempt, &other.pod_uid)
                == (&order.fingerprint, order.action, order.attempt, &order.pod_uid)
        };
        if record.spec.overrides.iter().any(|other| same(&other)) {
            return Ok(taken(order).map(|taken| Answer::of(taken, Answer::AcceptedBefore)));
        }
        let mut overrides = record.spec.overrides.clone();
        if overrides.len() >= ROOM {
            overrides.retain(|order| taken(order).is_none());
        }
        overrides.push(order.clone());
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": record.metadata.resource_version },
            "spec": { "overrides": overrides },
        }));
        match cluster.patch::<MigrationGate, _>(namespace, name, Part::Whole, &patch).await {
            Err(Problem::Conflict(_)) => continue,
            written => return written.map(|_| None),
        }
    }
    Err(Problem::Conflict(format!("the record {name}")))
}
