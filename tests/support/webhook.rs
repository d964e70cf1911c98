//! The webhook as a process of its own, registered with a real API server.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::client::Somebody;
use super::eventually;

/// The image that the injections name.
pub const AGENT_IMAGE: &str = "localhost/migration-gate:test";

/// A running webhook. It is killed when this is dropped.
pub struct Webhook {
    process: Child,
    pub address: SocketAddr,
    pub health: SocketAddr,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    /// Starts it, and waits until it is ready.
    pub async fn start(host: IpAddr, tls: &Path, port: u16) -> Webhook {
        Webhook::start_with(AGENT_IMAGE, host, tls, port).await
    }

    /// Starts one of another version, which brings another agent, and waits until it is ready.
    pub async fn start_with(agent_image: &str, host: IpAddr, tls: &Path, port: u16) -> Webhook {
        let mut process = Command::new(env!("CARGO_BIN_EXE_migration-gate"))
            .args(["webhook", "--agent-image", agent_image, "--log-level", "debug", "--drain-seconds", "1"])
            .arg("--tls-dir")
            .arg(tls)
            .args(["--listen", &SocketAddr::new(host, port).to_string()])
            .args(["--health-listen", "127.0.0.1:0"])
            .env("GLIBC_TUNABLES", tunables())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was just built");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(process.stderr.take().expect("piped"));
        let collected = lines.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                collected.lock().expect("no panic").push(line);
            }
        });
        let listening = async |server: &str| {
            eventually(&format!("the {server} port"), async || {
                let lines = lines.lock().expect("no panic");
                let line = lines.iter().find(|line| line["message"] == "listening" && line["server"] == server)?;
                line["address"].as_str()?.parse().ok()
            })
            .await
        };
        let (address, health) = (listening("webhook").await, listening("health").await);
        let webhook = Webhook { process, address, health, lines };
        eventually("the webhook to be ready", async || {
            webhook.health_page("/readyz").await.filter(|page| page.contains(" 200 "))
        })
        .await;
        webhook
    }

    /// A page of the health port, head and all; nothing if it doesn't answer.
    pub async fn health_page(&self, path: &str) -> Option<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.health).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.ok()?;
        Some(page)
    }

    /// A number among the metrics.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = self.health_page("/metrics").await.expect("the metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {page}")).parse().expect("a number")
    }

    /// The log so far.
    pub fn log(&self) -> Vec<Value> {
        self.lines.lock().expect("no panic").clone()
    }

    /// Memory in use now, in bytes.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that was ever in use, in bytes.
    pub fn peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// Of the memory in use now, what holds the program's own file, in bytes.
    pub fn code(&self) -> u64 {
        self.status("RssFile:")
    }

    fn status(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a number");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1024
    }

    /// Asks it to end, as the kubelet does.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        eventually("the webhook to end", async || self.process.try_wait().expect("it is ours")).await
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How the installation lets the webhook use memory.
fn tunables() -> String {
    let text = include_str!("../../deploy/webhook.yaml");
    let after = text.split_once("name: GLIBC_TUNABLES\n").expect("the installation sets it").1;
    let value = after.lines().next().and_then(|line| line.trim().strip_prefix("value: "));
    value.expect("a value").to_owned()
}

/// The webhook's configuration from the installation, at another address.
pub async fn register(administrator: &Somebody, address: SocketAddr, bundle: &str) {
    let text = include_str!("../../webhook-config/webhook.yaml");
    let mut configuration: Value = serde_saphyr::from_str(text).expect("YAML");
    for webhook in configuration["webhooks"].as_array_mut().expect("webhooks") {
        let path = webhook["clientConfig"]["service"]["path"].as_str().expect("a path");
        webhook["clientConfig"] = json!({"url": format!("https://{address}{path}"), "caBundle": bundle});
    }
    const PATH: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    administrator.must_create(PATH, &configuration).await;
}
