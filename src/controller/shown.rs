//! What people are shown of a record, wherever they look: on a terminal or on the page.

use jiff::Timestamp;

use crate::migration::{Migration, MigrationGateStatus, Phase};

/// The migration that a record's phase is about.
pub fn shown(status: &MigrationGateStatus) -> Option<&Migration> {
    if let Some(active) = &status.active {
        return status.migration(&active.fingerprint);
    }
    let of_phase = |migration: &&Migration| Some(migration.phase) == status.phase;
    let of_image = |migration: &&Migration| Some(&migration.image) == status.image.as_ref();
    let newest_first = || status.migrations.iter().rev();
    newest_first()
        .find(|migration| of_phase(migration) && of_image(migration))
        .or_else(|| newest_first().find(of_phase))
        .or(status.migrations.last())
}

/// When the phase began, as far as the record says.
pub fn since(status: &MigrationGateStatus, migration: Option<&Migration>) -> Option<Timestamp> {
    if let Some(active) = &status.active {
        return Some(active.elected_at);
    }
    let ended = migration.and_then(|migration| migration.attempts.last()).map(|attempt| attempt.recorded);
    let changed = status.conditions.first().map(|condition| condition.last_transition_time);
    match status.phase {
        Some(Phase::Succeeded | Phase::Failed | Phase::Pending) => ended.or(changed),
        _ => changed,
    }
}

/// A record's message without the fingerprint, which has a place of its own.
pub fn about(message: &str, migration: Option<&Migration>) -> String {
    let Some(migration) = migration else { return message.to_owned() };
    let begin = format!("migration {} ", migration.fingerprint);
    message.strip_prefix(&begin).unwrap_or(message).replace(&migration.fingerprint, short(&migration.fingerprint))
}

/// A fingerprint as people are shown it.
pub fn short(fingerprint: &str) -> &str {
    fingerprint.get(..8).unwrap_or(fingerprint)
}
