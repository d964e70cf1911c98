//! How a workload comes to a group: before a record elects for it the first time, every other record that may have
//! elected for it, or for one of its name before it, must say that it left, and have no attempt active.
//!
//! The watch is too late to say which records those are: another leader may just have made one, believing that the
//! workload is still there. They are listed live, after this record had the workload among its owners, and the answer
//! counts for that version of this record only. The other leader does the same; whoever lists last sees both records,
//! and a compare-and-swap on the other's decides. docs/design.md, section 4, has the proof.
//!
//! Whose a record is rests on what it says itself ([`Record::electorate`]): of its owner references, the garbage collector
//! takes away those whose object is gone, while the pods of that object may still run.

use std::sync::Arc;
use std::time::Duration;

use crate::migration::{Member, MigrationGateStatus};

use super::decision::RecordRef;
use super::record;
use super::snapshot::{Record, Workload};

/// How soon a group is looked at again that waits for an attempt of another.
pub(super) const ELDER_AGAIN: Duration = Duration::from_secs(5);

/// Where a workload stands on its way into a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arrival {
    /// It has been here since before.
    Member,
    /// No record stands in its way; it may be written down as a member.
    Arrived,
    /// The namespace's records must be listed.
    Ask,
    /// These records must first say that it left.
    Told(Vec<(RecordRef, MigrationGateStatus)>),
    /// An attempt is active in another record, or may be in one that can't be read.
    Waits,
}

/// Where the workload stands, going by the record's status as it is to be written, the other records as the watch has
/// them, and as they were listed for this very version of the record.
pub(super) fn arrival(
    workload: &Workload,
    status: &MigrationGateStatus,
    watched: &[Arc<Record>],
    listed: Option<&[Arc<Record>]>,
) -> Arrival {
    if record::is_member(status, &workload.uid) {
        return Arrival::Member;
    }
    match (in_the_way(workload, watched), listed) {
        (Some(arrival), _) => arrival,
        (None, None) => Arrival::Ask,
        (None, Some(listed)) => in_the_way(workload, listed).unwrap_or(Arrival::Arrived),
    }
}

/// What these records keep the workload from.
fn in_the_way(workload: &Workload, elders: &[Arc<Record>]) -> Option<Arrival> {
    let mut told = Vec::new();
    let mut waits = false;
    for elder in elders {
        let members: Vec<Member> = elder.electorate().filter(|member| member.precedes(workload)).collect();
        if elder.unreadable {
            // A record is protected while an attempt of it may be active.
            waits |= !members.is_empty() || elder.is_protected();
            continue;
        }
        if members.is_empty() {
            continue;
        }
        // One without a status may have replaced one that was lost; its pods will tell who runs.
        let Some(status) = &elder.status else {
            waits = true;
            continue;
        };
        waits |= status.active.is_some() || status.fenced.is_some();
        let mut after = status.clone();
        for member in members.iter().filter(|member| !has_departed(status, &member.uid)) {
            // Another one of the same name was before this one, or came after it and this view is late. The note keeps it out
            // for the moment only: whoever sees it alive takes the note off, and asks as this one does.
            let generation = if member.uid == workload.uid { workload.generation } else { 0 };
            record::depart(&mut after, member, generation);
        }
        if after != *status {
            told.push((elder.at(), after));
        }
    }
    match (told.is_empty(), waits) {
        (false, _) => Some(Arrival::Told(told)),
        (true, true) => Some(Arrival::Waits),
        (true, false) => None,
    }
}

/// Whether a record says that a workload is elsewhere.
pub(super) fn has_departed(status: &MigrationGateStatus, workload_uid: &str) -> bool {
    status.departed.iter().any(|departed| departed.workload_uid == workload_uid)
}
