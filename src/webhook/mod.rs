//! The webhook's process: what it serves, and how it starts and ends.

mod body;
mod purse;
mod routes;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::{self, Installation};
use crate::health::{self, Part, Readiness};
use crate::metrics::{CertificateMetrics, Metrics, ServerMetrics, WebhookMetrics};
use crate::server::{CannotListen, Drain, Limits, ListenAddress, Server, Transport};
use crate::supervise::{Ended, Shutdown, Supervisor};
use crate::tls::{self, Certificates, Unfit};

pub use body::BodyLimits;
pub use routes::{AUDIT_PATH, PATH, Reviewer, router};

/// How the webhook is to run.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Where the API server reaches it.
    pub listen: ListenAddress,
    /// Where the kubelet and Prometheus reach it.
    pub health_listen: ListenAddress,
    /// The folder with `tls.crt` and `tls.key`.
    pub tls_dir: PathBuf,
    /// From the wish to end until no new connection is taken: the time that the cluster needs to send no more.
    pub drain: Duration,
    /// What it puts into its injections.
    pub installation: Installation,
}

/// Why the webhook didn't start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no certificate that can serve.
    #[error("{0}")]
    Certificate(#[from] Unfit),
    /// TLS can't be set up at all.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// An address is not to be had.
    #[error("{0}")]
    Listen(#[from] CannotListen),
    /// It ended although nobody asked it to.
    #[error("{0}")]
    Ended(#[from] Ended),
}

/// Serves the webhook until the shutdown.
///
/// # Errors
/// Why it could not start, or which of its tasks ended before the shutdown.
pub async fn run(options: WebhookOptions, shutdown: Shutdown) -> Result<(), WebhookError> {
    let mut metrics = Metrics::new();
    let webhook_metrics = Arc::new(WebhookMetrics::register(metrics.registry()));
    let server_metrics = ServerMetrics::register(metrics.registry());
    let certificates = Certificates::open(&options.tls_dir, CertificateMetrics::register(metrics.registry()))?;
    let readiness = Readiness::default();
    let serving = readiness.part("serving");
    let drain = Drain::default();
    let limits = Limits::default();
    let installation = options.installation;
    let reviewer = move |body: &[u8], mode| admission::review(body, &installation, mode);
    let server = Server {
        name: "webhook",
        listener: options.listen.listen()?,
        transport: Transport::Tls(certificates.server_config()?),
        router: router(reviewer, BodyLimits::default(), webhook_metrics),
        limits,
        metrics: server_metrics,
        drain: drain.clone(),
    };
    let health = health::server(options.health_listen, metrics, readiness, drain.stop.clone())?;

    let mut supervisor = Supervisor::new(shutdown.clone());
    supervisor.spawn("certificate", certificates.follow(tls::POLL, shutdown.clone()));
    supervisor.spawn("webhook server", server.run());
    supervisor.spawn("health server", health.run());
    supervisor.spawn("drain", end_gently(shutdown, serving, drain, options.drain));
    Ok(supervisor.run(options.drain + limits.request + Duration::from_secs(5)).await?)
}

/// Ready from now until the shutdown; then lets the cluster notice before the door closes.
async fn end_gently(shutdown: Shutdown, serving: Part, drain: Drain, delay: Duration) -> Result<(), Infallible> {
    serving.set(true);
    shutdown.requested().await;
    serving.set(false);
    drain.begun.request();
    tokio::time::sleep(delay).await;
    drain.stop.request();
    Ok(())
}
