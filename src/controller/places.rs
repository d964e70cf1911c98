//! The nodes, and the groups that have to do with each: a change of a node is no reason to go through all pods.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::objects::GroupKey;
use super::snapshot::{Node, Pod};

/// The nodes by name, with those whose Node object is not known, but that somebody is on.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Arc<str>, Place>);

#[derive(Debug, Default)]
struct Place {
    node: Option<Node>,
    groups: HashMap<Arc<GroupKey>, Count>,
}

/// What a group has on a node.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    /// Those to whom it matters how the node is.
    minding: usize,
}

/// Something of a group that is on a node.
#[derive(Clone, Copy)]
pub(super) struct Stake<'a> {
    node: &'a str,
    /// It matters to it how the node is.
    minds: bool,
}

impl<'a> Stake<'a> {
    /// A pod's. A pod whose gate is open asks nothing of its node.
    pub(super) fn of(pod: &'a Pod) -> Option<Stake<'a>> {
        Some(Stake { node: pod.node.as_deref()?, minds: !pod.is_open() })
    }

    /// The active attempt's, whose pod may be gone.
    pub(super) fn of_attempt(node: &'a str) -> Stake<'a> {
        Stake { node, minds: true }
    }
}

impl Places {
    /// Something of a group is on a node, one of `nodes` from now on.
    pub(super) fn add(&mut self, key: &Arc<GroupKey>, stake: Option<Stake<'_>>, nodes: &mut BTreeSet<Arc<str>>) {
        let Some(stake) = stake else { return };
        let name = self.0.get_key_value(stake.node).map_or_else(|| stake.node.into(), |(name, _)| Arc::clone(name));
        let place = self.0.entry(Arc::clone(&name)).or_default();
        let count = place.groups.entry(Arc::clone(key)).or_default();
        if count.all == 0 {
            nodes.insert(name);
        }
        count.all += 1;
        count.minding += usize::from(stake.minds);
    }

    /// Something of a group is not on a node any more.
    pub(super) fn take(&mut self, key: &Arc<GroupKey>, stake: Option<Stake<'_>>, nodes: &mut BTreeSet<Arc<str>>) {
        let Some(stake) = stake else { return };
        let Some(place) = self.0.get_mut(stake.node) else { return };
        let Some(count) = place.groups.get_mut(key) else { return };
        count.all -= 1;
        count.minding -= usize::from(stake.minds);
        if count.all == 0 {
            place.groups.remove(key);
            nodes.remove(stake.node);
            self.forget_if_empty(stake.node);
        }
    }

    /// A node was seen. Returns the groups that mind how it is, if that changed.
    pub(super) fn put(&mut self, name: String, node: Node) -> Vec<Arc<GroupKey>> {
        let place = self.0.entry(name.into()).or_default();
        if place.node.as_ref() == Some(&node) {
            return Vec::new();
        }
        place.node = Some(node);
        place.minding()
    }

    /// Nodes are gone: those that suit. Returns the groups that mind.
    pub(super) fn remove(&mut self, suits: impl Fn(&Node) -> bool) -> Vec<Arc<GroupKey>> {
        let mut concerned = HashSet::new();
        self.0.retain(|_, place| {
            if place.node.take_if(|node| suits(node)).is_some() {
                concerned.extend(place.minding());
            }
            !place.is_empty()
        });
        concerned.into_iter().collect()
    }

    /// The Node object with this name.
    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.0.get(name)?.node.as_ref()
    }

    fn forget_if_empty(&mut self, name: &str) {
        if self.0.get(name).is_some_and(Place::is_empty) {
            self.0.remove(name);
        }
    }
}

impl Place {
    fn minding(&self) -> Vec<Arc<GroupKey>> {
        self.groups.iter().filter(|(_, count)| count.minding > 0).map(|(key, _)| Arc::clone(key)).collect()
    }

    fn is_empty(&self) -> bool {
        self.node.is_none() && self.groups.is_empty()
    }
}
