//! The process between the wrapper and its command, as the wrapper sees it.
//!
//! The guard starts the command, and outlives a wrapper that is killed for just as long as it takes to kill all that
//! descends from the command. Which program it is, is said in [`Options::guard`](crate::Options::guard); it is called
//! with `--socket NAME --parent PID [--watchdog MILLISECONDS] [--terminal] -- COMMAND…`, connects to the abstract Unix
//! socket NAME, and reads [`Order`]s, a line each. The end of the connection is the end of the wrapper. When nothing of
//! the command is alive it writes one [`Report`] as JSON, and ends.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use crate::failure::{Failure, Kind};

/// What the wrapper tells the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Pass on this signal.
    Signal(i32),
    /// The lock was held a moment ago.
    Held,
    /// End the command: SIGTERM, and SIGKILL after this time.
    End(Duration),
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Signal(number) => write!(formatter, "signal {number}"),
            Order::Held => formatter.write_str("held"),
            Order::End(grace) => write!(formatter, "end {}", grace.as_millis()),
        }
    }
}

impl std::str::FromStr for Order {
    type Err = ();

    fn from_str(line: &str) -> Result<Order, ()> {
        match line.split_once(' ') {
            None if line == "held" => Ok(Order::Held),
            Some(("signal", number)) => number.parse().map(Order::Signal).map_err(|_| ()),
            Some(("end", grace)) => grace.parse().map(|ms| Order::End(Duration::from_millis(ms))).map_err(|_| ()),
            _ => Err(()),
        }
    }
}

/// How the command ended, when nothing of it is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// The last lines of those of its streams that are no terminal.
    pub tail: String,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// With this exit code.
    Code(u8),
    /// By this signal.
    Signal(u8),
    /// The guard ended it, because the wrapper did not say for too long that the lock is held.
    Watchdog,
}

/// A guard and its command.
pub(crate) struct Guard {
    process: Child,
    socket: UnixStream,
}

/// How long the guard may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

impl Guard {
    /// Starts a command under a guard.
    pub(crate) async fn start(
        guard: &[OsString],
        command: &[OsString],
        watchdog: Option<Duration>,
    ) -> Result<Guard, Failure> {
        let failed = |error: io::Error| Failure::new(Kind::System, format!("can't start the guard: {error}"));
        let name = format!("migration-gate-{}", crate::random_hex());
        let address = SocketAddr::from_abstract_name(&name).map_err(failed)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;

        let Some((program, arguments)) = guard.split_first() else {
            return Err(Failure::new(Kind::Defect, "there is no guard"));
        };
        let mut starting = Command::new(program);
        starting.args(arguments).args(["--socket", &name, "--parent", &std::process::id().to_string()]);
        if let Some(watchdog) = watchdog {
            starting.args(["--watchdog", &watchdog.as_millis().to_string()]);
        }
        if io::stdin().is_terminal() {
            // The terminal's own group: its keys reach the command, and who reads from it must be in the foreground.
            starting.arg("--terminal");
        } else {
            starting.process_group(0);
        }
        starting.arg("--").args(command);
        let mut process = starting.spawn().map_err(failed)?;
        let connected = async {
            loop {
                let (socket, _) = listener.accept().await?;
                // The name is secret only in part: /proc/net/unix shows it to everybody on this host.
                if socket.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok()) == process.id() {
                    return Ok(socket);
                }
            }
        };
        let socket = tokio::select! {
            socket = connected => socket.map_err(failed),
            () = tokio::time::sleep(PATIENCE) => Err(failed(ErrorKind::TimedOut.into())),
        };
        match socket {
            Ok(socket) => Ok(Guard { process, socket }),
            Err(failure) => {
                let _ = process.start_kill();
                let _ = process.wait().await;
                Err(failure)
            }
        }
    }

    /// Tells the guard something. One that is gone needs no orders.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.socket.try_write(format!("{order}\n").as_bytes());
    }

    /// Waits for the report; `None` if the guard ended without one.
    pub(crate) async fn report(&self) -> Option<Report> {
        let mut text = Vec::new();
        loop {
            if self.socket.readable().await.is_err() {
                break;
            }
            let mut part = [0; 4096];
            match self.socket.try_read(&mut part) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        serde_json::from_slice(&text).ok()
    }

    /// Waits for the end of the guard itself.
    pub(crate) async fn end(mut self) {
        let _ = self.process.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_were_written() {
        for order in [Order::Signal(15), Order::Held, Order::End(Duration::from_millis(1500))] {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        for wrong in ["", "held 1", "signal", "signal x", "end -1", "run"] {
            assert_eq!(wrong.parse::<Order>(), Err(()), "{wrong}");
        }
    }
}
