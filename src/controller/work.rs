//! The loop of the one that leads: takes a group that changed, decides, writes, and decides again until nothing is
//! left to do. Groups don't wait for each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::api_error::ApiFailure;
use crate::supervise::{Sentence, Shutdown};

use super::apply::{Outcomes, Writer};
use super::backoff::Target;
use super::decide::decide;
use super::decision::{Action, Rules, Settlement};
use super::live::Reader;
use super::pods::Pods;
use super::snapshot::{Live, Record, RecordView, Snapshot, Unreadable};
use super::tell::{Teller, Telling};
use super::turn::{Memory, Turn, Untold};
use super::watch::{Cache, Synced};

/// Groups that are worked on at once.
const GROUPS_AT_ONCE: usize = 64;
/// Decisions for one group before the others have their turn again.
const ROUNDS: usize = 32;

/// What works.
#[derive(Clone)]
pub struct Worker {
    /// What is known.
    pub cache: Arc<Cache>,
    /// The writer.
    pub writer: Writer,
    /// The reader.
    pub reader: Reader,
    /// Who tells what was recorded.
    pub teller: Teller,
    /// What the installation chose.
    pub rules: Rules,
}

/// How long somebody works.
#[derive(Clone)]
struct Reign {
    leading: watch::Receiver<bool>,
    shutdown: Shutdown,
}

impl Reign {
    fn is_over(&self) -> bool {
        !*self.leading.borrow() || self.shutdown.is_requested()
    }

    async fn end(&mut self) {
        tokio::select! {
            () = self.shutdown.requested() => {}
            // Whoever grants the lead is gone: nobody leads.
            _ = self.leading.wait_for(|leading| !*leading) => {}
        }
    }
}

impl Worker {
    /// Works as long as the lease is held.
    ///
    /// # Errors
    /// When a group's work panicked: a defect, after which nothing here is to be trusted.
    pub async fn run(
        self,
        synced: Synced,
        mut leading: watch::Receiver<bool>,
        shutdown: Shutdown,
    ) -> Result<(), Sentence> {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = synced.complete() => {}
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                led = leading.wait_for(|leading| *leading) => {
                    if led.is_err() {
                        return Ok(());
                    }
                }
            }
            // In this order: what changes in between is in one of the two.
            self.cache.queue.clear();
            let keys = self.cache.index().keys();
            info!(groups = keys.len(), "leading");
            self.cache.queue.add(keys);
            self.lead(Reign { leading: leading.clone(), shutdown: shutdown.clone() }).await?;
        }
    }

    async fn lead(&self, mut reign: Reign) -> Result<(), Sentence> {
        let places = Arc::new(Semaphore::new(GROUPS_AT_ONCE));
        let mut tasks: JoinSet<()> = JoinSet::new();
        loop {
            let place = tokio::select! {
                () = reign.end() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    ended.map_err(|error| Sentence(format!("the work on a group panicked: {error}")))?;
                    continue;
                }
                place = Arc::clone(&places).acquire_owned() => place,
            };
            // The semaphore is never closed.
            let Ok(place) = place else { break };
            let turn = tokio::select! {
                () = reign.end() => break,
                turn = self.cache.queue.next() => turn,
            };
            let (worker, reign) = (self.clone(), reign.clone());
            tasks.spawn(async move {
                let mut telling = Telling::default();
                worker.turn(turn, reign, &mut telling).await;
                drop(place);
                telling.finish().await;
            });
        }
        // What was begun is finished: a write that is under way is not lost, and it is safe beside another leader.
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Sentence(format!("the work on a group panicked: {error}")))?;
        }
        Ok(())
    }

    async fn turn(&self, mut turn: Turn, reign: Reign, telling: &mut Telling) {
        let again = self.group(&mut turn, reign, telling).await;
        self.cache.queue.done(turn, again);
    }

    /// Works on a group until nothing is left to do before something changes, or before the time that is returned.
    async fn group(&self, turn: &mut Turn, mut reign: Reign, telling: &mut Telling) -> Option<Instant> {
        if let Some(due) = turn.memory.backoffs.due(&Target::Rest, Instant::now()) {
            return Some(due);
        }
        let mut live = Live::default();
        let mut answered: Option<Target> = None;
        for _ in 0..ROUNDS {
            if reign.is_over() {
                return None;
            }
            let snapshot = self.cache.index().snapshot(&turn.key, std::mem::take(&mut live));
            let Some(mut snapshot) = snapshot else {
                turn.memory = Memory::default();
                return None;
            };
            let record = match &snapshot.record {
                RecordView::Present(record) => Some(Arc::clone(record)),
                _ => None,
            };
            if !matches!(snapshot.record, RecordView::Unreadable(_)) {
                turn.memory.complained = None;
            }
            self.tell_late(turn, &snapshot, telling);
            let mut decision = decide(&snapshot, self.rules, Timestamp::now());
            self.say_if_stuck(turn, decision.stuck.take());
            let backoffs = &mut turn.memory.backoffs;
            if let Some(target) = answered.take()
                && decision.actions.iter().any(|action| Target::of(action, record.as_deref()) == target)
            {
                backoffs.in_vain(&turn.key, target, Instant::now());
            }
            let wanted = !decision.actions.is_empty();
            let due = backoffs.sift(&mut decision.actions, record.as_deref(), Instant::now());
            if let [Action::Complain(unreadable)] = &decision.actions[..]
                && turn.memory.complained.as_ref() == Some(unreadable)
            {
                return None;
            }
            let mut actions = decision.actions;
            if actions.is_empty() {
                if !wanted {
                    turn.memory.backoffs.nothing_fails();
                }
                return due.into_iter().chain(decision.look_again_at.map(instant)).min();
            }
            debug!(namespace = turn.key.namespace, record = turn.key.name, ?actions, "decided");
            let journey = self.teller.journey(&snapshot, &actions);
            let passes = take_passes(&mut actions);
            if !passes.is_empty() {
                // From here on they alone hold on to pods: ten thousand are not kept twice until the last is open.
                snapshot.pods.clear();
            }
            let outcomes = self.writer.carry_out(turn, &actions).await;
            let went = self.take_note(turn, &snapshot, record.as_deref(), &actions, outcomes, telling);
            let shut = self.open(turn, passes, went.shut).await;
            self.teller.travelled(journey, went.recorded, &shut);
            let question = actions.iter().find(|action| matches!(action, Action::Look(..)));
            if let Some(question) = question {
                let target = Target::of(question, record.as_deref());
                tokio::select! {
                    // A read can be left alone at any time.
                    () = reign.end() => return None,
                    answer = self.look(turn, &snapshot, question, &target) => live = answer.unwrap_or_default(),
                }
                answered = Some(target).filter(|_| live.asked.is_some());
            }
        }
        // It may have much to do. If it never comes to rest, it must not keep the API server from doing so.
        warn!(
            namespace = turn.key.namespace,
            record = turn.key.name,
            rounds = ROUNDS,
            "the group does not come to rest"
        );
        turn.memory.backoffs.in_vain(&turn.key, Target::Rest, Instant::now());
        turn.memory.backoffs.due(&Target::Rest, Instant::now())
    }

    /// Takes note of how the writes went, and tells what was recorded.
    fn take_note(
        &self,
        turn: &mut Turn,
        snapshot: &Snapshot,
        record: Option<&Record>,
        actions: &[Action],
        outcomes: Outcomes,
        telling: &mut Telling,
    ) -> Went {
        let mut went = Went::default();
        let Turn { key, memory, .. } = turn;
        let writes = actions.iter().zip(outcomes).filter(|(action, _)| !matches!(action, Action::Look(..)));
        for (action, outcome) in writes {
            let target = Target::of(action, record);
            match outcome {
                Ok(()) => memory.backoffs.went_well(&target),
                Err(failure) => memory.backoffs.failed(key, target, action.version(), failure, Instant::now()),
            }
            match (action, outcome) {
                (Action::WriteStatus(at, after), outcome) if at.name == snapshot.name => {
                    let before = record.and_then(|record| record.status.clone()).unwrap_or_default();
                    match outcome {
                        Ok(()) => {
                            memory.untold = None;
                            self.teller.recorded(snapshot, &before, after, telling);
                            went.recorded = true;
                        }
                        Err(ApiFailure::Transient { .. } | ApiFailure::Unreadable) => {
                            memory.untold = Some(Untold { at: at.clone(), before, after: (**after).clone() });
                        }
                        Err(_) => {}
                    }
                }
                (Action::Complain(unreadable), Ok(())) => {
                    self.teller.unreadable(key, unreadable, telling);
                    memory.complained = Some(Unreadable::clone(unreadable));
                }
                (Action::Settle(_, Settlement { open: Some(fingerprint), .. }), Err(_)) => {
                    went.shut.insert(fingerprint.clone());
                }
                _ => {}
            }
        }
        went
    }

    /// A write of the status whose answer was lost may have been done all the same: what it recorded is told when it shows.
    fn tell_late(&self, turn: &mut Turn, snapshot: &Snapshot, telling: &mut Telling) {
        let Some(untold) = turn.memory.untold.take() else { return };
        let RecordView::Present(record) = &snapshot.record else { return };
        if record.at() == untold.at {
            turn.memory.untold = Some(untold);
        } else if record.uid == untold.at.uid && record.status.as_ref() == Some(&untold.after) {
            self.teller.recorded(snapshot, &untold.before, &untold.after, telling);
            let action = Action::WriteStatus(untold.at, Box::new(untold.after));
            let before = Record { status: Some(untold.before), ..(**record).clone() };
            let snapshot = Snapshot { record: RecordView::Present(Arc::new(before)), ..snapshot.clone() };
            self.teller.travelled(self.teller.journey(&snapshot, &[action]), true, &BTreeSet::new());
        }
    }

    /// Opens pods. Returns the migrations of which some stay shut.
    async fn open(&self, turn: &mut Turn, passes: Pods, mut shut: BTreeSet<String>) -> BTreeSet<String> {
        for (pod, failure) in self.writer.open(turn, passes).await {
            turn.memory.backoffs.failed(&turn.key, Target::pass(&pod), None, failure, Instant::now());
            shut.insert(pod.fingerprint.clone());
        }
        shut
    }

    async fn look(&self, turn: &mut Turn, snapshot: &Snapshot, action: &Action, target: &Target) -> Option<Live> {
        let Action::Look(question, active) = action else { return None };
        turn.memory.backoffs.asked(&turn.key, target.clone(), Instant::now());
        match self.reader.answer(snapshot, *question, active.as_deref()).await {
            Ok(answer) => Some(answer),
            Err(failed) => {
                let (namespace, record) = (&turn.key.namespace, &turn.key.name);
                warn!(namespace, record, failure = %failed.failure, error = failed.error, "a read failed");
                turn.memory.backoffs.failed(&turn.key, target.clone(), None, failed.failure, Instant::now());
                None
            }
        }
    }

    /// Says why a pod is held, where no record can say so: once, until that changes.
    fn say_if_stuck(&self, turn: &mut Turn, stuck: Option<String>) {
        if let Some(why) = stuck.as_ref().filter(|_| stuck != turn.memory.stuck) {
            let (namespace, record) = (&turn.key.namespace, &turn.key.name);
            warn!(namespace, record, why, "a pod is held until an operator decides, and no record can say so");
        }
        turn.memory.stuck = stuck;
    }
}

/// What came of some writes.
#[derive(Default)]
struct Went {
    /// The group's status was written.
    recorded: bool,
    /// The migrations of pods that were not opened.
    shut: BTreeSet<String>,
}

/// Takes the pods that are to be opened out of these actions.
fn take_passes(actions: &mut Vec<Action>) -> Pods {
    let opens = actions.extract_if(.., |action| matches!(action, Action::Open(_)));
    let pods = opens.filter_map(|action| match action {
        Action::Open(pods) => Some(pods),
        _ => None,
    });
    pods.flat_map(Pods::into_shared).collect()
}

/// When it will be this time, by the clock that timers go by.
fn instant(at: Timestamp) -> Instant {
    Instant::now() + Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}
