//! Which process is which, and ending only those that we started.
//!
//! A number alone does not name a process: numbers are used again. With the time at which it started it
//! does, until the machine starts anew.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// One process, and never another one that got its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pid: i32,
    /// Clock ticks since the machine started.
    started: u64,
}

impl Identity {
    /// The process that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        let stat = Stat::read(pid)?;
        Some(Self { pid, started: stat.started })
    }

    /// The one that [`Self::label`] was written for.
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        let (pid, started) = label.split_once('-')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// A text for it that can be part of a file's name.
    pub(crate) fn label(self) -> String {
        format!("{}-{}", self.pid, self.started)
    }

    /// This process.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Its number.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it still runs (one that only waits to be reaped does not).
    pub(crate) fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && !stat.is_over())
    }

    /// Sends a signal if it still runs.
    pub(crate) fn signal(self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may have ended since: then there is nothing left to do.
            let _ = kill_process(pid, signal);
        }
    }

    /// The one that started it, as long as it waits for it.
    pub(crate) fn parent(self) -> Option<Self> {
        let stat = Stat::read(self.pid).filter(|stat| stat.started == self.started)?;
        Self::of(stat.parent.try_into().ok()?)
    }

    /// Kills it and waits until it is gone; false when it can't be killed within ten seconds.
    pub(crate) fn kill(self) -> bool {
        self.signal(Signal::KILL);
        self.is_gone_within(Duration::from_secs(10))
    }

    /// Waits until it is gone.
    pub(crate) fn is_gone_within(self, limit: Duration) -> bool {
        let begin = Instant::now();
        while self.is_alive() {
            if begin.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// The only child of this process, as soon as there is one.
    pub(crate) fn wait_for_child(self, limit: Duration) -> Option<Self> {
        let begin = Instant::now();
        while self.is_alive() && begin.elapsed() < limit {
            if let Some(child) = child_of(self.pid) {
                return Some(child);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }
}

/// The fields of /proc/PID/stat that say who it is.
struct Stat {
    state: char,
    parent: i32,
    threads: u32,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, and the name may hold some itself.
        let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // Threads are field 20 and the start is field 22; two were before the name's end, two are read.
        let threads = fields.nth(15)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        Some(Self { state, parent, threads, started })
    }

    /// Whether it only waits to be reaped. Its first thread may have got there before others, which still
    /// hold its ports.
    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

fn child_of(parent: i32) -> Option<Identity> {
    fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).find_map(
        |pid| {
            let stat = Stat::read(pid)?;
            (stat.parent == parent && !stat.is_over()).then_some(Identity { pid, started: stat.started })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_is_no_field() {
        let line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 98765 1000 200";
        let stat = Stat::parse(line).expect("it is a whole line");
        assert_eq!((stat.state, stat.parent, stat.threads, stat.started), ('S', 7, 9, 98765));
    }

    #[test]
    fn a_process_is_known_and_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep is everywhere");
        let identity = Identity::of(child.id()).expect("it runs");
        assert!(identity.is_alive());
        let another = Identity { started: identity.started + 1, ..identity };
        another.signal(Signal::KILL);
        assert!(!another.is_alive(), "the same number with another start is another process");
        assert!(identity.is_alive(), "and killing that one does not hit this one");
        assert!(identity.kill());
        child.wait().expect("it was ours");
    }

    #[test]
    fn a_child_is_found() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60; true"]).spawn().expect("sh is everywhere");
        let parent = Identity::of(shell.id()).expect("it runs");
        let child = parent.wait_for_child(Duration::from_secs(5)).expect("it starts one");
        assert!(child.kill());
        shell.wait().expect("it was ours");
    }
}
