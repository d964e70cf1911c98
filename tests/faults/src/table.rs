//! What the faults came to.

use std::fmt;
use std::time::Duration;

use crate::Verdict;

/// All injections of one fault.
#[derive(Clone, Debug)]
pub struct Row {
    /// The fault.
    pub fault: &'static str,
    verdicts: Vec<Verdict>,
}

impl Row {
    /// One without an injection.
    #[must_use]
    pub fn new(fault: &'static str) -> Row {
        Row { fault, verdicts: Vec::new() }
    }

    /// Adds an injection.
    pub fn add(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
    }

    /// How often it was injected.
    #[must_use]
    pub fn times(&self) -> usize {
        self.verdicts.iter().map(|verdict| verdict.times).sum()
    }

    /// Starts of the command that should not have been, and applications that started too early.
    #[must_use]
    pub fn double_runs(&self) -> usize {
        self.verdicts.iter().map(|verdict| verdict.tally.double + verdict.tally.early).sum()
    }

    /// Outcomes that the record does not have.
    #[must_use]
    pub fn lost_outcomes(&self) -> usize {
        self.verdicts.iter().map(|verdict| verdict.tally.lost).sum()
    }

    /// Pods that did not become Ready, or did not go.
    #[must_use]
    pub fn stuck_pods(&self) -> usize {
        self.verdicts.iter().map(|verdict| verdict.stuck).sum()
    }

    /// The median and the longest way back.
    #[must_use]
    pub fn recovery(&self) -> Option<(Duration, Duration)> {
        let mut all: Vec<Duration> = self.verdicts.iter().map(|verdict| verdict.recovery).collect();
        all.sort();
        Some((*all.get((all.len().max(1) - 1) / 2)?, *all.last()?))
    }
}

/// All faults, as Markdown.
#[derive(Clone, Debug, Default)]
pub struct Table(pub Vec<Row>);

impl Table {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.0.iter().all(|row| row.double_runs() + row.lost_outcomes() + row.stuck_pods() == 0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "| fault | times | double runs | lost outcomes | stuck pods | s to recover: median | worst |")?;
        writeln!(out, "|---|---:|---:|---:|---:|---:|---:|")?;
        for row in self.0.iter().filter(|row| row.times() > 0) {
            let (median, worst) = row.recovery().unwrap_or_default();
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {:.1} | {:.1} |",
                row.fault,
                row.times(),
                row.double_runs(),
                row.lost_outcomes(),
                row.stuck_pods(),
                median.as_secs_f32(),
                worst.as_secs_f32()
            )?;
        }
        Ok(())
    }
}
