//! The lock as a property of a database session: PostgreSQL's advisory lock, MySQL's and MariaDB's GET_LOCK.
//!
//! The server lets go of it when the session ends, however that happens, and at no other time: no clock is involved.
//! Who waits asks again and again instead of waiting in the server. A statement that waits for an advisory lock holds a
//! snapshot, and CREATE INDEX CONCURRENTLY waits for all snapshots: holder and waiters would wait for each other.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::failure::{Failure, Kind, POOLER};
use crate::history::Run;
use crate::place::{Attempt, Later, Pace, Place, Which};
use crate::rows::Rows;
use crate::sql::{Connection, Dialect, Session, TableName};
use crate::target::Site;

/// How the lock is polled and checked. The check is what shows the end of the session, so it is frequent: the command
/// must be over before a successor starts (see [`crate::wrapper`]).
const PACE: Pace = Pace {
    poll: Duration::from_millis(200),
    check: Duration::from_millis(200),
    look: Duration::from_millis(1000),
    watchdog: None,
};

/// MySQL can't be told to probe a silent client, so the session ends after [`MYSQL_SESSION`]'s 60 s of silence.
const MYSQL_WATCHDOG: Duration = Duration::from_secs(40);

/// A session that has the lock or wants it.
pub(crate) struct SessionLock {
    site: Site,
    name: String,
    /// A token of this process.
    owner: String,
    rows: Rows,
    connection: Option<Connection>,
    /// The server's number for the session at the moment when the lock was taken.
    holder: Option<i64>,
}

impl SessionLock {
    pub(crate) fn new(site: Site, name: String, owner: String, table: TableName) -> SessionLock {
        let rows = Rows::new(table, name.clone(), Session::Own);
        SessionLock { site, name, owner, rows, connection: None, holder: None }
    }

    fn open(&mut self) -> Result<&mut Connection, Failure> {
        self.connection.as_mut().ok_or_else(no_connection)
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        self.holder = None;
        self.connection = None;
        let mut connection = Connection::open(&self.site, Session::Own).await?;
        if connection.dialect() == Dialect::Postgres {
            connection.batch(POSTGRES_SESSION).await?;
        } else {
            connection.batch(MYSQL_SESSION).await?;
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn take(&mut self) -> Result<Attempt, Failure> {
        let (name, owner) = (self.name.clone(), self.owner.clone());
        let connection = self.open()?;
        let answer = match connection.dialect() {
            Dialect::Postgres => {
                let (key, owner) = (postgres_key(&name), owner.as_str());
                let values = [key.into(), owner.into(), key.into(), owner.into()];
                connection.number(TAKE_POSTGRES, &values).await?
            }
            _ => connection.number(TAKE_MYSQL, &[mysql_name(&name).as_str().into()]).await?,
        };
        self.holder = match answer {
            Some(session @ 1..) => Some(session),
            Some(REPLICA) => {
                return Err(Failure::new(
                    Kind::Unwritable,
                    "the server is a read-only replica, where a lock excludes nobody: use the primary",
                ));
            }
            Some(NO_LOCKS) => {
                return Err(Failure::new(
                    Kind::Unfit,
                    "the server is CockroachDB, whose advisory locks exclude nobody: use another place for the lock",
                ));
            }
            Some(HELD_ALREADY) => return Err(Failure::new(Kind::Unfit, POOLER)),
            _ => return Ok(Attempt::Busy),
        };
        if self.is_pooled().await {
            self.let_go_of_pooled().await;
            return Err(Failure::new(Kind::Unfit, POOLER));
        }
        Ok(Attempt::Taken)
    }

    /// It would stay with a session that others use, and keep everybody out. Each statement may meet another session, so
    /// it looks for the one with its name; and nothing is prepared for that.
    async fn let_go_of_pooled(&mut self) {
        let (key, owner) = (postgres_key(&self.name), self.owner.clone());
        let Ok(connection) = self.open() else { return };
        let let_go = format!(
            "SELECT CASE WHEN current_setting('migration_gate.owner', true) = '{owner}' THEN \
             pg_advisory_unlock({key}) AND set_config('migration_gate.owner', '', false) = '' END"
        );
        for _ in 0..LET_GO_TRIES {
            let _ = connection.batch(&let_go).await;
            tokio::time::sleep(LET_GO_PAUSE).await;
        }
    }

    /// Whether a second connection gets the session that has the lock: a pooler lends it to whoever comes next.
    async fn is_pooled(&self) -> bool {
        if !matches!(self.site, Site::Postgres(_)) {
            return false;
        }
        let probe = async {
            let mut second = Connection::open(&self.site, Session::Pooled).await?;
            let session = second.number(SESSION_POSTGRES, &[]).await;
            second.close().await;
            session
        };
        // What can't be found out must not keep anybody from working.
        let session = tokio::time::timeout(PROBE_PATIENCE, probe).await;
        matches!(session, Ok(Ok(Some(session))) if Some(session) == self.holder)
    }

    async fn look(&mut self) -> Result<(), Failure> {
        let (expected, owner) = (self.holder, self.owner.clone());
        let connection = self.open()?;
        let session = match connection.dialect() {
            Dialect::Postgres => connection.number(HOLDER_POSTGRES, &[owner.as_str().into()]).await?,
            _ => connection.number(SESSION_MYSQL, &[]).await?,
        };
        match session.is_some() && session == expected {
            true => Ok(()),
            false => Err(Failure::new(Kind::Lost, POOLER)),
        }
    }

    async fn release(&mut self) -> Result<(), Failure> {
        // The end of the session is the end of the lock, and certain; a statement might be refused.
        self.holder = None;
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
        Ok(())
    }
}

/// How often, and with which pauses, a session with the lock is looked for in a pool.
const LET_GO_TRIES: u32 = 40;
const LET_GO_PAUSE: Duration = Duration::from_millis(10);

/// How long the second connection may take: where there is no room for one, it is not made.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// The answers to an attempt, which is the number of the session if the lock was taken; any other means that it is held.
///
/// A replica has locks too, which exclude nobody on the primary.
const REPLICA: i64 = -1;
/// CockroachDB grants an advisory lock to everybody.
const NO_LOCKS: i64 = -2;
/// Somebody else has taken the lock in this very session, where the server gives it to everybody once more.
const HELD_ALREADY: i64 = -3;

/// Who takes the lock writes its name into the session, in the same statement. Values: the key, the name, the key and
/// the name.
const TAKE_POSTGRES: &str = "SELECT CASE WHEN version() LIKE 'CockroachDB%' THEN -2 WHEN pg_is_in_recovery() THEN -1 \
     WHEN NOT pg_try_advisory_lock(?) THEN 0 \
     WHEN COALESCE(current_setting('migration_gate.owner', true), '') NOT IN ('', ?) THEN \
     CASE WHEN pg_advisory_unlock(?) THEN -3 ELSE -3 END \
     WHEN set_config('migration_gate.owner', ?, false) IS NULL THEN 0 ELSE pg_backend_pid() END::bigint";
/// Some servers take `Shop` and `shop` for the same database.
const TAKE_MYSQL: &str = "SELECT CASE WHEN @@global.read_only THEN -1 \
     WHEN GET_LOCK(CONCAT(?, MD5(LOWER(COALESCE(DATABASE(), '')))), 0) = 1 THEN CAST(CONNECTION_ID() AS SIGNED) ELSE 0 END";

const SESSION_POSTGRES: &str = "SELECT pg_backend_pid()::bigint";
/// Nothing, if the session is not the one that was written into.
const HOLDER_POSTGRES: &str =
    "SELECT CASE WHEN current_setting('migration_gate.owner', true) = ? THEN pg_backend_pid() END::bigint";
const SESSION_MYSQL: &str = "SELECT CAST(CONNECTION_ID() AS SIGNED)";

/// The session must outlast any silence, and the server must notice a client that is gone, but not before the client
/// has noticed it itself and ended its command: 15 + 3 × 5 s. The settings that a server does not have are left out.
const POSTGRES_SESSION: &str = "SELECT set_config(name, CASE name WHEN 'tcp_keepalives_idle' THEN '15' \
     WHEN 'tcp_keepalives_interval' THEN '5' WHEN 'tcp_keepalives_count' THEN '3' ELSE '0' END, false) \
     FROM pg_settings WHERE name IN ('tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', \
     'idle_session_timeout', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')";

/// As above. The checks are what keeps the session from being silent for so long.
const MYSQL_SESSION: &str = "SET SESSION wait_timeout = 60, SESSION net_read_timeout = 60";

fn postgres_key(name: &str) -> i64 {
    i64::from_be_bytes(digest(name)[..8].try_into().unwrap_or_default())
}

fn digest(name: &str) -> [u8; 32] {
    Sha256::digest(format!("migration-gate run\0{name}")).into()
}

/// GET_LOCK's names are the server's, not the database's, and at most 64 characters long: the database's name follows
/// as 32 hex digits.
fn mysql_name(name: &str) -> String {
    let hex: String = digest(name)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("migration-gate:{hex}")
}

impl Place for SessionLock {
    fn pace(&self) -> Pace {
        match self.site {
            Site::MySql(_) => Pace { watchdog: Some(MYSQL_WATCHDOG), ..PACE },
            _ => PACE,
        }
    }

    fn connect(&mut self) -> Later<'_, ()> {
        Box::pin(self.reconnect())
    }

    fn try_lock(&mut self) -> Later<'_, Attempt> {
        Box::pin(self.take())
    }

    fn check(&mut self) -> Later<'_, ()> {
        Box::pin(self.look())
    }

    fn unlock(&mut self) -> Later<'_, ()> {
        Box::pin(self.release())
    }

    fn runs<'a>(&'a mut self, which: Which<'a>) -> Later<'a, Vec<Run>> {
        Box::pin(async move {
            let connection = self.connection.as_mut().ok_or_else(no_connection)?;
            self.rows.list(connection, which).await
        })
    }

    fn prepare(&mut self) -> Later<'_, ()> {
        Box::pin(async move {
            let connection = self.connection.as_mut().ok_or_else(no_connection)?;
            self.rows.prepare(connection).await
        })
    }

    fn begin<'a>(&'a mut self, run: &'a mut Run) -> Later<'a, ()> {
        Box::pin(async move {
            let connection = self.connection.as_mut().ok_or_else(no_connection)?;
            self.rows.begin(connection, run).await
        })
    }

    fn finish<'a>(&'a mut self, run: &'a Run) -> Later<'a, ()> {
        Box::pin(async move {
            let connection = self.connection.as_mut().ok_or_else(no_connection)?;
            self.rows.finish(connection, run).await
        })
    }

    fn forget<'a>(&'a mut self, key: &'a str) -> Later<'a, u64> {
        Box::pin(async move {
            let connection = self.connection.as_mut().ok_or_else(no_connection)?;
            self.rows.forget(connection, key).await
        })
    }
}

/// Nothing was connected yet, or it is broken.
pub(crate) fn no_connection() -> Failure {
    Failure::new(Kind::Unreachable, "there is no connection")
}
