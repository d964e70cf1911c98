//! The second fence: agents of several clusters, which know nothing of each other, on one database.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use migration_gate::contract::ending::{DELIVERY, GRACE, LONGEST_ENDING};
use migration_gate::contract::{self, Outcome, Report, Signal, Verdict, pod};
use rustix::process::Pid;
use testcluster::postgres::Server;

use super::starter::{Folder, LOOPBACK, SOON, assert_apart, is_alive, new_name, postgres, program, until, witness};

/// The agent, as a debug build beside the program.
fn agent() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_BIN_EXE_migration-gate")).parent().expect("a folder").to_owned();
        // Both packages, so that what they share is built as it is built already.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "migration-gate", "-p", "migration-gate-agent"]);
        let built = build.args(["--bin", "migration-gate-agent"]).status();
        assert!(built.expect("cargo").success());
        folder.join("migration-gate-agent")
    })
}

/// A pod with a running agent.
struct Fenced {
    folder: Folder,
    child: Child,
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

impl Fenced {
    /// Starts an agent whose commands are run under the lock of this database.
    fn start(url: &str, options: &[String], command: &[String]) -> Fenced {
        let folder = Folder::new();
        let signals = folder.file(pod::SIGNAL_PATH.trim_start_matches('/'));
        for path in [signals.clone(), folder.file("dev"), folder.file(pod::VOLUME_PATH.trim_start_matches('/'))] {
            fs::create_dir(path).expect("a folder");
        }
        for name in [pod::SIGNAL_FILE, pod::OPENED_FILE, pod::POD_UID_FILE] {
            symlink(format!("..data/{name}"), signals.join(name)).expect("a link");
        }
        show(&signals, "first", "");
        let mut agent = Command::new(agent());
        agent.arg(format!("--root={}", folder.0.display())).args(options).args([
            "--lock-env=DATABASE_URL",
            &format!("--lock-key={KEY}"),
            &format!("--lock-program={}", program()),
        ]);
        agent.arg("--").args(command).env("DATABASE_URL", url).stdin(Stdio::null()).stdout(Stdio::null());
        agent.stderr(fs::File::create(folder.file("log")).expect("a file"));
        let child = agent.spawn().expect("the agent");
        let fenced = Fenced { folder, child };
        until("the agent to wait", SOON, || fenced.log().contains("waiting until").then_some(()));
        fenced
    }

    fn order(&self, attempt: u32, timeout_seconds: Option<u64>) {
        let run = Signal::Run(contract::Run { pod_uid: "uid".into(), attempt, timeout_seconds });
        let text = serde_json::to_string(&run).expect("plain data");
        show(&self.folder.file(pod::SIGNAL_PATH.trim_start_matches('/')), &format!("order{attempt}"), &text);
    }

    fn settle(&self, attempt: u32) {
        let settled = Signal::Settled(contract::Settled { pod_uid: "uid".into(), attempt });
        let text = serde_json::to_string(&settled).expect("plain data");
        show(&self.folder.file(pod::SIGNAL_PATH.trim_start_matches('/')), &format!("mark{attempt}"), &text);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.file("log")).unwrap_or_default()
    }

    fn message(&self) -> String {
        fs::read_to_string(self.folder.file(pod::TERMINATION_PATH.trim_start_matches('/'))).unwrap_or_default()
    }

    /// Waits for the agent's end; its verdict, and the whole message.
    fn verdict(self) -> (Verdict, String) {
        self.verdict_within(SOON)
    }

    fn verdict_within(mut self, limit: Duration) -> (Verdict, String) {
        until("the agent's end", limit, || self.child.try_wait().expect("a child"));
        let message = self.message();
        match Report::parse(&message) {
            Some(Report::Verdict(verdict)) => (verdict, message),
            other => panic!("no verdict but {other:?}: {}", self.log()),
        }
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Shows a signal, as the kubelet's atomic writer does.
fn show(signals: &std::path::Path, moment: &str, signal: &str) {
    let data = signals.join(moment);
    fs::create_dir(&data).expect("a new name");
    for (name, text) in [(pod::SIGNAL_FILE, signal), (pod::OPENED_FILE, ""), (pod::POD_UID_FILE, "uid")] {
        fs::write(data.join(name), text).expect("a file");
    }
    symlink(moment, signals.join("..data_tmp")).expect("a new name");
    fs::rename(signals.join("..data_tmp"), signals.join("..data")).expect("the same folder");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn outcome((verdict, message): (Verdict, String)) -> (Outcome, Option<i32>, String) {
    (verdict.outcome, verdict.exit_code, message)
}

#[test]
fn of_three_clusters_one_migrates_and_all_succeed() {
    let server = postgres();
    let url = server.create_database(&new_name("clusters")).expect("a database");
    let folder = Folder::new();
    let command = witness(&folder.0, Duration::from_millis(700));
    let verify = [
        format!("--verify={}", "sh"),
        "--verify=-c".into(),
        format!("--verify=echo x >> {}/verified", folder.0.display()),
    ];
    let clusters = [1, 2, 3].map(|_| Fenced::start(&url, &verify, &command));
    clusters.iter().for_each(|cluster| cluster.order(7, Some(600)));
    for cluster in clusters {
        let (verdict, message) = cluster.verdict();
        assert_eq!(
            (verdict.outcome, verdict.exit_code, verdict.attempt),
            (Outcome::Succeeded, Some(0), 7),
            "{message}"
        );
    }
    assert_eq!((folder.lines("started").len(), folder.lines("verified").len()), (1, 1));
    assert_apart(&folder);
    // Another one that comes later is told who did it.
    let late = Fenced::start(&url, &[], &words(&["false"]));
    late.order(1, None);
    let (outcome, _, message) = outcome(late.verdict());
    assert_eq!(outcome, Outcome::Succeeded);
    assert!(message.contains(&format!("{KEY} is done already")), "{message}");
    let keys = server.psql_in(
        url.rsplit('/').next().and_then(|name| name.split('?').next()).expect("a name"),
        "SELECT DISTINCT run_key FROM migration_gate_runs",
    );
    assert_eq!(keys.expect("the history").trim(), KEY);
}

#[test]
fn failures_are_the_controllers_to_count() {
    let server = postgres();
    let url = server.create_database(&new_name("counted")).expect("a database");
    let folder = Folder::new();
    let script = format!("echo x >> {}/tries; echo no such column; exit 75", folder.0.display());
    for attempt in 1..=5 {
        let agent = Fenced::start(&url, &[], &words(&["sh", "-c", &script]));
        agent.order(attempt, None);
        let (outcome, exit, message) = outcome(agent.verdict());
        // The command's own 75 is not the wrapper's.
        assert_eq!((outcome, exit), (Outcome::Failed, Some(75)), "{message}");
        assert!(message.contains("no such column"), "{message}");
    }
    assert_eq!(folder.lines("tries").len(), 5);
    // A verification that fails is a failure of both: the next attempt runs the command again.
    for (attempt, code) in [(6, "9"), (7, "0")] {
        let verify = words(&["--verify=sh", "--verify=-c", &format!("--verify=exit {code}")]);
        let command = format!("echo x >> {}/tries", folder.0.display());
        let agent = Fenced::start(&url, &verify, &words(&["sh", "-c", &command]));
        agent.order(attempt, None);
        let (outcome, exit, message) = outcome(agent.verdict());
        let expected = if code == "0" { Outcome::Succeeded } else { Outcome::Failed };
        assert_eq!((outcome, exit), (expected, code.parse().ok()), "{message}");
    }
    assert_eq!(folder.lines("tries").len(), 7);
}

#[test]
fn a_lost_lock_interrupts_the_attempt_and_kills_descendants() {
    let mut server = Server::start(LOOPBACK).expect("a server of its own");
    let url = server.create_database("lost").expect("a database");
    let folder = Folder::new();
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; echo $$ > {0}/away; sleep 600' & trap '' TERM; echo $$ > {0}/here; echo at work; sleep 600; sleep 600",
        folder.0.display()
    );
    let agent = Fenced::start(&url, &[], &words(&["sh", "-c", &script]));
    agent.order(1, None);
    let number = |name: &str| folder.lines(name).first().and_then(|line| line.parse::<i32>().ok());
    let both = until("two processes", SOON, || Some([number("here")?, number("away")?]));
    server.kill();
    server.run().expect("it starts again");
    let (outcome, exit, message) = outcome(agent.verdict());
    assert_eq!((outcome, exit), (Outcome::Interrupted, Some(75)), "{message}");
    assert!(message.contains("at work") && message.contains("lost the lock"), "{message}");
    assert!(!both.into_iter().any(is_alive), "something lives on");
}

#[test]
fn a_stop_reaches_the_command_through_all_of_them() {
    let server = postgres();
    let url = server.create_database(&new_name("stopped")).expect("a database");
    let folder = Folder::new();
    let script =
        format!("trap 'echo got it; exit 0' TERM; touch {}/here; while :; do sleep 0.02; done", folder.0.display());
    let holder = Fenced::start(&url, &[], &words(&["sh", "-c", &script]));
    holder.order(1, None);
    until("the command", SOON, || folder.file("here").exists().then_some(()));
    // One that waits for the lock ends too, and has run nothing.
    let waiter = Fenced::start(&url, &[], &words(&["touch", &folder.file("never").to_string_lossy()]));
    waiter.order(1, Some(1));
    until("the waiter to wait", SOON, || waiter.log().contains("waiting for").then_some(()));
    for agent in [waiter, holder] {
        rustix::process::kill_process(Pid::from_child(&agent.child), rustix::process::Signal::TERM).expect("it lives");
        let (outcome, _, message) = outcome(agent.verdict());
        assert_eq!(outcome, Outcome::Interrupted, "{message}");
    }
    assert!(!folder.file("never").exists());
}

#[test]
fn a_settled_command_is_gone_within_the_longest_ending_with_all_of_them() {
    let server = postgres();
    let url = server.create_database(&new_name("settled")).expect("a database");
    let folder = Folder::new();
    let script = format!(
        "trap '' TERM; setsid sh -c 'echo $$ > {0}/away; sleep 600' & echo $$ > {0}/here; while :; do sleep 0.1; done",
        folder.0.display()
    );
    let agent = Fenced::start(&url, &[], &words(&["sh", "-c", &script]));
    agent.order(1, None);
    let number = |name: &str| folder.lines(name).first().and_then(|line| line.parse::<i32>().ok());
    let both = until("two processes", SOON, || Some([number("here")?, number("away")?]));
    let settled = Instant::now();
    agent.settle(1);
    let (outcome, _, message) = outcome(agent.verdict_within(LONGEST_ENDING.saturating_sub(DELIVERY)));
    assert_eq!(outcome, Outcome::Interrupted, "{message}");
    assert!(!both.into_iter().any(is_alive), "something lives on");
    assert!(settled.elapsed() >= GRACE, "it had only {:?}", settled.elapsed());
}

#[test]
fn the_time_limit_counts_from_the_lock() {
    let server = postgres();
    let url = server.create_database(&new_name("limited")).expect("a database");
    let agent = Fenced::start(&url, &[], &words(&["sh", "-c", "echo begun; sleep 600"]));
    agent.order(1, Some(1));
    let (outcome, exit, message) = outcome(agent.verdict());
    assert_eq!((outcome, exit), (Outcome::TimedOut, Some(124)), "{message}");
    assert!(message.contains("begun"), "{message}");
}

#[test]
fn without_a_database_the_attempt_fails_with_its_sentence() {
    for (url, said) in [
        ("postgres://app:Geheim42@127.0.0.1:1/orders?password=Geheim42", "127.0.0.1:1"),
        ("jdbc:postgresql://db/orders?password=Geheim42", "has a scheme that is not known"),
    ] {
        let folder = Folder::new();
        let marker = folder.file("ran").to_string_lossy().into_owned();
        let mut agent = Fenced::start(url, &[], &words(&["touch", &marker]));
        agent.order(1, None);
        let gives_up = said.starts_with("has");
        if !gives_up {
            // It waits for a minute; that it says so is enough here.
            until("it to say so", SOON, || agent.log().contains(said).then_some(()));
            assert!(!agent.log().contains("Geheim42"), "{}", agent.log());
            let _ = agent.child.kill();
            continue;
        }
        let (outcome, exit, message) = outcome(agent.verdict());
        assert_eq!((outcome, exit), (Outcome::Failed, Some(64)), "{message}");
        assert!(message.contains(said) && !message.contains("Geheim42"), "{message}");
        assert!(!folder.file("ran").exists());
    }
}
