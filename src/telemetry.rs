//! Logs: one line an event, to standard error, as JSON for machines or as text for people.

use std::io;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

use crate::supervise::panic_text;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A JSON object.
    #[default]
    Json,
    /// Words, with colours on a terminal.
    Text,
}

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level isn't one.
    #[error("'{found}' is no log level ({error}); write error, warn, info, debug, trace, or MODULE=LEVEL pairs")]
    Level {
        /// What was given.
        found: String,
        /// What the parser says.
        error: ParseError,
    },
    /// Somebody else logs already.
    #[error("logging can't be set up: {0}")]
    Twice(#[from] TryInitError),
}

/// Standard error, without the lock that the standard library puts around it: a line is one write, which the system
/// doesn't mix with another's.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stderr(), line)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging, for the whole process. A panic becomes a log line too.
///
/// # Errors
/// The level isn't one, or logging was started before.
pub fn start(format: LogFormat, level: &str) -> Result<(), TelemetryError> {
    use std::io::IsTerminal;
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = EnvFilter::try_new(level).map_err(|error| TelemetryError::Level { found: level.to_owned(), error })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).finish().try_init()?,
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).finish().try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic_text(panic.payload()).unwrap_or("no text");
        tracing::error!(reason, place, "panic: a defect of this program");
    }));
    Ok(())
}
