//! The groups that are to be looked at: each at most once at a time, now or later, never forgotten.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::objects::GroupKey;

/// A queue of groups. A group that is added while it is being worked on comes again afterwards.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<GroupKey>,
    waiting: HashSet<GroupKey>,
    working: HashMap<GroupKey, Again>,
    later: BTreeMap<(Instant, GroupKey), ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

impl Queue {
    /// These groups changed.
    pub fn add(&self, keys: impl IntoIterator<Item = GroupKey>) {
        let mut state = self.state();
        for key in keys {
            state.add(key);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// This group is to be looked at again at that time, whatever else happens.
    pub fn add_at(&self, key: GroupKey, at: Instant) {
        self.state().later.insert((at, key), ());
        self.changed.notify_one();
    }

    /// The next group to work on. It comes to nobody else until [`Queue::done`].
    pub async fn next(&self) -> GroupKey {
        loop {
            let soonest = {
                let mut state = self.state();
                if let Some(key) = state.take(Instant::now()) {
                    return key;
                }
                state.later.keys().next().map(|(at, _)| *at)
            };
            match soonest {
                Some(at) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(at.into()) => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The work on this group is over.
    pub fn done(&self, key: &GroupKey) {
        let mut state = self.state();
        if state.working.remove(key) == Some(Again::Yes) {
            state.add(key.clone());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// A panic elsewhere ends the process; until then the state is whole, because nothing here panics half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: GroupKey) {
        if let Some(again) = self.working.get_mut(&key) {
            *again = Again::Yes;
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self, now: Instant) -> Option<GroupKey> {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, key), ()) = entry.remove_entry();
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.working.insert(key.clone(), Again::No);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> GroupKey {
        GroupKey { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_comes_once_at_a_time_and_again_if_it_changed_meanwhile() {
        let queue = Queue::default();
        queue.add([key("a"), key("a"), key("b")]);
        assert_eq!(queue.next().await, key("a"));
        queue.add([key("a")]);
        assert_eq!(queue.next().await, key("b"));
        let nothing = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(nothing.is_err(), "a is being worked on, but came: {nothing:?}");
        queue.done(&key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.done(&key("a"));
        queue.done(&key("b"));
        let nothing = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(nothing.is_err(), "nothing changed, but a group came: {nothing:?}");
    }

    #[tokio::test]
    async fn a_group_comes_at_its_time() {
        let queue = Queue::default();
        let at = Instant::now() + Duration::from_millis(30);
        queue.add_at(key("later"), at);
        queue.add([key("now")]);
        assert_eq!(queue.next().await, key("now"));
        assert_eq!(queue.next().await, key("later"));
        assert!(Instant::now() >= at);
    }
}
