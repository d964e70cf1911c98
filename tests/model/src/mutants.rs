//! Deliberate defects of the whole protocol. Each must be caught, or the checks prove nothing.
//!
//! The product has no hooks for them. A defect is a lie told to the real decision, a change of what it decided, a
//! check that the modelled API server leaves out, or an agent that is told something else than what is so.

use std::sync::Arc;

use jiff::Timestamp;
use migration_gate::contract::{Outcome, Report, Settled, Signal, Verdict};
use migration_gate::controller::decide::decide;
use migration_gate::controller::decision::{Action, Rules};
use migration_gate::controller::evidence::NODE_SILENCE;
use migration_gate::controller::snapshot::{
    AgentState, Asked, Exit, Found, LastSight, Pod, PodPhase, RecordView, Snapshot,
};
use migration_gate::migration::{Member, MigrationGateStatus};

use crate::intern::Id;
use crate::view;
use crate::world::{Container, Controller, Record, Todo};

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The compare-and-swap is on the migration, not on the group.
    SwapOnMigration,
    /// The signal is written before the election is recorded.
    SignalBeforeRecord,
    /// A signal is written without the pod's resourceVersion.
    SignalWithoutVersion,
    /// A settled mark is written without it.
    SettleWithoutVersion,
    /// The mark is removed instead of kept.
    MarkRemoved,
    /// A node that is NotReady is taken for dead.
    NotReadyIsDead,
    /// An out-of-service taint is believed although the node is Ready.
    TaintAlone,
    /// An out-of-service taint is believed although the Lease is renewed.
    LeaseIgnored,
    /// What the watch says of a node is evidence.
    NodeFromCache,
    /// A terminated container in a pod that can restart it is taken for dead.
    RestartableIsDead,
    /// The garbage collector's Failed is taken for death.
    CollectedIsDead,
    /// Node evidence is recorded without a settled mark before it.
    NoFence,
    /// The finalizer is dropped before the outcome is recorded.
    FinalizerFirst,
    /// What a crash left behind is not settled.
    NoSettling,
    /// Exit code 0 is taken for success.
    ExitZeroSucceeds,
    /// The record can be deleted while an attempt is active.
    RecordUnprotected,
    /// An answer about one attempt is taken for one about another.
    AnswerMisread,
    /// A signal that was there at the start is obeyed.
    ObeyAtStart,
    /// The journal is not read at the start.
    JournalIgnored,
    /// The termination message is written before the journal.
    MessageBeforeJournal,
    /// The journal is written after the command was started.
    JournalAfterExec,
    /// An exit code 0 after a forwarded termination signal is taken for success.
    TrapSucceeds,
    /// What the watch says of other groups' records is believed when a workload arrives.
    EldersFromCache,
    /// A group goes on electing for a workload that left.
    DepartureIgnored,
    /// A workload that moved doesn't wait for the attempt of the group that it left.
    ElderNotAwaited,
    /// The successes of the group that a workload left are forgotten.
    SuccessLeftBehind,
    /// A lost record is rebuilt from what the watch says of its pods.
    RebuiltFromCache,
    /// A signalled pod that somebody stripped of its finalizer is taken for dead when it is gone.
    StrippedIsDead,
    /// A verdict on one attempt is taken for one on another.
    ReportMisread,
    /// Gates are opened before the success is recorded.
    PassBeforeRecord,
    /// The next attempt doesn't wait for one that was given up without a proof.
    FenceIgnored,
    /// A record is let go of while an attempt is fenced.
    FenceReleased,
    /// A pod is elected that no workload made.
    StrangerElected,
    /// A pod is believed that was never given an attempt.
    StrangerBelieved,
    /// Whose a record was is taken from its owner references alone.
    EldersByOwners,
    /// A workload that is gone is forgotten although an attempt is active.
    MemberForgotten,
    /// A record that can't be read is passed over when a workload arrives.
    UnreadableElderIgnored,
    /// A pod that is gone is taken for one that was never signalled.
    GoneIsNotStarted,
    /// How a pod went is forgotten.
    SightIgnored,
    /// The time limit of an attempt is that of whichever template is current when it is signalled.
    LimitOfTemplate,
    /// A suspended migration runs without an approval.
    SuspensionIgnored,
    /// An approval counts for nothing.
    ApprovalIgnored,
}

impl Mutant {
    /// All of them.
    pub const ALL: &[Mutant] = &[
        Mutant::SwapOnMigration,
        Mutant::SignalBeforeRecord,
        Mutant::SignalWithoutVersion,
        Mutant::SettleWithoutVersion,
        Mutant::MarkRemoved,
        Mutant::NotReadyIsDead,
        Mutant::TaintAlone,
        Mutant::LeaseIgnored,
        Mutant::NodeFromCache,
        Mutant::RestartableIsDead,
        Mutant::CollectedIsDead,
        Mutant::NoFence,
        Mutant::FinalizerFirst,
        Mutant::NoSettling,
        Mutant::ExitZeroSucceeds,
        Mutant::RecordUnprotected,
        Mutant::AnswerMisread,
        Mutant::ObeyAtStart,
        Mutant::JournalIgnored,
        Mutant::MessageBeforeJournal,
        Mutant::JournalAfterExec,
        Mutant::TrapSucceeds,
        Mutant::EldersFromCache,
        Mutant::DepartureIgnored,
        Mutant::ElderNotAwaited,
        Mutant::SuccessLeftBehind,
        Mutant::RebuiltFromCache,
        Mutant::StrippedIsDead,
        Mutant::ReportMisread,
        Mutant::PassBeforeRecord,
        Mutant::FenceIgnored,
        Mutant::FenceReleased,
        Mutant::StrangerElected,
        Mutant::StrangerBelieved,
        Mutant::EldersByOwners,
        Mutant::MemberForgotten,
        Mutant::UnreadableElderIgnored,
        Mutant::GoneIsNotStarted,
        Mutant::SightIgnored,
        Mutant::LimitOfTemplate,
        Mutant::SuspensionIgnored,
        Mutant::ApprovalIgnored,
    ];

    /// Bends what the controller believes.
    pub fn bend(self, snapshot: &mut Snapshot, beliefs: &Controller) {
        match self {
            Mutant::NotReadyIsDead => {
                snapshot.nodes.retain(|_, node| node.ready);
                if let Some(Found::Here(live)) = &snapshot.live.node
                    && !live.node.ready
                {
                    snapshot.live.node = Some(Found::Gone);
                }
            }
            Mutant::TaintAlone => {
                snapshot.nodes.values_mut().filter(|node| node.out_of_service).for_each(|node| node.ready = false);
                if let Some(Found::Here(live)) = &mut snapshot.live.node
                    && live.node.out_of_service
                {
                    live.node.ready = false;
                    live.silent_for = NODE_SILENCE;
                }
            }
            Mutant::LeaseIgnored => {
                if let Some(Found::Here(live)) = &mut snapshot.live.node {
                    live.silent_for = NODE_SILENCE;
                }
            }
            Mutant::RestartableIsDead => every_pod(snapshot, |pod| {
                let silent = pod.running_attempt().is_some_and(|attempt| pod.report(attempt).is_none());
                if silent && pod.is_alive() && matches!(&pod.agent, AgentState::Exited(exit) if exit.real) {
                    pod.phase = PodPhase::Ended;
                }
            }),
            Mutant::CollectedIsDead => every_pod(snapshot, |pod| {
                if pod.phase == PodPhase::Collected {
                    pod.phase = PodPhase::Ended;
                    pod.agent = AgentState::Exited(Exit {
                        real: true,
                        out_of_memory: false,
                        report: None,
                        tail: String::new(),
                    });
                }
            }),
            Mutant::ExitZeroSucceeds => {
                let zero = |slot: usize| match beliefs.pods[slot].get().pod().map(|pod| pod.agent) {
                    Some(Container::Exited(exit)) => exit.zero,
                    _ => false,
                };
                let attempts: Vec<Option<u32>> = snapshot.pods.iter().map(Pod::running_attempt).collect();
                for (pod, attempt) in snapshot.pods.iter_mut().zip(attempts) {
                    let slot = usize::from(view::slot_of(&pod.name));
                    if let (true, Some(attempt), AgentState::Exited(exit)) = (zero(slot), attempt, &mut pod.agent) {
                        exit.report = Some(Box::new(Report::Verdict(Verdict {
                            attempt,
                            pod_uid: pod.uid.clone(),
                            outcome: Outcome::Succeeded,
                            exit_code: None,
                            signal: None,
                            start: None,
                            end: None,
                        })));
                    }
                }
            }
            Mutant::AnswerMisread => {
                let active = status_of(snapshot).and_then(|status| status.active.as_ref()).map(Asked::about);
                if let (Some(Asked::Runner(..)), Some(active)) = (&snapshot.live.asked, active) {
                    snapshot.live.asked = Some(active);
                }
            }
            Mutant::DepartureIgnored => {
                if let Some(status) = status_mut(snapshot) {
                    let gone: Vec<Member> = status.departed.drain(..).map(|departed| Member::from(&departed)).collect();
                    status.workloads.extend(gone);
                }
            }
            Mutant::ElderNotAwaited => every_elder(snapshot, |status| {
                if !status.departed.is_empty() {
                    status.active = None;
                }
            }),
            Mutant::SuccessLeftBehind => every_elder(snapshot, |status| status.succeeded.clear()),
            Mutant::StrippedIsDead => {
                if snapshot.live.runner == Some(Found::Gone)
                    && let Some(active) = status_mut(snapshot).and_then(|status| status.active.as_mut())
                {
                    active.signalled_at = None;
                    snapshot.last_sight = LastSight::Unsignalled;
                }
            }
            Mutant::ReportMisread => {
                let active = status_of(snapshot).and_then(|status| status.active.as_ref()).map(|active| active.attempt);
                let Some(active) = active else { return };
                every_pod(snapshot, |pod| {
                    let now = match &mut pod.agent {
                        AgentState::Exited(exit) => Some(exit),
                        _ => None,
                    };
                    for exit in now.into_iter().chain(&mut pod.agent_before) {
                        if let Some(Report::Verdict(verdict)) = exit.report.as_deref_mut() {
                            verdict.attempt = active;
                        }
                    }
                });
            }
            Mutant::FenceIgnored => status_mut(snapshot).into_iter().for_each(|status| status.fenced = None),
            Mutant::StrangerElected => {
                let chain = snapshot.replica_sets.keys().next().cloned();
                every_pod(snapshot, |pod| pod.controller = pod.controller.take().or_else(|| chain.clone()));
            }
            Mutant::StrangerBelieved => {
                let attempt = status_of(snapshot).map_or(0, |status| status.last_attempt);
                every_pod(snapshot, |pod| {
                    if pod.signal.is_none() {
                        pod.signal = Some(Box::new(Signal::Settled(Settled { pod_uid: pod.uid.clone(), attempt })));
                    }
                });
            }
            Mutant::EldersByOwners => {
                every_elder(snapshot, |status| {
                    status.workloads.clear();
                    status.departed.clear();
                });
                let workloads = &snapshot.workloads;
                snapshot.elders.retain(|elder| {
                    elder.electorate().any(|member| workloads.iter().any(|workload| member.precedes(workload)))
                });
            }
            Mutant::UnreadableElderIgnored => {
                snapshot.live.elders.iter_mut().for_each(|elders| elders.retain(|elder| !elder.unreadable));
            }
            Mutant::GoneIsNotStarted => snapshot.last_sight = LastSight::Unsignalled,
            Mutant::SightIgnored => snapshot.last_sight = LastSight::None,
            Mutant::SuspensionIgnored => snapshot.workloads.iter_mut().for_each(|workload| {
                if let Ok(policy) = &mut workload.policy {
                    policy.suspend = false;
                }
            }),
            Mutant::ApprovalIgnored => {
                let migrations = status_mut(snapshot).into_iter().flat_map(|status| &mut status.migrations);
                migrations.for_each(|migration| migration.approved = false);
            }
            _ => {}
        }
    }

    /// Twists what the controller decided.
    pub fn twist(self, mut todo: Vec<Todo>, snapshot: &Snapshot, rules: Rules, now: Timestamp) -> Vec<Todo> {
        match self {
            Mutant::SignalBeforeRecord => {
                if let Some((slot, attempt)) = elected(&todo, snapshot)
                    && let Some(pod) = snapshot.pods.iter().find(|pod| view::slot_of(&pod.name) == slot)
                {
                    let at = Id::numbered(pod.resource_version.parse().unwrap_or(u32::MAX));
                    todo.insert(0, Todo::Signal { slot, at, attempt, limited: false });
                }
                todo
            }
            Mutant::NoFence => {
                let fenced = todo.iter().find_map(|todo| match todo {
                    Todo::Settle { slot, mark: Some(attempt), keep: true, .. } => Some((*slot, *attempt)),
                    _ => None,
                });
                let Some((slot, attempt)) = fenced else { return todo };
                // As if the mark stood there already.
                let mut fenced = snapshot.clone();
                every_pod(&mut fenced, |pod| {
                    if view::slot_of(&pod.name) == slot {
                        let attempt = attempt.into();
                        pod.signal = Some(Box::new(Signal::Settled(Settled { pod_uid: pod.uid.clone(), attempt })));
                    }
                });
                let actions = decide(&fenced, rules, now).actions;
                actions.into_iter().filter(|action| !matches!(action, Action::Look(..))).map(view::compact).collect()
            }
            Mutant::FinalizerFirst => {
                if let Some(slot) = ending(&todo, snapshot)
                    && let Some(pod) = snapshot.pods.iter().find(|pod| view::slot_of(&pod.name) == slot)
                {
                    let at = Id::numbered(pod.resource_version.parse().unwrap_or(u32::MAX));
                    todo.insert(0, Todo::Settle { slot, at, mark: None, keep: false, open: false });
                }
                todo
            }
            Mutant::PassBeforeRecord => {
                let new = written(&todo).is_some_and(|status| {
                    status_of(snapshot).is_some_and(|before| before.succeeded.len() < status.succeeded.len())
                });
                if new && status_of(snapshot).is_some_and(|before| before.active.is_some()) {
                    todo.splice(0..0, snapshot.pods.iter().map(|pod| Todo::Open { slot: view::slot_of(&pod.name) }));
                }
                todo
            }
            Mutant::NoSettling => {
                // Only the settled patch that goes with the record's own write is left, and a crash loses that.
                let with_record = todo.iter().any(|todo| matches!(todo, Todo::Write { .. }));
                todo.retain(|todo| with_record || !matches!(todo, Todo::Settle { keep: false, .. }));
                todo
            }
            Mutant::FenceReleased => {
                if let RecordView::Present(record) = &snapshot.record
                    && todo.is_empty()
                    && record.is_protected()
                    && record.status.as_ref().is_some_and(|status| status.fenced.is_some())
                {
                    let at = Id::numbered(record.resource_version.parse().unwrap_or(u32::MAX));
                    todo.push(Todo::Release { at });
                }
                todo
            }
            Mutant::MemberForgotten => {
                let here = |member: &Member| snapshot.workloads.iter().any(|workload| workload.uid == member.uid);
                for todo in &mut todo {
                    if let Todo::Write { group, status, .. } = todo
                        && usize::from(*group) == group_of(snapshot)
                    {
                        let mut forgetful = status.get().clone();
                        forgetful.workloads.retain(here);
                        *status = Id::of(forgetful);
                    }
                }
                todo
            }
            Mutant::LimitOfTemplate => {
                let active = status_of(snapshot).and_then(|status| status.active.as_ref());
                let asked = active.is_some_and(|active| snapshot.workloads_of(&active.fingerprint).next().is_some());
                for todo in &mut todo {
                    if let Todo::Signal { limited, .. } = todo {
                        *limited &= asked;
                    }
                }
                todo
            }
            _ => todo,
        }
    }

    /// What the record becomes where only the migration's own part of it is compared: nothing, if that changed.
    pub fn merged(
        current: &Record,
        at: Id<Option<Record>>,
        status: &MigrationGateStatus,
    ) -> Option<MigrationGateStatus> {
        let before = at.get().as_ref()?.status.as_ref()?;
        let now = current.status.as_ref()?;
        let active = status.active.as_ref()?;
        let unchanged = before.active.is_none()
            && before.migration(&active.fingerprint) == now.migration(&active.fingerprint)
            && now.active.as_ref().is_none_or(|other| other.fingerprint != active.fingerprint);
        let last_attempt = now.last_attempt.max(status.last_attempt);
        unchanged.then(|| MigrationGateStatus { active: status.active.clone(), last_attempt, ..now.clone() })
    }
}

fn every_pod(snapshot: &mut Snapshot, mut what: impl FnMut(&mut Pod)) {
    snapshot.pods.iter_mut().for_each(&mut what);
    if let Some(Found::Here(pod)) = &mut snapshot.live.runner {
        what(pod);
    }
    snapshot.live.pods.iter_mut().flatten().for_each(&mut what);
}

fn every_elder(snapshot: &mut Snapshot, what: impl Fn(&mut MigrationGateStatus)) {
    let elders = snapshot.elders.iter_mut().chain(snapshot.live.elders.iter_mut().flatten());
    elders.filter_map(|elder| Arc::make_mut(elder).status.as_mut()).for_each(what);
}

fn status_mut(snapshot: &mut Snapshot) -> Option<&mut MigrationGateStatus> {
    match &mut snapshot.record {
        RecordView::Present(record) => Arc::make_mut(record).status.as_mut(),
        _ => None,
    }
}

fn group_of(snapshot: &Snapshot) -> usize {
    view::slot_of(&snapshot.name).into()
}

fn status_of(snapshot: &Snapshot) -> Option<&MigrationGateStatus> {
    match &snapshot.record {
        RecordView::Present(record) => record.status.as_ref(),
        _ => None,
    }
}

fn written(todo: &[Todo]) -> Option<&'static MigrationGateStatus> {
    todo.iter().find_map(|todo| match todo {
        Todo::Write { status, .. } => Some(status.get()),
        _ => None,
    })
}

/// The pod that is about to be elected, and its attempt.
fn elected(todo: &[Todo], snapshot: &Snapshot) -> Option<(u8, u8)> {
    let active = written(todo)?.active.as_ref()?;
    let before = status_of(snapshot)?;
    let new = before.active.is_none() && before.last_attempt < active.attempt;
    new.then(|| (view::slot_of(&active.pod_name), u8::try_from(active.attempt).unwrap_or(u8::MAX)))
}

/// The pod whose attempt is about to be recorded as over.
fn ending(todo: &[Todo], snapshot: &Snapshot) -> Option<u8> {
    let active = status_of(snapshot)?.active.as_ref()?;
    written(todo)?.active.is_none().then(|| view::slot_of(&active.pod_name))
}
