//! Tests with real sockets: what a connection may take, and how the server ends.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::routing::{get, post};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::metrics::{CertificateMetrics, Metrics};
use crate::tls::Certificates;
use crate::tls::test_pair::{Issued, Secret};

/// Nothing in these tests takes longer than this, unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

const SHORT: Limits = Limits {
    connections: 8,
    protected: Duration::from_millis(200),
    handshake: Duration::from_secs(2),
    request: Duration::from_secs(2),
    idle: Duration::from_secs(60),
    head_bytes: 8 << 10,
    header_lines: 32,
};

/// A running server with a certificate that can be changed.
struct Running {
    address: SocketAddr,
    secret: Secret,
    drain: Drain,
    metrics: ServerMetrics,
    /// Lets the requests to `/held` be answered.
    release: Arc<Notify>,
    served: tokio::task::JoinHandle<Result<(), Infallible>>,
}

impl Running {
    async fn start(first: &Issued, limits: Limits) -> Running {
        let secret = Secret::new(&first.certificate, &first.key);
        let metrics = ServerMetrics::default();
        let certificate_metrics = CertificateMetrics::register(Metrics::new().registry());
        let certificates = Certificates::open(secret.path(), certificate_metrics).expect("a valid pair");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let drain = Drain::default();
        let release = Arc::new(Notify::new());
        let held = release.clone();
        let router =
            Router::new().route("/", get(async || "hello")).route("/echo", post(async |body: Bytes| body)).route(
                "/held",
                get(async move || {
                    held.notified().await;
                    "released"
                }),
            );
        let server = Server {
            name: "test",
            listener,
            transport: Transport::Tls(certificates.server_config().expect("TLS")),
            router,
            limits,
            metrics: metrics.clone(),
            drain: drain.clone(),
        };
        tokio::spawn(certificates.follow(Duration::from_millis(20), drain.stop.clone()));
        let served = tokio::spawn(server.run());
        Running { address, secret, drain, metrics, release, served }
    }

    /// A connection on which only `trusted` is taken for the server's certificate.
    async fn connect(&self, trusted: &Issued) -> io::Result<Client> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(trusted.der())).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        Ok(Client(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }

    /// The server has ended, and that without an error.
    async fn ended(self) {
        timeout(DEADLINE, self.served).await.expect("an end").expect("no panic").expect("infallible");
    }
}

struct Client(TlsStream<TcpStream>);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("an open connection");
    }

    /// The next answer: its head, and as much body as it declares.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let read = timeout(DEADLINE, self.0.read(&mut piece)).await.expect("an answer in time").unwrap_or(0);
            answer.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&answer).to_lowercase();
            let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                let declared = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                declared.is_none_or(|length| body.len() >= length.parse().expect("a number"))
            });
            if read == 0 || whole {
                return text;
            }
        }
    }

    async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        self.answer().await
    }

    /// The seconds until the server closes the connection.
    async fn closed_after(&mut self) -> Duration {
        let start = Instant::now();
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(DEADLINE, self.0.read_to_end(&mut rest)).await.expect("an end");
        start.elapsed()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{what} in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_old_ones_go_on() {
    let (first, second) = (Issued::valid(), Issued::valid());
    let server = Running::start(&first, SHORT).await;
    let mut old = server.connect(&first).await.expect("the first certificate");
    assert!(old.get("/").await.ends_with("hello"));
    server.secret.swap(&second.certificate, &second.key);
    let start = Instant::now();
    while let Err(error) = server.connect(&second).await {
        assert!(start.elapsed() < DEADLINE, "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    assert!(server.connect(&first).await.is_err(), "the first certificate is no longer served");
    assert!(old.get("/").await.ends_with("hello"));
    // A pair that can't serve changes nothing.
    server.secret.swap(&first.certificate, &second.key);
    assert!(server.connect(&second).await.is_ok());
}

#[tokio::test]
async fn the_end_waits_for_the_last_answer() {
    let certificate = Issued::valid();
    let server = Running::start(&certificate, SHORT).await;
    let mut idle = server.connect(&certificate).await.expect("a connection");
    assert!(!idle.get("/").await.contains("connection: close"));
    let mut busy = server.connect(&certificate).await.expect("a connection");
    busy.send("GET /held HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut leaving = server.connect(&certificate).await.expect("a connection");

    server.drain.begun.request();
    assert!(leaving.get("/").await.contains("connection: close"));
    leaving.closed_after().await;
    let mut late = server.connect(&certificate).await.expect("still taken in");
    assert!(late.get("/").await.ends_with("hello"));

    server.drain.stop.request();
    idle.closed_after().await;
    until("only the busy one", || server.metrics.open.get() == 1).await;
    assert!(server.connect(&certificate).await.is_err(), "nobody is taken in");
    assert!(!server.served.is_finished(), "the server ends before its last answer");
    server.release.notify_one();
    assert!(busy.answer().await.ends_with("released"));
    server.ended().await;
}

#[tokio::test]
async fn the_slow_are_dropped_and_the_idle_are_not() {
    let certificate = Issued::valid();
    let server = Running::start(&certificate, SHORT).await;
    let mut idle = server.connect(&certificate).await.expect("a connection");
    assert!(idle.get("/").await.ends_with("hello"));

    let mut silent = TcpStream::connect(server.address).await.expect("a connection");
    let mut mute = server.connect(&certificate).await.expect("a connection");
    let mut slow_head = server.connect(&certificate).await.expect("a connection");
    let mut slow_body = server.connect(&certificate).await.expect("a connection");
    slow_head.send("GET / HTTP/1.1\r\nhost:").await;
    slow_body.send("POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc").await;
    // A byte now and then buys no time.
    let dribble = async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if slow_head.0.write_all(b"x").await.is_err() || slow_head.0.flush().await.is_err() {
                break;
            }
        }
    };
    let mut nothing = Vec::new();
    let (dribbled, mute_end, body_end, silent_end) =
        tokio::join!(timeout(DEADLINE, dribble), mute.closed_after(), slow_body.closed_after(), async {
            let start = Instant::now();
            let _ = timeout(DEADLINE, silent.read_to_end(&mut nothing)).await.expect("an end");
            start.elapsed()
        });
    dribbled.expect("an end for the one that dribbles");
    for end in [mute_end, body_end, silent_end] {
        assert!(end > Duration::from_secs(1) && end < Duration::from_secs(4), "{end:?}");
    }
    assert_eq!(server.metrics.dropped.get(), 4);
    assert!(idle.get("/").await.ends_with("hello"));
}

#[tokio::test]
async fn there_is_room_beside_any_number_of_slow_ones() {
    let certificate = Issued::valid();
    let patient = Limits { handshake: DEADLINE, request: DEADLINE, ..SHORT };
    let server = Running::start(&certificate, patient).await;
    let mut slow = Vec::new();
    for _ in 0..3 * SHORT.connections {
        slow.push(TcpStream::connect(server.address).await.expect("a connection"));
    }
    let mut client = timeout(DEADLINE / 4, server.connect(&certificate)).await.expect("room").expect("a connection");
    assert!(client.get("/").await.ends_with("hello"));
    assert!(server.metrics.open.get() <= SHORT.connections as i64);
    drop(slow);
}

#[tokio::test]
async fn what_is_no_http_gets_a_status_or_an_end() {
    let certificate = Issued::valid();
    let server = Running::start(&certificate, SHORT).await;
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(SHORT.head_bytes));
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(SHORT.header_lines));
    for (request, status) in [
        ("NONSENSE\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost\r\n\r\n", "400"),
        ("POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "400"),
        ("POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "400"),
        ("POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nz\r\n", "400"),
        (long.as_str(), "431"),
        (many.as_str(), "431"),
    ] {
        let mut client = server.connect(&certificate).await.expect("a connection");
        client.send(request).await;
        let answer = client.answer().await;
        assert!(answer.starts_with(&format!("http/1.1 {status}")), "{request:.60}: {answer}");
        client.closed_after().await;
    }
    // Several requests in one go are answered in their order.
    let mut client = server.connect(&certificate).await.expect("a connection");
    let one = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client.send(&format!("{one}{one}GET /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
    let mut all = String::new();
    let _ = timeout(DEADLINE, client.0.read_to_string(&mut all)).await.expect("an end");
    assert_eq!((all.matches("200 OK").count(), all.matches("404 Not Found").count()), (2, 1), "{all}");
    // Plain HTTP is no TLS, and the server lives on.
    let mut plain = TcpStream::connect(server.address).await.expect("a connection");
    plain.write_all(one.as_bytes()).await.expect("an open connection");
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, plain.read_to_end(&mut rest)).await.expect("an end");
    let mut client = server.connect(&certificate).await.expect("a connection");
    assert!(client.get("/").await.ends_with("hello"));
}
