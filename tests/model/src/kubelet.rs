//! What happens on a machine: the kubelet's part, and the real agent in its container.

use migration_gate::agent::attempt::{Ending, Exit as CommandExit, Plan};
use migration_gate::agent::journal::{Entry, JournalView};
use migration_gate::agent::machine::{Action, Agent, Input};
use migration_gate::agent::signal::{News, Order, Run};
use migration_gate::contract::Outcome;
use migration_gate::controller::snapshot::PodPhase;

use crate::config::Config;
use crate::intern::Id;
use crate::mutants::Mutant;
use crate::view;
use crate::world::{Broken, Command, Container, Exit, Local, Machine, Pod, Process, Said, Signal, State, Stop, Waits};

/// One pod on its machine, while something happens to it.
pub struct Site<'a> {
    config: &'a Config,
    state: &'a mut State,
    slot: usize,
    local: Local,
}

impl<'a> Site<'a> {
    /// The pod in this slot.
    pub fn new(config: &'a Config, state: &'a mut State, slot: usize) -> Site<'a> {
        let local = state.locals[slot].get().clone();
        Site { config, state, slot, local }
    }

    /// Puts the pod back.
    pub fn leave(self) {
        self.state.locals[self.slot] = Id::of(self.local);
    }

    /// The container is started.
    pub fn start(&mut self) {
        if let Container::Exited(exit) = self.local.container {
            self.local.before = Some(exit);
        }
        self.local.container = Container::Running;
        self.local.message = Said::Nothing;
        let (journal, news) = match self.config.mutant {
            Some(Mutant::ObeyAtStart) => (&self.local.journal, News { order: Order::None, ..self.local.news }),
            Some(Mutant::JournalIgnored) => (&JournalView::EMPTY, self.local.news),
            _ => (&self.local.journal, self.local.news),
        };
        let (agent, action) = Agent::start(Plan::Command, journal, news);
        let mut process = Process { agent, doing: None, waits: Waits::News, asked: false, command: None };
        self.absorb(&mut process, (agent, action));
        self.local.process = Some(process);
        if self.config.mutant == Some(Mutant::ObeyAtStart) {
            self.hear(Input::Seen(self.local.news));
        }
    }

    /// The volume shows what the pod's annotations say.
    pub fn sync(&mut self) {
        let news = self.state.pod(self.slot).map_or(News::NONE, |pod| news_of(&pod));
        self.local.news = news;
        self.hear(Input::Seen(news));
    }

    /// The volume shows an old value.
    pub fn rewind(&mut self, order: Order) {
        self.local.news = News { order, opened: false };
        self.local.rewound = true;
        self.hear(Input::Seen(self.local.news));
    }

    /// The emptyDir is empty.
    pub fn empty(&mut self) {
        self.local.journal = JournalView::EMPTY;
        self.local.emptied = true;
        self.local.forgetful = true;
        self.lose_sight();
    }

    /// The machine starts. Its kubelet knows no pod but from the API server.
    pub fn boot(&mut self) {
        self.forget();
        self.local.news = self.state.pod(self.slot).map_or(News::NONE, |pod| news_of(&pod));
    }

    /// A waiting agent hears something.
    pub fn hear(&mut self, input: Input) {
        let Some(mut process) = self.local.process else { return };
        let answer = process.agent.on(input);
        self.absorb(&mut process, answer);
        self.local.process = Some(process);
    }

    /// The agent does what it is about to do.
    pub fn step(&mut self, disk_full: bool) {
        let Some(mut process) = self.local.process else { return };
        let Some(action) = process.doing.take() else { return };
        let mutant = self.config.mutant;
        let input = match action {
            Action::WriteStarted(attempt) if mutant == Some(Mutant::JournalAfterExec) => {
                if process.command.is_some() {
                    self.journal(attempt, Entry::Started);
                    self.local.process = Some(process);
                    return;
                }
                Input::Synced
            }
            Action::WriteStarted(attempt) => {
                if disk_full || self.local.journal.find(attempt).is_some() {
                    Input::NotSynced
                } else {
                    self.journal(attempt, Entry::Started);
                    Input::Synced
                }
            }
            Action::WriteTrace(attempt) => {
                self.local.message = Said::Trace(small(attempt));
                Input::Written
            }
            Action::Spawn(run, _) => {
                self.execute(&mut process, run);
                self.local.process = Some(process);
                return;
            }
            Action::WriteOutcome(attempt, ending) => {
                let verdict = Said::Verdict(small(attempt), self.outcome(ending));
                if mutant == Some(Mutant::MessageBeforeJournal) && self.local.message != verdict {
                    self.local.message = verdict;
                    process.doing = Some(action);
                    self.local.process = Some(process);
                    return;
                }
                if disk_full {
                    self.local.forgetful = true;
                    Input::NotSynced
                } else {
                    self.journal(attempt, Entry::Ended(ending));
                    Input::Synced
                }
            }
            Action::WriteMessage(attempt, ending) => {
                self.local.message = Said::Verdict(small(attempt), self.outcome(ending));
                Input::Written
            }
            Action::Exit(code) => {
                self.end(code == 0);
                return;
            }
            Action::Continue
            | Action::Wait
            | Action::Await
            | Action::LookAgain
            | Action::Forward
            | Action::End
            | Action::Linger => return,
        };
        let answer = process.agent.on(input);
        self.absorb(&mut process, answer);
        self.local.process = Some(process);
    }

    /// The command ends with this exit code.
    pub fn command_ends(&mut self, code: i32) {
        let Some(mut process) = self.local.process else { return };
        let Some(command) = process.command.take() else { return };
        if code == 0 && command.stop == Stop::No {
            self.state.ghost.true_success |= self.bit();
        }
        self.local.process = Some(process);
        self.state.ghost.beyond &= !(1 << self.slot);
        self.hear(Input::CommandEnded(CommandExit::Code(code)));
    }

    /// The kubelet asks the agent to stop, because the pod goes.
    pub fn ask_to_stop(&mut self) {
        self.local.leaving = true;
        if let Some(process) = &mut self.local.process {
            process.asked = true;
        }
        self.hear(Input::StopRequested);
        self.lose_sight();
    }

    /// The container is killed.
    pub fn kill(&mut self) {
        self.state.ghost.beyond &= !(1 << self.slot);
        if self.local.process.take().is_some() {
            let said = self.local.message;
            self.local.container = Container::Exited(Exit { real: true, zero: false, said });
        }
    }

    /// Every process of the pod is gone, and the runtime remembers nothing of it.
    pub fn forget(&mut self) {
        self.state.ghost.beyond &= !(1 << self.slot);
        self.local.process = None;
        self.local.container = Container::Waiting;
        self.local.before = None;
        self.local.message = Said::Nothing;
        self.local.app = false;
    }

    /// The kubelet makes up an exit code, and goes on with what follows the init containers.
    pub fn synthesise(&mut self) {
        self.forget();
        self.local.container = Container::Exited(Exit { real: false, zero: true, said: Said::Nothing });
        // The kubelet is mistaken here, not the agent: the gate is what holds then.
        self.local.app = true;
    }

    /// The pod's status is reported; for one that ended, that the kubelet is done with it.
    pub fn publish(&mut self) {
        let Some(before) = self.state.pod(self.slot) else { return };
        self.state.set_pod(self.slot, self.reported(before));
        self.lose_sight();
        // A report on an attempt that was settled before comes too late: the evidence for that was something else.
        let Signal::Run(signalled, _) = before.signal else { return };
        if succeeded(self.local.container, self.local.before).any(|attempt| attempt == signalled) {
            self.state.ghost.reported |= self.bit();
        }
    }

    /// Where no container is left that said so, and the journal is lost or no agent will read it out any more, because the
    /// pod goes, or was fenced off before anybody read it, nobody can know of a success.
    pub fn lose_sight(&mut self) {
        let written = matches!(self.local.message, Said::Verdict(_, Outcome::Succeeded));
        let known = succeeded(self.local.container, self.local.before).next().is_some();
        let shown = self.state.pod(self.slot).is_some_and(|pod| succeeded(pod.agent, pod.before).next().is_some());
        let marked = self.config.fences()
            && self.state.pod(self.slot).is_some_and(|pod| matches!(pod.signal, Signal::Settled(_)));
        if (self.local.forgetful || self.local.leaving || marked) && !written && !known && !shown {
            self.state.ghost.reported &= !self.bit();
        }
    }

    /// The pod as its kubelet would have it reported.
    pub fn reported(&self, mut pod: Pod) -> Pod {
        let ended = self.local.leaving && self.local.process.is_none();
        pod.agent = match self.local.container {
            // What is reported of an init container that ended stays, even if the runtime forgot it (kubelet,
            // convertToAPIContainerStatuses).
            Container::Waiting if ended && matches!(pod.agent, Container::Exited(_)) => pod.agent,
            // A container that was never started is reported as ended all the same, without an ID.
            Container::Waiting if ended => Container::Exited(Exit { real: false, zero: false, said: Said::Nothing }),
            other => other,
        };
        pod.before = self.local.before;
        pod.phase = match pod.phase {
            PodPhase::Ended | PodPhase::Collected => pod.phase,
            _ if ended => PodPhase::Ended,
            _ if self.local.app => PodPhase::Running,
            _ => PodPhase::Pending,
        };
        pod.confirmed |= ended && pod.deleting;
        pod
    }

    fn absorb(&mut self, process: &mut Process, (agent, action): (Agent, Action)) {
        process.agent = agent;
        match action {
            Action::Continue => {}
            Action::Wait => {
                self.local.message = Said::Nothing;
                process.waits = Waits::News;
            }
            Action::Await => {
                self.local.message = Said::Nothing;
                process.waits = Waits::Targets;
            }
            // Looking takes no time, and changes nothing that a kill could leave behind.
            Action::LookAgain => {
                let answer = process.agent.on(Input::Seen(self.local.news));
                self.absorb(process, answer);
            }
            Action::Linger => process.waits = Waits::Patience,
            Action::Forward => {
                let running = process.command.iter_mut().filter(|command| command.stop == Stop::No);
                running.for_each(|command| command.stop = Stop::Asked);
            }
            Action::End => process.command.iter_mut().for_each(|command| command.stop = Stop::Due),
            other => process.doing = Some(other),
        }
    }

    fn execute(&mut self, process: &mut Process, run: Run) {
        let attempt = small(run.attempt);
        let (slot, bit) = (self.slot, self.bit());
        // An attempt that was wrongly given up may still begin where nothing can reach its agent.
        let active = self.is_active(run.attempt);
        let stray = !active && self.state.ghost.misjudged & (1 << slot) != 0;
        let clash = self.state.runners().any(|other| self.config.excludes(self.state, slot, other));
        if clash {
            self.state.ghost.blame(Broken::TwoRunners);
        }
        let ghost = &mut self.state.ghost;
        if ghost.executed[slot] & (1 << attempt) != 0 {
            ghost.blame(Broken::RanTwice);
        }
        // A number is given once in the life of a record.
        let (locals, group) = (&self.state.locals, self.local.group);
        let elsewhere = ghost
            .executed
            .iter()
            .enumerate()
            .any(|(other, bits)| other != slot && locals[other].get().group == group && bits & (1 << attempt) != 0);
        if elsewhere && ghost.lost == 0 {
            ghost.blame(Broken::RanTwice);
        }
        // Who is wrong about an attempt may have it marked before its success is read.
        if ghost.reported & bit != 0 && ghost.lost == 0 && ghost.stripped == 0 && ghost.misjudged == 0 {
            ghost.blame(Broken::LostSuccess);
        }
        ghost.executed[slot] |= 1 << attempt;
        if self.is_given_up() && !stray {
            self.state.ghost.blame(Broken::TooManyAttempts);
        }
        if !active && !stray && self.state.ghost.lost == 0 {
            self.state.ghost.blame(Broken::FalseEnd);
        }
        if self.config.suspended && self.state.ghost.approved & bit == 0 {
            self.state.ghost.blame(Broken::Unapproved);
        }
        if self.config.limited && run.timeout_seconds.is_none() {
            self.state.ghost.blame(Broken::Unlimited);
        }
        process.command = Some(Command { attempt, stop: Stop::No });
        process.waits = Waits::Command;
        if self.config.mutant == Some(Mutant::JournalAfterExec) {
            process.doing = Some(Action::WriteStarted(run.attempt));
        }
    }

    fn is_given_up(&self) -> bool {
        let fingerprint = crate::view::fingerprint(self.local.fingerprint);
        let status = self.state.status(self.local.group.into());
        let migration = status.and_then(|status| status.migration(&fingerprint));
        migration.is_some_and(|migration| migration.failures >= self.config.backoff_limit)
    }

    /// The record says that this attempt is active, in this pod.
    fn is_active(&self, attempt: u32) -> bool {
        let active = self.state.status(self.local.group.into()).and_then(|status| status.active.as_ref());
        active.is_some_and(|active| {
            active.attempt == attempt && usize::from(crate::view::slot_of(&active.pod_name)) == self.slot
        })
    }

    fn journal(&mut self, attempt: u32, entry: Entry) {
        if let JournalView::Known(entries) = &mut self.local.journal {
            entries.insert(attempt, entry);
        }
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        let trapped = ending.outcome == Outcome::Interrupted && ending.exit == Some(CommandExit::Code(0));
        match self.config.mutant {
            Some(Mutant::TrapSucceeds) if trapped => Outcome::Succeeded,
            _ => ending.outcome,
        }
    }

    fn end(&mut self, zero: bool) {
        self.local.process = None;
        let said = self.local.message;
        self.local.container = Container::Exited(Exit { real: true, zero, said });
        if zero && !self.local.leaving {
            self.local.app = true;
            if (self.state.ghost.true_success | self.state.ghost.recorded) & self.bit() == 0 {
                self.state.ghost.blame(Broken::EarlyStart);
            }
        }
    }

    fn bit(&self) -> u8 {
        // A pod's migration never changes, and a pod that is gone ran none but its own.
        1 << self.local.fingerprint
    }
}

/// The attempts that these containers said to have succeeded.
fn succeeded(now: Container, before: Option<Exit>) -> impl Iterator<Item = u8> {
    let now = match now {
        Container::Exited(exit) => Some(exit),
        _ => None,
    };
    now.into_iter().chain(before).filter_map(|exit| match exit.said {
        Said::Verdict(attempt, Outcome::Succeeded) => Some(attempt),
        _ => None,
    })
}

/// The signal volume of a pod with these annotations.
pub fn news_of(pod: &Pod) -> News {
    let order = match pod.signal {
        Signal::None => Order::None,
        Signal::Run(attempt, limited) => {
            Order::Run(Run { attempt: attempt.into(), timeout_seconds: limited.then_some(view::TIME_LIMIT) })
        }
        Signal::Settled(attempt) => Order::Settled(attempt.into()),
    };
    News { order, opened: pod.passed }
}

/// Whether the machine's kubelet can reach the API server.
pub fn is_reachable(machine: Machine) -> bool {
    machine == Machine::On
}

fn small(number: u32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
