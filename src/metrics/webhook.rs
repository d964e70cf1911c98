//! What the webhook counts, and the server and the certificate below it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::admission::Decision;

use super::{Durations, Label, Per, durations, register};

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
        WebhookMetrics {
            admissions: Per::register(registry, "admissions", "Requests to the webhook, by what became of them"),
            duration: durations(
                registry,
                "admission_duration_seconds",
                "From a request's head to its answer, in seconds",
                &ADMISSION_BOUNDS,
            ),
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
