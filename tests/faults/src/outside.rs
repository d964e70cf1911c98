//! A controller outside of the cluster, as a process of ours, in place of those in it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Pid;

use crate::Result;
use crate::arena::{Arena, system};
use crate::control_faults::SYSTEM;

/// A controller. It is killed when this is dropped, and when this process ends in any other way.
pub struct Controller(Child);

impl Controller {
    /// Starts one on this way to the API server.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(arena: &Arena, kubeconfig: &Path) -> Result<Controller> {
        let path = arena.site.cluster.logs_dir().join("controller-outside.log");
        let log = File::options().create(true).append(true).open(&path).map_err(|error| system(&path, error))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&arena.controller)
            // The same identity each time: a Lease of one's own need not run out.
            .args(["controller", "--identity", "outside", "--lease-namespace", SYSTEM])
            .args(["--health-listen", "127.0.0.1:0"])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| system(&path, error))?)
            .stderr(log)
            .spawn();
        child.map(Controller).map_err(|error| system(&arena.controller, error))
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
