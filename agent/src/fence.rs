//! The second fence: a lock in the database itself, for several clusters on one database.
//!
//! The agent then starts the commands through `migration-gate run`, which takes the lock, looks whether another cluster
//! has done the same migration, runs, records and lets go. Who counts attempts is the controller, so the wrapper counts
//! none; and the second command runs under the lock as well, because only both together are a success.
//!
//! The wrapper's exit code may be the command's own. So it says in a file what came of it, which is trusted before the
//! code is.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use migration_gate_contract::{LockReport, Outcome};

use crate::args::Argv;
use crate::attempt::Exit;
use crate::machine::Input;

/// Where the lock is, what it is for, and who takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The environment variable with the database's URL.
    pub variable: OsString,
    /// What has been done once for all when it has succeeded under the lock: the fingerprint.
    pub key: OsString,
    /// The program with the subcommand `run`.
    pub program: PathBuf,
}

impl Fence {
    /// The command line that runs both commands under the lock. `limit` is in seconds, and counts from when the lock is had.
    pub fn command(&self, command: &Argv, verify: Option<&Argv>, limit: Option<u64>, report: &Path) -> Argv {
        let mut arguments: Vec<OsString> = vec!["run".into(), "--attempts=unlimited".into()];
        let mut option = |name: &str, value: &OsStr| {
            let mut argument = OsString::from(name);
            argument.push(value);
            arguments.push(argument);
        };
        option("--lock-env=", &self.variable);
        option("--once=", &self.key);
        option("--report=", report.as_os_str());
        if let Some(limit) = limit {
            option("--timeout=", format!("{limit}s").as_ref());
        }
        if let Some(verify) = verify {
            option("--verify=", as_json(verify).as_ref());
        }
        arguments.push("--".into());
        arguments.push(command.program.clone());
        arguments.extend(command.arguments.iter().cloned());
        Argv { program: self.program.clone().into(), arguments }
    }
}

/// A command as a JSON array. Words that are not UTF-8 can't come from an annotation.
fn as_json(argv: &Argv) -> String {
    let words: Vec<_> =
        std::iter::once(&argv.program).chain(&argv.arguments).map(|word| word.to_string_lossy()).collect();
    serde_json::to_string(&words).expect("strings always serialise")
}

/// Removes what an earlier attempt may have said.
///
/// # Errors
/// It is there and stays: it would be taken for the next attempt's.
pub fn forget(report: &Path) -> Result<(), String> {
    match fs::remove_file(report) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}, so nothing is run: {error}", report.display()))
        }
        _ => Ok(()),
    }
}

/// What the end of the wrapper means.
pub fn heard(exit: Exit, report: &Path) -> Input {
    let said: Option<LockReport> = fs::read(report).ok().and_then(|text| serde_json::from_slice(&text).ok());
    match (said.map(|said| said.outcome), exit) {
        (Some(Outcome::Succeeded), Exit::Code(0)) => Input::CommandEnded(exit),
        (Some(Outcome::Interrupted), _) => Input::CommandInterrupted(exit),
        (Some(Outcome::TimedOut), _) => Input::CommandTimedOut(exit),
        // Without its word, or against it, 0 proves nothing.
        (_, Exit::Code(0)) => Input::CommandEnded(Exit::Code(1)),
        _ => Input::CommandEnded(exit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Argv {
        let mut words = words.iter().map(OsString::from);
        Argv { program: words.next().expect("a program"), arguments: words.collect() }
    }

    #[test]
    fn both_commands_run_under_the_lock() {
        let fence = Fence { variable: "DATABASE_URL".into(), key: "0123".into(), program: "/mg/migration-gate".into() };
        let (command, verify) = (argv(&["rails", "db:migrate"]), argv(&["sh", "-c", "a \"b\""]));
        let words = [
            "/mg/migration-gate",
            "run",
            "--attempts=unlimited",
            "--lock-env=DATABASE_URL",
            "--once=0123",
            "--report=/r",
            "--timeout=90s",
            r#"--verify=["sh","-c","a \"b\""]"#,
            "--",
            "rails",
            "db:migrate",
        ];
        assert_eq!(fence.command(&command, Some(&verify), Some(90), Path::new("/r")), argv(&words));
        let words = [&words[..6], &words[8..]].concat();
        assert_eq!(fence.command(&command, None, None, Path::new("/r")), argv(&words));
    }

    #[test]
    fn the_wrappers_word_counts_before_its_exit_code() {
        let report = std::env::temp_dir().join(format!("migration-gate-fence-{}", std::process::id()));
        let heard = |text: &str, exit| {
            fs::write(&report, text).expect("a temporary file");
            super::heard(exit, &report)
        };
        let (ok, busy) = (Exit::Code(0), Exit::Code(75));
        assert_eq!(heard(r#"{"outcome":"succeeded"}"#, ok), Input::CommandEnded(ok));
        assert_eq!(heard(r#"{"outcome":"interrupted"}"#, busy), Input::CommandInterrupted(busy));
        assert_eq!(heard(r#"{"outcome":"failed"}"#, busy), Input::CommandEnded(busy));
        assert_eq!(heard(r#"{"outcome":"timedOut"}"#, Exit::Code(124)), Input::CommandTimedOut(Exit::Code(124)));
        assert_eq!(heard(r#"{"outcome":"succeeded"}"#, Exit::Signal(9)), Input::CommandEnded(Exit::Signal(9)));
        for text in ["", r#"{"outcome":"failed"}"#, "{"] {
            assert_eq!(heard(text, ok), Input::CommandEnded(Exit::Code(1)), "{text}");
        }
        assert_eq!(forget(&report), Ok(()));
        assert_eq!(forget(&report), Ok(()));
        assert_eq!(super::heard(busy, &report), Input::CommandEnded(busy));
    }
}
