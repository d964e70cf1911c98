//! The API server's audit log: what the controllers asked for, whether or not it changed anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::{Error, Result, system};

/// The controllers' user.
pub const CONTROLLER: &str = "system:serviceaccount:migration-gate-system:migration-gate-controller";

/// An audit policy with which only what the controllers ask for is logged, their Lease left aside.
///
/// # Errors
/// When it can't be written.
pub fn write_policy(path: &Path) -> Result<()> {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            { "level": "None", "resources": [{ "group": "coordination.k8s.io" }] },
            { "level": "None", "verbs": ["watch"] },
            { "level": "Metadata", "users": [CONTROLLER] },
            { "level": "None" },
        ],
    });
    std::fs::write(path, policy.to_string()).map_err(|error| system(path, error))
}

/// The log, as far as it was read.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    rest: String,
    /// Requests, by verb and resource.
    pub counts: BTreeMap<String, usize>,
    writes: Vec<Write>,
}

/// A write.
#[derive(Clone, Debug)]
pub struct Write {
    /// When it was read in the log.
    pub at: Instant,
    /// What it was.
    pub what: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

impl Audit {
    /// The log in this file, which need not be there yet.
    #[must_use]
    pub fn of(path: PathBuf) -> Audit {
        Audit { path, reader: None, rest: String::new(), counts: BTreeMap::new(), writes: Vec::new() }
    }

    /// Reads what was added.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(&mut self) -> Result<()> {
        if self.reader.is_none() {
            let Ok(file) = File::open(&self.path) else { return Ok(()) };
            self.reader = Some(BufReader::new(file));
        }
        let Some(reader) = &mut self.reader else { return Ok(()) };
        loop {
            let count = reader.read_line(&mut self.rest).map_err(|error| system(&self.path, error))?;
            // A line that is only half there is read on the next time.
            if count == 0 || !self.rest.ends_with('\n') {
                return Ok(());
            }
            let line = std::mem::take(&mut self.rest);
            // A server that is killed while it writes leaves half a line, which the next one's first follows.
            let Ok(line) = serde_json::from_str::<Line>(line.trim()) else { continue };
            let Object { resource, subresource, namespace, name } = line.object_ref;
            let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
            *self.counts.entry(format!("{} {resource}", line.verb)).or_default() += 1;
            if ["create", "update", "patch", "delete", "deletecollection"].contains(&line.verb.as_str()) {
                let what = format!("{} {resource} {namespace}/{name} ({})", line.verb, line.response_status.code);
                self.writes.push(Write { at: Instant::now(), what });
            }
        }
    }

    /// How long ago the last write was seen, if there was any.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        self.writes.last().map(|write| write.at.elapsed())
    }

    /// How many requests there were in all.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.counts.values().sum()
    }

    /// The writes of the last so many seconds, the same ones together, the most frequent first.
    #[must_use]
    pub fn latest(&self, within: Duration) -> Vec<(usize, String)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let recent = self.writes.iter().rev().take_while(|write| write.at.elapsed() < within);
        recent.for_each(|write| *counts.entry(&write.what).or_default() += 1);
        let mut sorted: Vec<_> = counts.into_iter().map(|(what, count)| (count, what.to_owned())).collect();
        sorted.sort_by(|one, other| other.cmp(one));
        sorted
    }
}

/// Fails unless the controllers' requests are in the log at all: else silence would prove nothing.
///
/// # Errors
/// When there are none.
pub fn must_have_content(audit: &Audit) -> Result<()> {
    match audit.requests() {
        0 => Err(Error::Unusable(format!("{} has nothing of what the controllers asked for", audit.path.display()))),
        _ => Ok(()),
    }
}
