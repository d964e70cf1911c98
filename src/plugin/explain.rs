//! `explain`: why is this pod not ready?

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod as KubePod};
use serde::Serialize;
use std::fmt::Write;

use super::cluster::{Cluster, Place, if_allowed};
use super::format::Output;
use super::leaving;
use super::problem::Problem;
use super::reason::{Case, Commands, Reason, Rule};
use super::seen::{Nodes, Seen, is_gated};
use super::subject::{Subject, short};
use super::table::{Cell, Table};
use super::terminal::{Screen, Tone};
use crate::contract::{annotation, label};
use crate::controller::snapshot::{Pod, RecordView, Snapshot, Workload};

/// Say why a workload's pods are not ready, and what would release them
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The workload or pod: NAME, deployment/NAME or pod/NAME
    #[arg(value_name = "WORKLOAD")]
    subject: Subject,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
}

/// What is explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    namespace: String,
    workload: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(flatten)]
    reason: Reason,
    pods: Vec<PodLine>,
    notes: Vec<String>,
}

/// One pod of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PodLine {
    name: String,
    gate: Gate,
    because: String,
}

/// Where a pod's gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Gate {
    Open,
    Waits,
    Runs,
    Leaves,
}

impl Gate {
    fn cell(self) -> Cell {
        match self {
            Gate::Open => Cell::new("open", Tone::Good),
            Gate::Waits => Cell::new("waits", Tone::Warn),
            Gate::Runs => Cell::new("runs it", Tone::Busy),
            Gate::Leaves => Cell::new("leaves", Tone::Dim),
        }
    }
}

impl ExplainArguments {
    pub(crate) async fn run(self, program: &str) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.place).await?;
        let seen = Seen::read(&cluster, &cluster.namespace).await?;
        let commands = Commands { program: program.to_owned(), place: place_of(&self.place, &cluster) };
        let explanation = explain(&cluster, &seen, &self.subject, &commands).await?;
        self.output.write(&explanation, || explanation.text(&Screen::of_stdout()))
    }
}

/// The options that lead to the same place.
fn place_of(place: &Place, cluster: &Cluster) -> String {
    let mut options = format!(" -n {}", cluster.namespace);
    if let Some(context) = &place.context {
        let _ = write!(options, " --context {context}");
    }
    options
}

async fn explain(
    cluster: &Cluster,
    seen: &Seen,
    subject: &Subject,
    commands: &Commands,
) -> Result<Explanation, Problem> {
    let namespace = if_allowed(cluster.get_global::<Namespace>(&cluster.namespace).await)?.flatten();
    let leaves = leaves(cluster, seen, namespace.as_ref(), commands).await?;
    let without_group = |workload: String, reason: Reason| Explanation {
        namespace: cluster.namespace.clone(),
        workload,
        record: None,
        migration: None,
        image: None,
        command: None,
        reason,
        pods: Vec::new(),
        notes: Vec::new(),
    };
    let (deployment, pod) = match (find(seen, subject, &cluster.namespace), &leaves) {
        (Ok(found), _) => found,
        // The namespace's Deployments may go before its pods.
        (Err(_), Some(reason)) => return Ok(without_group(subject.name().to_owned(), reason.clone())),
        (Err(problem), None) => return Err(problem),
    };
    let name = deployment.metadata.name.clone().unwrap_or_default();
    let Some((key, workload)) = seen.group_of(&name).filter(|_| is_gated(deployment)) else {
        let reason = leaves.unwrap_or_else(|| not_gated(&cluster.namespace, namespace.as_ref(), deployment));
        return Ok(without_group(name, reason));
    };
    let snapshot = seen.snapshot(&key.name);
    let case = Case { snapshot: &snapshot, workload: &workload, pods: &seen.pods, now: Timestamp::now(), commands };
    let mut notes = Vec::new();
    if seen.nodes == Nodes::Assumed {
        notes.push("you may not get nodes, so they are taken for Ready".to_owned());
    }
    let focus = pod.and_then(|name| snapshot.pods.iter().find(|pod| pod.name == name));
    let reason = leaves.or_else(|| focus.and_then(|pod| case.of_pod(pod))).unwrap_or_else(|| case.reason());
    Ok(Explanation {
        namespace: key.namespace,
        workload: name,
        record: Some(key.name),
        migration: Some(workload.fingerprint.clone()),
        image: Some(workload.image.clone()),
        command: Some(workload.command.clone()),
        reason,
        pods: lines(&case, &snapshot, &workload),
        notes,
    })
}

/// Why the namespace is still there, if it is being deleted.
async fn leaves(
    cluster: &Cluster,
    seen: &Seen,
    namespace: Option<&Namespace>,
    commands: &Commands,
) -> Result<Option<Reason>, Problem> {
    let Some(namespace) = namespace.filter(|namespace| namespace.metadata.deletion_timestamp.is_some()) else {
        return Ok(None);
    };
    let pods: Vec<KubePod> = cluster.list(Some(&cluster.namespace), "").await?;
    Ok(leaving::reason(namespace, &pods, &seen.held, Timestamp::now(), commands))
}

/// The Deployment that is meant, and the pod, if one is.
fn find<'a>(seen: &'a Seen, subject: &Subject, namespace: &str) -> Result<(&'a Deployment, Option<String>), Problem> {
    let missing = |what: String| Problem::Unfit(format!("namespace {namespace} has no {what}"));
    let workload = match subject {
        Subject::Workload(name) => name.clone(),
        Subject::Record(name) => {
            let snapshot = seen.snapshot(name);
            let owner = match &snapshot.record {
                RecordView::Present(record) => record.owners.first().map(|owner| owner.name.clone()),
                _ => None,
            };
            let workload = snapshot.workloads.first().map(|workload| workload.name.clone()).or(owner);
            workload.ok_or_else(|| missing(format!("workload of {name}")))?
        }
        Subject::Pod(name) => {
            let pod = seen.pods.get(name).ok_or_else(|| missing(format!("gated pod {name}")))?;
            let labels = pod.metadata.labels.clone().unwrap_or_default();
            let selects = |deployment: &&Deployment| {
                let selector = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.as_ref());
                selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
            };
            let owner = seen.deployments.values().find(selects).and_then(|found| found.metadata.name.clone());
            let owner = owner.ok_or_else(|| missing(format!("Deployment of pod {name}")))?;
            let deployment = seen.deployments.get(&owner).ok_or_else(|| missing(format!("deployment {owner}")))?;
            return Ok((deployment, Some(name.clone())));
        }
    };
    let deployment = seen.deployments.get(&workload).ok_or_else(|| missing(format!("deployment {workload}")))?;
    Ok((deployment, None))
}

/// Why a workload has no gate; a namespace that may not be read is taken for one that opted in.
fn not_gated(namespace: &str, object: Option<&Namespace>, deployment: &Deployment) -> Reason {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    if !is_gated(deployment) {
        return Reason::new(
            Rule::NotGated,
            format!("it is not gated: it has no label {}: \"{}\"", label::GATED, label::GATED_TRUE),
            [],
        );
    }
    let mode = object.and_then(|object| object.metadata.labels.as_ref()?.get(label::INJECT));
    let annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    let asks = [annotation::COMMAND, annotation::CONTAINER].iter().any(|key| annotations.contains_key(*key));
    let (because, release) = match (object.is_some(), mode.map(String::as_str)) {
        (true, Some(label::INJECT_AUDIT)) => (
            format!("namespace {namespace} is only audited: {}={}", label::INJECT, label::INJECT_AUDIT),
            format!("kubectl label namespace {namespace} {}={} --overwrite", label::INJECT, label::INJECT_ENABLED),
        ),
        (true, mode) if mode != Some(label::INJECT_ENABLED) => (
            format!("namespace {namespace} did not opt in"),
            format!("kubectl label namespace {namespace} {}={}", label::INJECT, label::INJECT_ENABLED),
        ),
        _ if !asks => (
            "nothing says what its migration is".to_owned(),
            format!("kubectl annotate deployment {name} -n {namespace} {}='…'", annotation::COMMAND),
        ),
        _ => (
            "it was admitted while the webhook was not asked".to_owned(),
            format!("any change of it, such as: kubectl rollout restart deployment {name} -n {namespace}"),
        ),
    };
    Reason::new(Rule::NotInjected, format!("it asks for a gate and has none: {because}"), [release])
}

fn lines(case: &Case<'_>, snapshot: &Snapshot, workload: &Workload) -> Vec<PodLine> {
    let active = super::seen::active(snapshot);
    let of_workload = |pod: &&Pod| {
        let described = case.pods.get(&pod.name);
        let owner = described.and_then(|pod| pod.metadata.owner_references.as_ref()?.first().cloned());
        owner.is_none_or(|owner| owner.name.starts_with(&format!("{}-", workload.name)))
    };
    let line = |pod: &Pod| {
        let (gate, because) = if active.is_some_and(|active| active.pod_uid == pod.uid) {
            (Gate::Runs, String::new())
        } else if !pod.is_alive() {
            (Gate::Leaves, String::new())
        } else if pod.is_open() {
            (Gate::Open, case.of_pod(pod).map(|reason| reason.because).unwrap_or_default())
        } else {
            let superseded = case.of_pod(pod).map(|reason| reason.because);
            let obstacle = || case.obstacle(pod).map(|text| text.replacen(&format!("{}: ", pod.name), "", 1));
            (Gate::Waits, superseded.or_else(obstacle).unwrap_or_default())
        };
        PodLine { name: pod.name.clone(), gate, because }
    };
    let mut lines: Vec<PodLine> = snapshot.pods.iter().filter(of_workload).map(line).collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}

impl Explanation {
    fn text(&self, screen: &Screen) -> String {
        let mut text = String::new();
        let waiting = self.pods.iter().filter(|pod| matches!(pod.gate, Gate::Waits | Gate::Runs)).count();
        let heading = match (self.reason.rule, waiting) {
            (Rule::NotGated | Rule::NotInjected, _) => format!("{} has no gate", self.workload),
            (Rule::NamespaceLeaves, _) => format!("namespace {} is being deleted", self.namespace),
            (_, 0) => format!("no pod of {} waits for its gate", self.workload),
            (_, 1) => format!("1 pod of {} waits", self.workload),
            (_, many) => format!("{many} pods of {} wait", self.workload),
        };
        let what = match (&self.migration, &self.image, &self.command) {
            (Some(migration), Some(image), Some(command)) if self.reason.rule != Rule::NamespaceLeaves => {
                format!(": migration {}, {command}, in {image}", short(migration))
            }
            _ => String::new(),
        };
        let _ = writeln!(text, "{}{what}", screen.paint(Tone::Strong, &heading));
        let _ = writeln!(text, "\n  Because {}.", self.reason.because);
        let mut prefix = "  Released by";
        for release in &self.reason.released_by {
            let _ = writeln!(text, "{prefix} {release}");
            prefix = "           or";
        }
        for note in &self.notes {
            let _ = writeln!(text, "  Note: {note}");
        }
        if !self.pods.is_empty() {
            let mut table = Table::new(&["POD", "GATE", "WHY"]);
            for pod in &self.pods {
                table.push(vec![pod.name.as_str().into(), pod.gate.cell(), pod.because.as_str().into()]);
            }
            let _ = write!(text, "\n{}", table.render(screen));
        }
        text
    }
}
