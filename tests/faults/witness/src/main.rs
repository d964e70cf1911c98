//! A migration that shows whether another one runs at the same time.
//!
//! `witness migrate` tries two locks: an advisory lock of its database session, and a lock on a file that all nodes of
//! a test cluster share. The first is what a real migration tool would notice. The second one holds through a
//! partition and goes with the process, whatever the database knows. It writes down when it started, whether both
//! were free, and when it ended: a line of JSON in the file `log`, and a row in the table `runs`. The log is what
//! counts: it can be written while the database is out of reach.
//!
//! It runs until it is told to end: until the file `finish-from` holds its attempt's number or a lower one. While a
//! file `eat-N` is there, attempt N takes memory without end. `witness migrate stubborn` does not heed SIGTERM: a tool
//! that finishes its statement first takes as long to end as that.
//!
//! `witness serve` is the application. It writes `early` into the log if no run has ended when it starts.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use migration_gate_contract::{Signal, pod};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::Client;

type Failure = Box<dyn std::error::Error>;

/// Between two looks at the files that steer it.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the database is waited for when all is done; behind a partition it does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["migrate"] => migrate().await,
                ["migrate", "stubborn"] => {
                    // Nobody waits for it, so it does nothing.
                    let _heard = signal(SignalKind::terminate())?;
                    migrate().await
                }
                ["serve"] => serve().await,
                _ => Err(format!("{words:?} is not one of migrate, migrate stubborn, serve").into()),
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("witness: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What one case shares with the test that steers it.
struct Case {
    name: String,
    folder: PathBuf,
}

impl Case {
    fn own() -> Result<Case, Failure> {
        let name = std::env::var("CASE").map_err(|_| "CASE is not set")?;
        Ok(Case { folder: Path::new("/shared").join(&name), name })
    }

    fn write_down(&self, entry: &Value) -> Result<(), Failure> {
        let mut log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        log.write_all(format!("{entry}\n").as_bytes())?;
        Ok(())
    }

    /// Runs of this attempt and later ones are to end.
    fn finish_from(&self) -> u32 {
        let text = fs::read_to_string(self.folder.join("finish-from")).unwrap_or_default();
        text.trim().parse().unwrap_or(u32::MAX)
    }
}

async fn migrate() -> Result<(), Failure> {
    let case = Case::own()?;
    let order = fs::read_to_string(Path::new(pod::SIGNAL_PATH).join(pod::SIGNAL_FILE))?;
    let order: Signal = serde_json::from_str(&order)?;
    let attempt = order.attempt();
    let file = File::options().create(true).append(true).open(case.folder.join("lock"))?;
    let file_is_free = file.try_lock().is_ok();
    let client = database().await?;
    let session: bool = client.query_one("SELECT pg_try_advisory_lock(hashtext($1))", &[&case.name]).await?.get(0);
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let entry = |event: &str| json!({ "event": event, "attempt": attempt, "pod": pod, "uid": order.pod_uid(), "overlap": !(file_is_free && session), "databaseOverlap": !session });
    case.write_down(&entry("start"))?;
    let id: i32 = client
        .query_one(
            "INSERT INTO runs (name, attempt, pod, overlap) VALUES ($1, $2, $3, $4) RETURNING id",
            &[&case.name, &i64::from(attempt), &pod, &!(file_is_free && session)],
        )
        .await?
        .get(0);
    if !(file_is_free && session) {
        println!("OVERLAP: another run holds the lock of {}", case.name);
    }
    println!("attempt {attempt} runs in {pod}");
    let mut eaten = Vec::new();
    while case.finish_from() > attempt {
        if case.folder.join(format!("eat-{attempt}")).exists() {
            eaten.push(vec![1_u8; 4 << 20]);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let ended = async { client.execute("UPDATE runs SET ended = clock_timestamp() WHERE id = $1", &[&id]).await };
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(ended) => drop(ended?),
        Err(_) => println!("the database does not answer; the end of attempt {attempt} is in the log only"),
    }
    println!("attempt {attempt} is done");
    // Last of all: whoever reads it may take the run for over.
    case.write_down(&entry("end"))
}

async fn serve() -> Result<(), Failure> {
    let mut end = signal(SignalKind::terminate())?;
    let case = Case::own()?;
    let log = fs::read_to_string(case.folder.join("log")).unwrap_or_default();
    let ended =
        log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|entry| entry["event"] == "end");
    if !ended {
        let pod = std::env::var("HOSTNAME").unwrap_or_default();
        case.write_down(&json!({ "event": "early", "pod": pod }))?;
    }
    end.recv().await;
    Ok(())
}

/// A session of its own with the database that DATABASE_URL names.
async fn database() -> Result<Client, Failure> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("witness: the connection to the database ended: {error}");
        }
    });
    Ok(client)
}
