//! What a lock and a history must be able to do, wherever they are.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::failure::Failure;
use crate::history::{Run, State};

/// What comes of an operation.
pub type Later<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// Whether the lock was free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is ours from now on.
    Taken,
    /// Another process has it.
    Busy,
}

/// How often a place is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two attempts to take the lock.
    pub poll: Duration,
    /// Between two checks that it is still held.
    pub check: Duration,
    /// Between two looks at the history by who waits: a success ends the wait, whoever has the lock.
    pub look: Duration,
    /// How long the command may go on after the last check that succeeded, if who checks is stopped; for ever where
    /// the lock does not run out meanwhile.
    pub watchdog: Option<Duration>,
}

/// Which runs are asked for; of this lock only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// All of them.
    All,
    /// Those with this key.
    Key(&'a str),
    /// Those that have not said how they ended.
    Open,
}

impl Which<'_> {
    /// Whether this run is one of them.
    pub fn covers(self, run: &Run) -> bool {
        match self {
            Which::All => true,
            Which::Key(key) => run.key == key,
            Which::Open => run.state == State::Running,
        }
    }
}

/// A lock and the history of what ran under it. No operation hangs: each ends within seconds, one way or the other.
pub trait Place: Send {
    /// What it promises less than others, to be said at the start.
    fn weakness(&self) -> Option<&'static str> {
        None
    }

    /// How often it is asked.
    fn pace(&self) -> Pace;

    /// Connects, afresh if it was connected. A lock that was held is lost by that.
    fn connect(&mut self) -> Later<'_, ()>;

    /// Takes the lock if it is free.
    fn try_lock(&mut self) -> Later<'_, Attempt>;

    /// Checks that the lock is held, and renews it where that is needed. Any failure means that it is lost.
    fn check(&mut self) -> Later<'_, ()>;

    /// Lets go of the lock.
    fn unlock(&mut self) -> Later<'_, ()>;

    /// The runs under this lock, the oldest first; none if nothing was ever recorded.
    fn runs<'a>(&'a mut self, which: Which<'a>) -> Later<'a, Vec<Run>>;

    /// Makes what the history needs, if it is not there. Called with the lock held.
    fn prepare(&mut self) -> Later<'_, ()>;

    /// Adds a run and gives it its number. Called with the lock held.
    fn begin<'a>(&'a mut self, run: &'a mut Run) -> Later<'a, ()>;

    /// Records how a run ended, if it still says that it runs and this owner's word counts.
    fn finish<'a>(&'a mut self, run: &'a Run) -> Later<'a, ()>;

    /// Drops the runs of a key. Called with the lock held.
    fn forget<'a>(&'a mut self, key: &'a str) -> Later<'a, u64>;
}
