//! HTTPS as bytes, so that a test can also send what no client would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom to connect to, and whom to trust.
#[derive(Clone)]
pub struct Door {
    address: SocketAddr,
    connector: TlsConnector,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Door {
    pub fn new(address: SocketAddr, authority: &str) -> Door {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Door { address, connector: TlsConnector::from(Arc::new(config)) }
    }

    pub async fn tcp(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub async fn open(&self) -> std::io::Result<Connection> {
        let name = ServerName::try_from("localhost").expect("a name");
        Ok(Connection { stream: self.connector.connect(name, self.tcp().await?).await?, early: Vec::new() })
    }

    /// One review on a connection of its own.
    pub async fn review(&self, body: &[u8]) -> std::io::Result<Answer> {
        let mut connection = self.open().await?;
        connection.send(&request(body)).await?;
        connection.answer().await
    }
}

/// A review's request.
pub fn request(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// An open connection.
pub struct Connection {
    pub stream: TlsStream<TcpStream>,
    /// What came after the answers that were read.
    early: Vec<u8>,
}

impl Connection {
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next answer, which must come in time.
    pub async fn answer(&mut self) -> std::io::Result<Answer> {
        tokio::time::timeout(PATIENCE, self.read()).await.unwrap_or_else(|_| panic!("no answer within {PATIENCE:?}"))
    }

    async fn read(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(end) = self.early.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.early[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.early.len() < end + length {
            self.more().await?;
        }
        let later = self.early.split_off(end + length);
        let body = std::mem::replace(&mut self.early, later).split_off(end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Answer { status: status.ok_or_else(|| std::io::Error::other("no status"))?, head, body })
    }
    async fn more(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.early).await? {
            0 => Err(std::io::Error::other("closed before the end of the answer")),
            _ => Ok(()),
        }
    }
}
