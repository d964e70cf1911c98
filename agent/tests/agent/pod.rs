//! A pod as the agent sees it: its volumes, its termination message, and a kubelet that swaps links.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use migration_gate_contract::{Opened, Outcome, Report, Run, Settled, Signal, Verdict, pod};
use rustix::process::{Pid, kill_process};

/// The agent under test.
pub const AGENT: &str = env!("CARGO_BIN_EXE_migration-gate-agent");

/// Nothing here takes that long, unless a test says so.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits for a condition, for a bounded time.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a test that needs root can run; says so if not.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped {test}: it makes namespaces or changes its user, which needs root");
    }
    root
}

/// One pod.
pub struct Pod {
    pub root: PathBuf,
    pub uid: String,
    moments: AtomicU32,
}

impl Pod {
    /// A pod whose kubelet shows no signal yet.
    pub fn new() -> Pod {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("migration-gate-agent-test-{}-{number}", std::process::id());
        let pod = Pod {
            root: std::env::temp_dir().join(name),
            uid: format!("1f2e3d4c-0000-4000-8000-{number:012}"),
            moments: AtomicU32::new(0),
        };
        for directory in [pod::SIGNAL_PATH, pod::VOLUME_PATH, "/dev"] {
            let path = pod.below(directory);
            fs::create_dir_all(&path).expect("a temporary directory");
            fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("its owner may");
        }
        fs::set_permissions(&pod.root, Permissions::from_mode(0o777)).expect("its owner may");
        pod.show("", "");
        for name in [pod::SIGNAL_FILE, pod::OPENED_FILE, pod::POD_UID_FILE] {
            symlink(format!("..data/{name}"), pod.below(pod::SIGNAL_PATH).join(name)).expect("a new name");
        }
        pod
    }

    /// The path below the pod's directory.
    pub fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Shows these annotations, as the kubelet's atomic writer does.
    pub fn show(&self, signal: &str, opened: &str) {
        let volume = self.below(pod::SIGNAL_PATH);
        let moment = format!("..moment_{}", self.moments.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(volume.join(&moment)).expect("a new name");
        for (name, text) in
            [(pod::SIGNAL_FILE, signal), (pod::OPENED_FILE, opened), (pod::POD_UID_FILE, self.uid.as_str())]
        {
            fs::write(volume.join(&moment).join(name), text).expect("room on the disk");
        }
        let before = fs::read_link(volume.join("..data")).ok();
        symlink(&moment, volume.join("..data_tmp")).expect("a new name");
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).expect("the same directory");
        if let Some(before) = before {
            fs::remove_dir_all(volume.join(before)).expect("what was shown before");
        }
    }

    /// The run signal.
    pub fn order(&self, attempt: u32, timeout_seconds: Option<u64>) {
        self.show(&json(&Signal::Run(Run { pod_uid: self.uid.clone(), attempt, timeout_seconds })), "");
    }

    /// The settled mark.
    pub fn settle(&self, attempt: u32) {
        self.show(&json(&Signal::Settled(Settled { pod_uid: self.uid.clone(), attempt })), "");
    }

    /// The pass, without any signal.
    pub fn open(&self) {
        self.show("", &json(&Opened { pod_uid: self.uid.clone(), migration: "00".to_owned() }));
    }

    /// The agent's command line, below this pod's directory.
    pub fn command(&self, wrapper: &[&str], agent: &Path, options: &[&str], argv: &[&str]) -> Command {
        // The kubelet gives each container a new, empty message.
        let message = self.below(pod::TERMINATION_PATH);
        fs::write(&message, "").expect("room on the disk");
        fs::set_permissions(&message, Permissions::from_mode(0o666)).expect("its owner may");
        let mut words: Vec<&std::ffi::OsStr> = wrapper.iter().map(AsRef::as_ref).collect();
        words.push(agent.as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(format!("--root={}", self.root.display())).args(options).arg("--").args(argv);
        command.env("POD", &self.root).env("POD_UID", &self.uid).stdin(Stdio::null());
        command.stdout(fs::File::create(self.below("stdout")).expect("room on the disk"));
        command.stderr(fs::File::create(self.below("stderr")).expect("room on the disk"));
        command
    }

    /// Starts an agent that runs this shell script.
    pub fn start(&self, script: &str) -> Agent {
        self.start_with(&[], script)
    }

    /// Starts an agent with these options.
    pub fn start_with(&self, options: &[&str], script: &str) -> Agent {
        Agent::spawn(self.command(&[], Path::new(AGENT), options, &["sh", "-c", script]))
    }

    /// Starts an agent and waits until it looks for signals.
    pub fn start_waiting(&self, script: &str) -> Agent {
        let agent = self.start(script);
        agent.until_waiting();
        agent
    }

    /// A file's text; empty, if there is none.
    pub fn text(&self, path: &str) -> String {
        fs::read(self.below(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The termination message.
    pub fn message(&self) -> String {
        self.text(pod::TERMINATION_PATH)
    }

    /// The verdict in the termination message.
    pub fn verdict(&self) -> Verdict {
        match Report::parse(&self.message()) {
            Some(Report::Verdict(verdict)) => verdict,
            other => panic!("no verdict but {other:?} in {:?}; log: {}", self.message(), self.text("stderr")),
        }
    }

    /// Attempt, outcome and exit code of the verdict.
    pub fn outcome(&self) -> (u32, Outcome, Option<i32>) {
        let verdict = self.verdict();
        assert_eq!(verdict.pod_uid, self.uid);
        (verdict.attempt, verdict.outcome, verdict.exit_code)
    }

    /// How many lines the command wrote into the file `ran`.
    pub fn times_run(&self) -> usize {
        self.text("ran").lines().count()
    }

    /// Waits until a file is there.
    pub fn until_exists(&self, path: &str) {
        until(path, SOON, || self.below(path).exists().then_some(()));
    }

    /// The living processes of this pod, by its UID in their environment, except one.
    pub fn processes(&self, except: u32) -> Vec<i32> {
        let marker = format!("POD_UID={}", self.uid);
        let numbers = fs::read_dir("/proc").expect("/proc is mounted").filter_map(|entry| entry.ok());
        numbers
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| i64::from(*pid) != i64::from(except))
            .filter(|pid: &i32| {
                // That of a zombie is empty.
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
            })
            .collect()
    }

    /// Kills whatever is left, as the end of a container does.
    pub fn kill_all(&self) {
        until("the pod's processes to end", SOON, || self.kill_once().then_some(()));
    }

    /// Kills what is there now; whether there was nothing.
    fn kill_once(&self) -> bool {
        let left = self.processes(0);
        for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, rustix::process::Signal::KILL);
        }
        left.is_empty()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Also when a test has failed, and bounded: what forks all the time may get away.
        let _ = (0..1_000).any(|_| self.kill_once());
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data")
}

/// A running agent; killed when it goes out of scope.
pub struct Agent {
    pub child: Child,
}

impl Agent {
    /// Starts what the command line says.
    pub fn spawn(mut command: Command) -> Agent {
        Agent { child: command.spawn().expect("the agent starts") }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// Waits until it ends; its exit code, or minus the signal that killed it.
    pub fn exit(self) -> i32 {
        self.exit_within(SOON)
    }

    /// Like [`Agent::exit`], with another limit.
    pub fn exit_within(mut self, limit: Duration) -> i32 {
        let status = until("the agent's end", limit, || self.child.try_wait().expect("our child"));
        status.code().unwrap_or_else(|| -status.signal().expect("one of both"))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Kills it as the kernel or a container runtime does.
    pub fn kill(mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// Waits until it sleeps in a poll: everything that there was has been looked at.
    pub fn until_waiting(&self) {
        let syscall = format!("/proc/{}/syscall", self.pid());
        // ppoll and poll on x86-64, ppoll on arm64. Of the kernel's processor, which isn't this program's if that is
        // emulated; what the others' numbers mean, the agent doesn't do.
        let polls = ["271 ", "7 ", "73 "];
        until("the agent to wait", SOON, || {
            let text = fs::read_to_string(&syscall).unwrap_or_default();
            polls.iter().any(|poll| text.starts_with(poll)).then_some(())
        });
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
