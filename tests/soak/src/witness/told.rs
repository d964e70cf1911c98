//! The events that people see: each end of an attempt must have one.

use std::time::Duration;

use serde_json::Value;

/// How long after a disturbance an event may have been lost by it.
const AFTERMATH: Duration = Duration::from_secs(20);

/// What people were told, and what they should have been.
#[derive(Debug, Default)]
pub struct Told {
    notes: Vec<Note>,
    expected: Vec<Expected>,
    disturbed: Vec<(Duration, Duration)>,
}

#[derive(Debug)]
struct Note {
    namespace: String,
    reason: String,
    text: String,
}

/// An attempt that ended.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The record, with its namespace.
    pub record: String,
    /// How it ended, as it is on record.
    pub outcome: String,
    /// Its number.
    pub attempt: u32,
    /// Its migration.
    pub fingerprint: String,
    /// When that was recorded.
    pub at: Duration,
}

impl Told {
    /// Reads an event.
    pub fn read(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if event["reportingController"] == "migration-gate-controller" {
            let namespace = text(&event["metadata"]["namespace"]);
            self.notes.push(Note { namespace, reason: text(&event["reason"]), text: text(&event["note"]) });
        }
    }

    /// An attempt ended, which is to be told.
    pub fn expect(&mut self, expected: Expected) {
        self.expected.push(expected);
    }

    /// A controller or the API server was hurt from then until then: what was to be told may be lost.
    pub fn disturb(&mut self, from: Duration, until: Duration) {
        self.disturbed.push((from, until));
    }

    /// How many events there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.notes.len()
    }

    /// What nobody was told, though nothing was in its way.
    pub fn untold(&mut self) -> Vec<Expected> {
        let expected = std::mem::take(&mut self.expected);
        let lost =
            |at: Duration| self.disturbed.iter().any(|(from, until)| *from < at + AFTERMATH && at < *until + AFTERMATH);
        expected.into_iter().filter(|one| !lost(one.at) && !self.was_told(one)).collect()
    }

    fn was_told(&self, expected: &Expected) -> bool {
        let reason = format!("Migration{}", expected.outcome);
        let number = expected.attempt.to_string();
        let namespace = expected.record.split('/').next().unwrap_or_default();
        self.notes.iter().any(|note| {
            let words = || note.text.split(|c: char| !c.is_ascii_alphanumeric());
            note.namespace == namespace
                && note.reason == reason
                && words().any(|word| word == expected.fingerprint)
                && words().any(|word| word == number)
        })
    }
}
