//! A group's pods as a snapshot has them: shared with the index, because there may be ten thousand.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use super::snapshot::Pod;

/// Pods that cost a pointer each to copy. One that is changed becomes a copy of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pods(Vec<Arc<Pod>>);

impl Pods {
    /// Each of them.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.0.iter())
    }

    /// Each of them as it is shared.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.0.iter()
    }

    /// Each of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pod> {
        self.0.iter_mut().map(Arc::make_mut)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One more.
    pub fn push(&mut self, pod: Pod) {
        self.0.push(Arc::new(pod));
    }

    /// One more, which is somebody else's, too.
    pub fn share(&mut self, pod: &Arc<Pod>) {
        self.0.push(Arc::clone(pod));
    }

    /// Takes the last one away.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps those that suit.
    pub fn retain(&mut self, mut suits: impl FnMut(&Pod) -> bool) {
        self.0.retain(|pod| suits(pod));
    }
}

/// An iterator over [`Pods`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(std::slice::Iter<'a, Arc<Pod>>);

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Pod;

    fn next(&mut self) -> Option<&'a Pod> {
        self.0.next().map(|pod| &**pod)
    }
}

impl<'a> IntoIterator for &'a Pods {
    type Item = &'a Pod;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Pods {
    type Item = Arc<Pod>;
    type IntoIter = std::vec::IntoIter<Arc<Pod>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Arc<Pod>> for Pods {
    fn from_iter<I: IntoIterator<Item = Arc<Pod>>>(pods: I) -> Pods {
        Pods(pods.into_iter().collect())
    }
}

impl From<Vec<Pod>> for Pods {
    fn from(pods: Vec<Pod>) -> Pods {
        pods.into_iter().map(Arc::new).collect()
    }
}

impl Index<usize> for Pods {
    type Output = Pod;

    fn index(&self, at: usize) -> &Pod {
        &self.0[at]
    }
}

impl IndexMut<usize> for Pods {
    fn index_mut(&mut self, at: usize) -> &mut Pod {
        Arc::make_mut(&mut self.0[at])
    }
}
