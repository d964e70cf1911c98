//! `confirm-dead`: shows what is known of an attempt, and takes a person's word that it is over.

use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::cluster::{Cluster, Place, if_allowed};
use super::orders::{give, myself, order};
use super::pods;
use super::problem::Problem;
use super::steer::conclude;
use super::subject::{Subject, record_of, short};
use super::terminal::{Consent, Screen, Tone, print};
use crate::controller::snapshot::{AgentState, PodPhase};
use crate::controller::standing::for_people;
use crate::migration::{Active, MigrationGate, OverrideAction};

/// The namespace of the Leases by which kubelets say that they live. Source: Kubernetes, "Leases", node heartbeats.
const NODE_LEASES: &str = "kube-node-lease";

/// Vouch that the active attempt's process is dead, so that the next attempt may start
///
/// Shows what is known about it first. If it is alive after all, two migrations will run at once.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfirmDeadArguments {
    /// The workload: NAME or deployment/NAME; or the record: migrationgate/NAME; or its pod: pod/NAME
    #[arg(value_name = "WORKLOAD")]
    subject: Subject,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

/// What could be learned of one thing.
enum Known<T> {
    /// It is there.
    Here(T),
    /// It isn't.
    Gone,
    /// It may not be read.
    Hidden,
}

impl<T> Known<T> {
    fn of(answer: Option<Option<T>>) -> Known<T> {
        match answer {
            None => Known::Hidden,
            Some(None) => Known::Gone,
            Some(Some(value)) => Known::Here(value),
        }
    }
}

/// Everything that bears on whether an attempt is over.
struct Evidence {
    pod: Known<Pod>,
    node: Known<Node>,
    lease: Known<Lease>,
}

impl ConfirmDeadArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.place).await?;
        let record = record_of(&cluster, &self.subject).await?;
        let status = record.status.clone().unwrap_or_default();
        let Some(active) = status.active.clone() else {
            return Err(Problem::Unfit(format!(
                "no attempt of {} is active: {}",
                self.subject.name(),
                status.message.as_deref().unwrap_or("nothing is recorded yet")
            )));
        };
        let evidence = gather(&cluster, &active).await?;
        let screen = Screen::of_stdout();
        print(&describe(&record, &active, &evidence, Timestamp::now(), &screen))?;
        let question = match evidence.shows_life() {
            true => "It looks ALIVE. Are you sure that it is dead?",
            false => "Are you sure that it is dead? If it is not, two migrations will run at once.",
        };
        Consent::from_yes(self.yes).obtain(question)?;
        let by = myself(&cluster).await;
        let mut wanted = order(&active.fingerprint, OverrideAction::ConfirmDead, self.reason.clone(), by);
        wanted.attempt = active.attempt;
        wanted.pod_uid.clone_from(&active.pod_uid);
        let answer = give(&cluster, &record.metadata.name.unwrap_or_default(), &wanted).await?;
        let Some(migration) = status.migration(&active.fingerprint) else {
            return Err(Problem::Unfit(format!("the record does not know migration {}", active.fingerprint)));
        };
        conclude(migration, &format!("goes on: attempt {} counts as interrupted", active.attempt), answer)
    }
}

async fn gather(cluster: &Cluster, active: &Active) -> Result<Evidence, Problem> {
    let pod = if_allowed(cluster.get::<Pod>(&cluster.namespace, &active.pod_name).await)?;
    let pod = pod.map(|pod| pod.filter(|pod| pod.metadata.uid.as_deref() == Some(&active.pod_uid)));
    let Some(name) = &active.node_name else {
        return Ok(Evidence { pod: Known::of(pod), node: Known::Hidden, lease: Known::Hidden });
    };
    let node = if_allowed(cluster.get_global::<Node>(name).await)?;
    let lease = if_allowed(cluster.get::<Lease>(NODE_LEASES, name).await)?;
    Ok(Evidence { pod: Known::of(pod), node: Known::of(node), lease: Known::of(lease) })
}

impl Evidence {
    /// The kubelet's last word is that it runs, on a node that is well.
    fn shows_life(&self) -> bool {
        let runs = match &self.pod {
            Known::Here(pod) => pods::facts(pod).is_some_and(|(_, pod)| pod.agent == AgentState::Running),
            _ => false,
        };
        let well = match &self.node {
            Known::Here(node) => is_ready(node),
            Known::Gone => false,
            Known::Hidden => true,
        };
        runs && well
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn describe(record: &MigrationGate, active: &Active, known: &Evidence, now: Timestamp, screen: &Screen) -> String {
    let ago = |time: Timestamp| format!("{} ago", for_people(now.duration_since(time)));
    let mut text = String::new();
    let heading = format!(
        "attempt {} of migration {} ({})",
        active.attempt,
        short(&active.fingerprint),
        record.metadata.name.as_deref().unwrap_or_default()
    );
    let _ = writeln!(text, "{}", screen.paint(Tone::Strong, &heading));
    let told = active.signalled_at.map_or_else(|| "not known to be told".to_owned(), |at| format!("told {}", ago(at)));
    let _ = writeln!(text, "  elected   {}, {told}", ago(active.elected_at));
    let pod = match &known.pod {
        Known::Hidden => "you may not get it".to_owned(),
        Known::Gone => "gone, without a report: somebody removed its finalizer".to_owned(),
        Known::Here(pod) => about_pod(pod, now),
    };
    let _ = writeln!(text, "  pod       {} (UID {}): {pod}", active.pod_name, active.pod_uid);
    let Some(name) = &active.node_name else {
        let _ = writeln!(text, "  node      not known");
        return text;
    };
    let node = match &known.node {
        Known::Hidden => "you may not get it".to_owned(),
        Known::Gone => "there is no such Node any more".to_owned(),
        Known::Here(node) if active.node_uid.is_some() && node.metadata.uid != active.node_uid => {
            "another Node took this name".to_owned()
        }
        Known::Here(node) => about_node(node),
    };
    let _ = writeln!(text, "  node      {name}: {node}");
    let heartbeat = match &known.lease {
        Known::Hidden => "you may not get its Lease".to_owned(),
        Known::Gone => "it has no Lease".to_owned(),
        Known::Here(lease) => match lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()) {
            Some(time) => format!("{}, by the node's clock", ago(time.0)),
            None => "never".to_owned(),
        },
    };
    let _ = writeln!(text, "  heartbeat {heartbeat}");
    text
}

fn about_pod(pod: &Pod, now: Timestamp) -> String {
    let Some((_, facts)) = pods::facts(pod) else { return "it is not gated any more".to_owned() };
    let phase = match facts.phase {
        PodPhase::Pending | PodPhase::Running => "",
        PodPhase::Ended => "ended, says its kubelet; ",
        PodPhase::Collected => "declared failed by the garbage collector, which knows nothing of its processes; ",
    };
    let deleting = pod.metadata.deletion_timestamp.as_ref().map_or_else(String::new, |time| {
        format!("being deleted for {}; ", for_people(now.duration_since(time.0).max(jiff::SignedDuration::ZERO)))
    });
    let agent = match facts.agent {
        AgentState::Running => "its agent's container runs, by the last word of its kubelet",
        AgentState::Waiting => "its agent's container waits to be started",
        AgentState::Exited(exit) if exit.real => "its agent's container ended",
        AgentState::Exited(_) => "its agent's container is said to have ended, by nobody who saw it",
    };
    format!("{phase}{deleting}{agent}")
}

fn about_node(node: &Node) -> String {
    let ready = if is_ready(node) { "Ready" } else { "not Ready" };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let taints: Vec<&str> = taints.into_iter().flatten().map(|taint| taint.key.as_str()).collect();
    if taints.is_empty() { ready.to_owned() } else { format!("{ready}, tainted {}", taints.join(", ")) }
}
