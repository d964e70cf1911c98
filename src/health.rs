//! The plain HTTP port for the kubelet and Prometheus: `/healthz`, `/readyz`, `/metrics`.
//!
//! Alive and ready are different things. Alive means that this process can answer at all: a process that can't is
//! restarted, and nothing that a restart doesn't mend belongs here. Ready means that it should be sent requests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::{self, Metrics, ServerMetrics};
use crate::server::{CannotListen, Drain, Limits, ListenAddress, Server, Transport};
use crate::supervise::Shutdown;

/// Whether the process should be sent requests: when all its parts are ready. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Vec<Part>>>);

/// One part that must be ready. Clones are the same.
#[derive(Clone, Debug)]
pub struct Part {
    name: &'static str,
    ready: Arc<AtomicBool>,
}

impl Part {
    /// Says whether this part is ready.
    pub fn set(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl Readiness {
    /// Adds a part, not ready yet. All parts are added before the port opens.
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part { name, ready: Arc::default() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(part.clone());
        part
    }

    /// Whether all parts are ready, and one line on each, in the form of Kubernetes' own programs.
    fn report(&self) -> (bool, String) {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |part: &Part| match part.is_ready() {
            true => format!("[+]{} ok\n", part.name),
            false => format!("[-]{} not ready\n", part.name),
        };
        (parts.iter().all(Part::is_ready), parts.iter().map(line).collect())
    }
}

/// Connections to the health port: a kubelet's, and a few scrapers'.
const LIMITS: Limits = Limits {
    connections: 32,
    protected: Duration::from_secs(1),
    handshake: Duration::from_secs(5),
    request: Duration::from_secs(15),
    idle: Duration::from_secs(300),
    head_bytes: 8 << 10,
    header_lines: 64,
};

/// The server on the port, until `stop`.
///
/// # Errors
/// The address is not to be had.
pub fn server(
    address: ListenAddress,
    metrics: Metrics,
    readiness: Readiness,
    stop: Shutdown,
) -> Result<Server, CannotListen> {
    Ok(Server {
        name: "health",
        listener: address.listen()?,
        transport: Transport::Plain,
        router: router(Arc::new(metrics), readiness),
        limits: LIMITS,
        // Not registered: the numbers of the port that is scraped say nothing of what it is scraped for.
        metrics: ServerMetrics::default(),
        drain: Drain { begun: stop.clone(), stop },
    })
}

/// The port's routes.
pub fn router(metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    let readyz = move || async move {
        let (ready, report) = readiness.report();
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
    };
    let metrics =
        move || async move { ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.text()).into_response() };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("infallible");
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn ready_means_every_part() {
        let readiness = Readiness::default();
        let (one, two) = (readiness.part("one"), readiness.part("two"));
        let router = router(Arc::new(Metrics::new()), readiness);
        one.set(true);
        let report = "[+]one ok\n[-]two not ready\n".to_owned();
        assert_eq!(get(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, report));
        assert_eq!(get(&router, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
        two.set(true);
        assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "[+]one ok\n[+]two ok\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_are_there_to_scrape() {
        let router = router(Arc::new(Metrics::new()), Readiness::default());
        let (status, text) = get(&router, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("migration_gate_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
