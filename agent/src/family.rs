//! The processes that descend from the agent: as PID 1, or as a subreaper, it inherits every orphan among them.
//!
//! So a process is a descendant if and only if its line of parents leads here, and none is left when the agent has no
//! child any more. Other processes of the container, such as those of `kubectl exec`, are none of its business.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process_group, pidfd_send_signal,
    set_child_subreaper, wait, waitid,
};

use crate::attempt::Exit;

/// Makes this process the one that inherits its descendants' orphans. PID 1 is that already.
///
/// # Errors
/// The kernel has no such thing: Linux before 3.4.
pub fn adopt_orphans() -> rustix::io::Result<()> {
    let itself = getpid();
    if itself.is_init() { Ok(()) } else { set_child_subreaper(Some(itself)) }
}

/// What was reaped, and whether there is anybody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// How the leader ended, if it did now.
    pub leader: Option<Exit>,
    /// Whether a child is left.
    pub left: bool,
}

/// Reaps every child that has ended.
pub fn reap(leader: Pid) -> Reaped {
    let mut exit = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == leader => {
                // Stops are not asked for, so it is one or the other.
                exit = Some(match status.exit_status() {
                    Some(code) => Exit::Code(code),
                    None => Exit::Signal(status.terminating_signal().unwrap_or_default()),
                });
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Reaped { leader: exit, left: true },
            // ECHILD is the only other error.
            Err(_) => return Reaped { leader: exit, left: false },
        }
    }
}

/// One process, from /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    dead: bool,
}

/// Sends the signal to every living descendant, and at once to those groups that consist of nothing else; returns how
/// many were found. Some that are being forked meanwhile may be missed: call it until nobody is left.
pub fn signal_descendants(signal: Signal, leader: Pid) -> usize {
    // A group gets it in one moment, so that one that forks all the time can't run away from it. There is always a child
    // of ours in it, if anybody is, and as long as that is not reaped the number can't stand for another group.
    let ours =
        waitid(WaitId::Pgid(Some(leader)), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);
    if ours.is_ok() {
        let _ = kill_process_group(leader, signal);
    }
    let itself = getpid().as_raw_nonzero().get();
    let all = processes();
    let session = all.iter().find(|process| process.pid == itself).map(|process| process.session);
    let family = descendants(itself, &all);
    // A group can't reach beyond its session, and in a session of its own there are only descendants.
    let apart = family.iter().filter(|process| session.is_some_and(|session| process.session != session));
    for group in apart.map(|process| process.group).collect::<HashSet<_>>() {
        if let Some(group) = Pid::from_raw(group) {
            let _ = kill_process_group(group, signal);
        }
    }
    for process in &family {
        signal_process(*process, signal);
    }
    family.len()
}

/// As PID 1, kills everything else in the container at one moment; otherwise does nothing. It takes what somebody runs by
/// `kubectl exec` too, so it is for descendants that escaped everything else.
pub fn kill_container() {
    let itself = getpid();
    if itself.is_init() {
        // Not a group: -1 stands for all processes but the caller, in its PID namespace (kill(2)).
        let _ = kill_process_group(itself, Signal::KILL);
    }
}

/// Signals that very process, and no later one with its number: the open directory stands for the process, and the
/// kernel takes it where it takes a pidfd (pidfd_send_signal(2)).
fn signal_process(process: Process, signal: Signal) {
    let path = format!("/proc/{}", process.pid);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat(CWD, path, flags, Mode::empty()) else { return };
    let Ok(stat) = openat(&directory, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return };
    let mut text = Vec::new();
    if fs::File::from(stat).read_to_end(&mut text).is_ok()
        && parse(&text).is_some_and(|now| now.parent == process.parent)
    {
        let _ = pidfd_send_signal(&directory, signal);
    }
}

/// Everything in /proc.
fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let mut numbers: Vec<i32> = numbers.collect();
    // The youngest first, because they may be gone soon.
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.into_iter().filter_map(|pid| parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// The living ones whose line of parents leads to the ancestor.
fn descendants(ancestor: i32, all: &[Process]) -> Vec<Process> {
    let parents: HashMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    let descends = |process: &&Process| {
        let mut at = process.pid;
        // No line is longer than there are processes, even if numbers were reused while /proc was read.
        for _ in 0..all.len() {
            match parents.get(&at) {
                Some(parent) if *parent == ancestor => return true,
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    all.iter().filter(|process| !process.dead).filter(descends).copied().collect()
}

/// Reads /proc/PID/stat: `pid (name) state ppid pgrp session …`, where the name may hold anything (proc(5)).
fn parse(stat: &[u8]) -> Option<Process> {
    let name = stat.iter().position(|byte| *byte == b'(')?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let pid = str::from_utf8(stat.get(..name)?).ok()?.trim().parse().ok()?;
    let mut fields = str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X");
    let mut number = || fields.next()?.parse().ok();
    Some(Process { pid, parent: number()?, group: number()?, session: number()?, dead })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process { pid, parent, group: pid, session: pid, dead: false }
    }

    #[test]
    fn a_name_cannot_pretend_to_be_fields() {
        let expected = Process { pid: 7, parent: 3, group: 5, session: 4, dead: false };
        assert_eq!(parse(b"7 (a) Z 1 1 1 (b) S 3 5 4 0 -1\n"), Some(expected));
        assert_eq!(parse(b"7 (a\xff) Z 3 5 4"), Some(Process { dead: true, ..expected }));
        for broken in [&b""[..], b"7", b")(", b"7 (a) S 3 5", b"x (a) S 1 2 3"] {
            assert_eq!(parse(broken), None);
        }
    }

    #[test]
    fn only_lines_that_lead_to_the_ancestor_count() {
        let all = [process(1, 0), process(10, 1), process(11, 10), process(12, 11), process(20, 1), process(30, 0)];
        let pids = |ancestor| descendants(ancestor, &all).iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(1), [10, 11, 12, 20]);
        assert_eq!(pids(10), [11, 12]);
        assert_eq!(pids(30), [0; 0]);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        assert_eq!(descendants(1, &[process(5, 6), process(6, 5)]), []);
    }
}
