//! What the programs count, and how Prometheus reads it.
//!
//! Every metric is created and registered at start, with all its label values, so that a graph begins at 0 and an alert
//! on an increase sees the first one. Label values are a [`Label`], a closed set; no name of an object ever becomes one.

mod histogram;

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::admission::Decision;
use crate::api_error::ApiFailure;
use crate::migration::{AttemptOutcome, Phase};

pub use histogram::Durations;

/// The media type of what [`Metrics::text`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The prefix of every metric's name.
const PREFIX: &str = "migration_gate";

/// A gauge of seconds or other fractions.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// No metrics yet, but for the program's version.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix(PREFIX);
        let version = Family::<[(&'static str, &'static str); 1], Gauge>::default();
        version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build_info", "Always 1; the program's version is the label", version);
        Metrics { registry }
    }

    /// Where a part of the program registers its own.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(8192);
        // Writing to a String can't fail; a metric that fails to encode itself leaves the text cut short, which
        // Prometheus rejects for want of its end mark.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values of the set.
    const ALL: &'static [Self];
    /// The value as Prometheus shows it.
    fn value(self) -> &'static str;
}

/// One metric for each value of a label.
#[derive(Debug)]
pub struct Per<L, M> {
    metrics: Vec<(&'static str, M)>,
    label: PhantomData<L>,
}

impl<L: Label, M: Clone + Default> Per<L, M> {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Per<L, M>
    where
        Family<[(&'static str, &'static str); 1], M>: prometheus_client::registry::Metric,
    {
        let family = Family::<[(&'static str, &'static str); 1], M>::default();
        let metrics = L::ALL.iter().map(|value| value.value());
        let metrics = metrics.map(|value| (value, family.get_or_create_owned(&[(L::NAME, value)]))).collect();
        registry.register(name, help, family);
        Per { metrics, label: PhantomData }
    }

    /// The metric of one value.
    pub fn of(&self, value: L) -> &M {
        let value = value.value();
        let found = self.metrics.iter().find(|(name, _)| *name == value);
        // Every value is in `ALL`, which a test asserts for each label.
        found.map(|(_, metric)| metric).unwrap_or(&self.metrics[0].1)
    }
}

fn register<M: prometheus_client::registry::Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// What became of one request to the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdmissionResult {
    /// A review was answered.
    Decided(Decision),
    /// Not a review: answered with a status of the 400s.
    Malformed,
    /// More at once than the memory allows: answered with 503.
    Overloaded,
    /// A defect of ours: answered with 500.
    Failed,
}

impl Label for AdmissionResult {
    const NAME: &'static str = "result";
    const ALL: &'static [AdmissionResult] = &[
        AdmissionResult::Decided(Decision::Ignored),
        AdmissionResult::Decided(Decision::Injected),
        AdmissionResult::Decided(Decision::Kept),
        AdmissionResult::Decided(Decision::Stripped),
        AdmissionResult::Decided(Decision::Ungated),
        AdmissionResult::Decided(Decision::Denied),
        AdmissionResult::Decided(Decision::Audited),
        AdmissionResult::Malformed,
        AdmissionResult::Overloaded,
        AdmissionResult::Failed,
    ];

    fn value(self) -> &'static str {
        match self {
            AdmissionResult::Decided(decision) => decision.as_str(),
            AdmissionResult::Malformed => "malformed",
            AdmissionResult::Overloaded => "overloaded",
            AdmissionResult::Failed => "failed",
        }
    }
}

/// The bounds of an admission's duration: an ordinary one takes some 100 µs, and the API server waits for 5 s.
const ADMISSION_BOUNDS: [Duration; 12] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// The webhook's own metrics.
#[derive(Debug)]
pub struct WebhookMetrics {
    /// Requests by what became of them.
    pub admissions: Per<AdmissionResult, Counter>,
    /// From the request's head to its answer.
    pub duration: Durations,
}

impl WebhookMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> WebhookMetrics {
        let duration = Durations::new(&ADMISSION_BOUNDS);
        registry.register(
            "admission_duration_seconds",
            "From a request's head to its answer, in seconds",
            duration.clone(),
        );
        WebhookMetrics {
            admissions: Per::register(registry, "admissions", "Requests to the webhook, by what became of them"),
            duration,
        }
    }
}

/// What happens to the connections of an HTTP server.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics {
    /// Those that are open now.
    pub open: Gauge,
    /// Those that ended early: no TLS, no request in time, or room made for others.
    pub dropped: Counter,
}

impl ServerMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> ServerMetrics {
        ServerMetrics {
            open: register(registry, "connections", "Open connections"),
            dropped: register(
                registry,
                "connections_dropped",
                "Connections that were ended for a failed handshake, a request that took too long, or to make room",
            ),
        }
    }
}

/// The serving certificate's metrics.
#[derive(Clone, Debug)]
pub struct CertificateMetrics {
    /// When the served certificate expires, in seconds since 1970.
    pub not_after: Gauge,
    /// Certificates taken into service after the first.
    pub reloads: Counter,
    /// Distinct contents of the folder that could not be taken into service.
    pub errors: Counter,
}

impl CertificateMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> CertificateMetrics {
        CertificateMetrics {
            not_after: register(
                registry,
                "certificate_not_after_timestamp_seconds",
                "When the served certificate expires, in seconds since 1970",
            ),
            reloads: register(registry, "certificate_reloads", "Certificates taken into service after the first"),
            errors: register(
                registry,
                "certificate_errors",
                "Distinct states of the certificate's folder that could not be taken into service",
            ),
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
    /// Pods whose gate this process opened.
    pub gates_opened: Counter,
    /// Pods that wait for a migration now.
    pub waiting_pods: Gauge,
    /// 1 while this process holds the lease.
    pub leader: Gauge,
    /// Failed requests to the API server, by what the failure means.
    pub api_errors: Per<ApiFailure, Counter>,
}

impl ControllerMetrics {
    /// Creates and registers them.
    pub fn register(registry: &mut Registry) -> ControllerMetrics {
        ControllerMetrics {
            migrations: Per::register(registry, "migrations", "Migrations in the records, by their phase"),
            attempts: Per::register(registry, "attempts", "Attempts that ended, by their outcome"),
            gates_opened: register(registry, "gates_opened", "Pods whose gate this process opened"),
            waiting_pods: register(registry, "waiting_pods", "Pods that wait for a migration"),
            leader: register(registry, "leader", "1 while this process holds the lease"),
            api_errors: Per::register(registry, "api_errors", "Failed requests to the API server, by their meaning"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Each value has its own text, and the metrics start with all of them.
    fn closed<L: Label + std::fmt::Debug>() {
        let texts: HashSet<_> = L::ALL.iter().map(|value| value.value()).collect();
        assert_eq!(texts.len(), L::ALL.len(), "{:?}", L::ALL);
        let mut metrics = Metrics::new();
        let per = Per::<L, Counter>::register(metrics.registry(), "things", "Things");
        for (count, value) in L::ALL.iter().enumerate() {
            per.of(*value).inc_by(count as u64);
        }
        let text = metrics.text();
        for (count, value) in L::ALL.iter().enumerate() {
            let line = format!("migration_gate_things_total{{{}=\"{}\"}} {count}\n", L::NAME, value.value());
            assert!(text.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn labels_are_closed_sets() {
        closed::<AdmissionResult>();
        closed::<AttemptOutcome>();
        closed::<Phase>();
        closed::<ApiFailure>();
    }

    #[test]
    fn everything_is_there_from_the_start() {
        let mut metrics = Metrics::new();
        WebhookMetrics::register(metrics.registry());
        ServerMetrics::register(metrics.registry());
        CertificateMetrics::register(metrics.registry());
        ControllerMetrics::register(metrics.registry());
        let text = metrics.text();
        for line in [
            r#"migration_gate_admissions_total{result="denied"} 0"#,
            "migration_gate_admission_duration_seconds_count 0",
            "migration_gate_connections 0",
            "migration_gate_certificate_not_after_timestamp_seconds 0",
            r#"migration_gate_attempts_total{outcome="timed_out"} 0"#,
            r#"migration_gate_migrations{phase="running"} 0"#,
            r#"migration_gate_api_errors_total{kind="conflict"} 0"#,
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
