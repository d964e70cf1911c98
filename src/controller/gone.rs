//! What is known to be gone, so that a late answer does not bring it back.
//!
//! The answer to a write and the watch come on different connections. A write that takes the last finalizer off a
//! terminating object ends it, and the watch may say so before the answer is read, which shows the object as it was
//! just before. Nothing would ever take that away again: the group would wait for a record that is no more [seen].

use std::collections::{HashMap, VecDeque};

use super::index::is_older;

/// So many are remembered: answers are late by seconds at most.
const REMEMBERED: usize = 1024;

/// The objects that went last, by UID.
#[derive(Debug, Default)]
pub(super) struct Gone {
    ends: HashMap<String, End>,
    order: VecDeque<String>,
}

#[derive(Debug)]
struct End {
    /// The version of its end.
    version: String,
    /// The attempt that its signal or mark named in the moment in which it went, and 0 if it had neither. Nothing of an
    /// object that is no pod.
    attempt: Option<u32>,
}

impl Gone {
    /// Notes that an object ended with this version.
    pub(super) fn note(&mut self, uid: &str, version: &str) {
        self.add(uid, End { version: version.to_owned(), attempt: None });
    }

    /// Notes that a pod ended with this version, and the attempt that its last signal or mark named; 0 without one.
    pub(super) fn note_pod(&mut self, uid: &str, version: &str, attempt: u32) {
        self.add(uid, End { version: version.to_owned(), attempt: Some(attempt) });
    }

    /// The object is back: its labels are ours again. How it is when it goes for good is to be seen then.
    pub(super) fn forget(&mut self, uid: &str) {
        if self.ends.remove(uid).is_some() {
            self.order.retain(|known| known != uid);
        }
    }

    /// The attempt that a pod's signal or mark named when it went, if that was seen; 0 if it had neither.
    pub(super) fn attempt_of(&self, uid: &str) -> Option<u32> {
        self.ends.get(uid)?.attempt
    }

    fn add(&mut self, uid: &str, end: End) {
        if self.ends.insert(uid.to_owned(), end).is_none() {
            self.order.push_back(uid.to_owned());
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.ends.remove(&oldest);
            }
        }
    }

    /// Whether this is the past of an object that has ended since. One that only left the watch, because its labels
    /// changed, comes back with a later version.
    pub(super) fn knows(&self, uid: &str, version: &str) -> bool {
        self.ends.get(uid).is_some_and(|end| end.version == version || is_older(version, &end.version))
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::Index;
    use super::super::objects::GroupKey;
    use super::super::snapshot::{Live, RecordView};
    use super::super::testing::{pod, record, uid};
    use super::*;
    use crate::migration::MigrationGateStatus;

    fn key() -> GroupKey {
        GroupKey { namespace: "shop".to_owned(), name: "shop.deployment".to_owned() }
    }

    #[test]
    fn an_answer_after_the_end_does_not_bring_a_record_back() {
        let mut index = Index::default();
        let seen = record(MigrationGateStatus::default());
        index.put_record(key(), seen.clone());
        index.put_pod(key(), pod("a"));
        index.end_record(&key(), &seen.uid, "9");
        let mut answer = seen;
        answer.resource_version = "8".to_owned();
        assert_eq!(index.put_record(key(), answer), []);
        let snapshot = index.snapshot(&key(), Live::default()).expect("the pod is there");
        assert_eq!(snapshot.record, RecordView::Missing);
    }

    #[test]
    fn an_answer_after_the_end_does_not_bring_a_pod_back() {
        let mut index = Index::default();
        index.put_pod(key(), pod("a"));
        index.end_pod(&uid("a"), "12", 0);
        index.put_pod(key(), pod("a"));
        assert!(index.snapshot(&key(), Live::default()).is_none(), "nothing is known of the group");
        // Its label was taken away and given back.
        let mut back = pod("a");
        back.resource_version = "13".to_owned();
        assert_eq!(index.put_pod(key(), back), [key()]);
    }

    #[test]
    fn only_the_last_are_remembered() {
        let mut gone = Gone::default();
        (0..=REMEMBERED).for_each(|number| gone.note(&number.to_string(), "2"));
        assert!(!gone.knows("0", "1") && gone.knows("1", "1"));
        assert_eq!((gone.ends.len(), gone.order.len()), (REMEMBERED, REMEMBERED));
    }
}
