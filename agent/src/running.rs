//! A command that runs, from its start until it and all that descends from it are gone.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::args::Argv;
use crate::attempt::Exit;
use crate::family::{kill_container, reap, signal_descendants};
use crate::output::Pump;
use crate::report::Tail;
use crate::say::say;
use migration_gate_contract::ending::{GRACE, LEFTOVER_GRACE, LEFTOVER_MOMENT, OUTPUT_PATIENCE};

/// Between two rounds of SIGKILL, at first and at last.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));
/// After so many rounds something is wrong: it is said, and harder measures are taken.
const STUBBORN: u32 = 20;

/// A command of an attempt.
#[derive(Debug)]
pub struct Running {
    leader: Pid,
    pumps: [Pump; 2],
    kill_at: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Alive,
    /// The command ended so, and left descendants, who get the next signal at that moment, after so many before.
    Sweeping {
        exit: Exit,
        next: Instant,
        rounds: u32,
    },
}

impl Running {
    /// Starts a command, in a process group of its own so that signals reach all of it.
    ///
    /// # Errors
    /// It can't be started: the exit code as of a shell (127 not found, 126 otherwise) and a sentence.
    pub fn start(argv: &Argv) -> Result<Running, (Exit, String)> {
        let mut command = Command::new(&argv.program);
        command.args(&argv.arguments).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| refusal(argv, &error))?;
        let pipes = (child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from));
        let (Some(stdout), Some(stderr)) = pipes else { unreachable!("both are piped") };
        let pumps = [(stdout, rustix::stdio::stdout()), (stderr, rustix::stdio::stderr())];
        let [out, err] = pumps.map(|(source, sink)| {
            // ioctl(2) FIONBIO has no failure for a pipe that is open.
            Pump::new(source, sink).unwrap_or_else(|error| unreachable!("a pipe of our own: {error}"))
        });
        Ok(Running { leader: Pid::from_child(&child), pumps: [out, err], kill_at: None, state: State::Alive })
    }

    /// Asks the command to end.
    pub fn forward(&self) {
        // The number is the command's as long as it was not reaped, and its group's as long as one of it lives.
        if let State::Alive = self.state {
            let _ = kill_process_group(self.leader, Signal::TERM);
        }
    }

    /// Asks the command to end, and makes it, [`GRACE`] after the first time that this was called.
    pub fn end(&mut self) {
        if self.kill_at.is_none() {
            self.forward();
            self.kill_at = Some(Instant::now() + GRACE);
        }
    }

    /// Whether the command itself has ended already, so that there is nobody to ask to.
    pub fn is_sweeping(&self) -> bool {
        matches!(self.state, State::Sweeping { .. })
    }

    /// What to wait for, besides ended children.
    pub fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.pumps.iter().filter_map(Pump::interest)
    }

    /// When to look again at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            // A kill that was not enough yet is repeated, at leisure.
            State::Alive => self.kill_at.map(|kill_at| kill_at.max(Instant::now() + ROUNDS.0)),
            State::Sweeping { next, .. } => Some(next),
        }
    }

    /// Does what there is to do, without blocking; returns how the command ended when nothing of it is alive.
    pub fn turn(&mut self, tail: &mut Tail) -> Option<Exit> {
        for pump in &mut self.pumps {
            pump.turn(tail);
        }
        let now = Instant::now();
        let reaped = reap(self.leader);
        match &mut self.state {
            State::Alive => match reaped.leader {
                Some(exit) if !reaped.left => return Some(self.finish(exit, tail)),
                // A command whose grace was over has used up that of its descendants too.
                Some(exit) if self.is_over(now) => self.state = State::Sweeping { exit, next: now, rounds: 1 },
                Some(exit) => self.state = State::Sweeping { exit, next: now + LEFTOVER_MOMENT, rounds: 0 },
                None if self.is_over(now) => {
                    let _ = kill_process_group(self.leader, Signal::KILL);
                }
                None => {}
            },
            State::Sweeping { exit, .. } if !reaped.left => {
                let exit = *exit;
                return Some(self.finish(exit, tail));
            }
            State::Sweeping { next, rounds, .. } if *next <= now => {
                if *rounds == 0 {
                    let left = signal_descendants(Signal::TERM, self.leader);
                    say(&format!("the command left {left} processes behind; ending them"));
                    *next = now + LEFTOVER_GRACE;
                } else {
                    let left = signal_descendants(Signal::KILL, self.leader);
                    if *rounds > STUBBORN {
                        kill_container();
                        if rounds.is_power_of_two() {
                            say(&format!("{left} processes still live after {rounds} rounds of SIGKILL"));
                        }
                    }
                    *next = now + (ROUNDS.0 * *rounds).min(ROUNDS.1);
                }
                *rounds = rounds.saturating_add(1);
            }
            State::Sweeping { .. } => {}
        }
        None
    }

    /// Whether the command's grace is over.
    fn is_over(&self, now: Instant) -> bool {
        self.kill_at.is_some_and(|kill_at| kill_at <= now)
    }

    /// Passes on the rest of the output.
    fn finish(&mut self, exit: Exit, tail: &mut Tail) -> Exit {
        let deadline = Instant::now() + OUTPUT_PATIENCE;
        for pump in &mut self.pumps {
            pump.finish(tail, deadline);
        }
        exit
    }
}

/// Why a command can't be started.
fn refusal(argv: &Argv, error: &io::Error) -> (Exit, String) {
    let program = argv.program.display();
    let mut sentence = format!("cannot start {program}: {error}");
    if error.kind() == ErrorKind::NotFound {
        sentence += &match (argv.program.to_string_lossy().contains('/'), std::env::var_os("PATH")) {
            (true, _) => "; neither the file nor the interpreter that its first line names may be missing".to_owned(),
            (false, Some(path)) => format!("; looked in PATH={}", path.display()),
            (false, None) => "; PATH is not set".to_owned(),
        };
    }
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    (Exit::Code(code), sentence)
}
