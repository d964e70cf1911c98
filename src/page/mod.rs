//! A page that shows what the controller sees: the line of each group's attempts, who waits, and how it ended.
//!
//! It is off unless an address is given, it changes nothing, and it needs no right that the controller doesn't have. It
//! shows names and log tails of all namespaces and knows no users; so it listens on the pod's own loopback, where only
//! `kubectl port-forward` comes, for which the API server asks for a right. Every replica serves it, from its own watches.
//!
//! [`view`] turns a snapshot into values that are cut to a bound, [`overview`] chooses the groups, [`render`] writes HTML.

mod draw;
mod overview;
mod render;
mod routes;
mod text;
mod timeline;
mod view;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::metrics::{CertificateMetrics, ServerMetrics};
use crate::server::{Drain, Limits, Server, Transport};
use crate::supervise::{Shutdown, Supervisor};
use crate::tls::{self, Certificates};

pub use routes::{Source, router};

/// Connections to the page: some people's browsers.
const LIMITS: Limits = Limits {
    connections: 32,
    protected: Duration::from_secs(1),
    handshake: Duration::from_secs(5),
    request: Duration::from_secs(15),
    idle: Duration::from_secs(60),
    head_bytes: 16 << 10,
    header_lines: 64,
};

/// Where the page is served.
#[derive(Debug)]
pub struct Place {
    /// Where people reach it.
    pub listener: TcpListener,
    /// The folder with `tls.crt` and `tls.key`.
    pub tls_dir: PathBuf,
    /// What is said of its certificate.
    pub metrics: CertificateMetrics,
}

/// Serves the page under a supervisor.
///
/// Nobody's migration waits for a page: without a certificate that can serve, it says so and waits for one.
pub fn start(place: Place, source: Source, supervisor: &mut Supervisor) {
    let shutdown = supervisor.shutdown().clone();
    supervisor.spawn("page", serve(place, source, shutdown));
}

async fn serve(place: Place, source: Source, shutdown: Shutdown) -> Result<(), rustls::Error> {
    let certificates = tokio::select! {
        () = shutdown.requested() => return Ok(()),
        certificates = certificates(&place) => certificates,
    };
    let server = Server {
        name: "page",
        listener: place.listener,
        transport: Transport::Tls(certificates.server_config()?),
        router: router(source),
        limits: LIMITS,
        // Not registered: the port that counts is the webhook's.
        metrics: ServerMetrics::default(),
        drain: Drain { begun: shutdown.clone(), stop: shutdown.clone() },
    };
    let (Ok(()), Ok(())): (Result<(), Infallible>, Result<(), Infallible>) =
        tokio::join!(certificates.follow(tls::POLL, shutdown), server.run());
    Ok(())
}

/// The first certificate that can serve.
async fn certificates(place: &Place) -> Certificates {
    let mut complaint = None;
    loop {
        match Certificates::open(&place.tls_dir, place.metrics.clone()) {
            Ok(certificates) => return certificates,
            Err(unfit) if complaint.as_ref() == Some(&unfit.to_string()) => {}
            Err(unfit) => {
                tracing::error!(folder = %place.tls_dir.display(), reason = %unfit, "the page waits for a certificate");
                complaint = Some(unfit.to_string());
            }
        }
        tokio::time::sleep(tls::POLL).await;
    }
}
