//! A person at a terminal: kubectl with the plugin, and Helm, as they would be on that person's machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use testcluster::tools::{self, Tool};
use testcluster::{Cluster, progress};

use crate::site::system;
use crate::{Artefacts, Error, Result};

/// A cluster's administrator, with a home of its own.
#[derive(Debug)]
pub struct User {
    home: PathBuf,
    kubeconfig: PathBuf,
}

impl User {
    /// Puts the programs where this person's shell finds them.
    ///
    /// # Errors
    /// When a program can't be built, or the home can't be made.
    pub fn of(cluster: &Cluster, artefacts: &Artefacts) -> Result<User> {
        let home = cluster.folder("user")?;
        let programs = home.join("bin");
        fs::create_dir_all(&programs).map_err(|error| system(&programs, error))?;
        for (name, program) in [
            ("kubectl", &tools::path(Tool::Kubectl)?),
            ("helm", &tools::path(Tool::Helm)?),
            ("migration-gate", &artefacts.program),
            ("kubectl-migration_gate", &artefacts.program),
        ] {
            let link = programs.join(name);
            if !link.exists() {
                symlink(program, &link).map_err(|error| system(&link, error))?;
            }
        }
        Ok(User { home, kubeconfig: cluster.kubeconfig() })
    }

    /// A command as this person runs it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        // The first word is looked up in this process's PATH, not in the one that it gets.
        let own = self.home.join("bin").join(program);
        let mut command = Command::new(if own.exists() { own } else { PathBuf::from(program) });
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.home.join("bin").display()));
        command.env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig).env("KUBERC", "off");
        for variable in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "NAMESPACE"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, whatever that is.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn run(&self, words: &[&str]) -> Result<Said> {
        progress::step(words.join(" "));
        let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
        let output = self.command(program).args(arguments).output();
        output.map(Said::from).map_err(|error| Error::System { what: words.join(" "), error })
    }
}

/// What a command said, and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; -1 for a signal.
    pub code: i32,
    /// On the standard output.
    pub out: String,
    /// On the standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// Itself, where the command succeeded.
    ///
    /// # Errors
    /// Where it failed, with all that it said.
    pub fn well(self) -> Result<Said> {
        if self.code == 0 { Ok(self) } else { Err(Error::Broken(format!("a command failed: {self:#?}"))) }
    }
}
