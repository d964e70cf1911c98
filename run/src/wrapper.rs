//! The life of a wrapper: reach the place, take the lock, look, run, record, let go.
//!
//! Why never two commands run at once. The lock admits one wrapper at a time. A wrapper whose lock is lost ends its
//! command within [`Options::lost_grace`] and one check; one that is killed leaves a guard that kills the command at
//! once. Both have left a row that says `running`. Who takes the lock and finds such a row waits for the row's handover
//! time, which is longer than either, before it starts its own.

use std::cell::Cell;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::failure::{Failure, Kind};
use crate::guard::{End, Guard, Order, Report};
use crate::history::{Run, Standing, State, VERSION, standing};
use crate::place::{Attempt, Place, Which};
use crate::secrets::Secrets;
use crate::signals::{Signals, ends};

/// What is added to the grace for the handover: the time from the loss of a session to the check that shows it, and
/// some for a busy machine.
const HANDOVER_MARGIN: Duration = Duration::from_millis(500);
/// No row makes a successor wait for longer.
const HANDOVER_MAX: Duration = Duration::from_secs(120);
/// Between two sentences about waiting.
const REMIND: Duration = Duration::from_secs(15);
/// Between two attempts to connect, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// The exit code of a run that was interrupted: EX_TEMPFAIL, "the user is invited to retry".
pub const EXIT_INTERRUPTED: u8 = 75;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lock's name.
    pub lock: String,
    /// What this run is for; without it, it runs every time.
    pub key: Option<String>,
    /// Failed runs of the key after which nobody tries again.
    pub attempts: u32,
    /// The command; not empty.
    pub command: Vec<OsString>,
    /// A command that must succeed too, after the first.
    pub verify: Option<Vec<OsString>>,
    /// What happens when the lock is lost.
    pub on_lost: OnLost,
    /// From SIGTERM to SIGKILL when the lock was lost.
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
    place: Box<dyn Place + 'a>,
    name: String,
    secrets: Secrets,
    options: Options,
}

/// What waiting came to.
enum Ready {
    /// It was run already, successfully.
    Done,
    /// Nobody is to try it again.
    GivenUp { exit: u8 },
    /// The lock is ours, and this run is to be made.
    Due { attempt: i64 },
}

impl<'a> Wrapper<'a> {
    /// A wrapper for this place, called this in messages.
    pub fn new(place: Box<dyn Place + 'a>, name: String, secrets: Secrets, options: Options) -> Wrapper<'a> {
        Wrapper { place, name, secrets, options }
    }

    /// Does it all; returns the exit code.
    ///
    /// # Errors
    /// Nothing was run, or what ran could not be recorded.
    pub async fn run(mut self) -> Result<u8, Failure> {
        let mut signals = Signals::listen()?;
        if let Some(weakness) = self.place.weakness() {
            self.say(&format!("note: {weakness}"));
        }
        let ready = tokio::select! {
            biased;
            number = signals.next_end() => Err(number),
            ready = self.until_due() => Ok(ready),
        };
        let code = match ready {
            Ok(Ok(Ready::Done)) => Ok(0),
            Ok(Ok(Ready::GivenUp { exit })) => Ok(exit),
            Ok(Ok(Ready::Due { attempt })) => self.make_run(attempt, &mut signals).await,
            Ok(Err(failure)) => Err(failure),
            Err(number) => Ok(of_signal(number)),
        };
        // Where the end of the process is not the end of the lock, this is.
        let _ = tokio::time::timeout(Duration::from_secs(3), self.place.unlock()).await;
        code.map_err(|failure| self.hide(failure))
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

    /// Connects, and waits for a place that can't be reached yet.
    async fn connect(&mut self) -> Result<(), Failure> {
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
    async fn until_due(&mut self) -> Result<Ready, Failure> {
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
    async fn succeed_the_vanished(&mut self) -> Result<(), Failure> {
        let vanished = self.place.runs(Which::Open).await?;
        let Some(longest) = vanished.iter().map(|run| run.handover).max() else { return Ok(()) };
        let wait = Duration::from_millis(longest.clamp(0, HANDOVER_MAX.as_millis() as i64) as u64);
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

    /// Makes a run under the lock, and records it.
    async fn make_run(&mut self, attempt: i64, signals: &mut Signals) -> Result<u8, Failure> {
        let mut run = self.new_run(attempt);
        let begun = self.place.begin(&mut run).await;
        begun.map_err(|failure| failure.during("nothing was run"))?;
        let mut outcome = self.command(&self.options.command.clone(), signals).await;
        if let (Ok(Outcome { state: State::Succeeded, .. }), Some(verify)) = (&outcome, self.options.verify.clone()) {
            let first = std::mem::replace(&mut outcome, self.command(&verify, signals).await);
            if let (Ok(first), Ok(second)) = (first, &mut outcome) {
                second.tail = join(&first.tail, &second.tail);
            }
        }
        let outcome = outcome.unwrap_or_else(|failure| Outcome {
            state: State::Failed,
            exit: 71,
            tail: failure.sentence,
            lost: None,
        });
        run.state = outcome.state;
        run.exit = Some(outcome.exit.into());
        run.ended = Some(Timestamp::now().as_millisecond());
        run.tail = cut(&self.secrets.hide(&outcome.tail));
        if let Some(lost) = &outcome.lost {
            let ended =
                if self.options.on_lost == OnLost::End { "the command was ended" } else { "the command went on" };
            run.tail =
                cut(&join(&run.tail, &self.secrets.hide(&format!("{ended}, because the lock was lost: {lost}"))));
        }
        let recorded = self.record(&run, outcome.lost.is_some()).await;
        match (recorded, run.state) {
            (Ok(()), _) => Ok(outcome.exit),
            (Err(failure), State::Succeeded) => Err(Failure::new(
                Kind::Unrecorded,
                format!("the command succeeded, but that could not be recorded, so it will be run again: {failure}"),
            )),
            (Err(failure), _) => {
                self.say(&format!("how it ended could not be recorded: {failure}"));
                Ok(outcome.exit)
            }
        }
    }

    fn new_run(&self, attempt: i64) -> Run {
        let handover = self.options.lost_grace + HANDOVER_MARGIN;
        Run {
            id: 0,
            lock: self.options.lock.clone(),
            key: self.options.key.clone().unwrap_or_default(),
            state: State::Running,
            attempt,
            exit: None,
            owner: self.options.owner.clone(),
            host: host_and_pid(),
            started: Timestamp::now().as_millisecond(),
            ended: None,
            handover: i64::try_from(handover.as_millis()).unwrap_or(i64::MAX),
            tail: String::new(),
            version: VERSION,
        }
    }

    /// Runs one command while it is checked that the lock is held.
    async fn command(&mut self, command: &[OsString], signals: &mut Signals) -> Result<Outcome, Failure> {
        let pace = self.place.pace();
        self.place.check().await?;
        let watchdog = pace.watchdog.filter(|_| self.options.on_lost == OnLost::End);
        let guard = Guard::start(&self.options.guard, command, watchdog).await?;
        let end_after = (self.options.on_lost == OnLost::End).then_some(self.options.lost_grace);
        let attended = attend(self.place.as_mut(), &guard, signals, end_after).await;
        guard.end().await;
        if let Some(lost) = &attended.lost {
            self.say(&format!("lost the lock: {lost}"));
        }
        if attended.report.is_none() {
            (self.options.sweep)();
        }
        Ok(self.outcome(attended))
    }

    fn outcome(&self, attended: Attended) -> Outcome {
        let Attended { report, lost, ended_by } = attended;
        let unguarded = "the guard between the wrapper and the command was killed, and the command with it";
        let (exit, tail, watchdog) = match report {
            Some(Report { end: End::Code(code), tail }) => (code, tail, false),
            Some(Report { end: End::Signal(number), tail }) => (of_signal(number.into()), tail, false),
            Some(Report { end: End::Watchdog, tail }) => (EXIT_INTERRUPTED, tail, true),
            None => (of_signal(9), unguarded.to_owned(), false),
        };
        let ended = watchdog || (lost.is_some() && self.options.on_lost == OnLost::End);
        match ended_by {
            _ if ended => Outcome { state: State::Interrupted, exit: EXIT_INTERRUPTED, tail, lost },
            // A shell that traps SIGTERM ends with 0, and has not done its work.
            Some(number) => {
                let exit = if exit == 0 { of_signal(number) } else { exit };
                Outcome { state: State::Interrupted, exit, tail, lost }
            }
            None if exit == 0 => Outcome { state: State::Succeeded, exit, tail, lost },
            None => Outcome { state: State::Failed, exit, tail, lost },
        }
    }

    /// Records how the run ended, on a new connection if the old one is lost.
    async fn record(&mut self, run: &Run, lost: bool) -> Result<(), Failure> {
        if !lost {
            match self.place.finish(run).await {
                Err(failure) if failure.kind == Kind::Unreachable => {}
                done => return done,
            }
        }
        self.connect().await?;
        self.place.finish(run).await
    }

    fn hide(&self, failure: Failure) -> Failure {
        Failure { sentence: self.secrets.hide(&failure.sentence), ..failure }
    }

    fn say(&self, sentence: &str) {
        eprintln!("migration-gate: {}", self.secrets.hide(sentence));
    }
}

/// What there is to know when a command is over.
struct Attended {
    report: Option<Report>,
    /// Why the lock was lost, if it was.
    lost: Option<Failure>,
    /// The first signal that asked it to end.
    ended_by: Option<i32>,
}

/// Stays with a command until it is over: passes on signals, watches the lock, and ends the command when that is lost,
/// if it is to be.
async fn attend<'p>(
    place: &mut (dyn Place + 'p),
    guard: &Guard,
    signals: &mut Signals,
    end_after: Option<Duration>,
) -> Attended {
    let pace = place.pace();
    let (over, busy) = (Cell::new(false), Cell::new(false));
    let watch = async {
        while !over.get() {
            tokio::time::sleep(pace.check).await;
            busy.set(true);
            let checked = place.check().await;
            busy.set(false);
            match checked {
                Ok(()) => guard.order(Order::Held),
                Err(failure) => return Some(failure),
            }
        }
        None
    };
    let reporting = guard.report();
    tokio::pin!(watch, reporting);
    let (mut lost, mut ended_by) = (None, None);
    let report = loop {
        tokio::select! {
            biased;
            report = &mut reporting => break report,
            number = signals.next() => {
                guard.order(Order::Signal(number));
                ended_by = ended_by.or(Some(number).filter(|number| ends(*number)));
            }
            failure = &mut watch, if lost.is_none() => {
                if let Some(grace) = end_after {
                    guard.order(Order::End(grace));
                }
                lost = failure.or_else(|| Some(Failure::new(Kind::Defect, "nobody watches the lock")));
            }
        }
    };
    over.set(true);
    if lost.is_none() && busy.get() {
        // A check that is under way is let finish, so that the connection can be used again.
        lost = watch.await;
    }
    Attended { report, lost, ended_by }
}

/// What a run came to.
struct Outcome {
    state: State,
    exit: u8,
    tail: String,
    lost: Option<Failure>,
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

/// As a shell has it.
fn of_signal(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

fn join(first: &str, second: &str) -> String {
    match (first.trim_end(), second) {
        ("", second) => second.to_owned(),
        (first, second) => format!("{first}\n{second}"),
    }
}

/// The end of the text within the bytes of a row.
fn cut(text: &str) -> String {
    let mut start = text.len().saturating_sub(crate::history::TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    // PostgreSQL's text takes no NUL.
    text[start..].replace('\0', "\u{fffd}")
}

fn host_and_pid() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{name}:{}", std::process::id())
}

/// Three quarters of the time, to the whole of it: fifty who wait don't ask all at once.
fn jitter(time: Duration) -> Duration {
    let share = u32::from(crate::random_byte());
    time * (768 + share) / 1024
}
