//! The only writer: carries out what was decided, and says how it went.
//!
//! Every body here is built from the decision alone. A write that lost a race is not repeated: the group is decided
//! afresh from a newer read.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use json_patch::{AddOperation, PatchOperation, ReplaceOperation, jsonptr::PointerBuf};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::api_error::{ApiFailure, classify};
use crate::contract::{CONDITION, Opened, POD_FINALIZER, RECORD_FINALIZER, Run, Settled, Signal, annotation, label};
use crate::metrics::ControllerMetrics;
use crate::migration::{
    Condition, ConditionStatus, ConditionType, MigrationGate, MigrationGateSpec, MigrationGateStatus,
};

use super::decision::{Action, Hold, PodRef, RecordRef, Settlement};
use super::objects::{GroupKey, MANAGED_BY, MANAGER, PodObject, record_facts};
use super::pods::Pods;
use super::snapshot::{Guards, Owner, Pod, Record, Unreadable, Workload};
use super::standing::whole_seconds;
use super::turn::Turn;
use super::watch::Cache;

/// Passes that are under way at once for one group. The API server's own limit on one client's requests comes first.
const PASSES_AT_ONCE: usize = 64;

/// How long an answer is waited for: the client's own time-out is made for watches.
pub const REQUEST: Duration = Duration::from_secs(15);

/// The reason of the condition and of the event about a record that can't be read.
pub const UNREADABLE: &str = "RecordUnreadable";

/// The writer.
#[derive(Clone)]
pub struct Writer {
    /// The client.
    pub client: Client,
    /// What learns the result of each write at once, before a watch brings it.
    pub cache: std::sync::Arc<Cache>,
    /// What is counted.
    pub metrics: std::sync::Arc<ControllerMetrics>,
}

/// How each of some actions went, in their order.
pub type Outcomes = Vec<Result<(), ApiFailure>>;

impl Writer {
    /// Carries out the writes of one decision in their order. Passes are left to [`open`](Writer::open), reads to
    /// [`live`](super::live).
    pub async fn carry_out(&self, turn: &Turn, actions: &[Action]) -> Outcomes {
        let mut outcomes = Outcomes::with_capacity(actions.len());
        for action in actions {
            let outcome = self.attempt(&turn.key, action.name(), self.one(&turn.key, action)).await;
            if outcome.is_ok() && matches!(action, Action::Settle(_, Settlement { open: Some(_), .. })) {
                self.opened(turn);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Opens these pods, many at once, because passes don't depend on each other. Each pod is let go of as soon as it is
    /// open: what the API server answers takes its place. Returns those that could not be opened.
    pub async fn open(&self, turn: &Turn, pods: Pods) -> Vec<(Arc<Pod>, ApiFailure)> {
        let mut failures = Vec::new();
        let mut passes =
            pods.into_shared().map(async |pod| match self.attempt(&turn.key, OPEN, self.pass(&turn.key, &pod)).await {
                Ok(()) => {
                    self.opened(turn);
                    None
                }
                Err(failure) => Some((pod, failure)),
            });
        let mut under_way = FuturesUnordered::new();
        loop {
            under_way.extend(passes.by_ref().take(PASSES_AT_ONCE - under_way.len()));
            match under_way.next().await {
                Some(outcome) => failures.extend(outcome),
                None => return failures,
            }
        }
    }

    fn opened(&self, turn: &Turn) {
        self.metrics.gates_opened.inc();
        self.metrics.gate_opening.observe(turn.since.elapsed());
    }

    async fn attempt(
        &self,
        key: &GroupKey,
        action: &'static str,
        write: impl Future<Output = Result<(), kube::Error>>,
    ) -> Result<(), ApiFailure> {
        let Ok(answer) = tokio::time::timeout(REQUEST, write).await else {
            let failure = ApiFailure::Transient { retry_after: None };
            self.metrics.api_errors.of(failure).inc();
            warn!(namespace = key.namespace, record = key.name, action, "a write had no answer in time");
            return Err(failure);
        };
        answer.map_err(|error| self.explain(key, action, &error))
    }

    async fn one(&self, key: &GroupKey, action: &Action) -> Result<(), kube::Error> {
        match action {
            Action::CreateRecord(owners) => self.create_record(key, owners).await,
            Action::Own(record, owners) => self.own(key, record, owners).await,
            Action::Protect(record) => self.set_finalizer(key, record, Hold::Keep).await,
            Action::Release(record) => self.set_finalizer(key, record, Hold::Release).await,
            Action::Delete(record) => self.delete(key, record).await,
            Action::WriteStatus(record, status) => self.write_status(key, record, status).await,
            Action::Signal(pod, run, guards) => self.signal(key, pod, run, *guards).await,
            Action::Settle(pod, settlement) => self.settle(key, pod, settlement).await,
            Action::Complain(record) => self.complain(key, record).await,
            Action::Open(_) | Action::Look(..) => Ok(()),
        }
    }

    fn explain(&self, key: &GroupKey, action: &'static str, error: &kube::Error) -> ApiFailure {
        let failure = classify(error);
        self.metrics.api_errors.of(failure).inc();
        match failure {
            // Somebody else was faster, or the object is gone: the next decision knows.
            ApiFailure::Conflict | ApiFailure::NotFound | ApiFailure::AlreadyExists => {}
            _ => warn!(
                namespace = key.namespace, record = key.name, %failure, action,
                error = %crate::supervise::with_causes(error), "a write failed; it is decided afresh"
            ),
        }
        failure
    }

    fn records(&self, key: &GroupKey) -> Api<MigrationGate> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    fn learn(&self, gate: &MigrationGate) {
        if let Some((key, record)) = record_facts(gate) {
            self.cache.update(|index| index.put_record(key, record));
        }
    }

    async fn create_record(&self, key: &GroupKey, owners: &[Workload]) -> Result<(), kube::Error> {
        let gate = MigrationGate {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
                owner_references: Some(owners.iter().map(|owner| reference(&Owner::of(owner))).collect()),
                ..ObjectMeta::default()
            },
            spec: MigrationGateSpec::default(),
            status: None,
        };
        let made = self.records(key).create(&PostParams::default(), &gate).await.inspect_err(|error| {
            if classify(error) == ApiFailure::NamespaceTerminating {
                self.cache.update(|index| {
                    index.refuse_record(key);
                    vec![key.clone()]
                });
            }
        })?;
        info!(namespace = key.namespace, record = key.name, "made the record");
        self.learn(&made);
        Ok(())
    }

    /// The record as it is known, if that is the version that was decided on.
    fn known(&self, key: &GroupKey, at: &RecordRef) -> Option<Arc<Record>> {
        self.cache.index().record(key).filter(|record| record.at() == *at).cloned()
    }

    async fn own(&self, key: &GroupKey, at: &RecordRef, workloads: &[Workload]) -> Result<(), kube::Error> {
        let Some(record) = self.known(key, at) else { return Ok(()) };
        let mut owners: Vec<OwnerReference> = record.owners.iter().map(reference).collect();
        owners.extend(workloads.iter().map(|workload| reference(&Owner::of(workload))));
        self.patch_metadata(key, at, json!({ "ownerReferences": owners })).await
    }

    async fn set_finalizer(&self, key: &GroupKey, at: &RecordRef, hold: Hold) -> Result<(), kube::Error> {
        let Some(record) = self.known(key, at) else { return Ok(()) };
        let mut finalizers = record.finalizers.clone();
        finalizers.retain(|finalizer| finalizer != RECORD_FINALIZER);
        if hold == Hold::Keep {
            finalizers.push(RECORD_FINALIZER.to_owned());
        }
        self.patch_metadata(key, at, json!({ "finalizers": finalizers })).await
    }

    async fn patch_metadata(&self, key: &GroupKey, at: &RecordRef, mut metadata: Value) -> Result<(), kube::Error> {
        metadata["uid"] = json!(at.uid);
        metadata["resourceVersion"] = json!(at.resource_version);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let gate = self.records(key).patch(&at.name, &PatchParams::default(), &patch).await?;
        self.learn(&gate);
        Ok(())
    }

    async fn delete(&self, key: &GroupKey, at: &RecordRef) -> Result<(), kube::Error> {
        let preconditions =
            Preconditions { uid: Some(at.uid.clone()), resource_version: Some(at.resource_version.clone()) };
        let params = DeleteParams::default().preconditions(preconditions);
        self.records(key).delete(&at.name, &params).await?;
        Ok(())
    }

    /// Replaces the whole status, or nothing. The changed resourceVersion in the patched object is what the API server
    /// compares: another version answers 409.
    async fn write_status(
        &self,
        key: &GroupKey,
        at: &RecordRef,
        status: &MigrationGateStatus,
    ) -> Result<(), kube::Error> {
        let status = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
        let replace = |path: [&'static str; 2], value| {
            PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(path), value })
        };
        let patch = json_patch::Patch(vec![
            replace(["metadata", "uid"], json!(at.uid)),
            replace(["metadata", "resourceVersion"], json!(at.resource_version)),
            PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(["status"]), value: status }),
        ]);
        let params = PatchParams::default();
        let gate = self.records(key).patch_status(&at.name, &params, &Patch::<()>::Json(patch)).await?;
        self.learn(&gate);
        Ok(())
    }

    /// Says on the record that it can't be read. The time in it is one that doesn't change, so that saying it again
    /// changes nothing.
    async fn complain(&self, key: &GroupKey, record: &Unreadable) -> Result<(), kube::Error> {
        warn!(
            namespace = key.namespace,
            record = key.name,
            why = record.why,
            "this record can't be read; its group is left alone until it is mended"
        );
        let condition = Condition {
            type_: ConditionType::Stalled,
            status: ConditionStatus::True,
            observed_generation: None,
            last_transition_time: record.created,
            reason: UNREADABLE.to_owned(),
            message: record.why.clone(),
        };
        let patch = Patch::Merge(json!({ "metadata": { "uid": record.uid }, "status": { "conditions": [condition] } }));
        let records: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &ApiResource::erase::<MigrationGate>(&()));
        records.patch_status(&record.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    async fn signal(&self, key: &GroupKey, at: &PodRef, run: &Run, guards: Guards) -> Result<(), kube::Error> {
        let mut annotations: serde_json::Map<String, Value> =
            guards.entries().map(|(key, value)| (key.to_owned(), json!(value))).collect();
        let ours: Vec<&str> = guards.entries().map(|(key, _)| key).collect();
        annotations.insert(annotation::GUARDS.to_owned(), json!(ours.join(",")));
        annotations.insert(annotation::SIGNAL.to_owned(), text(&Signal::Run(run.clone()))?);
        let metadata = json!({
            "uid": at.uid,
            "resourceVersion": at.resource_version,
            "annotations": annotations,
            "labels": { label::ROLE: label::ROLE_RUNNER },
            "finalizers": [POD_FINALIZER],
        });
        self.patch_pod(key, &at.name, json!({ "metadata": metadata })).await
    }

    async fn settle(&self, key: &GroupKey, at: &PodRef, settlement: &Settlement) -> Result<(), kube::Error> {
        let mut annotations = serde_json::Map::new();
        if let Some(attempt) = settlement.mark {
            let mark = Signal::Settled(Settled { pod_uid: at.uid.clone(), attempt });
            annotations.insert(annotation::SIGNAL.to_owned(), text(&mark)?);
        }
        let mut metadata = json!({ "uid": at.uid, "resourceVersion": at.resource_version });
        if settlement.hold == Hold::Release {
            metadata["$deleteFromPrimitiveList/finalizers"] = json!([POD_FINALIZER]);
            metadata["labels"] = json!({ label::ROLE: null });
            annotations.insert(annotation::GUARDS.to_owned(), Value::Null);
            annotations.extend(settlement.guards.entries().map(|(key, _)| (key.to_owned(), Value::Null)));
        }
        let mut body = json!({});
        if let Some(fingerprint) = &settlement.open {
            annotations.insert(annotation::OPENED.to_owned(), pass(&at.uid, fingerprint)?);
            body["status"] = open_gate();
        }
        metadata["annotations"] = Value::Object(annotations);
        body["metadata"] = metadata;
        self.patch_pod(key, &at.name, body).await
    }

    async fn pass(&self, key: &GroupKey, pod: &Pod) -> Result<(), kube::Error> {
        let annotations = json!({ annotation::OPENED: pass(&pod.uid, &pod.fingerprint)? });
        let body = json!({ "metadata": { "uid": pod.uid, "annotations": annotations }, "status": open_gate() });
        self.patch_pod(key, &pod.name, body).await
    }

    async fn patch_pod(&self, key: &GroupKey, name: &str, body: Value) -> Result<(), kube::Error> {
        let pods: Api<PodObject> = Api::namespaced(self.client.clone(), &key.namespace);
        // Of a pod that is gone the watch will show how it went, and take it out of the index.
        let pod = pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(body)).await?;
        if let Some((key, facts)) = pod.facts() {
            self.cache.update(|index| index.put_pod(key, facts));
        }
        Ok(())
    }
}

fn text(signal: &Signal) -> Result<Value, kube::Error> {
    serde_json::to_string(signal).map(Value::String).map_err(kube::Error::SerdeError)
}

fn pass(uid: &str, fingerprint: &str) -> Result<Value, kube::Error> {
    let opened = Opened { pod_uid: uid.to_owned(), migration: fingerprint.to_owned() };
    serde_json::to_string(&opened).map(Value::String).map_err(kube::Error::SerdeError)
}

/// Conditions are merged by type, so that others' stay.
fn open_gate() -> Value {
    json!({ "conditions": [{
        "type": CONDITION,
        "status": "True",
        "reason": "MigrationSucceeded",
        "message": "the pod's migration succeeded or was marked so",
        "lastTransitionTime": whole_seconds(Timestamp::now()).to_string(),
    }] })
}

fn reference(owner: &Owner) -> OwnerReference {
    OwnerReference {
        api_version: owner.api_version.clone(),
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        block_owner_deletion: None,
        controller: None,
    }
}

/// The name of an opening.
pub(super) const OPEN: &str = "open-pod";

impl Action {
    /// Its name, in logs and among those that failed.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::CreateRecord(_) => "create-record",
            Action::Own(..) => "own-record",
            Action::Protect(_) => "protect-record",
            Action::Release(_) => "release-record",
            Action::Delete(_) => "delete-record",
            Action::WriteStatus(..) => "write-status",
            Action::Signal(..) => "signal-pod",
            Action::Settle(..) => "settle-pod",
            Action::Open(_) => OPEN,
            Action::Complain(_) => "complain",
            Action::Look(..) => "look",
        }
    }

    /// The version that it names, if it names one.
    pub(super) fn version(&self) -> Option<&str> {
        match self {
            Action::Own(record, _)
            | Action::Protect(record)
            | Action::Release(record)
            | Action::Delete(record)
            | Action::WriteStatus(record, _) => Some(&record.resource_version),
            Action::Signal(pod, ..) | Action::Settle(pod, _) => Some(&pod.resource_version),
            Action::CreateRecord(_) | Action::Open(_) | Action::Complain(_) | Action::Look(..) => None,
        }
    }
}
