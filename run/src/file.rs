//! The lock as flock(2) on a file of this host: held by the open file, so it ends with the process, whatever ends it.
//!
//! For `file:` the history is a file beside it, for `sqlite:` a table in the database itself. The lock is on a file of
//! its own there: SQLite's locks on the database are another kind (fcntl(2)), which on some file systems meets flock's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::failure::{Failure, Kind};
use crate::history::{Run, State, VERSION, trim};
use crate::place::{Attempt, Later, Pace, Place, Which};
use crate::rows::Rows;
use crate::sql::{Connection, Session, TableName};
use crate::target::Site;

const PACE: Pace = Pace {
    poll: Duration::from_millis(100),
    check: Duration::from_secs(1),
    look: Duration::from_millis(1000),
    watchdog: None,
};

/// A file that is locked or to be locked.
pub(crate) struct FileLock {
    path: PathBuf,
    lock: String,
    history: History,
    held: Option<File>,
}

enum History {
    File(PathBuf),
    Sqlite { site: Site, rows: Rows, connection: Option<Box<Connection>> },
}

impl FileLock {
    /// The lock file itself, with its history beside it.
    pub(crate) fn plain(path: PathBuf, lock: String) -> FileLock {
        let history = History::File(with_suffix(&path, ".history"));
        FileLock { path, lock, history, held: None }
    }

    /// A lock file beside a SQLite database. Locks of other names have other files.
    pub(crate) fn beside_sqlite(database: PathBuf, table: TableName, lock: String) -> FileLock {
        let path = with_suffix(&database, &format!(".{lock}.lock"));
        let rows = Rows::new(table, lock.clone(), Session::Own);
        let history = History::Sqlite { site: Site::Sqlite(database), rows, connection: None };
        FileLock { path, lock, history, held: None }
    }

    fn take(&mut self) -> Result<Attempt, Failure> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path)
            .map_err(|error| self.failed("can't open", &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(Attempt::Busy),
            Err(error) => return Err(self.failed("can't lock", &error.into())),
        }
        // Somebody may have removed the file meanwhile; others then lock another one of that name.
        if !self.is_current(&file) {
            return Ok(Attempt::Busy);
        }
        self.held = Some(file);
        Ok(Attempt::Taken)
    }

    fn is_current(&self, file: &File) -> bool {
        let identity = |data: io::Result<fs::Metadata>| data.ok().map(|data| (data.dev(), data.ino()));
        identity(file.metadata()).is_some_and(|held| identity(fs::metadata(&self.path)) == Some(held))
    }

    fn look(&self) -> Result<(), Failure> {
        match &self.held {
            Some(file) if self.is_current(file) => Ok(()),
            _ => Err(Failure::new(
                Kind::Lost,
                format!(
                    "the lock file {} was removed or replaced, so another process can lock its successor",
                    self.path.display()
                ),
            )),
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        of_file(what, &self.path, error)
    }
}

impl History {
    async fn database(&mut self) -> Result<(&mut Connection, &Rows), Failure> {
        match self {
            History::Sqlite { site, rows, connection } => {
                if connection.is_none() {
                    *connection = Some(Box::new(Connection::open(site, Session::Own).await?));
                }
                let connection = connection.as_mut().ok_or_else(crate::session::no_connection)?;
                Ok((connection, rows))
            }
            History::File(_) => Err(Failure::new(Kind::Defect, "the history is a file")),
        }
    }

    async fn read(&mut self, lock: &str, which: Which<'_>) -> Result<Vec<Run>, Failure> {
        if let History::File(path) = self {
            let mut runs = read(path)?;
            runs.retain(|run| run.lock == lock && which.covers(run));
            return Ok(runs);
        }
        let (connection, rows) = self.database().await?;
        rows.list(connection, which).await
    }

    async fn add(&mut self, run: &mut Run) -> Result<(), Failure> {
        if let History::File(path) = self {
            let mut runs = read(path)?;
            run.id = runs.iter().map(|run| run.id).max().unwrap_or(0) + 1;
            runs.push(run.clone());
            trim(&mut runs);
            return write(path, &runs);
        }
        let (connection, rows) = self.database().await?;
        rows.begin(connection, run).await
    }

    async fn end(&mut self, run: &Run) -> Result<(), Failure> {
        if let History::File(path) = self {
            let mut runs = read(path)?;
            let open =
                |known: &&mut Run| known.id == run.id && known.owner == run.owner && known.state != State::Succeeded;
            if let Some(known) = runs.iter_mut().find(open) {
                *known = run.clone();
            }
            return write(path, &runs);
        }
        let (connection, rows) = self.database().await?;
        rows.finish(connection, run).await
    }

    async fn drop_key(&mut self, lock: &str, key: &str) -> Result<u64, Failure> {
        if let History::File(path) = self {
            let mut runs = read(path)?;
            let before = runs.len();
            runs.retain(|run| run.lock != lock || run.key != key);
            write(path, &runs)?;
            return Ok((before - runs.len()) as u64);
        }
        let (connection, rows) = self.database().await?;
        rows.forget(connection, key).await
    }

    async fn make(&mut self) -> Result<(), Failure> {
        if let History::File(path) = self {
            // Better now than after the command.
            let runs = read(path)?;
            return write(path, &runs);
        }
        let (connection, rows) = self.database().await?;
        rows.prepare(connection).await
    }
}

/// One run a line, as JSON.
fn read(path: &Path) -> Result<Vec<Run>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(of_file("can't read", path, &error)),
    };
    let parse = |(line, number): (&str, usize)| {
        let unfit = |why: String| Failure::new(Kind::Unfit, format!("line {number} of {}: {why}", path.display()));
        let run: Run = serde_json::from_str(line).map_err(|error| unfit(error.to_string()))?;
        match run.version > VERSION {
            true => Err(unfit(format!("version {} was written by a newer migration-gate", run.version))),
            false => Ok(run),
        }
    };
    text.lines().zip(1..).map(parse).collect()
}

/// Writes the whole beside the file, and puts it in its place when it is on the disk: a reader sees the old or the new.
fn write(path: &Path, runs: &[Run]) -> Result<(), Failure> {
    let new = with_suffix(path, ".new");
    let written = || -> io::Result<()> {
        let mut text = String::new();
        for run in runs {
            text += &serde_json::to_string(run).map_err(io::Error::other)?;
            text.push('\n');
        }
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&new);
        of_file("can't write", path, &error)
    })
}

fn of_file(what: &str, path: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => Kind::Denied,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Kind::Unfit,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
            Kind::Unwritable
        }
        _ => Kind::System,
    };
    Failure::new(kind, format!("{what} {}: {error}", path.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Place for FileLock {
    fn pace(&self) -> Pace {
        PACE
    }

    fn connect(&mut self) -> Later<'_, ()> {
        Box::pin(async move {
            match self.history {
                History::File(_) => Ok(()),
                History::Sqlite { .. } => self.history.database().await.map(|_| ()),
            }
        })
    }

    fn try_lock(&mut self) -> Later<'_, Attempt> {
        Box::pin(async move { self.take() })
    }

    fn check(&mut self) -> Later<'_, ()> {
        Box::pin(async move { self.look() })
    }

    fn unlock(&mut self) -> Later<'_, ()> {
        Box::pin(async move {
            self.held = None;
            if let History::Sqlite { connection, .. } = &mut self.history
                && let Some(connection) = connection.take()
            {
                connection.close().await;
            }
            Ok(())
        })
    }

    fn runs<'a>(&'a mut self, which: Which<'a>) -> Later<'a, Vec<Run>> {
        Box::pin(async move { self.history.read(&self.lock, which).await })
    }

    fn prepare(&mut self) -> Later<'_, ()> {
        Box::pin(self.history.make())
    }

    fn begin<'a>(&'a mut self, run: &'a mut Run) -> Later<'a, ()> {
        Box::pin(self.history.add(run))
    }

    fn finish<'a>(&'a mut self, run: &'a Run) -> Later<'a, ()> {
        Box::pin(self.history.end(run))
    }

    fn forget<'a>(&'a mut self, key: &'a str) -> Later<'a, u64> {
        Box::pin(async move { self.history.drop_key(&self.lock, key).await })
    }
}
