//! The load: so many connections, each of which sends the same request again as soon as it has its answer.
//!
//! All of it runs on one thread, and neither writes nor reads more than it must: what the generator takes, the server
//! can't be given.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Failure;

/// Whom to connect to, and whom to trust.
#[derive(Clone)]
pub struct Door {
    address: SocketAddr,
    connector: TlsConnector,
}

impl Door {
    /// The way to a server whose certificate this authority signed.
    pub fn new(address: SocketAddr, authority: &str) -> Result<Door, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Door { address, connector: TlsConnector::from(Arc::new(config)) })
    }

    /// A new connection.
    pub async fn open(&self) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        Ok(Connection { stream: self.connector.connect(name, stream).await?, buffer: Vec::with_capacity(64 << 10) })
    }
}

/// A review's HTTP request.
pub fn request(review: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /mutate?timeout=5s HTTP/1.1\r\nHost: migration-gate-webhook.migration-gate-system.svc:443\r\n\
         User-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\nAccept: application/json, */*\r\n\
         Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n",
        review.len()
    );
    [head.as_bytes(), review].concat()
}

/// An open connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends a request and reads its answer, of which the body is returned.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let body = self.exchange(request).await?;
        Ok(match body {
            Body::Whole(start) => self.buffer[start..].to_vec(),
            Body::Chunks(start) => joined(&self.buffer[start..])?,
        })
    }

    /// Sends a request and reads its answer to the end.
    async fn exchange(&mut self, request: &[u8]) -> Result<Body, Failure> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed before the end of the answer".into());
            }
            match head(&self.buffer)? {
                Some((start, Some(length))) if self.buffer.len() >= start + length => return Ok(Body::Whole(start)),
                // One answer at a time is on the way, so what ends like the last chunk is it.
                Some((start, None)) if self.buffer.ends_with(b"\r\n0\r\n\r\n") => return Ok(Body::Chunks(start)),
                _ => {}
            }
        }
    }
}

/// Where in the buffer an answer's body begins, and how it came.
enum Body {
    Whole(usize),
    Chunks(usize),
}

/// Where the body begins, and its length if it is told, once the head is there.
fn head(bytes: &[u8]) -> Result<Option<(usize, Option<usize>)>, Failure> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the answer is {:?}", head.lines().next().unwrap_or_default()).into());
    }
    let length = head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case("content-length").then_some(value)
    });
    Ok(Some((end + 4, length.map(str::parse).transpose()?)))
}

/// The body that came in chunks.
fn joined(mut bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").ok_or("a chunk has no length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end])?, 16)?;
        if length == 0 {
            return Ok(body);
        }
        let chunk = bytes.get(end + 2..end + 2 + length).ok_or("a chunk is cut short")?;
        body.extend_from_slice(chunk);
        bytes = &bytes[end + 2 + length + 2..];
    }
}

/// Sends the request over so many connections for so long; returns each answer's latency.
pub fn run(door: &Door, request: &[u8], connections: usize, duration: Duration) -> Result<Vec<Duration>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request: Rc<[u8]> = request.into();
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut open = Vec::new();
        for _ in 0..connections {
            let mut connection = door.open().await?;
            connection.exchange(&request).await?;
            open.push(connection);
        }
        // This thread never sleeps: a server that had to wake it for each answer would be charged with that.
        let restless = tokio::task::spawn_local(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let until = Instant::now() + duration;
        let clients: Vec<_> = open
            .into_iter()
            .map(|mut connection| {
                let request = request.clone();
                tokio::task::spawn_local(async move {
                    let mut latencies = Vec::new();
                    loop {
                        let start = Instant::now();
                        if start >= until {
                            return Ok::<_, Failure>(latencies);
                        }
                        connection.exchange(&request).await?;
                        latencies.push(start.elapsed());
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await??);
        }
        restless.abort();
        Ok(all)
    }))
}

/// Memory that the server takes with so many connections open, each of which asked once, in kilobytes.
pub fn hold(
    door: &Door,
    request: &[u8],
    connections: usize,
    resident: impl Fn() -> Result<u64, Failure>,
) -> Result<u64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..connections {
            let mut connection = door.open().await?;
            connection.exchange(request).await?;
            open.push(connection);
        }
        resident()
    })
}
