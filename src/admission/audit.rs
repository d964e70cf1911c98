//! Audit: what would have been decided, said in warnings. The object stays as it came.

use super::arena::Arena;
use super::decide::{Admission, Decided};
use super::offline::migration_of;
use super::warnings::{self, Warning};

/// How a namespace takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Workloads are gated.
    Enforce,
    /// Nothing is changed and nothing is refused; warnings say what would be.
    Audit,
}

/// What the user is told instead of what would have been done.
pub(super) fn audited<'a>(decided: &Decided<'a>, arena: Arena<'a>) -> Vec<Warning> {
    let would_be = match &decided.admission {
        Admission::Ignore | Admission::Keep => None,
        Admission::AdmitUngated => Some("would be admitted without a gate".to_owned()),
        Admission::Restore(_) => Some("its gate would be put back as it was".to_owned()),
        Admission::Strip(_) => Some("its gate would be taken out".to_owned()),
        Admission::Deny(denial) => Some(format!("would be refused: {denial}")),
        Admission::Inject(rewrite) => Some(match migration_of(&rewrite.to, arena) {
            Some(migration) => {
                format!("would be gated; one pod runs, in {}: {}", migration.image, migration.command.join(" "))
            }
            None => "would be gated".to_owned(),
        }),
    };
    let told = would_be.iter().flat_map(|text| warnings::in_pieces(&format!("migration-gate audit: {text}")));
    told.chain(decided.warnings.iter().cloned()).collect()
}
