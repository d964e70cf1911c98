//! Waiting: for the place, for the lock, and for the commands of vanished predecessors to be over.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::failure::{Failure, Kind};
use crate::history::{Run, Standing, State, standing};
use crate::place::{Attempt, Which};
use crate::wrapper::{EXIT_INTERRUPTED, HANDOVER_MARGIN, LOST_GRACE_MAX, Wrapper, host_and_pid};

/// No row makes a successor wait for longer.
const HANDOVER_MAX: Duration = LOST_GRACE_MAX.saturating_add(HANDOVER_MARGIN);
/// Between two sentences about waiting.
const REMIND: Duration = Duration::from_secs(15);
/// Between two attempts to connect, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// What waiting came to.
pub(crate) enum Ready {
    /// It was run already, successfully.
    Done,
    /// Nobody is to try it again.
    GivenUp { exit: u8 },
    /// The lock is ours, and this run is to be made.
    Due { attempt: i64 },
}

impl Wrapper<'_> {
    /// Connects, and waits for a place that can't be reached yet.
    pub(crate) async fn connect(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let (mut pause, mut said) = (RETRY.0, None::<Instant>);
        loop {
            let failure = match self.place.connect().await {
                Ok(()) => return Ok(()),
                Err(failure) => failure.during(&self.name),
            };
            if failure.kind != Kind::Unreachable {
                return Err(failure);
            }
            let left = self.options.wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                let waited = self.options.wait.as_secs();
                return Err(Failure { sentence: format!("{failure} (waited for {waited} s)"), ..failure });
            }
            if said.is_none_or(|said| said.elapsed() >= REMIND) {
                self.say(&format!("{failure}; waiting for up to {} s more", left.as_secs()));
                said = Some(Instant::now());
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Waits until there is nothing to do, or the lock is ours and it is.
    pub(crate) async fn until_due(&mut self) -> Result<Ready, Failure> {
        self.connect().await?;
        let started = Instant::now();
        let (mut looked, mut said) = (None::<Instant>, None::<Instant>);
        loop {
            match self.attempt(&mut looked).await {
                Ok(Some(ready)) => return Ok(ready),
                Ok(None) => {}
                Err(failure) if failure.kind == Kind::Unreachable => {
                    self.say(&format!("{}: {failure}; connecting again", self.name));
                    self.connect().await?;
                    continue;
                }
                Err(failure) => return Err(failure.during(&self.name)),
            }
            if self.options.lock_wait.is_some_and(|limit| started.elapsed() >= limit) {
                let lock = &self.options.lock;
                let waited = started.elapsed().as_secs();
                return Err(Failure::new(Kind::Busy, format!("the lock {lock} was not free within {waited} s")));
            }
            if said.is_none_or(|said| said.elapsed() >= REMIND) {
                self.say_who_runs().await;
                said = Some(Instant::now());
            }
            tokio::time::sleep(jitter(self.place.pace().poll)).await;
        }
    }

    /// One look and one attempt to take the lock.
    async fn attempt(&mut self, looked: &mut Option<Instant>) -> Result<Option<Ready>, Failure> {
        let look = self.place.pace().look;
        if looked.is_none_or(|looked| looked.elapsed() >= look) {
            // What has succeeded has, whoever holds the lock.
            if let Some(ready) = self.settled().await? {
                return Ok(Some(ready));
            }
            *looked = Some(Instant::now());
        }
        if self.place.try_lock().await? == Attempt::Busy {
            return Ok(None);
        }
        if let Some(ready) = self.settled().await? {
            return Ok(Some(ready));
        }
        self.place.prepare().await?;
        self.succeed_the_vanished().await?;
        match self.standing().await? {
            Standing::Due { attempt } => Ok(Some(Ready::Due { attempt })),
            _ => self.settled().await,
        }
    }

    async fn standing(&mut self) -> Result<Standing, Failure> {
        match self.options.key.clone() {
            None => Ok(Standing::Due { attempt: 1 }),
            Some(key) => Ok(standing(&self.place.runs(Which::Key(&key)).await?, self.options.attempts)),
        }
    }

    /// Whether there is nothing to do for this key.
    async fn settled(&mut self) -> Result<Option<Ready>, Failure> {
        let Some(key) = self.options.key.clone() else { return Ok(None) };
        match self.standing().await? {
            Standing::Due { .. } => Ok(None),
            Standing::Done(run) => {
                self.say(&format!("{key} is done already: {}", told(&run)));
                Ok(Some(Ready::Done))
            }
            Standing::GivenUp(run) => {
                let attempts = run.attempt;
                self.say(&format!(
                    "{key} is given up after {attempts} attempts, and not tried again until its history is forgotten \
                     (--forget), --attempts is greater, or --once names another key; the latest: {}",
                    told(&run)
                ));
                if !run.tail.is_empty() {
                    self.say(&format!("its last lines:\n{}", run.tail.trim_end()));
                }
                let exit = run.exit.and_then(|exit| u8::try_from(exit).ok()).filter(|exit| *exit != 0);
                Ok(Some(Ready::GivenUp { exit: exit.unwrap_or(EXIT_INTERRUPTED) }))
            }
        }
    }

    async fn say_who_runs(&mut self) {
        let open = self.place.runs(Which::Open).await.unwrap_or_default();
        match open.last() {
            Some(run) => {
                let seconds = (Timestamp::now().as_millisecond() - run.started).max(0) / 1000;
                self.say(&format!("waiting for {}, which has been running for {seconds} s", run.host));
            }
            None => self.say(&format!("waiting for the lock {}", self.options.lock)),
        }
    }

    /// Waits until the commands of vanished predecessors are over, and says in the history that they were interrupted.
    pub(crate) async fn succeed_the_vanished(&mut self) -> Result<(), Failure> {
        let vanished = self.place.runs(Which::Open).await?;
        let Some(longest) = vanished.iter().map(|run| run.handover).max() else { return Ok(()) };
        let wait = Duration::from_millis(u64::try_from(longest).unwrap_or(0)).min(HANDOVER_MAX);
        let started = Instant::now();
        while let Some(left) = wait.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            tokio::time::sleep(left.min(self.place.pace().check)).await;
            self.place.check().await?;
        }
        for run in vanished {
            let host = run.host.clone();
            let ended = Some(Timestamp::now().as_millisecond());
            let tail = format!("it vanished; {} took over", host_and_pid());
            self.place.finish(&Run { state: State::Interrupted, ended, tail, ..run }).await?;
            self.say(&format!("{host} vanished in mid-run; taking over"));
        }
        Ok(())
    }
}

/// One run in a sentence.
fn told(run: &Run) -> String {
    let time = |ms: i64| Timestamp::from_millisecond(ms).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"));
    let ended = run.ended.unwrap_or(run.started);
    let took = SignedDuration::from_millis(ended - run.started).as_secs_f64();
    let exit = match run.exit {
        Some(0) | None => String::new(),
        Some(exit) => format!(" with exit code {exit}"),
    };
    format!("{} {}{exit} at {} on {}, in {took:.1} s", "it", run.state.word(), time(ended), run.host)
}

/// Three quarters of the time, to the whole of it: fifty who wait don't ask all at once.
fn jitter(time: Duration) -> Duration {
    let share = u32::from(crate::random_byte());
    time * (768 + share) / 1024
}
