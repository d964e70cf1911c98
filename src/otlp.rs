//! Traces for an OpenTelemetry collector, over HTTP with protobuf bodies. Off unless an endpoint is given.
//!
//! A collector that is slow or away costs traces, and nothing else: whoever has one to send never waits, and what finds
//! no place in the queue is dropped and counted.

use std::time::{Duration, SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use prometheus_client::metrics::counter::Counter;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::supervise::{Sentence, Shutdown};

pub use opentelemetry::KeyValue;

/// Traces that wait to be sent.
const QUEUE: usize = 256;
/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where collectors take traces in (OTLP specification, OTLP/HTTP request).
const PATH: &str = "/v1/traces";

/// The base URL of a collector, such as `http://collector.observability:4318`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let wanted = "write the base URL of a collector in the cluster, such as http://collector.observability:4318";
        let uri: http::Uri = text.parse().map_err(|error| format!("it is no URL ({error}); {wanted}"))?;
        match (uri.scheme_str(), uri.query()) {
            (Some("http"), None) => Ok(Endpoint(text.trim_end_matches('/').to_owned())),
            (Some("https"), _) => Err(format!("traces are sent without TLS; {wanted}")),
            _ => Err(wanted.to_owned()),
        }
    }
}

/// Where spans are handed in.
#[derive(Clone, Debug)]
pub struct Traces {
    queue: mpsc::Sender<Vec<SpanData>>,
    dropped: Counter,
}

/// What sends them.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Receiver<Vec<SpanData>>,
    exporter: SpanExporter,
    endpoint: Endpoint,
    dropped: Counter,
}

/// A way to the collector for a service of this name. `dropped` counts the spans that never got there.
///
/// # Errors
/// The environment's own settings (`OTEL_EXPORTER_OTLP_*`) can't be used.
pub fn to(
    endpoint: &Endpoint,
    service: &'static str,
    dropped: Counter,
) -> Result<(Traces, Sender), ExporterBuildError> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}{PATH}", endpoint.0))
        .with_timeout(PATIENCE)
        .build()?;
    let resource = Resource::builder().with_service_name(service);
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    exporter.set_resource(&resource.with_attribute(version).build());
    let (queue, waiting) = mpsc::channel(QUEUE);
    let sender = Sender { queue: waiting, exporter, endpoint: endpoint.clone(), dropped: dropped.clone() };
    Ok((Traces { queue, dropped }, sender))
}

impl Traces {
    /// Hands spans in.
    pub fn send(&self, spans: Vec<Span>) {
        let count = spans.len();
        let spans: Vec<SpanData> = spans.into_iter().map(SpanData::from).collect();
        if count > 0 && self.queue.try_send(spans).is_err() {
            self.dropped.inc_by(count as u64);
        }
    }
}

impl Sender {
    /// Sends what comes, until a shutdown is requested; then what is left, once.
    ///
    /// # Errors
    /// Never; a collector that is away is logged when it goes and when it is back.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Sentence> {
        let mut away = false;
        loop {
            let spans = tokio::select! {
                () = shutdown.requested() => {
                    self.queue.close();
                    // Nobody waits for more than one answer at the end.
                    let mut left = Vec::new();
                    while let Ok(spans) = self.queue.try_recv() {
                        left.extend(spans);
                    }
                    if !left.is_empty() {
                        self.export(left, &mut away).await;
                    }
                    return Ok(());
                }
                Some(spans) = self.queue.recv() => spans,
            };
            self.export(spans, &mut away).await;
        }
    }

    async fn export(&self, spans: Vec<SpanData>, away: &mut bool) {
        let count = spans.len();
        let Endpoint(endpoint) = &self.endpoint;
        match self.exporter.export(spans).await {
            Ok(()) => {
                if std::mem::take(away) {
                    info!(endpoint, "the collector takes traces again");
                }
            }
            Err(error) => {
                self.dropped.inc_by(count as u64);
                if !std::mem::replace(away, true) {
                    warn!(endpoint, %error, "the collector takes no traces; they are dropped until it does");
                }
            }
        }
    }
}

/// One span. Its identity is made of words, so that whoever emits the parts of a trace needs to know nothing of who
/// emitted the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// What the trace is about.
    pub trace: String,
    /// Which one it is among those of its trace.
    pub id: String,
    /// Its name, one of a few.
    pub name: &'static str,
    /// The one that it is part of.
    pub parent: Option<String>,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What is known of it.
    pub attributes: Vec<KeyValue>,
    /// How it ended.
    pub status: Status,
}

impl From<Span> for SpanData {
    fn from(span: Span) -> SpanData {
        let id = |id: &str| SpanId::from_bytes(digest(&[&span.trace, id]));
        let trace = TraceId::from_bytes(digest(&[&span.trace]));
        let context = SpanContext::new(trace, id(&span.id), TraceFlags::SAMPLED, false, TraceState::default());
        SpanData {
            span_context: context,
            parent_span_id: span.parent.as_deref().map_or(SpanId::INVALID, id),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: span.name.into(),
            start_time: span.start,
            end_time: span.end.max(span.start),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.status,
            instrumentation_scope: InstrumentationScope::builder("migration-gate")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

/// The first bytes of a digest of these words.
fn digest<const N: usize>(words: &[&str]) -> [u8; N] {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    std::array::from_fn({
        let digest = hash.finalize();
        move |at| digest[at]
    })
}
