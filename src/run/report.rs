//! What a wrapper tells who started it and can't tell its exit code from the command's own: the agent.

use std::fs;
use std::path::Path;

use migration_gate_run::{Ended, Failure, How, Kind};

use crate::contract::{LockReport, Outcome};

/// Says how it ended in a file, which is there as a whole or not at all.
///
/// # Errors
/// The file can't be written.
pub fn write(file: &Path, ended: &Result<Ended, Failure>) -> Result<(), Failure> {
    let outcome = match ended {
        Ok(ended) => match ended.how {
            How::Succeeded => Outcome::Succeeded,
            How::Failed => Outcome::Failed,
            How::TimedOut => Outcome::TimedOut,
            How::Interrupted => Outcome::Interrupted,
        },
        // Nobody's fault: the same may succeed in another process.
        Err(failure) if failure.kind == Kind::Lost || failure.kind == Kind::Busy => Outcome::Interrupted,
        Err(_) => Outcome::Failed,
    };
    let written = serde_json::to_vec(&LockReport { outcome }).map_err(std::io::Error::other).and_then(|text| {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = file.with_file_name(name);
        fs::write(&new, text)?;
        fs::rename(&new, file)
    });
    written
        .map_err(|error| Failure::new(Kind::Unwritable, format!("can't write the report {}: {error}", file.display())))
}
