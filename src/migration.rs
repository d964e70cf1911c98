//! The record: one `MigrationGate` for each group of workloads that share a database.
//!
//! It is the group's lock and its memory. The compare-and-swap on this one object decides who runs
//! ([`MigrationGateStatus::active`]), and what it holds about finished migrations is what opens gates
//! ([`MigrationGateStatus::succeeded`]). Operators write only [`MigrationGateSpec::overrides`]; the controller writes
//! only the status.

#![allow(
    clippy::duplicated_attributes,
    reason = "several printcolumn and validation attributes differ in their content"
)]

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::ending::longest_ending;

/// What operators ask for. Nothing else of a group is configured here: its settings stand on its workloads.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[kube(
    group = "migration-gate.dev",
    version = "v1alpha1",
    kind = "MigrationGate",
    plural = "migrationgates",
    shortname = "mgate",
    category = "all",
    namespaced,
    status = "MigrationGateStatus",
    derive = "PartialEq",
    doc = "The lock and the memory of one group of workloads that share a database: which attempt of a schema migration is active, and which migrations succeeded.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image"),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".status.lastAttempt"),
    printcolumn(name = "Runner", type_ = "string", json_path = ".status.runner"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationGateSpec {
    /// Operators' orders. Each is copied into the status before it acts; removing one later undoes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), schema_with = "overrides_schema")]
    pub overrides: Vec<Override>,
}

/// One order of an operator. An order that was given can be removed, but not changed: give another one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("an order that was given can't be changed: remove it, or add another one"),
    validation = Rule::new("self.action != 'Retry' || self.attempt > 0").message("Retry must name the latest attempt, so that it can't act on a later failure"),
    validation = Rule::new("self.action != 'ConfirmDead' || (self.attempt > 0 && self.podUid != '')").message("ConfirmDead must name the attempt and the UID of the pod that is dead"),
)]
pub struct Override {
    /// The migration that is meant: 32 hexadecimal digits, as in the pod label `migration-gate.dev/migration`.
    #[schemars(regex(pattern = r"^[0-9a-f]{32}$"))]
    pub fingerprint: String,
    /// What is to be done.
    pub action: OverrideAction,
    /// The attempt that is meant, for Retry (the latest one) and ConfirmDead (the active one).
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub attempt: u32,
    /// The UID of the pod that is dead, for ConfirmDead.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub pod_uid: String,
    /// Why, for those who read it later.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// Who gave the order.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub by: String,
}

/// What an operator can order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OverrideAction {
    /// Let a suspended migration run.
    Approve,
    /// Forget the failures and interruptions up to the named attempt, and try again.
    Retry,
    /// Treat the migration as succeeded without running it: its gates open.
    MarkSucceeded,
    /// The operator vouches that the named attempt's process is dead.
    ConfirmDead,
}

/// What the controller recorded. Every write of it is a compare-and-swap on the object's resourceVersion.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.lastAttempt) || (has(self.lastAttempt) && self.lastAttempt >= oldSelf.lastAttempt)").message("attempt numbers are never reused"),
    validation = Rule::new("!has(self.active) || !has(oldSelf.active) || self.active.attempt == oldSelf.active.attempt").message("an active attempt ends before the next one is elected"),
)]
pub struct MigrationGateStatus {
    /// The generation of the spec that this status took into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the group stands, over all of its workloads' current migrations; the newest migration's, if none is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The phase in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The attempt that may be running now. At most one, and nobody else runs while it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Active>,
    /// The highest attempt number ever given in this group.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub last_attempt: u32,
    /// The newest migrations, latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<Migration>,
    /// The fingerprint of every migration that ever succeeded or was marked so, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub succeeded: Vec<String>,
    /// The orders of the spec that were taken up or refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<TakenOverride>,
    /// Workloads that an edit moved to another group; this record elects for them no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<Departed>,
    /// The workloads that this record, and no other, elects for. Kubernetes' garbage collector edits a record's owner
    /// references; nobody but the controller edits this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Member>,
    /// The attempt that was given up last without a proof that its process is gone. Until its agent reports, or so much
    /// time has passed that it must have ended, nobody is elected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<Fenced>,
    /// `Migrated` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The image of the newest migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The pod of the active attempt, or of the newest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// How long the newest attempt took, for people (`12s`, `3m5s`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// The pods that waited when this status was written.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub waiting: u32,
}

/// One condition, shaped as Kubernetes' own `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Migrated`: every current migration succeeded. `Stalled`: an operator must decide.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The generation of the spec that it took into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// The conditions of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ConditionType {
    /// Every workload's current migration succeeded or was marked so.
    Migrated,
    /// Nothing goes on before an operator decides; the message says what.
    Stalled,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows yet.
    Unknown,
}

/// Where a migration, or a group, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It waits for a pod, for a back-off to pass, or for another migration of the group.
    Pending,
    /// An attempt is active.
    Running,
    /// It succeeded; its pods pass.
    Succeeded,
    /// It has no attempts left; its pods wait for a fix or an operator.
    Failed,
    /// It waits for an operator's approval.
    Suspended,
    /// No workload's current template asks for it, and it never succeeded.
    Superseded,
}

/// An attempt that was elected and whose end is not proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// The migration.
    pub fingerprint: String,
    /// The attempt's number, unique in this record.
    pub attempt: u32,
    /// The elected pod.
    pub pod_name: String,
    /// The elected pod's UID: the name may come again, this doesn't.
    pub pod_uid: String,
    /// The pod's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The node's UID; unknown where the record was rebuilt from its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uid: Option<String>,
    /// When the pod was elected.
    pub elected_at: Timestamp,
    /// When the run signal was known to be on the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signalled_at: Option<Timestamp>,
    /// An operator vouched that the process is dead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed_dead: bool,
    /// The time limit as it was at the election, in seconds; none, if absent. Whoever signals later uses it, whatever has
    /// become of the workload by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// The pod's grace period as it was at the election, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
}

/// A workload that a record elects for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its kind.
    pub kind: String,
    /// Its name: one that is made again under it comes after this one.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// An attempt that was given up on evidence about its node, or on an operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fenced {
    /// Its number.
    pub attempt: u32,
    /// The pod that had it.
    pub pod_name: String,
    /// That pod's UID.
    pub pod_uid: String,
    /// When it was given up, by the controller's clock.
    pub at: Timestamp,
    /// The pod's grace period, in seconds: how long its kubelet lets a process live once the pod is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<u32>,
}

impl Fenced {
    /// How long its process may take to end, from when it was given up.
    pub fn longest_ending(&self) -> Duration {
        longest_ending(Duration::from_secs(self.grace_seconds.unwrap_or_default().into()))
    }
}

/// One migration: what is the same for all pods of the same fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Migration {
    /// Its identity: 32 hexadecimal digits.
    pub fingerprint: String,
    /// The image that it runs in.
    #[serde(default)]
    pub image: String,
    /// The command, cut to 256 bytes.
    #[serde(default)]
    pub command: String,
    /// The user's revision text, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// An operator approved it, where the workload is suspended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approved: bool,
    /// Failed attempts since the last Retry; they count against the back-off limit.
    #[serde(default)]
    pub failures: u32,
    /// Interrupted attempts since the last Retry; they have a cap of their own.
    #[serde(default)]
    pub interruptions: u32,
    /// Attempts in a row, up to the newest, that never started.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub never_started: u32,
    /// When the newest attempt that did start was recorded: the back-off counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// The newest attempts, latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Migration {
    /// One of which only the fingerprint is known.
    pub fn unknown(fingerprint: &str) -> Migration {
        Migration {
            fingerprint: fingerprint.to_owned(),
            image: String::new(),
            command: String::new(),
            revision: None,
            phase: Phase::Pending,
            approved: false,
            failures: 0,
            interruptions: 0,
            never_started: 0,
            tried_at: None,
            attempts: Vec::new(),
        }
    }
}

/// One attempt that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number, unique in this record.
    pub number: u32,
    /// The pod that had it.
    pub pod: String,
    /// The pod's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// The exit code of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When the pod was elected.
    pub elected: Timestamp,
    /// When the command started, by the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When the command ended, by the node's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// When the outcome was recorded, by the controller's clock.
    pub recorded: Timestamp,
    /// What the outcome rests on, where it isn't the agent's own verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The last lines of the log, on the newest failure only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

/// How an attempt ended, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AttemptOutcome {
    /// The command, and the second one if there is one, exited with 0.
    Succeeded,
    /// It failed by itself.
    Failed,
    /// Its time was over.
    TimedOut,
    /// Its pod or its node went away.
    Interrupted,
    /// It never started.
    NotStarted,
}

/// An order of the spec and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TakenOverride {
    /// The order's migration.
    pub fingerprint: String,
    /// The order.
    pub action: OverrideAction,
    /// The attempt that it names; 0 for none.
    #[serde(default)]
    pub attempt: u32,
    /// The pod that it names; empty for none.
    #[serde(default)]
    pub pod_uid: String,
    /// Whether it was followed.
    pub accepted: bool,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// When it was taken up.
    pub at: Timestamp,
}

/// A workload that left the group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Departed {
    /// The workload's UID.
    pub workload_uid: String,
    /// Its kind: with its name, what one has that is made again.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The workload's generation that is known to be elsewhere; a later one may have come back.
    pub generation: i64,
}

/// Conditions and overrides are maps for Kubernetes: two writers of different keys don't collide, and a rule on one
/// entry can see what that same entry was before.
fn map_list(
    generator: &mut schemars::SchemaGenerator,
    items: schemars::Schema,
    keys: &[&str],
    max: u32,
) -> schemars::Schema {
    let _ = generator;
    schemars::json_schema!({
        "type": "array",
        "items": items,
        "maxItems": max,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys,
    })
}

fn overrides_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let items = generator.subschema_for::<Override>();
    map_list(generator, items, &["fingerprint", "action", "attempt", "podUid"], 64)
}

fn conditions_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let items = generator.subschema_for::<Condition>();
    map_list(generator, items, &["type"], 8)
}

impl Override {
    /// Whether `taken` is the answer to this order.
    pub fn is_answered_by(&self, taken: &TakenOverride) -> bool {
        self.fingerprint == taken.fingerprint
            && self.action == taken.action
            && self.attempt == taken.attempt
            && self.pod_uid == taken.pod_uid
    }
}

impl MigrationGateStatus {
    /// The migration with this fingerprint, if it is still remembered in detail.
    pub fn migration(&self, fingerprint: &str) -> Option<&Migration> {
        self.migrations.iter().find(|migration| migration.fingerprint == fingerprint)
    }

    /// Whether this says anything. A complaint about a record that can't be read leaves a condition of its own in a status
    /// that may have had none; what the controller writes has `Migrated` among its conditions.
    pub fn says_anything(&self) -> bool {
        self.conditions.iter().any(|condition| condition.type_ == ConditionType::Migrated)
            || self.active.is_some()
            || self.last_attempt > 0
            || !self.migrations.is_empty()
            || !self.succeeded.is_empty()
    }

    /// Whether pods of this fingerprint pass.
    pub fn has_succeeded(&self, fingerprint: &str) -> bool {
        self.succeeded.iter().any(|succeeded| succeeded == fingerprint)
    }
}

/// The CustomResourceDefinition, as deploy/ has it.
///
/// The schema's integer formats `uint32` and the like are taken out: the API server knows only `int32` and `int64`
/// and answers every other with a warning to whoever applies the file. The range stays, as `minimum`.
pub fn definition() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut definition = serde_json::to_value(MigrationGate::crd())?;
    drop_unknown_formats(&mut definition);
    serde_json::from_value(definition)
}

fn drop_unknown_formats(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            if fields.get("format").and_then(|format| format.as_str()).is_some_and(|format| format.starts_with("uint"))
            {
                fields.remove("format");
            }
            fields.values_mut().for_each(drop_unknown_formats);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_unknown_formats),
        _ => {}
    }
}
