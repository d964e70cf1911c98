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
    pub async fn ask(&mut self, request: &[u8]) -> Result<&[u8], Failure> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (start, length) = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed before the end of the answer".into());
            }
            if let Some(found) = head(&self.buffer)? {
                break found;
            }
        };
        while self.buffer.len() < start + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed before the end of the answer".into());
            }
        }
        Ok(&self.buffer[start..])
    }
}

/// Where the body begins, and its length, once the head is there.
fn head(bytes: &[u8]) -> Result<Option<(usize, usize)>, Failure> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the answer is {:?}", head.lines().next().unwrap_or_default()).into());
    }
    let length = head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case("content-length").then_some(value)
    });
    Ok(Some((end + 4, length.ok_or("the answer has no length")?.parse()?)))
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
            connection.ask(&request).await?;
            open.push(connection);
        }
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
                        connection.ask(&request).await?;
                        latencies.push(start.elapsed());
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await??);
        }
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
            connection.ask(request).await?;
            open.push(connection);
        }
        resident()
    })
}
