//! The processes of a pod, as this machine sees them, and their end.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use migration_gate::contract::pod;

/// A process of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    command: Vec<String>,
    /// The control group of its container.
    group: String,
}

/// What a process of a gated pod is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It holds the pod's network.
    Sandbox,
    /// It waits for the signal and reports.
    Agent,
    /// It migrates.
    Migration,
    /// Anything else.
    Other,
}

impl Process {
    /// What it is there for.
    #[must_use]
    pub fn part(&self) -> Part {
        let words: Vec<&str> = self.command.iter().map(String::as_str).collect();
        match words[..] {
            ["/bin/witness", "migrate", ..] => Part::Migration,
            [pod::AGENT_PATH, ..] => Part::Agent,
            ["/busybox", "sleep", ..] => Part::Sandbox,
            _ => Part::Other,
        }
    }

    /// Sends it a signal, if it is still there.
    pub fn signal(&self, signal: Signal) {
        if read(self.pid).as_ref() != Some(self) {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may have ended since, and that is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }
}

/// The processes in a pod's control groups. Those of all nodes are this machine's.
#[must_use]
pub fn of_pod(uid: &str) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(read).filter(|process| process.group.contains(&format!("/pod{uid}/"))).collect()
}

/// The processes of a pod that do this.
#[must_use]
pub fn of_part(uid: &str, part: Part) -> Vec<Process> {
    of_pod(uid).into_iter().filter(|process| process.part() == part).collect()
}

/// The processes of the container that the agent is in, or was.
#[must_use]
pub fn of_container(uid: &str) -> Vec<Process> {
    let all = of_pod(uid);
    let inside = |process: &&Process| matches!(process.part(), Part::Agent | Part::Migration);
    let Some(group) = all.iter().find(inside).map(|process| process.group.clone()) else { return Vec::new() };
    all.into_iter().filter(|process| process.group == group).collect()
}

fn read(pid: i32) -> Option<Process> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let group = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find(|group| group.contains("/pod"))?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    let command: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    // One that only waits to be reaped has no command line any more.
    (!command.is_empty()).then(|| Process { pid, command, group: group.to_owned() })
}

/// Ends them at once.
pub fn kill(processes: &[Process]) {
    processes.iter().for_each(|process| process.signal(Signal::KILL));
}
