//! The program's processes: the webhook and the controllers. They run where the cluster runs and end with it, however
//! that happens.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use testcluster::Cluster;

use crate::{Error, Result, system};

/// The clock ticks of `/proc/PID/stat` a second. Source: proc_pid_stat(5); USER_HZ is 100 on every Linux that counts.
const TICKS: u32 = 100;
/// What sets a program's environment, and then becomes it.
const ENV: &str = "/usr/bin/env";
/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(50);

/// How controllers are started.
#[derive(Clone)]
pub struct Recipe {
    /// Where they run.
    pub cluster: Arc<Cluster>,
    /// The program.
    pub program: PathBuf,
    /// With whose rights.
    pub kubeconfig: PathBuf,
    /// The namespace of their Lease.
    pub namespace: String,
}

/// A process of the program.
pub struct Process {
    /// Its name; a controller's is also its name in the Lease.
    pub name: String,
    cluster: Arc<Cluster>,
    pid: i32,
}

/// What a process used.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Whose it is.
    pub name: String,
    /// Its resident memory in bytes.
    pub resident: u64,
    /// The most that it ever had, in bytes.
    pub peak: u64,
    /// The time that it spent on processors.
    pub cpu: Duration,
}

impl Recipe {
    /// Starts one.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, identity: &str) -> Result<Process> {
        let mut arguments: Vec<String> = ["controller", "--identity", identity].map(str::to_owned).into();
        arguments.extend(["--lease-namespace".to_owned(), self.namespace.clone()]);
        // Nobody asks for its health here, and a free port is soon somebody else's.
        arguments.extend(["--health-listen".to_owned(), "127.0.0.1:0".to_owned()]);
        let environment =
            [format!("KUBECONFIG={}", self.kubeconfig.display()), format!("GLIBC_TUNABLES={}", tunables()?)];
        start(&self.cluster, identity, &self.program, &environment, arguments)
    }
}

/// Starts the program in the cluster.
///
/// # Errors
/// When it can't be started.
pub fn start(
    cluster: &Arc<Cluster>,
    name: &str,
    program: &Path,
    environment: &[String],
    arguments: Vec<String>,
) -> Result<Process> {
    let words = environment.iter().cloned().chain([program.display().to_string()]).chain(arguments);
    let handle = cluster.run(name, Path::new(ENV), words)?;
    let pid =
        handle.pid().ok_or_else(|| Error::Unusable(format!("{name} ended at once: {}", handle.log().display())))?;
    Ok(Process { name: name.to_owned(), cluster: Arc::clone(cluster), pid })
}

/// What the installation tells the allocator.
fn tunables() -> Result<&'static str> {
    let text = include_str!("../../../deploy/controller.yaml");
    let value = text.split_once("name: GLIBC_TUNABLES\n").and_then(|(_, after)| after.lines().next());
    let value = value.and_then(|line| line.trim().strip_prefix("value: "));
    value.ok_or_else(|| Error::Unusable("deploy/controller.yaml says nothing of memory".to_owned()))
}

impl Process {
    /// Stops it.
    pub fn stop(&self) {
        self.signal(self.pid, Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(self.pid, Signal::CONT);
        // Whoever put it where the cluster runs, and waits for it there, stopped with it.
        if let Some(parent) = self.stat().and_then(|stat| stat.get(1)?.parse().ok()) {
            self.signal(parent, Signal::CONT);
        }
    }

    fn signal(&self, pid: i32, signal: Signal) {
        if self.runs()
            && let Some(pid) = Pid::from_raw(pid)
        {
            // It may have ended since, which shows elsewhere.
            let _ = kill_process(pid, signal);
        }
    }

    /// The fields of `/proc/PID/stat` from the third on: the second is the program's name, which may hold anything.
    fn stat(&self) -> Option<Vec<String>> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        Some(rest.split_whitespace().map(str::to_owned).collect())
    }

    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.cluster.component(&self.name).is_ok_and(|handle| handle.pid() == Some(self.pid))
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&self) -> Result<()> {
        Ok(self.cluster.component(&self.name)?.kill()?)
    }

    /// Asks it to end, and waits until it has, or for so long; whether it has.
    ///
    /// # Errors
    /// When it can't be killed afterwards.
    pub async fn end(&self, limit: Duration) -> Result<bool> {
        self.signal(self.pid, Signal::TERM);
        let begin = std::time::Instant::now();
        while self.runs() && begin.elapsed() < limit {
            tokio::time::sleep(LOOK).await;
        }
        let ended = !self.runs();
        // That it doesn't run any more is what was wanted.
        self.kill()?;
        Ok(ended)
    }

    /// The end of what it said.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.cluster.logs_dir().join(format!("{}.log", self.name));
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the end of {}:\n{}", log.display(), lines[lines.len().saturating_sub(5)..].join("\n"))
    }

    /// What it used so far.
    ///
    /// # Errors
    /// When the system doesn't say.
    pub fn usage(&self) -> Result<Usage> {
        let path = Path::new("/proc").join(self.pid.to_string()).join("status");
        let status = std::fs::read_to_string(&path).map_err(|error| system(&path, error))?;
        let kilobytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        // utime and stime are fields 14 and 15.
        let stat = self.stat().unwrap_or_default();
        let ticks: u32 = stat.iter().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        Ok(Usage {
            name: self.name.clone(),
            resident: kilobytes("VmRSS:"),
            peak: kilobytes("VmHWM:"),
            cpu: Duration::from_secs(1) * ticks / TICKS,
        })
    }
}

impl Drop for Process {
    /// One that is stopped could not be waited for, and with it whoever waits for it.
    fn drop(&mut self) {
        self.go_on();
    }
}
