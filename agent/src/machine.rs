//! What the agent decides: a pure, total state machine without I/O and without a clock.
//!
//! [`Agent::start`] and [`Agent::on`] return the next state and the one thing to do. Whatever is done is answered by
//! an [`Input`]. The actions that write are done at once and answered before anything else is looked at; waiting, the
//! wait for targets and the command go on while other inputs come in. Killing the process between any action and its
//! answer is safe, which is what the order of the actions is for:
//!
//! - `started` is in the journal before the command exists, so a lost process is never followed by a second run;
//! - the trace is in the termination message before the command exists, so that a SIGKILL leaves it behind;
//! - the agent looks once more before each command. Writing may take long, and so may the end of what the first command
//!   left behind: if the attempt was settled meanwhile, somebody else may be elected, and nothing may start any more;
//! - the outcome is in the journal before it is in the message: a restarted agent can repeat what the journal knows,
//!   and nobody can repeat what only a lost message knew. That holds for `notStarted` too: once it has been said of an
//!   attempt, no later agent with this journal begins that attempt, even if its kubelet first shows it old signals.
//!
//! There are two kinds of run signals:
//!
//! - One that **was there when this process started** is never obeyed, because a process before this one may have obeyed
//!   it. It is answered with what the journal holds: its outcome, `interrupted` if that is only the start, `notStarted`
//!   if it is nothing.
//! - One that **appears** is obeyed, unless its attempt is [past](super::past).
//!
//! An answer is given by exiting; [`Leave`] says how.

use std::time::Duration;

use crate::attempt::{EXIT_STOPPED, Ending, Exit, Plan, Step};
use crate::journal::{Entry, JournalView};
use crate::past::{Past, Standing};
use crate::signal::{News, Order, Run};
use migration_gate_contract::Outcome;

/// How long a repeated answer waits for the settled mark or the pass before the agent exits to give it again.
pub const LINGER: Duration = Duration::from_secs(5);

/// What the agent hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The signal directory as it is now. May be said again without a change. Also to [`Action::LookAgain`].
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
    /// A termination signal. Also to [`Action::LookAgain`].
    StopRequested,
    /// The attempt's time limit, counted from its first [`Action::Spawn`], is over. Also to [`Action::LookAgain`].
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
    /// Say at once what there is: a termination signal, the end of the time limit, or the signal directory as it is now.
    LookAgain,
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
    past: Past,
    phase: Phase,
}

/// What the agent is at. An attempt goes through these from `Awaiting` to `Reporting`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// It has no order.
    Idle,
    /// It has one, and waits for the targets. Nothing of the attempt exists.
    Awaiting(Run),
    /// The start is being journalled.
    Starting(Run),
    /// The trace is being written.
    Tracing(Run),
    /// It looks once more before it starts this command.
    Looking(Run, Step),
    /// This command runs; once it is being ended, for this reason.
    Running(Run, Step, Option<Cause>),
    /// The answer is being journalled.
    Recording(u32, Ending, Leave),
    /// It is being written into the message.
    Reporting(u32, Ending, Leave),
    /// It is there, and the exit waits for the mark.
    Lingering(u32, Ending),
    /// The agent exits.
    Over,
}

/// Why a command is ended. The first reason stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cause {
    /// The agent was asked to stop, the attempt is over for the controller, or a lock was lost.
    Interrupted,
    /// Its time is over.
    TimedOut,
}

/// How the agent exits once its answer is in the termination message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Leave {
    /// At once, with the answer's code.
    Now,
    /// The same, but only when the mark did not come within [`LINGER`]. The kubelet restarts an init container at once
    /// only the first time, and later after a back-off. An answer that is *repeated* has normally been given by an agent
    /// before, and the controller is just reading it from `lastState`: the mark makes the exit needless. The answer is in
    /// the message meanwhile, where any death of the container publishes it.
    Late,
    /// At once, with 0: the pass is there.
    Passed,
}

impl Agent {
    /// The state of a new process, from the journal and the signal directory as they are at its start.
    pub fn start(plan: Plan, journal: &JournalView, news: News) -> (Agent, Action) {
        let agent = Agent { plan, past: Past::of(journal), phase: Phase::Idle };
        let Order::Run(run) = news.order else { return agent.consider(news) };
        match journal.find(run.attempt) {
            Some(entry) => agent.repeat(run.attempt, entry, news),
            None => agent.decline(run.attempt, news),
        }
    }

    /// The next state, and what to do. An input that the state does not wait for changes nothing.
    #[must_use]
    pub fn on(self, input: Input) -> (Agent, Action) {
        match (self.phase, input) {
            (Phase::Idle, Input::Seen(news)) => self.consider(news),
            (Phase::Idle, Input::StopRequested) => self.exit(EXIT_STOPPED),

            // No command of the attempt was started yet, so whatever speaks against it is heeded.
            (Phase::Awaiting(run) | Phase::Looking(run, Step::Command), Input::Seen(news))
                if news.order.ends(run.attempt) =>
            {
                self.consider(news)
            }
            (Phase::Awaiting(run) | Phase::Looking(run, Step::Command), Input::Seen(news)) if news.opened => {
                self.decline(run.attempt, news)
            }
            (Phase::Awaiting(run) | Phase::Looking(run, Step::Command), Input::StopRequested) => {
                self.record(run.attempt, Ending::NOT_STARTED, Leave::Now)
            }

            (Phase::Awaiting(run), Input::TargetsReached) => {
                self.enter(Phase::Starting(run), Action::WriteStarted(run.attempt))
            }
            (Phase::Starting(run), Input::Synced) => self.enter(Phase::Tracing(run), Action::WriteTrace(run.attempt)),
            (Phase::Starting(run), Input::NotSynced) => self.record(run.attempt, Ending::NOT_STARTED, Leave::Now),
            (Phase::Tracing(run), Input::Written) => self.look_again(run, Step::Command),

            (Phase::Looking(run, Step::Verify), Input::StopRequested) => self.skip_verify(run, Cause::Interrupted),
            (Phase::Looking(run, Step::Verify), Input::TimeUp) => self.skip_verify(run, Cause::TimedOut),
            (Phase::Looking(run, Step::Verify), Input::Seen(news)) if news.order.ends(run.attempt) => {
                self.skip_verify(run, Cause::Interrupted)
            }
            (Phase::Looking(run, step), Input::Seen(_)) => {
                self.enter(Phase::Running(run, step, None), Action::Spawn(run, step))
            }

            (Phase::Running(run, step, cause), Input::CommandEnded(exit)) => self.ended(run, step, cause, exit),
            (Phase::Running(run, step, cause), Input::CommandInterrupted(exit)) => {
                self.ended(run, step, cause.or(Some(Cause::Interrupted)), exit)
            }
            (Phase::Running(run, step, cause), Input::CommandTimedOut(exit)) => {
                self.ended(run, step, cause.or(Some(Cause::TimedOut)), exit)
            }
            (Phase::Running(run, step, cause), Input::StopRequested) => {
                self.enter(Phase::Running(run, step, cause.or(Some(Cause::Interrupted))), Action::Forward)
            }
            (Phase::Running(run, step, cause), Input::TimeUp) => {
                self.enter(Phase::Running(run, step, cause.or(Some(Cause::TimedOut))), Action::End)
            }
            // The attempt is on record as over, so somebody else may be elected soon: two at once would be worse than one
            // that was interrupted. Proof of the command's end never leads here; a fence that rests on less can.
            (Phase::Running(run, step, cause), Input::Seen(news)) if news.order.ends(run.attempt) => {
                self.enter(Phase::Running(run, step, cause.or(Some(Cause::Interrupted))), Action::End)
            }

            // What can't be journalled is said all the same: the message is then the only word there is.
            (Phase::Recording(attempt, ending, leave), Input::Synced | Input::NotSynced) => {
                self.report(attempt, ending, leave)
            }
            (Phase::Reporting(_, ending, Leave::Now), Input::Written) => self.exit(ending.code()),
            (Phase::Reporting(_, _, Leave::Passed), Input::Written) => self.exit(0),
            (Phase::Reporting(attempt, ending, Leave::Late), Input::Written) => {
                self.enter(Phase::Lingering(attempt, ending), Action::Linger)
            }

            (Phase::Lingering(attempt, _), Input::Seen(news)) if news.order.ends(attempt) => self.consider(news),
            (Phase::Lingering(..), Input::Seen(news)) if news.opened => self.exit(0),
            (Phase::Lingering(_, ending), Input::StopRequested | Input::LingerOver) => self.exit(ending.code()),

            _ => (self, Action::Continue),
        }
    }

    /// What news mean to an agent that is at nothing, or that drops what it was at because of them.
    fn consider(mut self, news: News) -> (Agent, Action) {
        match news.order {
            Order::Run(run) => match self.past.standing(run.attempt) {
                // Whoever ordered the attempt still needs an answer to it.
                Standing::New if news.opened => return self.decline(run.attempt, news),
                Standing::New => return self.enter(Phase::Awaiting(run), Action::Await),
                Standing::Known(entry) => return self.repeat(run.attempt, entry, news),
                Standing::Old => {}
            },
            Order::Settled(attempt) => self.past = self.past.settled(attempt),
            Order::None => {}
        }
        if news.opened { self.exit(0) } else { self.enter(Phase::Idle, Action::Wait) }
    }

    /// Answers an order for an attempt that will not be started here.
    fn decline(self, attempt: u32, news: News) -> (Agent, Action) {
        // Nobody can have given this answer before, so there is no mark to wait for.
        self.record(attempt, Ending::NOT_STARTED, if news.opened { Leave::Passed } else { Leave::Now })
    }

    /// Answers an order for an attempt that the journal knows with what it knows.
    fn repeat(self, attempt: u32, entry: Entry, news: News) -> (Agent, Action) {
        let leave = |ending: Ending| match (news.opened, ending.code()) {
            (true, _) => Leave::Passed,
            // The kubelet never restarts what exits with 0.
            (false, 0) => Leave::Now,
            (false, _) => Leave::Late,
        };
        match entry {
            Entry::Ended(ending) => self.report(attempt, ending, leave(ending)),
            Entry::Started => self.record(attempt, Ending::INTERRUPTED, leave(Ending::INTERRUPTED)),
        }
    }

    fn look_again(self, run: Run, step: Step) -> (Agent, Action) {
        self.enter(Phase::Looking(run, step), Action::LookAgain)
    }

    /// The command succeeded, and there is a reason not to start the one that verifies it.
    fn skip_verify(self, run: Run, cause: Cause) -> (Agent, Action) {
        self.ended(run, Step::Command, Some(cause), Exit::Code(0))
    }

    /// What follows when a command of the attempt ended.
    fn ended(self, run: Run, step: Step, cause: Option<Cause>, exit: Exit) -> (Agent, Action) {
        let outcome = match (cause, exit, step) {
            (Some(Cause::Interrupted), ..) => Outcome::Interrupted,
            (Some(Cause::TimedOut), ..) => Outcome::TimedOut,
            (None, Exit::Code(0), Step::Command) if self.plan == Plan::CommandAndVerify => {
                return self.look_again(run, Step::Verify);
            }
            (None, Exit::Code(0), _) => Outcome::Succeeded,
            (None, ..) => Outcome::Failed,
        };
        self.record(run.attempt, Ending { outcome, exit: Some(exit) }, Leave::Now)
    }

    fn record(self, attempt: u32, ending: Ending, leave: Leave) -> (Agent, Action) {
        self.enter(Phase::Recording(attempt, ending, leave), Action::WriteOutcome(attempt, ending))
    }

    fn report(self, attempt: u32, ending: Ending, leave: Leave) -> (Agent, Action) {
        self.enter(Phase::Reporting(attempt, ending, leave), Action::WriteMessage(attempt, ending))
    }

    fn exit(self, code: u8) -> (Agent, Action) {
        self.enter(Phase::Over, Action::Exit(code))
    }

    fn enter(self, phase: Phase, action: Action) -> (Agent, Action) {
        (Agent { phase, ..self }, action)
    }
}
