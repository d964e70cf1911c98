//! An HTTPS server that can be left alone with anybody.
//!
//! An admission webhook is called by the API server and reached by every pod of the cluster. So each resource that a
//! connection can take has an explicit limit, see [`Limits`]; and since a call that fails fails somebody's `kubectl
//! apply`, the server ends without failing one, see [`Drain`].

mod connections;
mod listen;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::metrics::ServerMetrics;
use crate::supervise::{Shutdown, with_causes};
use connections::{Connections, Place, Watched};

pub use listen::{CannotListen, ListenAddress, NoAddress};

/// What a connection may take. The bodies have limits of their own, with the handler that reads them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections. One more, and the one that has made no progress for the longest time is closed.
    pub connections: usize,
    /// The age of a phase (handshake, request, idleness) before which no connection is closed to make room.
    pub protected: Duration,
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From a request's first byte (the first request's: from the handshake) to the last byte of its answer.
    pub request: Duration,
    /// Between two requests. The API server closes idle connections after 90 s (k8s.io/apimachinery/pkg/util/net takes
    /// the time from Go's default transport); if we were first, a request could meet the closing and fail.
    pub idle: Duration,
    /// Bytes of a request's line and headers together, and of the buffer that a body is read through.
    pub head_bytes: usize,
    /// Header lines in a request.
    pub header_lines: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 512,
            protected: Duration::from_secs(1),
            handshake: Duration::from_secs(5),
            request: Duration::from_secs(15),
            idle: Duration::from_secs(300),
            head_bytes: 16 << 10,
            header_lines: 64,
        }
    }
}

/// How a server ends. First `begun`: it still takes everybody, but asks each client to go elsewhere after the answer
/// that it gets. Then, once the cluster has had the time to send no more new clients, `stop`: it takes no new
/// connection, closes the idle ones, finishes what is under way and returns.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Answers ask the client to close the connection.
    pub begun: Shutdown,
    /// No new connections.
    pub stop: Shutdown,
}

/// What is spoken on the connections.
#[derive(Clone, Debug)]
pub enum Transport {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls(Arc<ServerConfig>),
}

/// A server, ready to run.
pub struct Server {
    /// What it is called in the logs.
    pub name: &'static str,
    /// Where it takes connections.
    pub listener: TcpListener,
    /// What it speaks.
    pub transport: Transport,
    /// What answers.
    pub router: Router,
    /// What each connection may take.
    pub limits: Limits,
    /// What it counts.
    pub metrics: ServerMetrics,
    /// How it ends.
    pub drain: Drain,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Dropped {
    #[error("no TLS")]
    Handshake(#[source] io::Error),
    #[error("HTTP")]
    Http(#[from] hyper::Error),
    #[error("took too long, or made room for another")]
    Slow,
}

impl Server {
    /// Serves until [`Drain::stop`], and then until the last answer is out.
    ///
    /// # Errors
    /// None: what goes wrong on one connection ends that one.
    pub async fn run(self) -> Result<(), Infallible> {
        let address = self.listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(server = self.name, address, "listening");
        let connections = Connections::new(self.limits, self.metrics.open.clone());
        let connect = Arc::new(Connect {
            name: self.name,
            transport: self.transport,
            router: self.router,
            limits: self.limits,
            metrics: self.metrics,
            drain: self.drain.clone(),
        });
        let accepting = async {
            loop {
                let Some(stream) = accept(&self.listener, connect.name).await else { continue };
                let place = connections.place().await;
                tokio::spawn(connect.clone().connection(stream, place));
            }
        };
        tokio::select! {
            () = self.drain.stop.requested() => {}
            () = accepting => {}
        }
        // Whoever knocked before the door closed is still let in.
        while let Some(Some(stream)) = accept(&self.listener, connect.name).now_or_never() {
            let Some(place) = connections.place().now_or_never() else { break };
            tokio::spawn(connect.clone().connection(stream, place));
        }
        drop(self.listener);
        connections.all_closed().await;
        tracing::info!(server = connect.name, "all connections closed");
        Ok(())
    }
}

/// The next connection; `None` after an error that says nothing of the next one.
async fn accept(listener: &TcpListener, server: &'static str) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are short; waiting for more to send would only delay them. A socket that can't is served too.
            let _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
        Err(error) => {
            tracing::warn!(server, %error, "can't accept a connection");
            // Out of file descriptors or memory, which only time can mend; trying at once would burn the processor.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

/// What every connection needs.
struct Connect {
    name: &'static str,
    transport: Transport,
    router: Router,
    limits: Limits,
    metrics: ServerMetrics,
    drain: Drain,
}

impl Connect {
    /// The life of one connection.
    async fn connection(self: Arc<Self>, stream: TcpStream, place: Place) {
        let peer = stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        let ended = match &self.transport {
            Transport::Plain => {
                place.progress.shaken_hands();
                self.http(stream, &place).await
            }
            Transport::Tls(config) => match self.handshake(config, stream, &place).await {
                Ok(stream) => self.http(stream, &place).await,
                Err(dropped) => Err(dropped),
            },
        };
        if let Err(dropped) = ended {
            self.metrics.dropped.inc();
            // The clients decide how many of these lines there are, so they are for those who ask for them.
            let reason = with_causes(&dropped);
            tracing::debug!(server = self.name, peer, reason, "connection dropped");
        }
    }

    async fn handshake(
        &self,
        config: &Arc<ServerConfig>,
        stream: TcpStream,
        place: &Place,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, Dropped> {
        let handshake = TlsAcceptor::from(config.clone()).accept(stream);
        let stream = tokio::select! {
            shaken = handshake => shaken.map_err(Dropped::Handshake)?,
            () = place.progress.over() => return Err(Dropped::Slow),
        };
        place.progress.shaken_hands();
        Ok(stream)
    }

    async fn http(&self, stream: impl AsyncRead + AsyncWrite + Unpin, place: &Place) -> Result<(), Dropped> {
        let progress = &place.progress;
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
            let answer = self.router.clone().call(request.map(Body::new));
            async move {
                let Ok(mut answer) = answer.await;
                if self.drain.begun.is_requested() {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                progress.answered();
                Ok::<_, Infallible>(answer)
            }
        });
        let io = TokioIo::new(Watched { stream, progress: progress.clone() });
        let connection = http1::Builder::new()
            // Our own clock: this one would end idle connections too.
            .header_read_timeout(None)
            .max_buf_size(self.limits.head_bytes)
            .max_headers(self.limits.header_lines)
            .serve_connection(io, service);
        let mut connection = pin!(connection);
        let mut over = pin!(progress.over());
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = over.as_mut() => return Err(Dropped::Slow),
            () = self.drain.stop.requested() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = connection => Ok(ended?),
            () = over => Err(Dropped::Slow),
        }
    }
}

#[cfg(test)]
mod tests;
