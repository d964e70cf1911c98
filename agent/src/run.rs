//! Does what the [machine](super::machine) says, and tells it what happened. It decides nothing.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::args::Run;
use crate::attempt::{EXIT_CONFIG, Ending, Exit, Plan, Step};
use crate::family::adopt_orphans;
use crate::fence;
use crate::journal::{Journal, JournalView};
use crate::machine::{Action, Agent, Input, LINGER};
use crate::notify::Notices;
use crate::report::{Message, Tail, compose};
use crate::running::Running;
use crate::say::say;
use crate::signal::News;
use crate::wait_for::Waiter;
use crate::watch::SignalDirectory;
use migration_gate_contract::{Outcome, Report, Trace, Verdict};

/// Waits, runs, reports; returns the exit code.
pub fn run(run: Run) -> u8 {
    let mut message = Message::at(run.paths.message.clone());
    let prepare = || -> Result<_, String> {
        let notices = Notices::register().map_err(|error| format!("cannot handle signals: {error}"))?;
        adopt_orphans().map_err(|error| format!("cannot inherit orphans: {error}"))?;
        let mut signals = SignalDirectory::open(run.paths.signals.clone())?;
        let news = signals.read()?;
        Ok((notices, signals, news))
    };
    let (notices, signals, news) = match prepare() {
        Ok(prepared) => prepared,
        Err(sentence) => {
            complain(&mut message, &sentence);
            return EXIT_CONFIG;
        }
    };
    let journal = Journal::at(run.paths.journal.clone());
    let view = journal.view().unwrap_or_else(|error| {
        say(&format!("cannot read the journal, so any attempt may have been started: {error}"));
        JournalView::Unreadable
    });
    // Under a lock both commands are one: they succeed together or not at all.
    let plan = if run.verify.is_some() && run.fence.is_none() { Plan::CommandAndVerify } else { Plan::Command };
    let look_at = Instant::now() + signals.patience();
    let mut shell = Shell {
        run,
        notices,
        signals,
        journal,
        message,
        news,
        look_at,
        unreadable: None,
        doing: Doing::Waiting,
        tail: Tail::default(),
        started: None,
        time_up: None,
        answer: None,
    };

    let (mut agent, mut action) = Agent::start(plan, &view, news);
    if action == Action::Wait {
        say("waiting until the migration is done, or until it is this pod's turn to run it");
    }
    loop {
        let input = match shell.act(action) {
            Next::Input(input) => input,
            Next::Listen => shell.listen(),
            Next::Exit(code) => return code,
        };
        (agent, action) = agent.on(input);
    }
}

/// Says what keeps the agent from doing anything, where people look for it.
pub fn complain(message: &mut Message, sentence: &str) {
    say(sentence);
    let _ = message.write(&format!("{sentence}\n"));
}

struct Shell {
    run: Run,
    notices: Notices,
    signals: SignalDirectory,
    journal: Journal,
    message: Message,
    /// What the machine heard last of the signal directory.
    news: News,
    /// When to look there again, even if nothing changed.
    look_at: Instant,
    /// Why the signal directory can't be read, as it was said last.
    unreadable: Option<String>,
    doing: Doing,
    tail: Tail,
    /// When this process started its attempt, in milliseconds since 1970.
    started: Option<i64>,
    time_up: Option<Instant>,
    /// The message with the outcome that was journalled, or was to be.
    answer: Option<String>,
}

/// What goes on while the agent listens.
enum Doing {
    Waiting,
    Awaiting(Waiter),
    Running(Running),
    Lingering(Instant),
}

enum Next {
    /// Done, with this answer.
    Input(Input),
    /// It goes on; wait for whatever comes.
    Listen,
    Exit(u8),
}

impl Shell {
    fn act(&mut self, action: Action) -> Next {
        match action {
            Action::Continue => Next::Listen,
            Action::Wait => {
                self.doing = Doing::Waiting;
                self.clear_message();
                Next::Listen
            }
            Action::Await => self.wait_for_targets(),
            Action::WriteStarted(attempt) => self.write_started(attempt),
            Action::WriteTrace(attempt) => {
                let trace = Report::Trace(self.trace(attempt));
                let text = compose(&trace, &Tail::default());
                self.write_message(&text);
                Next::Input(Input::Written)
            }
            Action::LookAgain => Next::Input(self.look_again()),
            Action::Spawn(order, step) => self.spawn(order.timeout_seconds, step),
            Action::Forward => {
                if let Doing::Running(running) = &self.doing {
                    running.forward();
                }
                self.note("asked to stop; the command was asked too");
                Next::Listen
            }
            Action::End => {
                if let Doing::Running(running) = &mut self.doing {
                    running.end();
                }
                Next::Listen
            }
            Action::WriteOutcome(attempt, ending) => self.write_outcome(attempt, ending),
            Action::WriteMessage(attempt, ending) => {
                let text = self.answer.take().or_else(|| self.journal.message(attempt));
                let text = text.unwrap_or_else(|| self.verdict(attempt, ending));
                self.write_message(&text);
                Next::Input(Input::Written)
            }
            Action::Linger => {
                self.doing = Doing::Lingering(Instant::now() + LINGER);
                Next::Listen
            }
            Action::Exit(code) => Next::Exit(code),
        }
    }

    fn wait_for_targets(&mut self) -> Next {
        self.doing = Doing::Waiting;
        self.clear_message();
        if self.run.targets.is_empty() {
            return Next::Input(Input::TargetsReached);
        }
        match Waiter::start(self.run.targets.clone()) {
            Ok(waiter) => {
                self.doing = Doing::Awaiting(waiter);
                Next::Listen
            }
            Err(error) => {
                // Where there is no room for a thread there is none for a command: let somebody else have the turn.
                self.note(&format!("cannot wait for the targets: {error}"));
                Next::Input(Input::StopRequested)
            }
        }
    }

    fn write_started(&mut self, attempt: u32) -> Next {
        self.started = Some(now());
        let trace = self.trace(attempt);
        match self.journal.write_started(&trace) {
            Ok(()) => Next::Input(Input::Synced),
            Err(error) => {
                let journal = self.run.paths.journal.display();
                self.note(&format!("cannot write the journal in {journal}, so nothing is run: {error}"));
                Next::Input(Input::NotSynced)
            }
        }
    }

    fn spawn(&mut self, timeout_seconds: Option<u64>, step: Step) -> Next {
        let argv = match (step, &self.run.verify) {
            (Step::Verify, Some(verify)) => verify,
            _ => &self.run.command,
        };
        say(&format!("running {}", argv.program.display()));
        let started = match &self.run.fence {
            Some(fence) => {
                let report = self.lock_report();
                let fenced = fence.command(argv, self.run.verify.as_ref(), timeout_seconds, &report);
                let ready = fence::forget(&report).map_err(|sentence| (Exit::Code(1), sentence));
                ready.and_then(|()| Running::start(&fenced))
            }
            None => {
                if step == Step::Command {
                    let limit = timeout_seconds.map(Duration::from_secs);
                    self.time_up = limit.and_then(|limit| Instant::now().checked_add(limit));
                }
                Running::start(argv)
            }
        };
        match started {
            Ok(running) => {
                self.doing = Doing::Running(running);
                Next::Listen
            }
            Err((exit, sentence)) => {
                self.note(&sentence);
                Next::Input(Input::CommandEnded(exit))
            }
        }
    }

    /// Where who takes the lock says what came of it.
    fn lock_report(&self) -> PathBuf {
        self.run.paths.journal.join("lock-report")
    }

    fn write_outcome(&mut self, attempt: u32, ending: Ending) -> Next {
        self.doing = Doing::Waiting;
        match (ending.outcome, ending.exit) {
            (Outcome::NotStarted, _) => self.note(&format!("attempt {attempt} was not started here")),
            (_, None) => self.note(&format!("the container ended while attempt {attempt} ran")),
            _ => {}
        }
        let text = self.verdict(attempt, ending);
        let written = self.journal.write_outcome(attempt, &text);
        self.answer = Some(text);
        match written {
            Ok(()) => Next::Input(Input::Synced),
            Err(error) => {
                say(&format!("cannot write the outcome into the journal: {error}"));
                Next::Input(Input::NotSynced)
            }
        }
    }

    /// Waits until there is something to hear.
    fn listen(&mut self) -> Input {
        loop {
            if let Some(input) = self.heard() {
                return input;
            }
            self.sleep();
        }
    }

    /// What there is to hear, the most telling first: a command that ended before it was asked to has ended by itself.
    fn heard(&mut self) -> Option<Input> {
        self.notices.take_child();
        let mut sweeping = false;
        if let Doing::Running(running) = &mut self.doing {
            if let Some(exit) = running.turn(&mut self.tail) {
                return Some(match &self.run.fence {
                    Some(_) => fence::heard(exit, &self.lock_report()),
                    None => Input::CommandEnded(exit),
                });
            }
            sweeping = running.is_sweeping();
        }
        // Once the command itself has ended, nothing can change how; the rest is heard afterwards.
        if sweeping {
            return None;
        }
        if self.notices.take_stop() {
            return Some(Input::StopRequested);
        }
        if self.is_time_up() {
            self.note("the time limit is over; ending the command");
            return Some(Input::TimeUp);
        }
        let reached = matches!(&self.doing, Doing::Awaiting(waiter) if readable(waiter.fd()));
        let changed = self.signals.fd().is_some_and(readable);
        if (reached || changed || self.look_at <= Instant::now())
            && let Some(news) = self.look()
        {
            return Some(Input::Seen(news));
        }
        match &self.doing {
            Doing::Awaiting(waiter) if reached && waiter.reached() => Some(Input::TargetsReached),
            Doing::Lingering(until) if *until <= Instant::now() => Some(Input::LingerOver),
            _ => None,
        }
    }

    /// What there is to hear before a command exists, whether or not it was heard before.
    fn look_again(&mut self) -> Input {
        if self.notices.take_stop() {
            return Input::StopRequested;
        }
        if self.is_time_up() {
            self.note("the time limit is over; the second command is not started");
            return Input::TimeUp;
        }
        match self.read() {
            Some(news) => {
                self.news = news;
                Input::Seen(news)
            }
            // Nobody knows whether the attempt is settled: let somebody else have the turn.
            None => {
                self.note("nothing is started, because the signals can't be read");
                Input::StopRequested
            }
        }
    }

    /// Whether the time limit is over; says so once.
    fn is_time_up(&mut self) -> bool {
        self.time_up.take_if(|time_up| *time_up <= Instant::now()).is_some()
    }

    /// Reads the signal directory; returns what it says if that is not what the machine heard last.
    fn look(&mut self) -> Option<News> {
        let news = self.read()?;
        (news != std::mem::replace(&mut self.news, news)).then_some(news)
    }

    /// Reads the signal directory; says why it can't be read, once.
    fn read(&mut self) -> Option<News> {
        self.look_at = Instant::now() + self.signals.patience();
        match self.signals.read() {
            Ok(news) => {
                self.unreadable = None;
                Some(news)
            }
            Err(sentence) => {
                if self.unreadable.as_ref() != Some(&sentence) {
                    say(&sentence);
                    self.unreadable = Some(sentence);
                }
                None
            }
        }
    }

    /// Until one of the sources has something, or a moment has come.
    fn sleep(&self) {
        let mut sources = vec![PollFd::from_borrowed_fd(self.notices.child(), PollFlags::IN)];
        let mut moments = Vec::new();
        let mut sweeping = false;
        match &self.doing {
            Doing::Waiting => {}
            Doing::Awaiting(waiter) => sources.push(PollFd::from_borrowed_fd(waiter.fd(), PollFlags::IN)),
            Doing::Lingering(until) => moments.push(*until),
            Doing::Running(running) => {
                sources.extend(running.interest());
                moments.extend(running.deadline());
                sweeping = running.is_sweeping();
            }
        }
        // What is not listened to would only wake the agent up again and again.
        if !sweeping {
            sources.push(PollFd::from_borrowed_fd(self.notices.stop(), PollFlags::IN));
            sources.extend(self.signals.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            moments.push(self.look_at);
            moments.extend(self.time_up);
        }
        let now = Instant::now();
        let patience = moments.into_iter().min().map(|moment| moment.saturating_duration_since(now));
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        // An error is a signal that came; whatever woke the agent, it looks at everything.
        let _ = poll(&mut sources, patience.as_ref());
    }

    fn trace(&self, attempt: u32) -> Trace {
        let started = self.started.unwrap_or_else(now);
        Trace { attempt, pod_uid: self.signals.pod_uid().to_owned(), started }
    }

    /// The termination message of an attempt that is over.
    fn verdict(&self, attempt: u32, ending: Ending) -> String {
        let ran = ending.outcome != Outcome::NotStarted;
        let verdict = Verdict {
            attempt,
            pod_uid: self.signals.pod_uid().to_owned(),
            outcome: ending.outcome,
            exit_code: ending.exit.and_then(|exit| if let Exit::Code(code) = exit { Some(code) } else { None }),
            signal: ending.exit.and_then(|exit| if let Exit::Signal(signal) = exit { Some(signal) } else { None }),
            start: self.started.or_else(|| self.journal.started(attempt)).filter(|_| ran),
            // Nobody knows when a command ended whose agent died.
            end: ending.exit.map(|_| now()),
        };
        compose(&Report::Verdict(verdict), &self.tail)
    }

    fn write_message(&mut self, text: &str) {
        if let Err(error) = self.message.write(text) {
            say(&format!("cannot write the termination message: {error}"));
        }
    }

    fn clear_message(&mut self) {
        if let Err(error) = self.message.clear() {
            say(&format!("cannot empty the termination message: {error}"));
        }
    }

    /// Says a sentence in the log and in the report.
    fn note(&mut self, sentence: &str) {
        say(sentence);
        self.tail.say(&format!("migration-gate: {sentence}"));
    }
}

/// Whether there is something to read, now.
fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut ready = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut ready, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
