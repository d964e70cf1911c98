//! A group's pods: there may be ten thousand, and each look at the group takes all of them.
//!
//! They are kept in blocks that copies share. A copy costs a pointer for each block, and whoever changes a pod while
//! somebody else has a copy copies the pointers of one block.

use std::fmt;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use super::snapshot::Pod;

/// Pods of one block.
const BLOCK: usize = 64;

/// Pods in the order in which they came, but for [`Pods::swap_remove`]. One that is changed becomes a copy of its own.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Pods {
    /// All but the last are full, and none is empty.
    blocks: Vec<Arc<Vec<Arc<Pod>>>>,
}

impl Pods {
    /// Each of them.
    pub fn iter(&self) -> Iter<'_> {
        Iter { blocks: self.blocks.iter(), block: [].iter() }
    }

    /// Each of them as it is shared.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    /// Each of them as it is shared, let go of one by one.
    pub fn into_shared(self) -> impl Iterator<Item = Arc<Pod>> {
        self.blocks.into_iter().flat_map(Arc::unwrap_or_clone)
    }

    /// Each of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pod> {
        self.blocks.iter_mut().flat_map(Arc::make_mut).map(Arc::make_mut)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.blocks.last().map_or(0, |last| (self.blocks.len() - 1) * BLOCK + last.len())
    }

    /// The one at this place, as it is shared.
    pub fn get(&self, at: usize) -> Option<&Arc<Pod>> {
        self.blocks.get(at / BLOCK)?.get(at % BLOCK)
    }

    /// One more.
    pub fn push(&mut self, pod: Pod) {
        self.add(Arc::new(pod));
    }

    /// One more, which is somebody else's, too.
    pub fn share(&mut self, pod: &Arc<Pod>) {
        self.add(Arc::clone(pod));
    }

    fn add(&mut self, pod: Arc<Pod>) {
        match self.blocks.last_mut().filter(|last| last.len() < BLOCK) {
            Some(last) => Arc::make_mut(last).push(pod),
            None => self.blocks.push(Arc::new(vec![pod])),
        }
    }

    /// Puts a pod into the place of another.
    pub fn replace(&mut self, at: usize, pod: Pod) {
        Arc::make_mut(&mut self.blocks[at / BLOCK])[at % BLOCK] = Arc::new(pod);
    }

    /// Takes the last one away.
    pub fn pop(&mut self) -> Option<Arc<Pod>> {
        let last = Arc::make_mut(self.blocks.last_mut()?);
        let pod = last.pop();
        if last.is_empty() {
            self.blocks.pop();
        }
        pod
    }

    /// Takes one away; the last one takes its place.
    pub fn swap_remove(&mut self, at: usize) -> Option<Arc<Pod>> {
        if at >= self.len() {
            return None;
        }
        let last = self.pop()?;
        match self.blocks.get_mut(at / BLOCK).and_then(|block| Arc::make_mut(block).get_mut(at % BLOCK)) {
            Some(place) => Some(std::mem::replace(place, last)),
            None => Some(last),
        }
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Keeps those that suit.
    pub fn retain(&mut self, mut suits: impl FnMut(&Pod) -> bool) {
        *self = std::mem::take(self).into_shared().filter(|pod| suits(pod)).collect();
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self).finish()
    }
}

/// An iterator over [`Pods`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    blocks: std::slice::Iter<'a, Arc<Vec<Arc<Pod>>>>,
    block: std::slice::Iter<'a, Arc<Pod>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Pod;

    fn next(&mut self) -> Option<&'a Pod> {
        loop {
            match self.block.next() {
                Some(pod) => return Some(pod),
                None => self.block = self.blocks.next()?.iter(),
            }
        }
    }
}

impl<'a> IntoIterator for &'a Pods {
    type Item = &'a Pod;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<Arc<Pod>> for Pods {
    fn from_iter<I: IntoIterator<Item = Arc<Pod>>>(all: I) -> Pods {
        let mut pods = Pods::default();
        all.into_iter().for_each(|pod| pods.add(pod));
        pods
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
        &self.blocks[at / BLOCK][at % BLOCK]
    }
}

impl IndexMut<usize> for Pods {
    fn index_mut(&mut self, at: usize) -> &mut Pod {
        Arc::make_mut(&mut Arc::make_mut(&mut self.blocks[at / BLOCK])[at % BLOCK])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::pod;
    use super::*;

    fn names(pods: &Pods) -> Vec<&str> {
        pods.iter().map(|pod| pod.name.as_str()).collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u16),
        Pop,
        Replace(usize),
        SwapRemove(usize),
        Retain(usize),
        Rename(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => any::<u16>().prop_map(Step::Push),
            1 => Just(Step::Pop),
            2 => any::<usize>().prop_map(Step::Replace),
            2 => any::<usize>().prop_map(Step::SwapRemove),
            1 => (2..9usize).prop_map(Step::Retain),
            1 => any::<usize>().prop_map(Step::Rename),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What a list that is copied whole would hold, they hold; and a copy stays as it was when it was made.
        #[test]
        fn they_are_a_list_and_a_copy_keeps_what_it_had(start in 0..200usize, steps in prop::collection::vec(step(), 0..60)) {
            let mut list: Vec<String> = (0..start).map(|at| at.to_string()).collect();
            let mut pods: Pods = list.iter().map(|name| Arc::new(pod(name))).collect();
            for step in steps {
                let (copy, before) = (pods.clone(), list.clone());
                let len = list.len();
                match step {
                    Step::Push(name) => {
                        list.push(name.to_string());
                        pods.push(pod(&name.to_string()));
                    }
                    Step::Pop => prop_assert_eq!(pods.pop().map(|pod| pod.name.clone()), list.pop()),
                    Step::Replace(at) if len > 0 => {
                        list[at % len] = "other".to_owned();
                        pods.replace(at % len, pod("other"));
                    }
                    Step::SwapRemove(at) if len > 0 => {
                        let removed = pods.swap_remove(at % len).map(|pod| pod.name.clone());
                        prop_assert_eq!(removed, Some(list.swap_remove(at % len)));
                    }
                    Step::Retain(number) => {
                        list.retain(|name| name.len() % number != 1);
                        pods.retain(|pod| pod.name.len() % number != 1);
                    }
                    Step::Rename(at) if len > 0 => {
                        list[at % len] = "renamed".to_owned();
                        pods[at % len].name = "renamed".to_owned();
                    }
                    _ => prop_assert!(pods.swap_remove(len).is_none()),
                }
                prop_assert_eq!(names(&pods), list.iter().map(String::as_str).collect::<Vec<_>>());
                prop_assert_eq!(pods.len(), list.len());
                prop_assert_eq!(pods.is_empty(), list.is_empty());
                prop_assert_eq!(names(&copy), before.iter().map(String::as_str).collect::<Vec<_>>());
                let same: Pods = pods.shared().cloned().collect();
                prop_assert_eq!(&same, &pods, "it doesn't matter how they came together");
            }
        }
    }

    #[test]
    fn a_copy_shares_all_blocks_but_the_one_that_is_changed() {
        let mut pods: Pods = (0..1000).map(|at| Arc::new(pod(&at.to_string()))).collect();
        let copy = pods.clone();
        pods.replace(500, pod("other"));
        let differ = pods.blocks.iter().zip(&copy.blocks).filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
        assert_eq!((differ, pods.blocks.len()), (1, 1000usize.div_ceil(BLOCK)));
    }
}
