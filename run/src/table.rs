//! The lock as a row with an owner, a heartbeat and an expiry: for databases behind a pooler in transaction mode.
//!
//! It promises less than a session lock: the server can't know whether the owner is alive, only how long it was silent,
//! so an owner that is stopped for longer than that (a frozen machine) may go on beside its successor for a moment when
//! it wakes. All times are the server's; an owner counts its own silence with its own clock from before each heartbeat.

use std::time::{Duration, Instant};

use crate::failure::{Failure, Kind};
use crate::history::Run;
use crate::place::{Attempt, Later, Pace, Place, Which};
use crate::rows::{Rows, in_transaction};
use crate::sql::{Connection, Dialect, Session, TableName, Value};
use crate::target::Site;

/// How long an owner may be silent. The three values are those of Kubernetes' leader election.
const EXPIRY: Duration = Duration::from_secs(15);
/// How long an owner goes on without a heartbeat that succeeded.
const DEADLINE: Duration = Duration::from_secs(10);
const PACE: Pace = Pace {
    poll: Duration::from_millis(500),
    check: Duration::from_secs(2),
    look: Duration::from_millis(1000),
    watchdog: Some(DEADLINE),
};

/// A row that has the lock or wants it.
pub(crate) struct TableLock {
    site: Site,
    table: TableName,
    name: String,
    owner: String,
    rows: Rows,
    connection: Option<Connection>,
    renewed: Option<Instant>,
    made: bool,
}

impl TableLock {
    pub(crate) fn new(site: Site, table: TableName, history: TableName, name: String, owner: String) -> TableLock {
        let rows = Rows::new(history, name.clone(), Session::Pooled);
        TableLock { site, table, name, owner, rows, connection: None, renewed: None, made: false }
    }

    /// The connection, made again if it was lost: no lock depends on it.
    async fn open(&mut self) -> Result<&mut Connection, Failure> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.site, Session::Pooled).await?);
        }
        self.connection.as_mut().ok_or_else(crate::session::no_connection)
    }

    /// Does it on the connection, and drops that if it failed: it may be of no use any more.
    async fn with<T>(
        &mut self,
        doing: impl AsyncFnOnce(&mut Connection, &Rows) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.open().await?;
        let Some(connection) = &mut self.connection else { return Err(crate::session::no_connection()) };
        let done = doing(connection, &self.rows).await;
        if done.is_err() {
            self.connection = None;
        }
        done
    }

    async fn make(&mut self) -> Result<(), Failure> {
        if self.made {
            return Ok(());
        }
        let (table, name) = (self.table.clone(), self.name.clone());
        let made = self.with(async |connection, _| {
            let quoted = connection.quote(&table);
            let short = if connection.dialect() == Dialect::MySql { "VARCHAR(255)" } else { "TEXT" };
            let exists = format!("SELECT COUNT(*) FROM {quoted} WHERE name = ?");
            let there = |found: Result<Option<i64>, Failure>| found.ok().flatten();
            let ask = async |connection: &mut Connection| connection.number(&exists, &[name.as_str().into()]).await;
            let found = there(in_transaction(connection, Session::Pooled, ask).await);
            if found.is_none() {
                connection
                    .batch(&format!(
                        "CREATE TABLE IF NOT EXISTS {quoted} (name {short} NOT NULL PRIMARY KEY, owner {short} NOT \
                         NULL, heartbeat_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL)"
                    ))
                    .await
                    // Several may come at once, and PostgreSQL lets one of them fail.
                    .or_else(|failure| if failure.kind == Kind::Defect { Ok(()) } else { Err(failure) })?;
            }
            if found.unwrap_or(0) == 0 {
                let insert =
                    format!("INSERT INTO {quoted} (name, owner, heartbeat_ms, expires_ms) VALUES (?, '', 0, 0)");
                let values = [name.as_str().into()];
                let add = async |connection: &mut Connection| connection.execute(&insert, &values).await;
                match in_transaction(connection, Session::Pooled, add).await {
                    // Somebody else was faster.
                    Err(failure) if failure.kind != Kind::Defect => return Err(failure),
                    _ => {}
                }
            }
            Ok(())
        });
        made.await.map_err(|failure| failure.during(&format!("can't make the lock table {}", self.table)))?;
        self.made = true;
        Ok(())
    }

    /// Writes the row, if it is free or ours (to take it) or ours (to keep it).
    async fn write(&mut self, whose: &str, owner: &str, lasts: Duration) -> Result<bool, Failure> {
        let (table, name) = (self.table.clone(), self.name.clone());
        let owner = owner.to_owned();
        let started = Instant::now();
        let mine = self.owner.clone();
        let changed = self.with(async |connection, _| {
            let now = now(connection.dialect());
            let sql = format!(
                "UPDATE {} SET owner = ?, heartbeat_ms = {now}, expires_ms = {now} + ? WHERE name = ? AND {}",
                connection.quote(&table),
                whose.replace("NOW", now),
            );
            let lasts = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
            let values: [Value; 4] = [owner.as_str().into(), lasts.into(), name.as_str().into(), mine.as_str().into()];
            let update = async |connection: &mut Connection| connection.execute(&sql, &values).await;
            in_transaction(connection, Session::Pooled, update).await
        });
        let ours =
            changed.await.map_err(|failure| failure.during(&format!("can't write the lock table {}", self.table)))? > 0;
        if ours {
            // From before the request: the deadline must pass for us before the expiry passes for others.
            self.renewed = Some(started);
        }
        Ok(ours)
    }

    async fn take(&mut self) -> Result<Attempt, Failure> {
        self.make().await?;
        let owner = self.owner.clone();
        // Behind a pooler of replicas the write fails by itself.
        Ok(match self.write("(owner = ? OR owner = '' OR expires_ms < NOW)", &owner, EXPIRY).await? {
            true => Attempt::Taken,
            false => Attempt::Busy,
        })
    }

    async fn renew(&mut self) -> Result<(), Failure> {
        let owner = self.owner.clone();
        match self.write("owner = ?", &owner, EXPIRY).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(Kind::Lost, "another process has taken over the row, which had expired")),
            Err(failure) if self.renewed.is_some_and(|renewed| renewed.elapsed() + PACE.check < DEADLINE) => {
                // There is time for another try.
                let _ = failure;
                Ok(())
            }
            Err(failure) => Err(failure.during("no heartbeat could be written in time")),
        }
    }

    async fn release(&mut self) -> Result<(), Failure> {
        self.renewed = None;
        let done = self.write("owner = ?", "", Duration::ZERO).await;
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
        done.map(|_| ())
    }
}

/// The server's clock, in milliseconds since 1970.
fn now(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "(extract(epoch from clock_timestamp()) * 1000)::bigint",
        Dialect::MySql => "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)",
        Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    }
}

impl Place for TableLock {
    fn weakness(&self) -> Option<&'static str> {
        Some(
            "a lock table is weaker than a session lock: a holder that is frozen for 15 s can wake beside its \
             successor for a moment, and a holder that was killed is succeeded only 15 s later",
        )
    }

    fn pace(&self) -> Pace {
        PACE
    }

    fn connect(&mut self) -> Later<'_, ()> {
        Box::pin(async move {
            self.connection = None;
            self.open().await.map(|_| ())
        })
    }

    fn try_lock(&mut self) -> Later<'_, Attempt> {
        Box::pin(self.take())
    }

    fn check(&mut self) -> Later<'_, ()> {
        Box::pin(self.renew())
    }

    fn unlock(&mut self) -> Later<'_, ()> {
        Box::pin(self.release())
    }

    fn runs<'a>(&'a mut self, which: Which<'a>) -> Later<'a, Vec<Run>> {
        Box::pin(self.with(async move |connection, rows| rows.list(connection, which).await))
    }

    fn prepare(&mut self) -> Later<'_, ()> {
        Box::pin(self.with(async |connection, rows| rows.prepare(connection).await))
    }

    fn begin<'a>(&'a mut self, run: &'a mut Run) -> Later<'a, ()> {
        Box::pin(self.with(async move |connection, rows| rows.begin(connection, run).await))
    }

    fn finish<'a>(&'a mut self, run: &'a Run) -> Later<'a, ()> {
        Box::pin(self.with(async move |connection, rows| rows.finish(connection, run).await))
    }

    fn forget<'a>(&'a mut self, key: &'a str) -> Later<'a, u64> {
        Box::pin(self.with(async move |connection, rows| rows.forget(connection, key).await))
    }
}
