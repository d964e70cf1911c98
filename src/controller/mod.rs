//! The controller: elects one waiting pod, records the outcome, opens the gates.
//!
//! [`watch`] turns watch events into the values of an [`index`]; [`decide`] turns a [`snapshot`] of one group into
//! a [`decision`], weighing [`evidence`] and writing the next [`record`]; [`apply`] alone writes to the cluster. [`work`] runs
//! this for each group that changed, as long as the [`lease`] is held.

pub mod apply;
mod backoff;
pub mod budget;
pub mod decide;
pub mod decision;
pub mod eligible;
pub mod evidence;
mod gauges;
mod gone;
mod handover;
pub mod index;
pub mod journey;
mod kin;
pub mod lease;
mod lists;
pub mod live;
mod metadata;
pub mod objects;
mod places;
pub mod pods;
pub mod queue;
pub mod record;
pub mod shown;
pub mod snapshot;
pub mod standing;
pub mod story;
pub mod tell;
pub mod turn;
pub mod watch;
pub mod work;

#[cfg(test)]
mod budget_rules;
#[cfg(test)]
mod decide_rules;
#[cfg(test)]
mod evidence_rules;
#[cfg(test)]
mod fake_api;
#[cfg(test)]
mod index_rules;
#[cfg(test)]
mod journey_rules;
#[cfg(test)]
mod live_rules;
#[cfg(test)]
mod record_rules;
#[cfg(test)]
mod rest_rules;
#[cfg(test)]
mod standing_rules;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod work_rules;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};

use crate::health::Part;
use crate::metrics::ControllerMetrics;
use crate::page;
use crate::supervise::{Shutdown, Supervisor};

/// The name of the controller's Lease, and of the component in its events.
pub const NAME: &str = "migration-gate-controller";

/// The longest that the tasks go on after the wish to end: a write that is under way is finished.
pub const GRACE: Duration = Duration::from_secs(25);

/// What an installation chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of the Lease.
    pub namespace: String,
    /// This process's name among the candidates; its pod's name, say.
    pub identity: String,
    /// What the installation takes for proof.
    pub rules: decision::Rules,
    /// Where traces go, if anywhere.
    pub traces: Option<crate::otlp::Traces>,
}

/// Starts the controller's tasks under a supervisor, and the page where it has a place. `ready` is set once every watch
/// has its first list.
pub fn start(
    options: Options,
    client: Client,
    metrics: ControllerMetrics,
    ready: Part,
    page: Option<page::Place>,
    supervisor: &mut Supervisor,
) {
    let shutdown = supervisor.shutdown().clone();
    let metrics = Arc::new(metrics);
    let cache = Arc::<watch::Cache>::default();
    let synced = watch::Synced::default();
    let watching = watch::Watching {
        client: client.clone(),
        cache: Arc::clone(&cache),
        synced: synced.clone(),
        metrics: Arc::clone(&metrics),
        shutdown: shutdown.clone(),
    };
    supervisor.spawn("watch pods", watching.clone().pods());
    supervisor.spawn("watch deployments", watching.clone().deployments());
    supervisor.spawn("watch replicasets", watching.clone().replica_sets());
    supervisor.spawn("watch records", watching.clone().records());
    supervisor.spawn("watch nodes", watching.nodes());

    let identity = options.identity.clone();
    let candidate = lease::Candidate::new(client.clone(), &options.namespace, NAME, identity.clone());
    let leading = candidate.leading();
    let reporter = Reporter { controller: NAME.to_owned(), instance: Some(identity) };
    let worker = work::Worker {
        cache: Arc::clone(&cache),
        writer: apply::Writer { client: client.clone(), cache: Arc::clone(&cache), metrics: Arc::clone(&metrics) },
        reader: live::Reader::new(client.clone(), Arc::clone(&cache), Arc::clone(&metrics)),
        teller: tell::Teller {
            recorder: Recorder::new(client, reporter),
            metrics: Arc::clone(&metrics),
            traces: options.traces,
        },
        rules: options.rules,
    };
    if let Some(place) = page {
        let source = page::Source {
            cache: Arc::clone(&cache),
            synced: synced.clone(),
            metrics: Arc::clone(&metrics),
            leading: leading.clone(),
            replica: options.identity,
        };
        page::start(place, source, supervisor);
    }
    let gauges = gauges::Gauges { cache, metrics, leading: leading.clone(), synced: synced.clone(), ready };
    supervisor.spawn("gauges", gauges.run(shutdown.clone()));
    // The lease is let go of only after the last write: another leader then starts from where this one ended.
    let worked = AtEnd(Shutdown::new());
    supervisor.spawn("lease", candidate.run(worked.0.clone()));
    supervisor.spawn("work", async move {
        let _worked = worked;
        worker.run(synced, leading, shutdown).await
    });
}

/// Requests a shutdown when it is dropped: at the end of a task, however it ends.
struct AtEnd(Shutdown);

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.0.request();
    }
}
