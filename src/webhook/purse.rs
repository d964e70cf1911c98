//! A bounded memory that many bodies share while they arrive.
//!
//! A body pays for its bytes before it keeps them, and has them back when it is dropped. Who is short of room waits for
//! its turn. Somebody who sends slowly, or stops, must not keep the others waiting: the body that has been arriving for
//! the longest time is given up for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// The memory of one kind of bodies.
#[derive(Debug)]
pub(super) struct Purse {
    room: Arc<Semaphore>,
    /// The longest wait for room.
    patience: Duration,
    /// The time that each body has before it may be given up for others.
    protected: Duration,
    arriving: Mutex<Arriving>,
}

#[derive(Debug, Default)]
struct Arriving {
    next: u64,
    /// In the order in which they began.
    bodies: BTreeMap<u64, Arc<Arrival>>,
}

#[derive(Debug)]
struct Arrival {
    since: Instant,
    given_up: Notify,
}

/// There was no room in time, or what there was went to others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// What an arriving body has paid for.
#[derive(Debug)]
pub(super) struct Account {
    purse: Arc<Purse>,
    number: u64,
    arrival: Arc<Arrival>,
    paid: Option<OwnedSemaphorePermit>,
}

impl Purse {
    pub(super) fn new(bytes: usize, patience: Duration, protected: Duration) -> Arc<Purse> {
        let room = Arc::new(Semaphore::new(bytes));
        Arc::new(Purse { room, patience, protected, arriving: Mutex::default() })
    }

    fn arriving(&self) -> MutexGuard<'_, Arriving> {
        // The map is whole after every statement, so a panic elsewhere in a holder leaves nothing half done.
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the account of a body that begins to arrive.
    pub(super) fn open(self: &Arc<Self>) -> Account {
        let arrival = Arc::new(Arrival { since: Instant::now(), given_up: Notify::new() });
        let mut arriving = self.arriving();
        let number = arriving.next;
        arriving.next += 1;
        arriving.bodies.insert(number, arrival.clone());
        Account { purse: self.clone(), number, arrival, paid: None }
    }

    /// Gives up the body that has been arriving for the longest time, if it has had its time.
    fn make_room(&self) {
        if let Some((_, oldest)) = self.arriving().bodies.first_key_value()
            && oldest.since.elapsed() >= self.protected
        {
            oldest.given_up.notify_one();
        }
    }
}

impl Account {
    /// Pays for so many bytes more.
    pub(super) async fn pay(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let permits = u32::try_from(bytes).map_err(|_| NoRoom)?;
        let paid = match self.purse.room.clone().try_acquire_many_owned(permits) {
            Ok(paid) => paid,
            Err(_) => self.wait(permits).await?,
        };
        match &mut self.paid {
            Some(before) => before.merge(paid),
            None => self.paid = Some(paid),
        }
        Ok(())
    }

    async fn wait(&self, permits: u32) -> Result<OwnedSemaphorePermit, NoRoom> {
        let mut turn = std::pin::pin!(self.purse.room.clone().acquire_many_owned(permits));
        let until = Instant::now() + self.purse.patience;
        while Instant::now() < until {
            self.purse.make_room();
            // Those that arrive get their time one after the other; look again before long.
            if let Ok(turn) = timeout(self.purse.protected / 4, turn.as_mut()).await {
                return turn.map_err(|_| NoRoom);
            }
        }
        Err(NoRoom)
    }

    /// Waits until this body is given up for others.
    pub(super) async fn given_up(&self) -> NoRoom {
        self.arrival.given_up.notified().await;
        NoRoom
    }

    /// The body is whole: from now on it keeps its room until what this returns is dropped.
    pub(super) fn arrived(mut self) -> Option<OwnedSemaphorePermit> {
        self.paid.take()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.purse.arriving().bodies.remove(&self.number);
    }
}
