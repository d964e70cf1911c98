//! Where on a line of time an attempt stands: everything in percent of the line's length, so that no width is known here.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::migration::AttemptOutcome;

use super::view::Tried;

/// The least that is seen of an attempt, in percent.
const LEAST: f64 = 0.6;
/// The shortest line.
const SHORTEST: SignedDuration = SignedDuration::from_secs(5);
/// How often the number of waiting pods may change on a line.
const STEPS: usize = 40;

/// A line of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Its left end.
    pub from: Timestamp,
    /// Its right end.
    pub to: Timestamp,
    /// Where the present is, if it is on the line.
    pub now: Option<f64>,
    /// The attempts, oldest first.
    pub bars: Vec<Bar>,
    /// When the next attempt may start, if that is known.
    pub next: Option<f64>,
    /// From where on how many of the pods that wait now were waiting: positions and numbers that grow.
    pub waiting: Vec<(f64, u32)>,
}

/// An attempt on the line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bar {
    /// Its number.
    pub attempt: u32,
    /// How it ended; it runs, if `None`.
    pub outcome: Option<AttemptOutcome>,
    /// Its left end.
    pub left: f64,
    /// Its length.
    pub width: f64,
}

/// What is put on a line.
pub(super) struct Times<'a> {
    /// The attempts, oldest first.
    pub(super) attempts: &'a [Tried],
    /// When the next attempt may start, if that is known.
    pub(super) next: Option<Timestamp>,
    /// When each pod that waits now was created, oldest first.
    pub(super) created: &'a [Timestamp],
    /// Whether more is to come by itself: the line then goes on to the present.
    pub(super) goes_on: bool,
    /// The present.
    pub(super) now: Timestamp,
}

impl Times<'_> {
    /// The line; none where nothing happened.
    pub(super) fn line(&self) -> Option<Timeline> {
        let began = self.attempts.iter().map(|attempt| attempt.from).min();
        let oldest = self.created.first().copied();
        let last = self.attempts.iter().filter_map(|attempt| attempt.to).max();
        let to = match last.filter(|_| !self.goes_on) {
            Some(last) => last,
            None => self.now.max(self.next.unwrap_or(self.now)),
        };
        // Pods of a migration that failed may have waited for days: what is of interest is how it failed.
        let from = match (began, oldest) {
            (Some(began), Some(oldest)) => began.min(oldest.max(before(began, to.duration_since(began)))),
            (began, oldest) => began.or(oldest)?,
        };
        let from = from.min(before(to, SHORTEST));
        // Room for what ends, or begins, at the end.
        let to = if last == Some(to) || self.next == Some(to) {
            to.checked_add(to.duration_since(from) / 25).unwrap_or(to)
        } else {
            to
        };
        let whole = to.duration_since(from).as_secs_f64();
        let place = |time: Timestamp| (time.duration_since(from).as_secs_f64() / whole * 100.0).clamp(0.0, 100.0);
        let bar = |attempt: &Tried| {
            let left = place(attempt.from).min(100.0 - LEAST);
            let width = (place(attempt.to.unwrap_or(self.now)) - left).max(LEAST);
            Bar { attempt: attempt.number, outcome: attempt.outcome, left, width }
        };
        Some(Timeline {
            from,
            to,
            now: (self.now <= to).then(|| place(self.now)),
            bars: self.attempts.iter().map(bar).collect(),
            next: self.next.map(place),
            waiting: self.steps(place),
        })
    }

    fn steps(&self, place: impl Fn(Timestamp) -> f64) -> Vec<(f64, u32)> {
        let mut steps: Vec<(f64, u32)> = Vec::new();
        for (number, created) in (1..).zip(self.created) {
            let at = place(*created);
            match steps.last_mut() {
                Some(last) if at - last.0 < 100.0 / STEPS as f64 => last.1 = number,
                _ => steps.push((at, number)),
            }
        }
        steps
    }
}

fn before(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_sub(by).unwrap_or(time)
}
