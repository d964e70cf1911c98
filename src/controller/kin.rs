//! Which records may have elected for which workloads, so that a group finds the records that it comes after, and a record
//! the groups that wait for it, without going through a namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::migration::Member;

use super::objects::GroupKey;
use super::snapshot::Record;

/// What a workload is known by: one of the same name, in the same place, comes after it, and so does it itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sign {
    /// Kind and name.
    Name(String, String),
    /// UID.
    Uid(String),
}

impl Sign {
    /// What a member of a record, or a workload, is known by. Two of which one [precedes](Member::precedes) the other have
    /// one of these in common.
    pub(super) fn of(member: Member) -> [Sign; 2] {
        [Sign::Name(member.kind, member.name), Sign::Uid(member.uid)]
    }
}

/// Those who are known by a sign, in each namespace.
#[derive(Debug, Default)]
struct Known(HashMap<(String, Sign), BTreeSet<Arc<GroupKey>>>);

impl Known {
    fn add(&mut self, key: &Arc<GroupKey>, sign: Sign) {
        self.0.entry((key.namespace.clone(), sign)).or_default().insert(Arc::clone(key));
    }

    fn take(&mut self, key: &Arc<GroupKey>, sign: Sign) {
        let place = (key.namespace.clone(), sign);
        if let Some(keys) = self.0.get_mut(&place) {
            keys.remove(key);
            if keys.is_empty() {
                self.0.remove(&place);
            }
        }
    }

    /// Those who are known by one of these, but for this group.
    fn others(&self, key: &GroupKey, signs: impl IntoIterator<Item = Sign>) -> BTreeSet<Arc<GroupKey>> {
        let known = signs.into_iter().filter_map(|sign| self.0.get(&(key.namespace.clone(), sign)));
        known.flatten().filter(|other| ***other != *key).cloned().collect()
    }
}

/// The records and the workloads that have to do with each other.
#[derive(Debug, Default)]
pub(super) struct Kin {
    records: Known,
    workloads: Known,
}

impl Kin {
    /// A workload came to a group.
    pub(super) fn add_workload(&mut self, key: &Arc<GroupKey>, workload: Member) {
        Sign::of(workload).into_iter().for_each(|sign| self.workloads.add(key, sign));
    }

    /// A workload left a group.
    pub(super) fn take_workload(&mut self, key: &Arc<GroupKey>, workload: Member) {
        Sign::of(workload).into_iter().for_each(|sign| self.workloads.take(key, sign));
    }

    /// A group's record was replaced, came or went. Returns the other groups that may wait for it: those of the workloads
    /// that it elects for, or did until now, and of those that have the name of one.
    pub(super) fn put_record(
        &mut self,
        key: &Arc<GroupKey>,
        before: Option<&Record>,
        after: Option<&Record>,
    ) -> BTreeSet<Arc<GroupKey>> {
        let signs = |record: Option<&Record>| -> Vec<Sign> {
            record.into_iter().flat_map(Record::electorate).flat_map(Sign::of).collect()
        };
        let (before, after) = (signs(before), signs(after));
        before.iter().for_each(|sign| self.records.take(key, sign.clone()));
        after.iter().for_each(|sign| self.records.add(key, sign.clone()));
        self.workloads.others(key, before.into_iter().chain(after))
    }

    /// The other groups whose records may have elected for one of these workloads.
    pub(super) fn elders(&self, key: &GroupKey, workloads: impl Iterator<Item = Member>) -> BTreeSet<Arc<GroupKey>> {
        self.records.others(key, workloads.flat_map(Sign::of))
    }
}
