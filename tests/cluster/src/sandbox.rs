//! A machine of our own inside the machine: process, mount, shared memory and (if wanted) network
//! namespaces with a small init that holds them.
//!
//! Killing that init is like pulling the plug: the kernel ends every process in there, and with the last
//! one go mounts, links, routes and packet filters. So nothing has to be undone piece by piece, and a
//! crash of the owner leaves no more behind than an orderly end: init also ends when its owner, who holds
//! the other end of its standard input, is no more.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{self, command};
use crate::error::{Error, Result};
use crate::process::Identity;

/// What a sandbox has of its own beside processes and mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// The machine's network.
    Shared,
    /// A new one, empty but for loopback, which forwards packets between the links that it gets.
    Own,
}

/// How to find a sandbox again, also from another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    init: Identity,
    network: bool,
}

/// A running sandbox and the means to let it outlive us.
#[derive(Debug)]
pub(crate) struct Sandbox {
    place: Place,
    /// `unshare`, the parent of init.
    holder: Option<Child>,
    lifeline: Option<ChildStdin>,
}

/// Reads one line from its owner. "stay" cuts it loose; the end of the input (the owner is gone) ends it,
/// and with it everything in here. As init it also reaps whatever loses its parent.
const INIT: &str = r#"
exec 3<&0 </dev/null
ready() { echo ready; exec >/dev/null 2>&1; }
ready
{ read -r word <&3 && [ "$word" = stay ] && exec 3<&- && exec sleep 2147483647; } &
wait
"#;

impl Sandbox {
    /// Starts one; `setup` is shell code that init runs first, such as mounts.
    pub(crate) fn start(network: Network, setup: &str) -> Result<Self> {
        let mut unshare = command("setsid");
        unshare.args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        let mut script = String::from("set -e\n");
        if network == Network::Own {
            unshare.arg("--net");
            script.push_str("ip link set lo up\necho 1 > /proc/sys/net/ipv4/ip_forward\n");
        }
        script.push_str(setup);
        script.push_str(INIT);
        unshare.args(["sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = unshare.spawn().map_err(|error| command::not_started(&unshare, &error))?;
        let lifeline = holder.stdin.take();
        let mut answer = String::new();
        if let Some(stdout) = holder.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut answer);
        }
        let parent = Identity::of(holder.id());
        let init =
            parent.filter(|_| answer == "ready\n").and_then(|parent| parent.wait_for_child(Duration::from_secs(5)));
        let Some(init) = init else {
            let _ = holder.kill();
            let output = holder.wait_with_output().map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
            return Err(Error::Invalid(format!(
                "no namespaces could be set up (are they allowed here?): {}",
                output.unwrap_or_default().trim()
            )));
        };
        Ok(Self { place: Place { init, network: network == Network::Own }, holder: Some(holder), lifeline })
    }

    /// How to find it again.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Lets it live on when this process ends.
    pub(crate) fn detach(&mut self) -> std::io::Result<()> {
        match self.lifeline.take() {
            Some(mut lifeline) => lifeline.write_all(b"stay\n"),
            None => Ok(()),
        }
    }

    /// Pulls the plug.
    pub(crate) fn kill(&mut self) -> bool {
        let gone = self.place.init.kill();
        if let Some(mut holder) = self.holder.take() {
            let _ = holder.wait();
        }
        gone
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // One that was cut loose lives on.
        if self.lifeline.is_some() {
            self.kill();
        }
    }
}

impl Place {
    /// The init that holds it.
    pub(crate) fn init(self) -> Identity {
        self.init
    }

    /// A command that runs in there. It stays our child while the program is a child of it, since only a
    /// new process can be in another process namespace.
    pub(crate) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut nsenter = command("nsenter");
        nsenter.arg(format!("--target={}", self.init.pid())).args(["--mount", "--ipc", "--pid"]);
        if self.network {
            nsenter.arg("--net");
        }
        nsenter.arg("--").arg(program);
        nsenter
    }

    /// A command that uses only the network of it, and everything else of the machine.
    pub(crate) fn network_command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut nsenter = command("nsenter");
        nsenter.arg(format!("--target={}", self.init.pid())).arg("--net").arg("--").arg(program);
        nsenter
    }
}

/// Puts a command into a session of its own, so that a Ctrl-C meant for us does not end it.
pub(crate) fn own_group(command: &mut Command) {
    command.process_group(0);
}
