//! The rules of the [journal](super::journal), on a real disk.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::attempt::{Ending, Exit};
use crate::journal::{Entry, Journal, JournalView};
use migration_gate_contract::{Outcome, Report, Trace, Verdict};

/// A directory that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("migration-gate-journal-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a new directory");
        Folder(path)
    }

    /// A journal in it that does not exist yet.
    fn journal(&self) -> Journal {
        Journal::at(self.0.join("pod/journal"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("pod/journal").join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it was there");
    }
}

fn trace(attempt: u32) -> Trace {
    Trace { attempt, pod_uid: "uid".to_owned(), started: 1_234 }
}

fn failed(attempt: u32) -> String {
    let verdict = Verdict {
        attempt,
        pod_uid: "uid".to_owned(),
        outcome: Outcome::Failed,
        exit_code: Some(3),
        signal: None,
        start: Some(1_234),
        end: Some(2_345),
    };
    serde_json::to_string(&Report::Verdict(verdict)).expect("JSON") + "\nthe last line\n"
}

const FAILED: Entry = Entry::Ended(Ending { outcome: Outcome::Failed, exit: Some(Exit::Code(3)) });

#[test]
fn a_journal_that_was_never_written_is_empty() {
    let folder = Folder::new();
    assert_eq!(folder.journal().view().expect("nothing is no error"), JournalView::EMPTY);
    assert_eq!(JournalView::EMPTY.latest(), None);
}

#[test]
fn a_journal_that_cannot_be_listed_is_an_error_and_not_empty() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("pod")).expect("a directory");
    fs::write(folder.0.join("pod/journal"), "").expect("a file in the directory's place");
    assert!(folder.journal().view().is_err());
    assert_eq!((JournalView::Unreadable.latest(), JournalView::Unreadable.find(7)), (None, Some(Entry::Started)));
}

#[test]
fn what_was_written_is_known() {
    let folder = Folder::new();
    let journal = folder.journal();
    journal.write_started(&trace(1)).expect("it is written");
    assert_eq!((journal.started(1), journal.message(1)), (Some(1_234), None));
    assert_eq!(journal.view().expect("it is listed").latest(), Some((1, Entry::Started)));

    journal.write_outcome(1, &failed(1)).expect("it is written");
    journal.write_started(&trace(12)).expect("it is written");
    assert_eq!(journal.message(1), Some(failed(1)));
    let view = journal.view().expect("it is listed");
    assert_eq!((view.find(1), view.find(12), view.find(2)), (Some(FAILED), Some(Entry::Started), None));
    assert_eq!(view.latest(), Some((12, Entry::Started)), "by number");
    assert_eq!(journal.started(2), None);
}

#[test]
fn an_attempt_is_started_once() {
    let folder = Folder::new();
    folder.journal().write_started(&trace(1)).expect("the first time");
    assert!(folder.journal().write_started(&trace(1)).is_err());
}

#[test]
fn an_outcome_without_a_start_is_known_too() {
    let folder = Folder::new();
    folder.journal().write_outcome(4, &failed(4)).expect("it is written");
    assert_eq!(folder.journal().view().expect("it is listed").latest(), Some((4, FAILED)));
    assert_eq!(folder.journal().started(4), None);
}

#[test]
fn what_is_not_understood_was_started_at_least() {
    let folder = Folder::new();
    let journal = folder.journal();
    // A crash left the start empty, or the outcome is of another attempt.
    journal.write_started(&trace(1)).expect("it is written");
    fs::write(folder.file("attempt-1.started"), "").expect("it is emptied");
    journal.write_outcome(2, &failed(3)).expect("it is written");
    journal.write_outcome(3, "?").expect("it is written");
    let view = journal.view().expect("it is listed");
    let started = Some(Entry::Started);
    assert_eq!((view.find(1), view.find(2), view.find(3)), (started, started, started));
    assert_eq!(journal.started(1), None);
}

#[test]
fn other_files_say_nothing() {
    let folder = Folder::new();
    folder.journal().write_outcome(1, &failed(1)).expect("it is written");
    for name in ["attempt-2.new", "attempt-x.started", "attempt-3", "lock-report", "4.started"] {
        fs::write(folder.file(name), failed(2)).expect("it is written");
    }
    assert_eq!(folder.journal().view().expect("it is listed").latest(), Some((1, FAILED)));
}
