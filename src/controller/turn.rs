//! A group's turn, and what one turn hands on to the next.

use tokio::time::Instant;

use crate::migration::MigrationGateStatus;

use super::backoff::Backoffs;
use super::decision::RecordRef;
use super::objects::GroupKey;
use super::snapshot::Unreadable;

/// A group whose turn it is.
#[derive(Debug)]
pub struct Turn {
    /// The group.
    pub key: GroupKey,
    /// When the first of the changes came that it is looked at for.
    pub since: Instant,
    /// What the turns before left.
    pub(super) memory: Memory,
}

/// What a turn hands on. Nothing here is needed for a right decision: another leader starts without it.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What failed, and when it may be tried again.
    pub(super) backoffs: Backoffs,
    /// A status that may have been written, although no answer said so.
    pub(super) untold: Option<Untold>,
    /// Why a pod is held that no record tells of, as it was said last.
    pub(super) stuck: Option<String>,
    /// The record that can't be read, as it was complained of last.
    pub(super) complained: Option<Unreadable>,
}

/// A write of a status whose answer was lost.
#[derive(Debug)]
pub(super) struct Untold {
    /// The version that it was to replace.
    pub(super) at: RecordRef,
    /// The status that it was to replace.
    pub(super) before: MigrationGateStatus,
    /// The status.
    pub(super) after: MigrationGateStatus,
}

impl Memory {
    pub(super) fn is_empty(&self) -> bool {
        self.backoffs.is_empty() && self.untold.is_none() && self.stuck.is_none() && self.complained.is_none()
    }
}
