//! An agent's process: the real state machine of the agent, and around it what its container and its disk would do.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use migration_gate_agent::attempt::{Ending, Exit, Plan};
use migration_gate_agent::journal::{Entry, JournalView};
use migration_gate_agent::machine::{Action, Agent, Input, LINGER};
use migration_gate_agent::report::{Tail, compose};
use migration_gate_agent::signal::News;
use migration_gate_contract::ending::GRACE;
use migration_gate_contract::{Outcome, Report, Trace, Verdict};

use super::command::{Command, Over};
use crate::script::Fate;
use crate::witness::Truth;

/// The emptyDir of a pod, as far as the agent has written there. It outlives containers.
#[derive(Debug)]
pub struct Disk {
    view: JournalView,
    messages: HashMap<u32, String>,
    started: HashMap<u32, i64>,
}

impl Disk {
    /// An empty one.
    #[must_use]
    pub fn empty() -> Disk {
        Disk { view: JournalView::EMPTY, messages: HashMap::new(), started: HashMap::new() }
    }

    fn write(&mut self, attempt: u32, entry: Entry) {
        if let JournalView::Known(entries) = &mut self.view {
            entries.insert(attempt, entry);
        }
    }
}

/// What the process needs from where it runs.
pub trait Site {
    /// A command of this attempt is started; how it will go, and a line that only this run writes.
    fn begin(&mut self, attempt: u32) -> (Fate, String);
    /// It ended.
    fn end(&mut self, truth: Truth);
}

/// An agent that runs.
#[derive(Debug)]
pub struct Process {
    pod_uid: String,
    agent: Agent,
    /// What its signal volume shows.
    news: News,
    message: String,
    tail: Tail,
    command: Option<Command>,
    started: Option<i64>,
    answer: Option<String>,
    time_up: Option<Instant>,
    linger_until: Option<Instant>,
    /// How the container is over, once it is.
    pub over: Option<ContainerEnd>,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerEnd {
    /// The agent exited with this code.
    Exited(u8),
    /// It was killed; whether the runtime forgot that there was one.
    Killed {
        /// It did.
        forgotten: bool,
    },
}

impl Process {
    /// Starts one that finds this on its disk and in its signal volume.
    pub fn start(pod_uid: &str, disk: &mut Disk, news: News, site: &mut impl Site) -> Process {
        let (agent, action) = Agent::start(Plan::Command, &disk.view, news);
        let mut process = Process {
            pod_uid: pod_uid.to_owned(),
            agent,
            news,
            message: String::new(),
            tail: Tail::default(),
            command: None,
            started: None,
            answer: None,
            time_up: None,
            linger_until: None,
            over: None,
        };
        process.act(action, disk, site);
        process
    }

    /// The termination message as it is.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// It hears something.
    pub fn hear(&mut self, input: Input, disk: &mut Disk, site: &mut impl Site) {
        if self.over.is_none() {
            if let Input::Seen(news) = input {
                self.news = news;
            }
            let (agent, action) = self.agent.on(input);
            self.agent = agent;
            self.act(action, disk, site);
        }
    }

    /// Its container is killed.
    pub fn kill(&mut self, forgotten: bool, site: &mut impl Site) {
        if self.over.is_none() {
            self.over = Some(ContainerEnd::Killed { forgotten });
            if self.command.take().is_some() {
                site.end(Truth::Killed);
            }
        }
    }

    /// When something happens in it by itself.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        let command = self.command.as_ref().and_then(Command::over_at);
        [command, self.time_up, self.linger_until].into_iter().flatten().min()
    }

    /// Lets what is due happen.
    pub fn turn(&mut self, now: Instant, disk: &mut Disk, site: &mut impl Site) {
        if let Some(over) = self.command.as_ref().and_then(|command| command.over(now)) {
            match over {
                Over::ContainerKilled { forgotten } => self.kill(forgotten, site),
                Over::Ended(exit, truth) => {
                    self.command = None;
                    self.time_up = None;
                    site.end(truth);
                    self.hear(Input::CommandEnded(exit), disk, site);
                }
            }
            return;
        }
        if self.time_up.take_if(|at| *at <= now).is_some() {
            self.hear(Input::TimeUp, disk, site);
        }
        if self.linger_until.take_if(|at| *at <= now).is_some() {
            self.hear(Input::LingerOver, disk, site);
        }
    }

    fn act(&mut self, mut action: Action, disk: &mut Disk, site: &mut impl Site) {
        loop {
            let input = match action {
                Action::Continue => return,
                Action::Wait => {
                    self.message.clear();
                    return;
                }
                Action::Await => {
                    self.message.clear();
                    Input::TargetsReached
                }
                Action::WriteStarted(attempt) => self.write_started(attempt, disk),
                Action::WriteTrace(attempt) => {
                    let started = self.started.unwrap_or_else(milliseconds);
                    let trace = Trace { attempt, pod_uid: self.pod_uid.clone(), started };
                    self.message = compose(&Report::Trace(trace), &Tail::default());
                    Input::Written
                }
                Action::LookAgain => Input::Seen(self.news),
                Action::Spawn(run, _) => {
                    let (fate, mark) = site.begin(run.attempt);
                    self.tail.say(&mark);
                    let now = Instant::now();
                    self.time_up = run.timeout_seconds.map(|seconds| now + Duration::from_secs(seconds));
                    self.command = Some(Command::start(fate, now));
                    return;
                }
                Action::Forward => return self.ask(None),
                Action::End => return self.ask(Some(GRACE)),
                Action::WriteOutcome(attempt, ending) => {
                    let text = self.verdict(attempt, ending, disk);
                    disk.write(attempt, Entry::Ended(ending));
                    disk.messages.insert(attempt, text.clone());
                    self.answer = Some(text);
                    Input::Synced
                }
                Action::WriteMessage(attempt, ending) => {
                    let known = self.answer.take().or_else(|| disk.messages.get(&attempt).cloned());
                    self.message = known.unwrap_or_else(|| self.verdict(attempt, ending, disk));
                    Input::Written
                }
                Action::Linger => {
                    self.linger_until = Some(Instant::now() + LINGER);
                    return;
                }
                Action::Exit(code) => {
                    self.over = Some(ContainerEnd::Exited(code));
                    return;
                }
            };
            (self.agent, action) = self.agent.on(input);
        }
    }

    fn ask(&mut self, grace: Option<Duration>) {
        if let Some(command) = &mut self.command {
            command.ask(grace, Instant::now());
        }
    }

    fn write_started(&mut self, attempt: u32, disk: &mut Disk) -> Input {
        // Of two agents on one disk only one can start an attempt.
        if disk.view.find(attempt).is_some() {
            return Input::NotSynced;
        }
        let now = milliseconds();
        self.started = Some(now);
        disk.write(attempt, Entry::Started);
        disk.started.insert(attempt, now);
        Input::Synced
    }

    /// The termination message of an attempt that is over.
    fn verdict(&self, attempt: u32, ending: Ending, disk: &Disk) -> String {
        let (code, signal) = match ending.exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        let ran = ending.outcome != Outcome::NotStarted;
        let verdict = Verdict {
            attempt,
            pod_uid: self.pod_uid.clone(),
            outcome: ending.outcome,
            exit_code: code,
            signal,
            start: self.started.or_else(|| disk.started.get(&attempt).copied()).filter(|_| ran),
            end: ending.exit.map(|_| milliseconds()),
        };
        compose(&Report::Verdict(verdict), &self.tail)
    }
}

/// Milliseconds since 1970.
fn milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use migration_gate_agent::signal::{Order, Run};

    use super::*;
    use crate::script::End;

    struct Here(Fate, Vec<String>);

    impl Site for Here {
        fn begin(&mut self, attempt: u32) -> (Fate, String) {
            self.1.push(format!("begin {attempt}"));
            (self.0, format!("line of {attempt}"))
        }

        fn end(&mut self, truth: Truth) {
            self.1.push(format!("{truth:?}"));
        }
    }

    fn run(attempt: u32) -> News {
        News { order: Order::Run(Run { attempt, timeout_seconds: None }), opened: false }
    }

    #[test]
    fn an_attempt_that_is_ordered_runs_and_reports() {
        let mut here = Here(Fate::new(End::Succeeds, Duration::ZERO), Vec::new());
        let mut disk = Disk::empty();
        let mut process = Process::start("u", &mut disk, News::NONE, &mut here);
        process.hear(Input::Seen(run(3)), &mut disk, &mut here);
        process.turn(Instant::now(), &mut disk, &mut here);
        assert_eq!(process.over, Some(ContainerEnd::Exited(0)));
        assert_eq!(here.1, ["begin 3", "Succeeded"]);
        let report = Report::parse(process.message());
        assert!(matches!(report, Some(Report::Verdict(v)) if v.outcome == Outcome::Succeeded && v.attempt == 3));
        assert!(process.message().contains("line of 3"));
    }

    #[test]
    fn an_order_that_was_there_at_the_start_is_answered_and_not_obeyed() {
        let mut here = Here(Fate::new(End::Succeeds, Duration::ZERO), Vec::new());
        let process = Process::start("u", &mut Disk::empty(), run(3), &mut here);
        assert_eq!((process.over, here.1.len()), (Some(ContainerEnd::Exited(75)), 0));
    }

    #[test]
    fn an_agent_that_is_killed_leaves_a_trace_and_the_next_one_repeats_it() {
        let mut here = Here(Fate::new(End::Hangs, Duration::ZERO), Vec::new());
        let mut disk = Disk::empty();
        let mut process = Process::start("u", &mut disk, News::NONE, &mut here);
        process.hear(Input::Seen(run(3)), &mut disk, &mut here);
        process.kill(false, &mut here);
        assert!(matches!(Report::parse(process.message()), Some(Report::Trace(trace)) if trace.attempt == 3));
        let next = Process::start("u", &mut disk, run(3), &mut here);
        let report = Report::parse(next.message());
        assert!(matches!(report, Some(Report::Verdict(v)) if v.outcome == Outcome::Interrupted), "it lingers over it");
        assert_eq!(here.1, ["begin 3", "Killed"]);
    }
}
