//! The history as a table of a database.

use crate::failure::{Failure, Kind};
use crate::history::{KEYLESS_KEPT, Run, State, VERSION};
use crate::place::Which;
use crate::sql::{Column, Connection, Dialect, Session, TableName, Value};

/// The columns, in the order in which they are written and read.
const COLUMNS: &str = "id, lock_name, run_key, state, attempt, exit_code, owner, host, started_ms, ended_ms, \
                       handover_ms, tail, version";
const KINDS: [Column; 13] = [
    Column::Number,
    Column::Text,
    Column::Text,
    Column::Text,
    Column::Number,
    Column::Number,
    Column::Text,
    Column::Text,
    Column::Number,
    Column::Number,
    Column::Number,
    Column::Text,
    Column::Number,
];

/// The table of the runs of one lock.
pub(crate) struct Rows {
    table: TableName,
    lock: String,
    session: Session,
}

impl Rows {
    pub(crate) fn new(table: TableName, lock: String, session: Session) -> Rows {
        Rows { table, lock, session }
    }

    /// Makes the table, if there is none.
    pub(crate) async fn prepare(&self, connection: &mut Connection) -> Result<(), Failure> {
        // A user who may not create tables can still use one that somebody else made.
        if self.exists(connection).await? {
            return Ok(());
        }
        let (text, short) = match connection.dialect() {
            Dialect::MySql => ("TEXT", "VARCHAR(255)"),
            Dialect::Postgres | Dialect::Sqlite => ("TEXT", "TEXT"),
        };
        let number = "BIGINT";
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {table} (id {number} NOT NULL PRIMARY KEY, lock_name {short} NOT NULL, \
             run_key {short} NOT NULL, state {short} NOT NULL, attempt {number} NOT NULL, exit_code {number}, \
             owner {short} NOT NULL, host {short} NOT NULL, started_ms {number} NOT NULL, ended_ms {number}, \
             handover_ms {number} NOT NULL, tail {text} NOT NULL, version {number} NOT NULL)",
            table = connection.quote(&self.table),
        );
        connection.batch(&sql).await.map_err(|failure| self.during("can't make", failure))
    }

    /// The runs of this lock.
    pub(crate) async fn list(&self, connection: &mut Connection, which: Which<'_>) -> Result<Vec<Run>, Failure> {
        if !self.exists(connection).await? {
            return Ok(Vec::new());
        }
        let table = connection.quote(&self.table);
        let mut sql = format!("SELECT {COLUMNS} FROM {table} WHERE lock_name = ?");
        let mut values = vec![Value::from(self.lock.as_str())];
        match which {
            Which::All => {}
            Which::Key(key) => {
                sql.push_str(" AND run_key = ?");
                values.push(key.into());
            }
            Which::Open => sql.push_str(" AND state = 'running'"),
        }
        sql.push_str(" ORDER BY id");
        let rows = self.in_transaction(connection, async |connection| connection.rows(&sql, &values, &KINDS).await);
        let rows = rows.await.map_err(|failure| self.during("can't read", failure))?;
        rows.into_iter().map(|row| self.read(row)).collect()
    }

    /// Adds a run, and gives it its number.
    pub(crate) async fn begin(&self, connection: &mut Connection, run: &mut Run) -> Result<(), Failure> {
        let table = connection.quote(&self.table);
        let next = format!("SELECT COALESCE(MAX(id), 0) + 1 FROM {table}");
        let insert = format!("INSERT INTO {table} ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        let number = self.in_transaction(connection, async |connection| {
            let id = connection.number(&next, &[]).await?.unwrap_or(1);
            let values = [
                id.into(),
                run.lock.as_str().into(),
                run.key.as_str().into(),
                run.state.word().into(),
                run.attempt.into(),
                run.exit.into(),
                run.owner.as_str().into(),
                run.host.as_str().into(),
                run.started.into(),
                run.ended.into(),
                run.handover.into(),
                run.tail.as_str().into(),
                run.version.into(),
            ];
            connection.execute(&insert, &values).await?;
            Ok(id)
        });
        run.id = number.await.map_err(|failure| self.during("can't write", failure))?;
        Ok(())
    }

    /// Records how a run ended.
    pub(crate) async fn finish(&self, connection: &mut Connection, run: &Run) -> Result<(), Failure> {
        let table = connection.quote(&self.table);
        // The owner's own word counts even if a successor has called it interrupted meanwhile.
        let update = format!(
            "UPDATE {table} SET state = ?, exit_code = ?, ended_ms = ?, tail = ? WHERE id = ? AND owner = ? \
             AND state IN ('running', 'interrupted')"
        );
        let trim =
            format!("DELETE FROM {table} WHERE lock_name = ? AND run_key = '' AND id <= ? AND state <> 'running'");
        let values = [
            run.state.word().into(),
            run.exit.into(),
            run.ended.into(),
            run.tail.as_str().into(),
            run.id.into(),
            run.owner.as_str().into(),
        ];
        let done = self.in_transaction(connection, async |connection| {
            let changed = connection.execute(&update, &values).await?;
            if run.key.is_empty() {
                connection.execute(&trim, &[run.lock.as_str().into(), (run.id - KEYLESS_KEPT).into()]).await?;
            }
            Ok(changed)
        });
        match done.await.map_err(|failure| self.during("can't write", failure))? {
            // MySQL does not count a row whose values were so already.
            0 if connection.dialect() != Dialect::MySql => Err(Failure::new(
                Kind::Unwritable,
                format!("run {} is not in the table {} any more", run.id, self.table),
            )),
            _ => Ok(()),
        }
    }

    /// Drops the runs of a key.
    pub(crate) async fn forget(&self, connection: &mut Connection, key: &str) -> Result<u64, Failure> {
        if !self.exists(connection).await? {
            return Ok(0);
        }
        let table = connection.quote(&self.table);
        let delete = format!("DELETE FROM {table} WHERE lock_name = ? AND run_key = ?");
        let values = [self.lock.as_str().into(), key.into()];
        let done = self.in_transaction(connection, async |connection| connection.execute(&delete, &values).await);
        done.await.map_err(|failure| self.during("can't write", failure))
    }

    /// Whether the table is there. An error would end the transaction of a whole session, so it is asked for.
    async fn exists(&self, connection: &mut Connection) -> Result<bool, Failure> {
        let quoted = connection.quote(&self.table);
        let name = self.table.to_string();
        let (sql, value) = match connection.dialect() {
            Dialect::Postgres => ("SELECT (to_regclass(?) IS NOT NULL)::int::bigint", quoted.as_str().into()),
            Dialect::Sqlite => ("SELECT COUNT(*) FROM sqlite_master WHERE name = ?", name.as_str().into()),
            Dialect::MySql => (
                "SELECT COUNT(*) FROM information_schema.tables WHERE CONCAT(table_schema, '.', table_name) = ? \
                 OR (table_schema = DATABASE() AND table_name = ?)",
                name.as_str().into(),
            ),
        };
        let mut values: Vec<Value> = vec![value];
        if connection.dialect() == Dialect::MySql {
            values.push(name.as_str().into());
        }
        let found = self.in_transaction(connection, async |connection| connection.number(sql, &values).await);
        Ok(found.await.map_err(|failure| self.during("can't look for", failure))?.unwrap_or(0) > 0)
    }

    /// Behind a pooler, a statement and the preparing of it must not be parted.
    async fn in_transaction<T>(
        &self,
        connection: &mut Connection,
        doing: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        in_transaction(connection, self.session, doing).await
    }

    fn read(&self, row: Vec<Value>) -> Result<Run, Failure> {
        let mut row = row.into_iter();
        let number = |row: &mut dyn Iterator<Item = Value>| match row.next() {
            Some(Value::Number(number)) => number,
            _ => None,
        };
        let text = |row: &mut dyn Iterator<Item = Value>| match row.next() {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        };
        let row = &mut row;
        let id = number(row).unwrap_or_default();
        let (lock, key, word) = (text(row), text(row), text(row));
        let (attempt, exit) = (number(row).unwrap_or_default(), number(row));
        let (owner, host) = (text(row), text(row));
        let (started, ended) = (number(row).unwrap_or_default(), number(row));
        let (handover, tail, version) = (number(row).unwrap_or_default(), text(row), number(row).unwrap_or_default());
        if version > VERSION {
            return Err(Failure::new(
                Kind::Unfit,
                format!(
                    "the table {} holds rows of version {version}, which a newer migration-gate wrote; this one reads \
                     up to {VERSION}: use the newer one, or another --history-table",
                    self.table
                ),
            ));
        }
        let state = State::of_word(&word).ok_or_else(|| {
            Failure::new(Kind::Unfit, format!("the table {} holds a state that is not known: {word:?}", self.table))
        })?;
        let run = Run { id, lock, key, state, attempt, exit, owner, host, started, ended, handover, tail, version };
        Ok(run)
    }

    fn during(&self, what: &str, failure: Failure) -> Failure {
        failure.during(&format!("{what} the history table {}", self.table))
    }
}

/// Does it between BEGIN and COMMIT where a pooler hands out sessions by the transaction; else as it comes.
pub(crate) async fn in_transaction<T>(
    connection: &mut Connection,
    session: Session,
    doing: impl AsyncFnOnce(&mut Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if session == Session::Own {
        return doing(connection).await;
    }
    connection.batch("BEGIN").await?;
    match doing(connection).await {
        Ok(value) => connection.batch("COMMIT").await.map(|()| value),
        Err(failure) => {
            // The failure says more than whatever comes of this.
            let _ = connection.batch("ROLLBACK").await;
            Err(failure)
        }
    }
}
