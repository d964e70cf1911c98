//! What the steps came to.

use std::fmt;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was done.
    pub step: &'static str,
    /// How often a migration ran in the database meanwhile.
    pub runs: u64,
    /// Seconds until a pod was elected.
    pub elected: Option<f64>,
    /// Seconds until the last gate opened.
    pub opened: Option<f64>,
    /// Requests that failed, and how many there were.
    pub failed: Option<(u64, u64)>,
}

/// All steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table(pub Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{:<44} {:>6} {:>12} {:>12} {:>18}",
            "step", "runs", "elected (s)", "opened (s)", "failed requests"
        )?;
        let seconds = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        for row in &self.0 {
            let failed = row.failed.map_or_else(|| "-".to_owned(), |(failed, all)| format!("{failed} of {all}"));
            writeln!(
                out,
                "{:<44} {:>6} {:>12} {:>12} {:>18}",
                row.step,
                row.runs,
                seconds(row.elected),
                seconds(row.opened),
                failed
            )?;
        }
        Ok(())
    }
}
