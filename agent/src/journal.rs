//! What the agents of this pod have done so far, as files on the pod's emptyDir.
//!
//! `attempt-N.started` is there before the command of attempt N is; its existence is what counts, so that a file that a
//! crash left empty still says so. `attempt-N.outcome` holds the termination message of the attempt, which is there in
//! whole or not at all; one that is not understood says no more than that the attempt was started.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::attempt::Ending;
use migration_gate_contract::{Report, Trace};

/// What the journal knows of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Its command was, or was about to be, started; nothing is known of its end.
    Started,
    /// How it ended.
    Ended(Ending),
}

/// The journal as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JournalView {
    /// What it knows of each attempt.
    Known(BTreeMap<u32, Entry>),
    /// It exists and could not be read, so that any attempt may have been started.
    Unreadable,
}

impl JournalView {
    /// A journal without an entry.
    pub const EMPTY: JournalView = JournalView::Known(BTreeMap::new());

    /// What it knows of the attempt.
    pub fn find(&self, attempt: u32) -> Option<Entry> {
        match self {
            JournalView::Known(entries) => entries.get(&attempt).copied(),
            JournalView::Unreadable => Some(Entry::Started),
        }
    }

    /// The latest attempt that it knows.
    pub fn latest(&self) -> Option<(u32, Entry)> {
        match self {
            JournalView::Known(entries) => entries.last_key_value().map(|(attempt, entry)| (*attempt, *entry)),
            JournalView::Unreadable => None,
        }
    }
}

/// The journal on the disk.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal in this directory, which need not exist yet.
    pub fn at(directory: PathBuf) -> Journal {
        Journal { directory }
    }

    /// What it knows.
    ///
    /// # Errors
    /// It exists, but can't be listed: that is not the same as an empty one.
    pub fn view(&self) -> io::Result<JournalView> {
        let mut entries = BTreeMap::new();
        let files = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(JournalView::EMPTY),
            files => files?,
        };
        for file in files {
            let name = file?.file_name();
            let Some(attempt) = name.to_str().and_then(attempt_of) else { continue };
            entries.entry(attempt).or_insert_with(|| match self.message(attempt).as_deref().map(Report::parse) {
                Some(Some(Report::Verdict(verdict))) if verdict.attempt == attempt => {
                    Entry::Ended(Ending::of(&verdict))
                }
                _ => Entry::Started,
            });
        }
        Ok(JournalView::Known(entries))
    }

    /// When the attempt was started, in milliseconds since 1970, if that is known.
    pub fn started(&self, attempt: u32) -> Option<i64> {
        match Report::parse(&fs::read_to_string(self.path(attempt, STARTED)).ok()?)? {
            Report::Trace(trace) => Some(trace.started),
            Report::Verdict(_) => None,
        }
    }

    /// The termination message of an attempt that ended.
    pub fn message(&self, attempt: u32) -> Option<String> {
        fs::read_to_string(self.path(attempt, OUTCOME)).ok()
    }

    /// Writes that the attempt is about to be started. When this returns, it is on the disk.
    ///
    /// # Errors
    /// Those of the file system; also if it is there already, so that of two agents only one can start the attempt.
    pub fn write_started(&self, trace: &Trace) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        if let Some(above) = self.directory.parent() {
            sync_directory(above)?;
        }
        let mut file = File::create_new(self.path(trace.attempt, STARTED))?;
        serde_json::to_writer(&mut file, trace)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        sync_directory(&self.directory)
    }

    /// Writes the termination message of an attempt that ended. When this returns, it is on the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_outcome(&self, attempt: u32, message: &str) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let new = self.path(attempt, "new");
        let mut file = File::create(&new)?;
        file.write_all(message.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, self.path(attempt, OUTCOME))?;
        sync_directory(&self.directory)
    }

    fn path(&self, attempt: u32, extension: &str) -> PathBuf {
        self.directory.join(format!("attempt-{attempt}.{extension}"))
    }
}

const STARTED: &str = "started";
const OUTCOME: &str = "outcome";

/// The attempt that a file with this name says something of.
fn attempt_of(name: &str) -> Option<u32> {
    let (number, extension) = name.strip_prefix("attempt-")?.split_once('.')?;
    [STARTED, OUTCOME].contains(&extension).then(|| number.parse().ok())?
}

/// Makes the names in a directory durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
