//! What the controller counts.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api_error::ApiFailure;
use crate::migration::{AttemptOutcome, Phase};

use super::{Durations, Label, Per, durations, register};

/// The bounds of a migration's duration.
const ATTEMPT_BOUNDS: [Duration; 10] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(4 * 60 * 60),
];

/// The bounds of what it takes to open a gate: one write, and in a large group the writes before it.
const OPENING_BOUNDS: [Duration; 11] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// What the controller watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watched {
    /// Gated pods.
    Pods,
    /// Labelled workloads.
    Deployments,
    /// Who controls the ReplicaSets of gated workloads.
    ReplicaSets,
    /// Records.
    Records,
    /// Nodes.
    Nodes,
}

impl Label for Watched {
    const NAME: &'static str = "resource";
    const ALL: &'static [Watched] =
        &[Watched::Pods, Watched::Deployments, Watched::ReplicaSets, Watched::Records, Watched::Nodes];

    fn value(self) -> &'static str {
        match self {
            Watched::Pods => "pods",
            Watched::Deployments => "deployments",
            Watched::ReplicaSets => "replicasets",
            Watched::Records => "migrationgates",
            Watched::Nodes => "nodes",
        }
    }
}

/// The controller's metrics.
#[derive(Debug)]
pub struct ControllerMetrics {
    /// Migrations in the records by their phase.
    pub migrations: Per<Phase, Gauge>,
    /// Attempts that ended, by their outcome.
    pub attempts: Per<AttemptOutcome, Counter>,
    /// How long commands ran, from their start to their end, whatever the outcome.
    pub attempt_duration: Durations,
    /// Pods whose gate this process opened.
    pub gates_opened: Counter,
    /// From when this process saw the reason to open a gate until it was open.
    pub gate_opening: Durations,
    /// Pods that wait for a migration now.
    pub waiting_pods: Gauge,
    /// The age of the oldest of them, in seconds.
    pub oldest_wait: Gauge,
    /// The age of the oldest active attempt, in seconds; 0 where there is none.
    pub oldest_attempt: Gauge,
    /// Workloads that ask for a gate and have none.
    pub missed_injections: Gauge,
    /// When each watch brought something last, in seconds since 1970.
    pub last_event: Per<Watched, Gauge>,
    /// 1 while this process holds the lease.
    pub leader: Gauge,
    /// Failed requests to the API server, by what the failure means.
    pub api_errors: Per<ApiFailure, Counter>,
    /// Spans that never got to the collector.
    pub dropped_spans: Counter,
}

impl ControllerMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> ControllerMetrics {
        ControllerMetrics {
            migrations: Per::register(registry, "migrations", "Migrations in the records, by their phase"),
            attempts: Per::register(registry, "attempts", "Attempts that ended, by their outcome"),
            attempt_duration: durations(
                registry,
                "attempt_duration_seconds",
                "How long the commands of attempts ran, in seconds",
                &ATTEMPT_BOUNDS,
            ),
            gates_opened: register(registry, "gates_opened", "Pods whose gate this process opened"),
            gate_opening: durations(
                registry,
                "gate_opening_seconds",
                "From when this process saw the reason to open a gate until it was open, in seconds",
                &OPENING_BOUNDS,
            ),
            waiting_pods: register(registry, "waiting_pods", "Pods that wait for a migration"),
            oldest_wait: register(registry, "oldest_wait_seconds", "The age of the pod that waits longest, in seconds"),
            oldest_attempt: register(
                registry,
                "oldest_active_attempt_seconds",
                "The age of the oldest attempt that is active, in seconds; 0 without one",
            ),
            missed_injections: register(
                registry,
                "workloads_without_gate",
                "Workloads that are labelled for a gate and have none",
            ),
            last_event: Per::register(
                registry,
                "watch_last_event_timestamp_seconds",
                "When a watch brought something last, in seconds since 1970",
            ),
            leader: register(registry, "leader", "1 while this process holds the lease"),
            api_errors: Per::register(registry, "api_errors", "Failed requests to the API server, by their meaning"),
            dropped_spans: register(registry, "dropped_spans", "Spans of traces that never got to the collector"),
        }
    }
}

impl Label for AttemptOutcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [AttemptOutcome] = &[
        AttemptOutcome::Succeeded,
        AttemptOutcome::Failed,
        AttemptOutcome::TimedOut,
        AttemptOutcome::Interrupted,
        AttemptOutcome::NotStarted,
    ];

    fn value(self) -> &'static str {
        match self {
            AttemptOutcome::Succeeded => "succeeded",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::TimedOut => "timed_out",
            AttemptOutcome::Interrupted => "interrupted",
            AttemptOutcome::NotStarted => "not_started",
        }
    }
}

impl Label for ApiFailure {
    const NAME: &'static str = "kind";
    const ALL: &'static [ApiFailure] = &ApiFailure::ALL;

    fn value(self) -> &'static str {
        self.label()
    }
}

impl Label for Phase {
    const NAME: &'static str = "phase";
    const ALL: &'static [Phase] =
        &[Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Suspended, Phase::Superseded];

    fn value(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Running => "running",
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Suspended => "suspended",
            Phase::Superseded => "superseded",
        }
    }
}
