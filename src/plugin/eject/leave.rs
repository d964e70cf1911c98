//! A workload leaves: the label and the injection go in one write, and the rollout is waited for.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::Value;

use super::super::cluster::Cluster;
use super::super::problem::Problem;
use super::super::terminal::{Progress, print};
use super::hold::Held;
use super::interrupt::pause;
use super::plan::Step;
use crate::admission;
use crate::contract::{annotation, label};

/// How often the rollout is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Tries against others who write to the same Deployment.
const TRIES: usize = 8;

/// Takes the label and the injection out.
pub(super) async fn leave(cluster: &Cluster, step: &Step, held: Held) -> Result<(), Problem> {
    for _ in 0..TRIES {
        let found = cluster.whole_deployment(&step.namespace, &step.workload).await?;
        // One that was deleted meanwhile has left.
        let Some(mut object) = found else { return Ok(()) };
        without_us(&mut object, &held);
        match cluster.replace_deployment(&step.namespace, object).await {
            Err(Problem::Conflict(_)) => {}
            Err(Problem::Refused(why) | Problem::Unreachable(why)) if why.contains("webhook") => {
                return Err(Problem::Refused(format!(
                    "{why}\nWhile the webhook is down, its namespace can opt out first: kubectl label namespace {} {}-",
                    step.namespace,
                    label::INJECT
                )));
            }
            replaced => return replaced,
        }
    }
    Err(Problem::Conflict(format!("deployment {}/{}", step.namespace, step.workload)))
}

/// The object as its user would have it: no label, no injection, and the annotation as it was before the hold.
fn without_us(object: &mut Value, held: &Held) {
    admission::unrender(object);
    if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
        labels.remove(label::GATED);
    }
    if let (Held::Suspended(before), Some(annotations)) = (held, object["metadata"]["annotations"].as_object_mut()) {
        match before {
            Some(value) => annotations.insert(annotation::SUSPEND.to_owned(), Value::String(value.clone())),
            None => annotations.remove(annotation::SUSPEND),
        };
    }
}

/// Waits until every pod is of the new template, and ready.
pub(super) async fn rolled_out(cluster: &Cluster, step: &Step, deadline: Instant) -> Result<(), Problem> {
    let start = Instant::now();
    let mut progress = Progress::new();
    let name = format!("{}/{}", step.namespace, step.workload);
    loop {
        let found: Option<Deployment> = cluster.get(&step.namespace, &step.workload).await?;
        let Some(deployment) = found else { return Ok(()) };
        match rollout(&deployment) {
            Rollout::Done => {
                progress.clear();
                return print(&format!("{name} has left\n"));
            }
            Rollout::Paused => {
                progress.clear();
                return print(&format!(
                    "{name} has left, but is paused: its pods keep their gates until it is resumed (kubectl rollout resume)\n"
                ));
            }
            Rollout::UnderWay(how_far) => {
                if Instant::now() >= deadline {
                    return Err(Problem::Late(format!("{name} has left, but its rollout is not done: {how_far}")));
                }
                progress.say(&format!("{name}: {how_far}"), start.elapsed());
            }
        }
        pause(LOOK).await?;
    }
}

/// How far a rollout is.
#[derive(Debug, PartialEq, Eq)]
enum Rollout {
    Done,
    Paused,
    UnderWay(String),
}

/// As `kubectl rollout status` judges it. Source: k8s.io/kubectl, polymorphichelpers, DeploymentStatusViewer.
fn rollout(deployment: &Deployment) -> Rollout {
    let spec = deployment.spec.clone().unwrap_or_default();
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Rollout::UnderWay("waiting for the Deployment controller".to_owned());
    }
    let wanted = spec.replicas.unwrap_or(1);
    let number = |count: Option<i32>| count.unwrap_or(0);
    let (all, updated, available) =
        (number(status.replicas), number(status.updated_replicas), number(status.available_replicas));
    if all == updated && updated == wanted && available == wanted {
        return Rollout::Done;
    }
    if spec.paused == Some(true) {
        return Rollout::Paused;
    }
    Rollout::UnderWay(format!("{updated} of {wanted} pods are without the gate, {available} are available"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(generation: i64, paused: bool, counts: [i32; 3]) -> Deployment {
        let [replicas, updated, available] = counts;
        serde_json::from_value(json!({
            "metadata": { "generation": generation },
            "spec": { "replicas": 2, "paused": paused, "selector": {}, "template": {} },
            "status": { "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available },
        }))
        .expect("a Deployment")
    }

    #[test]
    fn a_rollout_is_done_when_every_pod_is_new_and_available() {
        assert_eq!(rollout(&deployment(2, false, [2, 2, 2])), Rollout::Done);
        assert_eq!(rollout(&deployment(2, true, [2, 0, 2])), Rollout::Paused);
        for (generation, counts) in [(3, [2, 2, 2]), (2, [3, 2, 2]), (2, [2, 2, 1]), (2, [2, 1, 2])] {
            let under_way = rollout(&deployment(generation, false, counts));
            assert!(matches!(under_way, Rollout::UnderWay(_)), "{generation} {counts:?}: {under_way:?}");
        }
    }

    #[test]
    fn what_is_written_is_the_users_own() {
        let held = |before: Option<&str>| Held::Suspended(before.map(str::to_owned));
        let object = || {
            json!({ "metadata": {
                "labels": { label::GATED: label::GATED_TRUE, "app": "orders" },
                "annotations": { annotation::SUSPEND: "true", annotation::COMMAND: "true" },
            }, "spec": { "template": { "metadata": { "labels": { "app": "orders" } }, "spec": { "containers": [] } } } })
        };
        let mut left = object();
        without_us(&mut left, &held(None));
        assert_eq!(left["metadata"]["labels"], json!({ "app": "orders" }));
        assert_eq!(left["metadata"]["annotations"], json!({ annotation::COMMAND: "true" }));
        let mut left = object();
        without_us(&mut left, &held(Some("false")));
        assert_eq!(left["metadata"]["annotations"][annotation::SUSPEND], "false");
        let mut left = object();
        without_us(&mut left, &Held::AsItWas);
        assert_eq!(left["metadata"]["annotations"][annotation::SUSPEND], "true");
    }
}
