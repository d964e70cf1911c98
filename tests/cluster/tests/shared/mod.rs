//! What the tests of clusters share.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testcluster::Cluster;
use testcluster::progress::{Seen, wait};

/// Long enough for a busy machine with two processors.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Everything on this machine that still belongs to a cluster that has ended.
pub fn left_of(name: &str) -> Vec<String> {
    let folder = format!("/migration-gate-testcluster/{name}/");
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").expect("Linux").flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&folder) {
            left.push(format!("process {}: {command}", entry.path().display()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux");
    left.extend(mounts.lines().filter(|line| line.contains(&folder)).map(|line| format!("mount {line}")));
    for parent in ["/sys/fs/cgroup".to_owned()].into_iter().chain(folders_in("/sys/fs/cgroup")) {
        let groups = folders_in(&parent).into_iter().filter(|group| group.contains(&format!("/testcluster-{name}-")));
        left.extend(groups.map(|group| format!("control group {group}")));
    }
    let state = testcluster::default_folder().expect("there is a home").join(name).join("state.json");
    if state.exists() {
        left.push(format!("file {}", state.display()));
    }
    left
}

fn folders_in(folder: &str) -> Vec<String> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string()).collect()
}

/// Removes the logs of a cluster that was made to fail.
pub fn forget_logs(name: &str) {
    let folder = testcluster::default_folder().expect("there is a home").join(name);
    fs::remove_dir_all(folder).expect("logs are kept when something goes wrong");
}

/// Another process that owns a cluster, to be killed.
pub struct Owner {
    process: Child,
}

impl Owner {
    /// Boots the cluster in the other process and returns when it is up.
    pub fn start(name: &str, profile: &str) -> (Self, Cluster) {
        // On a new machine they are built first, which takes far longer than to boot.
        testcluster::tools::build_all(false).expect("they can be built");
        let mut up = Command::new(env!("CARGO_BIN_EXE_testcluster"));
        up.args(["up", "--name", name, "--profile", profile, "--foreground"]);
        let process = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it was just built");
        let owner = Self { process };
        let cluster = wait("the other process's cluster", LIMIT, || Ok(Seen::from(Cluster::attach(name))));
        (owner, cluster.expect("it boots"))
    }
}

impl Drop for Owner {
    /// As the kernel does it when memory runs out.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
