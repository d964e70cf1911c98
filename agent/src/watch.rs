//! The signal directory: read as one moment of the pod's annotations, and watched for the next.
//!
//! The kubelet writes a new directory and swaps the link `..data` to it (pkg/volume/util/atomic_writer.go), so a watch on
//! a file would see one change at most. The directory is watched, and read again every now and then in any case.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use crate::say::say;
use crate::signal::News;
use migration_gate_contract::ending::SLOW_LOOK;
use migration_gate_contract::pod;

/// Between two looks at one that could not be watched.
const FAST: Duration = Duration::from_secs(1);
/// The kubelet's link to the directory of the present moment.
const PRESENT: &str = "..data";
/// The size that a signal may have; the contract's are below 256 bytes.
const LARGEST: u64 = 16 * 1024;
/// How often a swap may come between two reads before it is an error.
const SWAPS: usize = 100;

/// The signal directory of one pod.
#[derive(Debug)]
pub struct SignalDirectory {
    path: PathBuf,
    pod_uid: String,
    watch: Option<OwnedFd>,
    /// What is wrong with the files, as it was said last.
    said: Option<String>,
}

impl SignalDirectory {
    /// Watches the directory and reads the pod's UID.
    ///
    /// # Errors
    /// A sentence, if there is no such directory or no UID in it.
    pub fn open(path: PathBuf) -> Result<SignalDirectory, String> {
        let watch = match watch(&path) {
            Ok(watch) => Some(watch),
            // A node has few of them per user, and other pods' programs of the same user share those.
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC | Errno::NOSYS)) => {
                say(&format!("cannot watch {}: {error}; looking every second instead", path.display()));
                None
            }
            Err(error) => return Err(format!("cannot watch the signals in {}: {error}", path.display())),
        };
        let mut directory = SignalDirectory { path, pod_uid: String::new(), watch, said: None };
        let uid = directory.at_one_moment(|| directory.text(pod::POD_UID_FILE))?;
        directory.pod_uid = uid.trim().to_owned();
        if directory.pod_uid.is_empty() {
            return Err(format!("{} holds no pod UID", directory.path.join(pod::POD_UID_FILE).display()));
        }
        Ok(directory)
    }

    /// The UID of the agent's own pod.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// Becomes readable when the directory changed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// When to look again if nothing changes.
    pub fn patience(&self) -> Duration {
        if self.watch.is_some() { SLOW_LOOK } else { FAST }
    }

    /// Reads the directory. What is malformed counts as absent, and is said once.
    ///
    /// # Errors
    /// A sentence, if it can't be read: that is not the same as an absent signal.
    pub fn read(&mut self) -> Result<News, String> {
        if let Some(watch) = &self.watch {
            // The changes up to now are those that are read next.
            let mut events = [0; 4096];
            while rustix::io::read(watch, &mut events).is_ok_and(|read| read > 0) {}
        }
        let (signal, opened) =
            self.at_one_moment(|| Ok((self.text(pod::SIGNAL_FILE)?, self.text(pod::OPENED_FILE)?)))?;
        let mut wrong = None;
        let signal = parse(pod::SIGNAL_FILE, &signal, &mut wrong);
        let opened = parse(pod::OPENED_FILE, &opened, &mut wrong);
        if wrong != self.said {
            if let Some(wrong) = &wrong {
                say(wrong);
            }
            self.said = wrong;
        }
        Ok(News::for_pod(&self.pod_uid, signal.as_ref(), opened.as_ref()))
    }

    /// Reads from one and the same moment: again, if the link was swapped meanwhile. The names of moments don't recur.
    fn at_one_moment<T>(&self, read: impl Fn() -> Result<T, String>) -> Result<T, String> {
        let moment = || match fs::read_link(self.path.join(PRESENT)) {
            Ok(moment) => Ok(Some(moment)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", self.path.display())),
        };
        for _ in 0..SWAPS {
            let before = moment()?;
            let value = read();
            if moment()? == before {
                return value;
            }
        }
        Err(format!("{} changes all the time", self.path.display()))
    }

    /// A file's text; empty, if there is none. What is too long is cut, and so malformed.
    fn text(&self, name: &str) -> Result<String, String> {
        let path = self.path.join(name);
        let failed = |error| format!("cannot read {}: {error}", path.display());
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            file => file.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn watch(path: &Path) -> rustix::io::Result<OwnedFd> {
    use inotify::{CreateFlags, WatchFlags};
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watch, path, WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::ONLYDIR)?;
    Ok(watch)
}

/// The value in a file, if there is one; adds to what is wrong otherwise.
fn parse<T: DeserializeOwned>(name: &str, text: &str, wrong: &mut Option<String>) -> Option<T> {
    if text.trim().is_empty() {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) => {
            *wrong = Some(format!("the file {name} is not understood, so it counts as absent: {error}"));
            None
        }
    }
}
