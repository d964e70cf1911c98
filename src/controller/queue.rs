//! The groups that are to be looked at: each at most once at a time, now or later, never forgotten.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
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
    /// Those that are ready, and since when.
    waiting: HashMap<GroupKey, Instant>,
    /// Those that are worked on, and since when they are to come again.
    working: HashMap<GroupKey, Option<Instant>>,
    later: BTreeMap<(Instant, GroupKey), ()>,
}

/// A group whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The group.
    pub key: GroupKey,
    /// When the first of the changes came that it is looked at for.
    pub since: Instant,
}

impl Queue {
    /// These groups changed.
    pub fn add(&self, keys: impl IntoIterator<Item = GroupKey>) {
        let mut state = self.state();
        let now = Instant::now();
        for key in keys {
            state.add(key, now);
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
    pub async fn next(&self) -> Turn {
        loop {
            let soonest = {
                let mut state = self.state();
                if let Some(turn) = state.take(Instant::now()) {
                    return turn;
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
        if let Some(Some(since)) = state.working.remove(key) {
            state.add(key.clone(), since);
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
    fn add(&mut self, key: GroupKey, since: Instant) {
        if let Some(again) = self.working.get_mut(&key) {
            again.get_or_insert(since);
        } else if let Entry::Vacant(place) = self.waiting.entry(key) {
            self.ready.push_back(place.key().clone());
            place.insert(since);
        }
    }

    fn take(&mut self, now: Instant) -> Option<Turn> {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((at, key), ()) = entry.remove_entry();
            self.add(key, at);
        }
        let key = self.ready.pop_front()?;
        let since = self.waiting.remove(&key).unwrap_or(now);
        self.working.insert(key.clone(), None);
        Some(Turn { key, since })
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
        assert_eq!(queue.next().await.key, key("a"));
        queue.add([key("a")]);
        assert_eq!(queue.next().await.key, key("b"));
        let nothing = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(nothing.is_err(), "a is being worked on, but came: {nothing:?}");
        queue.done(&key("a"));
        assert_eq!(queue.next().await.key, key("a"));
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
        assert_eq!(queue.next().await.key, key("now"));
        assert_eq!(queue.next().await.key, key("later"));
        assert!(Instant::now() >= at);
    }
}
