//! How a record's status changes: one pure function for each step of a migration's life.
//!
//! Each takes the status as it was read and gives the one to write. None of them decides anything; that is
//! [`decide`](super::decide)'s part.

use jiff::Timestamp;

use crate::contract::Signal;
use crate::migration::{
    Active, Attempt, AttemptOutcome, Departed, Fenced, Member, Migration, MigrationGateStatus, Override,
    OverrideAction, TakenOverride,
};

use super::budget::{COMMAND_BYTES, DEPARTED_KEPT, IMAGE_BYTES, REVISION_BYTES, TAIL_BYTES};
use super::evidence::{Certainty, Ending};
use super::snapshot::{Pod, Snapshot, Workload};

/// The first status of a record, from what its pods say: the record may be new, or it may have been lost.
///
/// Attempt numbers on pods only grow and a later attempt is signalled only after the one before was recorded, so the
/// highest run signal is the one that may be alive.
pub fn rebuilt(pods: &[Pod], snapshot: &Snapshot, now: Timestamp) -> MigrationGateStatus {
    let mut status = MigrationGateStatus {
        last_attempt: pods.iter().filter_map(|pod| pod.signal.as_deref()).map(Signal::attempt).max().unwrap_or(0),
        ..MigrationGateStatus::default()
    };
    status.active = pods
        .iter()
        .filter_map(|pod| pod.running_attempt().map(|attempt| (attempt, pod)))
        .max_by_key(|(attempt, _)| *attempt)
        .map(|(attempt, pod)| adopted(pod, attempt, now));
    for pod in pods.iter().filter(|pod| pod.passed) {
        add_success(&mut status, &pod.fingerprint);
    }
    for workload in &snapshot.workloads {
        remember(&mut status, workload);
    }
    status
}

/// An attempt that a pod shows and the record doesn't know.
pub fn adopted(pod: &Pod, attempt: u32, now: Timestamp) -> Active {
    Active {
        fingerprint: pod.fingerprint.clone(),
        attempt,
        pod_name: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        node_name: pod.node.clone(),
        node_uid: None,
        elected_at: now,
        signalled_at: Some(now),
        confirmed_dead: false,
        timeout_seconds: None,
        grace_seconds: Some(pod.grace_seconds),
    }
}

/// Makes sure that a workload's current migration is in the list, with what people want to know of it.
pub fn remember(status: &mut MigrationGateStatus, workload: &Workload) {
    let migration = entry(status, &workload.fingerprint);
    migration.image = cut(&workload.image, IMAGE_BYTES).to_owned();
    migration.command = cut(&workload.command, COMMAND_BYTES).to_owned();
    migration.revision = workload.revision.as_ref().map(|revision| cut(revision, REVISION_BYTES).to_owned());
}

fn entry<'a>(status: &'a mut MigrationGateStatus, fingerprint: &str) -> &'a mut Migration {
    let at = status.migrations.iter().position(|migration| migration.fingerprint == fingerprint);
    let at = at.unwrap_or_else(|| {
        status.migrations.push(Migration::unknown(fingerprint));
        status.migrations.len() - 1
    });
    &mut status.migrations[at]
}

/// Gives the next attempt to a pod, with the time limit that its workload has now.
pub fn elect(
    status: &mut MigrationGateStatus,
    pod: &Pod,
    node_uid: Option<String>,
    timeout_seconds: Option<u64>,
    now: Timestamp,
) {
    let attempt = status.last_attempt + 1;
    status.last_attempt = attempt;
    entry(status, &pod.fingerprint);
    status.active = Some(Active { node_uid, signalled_at: None, timeout_seconds, ..adopted(pod, attempt, now) });
}

/// Ends the active attempt, whose pod is this, if it is still there.
pub fn end(status: &mut MigrationGateStatus, active: &Active, pod: Option<&Pod>, ending: &Ending, now: Timestamp) {
    status.active = None;
    let failed = matches!(ending.outcome, AttemptOutcome::Failed | AttemptOutcome::TimedOut);
    for attempt in status.migrations.iter_mut().flat_map(|migration| &mut migration.attempts) {
        if failed {
            attempt.log_tail = None;
        }
    }
    let verdict = ending.verdict.as_ref();
    let seconds = |seconds: Option<i64>| seconds.and_then(|seconds| Timestamp::from_millisecond(seconds).ok());
    let migration = entry(status, &active.fingerprint);
    match ending.outcome {
        AttemptOutcome::Failed | AttemptOutcome::TimedOut => migration.failures += 1,
        AttemptOutcome::Interrupted => migration.interruptions += 1,
        AttemptOutcome::Succeeded | AttemptOutcome::NotStarted => {}
    }
    if ending.outcome == AttemptOutcome::NotStarted {
        migration.never_started += 1;
    } else {
        migration.never_started = 0;
        migration.tried_at = Some(now);
    }
    migration.attempts.push(Attempt {
        number: active.attempt,
        pod: active.pod_name.clone(),
        node: active.node_name.clone(),
        outcome: ending.outcome,
        exit_code: verdict.and_then(|verdict| verdict.exit_code),
        signal: verdict.and_then(|verdict| verdict.signal),
        elected: active.elected_at,
        started: seconds(verdict.and_then(|verdict| verdict.start)),
        ended: seconds(verdict.and_then(|verdict| verdict.end)),
        recorded: now,
        evidence: ending.basis.map(str::to_owned),
        log_tail: (failed && !ending.tail.is_empty()).then(|| cut_front(&ending.tail, TAIL_BYTES).to_owned()),
    });
    if ending.outcome == AttemptOutcome::Succeeded {
        add_success(status, &active.fingerprint);
    }
    if ending.certainty == Certainty::Presumed {
        let (pod_name, pod_uid) = (active.pod_name.clone(), active.pod_uid.clone());
        let grace_seconds = active.grace_seconds.max(pod.map(|pod| pod.grace_seconds));
        status.fenced = Some(Fenced { attempt: active.attempt, pod_name, pod_uid, at: now, grace_seconds });
    }
}

/// Records that pods of this fingerprint pass, from now on and for ever.
pub fn add_success(status: &mut MigrationGateStatus, fingerprint: &str) {
    if !status.has_succeeded(fingerprint) {
        status.succeeded.push(fingerprint.to_owned());
    }
}

/// Takes up the orders of the spec that have no answer yet, and forgets the answers to orders that were removed.
pub fn take_overrides(status: &mut MigrationGateStatus, orders: &[Override], now: Timestamp) {
    status.overrides.retain(|taken| orders.iter().any(|order| order.is_answered_by(taken)));
    for order in orders {
        if status.overrides.iter().any(|taken| order.is_answered_by(taken)) {
            continue;
        }
        let refusal = follow(status, order).err();
        status.overrides.push(TakenOverride {
            fingerprint: order.fingerprint.clone(),
            action: order.action,
            attempt: order.attempt,
            pod_uid: order.pod_uid.clone(),
            accepted: refusal.is_none(),
            refusal,
            at: now,
        });
    }
}

fn follow(status: &mut MigrationGateStatus, order: &Override) -> Result<(), String> {
    match order.action {
        OverrideAction::Approve => entry(status, &order.fingerprint).approved = true,
        OverrideAction::MarkSucceeded => {
            entry(status, &order.fingerprint);
            add_success(status, &order.fingerprint);
        }
        OverrideAction::Retry => {
            let Some(migration) =
                status.migrations.iter_mut().find(|migration| migration.fingerprint == order.fingerprint)
            else {
                return Err(format!("no migration {} is known here", order.fingerprint));
            };
            let latest = migration.attempts.last().map_or(0, |attempt| attempt.number);
            if latest != order.attempt {
                return Err(format!("the latest attempt of this migration is {latest}, not {}", order.attempt));
            }
            migration.failures = 0;
            migration.interruptions = 0;
            migration.never_started = 0;
        }
        OverrideAction::ConfirmDead => match &mut status.active {
            Some(active) if active.attempt == order.attempt && active.pod_uid == order.pod_uid => {
                active.confirmed_dead = true;
            }
            Some(active) => {
                return Err(format!("the active attempt is {} in the pod with UID {}", active.attempt, active.pod_uid));
            }
            None => return Err("no attempt is active".to_owned()),
        },
    }
    Ok(())
}

/// Notes that a workload is elsewhere as of this generation of it. The oldest notes go when there are many: a record does
/// not elect for a workload that is not among its own before it has asked all others again.
pub fn depart(status: &mut MigrationGateStatus, member: &Member, generation: i64) {
    status.workloads.retain(|known| known.uid != member.uid);
    status.departed.retain(|departed| departed.workload_uid != member.uid);
    let Member { kind, name, uid } = member.clone();
    status.departed.push(Departed { workload_uid: uid, kind, name, generation });
    let excess = status.departed.len().saturating_sub(DEPARTED_KEPT);
    status.departed.drain(..excess);
}

/// Notes that this record, and no other, elects for a workload.
pub fn arrive(status: &mut MigrationGateStatus, workload: &Workload) {
    if !is_member(status, &workload.uid) {
        status.workloads.push(Member::of(workload));
    }
}

/// Whether this record elects for the workload with this UID.
pub fn is_member(status: &MigrationGateStatus, uid: &str) -> bool {
    status.workloads.iter().any(|member| member.uid == uid)
}

/// The beginning of a text, at most this many bytes, whole characters.
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The end of a text, at most this many bytes, whole characters.
pub fn cut_front(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
