//! `release`: opens one pod's gate by hand, past the controller.

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PostParams};
use serde_json::json;

use super::cluster::{Cluster, Part, Place};
use super::pods;
use super::problem::{MissingRight, Problem, Request};
use super::subject::{Subject, short};
use super::terminal::{Consent, print};
use crate::contract::{CONDITION, DOMAIN, Opened, annotation};
use crate::controller::standing::whole_seconds;

/// The virtual resource and verb that the policies ask for. Source: webhook-config/policies.yaml.
const GATES: &str = "gates";
const OPEN: &str = "open";

/// Open one pod's gate by hand, past the controller (break-glass)
///
/// The pod starts although its migration did not succeed: its application meets whatever schema is there. Nothing else is
/// changed: other pods still wait, and no migration is started, ended or recorded. For the day when the controller can't be
/// had; while it runs, `mark-succeeded` does the same for all pods, and is recorded.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReleaseArguments {
    /// The pod: NAME or pod/NAME
    #[arg(value_name = "POD", value_parser = pod_name)]
    pod: String,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

fn pod_name(text: &str) -> Result<String, String> {
    match Subject::parse(text)? {
        Subject::Pod(name) => Ok(name),
        Subject::Workload(name) if !text.contains('/') => Ok(name),
        _ => Err("a pod is needed: NAME or pod/NAME".to_owned()),
    }
}

impl ReleaseArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.place).await?;
        let namespace = &cluster.namespace;
        let pod: Pod = cluster
            .get(namespace, &self.pod)
            .await?
            .ok_or_else(|| Problem::Unfit(format!("namespace {namespace} has no pod {}", self.pod)))?;
        let Some((key, facts)) = pods::facts(&pod) else {
            return Err(Problem::Unfit(format!("pod {} is not gated: what holds it is something else", self.pod)));
        };
        if facts.is_open() {
            return Err(Problem::Unfit(format!(
                "the gate of pod {} is open: what holds it is something else",
                self.pod
            )));
        }
        if let Some(attempt) = facts.running_attempt() {
            return Err(Problem::Unfit(format!(
                "pod {} has been told to run attempt {attempt}: its application must not start beside it; if it is dead, see \
                 `confirm-dead`",
                self.pod
            )));
        }
        may_open(&cluster).await?;
        Consent::from_yes(self.yes).obtain(&format!(
            "pod {} of {} will start although its migration {} has not succeeded. Its application meets the schema that is \
             there now. Go on?",
            self.pod,
            key.name,
            short(&facts.fingerprint)
        ))?;
        let opened = Opened { pod_uid: facts.uid.clone(), migration: facts.fingerprint.clone() };
        let pass = serde_json::to_string(&opened).map_err(|error| Problem::Unfit(error.to_string()))?;
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": facts.uid, "annotations": { annotation::OPENED: pass } },
            "status": { "conditions": [{
                "type": CONDITION,
                "status": "True",
                "reason": "ReleasedByHand",
                "message": "an operator opened the gate; the pod's migration did not succeed",
                "lastTransitionTime": whole_seconds(Timestamp::now()).to_string(),
            }] },
        }));
        cluster.patch::<Pod, _>(namespace, &self.pod, Part::Status, &patch).await?;
        print(&format!(
            "the gate of pod {} is open; its migration {} still has not succeeded\n",
            self.pod,
            short(&facts.fingerprint)
        ))
    }
}

/// The policies' own question, asked beforehand: their refusal comes too late for a good explanation.
async fn may_open(cluster: &Cluster) -> Result<(), Problem> {
    let attributes = ResourceAttributes {
        group: Some(DOMAIN.to_owned()),
        resource: Some(GATES.to_owned()),
        verb: Some(OPEN.to_owned()),
        namespace: Some(cluster.namespace.clone()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), non_resource_attributes: None },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let answer = reviews.create(&PostParams::default(), &review).await;
    // Where the question itself is refused, the policies will answer it.
    if answer.is_ok_and(|review| review.status.is_some_and(|status| !status.allowed)) {
        let resource = format!("{GATES}.{DOMAIN}");
        let request = Request { verb: OPEN, resource: &resource, namespace: Some(&cluster.namespace) };
        return Err(Problem::Right(MissingRight::new(request, None)));
    }
    Ok(())
}
