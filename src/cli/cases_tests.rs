//! Manifests as people have them, each with what `lint` and `inject` make of it on top.

use std::fs;
use std::path::{Path, PathBuf};

use super::inject::inject;
use super::installation::{Delivery, installation};
use super::lint::explain;
use super::manifests;

/// What a file expects.
struct Expected {
    /// There is a workload that can't be left like this.
    fails: bool,
    /// The documents that `inject` changes.
    changed: Vec<usize>,
    /// What begins each error and warning, in their order.
    notes: Vec<String>,
    /// What `lint` says about each gated workload, at its end.
    gated: Option<String>,
}

impl Expected {
    fn read(text: &str) -> Expected {
        let values = |key: &str| -> Vec<String> {
            let key = format!("# {key}: ");
            text.lines().filter_map(|line| line.strip_prefix(&key)).map(str::to_owned).collect()
        };
        let only = |key: &str| values(key).into_iter().next().unwrap_or_else(|| panic!("no line # {key}: in {text}"));
        Expected {
            fails: only("fails") == "yes",
            changed: only("changed").split(' ').filter_map(|number| number.parse().ok()).collect(),
            notes: values("says"),
            gated: values("gated").into_iter().next(),
        }
    }
}

fn cases() -> Vec<(PathBuf, Expected)> {
    let folder = Path::new("tests/data/cases");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 14, "{} cases", files.len());
    let read = |file: &PathBuf| Expected::read(&fs::read_to_string(file).expect("a readable file"));
    files.iter().map(|file| (file.clone(), read(file))).collect()
}

/// The notes are the ones that are expected, in their order, and no others.
fn check_notes(file: &Path, expected: &Expected, notes: &[&str]) {
    assert_eq!(notes.len(), expected.notes.len(), "{}: {notes:#?}", file.display());
    for (note, beginning) in notes.iter().zip(&expected.notes) {
        assert!(note.to_lowercase().starts_with(&beginning.to_lowercase()), "{}: {note}", file.display());
    }
}

#[test]
fn lint_says_what_is_expected() {
    for (file, expected) in cases() {
        let (text, faults) = explain(&mut manifests::read(std::slice::from_ref(&file)).expect("readable"));
        let notes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        check_notes(&file, &expected, &notes);
        assert_eq!(faults.conclude().is_err(), expected.fails, "{}", file.display());
        let mut gated = text.lines().filter(|line| line.contains(": gated; "));
        if let Some(ending) = &expected.gated {
            assert!(gated.all(|line| line.ends_with(ending)), "{text}");
        }
        let count = text.lines().filter(|line| line.contains(": gated; ")).count();
        let is_stripped = text.contains("carries an injection");
        assert!(is_stripped || expected.fails || count == expected.changed.len(), "{}: {text}", file.display());
    }
}

#[test]
fn inject_says_the_same_and_leaves_the_rest_alone() {
    let installation = installation("registry.example/migration-gate:0.1.0".to_owned(), Delivery::default());
    for (file, expected) in cases() {
        let mut documents = manifests::read(std::slice::from_ref(&file)).expect("readable");
        let before = manifests::write(&documents).expect("written");
        let mut messages = Vec::new();
        let faults = inject(&mut documents, &installation, &mut messages);
        let messages = String::from_utf8(messages).expect("text");
        // `Error: FILE: document 1: Deployment shop: …` says the same as lint's two lines.
        let notes: Vec<String> = messages
            .lines()
            .map(|line| {
                let parts: Vec<&str> = line.splitn(5, ": ").collect();
                format!("{}: {}", parts[0], parts[4])
            })
            .collect();
        check_notes(&file, &expected, &notes.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(faults.conclude().is_err(), expected.fails, "{}", file.display());
        let changed = documents.iter().zip(1..).filter(|(document, _)| document.has_changed).map(|(_, number)| number);
        assert_eq!(changed.collect::<Vec<usize>>(), expected.changed, "{}", file.display());
        let after = manifests::write(&documents).expect("written");
        assert_eq!(after == before, expected.changed.is_empty(), "{}", file.display());
        if file.ends_with("copied-injection.yaml") {
            let mut lines = after.lines().filter(|line| !line.starts_with('#'));
            assert!(!lines.any(|line| line.contains("migration-gate")), "{after}");
        }
    }
}
