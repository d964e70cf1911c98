//! The controller as a process, and what it uses.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testcluster::Cluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Result, eventually};

/// The clock ticks of `/proc/PID/stat` a second. Source: proc_pid_stat(5); USER_HZ is 100 on every Linux that counts.
const TICKS: u32 = 100;

/// A controller that leads; it is killed when it is dropped.
pub struct Controller {
    child: Child,
    health: SocketAddr,
}

impl Controller {
    /// Starts one and waits until it is ready. `MIGRATION_GATE_PROGRAM` names another program than the one that was built
    /// with the bench.
    pub async fn start(cluster: &Cluster, identity: &str) -> Result<Controller> {
        let log = std::fs::File::create(cluster.logs_dir().join(format!("controller-{identity}.log")))?;
        // Free a moment ago; nobody else binds here in between.
        let health = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let program = std::env::var("MIGRATION_GATE_PROGRAM");
        let child = Command::new(program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_migration-gate")))
            .args(["controller", "--identity", identity, "--lease-namespace", "default"])
            .args(["--health-listen", &health.to_string()])
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("GLIBC_TUNABLES", tunables().ok_or("deploy/controller.yaml says nothing of memory")?)
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()?;
        let controller = Controller { child, health };
        eventually("the controller to be ready", async || {
            Ok(controller.get("/readyz").await.ok().filter(|answer| answer.starts_with("HTTP/1.1 200")))
        })
        .await?;
        Ok(controller)
    }

    /// Ends it as the kubelet would.
    pub fn end(mut self) -> Result<()> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM)?;
        if self.child.wait()?.success() { Ok(()) } else { Err("the controller did not end well".into()) }
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that it ever had resident, in bytes.
    pub fn peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("no memory in the status")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    /// The time that it has spent on processors.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name may hold anything; what follows its bracket is numbers. utime and stime are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(')').ok_or("no name in the stat")?;
        let ticks: u32 = rest.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
        Ok(Duration::from_secs(1) * ticks / TICKS)
    }

    /// How many gates it says that it opened.
    pub async fn opened(&self) -> Result<u64> {
        self.counted("migration_gate_gates_opened_total").await
    }

    /// A counter without labels.
    pub async fn counted(&self, name: &str) -> Result<u64> {
        let answer = self.get("/metrics").await?;
        let line = answer.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
        Ok(line.trim().parse()?)
    }

    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.health).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

/// What the installation tells the allocator.
fn tunables() -> Option<&'static str> {
    let (_, after) = include_str!("../../deploy/controller.yaml").split_once("name: GLIBC_TUNABLES\n")?;
    after.lines().next()?.trim().strip_prefix("value: ")
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
