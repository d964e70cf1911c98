//! One program of the cluster: how it is started, whether it runs, where it logs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{self, command};
use crate::error::{At, Error, Result};
use crate::process::Identity;
use crate::sandbox::{Place, own_group};
use crate::state::Site;

/// What is needed to start a program, and to start it again in the same way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) site: Site,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    running: Option<Identity>,
}

impl Component {
    pub(crate) fn new(name: impl Into<String>, site: Site, program: PathBuf) -> Self {
        let (arguments, environment) = (Vec::new(), BTreeMap::new());
        Self { name: name.into(), site, program, arguments, environment, running: None }
    }

    pub(crate) fn arguments<I: Into<String>>(mut self, arguments: impl IntoIterator<Item = I>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Where it writes what it has to say.
    pub(crate) fn log(&self, logs: &Path) -> PathBuf {
        logs.join(format!("{}.log", self.name))
    }

    pub(crate) fn process(&self) -> Option<Identity> {
        self.running
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some_and(Identity::is_alive)
    }

    /// Writes down that it does not run because somebody wanted that.
    pub(crate) fn stopped(&mut self) {
        self.running = None;
    }

    /// Kills it, if it runs; false when that can't be done.
    pub(crate) fn kill(&self) -> bool {
        self.running.is_none_or(Identity::kill)
    }

    /// Starts it. The child is the program itself, or a parent that waits for it when it runs in a sandbox.
    pub(crate) fn start(&mut self, place: Option<Place>, logs: &Path) -> Result<Child> {
        let path = self.log(logs);
        let log = File::options().create(true).append(true).open(&path).at(&path)?;
        let mut start = match place {
            Some(place) => place.command(&self.program),
            None => command(&self.program),
        };
        start.args(&self.arguments).envs(&self.environment);
        start.stdin(Stdio::null()).stdout(log.try_clone().at(&path)?).stderr(log);
        own_group(&mut start);
        let mut child = start.spawn().map_err(|error| command::not_started(&start, &error))?;
        let started = Identity::of(child.id());
        let running = match place {
            Some(_) => started.and_then(|waiter| waiter.wait_for_child(Duration::from_secs(10))),
            None => started,
        };
        let Some(running) = running else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(self.ended(logs));
        };
        self.running = Some(running);
        Ok(child)
    }

    /// The error for one that ended by itself.
    pub(crate) fn ended(&self, logs: &Path) -> Error {
        let log = self.log(logs);
        let text = fs::read(&log).unwrap_or_default();
        let tail = command::tail(&String::from_utf8_lossy(&text), 15);
        Error::Ended { component: self.name.clone(), log, tail }
    }
}
