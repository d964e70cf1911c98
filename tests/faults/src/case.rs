//! One Deployment whose migration is hurt by one fault, and what its witnesses say of it.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use migration_gate::contract::ending::LONGEST_ENDING;
use migration_gate::contract::{Signal, annotation, label, pod};
use migration_gate::migration::{AttemptOutcome, MigrationGateStatus, OverrideAction, Phase};

use crate::arena::{Arena, IMAGE, LIMIT, NAMESPACE, has_condition, system};
use crate::processes::{self, Part};
use crate::shape::{Loyalty, Patience, Processes, Shape, Temper};
use crate::{Error, Result};

/// One start of the command, as it wrote it down itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The attempt.
    pub attempt: u32,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
}

/// What the witnesses say of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often the command was started.
    pub runs: usize,
    /// Starts while another run was alive, of an attempt that was started before, or after a run that had ended well.
    pub double: usize,
    /// Runs that ended well, of which the record does not say so.
    pub lost: usize,
    /// Applications that started before a run had ended.
    pub early: usize,
}

/// A Deployment whose migration is hurt.
pub struct Case<'a> {
    /// Where it is.
    pub arena: &'a Arena,
    /// Its name.
    pub name: String,
    shape: Shape,
    folder: PathBuf,
}

impl<'a> Case<'a> {
    /// Makes one; its pods come up by and by.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn open(arena: &'a Arena, shape: Shape) -> Result<Case<'a>> {
        let name = format!("case-{}", arena.next_number());
        let folder = arena.new_folder(&name)?;
        let case = Case { arena, name, shape, folder };
        case.deploy()?;
        Ok(case)
    }

    /// Makes the Deployment.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn deploy(&self) -> Result<()> {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
        // A webhook behind a partition takes its time to be passed over.
        self.arena.wait(&format!("{} to be taken", self.name), LIMIT, || {
            Ok(self.arena.api.create(&path, &self.manifest()).map_err(|error| error.to_string()))
        })
    }

    /// The path of the Deployment.
    #[must_use]
    pub fn deployment(&self) -> String {
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{}", self.name)
    }

    fn manifest(&self) -> Value {
        let url = self.arena.database_url(self.shape.patience == Patience::Short);
        let labels = json!({ "app": self.name });
        let loyal = ["not-ready", "unreachable"].map(
            |what| json!({ "key": format!("node.kubernetes.io/{what}"), "operator": "Exists", "effect": "NoExecute" }),
        );
        let tolerations = if self.shape.loyalty == Loyalty::Endless { &loyal[..] } else { &[] };
        let command = match self.shape.temper {
            Temper::Meek => "/bin/witness migrate",
            Temper::Stubborn => "/bin/witness migrate stubborn",
        };
        let mut annotations = json!({ annotation::COMMAND: command });
        if let Some(seconds) = self.shape.time_limit {
            annotations[annotation::TIMEOUT] = json!(format!("{seconds}s"));
        }
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": self.name, "namespace": NAMESPACE,
                "labels": { label::GATED: label::GATED_TRUE },
                "annotations": annotations,
            },
            "spec": { "replicas": self.shape.replicas, "selector": { "matchLabels": labels }, "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": self.shape.grace,
                    "shareProcessNamespace": self.shape.processes == Processes::Shared,
                    "tolerations": tolerations,
                    "securityContext": { "runAsUser": 65532, "runAsGroup": 65532 },
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": { "matchLabels": labels },
                    }],
                    "volumes": [{ "name": "shared", "hostPath": { "path": self.arena.shared() } }],
                    "containers": [{
                        "name": "app", "image": IMAGE, "args": ["serve"],
                        "env": [{ "name": "CASE", "value": self.name }, { "name": "DATABASE_URL", "value": url }],
                        "volumeMounts": [{ "name": "shared", "mountPath": "/shared" }],
                        "resources": { "requests": { "cpu": "5m" }, "limits": { "memory": "64Mi" } },
                    }],
                },
            } },
        })
    }

    /// Lets runs of this attempt and of later ones end well.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn finish_from(&self, attempt: u32) -> Result<()> {
        self.put("finish-from", &attempt.to_string())
    }

    /// Makes a run of this attempt take more memory than it may have.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn eat(&self, attempt: u32) -> Result<()> {
        self.put(&format!("eat-{attempt}"), "")
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|error| system(&path, error))
    }

    fn entries(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The starts so far.
    #[must_use]
    pub fn runs(&self) -> Vec<Run> {
        let entries = self.entries();
        entries.iter().filter(|entry| entry["event"] == "start").map(run_of).collect()
    }

    /// Whether this run has ended well.
    #[must_use]
    pub fn has_ended(&self, run: &Run) -> bool {
        self.entries().iter().any(|entry| entry["event"] == "end" && run_of(entry) == *run)
    }

    /// Waits for the first run.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn wait_for_run(&self) -> Result<Run> {
        self.arena.wait(&format!("the migration of {} to start", self.name), LIMIT, || {
            Ok(self.runs().pop().ok_or_else(|| self.story()))
        })
    }

    /// Waits until a run ended well and its container is gone. Only then has its agent written down the end: a command
    /// that is asked to stop before it exits was interrupted, whatever it says of itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_end(&self, run: &Run) -> Result<()> {
        self.arena.wait(&format!("attempt {} of {} to end", run.attempt, self.name), LIMIT, || {
            let is_over = self.has_ended(run) && processes::of_container(&run.uid).is_empty();
            Ok(if is_over { Ok(()) } else { Err(self.story()) })
        })
    }

    /// Waits until the command of a run is gone, however it ended.
    ///
    /// # Errors
    /// When it is still there after that time.
    pub fn wait_until_gone(&self, run: &Run, limit: Duration) -> Result<()> {
        self.arena.wait(&format!("the command of attempt {} of {} to be gone", run.attempt, self.name), limit, || {
            let left = processes::of_part(&run.uid, Part::Migration);
            Ok(if left.is_empty() { Ok(()) } else { Err(self.story()) })
        })
    }

    /// Waits until the mark is on a run's pod, and then for the agent to end the command in time.
    ///
    /// # Errors
    /// When one or the other does not happen.
    pub fn wait_until_fenced(&self, run: &Run) -> Result<()> {
        self.arena.wait(&format!("the mark on {}", run.pod), LIMIT, || {
            let pod = self.arena.api.get(&self.pod_path(&run.pod))?.unwrap_or_default();
            let marked = matches!(signal_of(&pod), Some(Signal::Settled(settled)) if settled.attempt >= run.attempt);
            Ok(if marked { Ok(()) } else { Err(self.story()) })
        })?;
        self.wait_until_gone(run, LONGEST_ENDING)
    }

    /// Vouches, as an operator, that a run is dead.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn confirm_dead(&self, run: &Run) -> Result<()> {
        let active = self.status()?.and_then(|status| status.active);
        let active = active.ok_or_else(|| Error::Unreadable(format!("{} has no active attempt", self.name)))?;
        let order = json!({ "fingerprint": active.fingerprint, "action": OverrideAction::ConfirmDead,
            "attempt": run.attempt, "podUid": run.uid, "by": "an operator who is mistaken" });
        self.arena.api.merge(&self.record_path(), &json!({ "spec": { "overrides": [order] } }))
    }

    /// What the agents in its pods wrote, the restarted ones after those before them: for whoever wants to know why one
    /// is stuck.
    #[must_use]
    pub fn agents(&self) -> String {
        let mut told = String::new();
        for pod in self.pods().unwrap_or_default() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let _ = writeln!(told, "{name}, signal {:?}", signal_of(&pod));
            for (which, previous) in [("before", true), ("now", false)] {
                // A container that was never restarted has none before it.
                let log = self.arena.api.log(&self.pod_path(name), pod::MIGRATE_CONTAINER, previous);
                log.iter().flat_map(|log| log.lines()).for_each(|line| {
                    let _ = writeln!(told, "  {which}: {line}");
                });
            }
        }
        told
    }

    /// Its pods.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn pods(&self) -> Result<Vec<Value>> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{}", self.name);
        let list = self.arena.api.get(&path)?.unwrap_or_default();
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The path of one of its pods.
    #[must_use]
    pub fn pod_path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}")
    }

    /// The node that a pod is on.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn node_of(&self, pod: &str) -> Result<String> {
        let pod = self.arena.api.get(&self.pod_path(pod))?.unwrap_or_default();
        let node = pod["spec"]["nodeName"].as_str().map(str::to_owned);
        node.ok_or_else(|| Error::Unreadable(format!("the pod has no node: {pod}")))
    }

    /// What its record says; nothing while there is none.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn status(&self) -> Result<Option<MigrationGateStatus>> {
        let record = self.record()?;
        if record["status"].is_null() {
            return Ok(None);
        }
        let status = serde_json::from_value(record["status"].clone());
        status.map(Some).map_err(|error| Error::Unreadable(format!("the record of {}: {error}", self.name)))
    }

    /// Waits until the record says that it succeeded, and all pods are Ready.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        self.arena.wait(&format!("{} to be migrated and Ready", self.name), limit, || {
            Ok(if self.is_ready()? { Ok(()) } else { Err(self.story()) })
        })
    }

    /// Whether the record says that it succeeded, and all pods are Ready.
    fn is_ready(&self) -> Result<bool> {
        let succeeded = self.status()?.is_some_and(|status| status.phase == Some(Phase::Succeeded));
        let pods = self.pods()?;
        let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let ready = staying.filter(|pod| has_condition(pod, "Ready")).count();
        Ok(succeeded && ready == pods.len() && ready == self.shape.replicas as usize)
    }

    /// The same, and the controller has nothing left to write: it has let go of the record.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn is_settled(&self) -> Result<bool> {
        let held = self.record()?["metadata"]["finalizers"].is_array();
        Ok(!held && self.is_ready()?)
    }

    fn record(&self) -> Result<Value> {
        Ok(self.arena.api.get(&self.record_path())?.unwrap_or_default())
    }

    fn record_path(&self) -> String {
        format!("/apis/migration-gate.dev/v1alpha1/namespaces/{NAMESPACE}/migrationgates/{}.deployment", self.name)
    }

    /// Ends it, and returns how many pods are still there after a time in which all should have gone.
    ///
    /// # Errors
    /// When the API server refuses its deletion.
    pub fn close(self) -> Result<usize> {
        self.arena.api.delete(&self.deployment(), None)?;
        let gone = self.arena.wait(&format!("{} to be gone", self.name), LIMIT, || {
            let (pods, status) = (self.pods()?.len(), self.status()?);
            let all = pods == 0 && status.is_none();
            Ok(if all { Ok(()) } else { Err(format!("{pods} pods are left; record: {}", status.is_some())) })
        });
        match gone {
            Ok(()) => Ok(0),
            Err(_) => Ok(self.pods()?.len().max(1)),
        }
    }

    /// Compares what the witnesses wrote with what the record says.
    ///
    /// # Errors
    /// When the record can't be read.
    pub fn tally(&self) -> Result<Tally> {
        let status = self.status()?.unwrap_or_default();
        let succeeded = |attempt: u32| {
            let attempts = status.migrations.iter().flat_map(|migration| &migration.attempts);
            attempts.clone().any(|known| known.number == attempt && known.outcome == AttemptOutcome::Succeeded)
        };
        let (mut tally, mut seen, mut ended) = (Tally::default(), HashMap::<(u32, String), usize>::new(), false);
        for entry in self.entries() {
            let run = run_of(&entry);
            match entry["event"].as_str() {
                Some("start") => {
                    tally.runs += 1;
                    let again = seen.entry((run.attempt, run.uid)).or_default();
                    *again += 1;
                    tally.double += usize::from(entry["overlap"] != false || *again > 1 || ended);
                }
                Some("end") => {
                    ended = true;
                    tally.lost += usize::from(!succeeded(run.attempt));
                }
                _ => tally.early += 1,
            }
        }
        let noticed = self.arena.sql(&format!("SELECT count(*) FROM runs WHERE name = '{}' AND overlap", self.name))?;
        tally.double = tally.double.max(noticed.parse().unwrap_or(usize::MAX));
        Ok(tally)
    }

    /// The outcomes of its attempts.
    #[must_use]
    pub fn history(&self) -> String {
        let status = self.status().ok().flatten().unwrap_or_default();
        let attempts = status.migrations.iter().flat_map(|migration| &migration.attempts);
        let outcomes = attempts.map(|attempt| {
            let evidence = attempt.evidence.as_deref().map_or_else(String::new, |basis| format!(" ({basis})"));
            format!("{} {:?}{evidence}", attempt.number, attempt.outcome)
        });
        outcomes.collect::<Vec<_>>().join(", ")
    }

    /// What is known of it now, in a line.
    #[must_use]
    pub fn story(&self) -> String {
        let status = match self.status() {
            Ok(Some(status)) => {
                let phase = status.phase.map_or("no phase".to_owned(), |phase| format!("{phase:?}"));
                format!("{phase}: {}", status.message.unwrap_or_default())
            }
            Ok(None) => "no record".to_owned(),
            Err(error) => error.to_string(),
        };
        let pods: Vec<String> = self.pods().unwrap_or_default().iter().map(pod_story).collect();
        format!("{status}; pods: {}; runs: {}", pods.join(", "), self.runs().len())
    }
}

fn pod_story(pod: &Value) -> String {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    let deleting = if metadata["deletionTimestamp"].is_null() { "" } else { " terminating" };
    let ready = if has_condition(pod, "Ready") { " ready" } else { "" };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let node = text(&pod["spec"]["nodeName"]);
    format!("{} on {node} {}{ready}{deleting}", text(&metadata["name"]), text(&status["phase"]))
}

fn run_of(entry: &Value) -> Run {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attempt = entry["attempt"].as_u64().and_then(|attempt| attempt.try_into().ok());
    Run { attempt: attempt.unwrap_or_default(), pod: text(&entry["pod"]), uid: text(&entry["uid"]) }
}

/// The signal on a pod.
pub fn signal_of(pod: &Value) -> Option<Signal> {
    serde_json::from_str(pod["metadata"]["annotations"][annotation::SIGNAL].as_str()?).ok()
}
