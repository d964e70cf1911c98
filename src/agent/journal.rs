//! What the agents of this pod have done so far, as files on the pod's emptyDir.

use std::collections::BTreeMap;

use super::attempt::Ending;

/// What the journal knows of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Its command was, or was about to be, started; nothing is known of its end.
    Started,
    /// How it ended.
    Ended(Ending),
}

/// The journal as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JournalView {
    /// What it knows of each attempt.
    Known(BTreeMap<u32, Entry>),
    /// It exists and could not be read, so that any attempt may have been started.
    Unreadable,
}

impl JournalView {
    /// A journal without an entry.
    pub const EMPTY: JournalView = JournalView::Known(BTreeMap::new());

    /// What it knows of the attempt.
    pub fn find(&self, attempt: u32) -> Option<Entry> {
        match self {
            JournalView::Known(entries) => entries.get(&attempt).copied(),
            JournalView::Unreadable => Some(Entry::Started),
        }
    }

    /// The latest attempt that it knows.
    pub fn latest(&self) -> Option<(u32, Entry)> {
        match self {
            JournalView::Known(entries) => entries.last_key_value().map(|(attempt, entry)| (*attempt, *entry)),
            JournalView::Unreadable => None,
        }
    }
}
