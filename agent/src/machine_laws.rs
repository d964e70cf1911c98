//! Laws of the [machine](super::machine) over every life of a pod: processes start and are killed between any action and
//! its answer, signals appear, are settled and are shown late, old or in time, and the journal fails or is lost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::attempt::{Ending, Exit, Plan, Step};
use crate::journal::{Entry, JournalView};
use crate::machine::{Action, Agent, Input};
use crate::signal::{News, Order, Run};
use migration_gate_contract::Outcome;

/// What may happen to a pod and its agent.
#[derive(Clone, Debug)]
enum Event {
    /// The controller orders the next attempt.
    Elect,
    /// The controller puts the mark for the latest attempt.
    Settle,
    /// The controller opens the pod.
    Open,
    /// The kubelet shows the present annotations.
    Refresh,
    /// A restarted kubelet shows one of the earlier values.
    ShowOld(usize),
    /// The container starts, if it doesn't run.
    Start,
    /// The container is killed, with whatever runs in it.
    Kill,
    /// The emptyDir is emptied.
    LoseJournal,
    /// The present action is done, well or badly.
    Answer(Reply),
    /// Something comes in that is no answer.
    Disturb(Input),
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Good,
    /// Not written at all.
    Bad,
    /// Written, but not known to be on the disk.
    Unsure,
}

/// The event that a number stands for: some are more frequent than others. (A strategy for each event would say the same
/// at several times the cost.)
fn event(number: u16) -> Event {
    match number % 37 {
        0..=5 => Event::Refresh,
        6..=9 => Event::Start,
        10..=21 => Event::Answer(Reply::Good),
        22 => Event::Answer(Reply::Bad),
        23 => Event::Answer(Reply::Unsure),
        24..=26 => Event::Elect,
        27..=28 => Event::Settle,
        29 => Event::Open,
        30 => Event::ShowOld(usize::from(number / 37)),
        31..=32 => Event::Kill,
        33 => Event::LoseJournal,
        34 => Event::Disturb(Input::StopRequested),
        35 => Event::Disturb(Input::TimeUp),
        _ => Event::Disturb(Input::LingerOver),
    }
}

/// Which faults a law has to bear besides kills at any moment.
#[derive(Clone, Copy, PartialEq)]
enum Faults {
    /// The kubelet shows old values.
    OldValues,
    /// The emptyDir is lost.
    LostJournal,
}

#[derive(Default)]
struct Pod {
    plan: Option<Plan>,
    attempt: u32,
    settled: bool,
    opened: bool,
    /// Every value that the annotations had.
    values: Vec<News>,
    shown: usize,
    journal: BTreeMap<u32, Entry>,
    agent: Option<(Agent, Action)>,
    /// The order that was there when this process started.
    at_start: Option<u32>,
    passed: bool,
    message: Option<Message>,
    spawned: BTreeMap<u32, u32>,
    /// Attempts whose start was ever in the journal.
    journalled: Vec<u32>,
    /// Attempts of which the journal may not hold all that was to be written: a write failed, or it was lost.
    unsure: Vec<u32>,
    /// The answers that the journal holds, unless it was lost since.
    answered: BTreeMap<u32, Ending>,
    /// Whether this process was asked to stop while its command ran.
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Message {
    Trace(u32),
    Verdict(u32, Ending),
}

impl Pod {
    fn new(plan: Plan) -> Pod {
        Pod { plan: Some(plan), settled: true, values: vec![News::NONE], ..Pod::default() }
    }

    fn publish(&mut self) {
        let order = match (self.attempt, self.settled) {
            (0, _) => Order::None,
            (attempt, true) => Order::Settled(attempt),
            (attempt, false) => Order::Run(Run { attempt, timeout_seconds: None }),
        };
        self.values.push(News { order, opened: self.opened });
    }

    fn happen(&mut self, event: Event, faults: Faults) {
        match event {
            Event::Elect if self.settled => {
                (self.attempt, self.settled) = (self.attempt + 1, false);
                self.publish();
            }
            Event::Settle => {
                self.settled = true;
                self.publish();
            }
            Event::Open => {
                self.opened = true;
                self.publish();
            }
            Event::Refresh => self.show(self.values.len() - 1),
            Event::ShowOld(which) if faults == Faults::OldValues => self.show(which % self.values.len()),
            Event::LoseJournal if faults == Faults::LostJournal => {
                self.unsure.extend(self.journal.keys());
                self.unsure.push(self.attempt);
                self.journal.clear();
            }
            Event::Kill => self.agent = None,
            Event::Start if self.agent.is_none() => {
                let news = self.values[self.shown];
                self.at_start = match news.order {
                    Order::Run(run) => Some(run.attempt),
                    _ => None,
                };
                self.passed = news.opened;
                (self.message, self.stopped) = (None, false);
                let journal = JournalView::Known(self.journal.clone());
                self.take(Agent::start(self.plan.expect("set by new"), &journal, news));
            }
            Event::Answer(reply) => {
                if let Some(input) = self.agent.and_then(|(_, action)| self.answer(action, reply)) {
                    self.hear(input);
                }
            }
            Event::Disturb(input) => self.hear(input),
            _ => {}
        }
    }

    fn show(&mut self, value: usize) {
        self.shown = value;
        self.hear(Input::Seen(self.values[value]));
    }

    fn hear(&mut self, input: Input) {
        let Some((agent, doing)) = self.agent else { return };
        // Writing is done at once: nothing else is heard before its answer.
        let writing = matches!(
            doing,
            Action::WriteStarted(_) | Action::WriteTrace(_) | Action::WriteOutcome(..) | Action::WriteMessage(..)
        );
        if writing && !matches!(input, Input::Synced | Input::NotSynced | Input::Written) {
            return;
        }
        match input {
            Input::Seen(news) => self.passed |= news.opened,
            Input::StopRequested => self.stopped |= matches!(doing, Action::Spawn(..) | Action::Forward | Action::End),
            _ => {}
        }
        match agent.on(input) {
            (next, Action::Continue) => self.agent = Some((next, doing)),
            next => self.take(next),
        }
    }

    fn take(&mut self, (agent, action): (Agent, Action)) {
        self.agent = Some((agent, action));
        match action {
            Action::Spawn(run, step) => self.spawn(run.attempt, step),
            Action::Wait | Action::Await => self.message = None,
            Action::Exit(code) => {
                self.agent = None;
                let succeeded = matches!(self.message, Some(Message::Verdict(_, ending)) if ending.code() == 0);
                let sound = if code == 0 { succeeded || self.passed } else { !succeeded };
                assert!(sound, "exit code {code} with {:?}", self.message);
            }
            _ => {}
        }
    }

    fn spawn(&mut self, attempt: u32, step: Step) {
        assert!(!self.values[self.shown].order.ends(attempt), "attempt {attempt} is shown to be over");
        assert_ne!(self.at_start, Some(attempt), "its signal was there at the start");
        assert_eq!(self.message, Some(Message::Trace(attempt)), "the trace is in the message first");
        assert!(!self.answered.contains_key(&attempt), "attempt {attempt} was answered already");
        if step == Step::Command {
            assert!(self.journalled.contains(&attempt), "started is in the journal first");
            let times = self.spawned.entry(attempt).or_default();
            *times += 1;
            assert_eq!(*times, 1, "attempt {attempt} ran more than once");
        }
    }

    /// Does what the agent is at, and says how it went.
    fn answer(&mut self, action: Action, reply: Reply) -> Option<Input> {
        if let (Reply::Bad | Reply::Unsure, Action::WriteOutcome(attempt, _)) = (reply, action) {
            self.unsure.push(attempt);
        }
        let synced = if matches!(reply, Reply::Good) { Input::Synced } else { Input::NotSynced };
        match action {
            Action::Await => Some(Input::TargetsReached),
            Action::LookAgain => Some(match reply {
                Reply::Good => Input::Seen(self.values[self.shown]),
                Reply::Bad => Input::StopRequested,
                Reply::Unsure => Input::TimeUp,
            }),
            Action::WriteStarted(attempt) if self.journal.contains_key(&attempt) => Some(Input::NotSynced),
            Action::WriteStarted(attempt) => {
                if !matches!(reply, Reply::Bad) {
                    self.journal.insert(attempt, Entry::Started);
                    self.journalled.push(attempt);
                }
                Some(synced)
            }
            Action::WriteOutcome(attempt, ending) => {
                if !matches!(reply, Reply::Bad) {
                    self.journal.insert(attempt, Entry::Ended(ending));
                }
                Some(synced)
            }
            Action::WriteTrace(attempt) => {
                self.message = Some(Message::Trace(attempt));
                Some(Input::Written)
            }
            Action::WriteMessage(attempt, ending) => {
                self.message = Some(Message::Verdict(attempt, ending));
                if !self.unsure.contains(&attempt) {
                    let known = self.journal.get(&attempt).copied();
                    assert_eq!(known, Some(Entry::Ended(ending)), "the outcome is in the journal first");
                    let first = *self.answered.entry(attempt).or_insert(ending);
                    assert_eq!(ending, first, "an answer never changes");
                    if ending.outcome == Outcome::NotStarted {
                        assert!(!self.spawned.contains_key(&attempt), "attempt {attempt} had run");
                    }
                }
                if ending.outcome == Outcome::Succeeded {
                    assert!(self.spawned.contains_key(&attempt), "attempt {attempt} succeeded without having run");
                    assert!(!self.stopped, "attempt {attempt} succeeded although it was asked to stop");
                }
                Some(Input::Written)
            }
            Action::Spawn(..) | Action::Forward | Action::End => Some(Input::CommandEnded(match reply {
                Reply::Good => Exit::Code(0),
                Reply::Bad => Exit::Code(1),
                Reply::Unsure => Exit::Signal(9),
            })),
            Action::Linger => Some(Input::LingerOver),
            _ => None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_its_journal_no_attempt_runs_twice_even_if_old_values_show(
        events in prop::collection::vec(any::<u16>(), 0..120), verify in any::<bool>(),
    ) {
        let mut pod = Pod::new(if verify { Plan::CommandAndVerify } else { Plan::Command });
        events.into_iter().map(event).for_each(|event| pod.happen(event, Faults::OldValues));
    }

    #[test]
    fn without_its_journal_no_attempt_runs_twice_while_values_are_shown_in_order(
        events in prop::collection::vec(any::<u16>(), 0..120), verify in any::<bool>(),
    ) {
        let mut pod = Pod::new(if verify { Plan::CommandAndVerify } else { Plan::Command });
        events.into_iter().map(event).for_each(|event| pod.happen(event, Faults::LostJournal));
    }

    #[test]
    fn left_alone_an_agent_answers_every_new_order_and_exits(attempt in 1u32.., reply_well in any::<bool>()) {
        let mut pod = Pod::new(Plan::Command);
        pod.happen(Event::Start, Faults::OldValues);
        (pod.attempt, pod.settled) = (attempt, false);
        pod.publish();
        pod.happen(Event::Refresh, Faults::OldValues);
        for _ in 0..8 {
            pod.happen(Event::Answer(if reply_well { Reply::Good } else { Reply::Bad }), Faults::OldValues);
        }
        prop_assert!(pod.agent.is_none(), "it still runs");
        prop_assert!(matches!(pod.message, Some(Message::Verdict(told, _)) if told == attempt));
    }
}
