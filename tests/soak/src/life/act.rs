//! What can happen in the life, each with all that it needs: what is decided here is decided by the seed alone.

use std::fmt;
use std::time::Duration;

use super::workload::Workload;

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A workload's owner applies it as it is here, for this reason.
    Apply(Box<Workload>, &'static str),
    /// The same manifest is applied once more: nothing may change.
    Again(Box<Workload>),
    /// A workload is deleted, with its pods or without them.
    Delete(Box<Workload>, Propagation),
    /// An operator gives an order about a workload's current migration.
    Order(Box<Workload>, Order),
    /// Something happens to one of a workload's pods.
    Hurt(Box<Workload>, Hurt),
    /// Somebody copies one of a workload's pods, labels and all.
    CopyPod(Box<Workload>, Copy),
    /// Somebody copies a workload, as `kubectl get -o yaml` shows it, and applies it under another name.
    CopyWorkload(Box<Workload>, Box<Workload>),
    /// Somebody copies a workload's template, labels and all, into a Deployment of this name that asks for no gate.
    CopyTemplate(Box<Workload>, String),
    /// What somebody copied is deleted.
    RemoveCopies(String),
    /// The object of a node is deleted, while the node lives.
    DeleteNode(String),
    /// Something happens to a controller or to the API server.
    Disturb(Disturbance),
}

/// What becomes of a deleted workload's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

/// An operator's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A suspended migration may run.
    Approve,
    /// A failed one is tried again.
    Retry,
    /// It is taken for succeeded.
    MarkSucceeded,
    /// The active attempt's process is said to be dead, and lives.
    ConfirmDead,
}

/// What happens to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hurt {
    /// Any of them is deleted.
    DeleteAny,
    /// The one that runs the migration, if there is one, is deleted.
    DeleteRunner,
    /// The same, by force.
    ForceRunner,
    /// The same, and its finalizer is taken off.
    StripRunner,
    /// Its agent's container is killed.
    KillRunner,
    /// Its sandbox is made anew.
    ForgetRunner,
}

/// What a copied pod is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// As it was, with the owner that it had.
    Owned,
    /// Without an owner.
    Bare,
    /// With an image of somebody else's, which reports this attempt as succeeded.
    Forged(u32),
}

/// What happens to a controller or to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The leading controller is killed.
    KillLeader,
    /// It is stopped for so long.
    StopLeader(Duration),
    /// It is asked to end.
    EndLeader,
    /// The one that doesn't lead is killed.
    KillOther,
    /// The API server is killed and started again.
    RestartApi,
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Apply(workload, why) => {
                let Workload { replicas, gated, suspended, .. } = **workload;
                let (record, script) = (workload.record(), &workload.release.script);
                let gate = if gated { record } else { "no gate".to_owned() };
                let suspended = if suspended { ", suspended" } else { "" };
                write!(
                    formatter,
                    "{why}: {replicas} pods of tag {} in {gate}{suspended}, {script}",
                    workload.release.tag
                )
            }
            Act::Again(_) => formatter.write_str("the same manifest again"),
            Act::Delete(_, how) => write!(formatter, "deleted, {how:?}"),
            Act::Order(_, order) => write!(formatter, "ordered to {order:?}"),
            Act::Hurt(_, hurt) => write!(formatter, "{hurt:?}"),
            Act::CopyPod(_, copy) => write!(formatter, "one of its pods is copied, {copy:?}"),
            Act::CopyWorkload(_, copy) => write!(formatter, "copied as {}", copy.name),
            Act::CopyTemplate(_, name) => write!(formatter, "its template is copied into {name}"),
            Act::RemoveCopies(namespace) => write!(formatter, "what was copied in {namespace} is deleted"),
            Act::DeleteNode(node) => write!(formatter, "the object of node {node} is deleted"),
            Act::Disturb(disturbance) => write!(formatter, "{disturbance:?}"),
        }
    }
}

impl Act {
    /// The workload that it happens to.
    #[must_use]
    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Act::Apply(workload, _)
            | Act::Again(workload)
            | Act::Delete(workload, _)
            | Act::Order(workload, _)
            | Act::Hurt(workload, _)
            | Act::CopyPod(workload, _)
            | Act::CopyWorkload(workload, _)
            | Act::CopyTemplate(workload, _) => Some(workload),
            Act::RemoveCopies(_) | Act::DeleteNode(_) | Act::Disturb(_) => None,
        }
    }
}
