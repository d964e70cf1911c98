//! At the end: no finalizer of ours is left on anything that left.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::Patch;
use kube::core::ResourceExt;
use serde_json::json;

use super::super::cluster::{Cluster, Part};
use super::super::problem::Problem;
use super::super::terminal::{Progress, print};
use super::interrupt::pause;
use super::plan::Plan;
use crate::contract::{POD_FINALIZER, RECORD_FINALIZER, label};
use crate::migration::MigrationGate;

/// How long the controller has for taking off what is its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    namespace: Option<String>,
    /// Only these groups; all, if `None`.
    groups: Option<Vec<String>>,
}

impl Scope {
    /// The groups of the workloads that were named, or everything of a namespace or of the cluster.
    pub(super) fn of(namespace: Option<&str>, workloads: &[String], plan: &Plan) -> Scope {
        let groups =
            || plan.steps.iter().filter_map(|step| step.gate.as_ref().map(|(record, _)| record.clone())).collect();
        Scope { namespace: namespace.map(str::to_owned), groups: (!workloads.is_empty()).then(groups) }
    }

    fn includes(&self, group: &str) -> bool {
        self.groups.as_ref().is_none_or(|groups| groups.iter().any(|each| each == group))
    }
}

/// Whether there is somebody to take finalizers off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    /// The controller does it.
    There,
    /// It never will.
    Gone,
}

/// What has a finalizer of ours.
struct Rest {
    pods: Vec<Pod>,
    records: Vec<MigrationGate>,
}

impl Rest {
    async fn find(cluster: &Cluster, scope: &Scope) -> Result<Rest, Problem> {
        let namespace = scope.namespace.as_deref();
        let mut pods: Vec<Pod> = cluster.list(namespace, label::GATE).await?;
        let mut records: Vec<MigrationGate> = cluster.list(namespace, "").await?;
        let has = |finalizers: &[String], ours: &str| finalizers.iter().any(|finalizer| finalizer == ours);
        pods.retain(|pod| has(pod.finalizers(), POD_FINALIZER) && scope.includes(group(pod)));
        records.retain(|record| {
            // A group that others still belong to may well have an attempt under way.
            let shared = scope.groups.is_some() && record.name_any().ends_with(".group");
            has(record.finalizers(), RECORD_FINALIZER) && scope.includes(&record.name_any()) && !shared
        });
        Ok(Rest { pods, records })
    }

    fn names(&self) -> Vec<String> {
        let name = |kind: &str, namespace: Option<String>, name: String| {
            format!("{kind} {}/{name}", namespace.unwrap_or_default())
        };
        let pods = self.pods.iter().map(|pod| name("pod", pod.namespace(), pod.name_any()));
        pods.chain(self.records.iter().map(|record| name("migrationgate", record.namespace(), record.name_any())))
            .collect()
    }
}

fn group(pod: &Pod) -> &str {
    pod.labels().get(label::GATE).map_or("", String::as_str)
}

/// Waits until nothing of ours is left, or takes it off where nobody else will; returns what is left, in words.
pub(super) async fn see_to_it(
    cluster: &Cluster,
    scope: &Scope,
    controller: Controller,
) -> Result<Vec<String>, Problem> {
    let start = Instant::now();
    let mut progress = Progress::new();
    loop {
        let rest = Rest::find(cluster, scope).await?;
        let names = rest.names();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        if controller == Controller::Gone {
            progress.clear();
            take_off(cluster, &rest).await?;
            return Ok(Vec::new());
        }
        if start.elapsed() >= PATIENCE {
            let why = |name: String| {
                format!(
                    "{name} still has a finalizer: is a controller running? If it is gone for good, --without-controller takes it off"
                )
            };
            return Ok(names.into_iter().map(why).collect());
        }
        progress.say(&format!("waiting until the controller lets go of {}", names.join(", ")), start.elapsed());
        pause(LOOK).await?;
    }
}

/// Takes the finalizers off. What an attempt that still ran would have reported is lost.
async fn take_off(cluster: &Cluster, rest: &Rest) -> Result<(), Problem> {
    for pod in &rest.pods {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let patch =
            json!({ "metadata": { "uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [POD_FINALIZER] } });
        cluster.patch::<Pod, _>(&namespace, &name, Part::Status, &Patch::Strategic(patch)).await?;
        print(&format!("pod {namespace}/{name}: finalizer taken off\n"))?;
    }
    for record in &rest.records {
        let (namespace, name) = (record.namespace().unwrap_or_default(), record.name_any());
        let kept: Vec<&String> =
            record.finalizers().iter().filter(|finalizer| *finalizer != RECORD_FINALIZER).collect();
        let metadata = json!({ "finalizers": kept, "resourceVersion": record.metadata.resource_version });
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        cluster.patch::<MigrationGate, _>(&namespace, &name, Part::Whole, &patch).await?;
        print(&format!("migrationgate {namespace}/{name}: finalizer taken off\n"))?;
    }
    Ok(())
}
