//! What the agent decides: a pure, total state machine without I/O and without a clock.
//!
//! [`Agent::start`] and [`Agent::on`] return the next state and the one thing to do. Whatever is done is answered by
//! an [`Input`]. The actions that write are done at once and answered before anything else is looked at; waiting, the
//! wait for targets and the command go on while other inputs come in. Killing the process between any action and its
//! answer is safe, which is what the order of the actions is for:
//!
//! - `started` is in the journal before the command exists, so a lost process is never followed by a second run;
//! - the trace is in the termination message before the command exists, so that a SIGKILL leaves it behind;
//! - the outcome is in the journal before it is in the message: a restarted agent can repeat what the journal knows,
//!   and nobody can repeat what only a lost message knew. That holds for `notStarted` too: once it has been said of an
//!   attempt, no later agent with this journal begins that attempt, even if its kubelet first shows it old signals.
//!
//! **A run signal counts only if it appears after this process started.** One that was there at the start is answered
//! with what the journal holds: its outcome, or `interrupted` if the journal knows only the start, or `notStarted`.
//!
//! An answer is given by exiting. But the kubelet restarts a failed init container at once only the first time, and
//! later after a back-off; and the process that came before has normally given the same answer, which the controller
//! is just reading from `lastState`. So an agent that *repeats* (the journal knows the attempt) puts the answer into
//! its message first, where any death of the container publishes it, and then lingers for [`LINGER`] before it exits:
//! the settled mark or the pass makes the exit needless. It does not linger over a success, whose exit is never
//! followed by a restart, nor over an attempt that the journal does not know: no earlier process can have answered it.

use std::time::Duration;

use crate::attempt::{EXIT_STOPPED, Ending, Exit, Plan, Step};
use crate::journal::{Entry, JournalView};
use crate::signal::{News, Order, Run};
use migration_gate_contract::Outcome;

/// How long a repeated answer waits for the settled mark or the pass before the agent exits to give it again.
pub const LINGER: Duration = Duration::from_secs(5);

/// What the agent hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The signal directory as it is now. May be said again without a change.
    Seen(News),
    /// To [`Action::Await`]: every target was reached.
    TargetsReached,
    /// To [`Action::WriteStarted`] and [`Action::WriteOutcome`]: it is on the disk.
    Synced,
    /// To the same: it could not be written and synced.
    NotSynced,
    /// To [`Action::WriteTrace`] and [`Action::WriteMessage`]: it is written, as far as it could be.
    Written,
    /// To [`Action::Spawn`]: that command ended, or could not be started, and no descendant of it is alive.
    CommandEnded(Exit),
    /// The same, but it was ended because a lock of its own was lost.
    CommandInterrupted(Exit),
    /// The same, but who held that lock for it ended it because its time was over.
    CommandTimedOut(Exit),
    /// A termination signal.
    StopRequested,
    /// The attempt's time limit, counted from its first [`Action::Spawn`], is over.
    TimeUp,
    /// To [`Action::Linger`]: [`LINGER`] is over.
    LingerOver,
}

/// What the agent does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Go on with whatever is going on.
    Continue,
    /// Wait for news, for nothing else; the termination message becomes empty, for what it said is settled.
    Wait,
    /// Wait for news and for the targets; the termination message becomes empty.
    Await,
    /// Write `started` of the attempt into the journal and sync it; fail if it is there already.
    WriteStarted(u32),
    /// Write the trace of the attempt into the termination message.
    WriteTrace(u32),
    /// Start a command of the attempt.
    Spawn(Run, Step),
    /// Send SIGTERM to the command. Whoever asked for it knows how patient to be.
    Forward,
    /// Send SIGTERM to the command, and SIGKILL after the grace period. Said again, it changes nothing.
    End,
    /// Write the attempt's outcome into the journal and sync it.
    WriteOutcome(u32, Ending),
    /// Write the attempt's outcome into the termination message: the one just journalled, or the journal's.
    WriteMessage(u32, Ending),
    /// Wait for news, for at most [`LINGER`], with the message as it is.
    Linger,
    /// Exit with this code, with the message as it is.
    Exit(u8),
}

/// The agent's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agent {
    plan: Plan,
    /// The latest attempt that the journal knew at the start, or that was seen settled: none up to it is begun.
    floor: Option<u32>,
    /// The journal's latest attempt as it was at the start, until it is settled.
    past: Option<(u32, Entry)>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Awaiting(Run),
    Starting(Run),
    Tracing(Run),
    Running(Run, Step, Stop),
    Recording(u32, Ending, Then),
    Reporting(u32, Ending, Then),
    Lingering(u32, Ending),
    Over,
}

/// Why a running command is being ended. The first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stop {
    No,
    Interrupted,
    TimedOut,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    Exit,
    Linger,
    Pass,
}

impl Agent {
    /// The state of a new process, from the journal and the signal directory as they are at its start.
    pub fn start(plan: Plan, journal: &JournalView, news: News) -> (Agent, Action) {
        let past = journal.latest();
        let floor = past.map(|(attempt, _)| attempt);
        let agent = Agent { plan, floor, past, phase: Phase::Idle };
        match news.order {
            Order::Run(run) => agent.answer(run.attempt, journal.find(run.attempt), news),
            Order::None | Order::Settled(_) => agent.idle(news),
        }
    }

    /// The next state, and what to do. An input that the state does not wait for changes nothing.
    #[must_use]
    pub fn on(self, input: Input) -> (Agent, Action) {
        match (self.phase, input) {
            (Phase::Idle, Input::Seen(news)) => self.idle(news),
            (Phase::Idle, Input::StopRequested) => self.exit(EXIT_STOPPED),

            (Phase::Awaiting(run), Input::Seen(news)) if overtakes(news.order, run.attempt) => self.idle(news),
            (Phase::Awaiting(run), Input::Seen(news)) if news.opened => {
                self.record(run.attempt, Ending::NOT_STARTED, Then::Pass)
            }
            (Phase::Awaiting(run), Input::StopRequested) => self.record(run.attempt, Ending::NOT_STARTED, Then::Exit),
            (Phase::Awaiting(run), Input::TargetsReached) => {
                self.enter(Phase::Starting(run), Action::WriteStarted(run.attempt))
            }

            (Phase::Starting(run), Input::Synced) => self.enter(Phase::Tracing(run), Action::WriteTrace(run.attempt)),
            (Phase::Starting(run), Input::NotSynced) => self.record(run.attempt, Ending::NOT_STARTED, Then::Exit),
            (Phase::Tracing(run), Input::Written) => self.spawn(run, Step::Command),

            (Phase::Running(run, step, stop), Input::CommandEnded(exit)) => self.ended(run, step, stop, exit),
            (Phase::Running(run, step, stop), Input::CommandInterrupted(exit)) => {
                self.ended(run, step, stop.or(Stop::Interrupted), exit)
            }
            (Phase::Running(run, step, stop), Input::CommandTimedOut(exit)) => {
                self.ended(run, step, stop.or(Stop::TimedOut), exit)
            }
            (Phase::Running(run, step, stop), Input::StopRequested) => {
                self.enter(Phase::Running(run, step, stop.or(Stop::Interrupted)), Action::Forward)
            }
            (Phase::Running(run, step, stop), Input::TimeUp) => {
                self.enter(Phase::Running(run, step, stop.or(Stop::TimedOut)), Action::End)
            }
            // The attempt is on record as over, so somebody else may be elected already: two at once would be worse
            // than one that was interrupted. Sound evidence never leads here; an operator's mistake can.
            (Phase::Running(run, step, stop), Input::Seen(news)) if overtakes(news.order, run.attempt) => {
                self.enter(Phase::Running(run, step, stop.or(Stop::Interrupted)), Action::End)
            }

            // What can't be journalled is said all the same: the message is then the only word there is.
            (Phase::Recording(attempt, ending, then), Input::Synced | Input::NotSynced) => {
                self.report(attempt, ending, then)
            }
            (Phase::Reporting(_, _, Then::Pass), Input::Written) => self.exit(0),
            (Phase::Reporting(attempt, ending, Then::Linger), Input::Written) if ending.code() != 0 => {
                self.enter(Phase::Lingering(attempt, ending), Action::Linger)
            }
            (Phase::Reporting(_, ending, _), Input::Written) => self.exit(ending.code()),

            (Phase::Lingering(attempt, _), Input::Seen(news)) if overtakes(news.order, attempt) => self.idle(news),
            (Phase::Lingering(..), Input::Seen(news)) if news.opened => self.exit(0),
            (Phase::Lingering(_, ending), Input::StopRequested | Input::LingerOver) => self.exit(ending.code()),

            _ => (self, Action::Continue),
        }
    }

    /// What the news mean to an agent that does nothing, or that stops doing what it did because of them.
    fn idle(mut self, news: News) -> (Agent, Action) {
        match news.order {
            Order::Run(run) if Some(run.attempt) > self.floor => {
                return match news.opened {
                    // Whoever ordered the attempt still needs an answer to it.
                    true => self.record(run.attempt, Ending::NOT_STARTED, Then::Pass),
                    false => self.enter(Phase::Awaiting(run), Action::Await),
                };
            }
            // The journal knows the attempt, yet its signal was not there at the start: a kubelet that was restarted
            // showed an old value first.
            Order::Run(run) => {
                if let Some((attempt, entry)) = self.past
                    && attempt == run.attempt
                {
                    return self.answer(attempt, Some(entry), news);
                }
            }
            Order::Settled(attempt) => {
                self.floor = self.floor.max(Some(attempt));
                self.past = self.past.filter(|(past, _)| *past > attempt);
            }
            Order::None => {}
        }
        if news.opened { self.exit(0) } else { self.enter(Phase::Idle, Action::Wait) }
    }

    /// Answers a signal that is not obeyed with what the journal knows.
    fn answer(self, attempt: u32, entry: Option<Entry>, news: News) -> (Agent, Action) {
        let then = |then| if news.opened { Then::Pass } else { then };
        match entry {
            Some(Entry::Ended(ending)) => self.report(attempt, ending, then(Then::Linger)),
            Some(Entry::Started) => self.record(attempt, Ending::INTERRUPTED, then(Then::Linger)),
            None => self.record(attempt, Ending::NOT_STARTED, then(Then::Exit)),
        }
    }

    /// What follows when a command of the attempt ended.
    fn ended(self, run: Run, step: Step, stop: Stop, exit: Exit) -> (Agent, Action) {
        let outcome = match (stop, exit, step) {
            (Stop::Interrupted, ..) => Outcome::Interrupted,
            (Stop::TimedOut, ..) => Outcome::TimedOut,
            (Stop::No, Exit::Code(0), Step::Command) if self.plan == Plan::CommandAndVerify => {
                return self.spawn(run, Step::Verify);
            }
            (Stop::No, Exit::Code(0), _) => Outcome::Succeeded,
            (Stop::No, ..) => Outcome::Failed,
        };
        self.record(run.attempt, Ending { outcome, exit: Some(exit) }, Then::Exit)
    }

    fn spawn(self, run: Run, step: Step) -> (Agent, Action) {
        self.enter(Phase::Running(run, step, Stop::No), Action::Spawn(run, step))
    }

    fn record(self, attempt: u32, ending: Ending, then: Then) -> (Agent, Action) {
        self.enter(Phase::Recording(attempt, ending, then), Action::WriteOutcome(attempt, ending))
    }

    fn report(self, attempt: u32, ending: Ending, then: Then) -> (Agent, Action) {
        self.enter(Phase::Reporting(attempt, ending, then), Action::WriteMessage(attempt, ending))
    }

    fn exit(self, code: u8) -> (Agent, Action) {
        self.enter(Phase::Over, Action::Exit(code))
    }

    fn enter(self, phase: Phase, action: Action) -> (Agent, Action) {
        (Agent { phase, ..self }, action)
    }
}

impl Stop {
    fn or(self, reason: Stop) -> Stop {
        if self == Stop::No { reason } else { self }
    }
}

/// Whether the order says that the attempt is over: it is settled, or a later one was ordered, which happens only after
/// that and may hide the mark.
fn overtakes(order: Order, attempt: u32) -> bool {
    match order {
        Order::Settled(settled) => settled >= attempt,
        Order::Run(run) => run.attempt > attempt,
        Order::None => false,
    }
}
