//! What is to be done for one group: a pure function from what is known to what is to be written.
//!
//! Each write moves the group one step, and every step is decided from what was read, never from what an earlier step
//! meant to do. So a controller that crashes between any two writes, or another one that takes over, goes on from
//! where the record and the pods are, by the same rules. A decision that is made again from its own result asks for
//! nothing more.
//!
//! Two things make a late or repeated writer harmless: a status write names the record's resourceVersion, and a
//! signal or mark names the pod's. A pass needs neither, because success is never undone.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::contract::Run;
use crate::migration::{Active, Departed, MigrationGateStatus};

use super::decision::{Action, Decision, Rules, Settlement};
use super::evidence::{self, Evidence, Question};
use super::handover::{self, Arrival, ELDER_AGAIN};
use super::pods::Pods;
use super::record;
use super::snapshot::{Asked, Pod, Record, RecordView, Snapshot, Workload};
use super::standing::{self, Stall, Standing};

/// Decides for one group.
pub fn decide(snapshot: &Snapshot, rules: Rules, now: Timestamp) -> Decision {
    let only = |action| Decision { actions: vec![action], ..Decision::default() };
    match &snapshot.record {
        RecordView::Missing => Decision { actions: without_record(snapshot), ..Decision::default() },
        RecordView::Refused => in_a_dying_namespace(snapshot, rules, now),
        RecordView::Unreadable(record) => only(Action::Complain(record.clone())),
        RecordView::Present(record) => match &record.status {
            None => only(first_status(record, snapshot, now)),
            Some(recorded) => Group {
                snapshot,
                record,
                recorded,
                draft: recorded.clone(),
                stall: None,
                rules,
                now,
                decision: Decision::default(),
            }
            .decide(),
        },
    }
}

fn without_record(snapshot: &Snapshot) -> Vec<Action> {
    let owners: Vec<Workload> = snapshot.workloads.iter().filter(|workload| !workload.deleting).cloned().collect();
    let unsettled = snapshot.pods.iter().any(is_unsettled);
    if owners.is_empty() && !unsettled { Vec::new() } else { vec![Action::CreateRecord(owners)] }
}

fn is_unsettled(pod: &Pod) -> bool {
    pod.held || pod.running_attempt().is_some()
}

/// No record can be made any more, and no election can follow: what ended may go.
///
/// One pod is asked about at a time, in their order, starting behind the one that was asked about last.
fn in_a_dying_namespace(snapshot: &Snapshot, rules: Rules, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    let mut question = None;
    let mut asked_before = snapshot.live.asked.is_none();
    for pod in snapshot.pods.iter().filter(|pod| is_unsettled(pod)) {
        let Some(attempt) = pod.running_attempt() else {
            decision.actions.push(Action::Settle(pod.at(), pod.released(None, None)));
            continue;
        };
        let active = record::adopted(pod, attempt, now);
        let is_next = asked_before;
        asked_before |= snapshot.live.asked == Some(Asked::about(&active));
        match evidence::weigh(&active, snapshot, rules.node_deletion) {
            Evidence::Ended(_) => decision.actions.push(Action::Settle(pod.at(), pod.released(Some(attempt), None))),
            Evidence::Fence(pod) => decision.actions.push(Action::Settle(pod.at(), Settlement::fence(attempt))),
            Evidence::Ask(asked) if is_next && question.is_none() => {
                question = Some(Action::Look(asked, Some(Box::new(active))));
            }
            Evidence::Held(why) => decision.stuck = decision.stuck.or(Some(why)),
            Evidence::Ask(_) | Evidence::Runs(_) => {}
        }
    }
    decision.actions.extend(question);
    decision
}

/// A record that says nothing may be new, or may have replaced one that was lost: its pods know.
fn first_status(record: &Record, snapshot: &Snapshot, now: Timestamp) -> Action {
    let asked = Some(Asked::Pods(record.uid.clone()));
    let Some(pods) = snapshot.live.pods.as_ref().filter(|_| snapshot.live.asked == asked) else {
        return Action::Look(Question::Pods, None);
    };
    let mut status = record::rebuilt(pods, snapshot, now);
    standing::describe(&mut status, snapshot, &None, None, now);
    Action::WriteStatus(record.at(), Box::new(status))
}

/// A group whose record has a status.
struct Group<'a> {
    snapshot: &'a Snapshot,
    record: &'a Record,
    /// The status as it was read: it is durable, and what pods are told rests on it alone.
    recorded: &'a MigrationGateStatus,
    /// The status that is to be written. Each rule below leaves in it what it found out, for those that follow.
    draft: MigrationGateStatus,
    /// Why an operator must decide, as far as the rules so far have found out.
    stall: Stall,
    rules: Rules,
    now: Timestamp,
    decision: Decision,
}

impl<'a> Group<'a> {
    fn decide(mut self) -> Decision {
        self.take_notice();
        self.take_late_successes();
        self.adopt_stranger();
        if let Some(active) = &self.recorded.active {
            self.follow(active);
        }
        self.settle_and_open();
        let idle = self.recorded.active.is_none() && self.draft.active.is_none();
        // An election names the version that has all of its workloads among the owners.
        let owned = self.decision.actions.iter().all(|action| !matches!(action, Action::Own(..)));
        let elected = if idle && owned && self.stall.is_none() { self.elect() } else { Election::None };
        let before = self.recorded.active.as_ref();
        standing::describe(&mut self.draft, self.snapshot, &self.stall, before, self.now);
        // These change the record's version: its status is decided on the next one.
        if self.decision.actions.iter().any(|action| matches!(action, Action::Protect(_) | Action::Own(..))) {
            return self.decision;
        }
        if differs(self.recorded, &mut self.draft) {
            // An answer counts for the version that is replaced here: it is asked for afterwards.
            self.decision.actions.retain(|action| !matches!(action, Action::Look(Question::Elders, _)));
            self.decision.actions.push(Action::WriteStatus(self.record.at(), Box::new(self.draft)));
        } else if idle && self.decision.actions.is_empty() {
            self.tidy(elected);
        }
        self.decision
    }

    /// Takes up what others wrote: owners, orders, workloads that came or went, and the successes of those that came.
    fn take_notice(&mut self) {
        self.draft.observed_generation = self.record.generation;
        if !self.record.deleting {
            let unknown = |workload: &&Workload| !workload.deleting && !self.record.is_owned_by(&workload.uid);
            let owners: Vec<Workload> = self.snapshot.workloads.iter().filter(unknown).cloned().collect();
            if !owners.is_empty() {
                self.decision.actions.push(Action::Own(self.record.at(), owners));
            }
        }
        record::take_overrides(&mut self.draft, &self.record.overrides, self.now);
        let workloads = &self.snapshot.workloads;
        if let Some(fenced) = &self.draft.fenced {
            let since = self.record.fenced_since.unwrap_or(self.now);
            match evidence::lingers(fenced, since, self.snapshot, self.now) {
                Some(until) => self.look_again(Some(until)),
                None => self.draft.fenced = None,
            }
        }
        // A workload that is gone, or that left, matters as long as a process of it may be alive: of one that came back
        // before its attempt ended, the note that it left may be the only thing that tells whose attempt that is.
        if self.draft.active.is_none() && self.draft.fenced.is_none() {
            let back = |departed: &Departed, workload: &Workload| {
                workload.uid == departed.workload_uid && workload.generation > departed.generation
            };
            self.draft.departed.retain(|departed| !workloads.iter().any(|workload| back(departed, workload)));
            self.draft.workloads.retain(|member| workloads.iter().any(|workload| workload.uid == member.uid));
        }
        let elders = self.listed_elders().unwrap_or(&self.snapshot.elders);
        let left = |status: &&MigrationGateStatus| {
            workloads.iter().any(|workload| handover::has_departed(status, &workload.uid))
        };
        for status in elders.iter().filter_map(|elder| elder.status.as_ref()).filter(left) {
            let known: HashSet<&str> = self.draft.succeeded.iter().map(String::as_str).collect();
            let new = status.succeeded.iter().filter(|fingerprint| !known.contains(fingerprint.as_str()));
            let new: Vec<String> = new.cloned().collect();
            self.draft.succeeded.extend(new);
        }
    }

    /// A success that was reported after its attempt was given up is one all the same. Only a pod that was given an
    /// attempt has a signal or a mark, which nobody but the controller can write; what others report is their own.
    fn take_late_successes(&mut self) {
        for pod in self.snapshot.pods.iter().filter(|pod| pod.signal.is_some()) {
            let given = pod.signal.as_ref().map_or(0, |signal| signal.attempt()).min(self.recorded.last_attempt);
            let active = self.recorded.active.as_ref().filter(|active| active.pod_uid == pod.uid);
            let late = |attempt| attempt <= given && active.is_none_or(|active| attempt < active.attempt);
            if pod.successes().any(late) {
                record::add_success(&mut self.draft, &pod.fingerprint);
            }
        }
    }

    /// A pod with a number that this record never gave: the record is older than the pod (then this write will fail),
    /// or it was replaced by an older copy of itself.
    fn adopt_stranger(&mut self) {
        let number = |pod: &Pod| pod.signal.as_ref().map_or(0, |signal| signal.attempt());
        let strange = |pod: &&Pod| number(pod) > self.recorded.last_attempt;
        let Some(stranger) = self.snapshot.pods.iter().filter(strange).max_by_key(|pod| number(pod)) else { return };
        if let Some(active) = &self.recorded.active {
            self.stall = Some(format!(
                "pod {} carries an attempt that this record never gave, while attempt {} is active",
                stranger.name, active.attempt
            ));
            return;
        }
        self.draft.last_attempt = number(stranger);
        if let Some(attempt) = stranger.running_attempt() {
            self.draft.active = Some(record::adopted(stranger, attempt, self.now));
        }
    }

    /// The active attempt: its end if that is proven, else its signal if that is missing.
    fn follow(&mut self, active: &Active) {
        // An order that was taken up just now counts already: it is written in the same compare-and-swap.
        let as_ordered = self.draft.active.clone().unwrap_or_else(|| active.clone());
        match evidence::weigh(&as_ordered, self.snapshot, self.rules.node_deletion) {
            Evidence::Ended(ending) => {
                let pod = self.snapshot.pod(&active.pod_uid);
                record::end(&mut self.draft, active, pod, &ending, self.now);
            }
            Evidence::Ask(question) => {
                self.decision.actions.push(Action::Look(question, Some(Box::new(active.clone()))));
                // Until the answer is there, what the last one led to still holds: a record that is rewritten with
                // each question and each answer would never come to rest.
                self.stall = self.stall.take().or_else(|| standing::unaccounted(self.recorded));
            }
            Evidence::Fence(pod) => {
                // The order behind a fence is recorded before it acts.
                if as_ordered == *active {
                    self.decision.actions.push(Action::Settle(pod.at(), Settlement::fence(active.attempt)));
                }
            }
            Evidence::Held(why) => self.stall = Some(why),
            Evidence::Runs(wait) => {
                if let Some(wait) = wait {
                    self.look_again(self.now.checked_add(wait).ok());
                }
                self.signal(active);
            }
        }
    }

    fn signal(&mut self, active: &Active) {
        let Some(pod) = self.snapshot.pod(&active.pod_uid) else { return };
        match pod.running_attempt() {
            Some(attempt) if attempt == active.attempt => {
                if let Some(active) = self.draft.active.as_mut().filter(|active| active.signalled_at.is_none()) {
                    active.signalled_at = Some(self.now);
                }
            }
            // An earlier attempt's signal is settled first; a later one can't be.
            Some(_) => {}
            None if pod.is_alive() => {
                let run =
                    Run { pod_uid: pod.uid.clone(), attempt: active.attempt, timeout_seconds: active.timeout_seconds };
                self.decision.actions.push(Action::Signal(pod.at(), run, pod.guards.missing()));
            }
            None => {}
        }
    }

    /// What each pod is due, beside the active attempt itself.
    fn settle_and_open(&mut self) {
        let succeeded: HashSet<&str> = self.recorded.succeeded.iter().map(String::as_str).collect();
        let mut opening = Pods::default();
        for pod in self.snapshot.pods.shared() {
            match due(pod, self.recorded, &succeeded) {
                Due::Nothing => {}
                Due::Settlement { open } => {
                    let open = open.then(|| pod.fingerprint.clone());
                    let settlement = pod.released(pod.running_attempt(), open);
                    self.decision.actions.push(Action::Settle(pod.at(), settlement));
                }
                Due::Pass => opening.share(pod),
            }
        }
        if !opening.is_empty() {
            self.decision.actions.push(Action::Open(opening));
        }
    }

    /// Elects the pod that waited longest among those that can run now.
    fn elect(&mut self) -> Election {
        if self.record.deleting || self.snapshot.pods.iter().any(|pod| pod.running_attempt().is_some()) {
            return Election::None;
        }
        let (election, candidates) = self.candidates();
        if candidates.is_empty() || self.draft.fenced.is_some() {
            return election;
        }
        if !self.record.is_protected() {
            self.decision.actions.push(Action::Protect(self.record.at()));
            return election;
        }
        let here = candidates.into_iter().find(|(workload, _)| self.is_here(workload));
        let Some((workload, pod)) = here else { return election };
        let node = pod.node.as_ref().and_then(|name| self.snapshot.nodes.get(name));
        let timeouts = self.snapshot.workloads_of(&workload.fingerprint);
        let timeouts = timeouts.filter_map(|workload| workload.policy.as_ref().ok().and_then(|policy| policy.timeout));
        let timeout = timeouts.min().map(|timeout| timeout.as_secs().max(1));
        record::elect(&mut self.draft, pod, node.map(|node| node.uid.clone()), timeout, self.now);
        Election::Held
    }

    /// Of each workload with a migration that may be tried now, the pod that comes first, the first of all first.
    fn candidates(&mut self) -> (Election, Vec<(&'a Workload, &'a Pod)>) {
        let snapshot = self.snapshot;
        let mut election = Election::None;
        let mut ready: Vec<&Workload> = Vec::new();
        let asked = snapshot.workloads.iter().map(|workload| workload.fingerprint.as_str());
        let done = standing::succeeded_among(&self.draft, asked);
        for workload in snapshot.workloads.iter().filter(|workload| !workload.deleting) {
            match standing::standing_if(done.contains(&workload.fingerprint), workload, &self.draft) {
                Standing::BackingOff(until) if until > self.now => {
                    self.look_again(Some(until));
                    election = Election::Awaited;
                }
                Standing::Ready | Standing::BackingOff(_) => {
                    election = Election::Awaited;
                    if !handover::has_departed(&self.draft, &workload.uid) {
                        ready.push(workload);
                    }
                }
                _ => {}
            }
        }
        let wanted: HashSet<&str> = ready.iter().map(|workload| workload.fingerprint.as_str()).collect();
        let mut first: Vec<Option<&Pod>> = vec![None; ready.len()];
        for pod in snapshot.pods.iter().filter(|pod| wanted.contains(pod.fingerprint.as_str())) {
            if snapshot.obstacle(pod).is_some() {
                continue;
            }
            let maker = snapshot.maker(pod).filter(|maker| maker.fingerprint == pod.fingerprint);
            let Some(at) = ready.iter().position(|workload| Some(*workload) == maker) else { continue };
            let head_start = standing::head_start(self.draft.migration(&pod.fingerprint));
            match pod.agent_since.checked_add(head_start) {
                Ok(from) if from <= self.now => {
                    first[at] = first[at].into_iter().chain([pod]).min_by_key(|pod| self.rank(pod));
                }
                from => self.look_again(from.ok()),
            }
        }
        let mut candidates: Vec<(&Workload, &Pod)> =
            ready.into_iter().zip(first).filter_map(|(workload, pod)| Some((workload, pod?))).collect();
        candidates.sort_by_key(|(_, pod)| self.rank(pod));
        (election, candidates)
    }

    /// Whether this record, and no other, elects for a workload from now on.
    fn is_here(&mut self, workload: &Workload) -> bool {
        match handover::arrival(workload, &self.draft, &self.snapshot.elders, self.listed_elders()) {
            Arrival::Member => return true,
            Arrival::Arrived => {
                record::arrive(&mut self.draft, workload);
                return true;
            }
            Arrival::Ask => self.push_once(Action::Look(Question::Elders, None)),
            Arrival::Told(records) => {
                for (at, status) in records {
                    self.push_once(Action::WriteStatus(at, Box::new(status)));
                }
            }
            // Nothing else wakes this group for a workload that is gone.
            Arrival::Waits => self.look_again(self.now.checked_add(ELDER_AGAIN).ok()),
        }
        false
    }

    /// The namespace's other records, if they were listed for the very version that is decided on here.
    fn listed_elders(&self) -> Option<&'a [std::sync::Arc<Record>]> {
        let live = &self.snapshot.live;
        live.elders.as_deref().filter(|_| live.asked == Some(Asked::beside(self.record)))
    }

    fn rank<'p>(&self, pod: &'p Pod) -> (bool, Timestamp, &'p str) {
        let node = pod.node.as_ref().and_then(|name| self.snapshot.nodes.get(name));
        (node.is_some_and(|node| node.leaving), pod.created, &pod.name)
    }

    /// With nothing left to write: lets go of the record, and of one that nobody needs.
    fn tidy(&mut self, election: Election) {
        let nobody = self.snapshot.workloads.is_empty() && self.snapshot.pods.is_empty();
        let awaited = election != Election::None || self.draft.fenced.is_some();
        if self.record.is_protected() && (self.record.deleting || !awaited) {
            if self.draft.fenced.is_none() {
                self.decision.actions.push(Action::Release(self.record.at()));
            }
        } else if nobody && self.record.managed && self.record.owners.is_empty() && !self.record.deleting {
            self.decision.actions.push(Action::Delete(self.record.at()));
        }
    }

    fn push_once(&mut self, action: Action) {
        if !self.decision.actions.contains(&action) {
            self.decision.actions.push(action);
        }
    }

    fn look_again(&mut self, at: Option<Timestamp>) {
        self.decision.look_again_at = self.decision.look_again_at.into_iter().chain(at).min();
    }
}

/// What a pod is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// The mark of its attempt, if it has a run signal; our finalizer goes; and the pass with it, if it may have that.
    Settlement {
        open: bool,
    },
    /// The pass.
    Pass,
}

/// What a pod is due by the record, by whose attempt is active and which number the pod carries:
///
/// | its number | the active attempt is this pod's | it isn't |
/// |---|---|---|
/// | above every number that the record gave | nothing: it is adopted first | nothing |
/// | the active attempt's | nothing: that is followed | – |
/// | a lower one, or none | a settlement without a pass, if it is unsettled | a settlement, if it is unsettled; else its pass |
fn due(pod: &Pod, recorded: &MigrationGateStatus, succeeded: &HashSet<&str>) -> Due {
    let number = pod.signal.as_ref().map(|signal| signal.attempt());
    let active = recorded.active.as_ref().filter(|active| active.pod_uid == pod.uid);
    if number.is_some_and(|number| number > recorded.last_attempt || active.is_some_and(|a| a.attempt == number)) {
        return Due::Nothing;
    }
    let may_pass =
        || active.is_none() && pod.is_alive() && !pod.is_open() && succeeded.contains(pod.fingerprint.as_str());
    match is_unsettled(pod) {
        true => Due::Settlement { open: may_pass() },
        false if may_pass() => Due::Pass,
        false => Due::Nothing,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Election {
    /// No current migration is left to try.
    None,
    /// One is left to try, later.
    Awaited,
    /// A pod was elected.
    Held,
}

/// The number of waiting pods is written along with other things, never for its own sake.
fn differs(before: &MigrationGateStatus, after: &mut MigrationGateStatus) -> bool {
    let waiting = std::mem::replace(&mut after.waiting, before.waiting);
    let differs = before != after;
    after.waiting = waiting;
    differs
}
