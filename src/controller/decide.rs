//! What is to be done for one group: a pure function from what is known to what is to be written.
//!
//! Each write moves the group one step, and every step is decided from what was read, never from what an earlier step
//! meant to do. So a controller that crashes between any two writes, or another one that takes over, goes on from
//! where the record and the pods are, by the same rules.
//!
//! Two things make a late or repeated writer harmless: a status write names the record's resourceVersion, and a
//! signal or mark names the pod's. A pass needs neither, because success is never undone.

use std::time::Duration;

use jiff::Timestamp;

use crate::contract::Run;
use crate::migration::{Active, MigrationGateStatus};

use super::decision::{Action, Decision, Rules, Settlement};
use super::evidence::{self, Evidence, Question};
use super::pods::Pods;
use super::record;
use super::snapshot::{Asked, Pod, Record, RecordView, Snapshot, Workload};
use super::standing::{self, Stall, Standing};

/// How soon a group is looked at again that waits for an attempt of another.
const ELDER_AGAIN: Duration = Duration::from_secs(5);

/// Decides for one group.
pub fn decide(snapshot: &Snapshot, rules: Rules, now: Timestamp) -> Decision {
    match &snapshot.record {
        RecordView::Missing => Decision { actions: without_record(snapshot), look_again_at: None },
        RecordView::Refused => Decision { actions: in_a_dying_namespace(snapshot, rules, now), look_again_at: None },
        RecordView::Unreadable(record) => {
            Decision { actions: vec![Action::Complain(record.clone())], look_again_at: None }
        }
        RecordView::Present(record) => match &record.status {
            None => Decision { actions: vec![first_status(record, snapshot, now)], look_again_at: None },
            Some(status) => Group { snapshot, record, status, rules, now, decision: Decision::default() }.decide(),
        },
    }
}

fn without_record(snapshot: &Snapshot) -> Vec<Action> {
    let owners: Vec<Workload> = snapshot.workloads.iter().filter(|workload| !workload.deleting).cloned().collect();
    let unsettled = snapshot.pods.iter().any(|pod| pod.held || pod.running_attempt().is_some());
    if owners.is_empty() && !unsettled { Vec::new() } else { vec![Action::CreateRecord(owners)] }
}

/// No record can be made any more, and no election can follow: what ended may go.
fn in_a_dying_namespace(snapshot: &Snapshot, rules: Rules, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    for pod in snapshot.pods.iter().filter(|pod| pod.held || pod.running_attempt().is_some()) {
        let Some(attempt) = pod.running_attempt() else {
            actions.push(Action::Settle(pod.at(), pod.released(None, None)));
            continue;
        };
        match evidence::weigh(&record::adopted(pod, attempt, now), snapshot, rules.node_deletion) {
            Evidence::Ended(_) => actions.push(Action::Settle(pod.at(), pod.released(Some(attempt), None))),
            Evidence::Fence(pod) => actions.push(Action::Settle(pod.at(), Settlement::fence(attempt))),
            Evidence::Ask(question) => actions.push(Action::Look(question)),
            Evidence::Held(_) | Evidence::Runs(_) => {}
        }
    }
    actions
}

/// A record that says nothing may be new, or may have replaced one that was lost: its pods know.
fn first_status(record: &Record, snapshot: &Snapshot, now: Timestamp) -> Action {
    let asked = Some(Asked::Pods(record.uid.clone()));
    let Some(pods) = snapshot.live.pods.as_ref().filter(|_| snapshot.live.asked == asked) else {
        return Action::Look(Question::Pods);
    };
    let mut status = record::rebuilt(pods, snapshot, now);
    standing::describe(&mut status, snapshot, &None, now);
    Action::WriteStatus(record.at(), Box::new(status))
}

struct Group<'a> {
    snapshot: &'a Snapshot,
    record: &'a Record,
    /// As it was read: what pods are told rests on this, never on a status that is yet to be written.
    status: &'a MigrationGateStatus,
    rules: Rules,
    now: Timestamp,
    decision: Decision,
}

impl<'a> Group<'a> {
    fn decide(mut self) -> Decision {
        let mut next = self.status.clone();
        let mut stall = self.take_notice(&mut next);
        if let Some(active) = self.status.active.clone() {
            self.follow(&active, &mut next, &mut stall);
        }
        self.settle_and_open();
        let idle = self.status.active.is_none() && next.active.is_none();
        let elected = if idle && stall.is_none() { self.elect(&mut next) } else { Election::None };
        standing::describe(&mut next, self.snapshot, &stall, self.now);
        // These change the record's version: its status is decided on the next one.
        if self.decision.actions.iter().any(|action| matches!(action, Action::Protect(_) | Action::Own(..))) {
            return self.decision;
        }
        if differs(self.status, &next) {
            self.decision.actions.push(Action::WriteStatus(self.record.at(), Box::new(next)));
        } else if idle && self.decision.actions.is_empty() {
            self.tidy(elected);
        }
        self.decision
    }

    /// Takes up what others wrote: owners, orders, workloads that came or went, and signals that this record lost.
    fn take_notice(&mut self, next: &mut MigrationGateStatus) -> Stall {
        next.observed_generation = self.record.generation;
        if !self.record.deleting {
            let unknown = |workload: &&Workload| !workload.deleting && !self.record.is_owned_by(&workload.uid);
            let owners: Vec<Workload> = self.snapshot.workloads.iter().filter(unknown).cloned().collect();
            if !owners.is_empty() {
                self.decision.actions.push(Action::Own(self.record.at(), owners));
            }
        }
        record::take_overrides(next, &self.record.overrides, self.now);
        next.departed.retain(|departed| {
            let back = |workload: &&Workload| {
                workload.uid == departed.workload_uid && workload.generation > departed.generation
            };
            !self.snapshot.workloads.iter().any(|workload| back(&workload))
        });
        next.members.retain(|member| self.record.is_owned_by(member));
        for elder in self.live_elders().unwrap_or(&self.snapshot.elders) {
            let Some(status) = &elder.status else { continue };
            if self.snapshot.workloads.iter().any(|workload| has_departed(status, &workload.uid)) {
                status.succeeded.iter().for_each(|fingerprint| record::add_success(next, fingerprint));
            }
        }
        // A success that was reported after its attempt was given up is one all the same.
        for pod in &self.snapshot.pods {
            let active = self.status.active.as_ref().filter(|active| active.pod_uid == pod.uid);
            let late = |attempt| attempt <= self.status.last_attempt && active.is_none_or(|a| attempt < a.attempt);
            if pod.successes().any(late) {
                record::add_success(next, &pod.fingerprint);
            }
        }
        self.adopt_stranger(next)
    }

    /// A pod with a number that this record never gave: the record is older than the pod (then this write will fail),
    /// or it was replaced by an older copy of itself.
    fn adopt_stranger(&self, next: &mut MigrationGateStatus) -> Stall {
        let strange =
            |pod: &&Pod| pod.signal.as_ref().is_some_and(|signal| signal.attempt() > self.status.last_attempt);
        let stranger =
            self.snapshot.pods.iter().filter(strange).max_by_key(|pod| pod.signal.as_ref().map(|s| s.attempt()))?;
        if let Some(active) = &self.status.active {
            return Some(format!(
                "pod {} carries an attempt that this record never gave, while attempt {} is active",
                stranger.name, active.attempt
            ));
        }
        next.last_attempt = stranger.signal.as_ref().map_or(next.last_attempt, |signal| signal.attempt());
        if let Some(attempt) = stranger.running_attempt() {
            next.active = Some(record::adopted(stranger, attempt, self.now));
        }
        None
    }

    /// The active attempt: its end if that is proven, else its signal if that is missing.
    fn follow(&mut self, active: &Active, next: &mut MigrationGateStatus, stall: &mut Stall) {
        // An order that was taken up just now counts already: it is written in the same compare-and-swap.
        let as_ordered = next.active.clone().unwrap_or_else(|| active.clone());
        match evidence::weigh(&as_ordered, self.snapshot, self.rules.node_deletion) {
            Evidence::Ended(ending) => record::end(next, active, &ending, self.now),
            Evidence::Ask(question) => {
                self.decision.actions.push(Action::Look(question));
                // Until the answer is there, what the last one led to still holds: a record that is rewritten with
                // each question and each answer would never come to rest.
                *stall = stall.take().or_else(|| standing::unaccounted(self.status));
            }
            Evidence::Fence(pod) => {
                let fence = Settlement::fence(active.attempt);
                // The order behind a fence is recorded before it acts.
                if as_ordered == *active {
                    self.decision.actions.push(Action::Settle(pod.at(), fence));
                }
            }
            Evidence::Held(why) => *stall = Some(why),
            Evidence::Runs(wait) => {
                if let Some(wait) = wait {
                    self.look_again(self.now.checked_add(wait).ok());
                }
                self.signal(active, next);
            }
        }
    }

    fn signal(&mut self, active: &Active, next: &mut MigrationGateStatus) {
        let Some(pod) = self.snapshot.pod(&active.pod_uid) else { return };
        match pod.running_attempt() {
            Some(attempt) if attempt == active.attempt => {
                if let Some(active) = next.active.as_mut().filter(|active| active.signalled_at.is_none()) {
                    active.signalled_at = Some(self.now);
                }
            }
            // An earlier attempt's signal is settled first; a later one can't be.
            Some(_) => {}
            None if pod.is_alive() => {
                let timeouts = self
                    .snapshot
                    .workloads_of(&active.fingerprint)
                    .filter_map(|workload| workload.policy.as_ref().ok().and_then(|policy| policy.timeout));
                let run = Run {
                    pod_uid: pod.uid.clone(),
                    attempt: active.attempt,
                    timeout_seconds: timeouts.min().map(|timeout| timeout.as_secs().max(1)),
                };
                self.decision.actions.push(Action::Signal(pod.at(), run, pod.guards.missing()));
            }
            None => {}
        }
    }

    fn settle_and_open(&mut self) {
        let mut opening = Pods::default();
        for shared in self.snapshot.pods.shared() {
            let pod: &Pod = shared;
            let active_here = self.status.active.as_ref().is_some_and(|active| active.pod_uid == pod.uid);
            let number = pod.signal.as_ref().map(|signal| signal.attempt());
            let strange = number.is_some_and(|number| number > self.status.last_attempt);
            if strange || (active_here && number == self.status.active.as_ref().map(|active| active.attempt)) {
                continue;
            }
            let passes = !active_here && pod.is_alive() && self.status.has_succeeded(&pod.fingerprint);
            let opens = passes && !pod.is_open();
            if pod.running_attempt().is_some() || pod.held {
                let open = opens.then(|| pod.fingerprint.clone());
                self.decision.actions.push(Action::Settle(pod.at(), pod.released(pod.running_attempt(), open)));
            } else if opens {
                opening.share(shared);
            }
        }
        if !opening.is_empty() {
            self.decision.actions.push(Action::Open(opening));
        }
    }

    /// Elects the pod that waited longest among those that can run now.
    fn elect(&mut self, next: &mut MigrationGateStatus) -> Election {
        if self.record.deleting || self.snapshot.pods.iter().any(|pod| pod.running_attempt().is_some()) {
            return Election::None;
        }
        let (election, mut candidates) = self.candidates(next);
        if candidates.is_empty() {
            return election;
        }
        if !self.record.is_protected() {
            self.decision.actions.push(Action::Protect(self.record.at()));
            return election;
        }
        candidates.retain(|(workload, _)| self.is_member(workload, next));
        let Some((_, pod)) = candidates.into_iter().min_by_key(|(_, pod)| self.rank(pod)) else { return election };
        let node = pod.node.as_ref().and_then(|name| self.snapshot.nodes.get(name));
        record::elect(next, pod, node.map(|node| node.uid.clone()), self.now);
        Election::Held
    }

    /// The pods that could run a current migration now, each with the workload that asks for it.
    fn candidates(&mut self, next: &MigrationGateStatus) -> (Election, Vec<(&'a Workload, &'a Pod)>) {
        let (mut election, mut candidates) = (Election::None, Vec::new());
        let snapshot = self.snapshot;
        for workload in snapshot.workloads.iter().filter(|workload| !workload.deleting) {
            match standing::standing(workload, next) {
                Standing::BackingOff(until) if until > self.now => {
                    self.look_again(Some(until));
                    election = Election::Awaited;
                    continue;
                }
                Standing::Ready | Standing::BackingOff(_) => election = Election::Awaited,
                _ => continue,
            }
            if has_departed(next, &workload.uid) {
                continue;
            }
            let head_start = standing::head_start(next.migration(&workload.fingerprint));
            let pods = snapshot.pods.iter().filter(|pod| pod.fingerprint == workload.fingerprint);
            for pod in pods.filter(|pod| self.can_run(pod)).collect::<Vec<_>>() {
                match pod.agent_since.checked_add(head_start) {
                    Ok(from) if from <= self.now => candidates.push((workload, pod)),
                    from => self.look_again(from.ok()),
                }
            }
        }
        (election, candidates)
    }

    /// A workload may have come from another group. So before the first election for it every other record that it
    /// owns must say that it left, and have no attempt active.
    ///
    /// The watch is too late to say which records those are: another leader may just have made one, believing that the
    /// workload is still there. They are listed live, after this record had the workload among its owners. The other
    /// leader does the same; whoever lists last sees both records, and a compare-and-swap on the other's decides.
    fn is_member(&mut self, workload: &Workload, next: &mut MigrationGateStatus) -> bool {
        if next.members.contains(&workload.uid) {
            return true;
        }
        let snapshot = self.snapshot;
        if !self.has_arrived(workload, &snapshot.elders) {
            return false;
        }
        let Some(elders) = self.live_elders() else {
            if !self.decision.actions.contains(&Action::Look(Question::Elders)) {
                self.decision.actions.push(Action::Look(Question::Elders));
            }
            return false;
        };
        let arrived = self.has_arrived(workload, elders);
        if arrived {
            record::arrive(next, workload);
        }
        arrived
    }

    fn has_arrived(&mut self, workload: &Workload, elders: &[Record]) -> bool {
        let mut arrived = true;
        for elder in elders {
            for owner in elder.owners.iter().filter(|owner| owner.precedes(workload)) {
                let Some(status) = &elder.status else {
                    arrived = false;
                    continue;
                };
                if !has_departed(status, &owner.uid) {
                    // A workload of the same name that was before this one never comes back.
                    let generation = if owner.uid == workload.uid { workload.generation } else { i64::MAX };
                    let mut status = status.clone();
                    record::depart(&mut status, &owner.uid, generation);
                    let action = Action::WriteStatus(elder.at(), Box::new(status));
                    if !self.decision.actions.contains(&action) {
                        self.decision.actions.push(action);
                    }
                    arrived = false;
                }
                if status.active.is_some() {
                    arrived = false;
                    // Nothing else wakes this group for a workload that is gone.
                    self.look_again(self.now.checked_add(ELDER_AGAIN).ok());
                }
            }
        }
        arrived
    }

    /// The namespace's other records, if they were listed for the very version that is decided on here.
    fn live_elders(&self) -> Option<&'a [Record]> {
        let live = &self.snapshot.live;
        live.elders.as_deref().filter(|_| live.asked == Some(Asked::beside(self.record)))
    }

    fn can_run(&self, pod: &Pod) -> bool {
        self.snapshot.obstacle(pod).is_none()
    }

    fn rank<'p>(&self, pod: &'p Pod) -> (bool, Timestamp, &'p str) {
        let node = pod.node.as_ref().and_then(|name| self.snapshot.nodes.get(name));
        (node.is_some_and(|node| node.leaving), pod.created, &pod.name)
    }

    /// With nothing left to write: lets go of the record, and of one that nobody needs.
    fn tidy(&mut self, election: Election) {
        let nobody = self.snapshot.workloads.is_empty() && self.snapshot.pods.is_empty();
        if self.record.is_protected() && (self.record.deleting || election == Election::None) {
            self.decision.actions.push(Action::Release(self.record.at()));
        } else if nobody && self.record.managed && self.record.owners.is_empty() && !self.record.deleting {
            self.decision.actions.push(Action::Delete(self.record.at()));
        }
    }

    fn look_again(&mut self, at: Option<Timestamp>) {
        self.decision.look_again_at = self.decision.look_again_at.into_iter().chain(at).min();
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

fn has_departed(status: &MigrationGateStatus, workload_uid: &str) -> bool {
    status.departed.iter().any(|departed| departed.workload_uid == workload_uid)
}

/// The number of waiting pods is written along with other things, never for its own sake.
fn differs(before: &MigrationGateStatus, after: &MigrationGateStatus) -> bool {
    let counted = MigrationGateStatus { waiting: after.waiting, ..before.clone() };
    counted != *after
}
