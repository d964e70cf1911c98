//! Where the lock and the history are: the URL, read once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::secrets::Secrets;

/// Where the lock and the history are.
#[derive(Clone)]
pub struct Target {
    /// Which of them.
    pub site: Site,
    secrets: Secrets,
}

/// A place that a URL can name.
#[derive(Clone)]
pub enum Site {
    /// A PostgreSQL database.
    Postgres(Box<PgConnectOptions>),
    /// A MySQL or MariaDB database.
    MySql(Box<MySqlConnectOptions>),
    /// A SQLite file, with a lock file beside it.
    Sqlite(PathBuf),
    /// A lock file, with a history file beside it.
    File(PathBuf),
    /// A Kubernetes Lease.
    Lease {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What kind of place a URL names, by its scheme alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// A server with databases.
    Database,
    /// A file on this machine.
    File,
    /// A Kubernetes Lease.
    Lease,
}

impl Scheme {
    /// Looks at the scheme; `None` if nothing can be locked there.
    pub fn of(url: &str) -> Option<Scheme> {
        match Driver::of(url.split_once(':')?.0)? {
            Driver::Postgres | Driver::MySql => Some(Scheme::Database),
            Driver::Sqlite | Driver::File => Some(Scheme::File),
            Driver::Lease => Some(Scheme::Lease),
        }
    }
}

enum Driver {
    Postgres,
    MySql,
    Sqlite,
    File,
    Lease,
}

impl Driver {
    fn of(scheme: &str) -> Option<Driver> {
        // SQLAlchemy names a driver too: postgresql+psycopg2://. Rails' and GeoDjango's names for them are schemes.
        Some(match scheme.trim().split('+').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" | "postgis" => Driver::Postgres,
            "mysql" | "mysql2" | "mariadb" | "trilogy" => Driver::MySql,
            "sqlite" | "sqlite3" => Driver::Sqlite,
            "file" => Driver::File,
            "lease" => Driver::Lease,
            _ => return None,
        })
    }
}

/// What a URL may be, for messages.
pub const ALLOWED: &str = "postgres://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE, sqlite:PATH, file:PATH, or \
                           lease:NAMESPACE/NAME";

/// A URL that names no place. Its text never quotes the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lock's URL {problem}; allowed: {ALLOWED}")]
pub struct TargetError {
    problem: String,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let bad = |problem: String| TargetError { problem };
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(bad(if text.is_empty() { "is empty".into() } else { "has no scheme".into() }));
        };
        match Driver::of(scheme) {
            Some(Driver::Postgres) => database("postgres", rest),
            Some(Driver::MySql) => database("mysql", rest),
            Some(Driver::Sqlite) => {
                path(rest).map(Site::Sqlite).map(Target::plain).ok_or_else(|| bad("names no file".into()))
            }
            Some(Driver::File) => {
                path(rest).map(Site::File).map(Target::plain).ok_or_else(|| bad("names no file".into()))
            }
            Some(Driver::Lease) => match rest.split_once('/') {
                Some((namespace, name)) if is_name(namespace) && is_name(name) => {
                    Ok(Target::plain(Site::Lease { namespace: namespace.to_owned(), name: name.to_owned() }))
                }
                _ => Err(bad("names no Lease: both names are lower-case letters, digits, '-' and '.'".into())),
            },
            // What stands there may be a part of a secret.
            None => Err(bad("has a scheme that is not known".into())),
        }
    }
}

fn database(scheme: &str, rest: &str) -> Result<Target, TargetError> {
    let bad = |problem: String| TargetError { problem };
    let url = Url::parse(&format!("{scheme}:{rest}")).map_err(|error| bad(format!("can't be read: {error}")))?;
    let secrets = Secrets::of(&url);
    // A driver's words may quote a value.
    let unfit = |error: sqlx::Error| bad(format!("can't be read: {}", secrets.hide(&error.to_string())));
    let site = match scheme {
        "postgres" => {
            let options = PgConnectOptions::from_str(url.as_str()).map_err(unfit)?;
            if options.get_database().is_none() && std::env::var_os("PGDATABASE").is_none() {
                return Err(bad("names no database".into()));
            }
            // Poolers don't know this parameter, and nothing here is a float.
            Site::Postgres(Box::new(options.extra_float_digits(None).application_name("migration-gate run")))
        }
        _ => {
            let options = MySqlConnectOptions::from_str(url.as_str()).map_err(unfit)?;
            if options.get_database().is_none() {
                return Err(bad("names no database".into()));
            }
            Site::MySql(Box::new(options))
        }
    };
    Ok(Target { site, secrets })
}

/// `PATH`, `//PATH` with an empty host, or `///PATH`; what follows a `?` is for the application's driver.
fn path(rest: &str) -> Option<PathBuf> {
    let rest = rest.split('?').next().unwrap_or_default();
    let path = rest.strip_prefix("//").unwrap_or(rest);
    // SQLAlchemy writes four slashes for an absolute path.
    let path = if path.starts_with("//") { &path[1..] } else { path };
    (!path.is_empty() && path != ":memory:" && !path.ends_with('/')).then(|| PathBuf::from(path))
}

/// Source: Kubernetes, names of objects: RFC 1123 subdomains.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 253 && text.chars().all(inner) && edge(text.chars().next()) && edge(text.chars().last())
}

impl Target {
    fn plain(site: Site) -> Target {
        Target { site, secrets: Secrets::default() }
    }

    /// What must not be shown.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.site {
            Site::Postgres(options) => {
                let database = options.get_database().unwrap_or_default();
                match options.get_socket() {
                    Some(socket) => write!(formatter, "PostgreSQL database {database} at {}", socket.display()),
                    None => {
                        let (host, port) = (options.get_host(), options.get_port());
                        write!(formatter, "PostgreSQL database {database} at {host}:{port}")
                    }
                }
            }
            Site::MySql(options) => {
                let database = options.get_database().unwrap_or_default();
                match options.get_socket() {
                    Some(socket) => write!(formatter, "MySQL database {database} at {}", socket.display()),
                    None => {
                        let (host, port) = (options.get_host(), options.get_port());
                        write!(formatter, "MySQL database {database} at {host}:{port}")
                    }
                }
            }
            Site::Sqlite(path) => write!(formatter, "SQLite database {}", path.display()),
            Site::File(path) => write!(formatter, "lock file {}", path.display()),
            Site::Lease { namespace, name } => write!(formatter, "Lease {namespace}/{name}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<Target>().map_or_else(|error| error.to_string(), |target| format!("{target:?}"))
    }

    #[test]
    fn urls_are_read_and_shown_without_their_secrets() {
        for (url, expected) in [
            ("postgres://app:Geheim42@db/orders", "Target(PostgreSQL database orders at db:5432)"),
            ("postgresql+psycopg2://app:Geheim42@db:6/o?sslmode=require", "Target(PostgreSQL database o at db:6)"),
            ("mysql2://app:Geheim42@db/orders", "Target(MySQL database orders at db:3306)"),
            ("mysql://app:Geheim42@db/orders", "Target(MySQL database orders at db:3306)"),
            ("mariadb+pymysql://app:Geheim42@db/orders", "Target(MySQL database orders at db:3306)"),
            ("sqlite:///srv/app.db", "Target(SQLite database /srv/app.db)"),
            ("sqlite:////srv/app.db", "Target(SQLite database /srv/app.db)"),
            ("sqlite:app.db?mode=rw", "Target(SQLite database app.db)"),
            ("file:/run/app.lock", "Target(lock file /run/app.lock)"),
            ("lease:shop/orders-db", "Target(Lease shop/orders-db)"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_without_quoting_it() {
        for url in [
            "",
            "Geheim42",
            "oracle://app:Geheim42@db/orders",
            "postgres://app:Geheim42@db:notaport/orders",
            "postgres://app:Geheim42@db/orders?sslmode=Geheim42",
            "mysql://app:Geheim42@db",
            "sqlite::memory:",
            "sqlite:",
            "file:/tmp/",
            "lease:Geheim42",
            "lease:Shop/Geheim42",
        ] {
            let said = shown(url);
            assert!(said.starts_with("the lock's URL") && said.contains("allowed:"), "{url}: {said}");
            assert!(!said.contains("Geheim42"), "{url}: {said}");
        }
    }
}
