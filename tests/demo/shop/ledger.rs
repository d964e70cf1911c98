//! What was run against the database, kept where it can't be overlooked.

use std::process::ExitCode;

use crate::{Failure, database};

/// The key of the advisory lock; two ledgers at once are what must never be.
const LOCK: i64 = 0x6d69_6772_6174_6500;

/// Runs a migration tool between two entries in the table `ledger`.
pub(crate) async fn ledger(command: &[String]) -> Result<ExitCode, Failure> {
    let client = database().await?;
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS ledger (id serial PRIMARY KEY, pod text, command text, started timestamptz DEFAULT clock_timestamp(), ended timestamptz, code int, overlapped boolean)",
        )
        .await?;
    let pod = std::env::var("HOSTNAME").unwrap_or_default();
    let alone: bool = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?.get(0);
    let entry: i32 = client
        .query_one(
            "INSERT INTO ledger (pod, command, overlapped) VALUES ($1, $2, $3) RETURNING id",
            &[&pod, &command.join(" "), &!alone],
        )
        .await?
        .get(0);
    let (program, arguments) = command.split_first().ok_or("no command was given")?;
    let status = tokio::process::Command::new(program).args(arguments).status().await?;
    let code = status.code().unwrap_or(-1);
    client.execute("UPDATE ledger SET ended = clock_timestamp(), code = $2 WHERE id = $1", &[&entry, &code]).await?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
