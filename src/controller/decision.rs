//! What [`decide`](super::decide) answers: writes and reads, each naming the version that it was decided on.

use jiff::Timestamp;

use crate::contract::Run;
use crate::migration::{Active, MigrationGateStatus};

use super::evidence::{NodeDeletion, Question};
use super::pods::Pods;
use super::snapshot::{Guards, Pod, Record, Unreadable, Workload};

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The writes and reads to make.
    pub actions: Vec<Action>,
    /// When time alone may change the answer.
    pub look_again_at: Option<Timestamp>,
    /// Why an operator must act, where there is no record that could say so.
    pub stuck: Option<String>,
}

/// One write or read. Only [`apply`](super::apply) carries them out.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the group's record, owned by these workloads.
    CreateRecord(Vec<Workload>),
    /// Add these workloads to the record's owners.
    Own(RecordRef, Vec<Workload>),
    /// Put our finalizer on the record, so that an election can follow.
    Protect(RecordRef),
    /// Take our finalizer off the record.
    Release(RecordRef),
    /// Delete the record: nobody owns it and nobody needs it.
    Delete(RecordRef),
    /// Replace the record's status.
    WriteStatus(RecordRef, Box<MigrationGateStatus>),
    /// Give the pod its run signal, with our finalizer and what keeps others from evicting it.
    Signal(PodRef, Run, Guards),
    /// Replace the pod's run signal by its mark.
    Settle(PodRef, Settlement),
    /// Write the pass and the gate condition to each of these pods. Success is never undone, so no version is named.
    Open(Pods),
    /// Say on the record, and in an event, that it can't be read.
    Complain(Unreadable),
    /// Read these objects from the API server and decide again. A question about a runner names its attempt.
    Look(Question, Option<Box<Active>>),
}

/// A record at the version that was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordRef {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version.
    pub resource_version: String,
}

/// A pod at the version that was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The version.
    pub resource_version: String,
}

/// What a settled patch does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settlement {
    /// The attempt to mark; `None` where the pod has a mark already, or never had a signal.
    pub mark: Option<u32>,
    /// Whether our finalizer goes. Not with a fence: the pod object is kept until the outcome is recorded.
    pub hold: Hold,
    /// The guards to take off.
    pub guards: Guards,
    /// The fingerprint to open the pod for in the same write.
    pub open: Option<String>,
}

/// What becomes of a pod's finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// It stays.
    Keep,
    /// It goes.
    Release,
}

/// What an installation chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Whether a deleted Node object proves that its processes are dead.
    pub node_deletion: NodeDeletion,
}

impl Record {
    /// What a write of it must name.
    pub fn at(&self) -> RecordRef {
        RecordRef { name: self.name.clone(), uid: self.uid.clone(), resource_version: self.resource_version.clone() }
    }
}

impl Settlement {
    /// The mark that keeps a late signal from being obeyed; the pod object is kept until the outcome is recorded.
    pub(super) fn fence(attempt: u32) -> Settlement {
        Settlement { mark: Some(attempt), hold: Hold::Keep, guards: Guards::default(), open: None }
    }
}

impl Pod {
    pub(super) fn released(&self, mark: Option<u32>, open: Option<String>) -> Settlement {
        Settlement { mark, hold: Hold::Release, guards: self.our_guards, open }
    }

    /// What a signal or a mark written to it must name.
    pub fn at(&self) -> PodRef {
        PodRef { name: self.name.clone(), uid: self.uid.clone(), resource_version: self.resource_version.clone() }
    }
}
