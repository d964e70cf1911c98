//! How much a record may hold, part by part: whatever users write into their workloads, the parts that decide anything
//! stay whole, and the object stays below what the API server takes.
//!
//! etcd takes 1.5 MiB a request (its `--max-request-bytes`). [`SUCCEEDED_KEPT`] fingerprints are 560 KiB, migrations aim at
//! [`MIGRATIONS_BYTES`], and the rest is bounded by the resource's schema. What is dropped goes in this order:
//! migrations that nobody asks for and that came to their end, then details of those that somebody does ask for. Their
//! counters and the successes that a workload or a pod here rests on are never dropped.

use std::collections::HashSet;

use crate::migration::{Migration, MigrationGateStatus, Phase};

use super::record::cut;
use super::snapshot::Snapshot;

/// Migrations that are remembered in detail, beside those that a workload asks for.
pub const MIGRATIONS_KEPT: usize = 20;
/// Attempts of one migration that are remembered.
pub const ATTEMPTS_KEPT: usize = 10;
/// The same, where there are so many migrations that room is short.
const ATTEMPTS_SQUEEZED: usize = 2;
/// Bytes of the log's tail on the newest failure.
pub const TAIL_BYTES: usize = 1024;
/// Bytes of a command as it is shown.
pub const COMMAND_BYTES: usize = 256;
/// Bytes of an image's name as it is shown.
pub const IMAGE_BYTES: usize = 512;
/// Bytes of a revision as it is shown.
pub const REVISION_BYTES: usize = 256;
/// Bytes of any of these where room is short.
const SQUEEZED_BYTES: usize = 64;
/// Bytes of a message for people.
pub const MESSAGE_BYTES: usize = 2048;
/// Bytes that all migrations should take together: everybody who lists records reads them all.
pub const MIGRATIONS_BYTES: usize = 128 * 1024;
/// Fingerprints that succeeded.
pub const SUCCEEDED_KEPT: usize = 16 * 1024;
/// Notes about workloads that are elsewhere.
pub const DEPARTED_KEPT: usize = 256;

/// Brings a status within its budget. The migration with the fingerprint `told` has just changed and is to be told of, so
/// it stays this time.
pub fn keep_within(status: &mut MigrationGateStatus, snapshot: &Snapshot, told: Option<&str>) {
    for migration in &mut status.migrations {
        keep_newest(&mut migration.attempts, ATTEMPTS_KEPT);
    }
    let active = status.active.as_ref().map(|active| active.fingerprint.clone());
    let asked = snapshot.workloads.iter().map(|workload| workload.fingerprint.as_str());
    let needed: HashSet<&str> = asked.chain(active.as_deref()).chain(told).collect();
    while status.migrations.len() > MIGRATIONS_KEPT && drop_oldest(&mut status.migrations, &needed) {}
    for squeeze in SQUEEZES {
        if size(&status.migrations) <= MIGRATIONS_BYTES {
            break;
        }
        squeeze(&mut status.migrations, &needed);
    }
    let excess = status.succeeded.len().saturating_sub(SUCCEEDED_KEPT);
    if excess > 0 {
        drop_successes(&mut status.succeeded, excess, needed, snapshot);
    }
}

/// Gives something up for room, but nothing of what is needed.
type Squeeze = fn(&mut Vec<Migration>, &HashSet<&str>);

/// What is given up for room, in this order. Each leaves what the ones before it left, so that a status that was
/// squeezed once is the same when it is squeezed again.
const SQUEEZES: [Squeeze; 4] = [
    |migrations, needed| while size(migrations) > MIGRATIONS_BYTES && drop_oldest(migrations, needed) {},
    |migrations, _| migrations.iter_mut().for_each(|each| keep_newest(&mut each.attempts, ATTEMPTS_SQUEEZED)),
    |migrations, _| {
        for migration in migrations.iter_mut() {
            migration.image.truncate(cut(&migration.image, SQUEEZED_BYTES).len());
            migration.command.truncate(cut(&migration.command, SQUEEZED_BYTES).len());
            if let Some(revision) = &mut migration.revision {
                revision.truncate(cut(revision, SQUEEZED_BYTES).len());
            }
        }
    },
    // Of a success nobody needs to know how often it was tried.
    |migrations, _| {
        let done = migrations.iter_mut().filter(|migration| migration.phase == Phase::Succeeded);
        done.for_each(|migration| migration.attempts.clear());
    },
];

fn keep_newest<T>(all: &mut Vec<T>, number: usize) {
    let excess = all.len().saturating_sub(number);
    all.drain(..excess);
}

/// Drops the oldest migration that came to its end and that nobody asks for.
fn drop_oldest(migrations: &mut Vec<Migration>, needed: &HashSet<&str>) -> bool {
    let at = migrations.iter().position(|migration| {
        matches!(migration.phase, Phase::Succeeded | Phase::Superseded)
            && !needed.contains(migration.fingerprint.as_str())
    });
    at.map(|at| migrations.remove(at)).is_some()
}

/// Drops the oldest successes, but none that a workload asks for or that a pod here waits for. A rollback to one that was
/// dropped runs it again, which its tool must tolerate anyway.
fn drop_successes<'a>(
    succeeded: &mut Vec<String>,
    mut excess: usize,
    mut needed: HashSet<&'a str>,
    snapshot: &'a Snapshot,
) {
    needed.extend(snapshot.pods.iter().filter(|pod| !pod.is_terminal()).map(|pod| pod.fingerprint.as_str()));
    succeeded.retain(|fingerprint| {
        let dropped = excess > 0 && !needed.contains(fingerprint.as_str());
        excess -= usize::from(dropped);
        !dropped
    });
}

fn size(migrations: &[Migration]) -> usize {
    serde_json::to_vec(migrations).map_or(0, |bytes| bytes.len())
}
