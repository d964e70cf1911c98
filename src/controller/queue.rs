//! The groups that are to be looked at: each at most once at a time, now or later, never forgotten.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::objects::GroupKey;
use super::turn::{Memory, Turn};

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
    timers: Timers,
    /// What the last turn of a group left to the next.
    memories: HashMap<GroupKey, Memory>,
}

/// When groups are to come although nothing happens: one time for each, the earliest that was asked for since its last turn
/// began. If each event could leave a time of its own, a group would be looked at ever more often for as long as what it
/// waits for lasts.
#[derive(Debug, Default)]
struct Timers {
    order: BTreeSet<(Instant, GroupKey)>,
    times: HashMap<GroupKey, Instant>,
}

impl Timers {
    fn set(&mut self, key: &GroupKey, at: Instant) {
        if self.times.get(key).is_some_and(|known| *known <= at) {
            return;
        }
        self.drop(key);
        self.order.insert((at, key.clone()));
        self.times.insert(key.clone(), at);
    }

    fn drop(&mut self, key: &GroupKey) {
        if let Some(at) = self.times.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    fn soonest(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
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

    /// Forgets all that came while nobody worked: how long it waited for somebody to lead is not how long a gate takes to
    /// open.
    pub fn clear(&self) {
        *self.state() = State::default();
    }

    /// The next group to work on. It comes to nobody else until [`Queue::done`].
    pub async fn next(&self) -> Turn {
        loop {
            let soonest = {
                let mut state = self.state();
                if let Some(turn) = state.take(Instant::now()) {
                    return turn;
                }
                state.timers.soonest()
            };
            match soonest {
                Some(at) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The work on this group is over. It comes again when something changes, and at this time at the latest.
    pub fn done(&self, turn: Turn, again: Option<Instant>) {
        let mut state = self.state();
        let Turn { key, memory, .. } = turn;
        if let Some(at) = again {
            state.timers.set(&key, at);
        }
        if !memory.is_empty() {
            state.memories.insert(key.clone(), memory);
        }
        if let Some(Some(since)) = state.working.remove(&key) {
            state.add(key, since);
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
        while let Some((at, key)) = self.timers.order.first().filter(|(at, _)| *at <= now).cloned() {
            self.timers.drop(&key);
            self.add(key, at);
        }
        let key = self.ready.pop_front()?;
        self.timers.drop(&key);
        let since = self.waiting.remove(&key).unwrap_or(now);
        let memory = self.memories.remove(&key).unwrap_or_default();
        self.working.insert(key.clone(), None);
        Some(Turn { key, since, memory })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> GroupKey {
        GroupKey { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    /// The next turn, if it comes before so much time has passed.
    async fn within(queue: &Queue, time: Duration) -> Option<Turn> {
        tokio::time::timeout(time, queue.next()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_comes_once_at_a_time_and_again_if_it_changed_meanwhile() {
        let queue = Queue::default();
        queue.add([key("a"), key("a"), key("b")]);
        let first = queue.next().await;
        assert_eq!(first.key, key("a"));
        queue.add([key("a")]);
        let other = queue.next().await;
        assert_eq!(other.key, key("b"));
        let nothing = within(&queue, SECOND).await;
        assert!(nothing.is_none(), "a is being worked on, but came: {nothing:?}");
        queue.done(first, None);
        let again = queue.next().await;
        assert_eq!(again.key, key("a"));
        queue.done(again, None);
        queue.done(other, None);
        let nothing = within(&queue, SECOND).await;
        assert!(nothing.is_none(), "nothing changed, but a group came: {nothing:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_comes_at_its_time() {
        let queue = Queue::default();
        queue.add([key("later"), key("now")]);
        let (turn, start) = (queue.next().await, Instant::now());
        queue.done(turn, Some(start + SECOND));
        assert_eq!(queue.next().await.key, key("now"));
        let turn = queue.next().await;
        assert_eq!((turn.key, turn.since), (key("later"), start + SECOND));
        assert!(start.elapsed() >= SECOND);
    }

    /// A wait that lasts, and a hundred events while it does.
    #[tokio::test(start_paused = true)]
    async fn events_during_a_wait_leave_no_times_behind() {
        let queue = Queue::default();
        queue.add([key("a")]);
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(7)).await;
            queue.add([key("a")]);
            let turn = queue.next().await;
            queue.done(turn, Some(Instant::now() + 10 * SECOND));
        }
        let mut turns = 0;
        let end = Instant::now() + 100 * SECOND;
        while let Some(turn) = within(&queue, end.duration_since(Instant::now())).await {
            turns += 1;
            queue.done(turn, Some(Instant::now() + 10 * SECOND));
        }
        assert!((9..=10).contains(&turns), "one look in ten seconds, not {turns} in a hundred");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_time_counts_and_goes_with_the_turn() {
        let queue = Queue::default();
        queue.add([key("a")]);
        let (turn, start) = (queue.next().await, Instant::now());
        queue.done(turn, Some(start + 5 * SECOND));
        queue.add([key("a")]);
        let turn = queue.next().await;
        assert_eq!(start.elapsed(), Duration::ZERO, "an event is not kept waiting");
        queue.done(turn, Some(start + 60 * SECOND));
        let early = within(&queue, 59 * SECOND).await;
        assert!(early.is_none(), "the time before its last turn still counts: {early:?}");
        assert!(within(&queue, 2 * SECOND).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_begins_to_lead_begins_anew() {
        let queue = Queue::default();
        queue.add([key("gone"), key("a")]);
        let turn = queue.next().await;
        queue.done(turn, Some(Instant::now() + 60 * SECOND));
        tokio::time::advance(Duration::from_secs(3 * 24 * 3600)).await;
        queue.clear();
        queue.add([key("a")]);
        let turn = queue.next().await;
        assert_eq!((turn.key.clone(), turn.since.elapsed()), (key("a"), Duration::ZERO));
        queue.done(turn, None);
        let nothing = within(&queue, 600 * SECOND).await;
        assert!(nothing.is_none(), "what was before is forgotten, but came: {nothing:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_knows_what_the_last_one_left() {
        let queue = Queue::default();
        queue.add([key("a"), key("b")]);
        let mut turn = queue.next().await;
        turn.memory.stuck = Some("why".to_owned());
        queue.done(turn, None);
        queue.add([key("a")]);
        let other = queue.next().await;
        assert_eq!((other.key, other.memory.stuck), (key("b"), None));
        let mut turn = queue.next().await;
        assert_eq!(turn.memory.stuck.take().as_deref(), Some("why"));
        queue.done(turn, None);
        assert!(queue.state().memories.is_empty(), "what is empty takes no place");
    }
}
