//! A way to the API server on which a controller is killed at a chosen write: just before the API server gets it, or
//! just after it was carried out and before the controller hears of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Config;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::{Error, Result};

/// On which side of a write the controller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The write never reaches the API server.
    Before,
    /// The write is done, and the controller never learns it.
    After,
}

/// One of the writes of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Its so manyth, counted from one.
    Number(usize),
    /// The first one whose path contains this.
    First(&'static str),
}

/// Where the controller is to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// At this write.
    pub write: Write,
    /// On this side of it.
    pub side: Side,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Watch {
    point: Option<Point>,
    controller: Option<Pid>,
    writes: usize,
    /// The write at which it was killed, as `METHOD path`.
    struck: Option<String>,
}

/// A proxy for plain HTTP in front of the API server. It ends when it is dropped.
pub struct Proxy {
    _runtime: Runtime,
    address: SocketAddr,
    watch: Arc<Mutex<Watch>>,
}

#[derive(Clone)]
struct Upstream {
    tls: TlsConnector,
    address: String,
    name: ServerName<'static>,
    watch: Arc<Mutex<Watch>>,
}

impl Proxy {
    /// Starts one in front of the API server of this kubeconfig, with that one's rights.
    ///
    /// # Errors
    /// When the kubeconfig can't be used or nothing can listen.
    pub fn start(kubeconfig: &Path) -> Result<Proxy> {
        let unusable = |error: &dyn std::fmt::Display| Error::Unreadable(format!("{}: {error}", kubeconfig.display()));
        let runtime = Runtime::new().map_err(|error| Error::System { what: "threads".to_owned(), error })?;
        let watch = Arc::new(Mutex::new(Watch::default()));
        let (listener, upstream) = runtime.block_on(async {
            let config = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(&error))?;
            let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
            let config = config.map_err(|error| unusable(&error))?;
            let tls = config.rustls_client_config().map_err(|error| unusable(&error))?;
            let host = config.cluster_url.host().unwrap_or_default().to_owned();
            let upstream = Upstream {
                tls: TlsConnector::from(Arc::new(tls)),
                address: format!("{host}:{}", config.cluster_url.port_u16().unwrap_or(443)),
                name: ServerName::try_from(host).map_err(|error| unusable(&error))?,
                watch: Arc::clone(&watch),
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| unusable(&error))?;
            Ok::<_, Error>((listener, upstream))
        })?;
        let address = listener.local_addr().map_err(|error| unusable(&error))?;
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = upstream.clone();
                // Whatever ends a connection, its client connects again.
                tokio::spawn(async move { drop(upstream.serve(client).await) });
            }
        });
        Ok(Proxy { _runtime: runtime, address, watch })
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "proxy", "user": {} }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "proxy" } }],
        })
        .to_string()
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everything through, whoever writes.
    pub fn let_through(&self) {
        *self.watch() = Watch::default();
    }

    /// Counts this controller's writes from now on, and kills it at this point.
    pub fn kill_at(&self, point: Point, controller: Pid) {
        *self.watch() = Watch { point: Some(point), controller: Some(controller), ..Watch::default() };
    }

    /// The write at which the controller was killed.
    #[must_use]
    pub fn struck(&self) -> Option<String> {
        self.watch().struck.clone()
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    /// It is lost, and its writer dies.
    Lose,
    /// It is carried out, and its writer dies.
    Outlive,
    /// Its writer is dead already.
    Late,
}

impl Upstream {
    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, client: TcpStream) -> std::io::Result<()> {
        let server = self.tls.connect(self.name.clone(), TcpStream::connect(&self.address).await?).await?;
        let (mut from_client, to_client) = client.into_split();
        let (from_server, mut to_server) = tokio::io::split(server);
        let answers = Answers { from: from_server, to: to_client };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let answers = tokio::spawn(answers.relay(stopped));
        while let Some(request) = Request::read(&mut from_client).await? {
            match self.judge(&request) {
                Fate::Pass => to_server.write_all(&request.bytes).await?,
                Fate::Lose => {
                    self.strike(&request);
                    break;
                }
                Fate::Outlive => {
                    stop.send_replace(true);
                    to_server.write_all(&request.bytes).await?;
                    // Its end is the first answer after the request.
                    let _ = answers.await;
                    self.strike(&request);
                    return Ok(());
                }
                Fate::Late => break,
            }
        }
        answers.abort();
        Ok(())
    }

    /// Counts it, if it counts.
    fn judge(&self, request: &Request) -> Fate {
        let mut watch = self.watch();
        let Some(point) = watch.point else { return Fate::Pass };
        if watch.struck.is_some() {
            return Fate::Late;
        }
        if !request.is_write() {
            return Fate::Pass;
        }
        watch.writes += 1;
        let here = match point.write {
            Write::Number(number) => watch.writes == number,
            Write::First(part) => request.line.contains(part),
        };
        if !here {
            return Fate::Pass;
        }
        watch.struck = Some(request.line.clone());
        match point.side {
            Side::Before => Fate::Lose,
            Side::After => Fate::Outlive,
        }
    }

    fn strike(&self, _request: &Request) {
        if let Some(controller) = self.watch().controller {
            // It is a child that is waited for only afterwards, so the number is still its own.
            let _ = kill_process(controller, Signal::KILL);
        }
    }
}

struct Answers<R, W> {
    from: R,
    to: W,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Answers<R, W> {
    /// Passes answers on until one comes that is to be kept back.
    async fn relay(mut self, stopped: tokio::sync::watch::Receiver<bool>) -> std::io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = self.from.read(&mut buffer).await?;
            if count == 0 || *stopped.borrow() {
                return Ok(());
            }
            self.to.write_all(&buffer[..count]).await?;
        }
    }
}

/// A request as it came.
struct Request {
    bytes: Vec<u8>,
    /// The method and the path.
    line: String,
}

impl Request {
    /// Reads one; none when the client has gone.
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Request>> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                // A client sends its next request only after the answer, so nothing of that is in here.
                let whole = end + 4 + length.unwrap_or_default();
                if bytes.len() >= whole {
                    let line = head.lines().next().unwrap_or_default();
                    return Ok(Some(Request { bytes, line: line.trim_end_matches(" HTTP/1.1").to_owned() }));
                }
            }
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(None);
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
    }

    /// Whether it changes what decides: the Lease is renewed all the time, and is about who acts, not about what is
    /// done.
    fn is_write(&self) -> bool {
        !self.line.starts_with("GET ") && !self.line.contains("/leases")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let runtime = Runtime::new().expect("threads");
        let read = |text: &'static str| runtime.block_on(Request::read(&mut text.as_bytes())).expect("a request");
        let write = read("PATCH /a/status HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").expect("one");
        assert_eq!((write.line.as_str(), write.is_write()), ("PATCH /a/status", true));
        assert!(!read("GET /a?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n").expect("one").is_write());
        let renewal = "PUT /apis/coordination.k8s.io/v1/namespaces/a/leases/b HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        assert!(!read(renewal).expect("one").is_write());
        assert!(read("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\n{}").is_none(), "it was cut");
    }
}
