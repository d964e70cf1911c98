//! One connection to any of the three databases, for the few kinds of values and statements that are needed here.

use std::path::Path;
use std::time::Duration;

use sqlx::database::HasStatementCache;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Database, Encode, Row, Type};

use crate::failure::{Failure, Kind, of_driver};
use crate::target::Site;

/// How long one statement may take, the lock's connection being silent for longer than that counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How long making a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long SQLite waits for another program's transaction.
const SQLITE_PATIENCE: Duration = Duration::from_secs(10);

/// A value to or from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Value {
        Value::Number(number)
    }
}

/// What a column of an answer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Column {
    Text,
    Number,
}

/// The differences in the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    MySql,
    Sqlite,
}

/// Whether statements may be prepared for the session: behind a pooler each transaction has another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    Own,
    Pooled,
}

enum Driver {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

/// A connection.
pub(crate) struct Connection {
    driver: Driver,
    session: Session,
}

/// Does the same with any driver.
macro_rules! with {
    ($driver:expr, $connection:ident => $body:expr) => {
        match $driver {
            Driver::Postgres($connection) => $body,
            Driver::MySql($connection) => $body,
            Driver::Sqlite($connection) => $body,
        }
    };
}

impl Connection {
    /// Connects to a server.
    pub(crate) async fn open(site: &Site, session: Session) -> Result<Connection, Failure> {
        let connecting = async {
            match site {
                Site::Postgres(options) => postgres(options, session).await,
                Site::MySql(options) => mysql(options).await,
                Site::Sqlite(path) => sqlite(path).await,
                Site::File(_) | Site::Lease { .. } => unreachable!("no database"),
            }
        };
        let driver = in_time(CONNECT_PATIENCE, "the server did not answer", connecting).await?;
        Ok(Connection { driver, session })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.driver {
            Driver::Postgres(_) => Dialect::Postgres,
            Driver::MySql(_) => Dialect::MySql,
            Driver::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Runs a statement with `?` for its values; returns the number of rows that it changed.
    pub(crate) async fn execute(&mut self, sql: &str, values: &[Value]) -> Result<u64, Failure> {
        let sql = AssertSqlSafe(self.spell(sql));
        let (keep, patience) = (self.session == Session::Own, self.patience());
        let running = async {
            with!(&mut self.driver, connection => {
                let query = query(sql, values, keep);
                Ok(query.execute(connection).await?.rows_affected())
            })
        };
        in_time(patience, "the server did not answer", running).await
    }

    /// Asks for rows with these columns.
    pub(crate) async fn rows(
        &mut self,
        sql: &str,
        values: &[Value],
        columns: &[Column],
    ) -> Result<Vec<Vec<Value>>, Failure> {
        let sql = AssertSqlSafe(self.spell(sql));
        let (keep, patience) = (self.session == Session::Own, self.patience());
        let running = async {
            with!(&mut self.driver, connection => {
                let query = query(sql, values, keep);
                let mut rows = Vec::new();
                for row in query.fetch_all(connection).await? {
                    let value = |(at, column): (usize, &Column)| match column {
                        Column::Text => row.try_get::<Option<String>, _>(at).map(|t| Value::Text(t.unwrap_or_default())),
                        Column::Number => row.try_get::<Option<i64>, _>(at).map(Value::Number),
                    };
                    rows.push(columns.iter().enumerate().map(value).collect::<Result<Vec<_>, _>>()?);
                }
                Ok(rows)
            })
        };
        in_time(patience, "the server did not answer", running).await
    }

    /// Asks for one number.
    pub(crate) async fn number(&mut self, sql: &str, values: &[Value]) -> Result<Option<i64>, Failure> {
        let rows = self.rows(sql, values, &[Column::Number]).await?;
        match rows.into_iter().next().and_then(|row| row.into_iter().next()) {
            Some(Value::Number(number)) => Ok(number),
            _ => Ok(None),
        }
    }

    /// Runs statements without values, in the simple protocol.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        let patience = self.patience();
        let sql = AssertSqlSafe(sql.to_owned());
        let running = async {
            with!(&mut self.driver, connection => {
                sqlx::raw_sql(sql).execute(connection).await?;
                Ok(())
            })
        };
        in_time(patience, "the server did not answer", running).await
    }

    /// Tells the server that this was all.
    pub(crate) async fn close(self) {
        // It is over in any case: nobody needs to know.
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            with!(self.driver, connection => { let _ = connection.close().await; })
        })
        .await;
    }

    /// A table's name, as the dialect quotes it. The parts hold nothing that would end a quotation.
    pub(crate) fn quote(&self, table: &TableName) -> String {
        let quote = if self.dialect() == Dialect::MySql { '`' } else { '"' };
        let parts: Vec<_> = table.0.split('.').map(|part| format!("{quote}{part}{quote}")).collect();
        parts.join(".")
    }

    fn patience(&self) -> Duration {
        if self.dialect() == Dialect::Sqlite { SQLITE_PATIENCE + PATIENCE } else { PATIENCE }
    }

    /// PostgreSQL numbers its parameters.
    fn spell(&self, sql: &str) -> String {
        if self.dialect() != Dialect::Postgres {
            return sql.to_owned();
        }
        let mut parts = sql.split('?');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.zip(1..).fold(first, |sql, (part, number)| format!("{sql}${number}{part}"))
    }
}

/// A statement with its values.
fn query<'q, DB>(sql: AssertSqlSafe<String>, values: &[Value], keep: bool) -> Query<'q, DB, DB::Arguments>
where
    String: Encode<'q, DB> + Type<DB>,
    Option<i64>: Encode<'q, DB> + Type<DB>,
    DB: Database + HasStatementCache,
{
    values.iter().fold(sqlx::query(sql).persistent(keep), |query, value| match value {
        Value::Text(text) => query.bind(text.clone()),
        Value::Number(number) => query.bind(*number),
    })
}

async fn postgres(options: &PgConnectOptions, session: Session) -> Result<Driver, sqlx::Error> {
    let options = match session {
        Session::Own => options.clone(),
        Session::Pooled => options.clone().statement_cache_capacity(0),
    };
    Ok(Driver::Postgres(options.disable_statement_logging().connect().await?))
}

async fn mysql(options: &MySqlConnectOptions) -> Result<Driver, sqlx::Error> {
    // A strict mode is the server's business; what is set otherwise would meet a proxy's other sessions.
    let options = options.clone().pipes_as_concat(false).no_engine_substitution(false).timezone(None);
    Ok(Driver::MySql(options.disable_statement_logging().connect().await?))
}

async fn sqlite(path: &Path) -> Result<Driver, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).busy_timeout(SQLITE_PATIENCE);
    Ok(Driver::Sqlite(options.disable_statement_logging().connect().await?))
}

/// Gives up after so long; the connection is then of no use any more.
async fn in_time<T>(
    patience: Duration,
    what: &str,
    doing: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(patience, doing).await {
        Ok(done) => done.map_err(|error| of_driver(&error)),
        Err(_) => Err(Failure::new(Kind::Unreachable, format!("{what} within {} s", patience.as_secs()))),
    }
}

/// The name of a table: letters, digits and underscores, with its schema before a dot if need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName(String);

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<TableName, String> {
        let fits = |part: &str| {
            part.len() <= 63
                && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        match text.split('.').count() <= 2 && text.split('.').all(fits) {
            true => Ok(TableName(text.to_owned())),
            false => Err("a table's name is letters, digits and underscores, at most 63, with its schema and a dot \
                          before it if need be"
                .to_owned()),
        }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}
