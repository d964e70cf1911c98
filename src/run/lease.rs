//! The lock that is a Kubernetes Lease, with its history in an annotation of it.
//!
//! The rules are those of the controller's own [lease](crate::controller::lease): a holder is given up only when its
//! Lease was seen unchanged for 15 s by our own clock, it gives up itself after 10 s without a renewal, and it lets go
//! at the end. As with every lease, a machine that is frozen for longer can wake beside its successor for a moment.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client, Config};
use migration_gate_run::history::{Run, State, TAIL_BYTES, VERSION, trim};
use migration_gate_run::place::{Attempt, Later, Pace, Place, Which};
use migration_gate_run::{Failure, Kind};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api_error::{ApiFailure, classify};
use crate::contract::annotation;
use crate::controller::lease::{Candidate, DEADLINE};
use crate::supervise::{Shutdown, with_causes};

const PACE: Pace = Pace {
    poll: Duration::from_millis(250),
    check: Duration::from_millis(250),
    look: Duration::from_millis(1000),
    watchdog: Some(DEADLINE),
};
/// Runs that the annotation keeps; all annotations of an object together hold at most 256 KiB.
const KEPT: usize = 20;
/// The bytes of output that the annotation keeps of the newest run.
const TAIL: usize = 1024;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a write is tried that another one was faster than.
const TRIES: u32 = 10;

/// A Lease that is held or wanted.
pub struct LeaseLock {
    namespace: String,
    name: String,
    lock: String,
    identity: String,
    leases: Option<Api<Lease>>,
    candidacy: Option<Candidacy>,
}

struct Candidacy {
    leading: watch::Receiver<bool>,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl LeaseLock {
    /// A candidate for this Lease; `lock` is the name that its runs are recorded under.
    pub fn new(namespace: String, name: String, lock: String, identity: String) -> LeaseLock {
        LeaseLock { namespace, name, lock, identity, leases: None, candidacy: None }
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        let no_config = |error: &dyn std::error::Error| {
            let why = with_causes(error);
            Failure::new(Kind::Unfit, format!("there is no way to the API server, in a pod or by kubeconfig: {why}"))
        };
        let config = Config::infer().await.map_err(|error| no_config(&error))?;
        let client = Client::try_from(config).map_err(|error| no_config(&error))?;
        self.leases = Some(Api::namespaced(client, &self.namespace));
        self.get().await.map(|_| ())
    }

    fn api(&self) -> Result<&Api<Lease>, Failure> {
        self.leases.as_ref().ok_or_else(|| Failure::new(Kind::Unreachable, "there is no connection"))
    }

    async fn get(&self) -> Result<Option<Lease>, Failure> {
        let asked = tokio::time::timeout(PATIENCE, self.api()?.get_opt(&self.name)).await;
        asked.map_err(|_| too_slow())?.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &kube::Error) -> Failure {
        let said = with_causes(error);
        let (namespace, name) = (&self.namespace, &self.name);
        match classify(error) {
            ApiFailure::Forbidden => Failure::new(
                Kind::Denied,
                format!("{said}; it takes get and update on the Lease {name} and create on leases in {namespace}"),
            ),
            ApiFailure::NotFound => Failure::new(Kind::Unfit, format!("{said}; create the namespace first")),
            ApiFailure::NamespaceTerminating => Failure::new(Kind::Unfit, said),
            ApiFailure::Conflict | ApiFailure::AlreadyExists | ApiFailure::Expired => Failure::new(Kind::Lost, said),
            ApiFailure::Transient { .. } => Failure::new(Kind::Unreachable, said),
            ApiFailure::Invalid | ApiFailure::Unreadable => Failure::new(Kind::Defect, said),
        }
    }

    fn stand(&mut self) -> Result<(), Failure> {
        if self.candidacy.is_some() {
            return Ok(());
        }
        let client = self.api()?.clone().into_client();
        let candidate = Candidate::new(client, &self.namespace, &self.name, self.identity.clone());
        let (leading, shutdown) = (candidate.leading(), Shutdown::new());
        let run = candidate.run(shutdown.clone());
        let task = tokio::spawn(async move {
            let _ = run.await;
        });
        self.candidacy = Some(Candidacy { leading, shutdown, task });
        Ok(())
    }

    async fn take(&mut self) -> Result<Attempt, Failure> {
        self.stand()?;
        let Some(candidacy) = &mut self.candidacy else { return Ok(Attempt::Busy) };
        // The candidate looks every two seconds; there is nothing to ask the API server for in between.
        let _ = tokio::time::timeout(PACE.poll, candidacy.leading.wait_for(|leading| *leading)).await;
        match *candidacy.leading.borrow() {
            true => Ok(Attempt::Taken),
            false if candidacy.task.is_finished() => {
                Err(Failure::new(Kind::Defect, "the candidacy for the Lease has ended"))
            }
            false => Ok(Attempt::Busy),
        }
    }

    async fn resign(&mut self) -> Result<(), Failure> {
        if let Some(candidacy) = self.candidacy.take() {
            candidacy.shutdown.request();
            let _ = tokio::time::timeout(PATIENCE, candidacy.task).await;
        }
        Ok(())
    }

    fn leads(&self) -> Result<(), Failure> {
        match &self.candidacy {
            Some(candidacy) if *candidacy.leading.borrow() => Ok(()),
            _ => Err(Failure::new(Kind::Lost, "the Lease was not renewed in time, or another took it")),
        }
    }

    async fn read(&self) -> Result<Vec<Run>, Failure> {
        match self.get().await? {
            Some(lease) => self.runs_of(&lease),
            None => Ok(Vec::new()),
        }
    }

    fn runs_of(&self, lease: &Lease) -> Result<Vec<Run>, Failure> {
        let annotations = lease.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|all| all.get(annotation::RUNS)) else { return Ok(Vec::new()) };
        let unfit = |why: String| Failure::new(Kind::Unfit, format!("the annotation {}: {why}", annotation::RUNS));
        let runs: Vec<Run> = serde_json::from_str(text).map_err(|error| unfit(error.to_string()))?;
        match runs.iter().map(|run| run.version).max() {
            Some(version) if version > VERSION => {
                Err(unfit(format!("version {version} was written by a newer migration-gate")))
            }
            _ => Ok(runs),
        }
    }

    /// Changes the runs, by a compare-and-swap on the Lease as it was read.
    async fn change<T>(&self, mut how: impl FnMut(&mut Vec<Run>) -> T) -> Result<T, Failure> {
        for _ in 0..TRIES {
            let Some(mut lease) = self.get().await? else {
                return Err(Failure::new(Kind::Unwritable, "the Lease was deleted"));
            };
            let mut runs = self.runs_of(&lease)?;
            let result = how(&mut runs);
            keep(&mut runs);
            let text = serde_json::to_string(&runs).map_err(|error| Failure::new(Kind::Defect, error.to_string()))?;
            lease.metadata.annotations.get_or_insert_default().insert(annotation::RUNS.to_owned(), text);
            let parameters = PostParams::default();
            let replacing = self.api()?.replace(&self.name, &parameters, &lease);
            match tokio::time::timeout(PATIENCE, replacing).await.map_err(|_| too_slow())? {
                Ok(_) => return Ok(result),
                // A renewal was faster.
                Err(error) if classify(&error) == ApiFailure::Conflict => {}
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Err(Failure::new(Kind::Unwritable, "others write to the Lease all the time"))
    }
}

fn too_slow() -> Failure {
    Failure::new(Kind::Unreachable, format!("the API server did not answer within {} s", PATIENCE.as_secs()))
}

/// Keeps the annotation small: the newest runs, the newest success of each key last to go, one tail.
fn keep(runs: &mut Vec<Run>) {
    trim(runs);
    if runs.len() > KEPT {
        let excess = runs.len() - KEPT;
        let (mut dropped, newest) = (0, runs.len());
        let mut place = 0;
        runs.retain(|run| {
            place += 1;
            let goes = dropped < excess && place < newest && run.state != State::Running;
            dropped += usize::from(goes);
            !goes
        });
    }
    let newest = runs.iter().map(|run| run.id).max();
    for run in runs {
        let limit = if Some(run.id) == newest { TAIL.min(TAIL_BYTES) } else { 0 };
        let mut start = run.tail.len().saturating_sub(limit);
        while !run.tail.is_char_boundary(start) {
            start += 1;
        }
        run.tail.drain(..start);
    }
}

impl Place for LeaseLock {
    fn weakness(&self) -> Option<&'static str> {
        Some(
            "a Lease is weaker than a session lock: a holder that was killed is succeeded only after 15 s, and one that is frozen for as long can wake beside its successor for a moment",
        )
    }

    fn pace(&self) -> Pace {
        PACE
    }

    fn connect(&mut self) -> Later<'_, ()> {
        Box::pin(self.reconnect())
    }

    fn try_lock(&mut self) -> Later<'_, Attempt> {
        Box::pin(self.take())
    }

    fn check(&mut self) -> Later<'_, ()> {
        Box::pin(async { self.leads() })
    }

    fn unlock(&mut self) -> Later<'_, ()> {
        Box::pin(self.resign())
    }

    fn runs<'a>(&'a mut self, which: Which<'a>) -> Later<'a, Vec<Run>> {
        Box::pin(async move {
            let mut runs = self.read().await?;
            runs.retain(|run| run.lock == self.lock && which.covers(run));
            Ok(runs)
        })
    }

    fn prepare(&mut self) -> Later<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn begin<'a>(&'a mut self, run: &'a mut Run) -> Later<'a, ()> {
        Box::pin(async move {
            let begun = self.change(|runs| {
                run.id = runs.iter().map(|run| run.id).max().unwrap_or(0) + 1;
                runs.push(run.clone());
            });
            begun.await
        })
    }

    fn finish<'a>(&'a mut self, run: &'a Run) -> Later<'a, ()> {
        Box::pin(async move {
            let finished = self.change(|runs| {
                let open = |known: &&mut Run| known.id == run.id && known.owner == run.owner;
                if let Some(known) = runs.iter_mut().find(open).filter(|known| known.state != State::Succeeded) {
                    *known = run.clone();
                }
            });
            finished.await
        })
    }

    fn forget<'a>(&'a mut self, key: &'a str) -> Later<'a, u64> {
        Box::pin(async move {
            let lock = self.lock.clone();
            let forgotten = self.change(|runs| {
                let before = runs.len();
                runs.retain(|run| run.lock != lock || run.key != key);
                (before - runs.len()) as u64
            });
            forgotten.await
        })
    }
}
