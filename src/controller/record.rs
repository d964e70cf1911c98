//! How a record's status changes: one pure function for each step of a migration's life.
//!
//! Each takes the status as it was read and gives the one to write. None of them decides anything; that is
//! [`decide`](super::decide)'s part.

use jiff::Timestamp;

use crate::contract::Signal;
use crate::migration::{
    Active, Attempt, AttemptOutcome, Departed, Migration, MigrationGateStatus, Override, OverrideAction, Phase,
    TakenOverride,
};

use super::evidence::Ending;
use super::snapshot::{Pod, Snapshot, Workload};

/// Migrations that are remembered in detail.
pub const MIGRATIONS_KEPT: usize = 20;
/// Attempts of one migration that are remembered.
pub const ATTEMPTS_KEPT: usize = 10;
/// Bytes of the log's tail on the newest failure.
pub const TAIL_BYTES: usize = 1024;
/// Bytes of a command as it is shown.
pub const COMMAND_BYTES: usize = 256;
/// Bytes of a whole status; etcd takes 1.5 MiB a request, and everybody who lists records reads them all.
pub const STATUS_BYTES: usize = 128 * 1024;

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
    }
}

/// Makes sure that a workload's current migration is in the list, with what people want to know of it.
pub fn remember(status: &mut MigrationGateStatus, workload: &Workload) {
    let migration = entry(status, &workload.fingerprint);
    migration.image.clone_from(&workload.image);
    migration.command = cut(&workload.command, COMMAND_BYTES).to_owned();
    migration.revision.clone_from(&workload.revision);
}

fn entry<'a>(status: &'a mut MigrationGateStatus, fingerprint: &str) -> &'a mut Migration {
    let at = status.migrations.iter().position(|migration| migration.fingerprint == fingerprint);
    let at = at.unwrap_or_else(|| {
        status.migrations.push(Migration::unknown(fingerprint));
        status.migrations.len() - 1
    });
    &mut status.migrations[at]
}

/// Gives the next attempt to a pod.
pub fn elect(status: &mut MigrationGateStatus, pod: &Pod, node_uid: Option<String>, now: Timestamp) {
    let attempt = status.last_attempt + 1;
    status.last_attempt = attempt;
    entry(status, &pod.fingerprint);
    status.active = Some(Active { node_uid, signalled_at: None, ..adopted(pod, attempt, now) });
}

/// Ends the active attempt.
pub fn end(status: &mut MigrationGateStatus, active: &Active, ending: &Ending, now: Timestamp) {
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

/// Notes that a workload is elsewhere as of this generation of it.
pub fn depart(status: &mut MigrationGateStatus, workload_uid: &str, generation: i64) {
    status.members.retain(|member| member != workload_uid);
    status.departed.retain(|departed| departed.workload_uid != workload_uid);
    status.departed.push(Departed { workload_uid: workload_uid.to_owned(), generation });
}

/// Notes that this record, and no other, elects for a workload.
pub fn arrive(status: &mut MigrationGateStatus, workload: &Workload) {
    if !status.members.contains(&workload.uid) {
        status.members.push(workload.uid.clone());
    }
}

/// Keeps the status within its bounds. What opens gates goes last: it is never dropped for anything else.
pub fn trim(status: &mut MigrationGateStatus) {
    for migration in &mut status.migrations {
        let excess = migration.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        migration.attempts.drain(..excess);
    }
    while status.migrations.len() > MIGRATIONS_KEPT && drop_oldest(status) {}
    while size(status) > STATUS_BYTES {
        if !drop_oldest(status) {
            if status.succeeded.len() <= 1 {
                break;
            }
            // Only a record of thousands of migrations comes here; the oldest are the least likely to be rolled
            // back to, and a rollback to one would run it again, which its tool must tolerate anyway.
            let half = status.succeeded.len() / 2;
            status.succeeded.drain(..half);
        }
    }
}

/// Drops the oldest migration that isn't needed to decide anything.
fn drop_oldest(status: &mut MigrationGateStatus) -> bool {
    let active = status.active.as_ref().map(|active| active.fingerprint.as_str());
    let at = status.migrations.iter().position(|migration| {
        matches!(migration.phase, Phase::Succeeded | Phase::Superseded)
            && Some(migration.fingerprint.as_str()) != active
    });
    at.map(|at| status.migrations.remove(at)).is_some()
}

fn size(status: &MigrationGateStatus) -> usize {
    serde_json::to_vec(status).map_or(0, |bytes| bytes.len())
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
