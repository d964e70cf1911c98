//! The life of a wrapper: reach the place, take the lock, look (`waiting`), run, record (`running`), let go.
//!
//! Why never two commands run at once. The lock admits one wrapper at a time. A wrapper whose lock is lost ends its
//! command within [`Options::lost_grace`] and one check; one that is killed leaves a guard that kills the command at
//! once. Both have left a row that says `running`. Who takes the lock and finds such a row waits for the row's handover
//! time, which is longer than either, before it starts its own.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Kind};
use crate::history::{Attempts, Run};
use crate::place::{Attempt, Place, Which};
use crate::secrets::Secrets;
use crate::signals::Signals;
use crate::waiting::Ready;

/// What is added to the grace for the handover: the time from the loss of a session to the check that shows it, and
/// some for a busy machine.
pub(crate) const HANDOVER_MARGIN: Duration = Duration::from_millis(500);
/// The longest [`Options::lost_grace`]: a successor waits for as long, and no row makes it wait for more.
pub const LOST_GRACE_MAX: Duration = Duration::from_secs(120);
/// The exit code of a run that was interrupted: EX_TEMPFAIL, "the user is invited to retry".
pub const EXIT_INTERRUPTED: u8 = 75;
/// The exit code of a run whose time was over, as of coreutils' `timeout`.
pub const EXIT_TIMED_OUT: u8 = 124;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lock's name.
    pub lock: String,
    /// What this run is for; without it, it runs every time.
    pub key: Option<String>,
    /// How often the key is tried before it is given up.
    pub attempts: Attempts,
    /// The command; not empty.
    pub command: Vec<OsString>,
    /// A command that must succeed too, after the first.
    pub verify: Option<Vec<OsString>>,
    /// How long both may take together; for ever, if `None`.
    pub timeout: Option<Duration>,
    /// What happens when the lock is lost.
    pub on_lost: OnLost,
    /// From SIGTERM to SIGKILL when the lock was lost; at most [`LOST_GRACE_MAX`].
    pub lost_grace: Duration,
    /// How long the place may be unreachable.
    pub wait: Duration,
    /// How long the lock may be held by others; for ever, if `None`.
    pub lock_wait: Option<Duration>,
    /// The guard's program and its first arguments (see [`crate::guard`]).
    pub guard: Vec<OsString>,
    /// Kills what is left of a command whose guard was killed.
    pub sweep: fn(),
    /// A token of this process.
    pub owner: String,
}

/// What happens to the command when the lock is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLost {
    /// It is ended.
    End,
    /// It goes on, and the outcome is what it comes to.
    Continue,
}

/// A wrapper.
pub struct Wrapper<'a> {
    pub(crate) place: Box<dyn Place + 'a>,
    pub(crate) name: String,
    pub(crate) secrets: Secrets,
    pub(crate) options: Options,
}

/// How a wrapper ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub exit: u8,
    /// What came of it.
    pub how: How,
}

/// What came of a wrapper's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// The command succeeded, here or before.
    Succeeded,
    /// It failed, here or, when all attempts are used up, elsewhere.
    Failed,
    /// It was ended because its time was over.
    TimedOut,
    /// It was ended by a signal or because the lock was lost; or a signal came before it was started.
    Interrupted,
}

impl<'a> Wrapper<'a> {
    /// A wrapper for this place, called this in messages.
    pub fn new(place: Box<dyn Place + 'a>, name: String, secrets: Secrets, options: Options) -> Wrapper<'a> {
        Wrapper { place, name, secrets, options }
    }

    /// Does it all.
    ///
    /// # Errors
    /// Nothing was run, or what ran could not be recorded.
    pub async fn run(mut self) -> Result<Ended, Failure> {
        let mut signals = Signals::listen()?;
        if let Some(weakness) = self.place.weakness() {
            self.say(&format!("note: {weakness}"));
        }
        let ready = tokio::select! {
            biased;
            number = signals.next_end() => Err(number),
            ready = self.until_due() => Ok(ready),
        };
        let ended = match ready {
            Ok(Ok(Ready::Done)) => Ok(Ended { exit: 0, how: How::Succeeded }),
            Ok(Ok(Ready::GivenUp { exit })) => Ok(Ended { exit, how: How::Failed }),
            Ok(Ok(Ready::Due { attempt })) => self.make_run(attempt, &mut signals).await,
            Ok(Err(failure)) => Err(failure),
            Err(number) => Ok(Ended { exit: of_signal(number), how: How::Interrupted }),
        };
        // Where the end of the process is not the end of the lock, this is.
        let _ = tokio::time::timeout(Duration::from_secs(3), self.place.unlock()).await;
        ended.map_err(|failure| self.hide(failure))
    }

    /// Drops what is recorded of a key, under the lock.
    ///
    /// # Errors
    /// The place can't be reached or written, or the lock is not to be had in time.
    pub async fn forget(mut self, key: &str) -> Result<u64, Failure> {
        let forgetting = async {
            self.connect().await?;
            let deadline = Instant::now() + self.options.lock_wait.unwrap_or(Duration::from_secs(10));
            while self.place.try_lock().await? == Attempt::Busy {
                if Instant::now() >= deadline {
                    return Err(Failure::new(Kind::Busy, format!("the lock {} is held", self.options.lock)));
                }
                tokio::time::sleep(self.place.pace().poll).await;
            }
            // Who comes next finds no row to wait for.
            self.succeed_the_vanished().await?;
            let forgotten = self.place.forget(key).await;
            let _ = self.place.unlock().await;
            forgotten
        };
        let done = forgetting.await;
        done.map_err(|failure| self.hide(failure))
    }

    /// All runs under this lock, the oldest first.
    ///
    /// # Errors
    /// The place can't be reached or read.
    pub async fn history(mut self) -> Result<Vec<Run>, Failure> {
        let reading = async {
            self.connect().await?;
            let runs = self.place.runs(Which::All).await;
            let _ = self.place.unlock().await;
            runs
        };
        let done = reading.await;
        done.map_err(|failure| self.hide(failure))
    }

    fn hide(&self, failure: Failure) -> Failure {
        Failure { sentence: self.secrets.hide(&failure.sentence), ..failure }
    }

    pub(crate) fn say(&self, sentence: &str) {
        eprintln!("migration-gate: {}", self.secrets.hide(sentence));
    }
}

/// As a shell has it.
pub(crate) fn of_signal(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

/// This process, for people.
pub(crate) fn host_and_pid() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", std::process::id())
}
