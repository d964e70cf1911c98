//! Which of several controllers acts. This is about work not being done twice, not about safety: two that act at once
//! are as safe as one, because every write that matters is a compare-and-swap.
//!
//! As in client-go, a holder is given up only when its Lease was seen unchanged for the lease's duration by our own
//! clock; the times inside it, which are another machine's, are for people.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::api_error::{ApiFailure, classify};
use crate::supervise::Shutdown;

/// How long a holder may be silent. Source of the three values: client-go's leader election, recommended defaults.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long a holder goes on without having renewed.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How often it renews.
pub const PERIOD: Duration = Duration::from_secs(2);
/// How often the others look: a Lease that was let go of is taken within a second.
pub const LOOK: Duration = Duration::from_millis(500);

/// A candidate for one Lease.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    leading: watch::Sender<bool>,
    seen: Option<(String, Instant)>,
    renewed: Option<Instant>,
}

impl Candidate {
    /// A candidate under this identity, which must be unique among all candidates.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Candidate {
        Candidate {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity,
            leading: watch::Sender::new(false),
            seen: None,
            renewed: None,
        }
    }

    /// Whether this candidate leads, now and whenever it changes.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Takes the Lease when it is free, renews it while it is ours, and lets go of it at the end, so that another can
    /// take it at once.
    ///
    /// # Errors
    /// None: an API server that can't be reached costs the leadership, not the process.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), std::convert::Infallible> {
        loop {
            let round = tokio::time::timeout(DEADLINE, self.round());
            match round.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.complain(&error),
                Err(_) => warn!(lease = self.name, "the API server did not answer in time"),
            }
            let overdue = self.renewed.is_none_or(|renewed| renewed.elapsed() >= DEADLINE);
            if *self.leading.borrow() && overdue {
                warn!(lease = self.name, "the lease could not be renewed in time; another may act now");
                self.leading.send_replace(false);
            }
            let pause = if *self.leading.borrow() { PERIOD } else { LOOK };
            tokio::select! {
                () = shutdown.requested() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.release().await;
        Ok(())
    }

    fn complain(&self, error: &kube::Error) {
        match classify(error) {
            // Another candidate was faster.
            ApiFailure::Conflict | ApiFailure::AlreadyExists => {}
            failure => {
                warn!(lease = self.name, %failure, error = %crate::supervise::with_causes(error), "the lease could not be read or written")
            }
        }
    }

    async fn round(&mut self) -> Result<(), kube::Error> {
        let started = Instant::now();
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let made = self.leases.create(&PostParams::default(), &self.ours(None)).await?;
            self.took(started, &made);
            return Ok(());
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.is_silent(&lease) {
            self.lost();
            return Ok(());
        }
        let renewed = self.leases.replace(&self.name, &PostParams::default(), &self.ours(Some(&lease))).await?;
        self.took(started, &renewed);
        Ok(())
    }

    fn is_silent(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((known, since)) if *known == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn took(&mut self, started: Instant, lease: &Lease) {
        // From before the request: the deadline must pass for us before the duration passes for others.
        self.renewed = Some(started);
        self.seen = lease.metadata.resource_version.clone().map(|version| (version, Instant::now()));
        if !self.leading.send_replace(true) {
            info!(lease = self.name, identity = self.identity, "took the lease");
        }
    }

    fn lost(&mut self) {
        self.renewed = None;
        if self.leading.send_replace(false) {
            warn!(lease = self.name, "another holds the lease");
        }
    }

    fn ours(&self, before: Option<&Lease>) -> Lease {
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let held = spec.holder_identity.as_deref() == Some(&self.identity);
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: before.map_or_else(
                || ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(DURATION.as_secs() as i32),
                acquire_time: if held { spec.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!held)),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn release(&mut self) {
        if !self.leading.send_replace(false) {
            return;
        }
        let free = async {
            let mut lease = self.leases.get(&self.name).await?;
            if let Some(spec) =
                lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
            {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match tokio::time::timeout(PERIOD, free).await {
            Ok(Ok(())) => info!(lease = self.name, "let go of the lease"),
            Ok(Err(error)) => self.complain(&error),
            Err(_) => warn!(lease = self.name, "could not let go of the lease in time; it runs out by itself"),
        }
    }
}
