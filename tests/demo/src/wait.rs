//! Waiting for what a rollout comes to.

use std::time::Duration;

use serde_json::Value;
use testcluster::progress::Seen;

use crate::shop::NAME;
use crate::{Error, Release, Result, Shop};

/// How long a rollout may take on a small machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

impl Shop<'_> {
    /// Waits until exactly so many pods of a release are Ready, and there are none of another.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_until_ready(&self, release: Release, wanted: usize) -> Result<()> {
        self.site.cluster.wait_for(&format!("{wanted} Ready pods of {}", release.image()), LIMIT, || {
            let ready = self.ready(release).map_err(unwrap)?;
            let deployment = self.site.cluster.get(&["deployment", NAME, "-n", &self.namespace])?;
            let all = deployment["status"]["replicas"].as_u64().unwrap_or_default();
            let done = ready == wanted && all == wanted as u64;
            Ok(if done { Seen::Done(()) } else { Seen::NotYet(format!("{ready} are, of {all} pods")) })
        })?;
        Ok(())
    }

    /// Waits for a phase of the record, and returns the record.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for_phase(&self, wanted: &str) -> Result<Value> {
        self.wait_for_record(wanted, |status| status["phase"] == wanted)
    }

    /// Waits until the record's status is so, and returns the record. A record that isn't there yet is not so.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for_record(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        Ok(self.site.cluster.wait_for(&format!("the record to say {what}"), LIMIT, || {
            let record = match self.record() {
                Ok(record) => record,
                Err(error) => return Ok(Seen::NotYet(error.to_string())),
            };
            let status = &record["status"];
            Ok(if is_so(status) {
                Seen::Done(record)
            } else {
                Seen::NotYet(format!("{}: {}", text(&status["phase"]), text(&status["message"])))
            })
        })?)
    }

    /// Waits until the database says that so many runs were started.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for_run(&self, number: u64) -> Result<()> {
        self.site.cluster.wait_for(&format!("run {number} in the database"), LIMIT, || {
            let runs = self.ledger().map_err(unwrap)?.runs;
            Ok(if runs >= number { Seen::Done(()) } else { Seen::NotYet(format!("there are {runs}")) })
        })?;
        Ok(())
    }
}

/// The error of the cluster inside ours; any other as one.
pub(crate) fn unwrap(error: Error) -> testcluster::Error {
    match error {
        Error::Cluster(error) => error,
        other => testcluster::Error::Invalid(other.to_string()),
    }
}

/// A text without its quotes; anything else as JSON.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
