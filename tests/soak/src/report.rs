//! What came of a life.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::audit::Audit;
use crate::chronicle::Chronicle;
use crate::day::Arguments;
use crate::rest::{Evening, SILENCE};
use crate::witness::blame::Blame;
use crate::witness::{Books, Object};

/// The broken promises that are told with their lines.
const IN_FULL: usize = 6;

/// One phase and the evening after it.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its number.
    pub number: usize,
    /// How many things happened.
    pub acts: usize,
    /// How the evening went; nothing, if there was no rest.
    pub evening: Option<Evening>,
}

impl Phase {
    /// It in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let Phase { number, acts, evening } = self;
        let Some(evening) = evening else {
            return format!("phase {number}: {acts} things happened, and there was no rest");
        };
        let mut line = format!(
            "phase {number}: {acts} things happened, all came to an end after {:.1} s, and {} s without a write ({} requests, {:.2} % of a processor)",
            evening.settled_after.as_secs_f64(),
            SILENCE.as_secs(),
            evening.requests,
            evening.cpu * 100.0
        );
        for one in &evening.usage {
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let (resident, peak) = (megabytes(one.resident), megabytes(one.peak));
            let _ = write!(line, "; {}: {resident:.1} MB, peak {peak:.1} MB", one.name);
        }
        line
    }
}

/// What came of a life.
#[derive(Clone, Debug)]
pub struct Report {
    seed: u64,
    seconds: u64,
    took: Duration,
    phases: Vec<Phase>,
    figures: Vec<(String, String)>,
    blames: Vec<Blame>,
    /// Where all of it is written down.
    pub chronicle: Option<PathBuf>,
    /// What could not be cleared away afterwards.
    pub left_behind: Option<String>,
}

impl Report {
    pub(crate) fn of(
        arguments: &Arguments,
        chronicle: &Chronicle,
        books: &Books,
        audit: &Audit,
        phases: Vec<Phase>,
        controllers: u32,
    ) -> Report {
        let blames = books.blames().to_vec();
        let mut figures = books.counted();
        figures.push(("controllers started".to_owned(), controllers.to_string()));
        let requests: Vec<String> = audit.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        figures.push(("the controllers' requests".to_owned(), requests.join(", ")));
        let (seed, seconds) = (arguments.seed, arguments.seconds);
        Report { seed, seconds, took: chronicle.now(), phases, figures, blames, chronicle: None, left_behind: None }
    }

    /// No promise was seen broken, and nothing was left behind.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.blames.is_empty() && self.left_behind.is_none()
    }
}

impl Books {
    /// What was counted, in words.
    fn counted(&self) -> Vec<(String, String)> {
        let figures = &self.figures;
        let versions: Vec<String> =
            figures.versions.iter().map(|(kind, count)| format!("{count} of {kind:?}s")).collect();
        let breaks = Object::ALL.map(|(kind, _)| figures.breaks.get(&kind).map_or(0, |count| count - 1));
        let outcomes: Vec<String> =
            figures.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        let (runs, ends) = self.runs();
        let slowest = figures
            .slowest
            .as_ref()
            .map_or_else(String::new, |(took, pod)| format!("{:.1} s ({pod})", took.as_secs_f64()));
        [
            ("records", self.records_ever().to_string()),
            (
                "gated pods",
                format!("{}, of which {} were made by nobody's workload", self.pods_ever(), figures.foreign),
            ),
            ("attempts on record", outcomes.join(", ")),
            (
                "commands that ran",
                format!(
                    "{runs}: {} succeeded, {} failed, {} were stopped, {} killed",
                    ends[0], ends[1], ends[2], ends[3]
                ),
            ),
            ("gates opened", figures.opened.to_string()),
            ("longest from success to open gate", slowest),
            ("pods copied", format!("{}, and {} refused", figures.copies.0, figures.copies.1)),
            ("signals and gates traced to a record", self.claims_proven().to_string()),
            ("events read", self.events_read().to_string()),
            ("versions read", versions.join(", ")),
            ("breaks in the watches", format!("{breaks:?} (records, pods, workloads, events)")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, seconds, took, phases, figures, blames, chronicle, left_behind } = self;
        writeln!(formatter, "SEED={seed} SOAK_SECONDS={seconds}: lived for {:.0} s", took.as_secs_f64())?;
        phases.iter().try_for_each(|phase| writeln!(formatter, "{}", phase.line()))?;
        figures.iter().try_for_each(|(name, value)| writeln!(formatter, "{name}: {value}"))?;
        for (number, blame) in blames.iter().enumerate() {
            writeln!(formatter, "\nBROKEN, seen after {:.1} s: {}", blame.at.as_secs_f64(), blame.promise)?;
            writeln!(formatter, "  {}", blame.what)?;
            if number < IN_FULL {
                blame.before.iter().try_for_each(|line| writeln!(formatter, "  | {line}"))?;
            }
        }
        if let Some(left) = left_behind {
            writeln!(formatter, "\nthe cluster could not be cleared away: {left}")?;
        }
        match blames.len() {
            0 => writeln!(formatter, "no promise was seen broken"),
            count => {
                let file = chronicle
                    .as_ref()
                    .map_or_else(String::new, |file| format!("; all that happened: {}", file.display()));
                writeln!(formatter, "\n{count} promises were seen broken, with SEED={seed}{file}")
            }
        }
    }
}
