//! What the API and the database themselves say about a rollout.

use jiff::Timestamp;
use serde_json::Value;
use testcluster::postgres;

use crate::shop::NAME;
use crate::{Error, Release, Result, Shop};

/// What the database says was run against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// How often a migration was started.
    pub runs: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many started while another one held the lock.
    pub overlapped: u64,
    /// How many did not end.
    pub unended: u64,
}

impl Ledger {
    /// Reads it. A database without a ledger had no runs.
    pub(crate) fn read(database: &postgres::Server, name: &str) -> Result<Ledger> {
        if database.psql_in(name, "SELECT to_regclass('ledger') IS NULL")? == "t" {
            return Ok(Ledger::default());
        }
        let counts = database.psql_in(
            name,
            "SELECT count(*), count(*) FILTER (WHERE code <> 0), count(*) FILTER (WHERE overlapped), count(*) FILTER (WHERE ended IS NULL) FROM ledger",
        )?;
        let numbers: Vec<u64> = counts.split('|').filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [runs, failed, overlapped, unended] => Ok(Ledger { runs, failed, overlapped, unended }),
            _ => Err(Error::Unreadable(format!("the ledger: {counts:?}"))),
        }
    }
}

/// When what happened to one release's pods, in seconds from the creation of its ReplicaSet. The API keeps whole
/// seconds for pods and ReplicaSets, so each value is exact to one second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// When a pod was elected; `None` where none was.
    pub elected: Option<f64>,
    /// When the last gate opened; `None` where none did.
    pub opened: Option<f64>,
}

impl Shop<'_> {
    /// The group's record.
    ///
    /// # Errors
    /// When there is none.
    pub fn record(&self) -> Result<Value> {
        Ok(self.site.cluster.get(&["migrationgate", &format!("{NAME}.deployment"), "-n", &self.namespace])?)
    }

    /// The application's pods of one release.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn pods(&self, release: Release) -> Result<Vec<Value>> {
        let list = self.site.cluster.get(&["pods", "-n", &self.namespace, "-l", &format!("app={NAME}")])?;
        let image = release.image();
        let of_release = |pod: &&Value| pod["spec"]["containers"][0]["image"] == image.as_str();
        Ok(list["items"].as_array().into_iter().flatten().filter(of_release).cloned().collect())
    }

    /// How many of these pods are Ready and stay.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn ready(&self, release: Release) -> Result<usize> {
        let ready = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && condition(pod, "Ready").is_some();
        Ok(self.pods(release)?.iter().filter(ready).count())
    }

    /// When one release's rollout went through its stations.
    ///
    /// # Errors
    /// When the objects can't be read.
    pub fn observe(&self, release: Release) -> Result<Observed> {
        let sets = self.site.cluster.get(&["replicasets", "-n", &self.namespace, "-l", &format!("app={NAME}")])?;
        let image = release.image();
        let of_release = |set: &&Value| set["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str();
        let set = sets["items"].as_array().into_iter().flatten().find(of_release).cloned().unwrap_or_default();
        let start = time(&set["metadata"]["creationTimestamp"])?;
        let since = |time: Timestamp| time.duration_since(start).as_secs_f64();
        let opened = self.pods(release)?.iter().filter_map(|pod| condition(pod, "migration-gate.dev/migrated")).max();
        let record = self.record()?;
        let migrations = record["status"]["migrations"].as_array().cloned().unwrap_or_default();
        let migration = migrations.iter().find(|migration| migration["image"] == image.as_str());
        let elected =
            migration.map(|migration| &migration["attempts"][0]["elected"]).filter(|elected| elected.is_string());
        Ok(Observed { elected: elected.map(time).transpose()?.map(since), opened: opened.map(since) })
    }
}

/// Since when a pod's condition is true.
pub(crate) fn condition(pod: &Value, type_: &str) -> Option<Timestamp> {
    let conditions = pod["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == type_ && condition["status"] == "True")?;
    time(&condition["lastTransitionTime"]).ok()
}

/// A time of the API.
pub(crate) fn time(value: &Value) -> Result<Timestamp> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|error| Error::Unreadable(format!("the time {text:?}: {error}")))
}
