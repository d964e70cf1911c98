//! `migration-gate run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use migration_gate_run::history::Run;
use migration_gate_run::{
    self as library, Attempts, Kind, LOST_GRACE_MAX, Lock, OnLost, Options, Place, Site, TableName, Target, Wrapper,
};
use rustix::process::{Pid, Signal};

use super::{Exit, Failure};
use crate::agent::family;
use crate::run::LOCK_VARIABLE;
use crate::run::guard::ITSELF;
use crate::run::lease::LeaseLock;
use crate::run::report;
use crate::settings;
use crate::supervise::Sentence;

/// The variable that names a file with the URL.
const LOCK_FILE_VARIABLE: &str = "MIGRATION_GATE_LOCK_FILE";

/// Run a command once among many starters: wait for the lock, look whether it was done, run, record, let go.
#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Where the lock and the history are: postgres://, mysql://, sqlite:PATH, file:PATH or lease:NAMESPACE/NAME.
    /// A URL with a password belongs into MIGRATION_GATE_LOCK or a file: everybody on this host sees arguments
    #[arg(long, value_name = "URL", conflicts_with_all = ["lock_env", "lock_file"])]
    lock: Option<String>,
    /// The environment variable with the URL, such as DATABASE_URL
    #[arg(long, value_name = "NAME", conflicts_with = "lock_file")]
    lock_env: Option<String>,
    /// A file with the URL; also named by MIGRATION_GATE_LOCK_FILE
    #[arg(long, value_name = "FILE")]
    lock_file: Option<PathBuf>,
    /// Tells several locks of one database apart
    #[arg(long, env = "MIGRATION_GATE_LOCK_NAME", default_value = "default", value_name = "NAME", value_parser = lock_name)]
    lock_name: String,
    /// Lock a row of this table instead of a session: for databases behind a pooler in transaction mode; weaker
    #[arg(long, env = "MIGRATION_GATE_LOCK_TABLE", value_name = "NAME")]
    lock_table: Option<TableName>,
    /// Run once for this key, such as the image's tag; without it, every starter runs, one after the other
    #[arg(long, env = "MIGRATION_GATE_ONCE", value_name = "KEY", value_parser = key)]
    once: Option<String>,
    /// Failed runs of the key after which nobody tries again: 1 to 1000, or unlimited
    #[arg(long, env = "MIGRATION_GATE_ATTEMPTS", default_value = "3", value_name = "NUMBER")]
    attempts: Attempts,
    /// A second command that must succeed too: one line of shell words (no shell is started), or a JSON array
    #[arg(long, env = "MIGRATION_GATE_VERIFY", value_name = "COMMAND", value_parser = command)]
    verify: Option<Words>,
    /// How long both commands may take together, the wait for the lock aside; then SIGTERM, and SIGKILL 30 s later
    #[arg(long, env = "MIGRATION_GATE_TIMEOUT", value_name = "DURATION", value_parser = settings::duration::parse)]
    timeout: Option<Duration>,
    /// How long to wait for a database or API server that can't be reached yet
    #[arg(long, env = "MIGRATION_GATE_WAIT", default_value = "60s", value_name = "DURATION", value_parser = settings::duration::parse)]
    wait: Duration,
    /// How long to wait for the lock; without it, for as long as others take
    #[arg(long, env = "MIGRATION_GATE_LOCK_WAIT", value_name = "DURATION", value_parser = settings::duration::parse)]
    lock_wait: Option<Duration>,
    /// What happens to the command when the lock is lost, so that somebody else may have it
    #[arg(long, env = "MIGRATION_GATE_ON_LOST", value_enum, default_value_t, value_name = "WHAT")]
    on_lost: Lost,
    /// From SIGTERM to SIGKILL when the lock was lost; a successor of a run that vanished waits for as long
    #[arg(long, env = "MIGRATION_GATE_LOST_GRACE", default_value = "1s", value_name = "DURATION", value_parser = lost_grace)]
    lost_grace: Duration,
    /// The table of the history, made on demand
    #[arg(long, env = "MIGRATION_GATE_HISTORY_TABLE", default_value = "migration_gate_runs", value_name = "NAME")]
    history_table: TableName,
    /// A file where it says how it ended, as JSON: {"outcome": "succeeded"}, failed, timedOut or interrupted
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the history, and run nothing
    #[arg(long, conflicts_with_all = ["forget", "command"])]
    status: bool,
    /// Drop the history of the --once key, so that it is due again, and run nothing
    #[arg(long, requires = "once", conflicts_with = "command")]
    forget: bool,
    /// The command and its arguments
    #[arg(last = true, required_unless_present_any = ["status", "forget"], value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Lost {
    /// End it: SIGTERM, grace, SIGKILL
    #[default]
    End,
    /// Let it go on, for those who know that it can't do harm
    Continue,
}

/// A command; of its own type, because clap would take a vector for several values.
#[derive(Clone, Debug)]
struct Words(Vec<OsString>);

impl RunArguments {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let target = self.target()?;
        let lock = self.lock_table.clone().map_or(Lock::Native, Lock::Table);
        let options = Options {
            lock: self.lock_name,
            key: self.once.clone(),
            attempts: self.attempts,
            command: self.command,
            verify: self.verify.map(|words| words.0),
            timeout: self.timeout,
            on_lost: match self.on_lost {
                Lost::End => OnLost::End,
                Lost::Continue => OnLost::Continue,
            },
            lost_grace: self.lost_grace,
            wait: self.wait,
            lock_wait: self.lock_wait,
            guard: vec![ITSELF.into(), "guard".into()],
            sweep,
            owner: library::random_hex(),
        };
        let place = place(&target, &lock, self.history_table, &options)?;
        family::adopt_orphans().map_err(|error| Failure::new(Exit::System, error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Exit::System, error))?;
        let wrapper = Wrapper::new(place, target.to_string(), target.secrets().clone(), options);
        let done = runtime.block_on(async {
            match (self.status, self.once.filter(|_| self.forget)) {
                (true, _) => wrapper.history().await.map(print),
                (false, Some(key)) => wrapper.forget(&key).await.map(|runs| told(&key, runs)),
                (false, None) => {
                    let ended = wrapper.run().await;
                    if let Some(file) = &self.report {
                        report::write(file, &ended)?;
                    }
                    ended.map(|ended| ended.exit.into())
                }
            }
        });
        // A resolver that hangs must not keep the process.
        runtime.shutdown_background();
        Ok(done?)
    }

    fn target(&self) -> Result<Target, Failure> {
        let usage = |sentence: String| Failure::new(Exit::Usage, Sentence(sentence));
        // What is said on the command line counts before what is in the environment.
        let file = self.lock_file.clone().or_else(|| match self.lock.is_some() || self.lock_env.is_some() {
            true => None,
            false => std::env::var_os(LOCK_FILE_VARIABLE).map(PathBuf::from),
        });
        let text = match (&self.lock, &self.lock_env, &file) {
            (Some(url), ..) => url.clone(),
            (None, Some(name), _) => std::env::var(name).map_err(|_| {
                usage(format!("no lock: the environment variable {name} is not set, or no text; it must hold the URL"))
            })?,
            (None, None, Some(file)) => std::fs::read_to_string(file).map_err(|error| {
                Failure::new(
                    Exit::NoInput,
                    Sentence(format!("can't read the lock's URL from {}: {error}", file.display())),
                )
            })?,
            (None, None, None) => std::env::var(LOCK_VARIABLE).map_err(|_| {
                usage(format!(
                    "no lock: give its URL in {LOCK_VARIABLE}, in another variable with --lock-env, or in a file with \
                     --lock-file"
                ))
            })?,
        };
        let target: Target = text.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
        if self.lock.is_some() && target.secrets().hide(&text) != text {
            eprintln!(
                "migration-gate: note: everybody on this host can see the password in the arguments; {LOCK_VARIABLE}, \
                 --lock-env and --lock-file keep it secret"
            );
        }
        Ok(target)
    }
}

fn place(target: &Target, lock: &Lock, history: TableName, options: &Options) -> Result<Box<dyn Place>, Failure> {
    if let Some(place) = library::place(target, lock, history, options)? {
        return Ok(place);
    }
    match &target.site {
        Site::Lease { namespace, name } => {
            Ok(Box::new(LeaseLock::new(namespace.clone(), name.clone(), options.lock.clone(), options.owner.clone())))
        }
        _ => Err(Failure::new(Exit::Software, Sentence("there is no lock for this URL".to_owned()))),
    }
}

/// Kills what is left of a command whose guard was killed.
fn sweep() {
    // No group has this number (proc(5), pid_max): the command's may be the wrapper's own.
    let Some(nobody) = Pid::from_raw(i32::MAX) else { return };
    for _ in 0..1000 {
        if family::signal_descendants(Signal::KILL, nobody) == 0 {
            break;
        }
        // They are being killed; there is nothing to wait on but them.
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn print(runs: Vec<Run>) -> ExitCode {
    print!("{}", library::status(&runs));
    ExitCode::SUCCESS
}

fn told(key: &str, runs: u64) -> ExitCode {
    println!("forgot {runs} runs of {key}");
    ExitCode::SUCCESS
}

fn lock_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match (1..=63).contains(&text.len()) && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("a lock's name is 1 to 63 letters, digits, '-', '_' and '.'".to_owned()),
    }
}

fn key(text: &str) -> Result<String, String> {
    match (1..=200).contains(&text.len()) && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => {
            Err("a key is 1 to 200 bytes without control characters; is the variable that it comes from set?"
                .to_owned())
        }
    }
}

fn lost_grace(text: &str) -> Result<Duration, String> {
    match settings::duration::parse(text)? {
        grace if grace <= LOST_GRACE_MAX => Ok(grace),
        _ => Err(format!("at most {} s: a successor waits for as long", LOST_GRACE_MAX.as_secs())),
    }
}

fn command(text: &str) -> Result<Words, String> {
    settings::command(text).map(|words| Words(words.into_iter().map(OsString::from).collect()))
}

impl From<library::Failure> for Failure {
    fn from(failure: library::Failure) -> Failure {
        let exit = match failure.kind {
            Kind::Usage => Exit::Usage,
            Kind::Unreachable => Exit::Unavailable,
            Kind::Unfit => Exit::Config,
            Kind::Denied => Exit::NoPermission,
            Kind::Unwritable => Exit::CannotCreate,
            Kind::Unrecorded => Exit::Unrecorded,
            Kind::Busy | Kind::Lost => Exit::Temporary,
            Kind::System => Exit::System,
            Kind::Defect => Exit::Software,
        };
        Failure::new(exit, failure)
    }
}
