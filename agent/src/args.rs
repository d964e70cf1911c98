//! The agent's arguments: raw ones in, a value that can't be wrong out.
//!
//! ```text
//! migration-gate-agent install PATH [FROM TO]...
//! migration-gate-agent [--wait-for=ADDRESS]... [--verify=WORD]... [--root=DIR]
//!                      [--lock-env=NAME --lock-key=KEY --lock-program=PATH] -- COMMAND [ARGUMENT]...
//! ```
//!
//! The webhook writes them. `--root` is for tests: it puts DIR before every path of [`Paths`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fence::Fence;
use crate::wait_for::Target;
use migration_gate_contract::pod;

/// What the agent is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    /// Copy itself to this path, and other files.
    Install(Install),
    /// Wait for the signal and run the commands.
    Run(Box<Run>),
}

/// What is copied into the pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Install {
    /// Where the agent itself goes.
    pub agent: PathBuf,
    /// Other programs of the image, and where they go.
    pub others: Vec<(PathBuf, PathBuf)>,
}

/// What the agent runs, when its turn comes, and where it looks.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// The command.
    pub command: Argv,
    /// The command that verifies it.
    pub verify: Option<Argv>,
    /// The lock under which both run.
    pub fence: Option<Fence>,
    /// What is awaited before the command.
    pub targets: Vec<Target>,
    /// Where the agent's files are.
    pub paths: Paths,
}

/// A program and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Argv {
    /// The program: a path if there is a slash in it, otherwise looked up in PATH.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// The files of the agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Paths {
    /// The directory with the signals.
    pub signals: PathBuf,
    /// The directory with the journal.
    pub journal: PathBuf,
    /// The termination message.
    pub message: PathBuf,
}

impl Paths {
    /// The files as they are in a pod, below the directory.
    pub fn below(root: &Path) -> Paths {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        Paths {
            signals: below(pod::SIGNAL_PATH),
            journal: below(pod::JOURNAL_PATH),
            message: below(pod::TERMINATION_PATH),
        }
    }
}

impl Argv {
    fn of(mut words: impl Iterator<Item = OsString>) -> Option<Argv> {
        let program = words.next().filter(|program| !program.is_empty())?;
        Some(Argv { program, arguments: words.collect() })
    }
}

/// Reads the arguments, without the agent's own name.
///
/// # Errors
/// A sentence that says which one is wrong and what is allowed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Task, String> {
    let mut arguments = arguments.into_iter().peekable();
    if arguments.next_if(|first| first == pod::INSTALL_ARGUMENT).is_some() {
        return install(arguments);
    }

    let (mut targets, mut verify, mut root) = (Vec::new(), Vec::new(), PathBuf::from("/"));
    let mut lock = [None, None, None];
    for argument in arguments.by_ref() {
        if argument == "--" {
            let command = Argv::of(arguments).ok_or("there is no command after --")?;
            let verify = match verify.is_empty() {
                true => None,
                false => Some(Argv::of(verify.into_iter()).ok_or_else(|| {
                    format!("the first {} names the program and must not be empty", pod::VERIFY_WORD_OPTION)
                })?),
            };
            let fence = match lock {
                [None, None, None] => None,
                [Some(variable), Some(key), Some(program)] => Some(Fence { variable, key, program: program.into() }),
                _ => return Err(format!("{} belong together", LOCK_OPTIONS.join(", "))),
            };
            return Ok(Task::Run(Box::new(Run { command, verify, fence, targets, paths: Paths::below(&root) })));
        } else if let Some((at, text)) =
            LOCK_OPTIONS.iter().enumerate().find_map(|(at, o)| Some((at, value(&argument, o)?)))
        {
            if text.is_empty() {
                return Err(format!("{} is empty", LOCK_OPTIONS[at]));
            }
            lock[at] = Some(text.to_owned());
        } else if let Some(address) = value(&argument, pod::WAIT_FOR_OPTION) {
            let address = address.to_str().ok_or_else(|| format!("{} is not UTF-8", pod::WAIT_FOR_OPTION))?;
            let target = Target::parse(address).map_err(|why| format!("{}: {why}", pod::WAIT_FOR_OPTION))?;
            targets.push(target);
        } else if let Some(word) = value(&argument, pod::VERIFY_WORD_OPTION) {
            verify.push(word.to_owned());
        } else if let Some(directory) = value(&argument, "--root") {
            root = directory.into();
        } else {
            return Err(format!(
                "there is no argument {argument:?}; allowed are {} PATH, or {}=ADDRESS, {}=WORD, {} and then -- COMMAND",
                pod::INSTALL_ARGUMENT,
                pod::WAIT_FOR_OPTION,
                pod::VERIFY_WORD_OPTION,
                LOCK_OPTIONS.join(", "),
            ));
        }
    }
    Err("there is no -- with the command after it".to_owned())
}

/// The options of a [`Fence`], in the order of its fields.
const LOCK_OPTIONS: [&str; 3] = [pod::LOCK_ENV_OPTION, pod::LOCK_KEY_OPTION, pod::LOCK_PROGRAM_OPTION];

/// What is to be copied where.
fn install(arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    match paths.split_first() {
        Some((agent, others)) if others.len() % 2 == 0 && paths.iter().all(|path| !path.as_os_str().is_empty()) => {
            let others = others.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            Ok(Task::Install(Install { agent: agent.clone(), others }))
        }
        _ => Err(format!(
            "{} needs one path to copy the agent to, and after it only pairs of a file and where it goes",
            pod::INSTALL_ARGUMENT
        )),
    }
}

/// The value in `--option=value`.
fn value<'a>(argument: &'a OsStr, option: &str) -> Option<&'a OsStr> {
    argument.as_bytes().strip_prefix(option.as_bytes())?.strip_prefix(b"=").map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Task, String> {
        parse(arguments.iter().map(OsString::from))
    }

    fn argv(words: &[&str]) -> Argv {
        Argv::of(words.iter().map(OsString::from)).expect("a program")
    }

    #[test]
    fn what_the_webhook_writes_is_understood() {
        let mut install = Install { agent: "/migration-gate/agent".into(), others: Vec::new() };
        assert_eq!(read(&["install", "/migration-gate/agent"]), Ok(Task::Install(install)));
        install = Install {
            agent: "/migration-gate/agent".into(),
            others: vec![("/bin/migration-gate".into(), "/migration-gate/migration-gate".into())],
        };
        let words = ["install", "/migration-gate/agent", "/bin/migration-gate", "/migration-gate/migration-gate"];
        assert_eq!(read(&words), Ok(Task::Install(install)));
        let run = Run {
            command: argv(&["rails", "db:migrate", "--", "--wait-for=x"]),
            verify: Some(argv(&["rails", "db: \"version"])),
            fence: Some(Fence {
                variable: "DATABASE_URL".into(),
                key: "0123".into(),
                program: "/migration-gate/migration-gate".into(),
            }),
            targets: vec![Target::parse("tcp://db:5432").expect("good"), Target::parse("http://auth/").expect("good")],
            paths: Paths {
                signals: "/migration-gate-signal".into(),
                journal: "/migration-gate/journal".into(),
                message: "/dev/termination-log".into(),
            },
        };
        let words = [
            "--wait-for=tcp://db:5432",
            "--verify=rails",
            "--wait-for=http://auth/",
            "--verify=db: \"version",
            "--lock-env=DATABASE_URL",
            "--lock-key=0123",
            "--lock-program=/migration-gate/migration-gate",
            "--",
            "rails",
            "db:migrate",
            "--",
            "--wait-for=x",
        ];
        assert_eq!(read(&words), Ok(Task::Run(Box::new(run))));
    }

    #[test]
    fn a_program_may_be_called_install() {
        assert!(matches!(read(&["--", "install"]), Ok(Task::Run(run)) if run.command == argv(&["install"])));
    }

    #[test]
    fn everything_else_is_refused_with_its_name() {
        for (words, named) in [
            (&[][..], "--"),
            (&["--"], "--"),
            (&["--", ""], "--"),
            (&["rails"], "rails"),
            (&["--wait-for", "tcp://db:1", "--", "x"], "--wait-for"),
            (&["--wait-for=db", "--", "x"], "db"),
            (&["--wait-for=tcp://$(HOST):1", "--", "x"], "$(HOST)"),
            (&["--verify=", "--verify=x", "--", "x"], "--verify"),
            (&["--verifying=a", "--", "x"], "--verifying"),
            (&["--lock-env=A", "--lock-key=b", "--", "x"], "--lock-program"),
            (&["--lock-env=", "--", "x"], "--lock-env"),
            (&["install"], "path"),
            (&["install", ""], "path"),
            (&["install", "/a", "/b"], "path"),
            (&["install", "/a", "/b", ""], "path"),
        ] {
            let refusal = read(words).expect_err("must be refused");
            assert!(refusal.contains(named), "{words:?}: {refusal}");
        }
    }
}
