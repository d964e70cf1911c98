//! The history as a table for people.

use jiff::Timestamp;

use crate::history::{Run, State};

/// One line a run, the oldest first, and below the last lines of the newest one if it did not succeed.
pub fn status(runs: &[Run]) -> String {
    if runs.is_empty() {
        return "nothing was run yet\n".to_owned();
    }
    let heading = ["RUN", "KEY", "STATE", "ATTEMPT", "EXIT", "STARTED", "SECONDS", "HOST"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(heading).chain(runs.iter().map(line)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    if let Some(last) = runs.last().filter(|run| matches!(run.state, State::Failed | State::Interrupted)) {
        text += &format!("\nThe last lines of run {}:\n{}\n", last.id, last.tail.trim_end());
    }
    text
}

fn line(run: &Run) -> [String; 8] {
    let started = Timestamp::from_millisecond(run.started).map_or_else(|_| "?".to_owned(), |time| format!("{time:.0}"));
    let seconds =
        run.ended.map_or_else(|| "-".to_owned(), |ended| format!("{:.1}", (ended - run.started) as f64 / 1e3));
    let key = if run.key.is_empty() { "-".to_owned() } else { run.key.clone() };
    let exit = run.exit.map_or_else(|| "-".to_owned(), |exit| exit.to_string());
    let attempt = run.attempt.to_string();
    [run.id.to_string(), key, run.state.word().to_owned(), attempt, exit, started, seconds, run.host.clone()]
}
