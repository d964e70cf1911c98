//! What the programs count, and how Prometheus reads it.
//!
//! Every metric is created and registered at start, with all its label values, so that a graph begins at 0 and an alert
//! on an increase sees the first one. Label values are a [`Label`], a closed set; no name of an object ever becomes one.

mod controller;
mod histogram;
mod webhook;

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use controller::{ControllerMetrics, Watched};
pub use histogram::Durations;
pub use webhook::{AdmissionResult, CertificateMetrics, ServerMetrics, WebhookMetrics};

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

fn durations(registry: &mut Registry, name: &str, help: &str, bounds: &'static [Duration]) -> Durations {
    let durations = Durations::new(bounds);
    registry.register(name, help, durations.clone());
    durations
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use prometheus_client::metrics::counter::Counter;

    use crate::api_error::ApiFailure;
    use crate::migration::{AttemptOutcome, Phase};

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
        closed::<Watched>();
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
