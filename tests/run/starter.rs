//! Starters, and a command that is its own witness.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testcluster::postgres::Server;

/// The program under test; another build of it, if MIGRATION_GATE_PROGRAM says so.
pub fn program() -> String {
    std::env::var("MIGRATION_GATE_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_migration-gate").to_owned())
}

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Nothing takes that long, unless a test says so.
pub const SOON: Duration = Duration::from_secs(60);

/// Whether the long versions are asked for.
pub fn is_long() -> bool {
    std::env::var_os("MIGRATION_GATE_LONG").is_some()
}

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

/// The PostgreSQL server that tests share; it ends with the last of them.
pub fn postgres() -> Arc<Server> {
    static SHARED: OnceLock<Mutex<Weak<Server>>> = OnceLock::new();
    let mut shared = SHARED.get_or_init(Mutex::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start(LOOPBACK).expect("a PostgreSQL server"));
    *shared = Arc::downgrade(&server);
    server
}

/// A name that nothing else has.
pub fn new_name(prefix: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A folder that is removed with this.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(new_name("migration-gate-run"));
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.file(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A command that sees whether another one like it is alive: by a lock of its own, which a child of it keeps as well,
/// and by a log of intervals. It works until the file `finish` is there, or for so long; if the file `stubborn` is there
/// it ignores SIGTERM.
pub fn witness(folder: &Path, work: Duration) -> Vec<String> {
    let script = r#"
        cd "$1" || exit 9
        [ ! -e stubborn ] || trap '' TERM
        exec 9>>own.lock
        flock -n 9 || echo overlap >> overlaps
        echo "$$" >> started
        date +%s%N >> "beats.$$"
        rounds=0
        while [ ! -e finish ] && [ "$rounds" -lt "$2" ]; do
            sleep 0.02
            date +%s%N >> "beats.$$"
            rounds=$((rounds + 1))
        done
        echo "$$" >> finished
        echo "the last line of $$"
    "#;
    let rounds = work.as_millis() / 20;
    ["sh", "-c", script, "witness", &folder.to_string_lossy(), &rounds.to_string()].map(str::to_owned).to_vec()
}

/// Asserts that no two witnesses were alive at once.
pub fn assert_apart(folder: &Folder) {
    assert_eq!(folder.lines("overlaps"), Vec::<String>::new(), "a command met another one's lock");
    let mut intervals: Vec<(u128, u128)> = fs::read_dir(&folder.0)
        .expect("the folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("beats."))
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let beats: Vec<u128> = text.lines().filter_map(|line| line.parse().ok()).collect();
            Some((*beats.first()?, *beats.last()?))
        })
        .collect();
    intervals.sort_unstable();
    for pair in intervals.windows(2) {
        assert!(pair[0].1 < pair[1].0, "two commands overlapped: {pair:?}");
    }
}

/// How a starter ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub output: String,
}

/// A starter that runs.
pub struct Running {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// Starts `migration-gate run` with its URL in the environment, as the documentation says.
pub fn start(url: &str, arguments: &[&str], command: &[String]) -> Running {
    let mut starter = Command::new(program());
    starter.arg("run").args(arguments).env("MIGRATION_GATE_LOCK", url);
    if !command.is_empty() {
        starter.arg("--").args(command);
    }
    start_program(starter)
}

/// Starts a program as prepared, in a group of its own.
pub fn start_program(mut program: Command) -> Running {
    program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = program.spawn().expect("the program under test");
    let output = Arc::new(Mutex::new(String::new()));
    let streams: [Box<dyn Read + Send>; 2] =
        [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
    let readers = streams.map(|mut stream| {
        let output = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut part) {
                output.lock().expect("no reader panics").push_str(&String::from_utf8_lossy(&part[..length]));
            }
        })
    });
    Running { child, output, readers: readers.into() }
}

impl Running {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the starter is alive");
    }

    pub fn output(&self) -> String {
        self.output.lock().expect("no reader panics").clone()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// Waits until it has said this.
    pub fn says(&mut self, text: &str) {
        until(&format!("{text:?} from a starter; it said: {}", self.output()), SOON, || {
            let said = self.output().contains(text);
            assert!(said || !self.has_ended() || self.output().contains(text), "it ended with {}", self.output());
            said.then_some(())
        });
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let status = until("a starter's end", SOON * 2, || self.child.try_wait().expect("a child"));
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        Ended { code: status.code(), output: self.output() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _ = kill_process(self.pid(), Signal::CONT);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The children of a process, by /proc.
pub fn children(pid: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parent = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse::<i32>().ok()
    };
    numbers.filter(|number| parent(number) == Some(pid)).collect()
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
