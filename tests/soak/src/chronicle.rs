//! What happened, in the order in which it became known: a file for afterwards, and the last of it in memory, so that a
//! broken promise can be told with what went before.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Entries that are kept in memory.
const KEPT: usize = 200_000;

/// One thing that happened.
#[derive(Clone, Debug)]
struct Entry {
    at: Duration,
    about: Vec<String>,
    text: String,
}

#[derive(Debug)]
struct Pages {
    entries: VecDeque<Entry>,
    file: Option<BufWriter<File>>,
}

/// The chronicle of one life. Copies write into the same one.
#[derive(Clone, Debug)]
pub struct Chronicle {
    begin: Instant,
    pages: Arc<Mutex<Pages>>,
}

impl Chronicle {
    /// An empty one, which is written to this file as well.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn in_file(path: &Path) -> std::io::Result<Chronicle> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Chronicle::new(Some(file)))
    }

    /// An empty one that is only in memory.
    #[must_use]
    pub fn in_memory() -> Chronicle {
        Chronicle::new(None)
    }

    fn new(file: Option<BufWriter<File>>) -> Chronicle {
        let pages = Pages { entries: VecDeque::new(), file };
        Chronicle { begin: Instant::now(), pages: Arc::new(Mutex::new(pages)) }
    }

    /// How long ago it was begun.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Writes down what happened, and what it is about: the names of groups, workloads and pods, with their namespaces.
    pub fn note<S: Into<String>>(&self, about: impl IntoIterator<Item = S>, text: impl Into<String>) {
        let entry = Entry { at: self.now(), about: about.into_iter().map(Into::into).collect(), text: text.into() };
        let mut pages = self.pages();
        if let Some(file) = &mut pages.file {
            // A full disk shows in everything else, too.
            let _ = writeln!(file, "{}", line(&entry));
        }
        if pages.entries.len() == KEPT {
            pages.entries.pop_front();
        }
        pages.entries.push_back(entry);
    }

    /// The last entries that are about one of these, or about everybody.
    #[must_use]
    pub fn about(&self, wanted: &[String], most: usize) -> Vec<String> {
        let pages = self.pages();
        let concerned = |entry: &&Entry| entry.about.is_empty() || entry.about.iter().any(|one| wanted.contains(one));
        let mut found: Vec<String> = pages.entries.iter().rev().filter(concerned).take(most).map(line).collect();
        found.reverse();
        found
    }

    /// Writes out what is still on its way to the file.
    pub fn flush(&self) {
        if let Some(file) = &mut self.pages().file {
            let _ = file.flush();
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // Nothing here panics half-way.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(entry: &Entry) -> String {
    let about = entry.about.join(" ");
    format!("{:9.3} {} {}", entry.at.as_secs_f64(), if about.is_empty() { "-" } else { &about }, entry.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_somebody_is_told() {
        let chronicle = Chronicle::in_memory();
        chronicle.note(["shop/a"], "one");
        chronicle.note(["shop/b"], "two");
        chronicle.note([""; 0], "three");
        let told = chronicle.about(&["shop/a".to_owned()], 10);
        assert!(told.len() == 2 && told[0].ends_with("shop/a one") && told[1].ends_with("- three"), "{told:?}");
        assert_eq!(chronicle.about(&["shop/a".to_owned()], 1).len(), 1);
    }
}
