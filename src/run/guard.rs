//! The process between the wrapper and its command.
//!
//! A wrapper that is killed with SIGKILL can do nothing any more, and the lock is free. Its guard sees the end of their
//! connection, kills all that descends from the command at once, and ends. The other way round, the command gets
//! SIGKILL when its guard dies: [`exec`] asks the kernel for that before it becomes the command. The guard is silent
//! and heeds no signal: those come as orders from the wrapper.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use migration_gate_run::guard::{End, Order, Report};
use migration_gate_run::history::TAIL_BYTES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getppid, kill_process, kill_process_group, set_parent_process_death_signal};

use super::LOCK_VARIABLE;
use crate::agent::attempt::Exit;
use crate::agent::family::{adopt_orphans, reap, signal_descendants};
use crate::agent::notify::Notices;
use crate::agent::output::Pump;
use crate::agent::report::Tail;

/// Where the wrapper starts the guard, and the guard the command. A file that was replaced meanwhile is still this one.
pub const ITSELF: &str = "/proc/self/exe";
/// From the SIGTERM to what a command left behind to the SIGKILL.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// Between two rounds of SIGKILL.
const ROUND: Duration = Duration::from_millis(5);
/// How long the rest of the output waits for whoever reads it.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(5);
/// From SIGTERM to SIGKILL when the watchdog ends the command.
const WATCHDOG_GRACE: Duration = Duration::from_secs(1);

/// What the wrapper calls the guard with.
#[derive(Debug)]
pub struct Task {
    /// The abstract Unix socket where the wrapper listens.
    pub socket: String,
    /// The wrapper's process number.
    pub parent: u32,
    /// How long the wrapper may be silent about the lock.
    pub watchdog: Option<Duration>,
    /// Whether the command is to be in the terminal's foreground group, which is the wrapper's.
    pub terminal: bool,
    /// The command; not empty.
    pub command: Vec<OsString>,
}

/// Starts the command and stays with it.
///
/// # Errors
/// There is no wrapper, or no command could be started: of use only to who calls it by hand.
pub fn run(task: &Task) -> io::Result<()> {
    let mut notices = Notices::register()?;
    adopt_orphans()?;
    let wrapper = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&task.socket)?)?;
    if getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(task.parent) {
        return Err(io::Error::other("the wrapper is gone"));
    }
    wrapper.set_nonblocking(true)?;
    let mut guard = Guard::start(task, wrapper)?;
    while !guard.turn(&mut notices) {
        guard.sleep(&notices);
    }
    guard.report();
    Ok(())
}

/// Becomes the command, which dies with its guard; returns only if it can't, as a shell's exit code.
pub fn exec(guard: u32, command: &[OsString]) -> u8 {
    let Some((program, arguments)) = command.split_first() else { return 64 };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("migration-gate: the kernel has no parent-death signal: {error}");
        return 71;
    }
    // It may have died before it was asked for.
    if getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()) != Some(guard) {
        return 137;
    }
    // The lock's URL is the wrapper's; the command has its own way to the database.
    let error = Command::new(program).args(arguments).env_remove(LOCK_VARIABLE).exec();
    eprintln!("migration-gate: cannot start {}: {error}", program.display());
    if error.kind() == ErrorKind::NotFound { 127 } else { 126 }
}

struct Guard {
    wrapper: UnixStream,
    /// What came from the wrapper and is no whole line yet.
    orders: Vec<u8>,
    state: State,
    leader: Pid,
    terminal: bool,
    pumps: Vec<Pump>,
    tail: Tail,
    end: Option<End>,
    /// When SIGKILL is sent, again and again.
    kill_at: Option<Instant>,
    watchdog: Option<(Duration, Instant)>,
    barked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Guarding,
    /// The wrapper is gone: nobody needs a report, and nothing may live on.
    Orphaned,
}

impl Guard {
    fn start(task: &Task, wrapper: UnixStream) -> io::Result<Guard> {
        let mut command = Command::new(ITSELF);
        command.arg("guard-exec").arg(std::process::id().to_string()).arg("--").args(&task.command);
        // A stream that is a terminal is the command's own; of others, the end is kept for the history.
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let stream = |terminal: bool| if terminal { Stdio::inherit() } else { Stdio::piped() };
        command.stdout(stream(out)).stderr(stream(err));
        if !task.terminal {
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        let mut pumps = Vec::new();
        if let Some(stream) = child.stdout.take() {
            pumps.push(Pump::new(OwnedFd::from(stream), rustix::stdio::stdout())?);
        }
        if let Some(stream) = child.stderr.take() {
            pumps.push(Pump::new(OwnedFd::from(stream), rustix::stdio::stderr())?);
        }
        Ok(Guard {
            wrapper,
            orders: Vec::new(),
            state: State::Guarding,
            leader: Pid::from_child(&child),
            terminal: task.terminal,
            pumps,
            tail: Tail::default(),
            end: None,
            kill_at: None,
            watchdog: task.watchdog.map(|patience| (patience, Instant::now() + patience)),
            barked: false,
        })
    }

    /// Does what there is to do, without blocking; whether it is all over.
    fn turn(&mut self, notices: &mut Notices) -> bool {
        notices.take_child();
        notices.take_stop();
        for pump in &mut self.pumps {
            pump.turn(&mut self.tail);
        }
        if self.state == State::Guarding {
            self.obey();
        }
        let reaped = reap(self.leader);
        if let Some(exit) = reaped.leader {
            self.end = Some(match exit {
                Exit::Code(code) => End::Code(u8::try_from(code).unwrap_or(u8::MAX)),
                Exit::Signal(number) => End::Signal(u8::try_from(number).unwrap_or(u8::MAX)),
            });
            if reaped.left && self.state == State::Guarding {
                signal_descendants(Signal::TERM, self.leader);
                let latest = Instant::now() + LEFTOVER_GRACE;
                self.kill_at = Some(self.kill_at.map_or(latest, |kill_at| kill_at.min(latest)));
            }
        }
        let now = Instant::now();
        if let Some((_, due)) = self.watchdog.filter(|(_, due)| *due <= now)
            && self.end.is_none()
        {
            let _ = due;
            self.watchdog = None;
            self.barked = true;
            self.tail.say("the wrapper did not say for too long that it holds the lock; ending the command");
            self.end_after(WATCHDOG_GRACE);
        }
        if reaped.left && self.kill_at.is_some_and(|kill_at| kill_at <= now) {
            signal_descendants(Signal::KILL, self.leader);
            self.kill_at = Some(now + ROUND);
        }
        !reaped.left
    }

    fn obey(&mut self) {
        let mut part = [0; 512];
        loop {
            match self.wrapper.read(&mut part) {
                Ok(0) => return self.orphan(),
                Ok(length) => self.orders.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.orphan(),
            }
        }
        while let Some(end) = self.orders.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.orders.drain(..=end).collect();
            let order = str::from_utf8(&line).ok().and_then(|line| line.trim_end().parse().ok());
            match order {
                Some(Order::Signal(number)) => self.pass_on(number),
                Some(Order::Held) => {
                    if let Some((patience, due)) = &mut self.watchdog {
                        *due = Instant::now() + *patience;
                    }
                }
                Some(Order::End(grace)) => self.end_after(grace),
                // They are one program.
                None => {}
            }
        }
    }

    fn orphan(&mut self) {
        self.state = State::Orphaned;
        self.kill_at = Some(Instant::now());
    }

    fn pass_on(&self, number: i32) {
        if self.end.is_some() {
            return;
        }
        let Some(signal) = Signal::from_named_raw(number) else { return };
        let _ = match self.terminal {
            // The keyboard's signals have reached the whole foreground group already.
            true if [Signal::INT, Signal::QUIT].contains(&signal) => Ok(()),
            true => kill_process(self.leader, signal),
            false => kill_process_group(self.leader, signal),
        };
    }

    /// Ends the command; said again, only a shorter grace counts.
    fn end_after(&mut self, grace: Duration) {
        let latest = Instant::now() + grace;
        if self.kill_at.is_none() {
            signal_descendants(Signal::TERM, self.leader);
        }
        self.kill_at = Some(self.kill_at.map_or(latest, |kill_at| kill_at.min(latest)));
    }

    /// Waits until there is something to do.
    fn sleep(&self, notices: &Notices) {
        let borrowed = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut waiting: Vec<PollFd<'_>> = self.pumps.iter().filter_map(Pump::interest).collect();
        waiting.extend([borrowed(notices.child()), borrowed(notices.stop())]);
        if self.state == State::Guarding {
            waiting.push(PollFd::new(&self.wrapper, PollFlags::IN));
        }
        let watchdog = self.watchdog.map(|(_, due)| due);
        let next = [self.kill_at, watchdog].into_iter().flatten().min();
        let left = next.map(|next| next.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        // An error, such as EINTR, is a reason to look.
        let _ = poll(&mut waiting, left.as_ref());
    }

    fn report(&mut self) {
        if self.state == State::Orphaned {
            return;
        }
        let deadline = Instant::now() + OUTPUT_PATIENCE;
        for pump in &mut self.pumps {
            pump.finish(&mut self.tail, deadline);
        }
        let end = if self.barked { End::Watchdog } else { self.end.unwrap_or(End::Code(u8::MAX)) };
        let report = Report { end, tail: self.tail.last(TAIL_BYTES) };
        // A wrapper that is gone needs no report.
        if let Ok(text) = serde_json::to_vec(&report) {
            let _ = self.wrapper.set_nonblocking(false);
            let _ = self.wrapper.write_all(&text);
        }
    }
}
