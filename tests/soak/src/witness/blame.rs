//! What was promised, and what was seen to be broken.

use std::fmt;
use std::time::Duration;

/// A promise: those of docs/design.md, section 2, and what the witness adds to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// I1: at most one migration process of a group at any moment.
    SingleRunner,
    /// I2: a gate is True only if its group's record says that the migration succeeded.
    GateSoundness,
    /// I3: the application starts only after that.
    NoEarlyStart,
    /// I4: an attempt runs at most once, and its number is given once.
    AttemptOnce,
    /// I5: a reported success is recorded.
    NoOutcomeLost,
    /// I6: a migration ends, its pods open, and nothing that succeeded runs again.
    Progress,
    /// I7: what failed is held, and said.
    FailClosed,
    /// I8: the same manifest gives the same object.
    NoDrift,
    /// The record says what is so.
    TrueRecord,
    /// Nothing is written where nothing changes.
    Rest,
    /// The controllers' memory is bounded.
    Memory,
}

impl fmt::Display for Promise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Promise::SingleRunner => "I1 single runner",
            Promise::GateSoundness => "I2 gate soundness",
            Promise::NoEarlyStart => "I3 no early start",
            Promise::AttemptOnce => "I4 an attempt runs at most once",
            Promise::NoOutcomeLost => "I5 no outcome is lost",
            Promise::Progress => "I6 progress",
            Promise::FailClosed => "I7 fail closed, loudly",
            Promise::NoDrift => "I8 no drift",
            Promise::TrueRecord => "a record that is true",
            Promise::Rest => "rest",
            Promise::Memory => "bounded memory",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Blame {
    /// Which.
    pub promise: Promise,
    /// When that was seen, after the beginning.
    pub at: Duration,
    /// What was seen.
    pub what: String,
    /// Whom it concerns: the keys under which the chronicle has more.
    pub about: Vec<String>,
    /// What the chronicle had of that when it was seen.
    pub before: Vec<String>,
}

/// So much is told of the same promise about the same group or object.
const TOLD: usize = 3;

/// All that was broken, each thing once, and not more of the same than anybody reads.
#[derive(Clone, Debug, Default)]
pub struct Blames(Vec<Blame>);

impl Blames {
    /// This is known, or enough of the same.
    #[must_use]
    pub fn know(&self, promise: Promise, about: &[String], what: &str) -> bool {
        let same = || self.0.iter().filter(|other| other.promise == promise && other.about.first() == about.first());
        same().any(|other| other.what == what) || same().count() >= TOLD
    }

    /// Adds one.
    pub fn add(&mut self, blame: Blame) {
        self.0.push(blame);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Blame] {
        &self.0
    }
}
