//! Running: the command under its guard and the lock, and what is recorded of it.

use std::cell::Cell;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::failure::{Failure, Kind};
use crate::guard::{End, Guard, Order, Report};
use crate::history::{Run, State, VERSION};
use crate::place::Place;
use crate::signals::{Signals, ends};
use crate::wrapper::{
    EXIT_INTERRUPTED, EXIT_TIMED_OUT, Ended, HANDOVER_MARGIN, How, OnLost, Wrapper, host_and_pid, of_signal,
};

/// From SIGTERM to SIGKILL when the time is over: a pod's own default.
const TIMEOUT_GRACE: Duration = Duration::from_secs(30);
/// The exit code of a run without a guard: EX_OSERR.
const EXIT_NO_GUARD: u8 = 71;

impl Wrapper<'_> {
    /// Makes a run under the lock, and records it.
    pub(crate) async fn make_run(&mut self, attempt: i64, signals: &mut Signals) -> Result<Ended, Failure> {
        let mut run = self.new_run(attempt);
        let begun = self.place.begin(&mut run).await;
        begun.map_err(|failure| failure.during("nothing was run"))?;
        let outcome = self.commands(signals).await;
        run.state = outcome.how.state();
        run.exit = Some(outcome.exit.into());
        run.ended = Some(Timestamp::now().as_millisecond());
        run.tail = cut(&self.secrets.hide(&outcome.tail));
        if let Some(lost) = &outcome.lost {
            let ended =
                if self.options.on_lost == OnLost::End { "the command was ended" } else { "the command went on" };
            run.tail =
                cut(&join(&run.tail, &self.secrets.hide(&format!("{ended}, because the lock was lost: {lost}"))));
        }
        let ended = Ended { exit: outcome.exit, how: outcome.how };
        match (self.record(&run, outcome.lost.is_some()).await, run.state) {
            (Ok(()), _) => Ok(ended),
            (Err(failure), State::Succeeded) => Err(Failure::new(
                Kind::Unrecorded,
                format!("the command succeeded, but that could not be recorded, so it will be run again: {failure}"),
            )),
            (Err(failure), _) => {
                self.say(&format!("how it ended could not be recorded: {failure}"));
                Ok(ended)
            }
        }
    }

    /// Runs the command, and the one that verifies it.
    async fn commands(&mut self, signals: &mut Signals) -> Outcome {
        let time_up = self.options.timeout.and_then(|limit| Instant::now().checked_add(limit));
        let first = self.command(&self.options.command.clone(), signals, time_up).await;
        match self.options.verify.clone() {
            Some(verify) if first.how == How::Succeeded => {
                let mut second = self.command(&verify, signals, time_up).await;
                second.tail = join(&first.tail, &second.tail);
                second.lost = first.lost.or(second.lost);
                second
            }
            _ => first,
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
    async fn command(&mut self, command: &[OsString], signals: &mut Signals, time_up: Option<Instant>) -> Outcome {
        let pace = self.place.pace();
        let held = self.place.check().await;
        let lost = match held {
            Err(failure) if self.options.on_lost == OnLost::End => {
                let exit = EXIT_INTERRUPTED;
                return Outcome { how: How::Interrupted, exit, tail: String::new(), lost: Some(failure) };
            }
            held => held.err(),
        };
        let watchdog = pace.watchdog.filter(|_| self.options.on_lost == OnLost::End);
        let guard = match Guard::start(&self.options.guard, command, watchdog).await {
            Ok(guard) => guard,
            Err(failure) => {
                self.say(&failure.sentence);
                return Outcome { how: How::Failed, exit: EXIT_NO_GUARD, tail: failure.sentence, lost };
            }
        };
        let limits = Limits {
            time_up,
            lost_grace: (self.options.on_lost == OnLost::End).then_some(self.options.lost_grace),
            watches: lost.is_none(),
        };
        let attended = attend(self.place.as_mut(), &guard, signals, &limits).await;
        guard.end().await;
        if let Some(lost) = &attended.lost {
            self.say(&format!("lost the lock: {lost}"));
        }
        if attended.report.is_none() {
            (self.options.sweep)();
        }
        let mut outcome = self.outcome(attended);
        outcome.lost = lost.or(outcome.lost);
        outcome
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
        let (how, exit, tail) = match ended_by {
            _ if watchdog || (lost.is_some() && self.options.on_lost == OnLost::End) => {
                (How::Interrupted, EXIT_INTERRUPTED, tail)
            }
            // A shell that traps SIGTERM ends with 0, and has not done its work.
            Some(Asked::BySignal(number)) => (How::Interrupted, if exit == 0 { of_signal(number) } else { exit }, tail),
            Some(Asked::ByTime) => {
                (How::TimedOut, EXIT_TIMED_OUT, join(&tail, "the time was over, and the command was ended"))
            }
            None if exit == 0 => (How::Succeeded, exit, tail),
            None => (How::Failed, exit, tail),
        };
        Outcome { how, exit, tail, lost }
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
}

/// What there is to know when a command is over.
struct Attended {
    report: Option<Report>,
    /// Why the lock was lost, if it was.
    lost: Option<Failure>,
    /// What asked it first to end, the lock aside.
    ended_by: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    BySignal(i32),
    ByTime,
}

/// When a command is ended.
struct Limits {
    /// At this moment, if it goes on for so long.
    time_up: Option<Instant>,
    /// When the lock is lost, with this grace; never for that reason, if `None`.
    lost_grace: Option<Duration>,
    /// Whether there is a lock to watch.
    watches: bool,
}

/// Stays with a command until it is over: passes on signals, watches the lock, and ends the command when that is lost,
/// if it is to be, or when its time is over.
async fn attend<'p>(place: &mut (dyn Place + 'p), guard: &Guard, signals: &mut Signals, limits: &Limits) -> Attended {
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
    let time_up = async {
        match limits.time_up {
            Some(moment) => tokio::time::sleep_until(moment.into()).await,
            None => std::future::pending().await,
        }
    };
    let reporting = guard.report();
    tokio::pin!(watch, reporting, time_up);
    let (mut lost, mut ended_by, mut timed) = (None, None, true);
    let report = loop {
        tokio::select! {
            biased;
            report = &mut reporting => break report,
            number = signals.next() => {
                guard.order(Order::Signal(number));
                ended_by = ended_by.or(Some(Asked::BySignal(number)).filter(|_| ends(number)));
            }
            failure = &mut watch, if limits.watches && lost.is_none() => {
                if let Some(grace) = limits.lost_grace {
                    guard.order(Order::End(grace));
                }
                lost = failure.or_else(|| Some(Failure::new(Kind::Defect, "nobody watches the lock")));
            }
            () = &mut time_up, if timed => {
                timed = false;
                guard.order(Order::End(TIMEOUT_GRACE));
                ended_by = ended_by.or(Some(Asked::ByTime));
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
    how: How,
    exit: u8,
    tail: String,
    lost: Option<Failure>,
}

impl How {
    /// How the history has it.
    fn state(self) -> State {
        match self {
            How::Succeeded => State::Succeeded,
            How::Failed | How::TimedOut => State::Failed,
            How::Interrupted => State::Interrupted,
        }
    }
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
