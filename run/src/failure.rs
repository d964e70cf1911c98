//! Why nothing was run, or why what ran could not be recorded: a sentence for people and a kind for scripts.

use std::fmt;

/// What a failure means to who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The arguments or the URL make no sense.
    Usage,
    /// The server or the API can't be reached, or is starting or stopping; the same may succeed later.
    Unreachable,
    /// What is needed does not exist or is unfit: the database, a certificate, a file that is no database.
    Unfit,
    /// A password is wrong or a right is missing.
    Denied,
    /// The history can't be written: the disk is full, or the server takes no writes.
    Unwritable,
    /// What ran could not be recorded.
    Unrecorded,
    /// The lock was not had in the time given.
    Busy,
    /// The lock was lost, or the server moved the session elsewhere.
    Lost,
    /// The operating system refused something.
    System,
    /// A defect of this program, or an answer that it does not understand.
    Defect,
}

/// A failure.
#[derive(Clone, Debug)]
pub struct Failure {
    /// For scripts.
    pub kind: Kind,
    /// For people; holds no secret.
    pub sentence: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Failure {
        Failure { kind, sentence: sentence.into() }
    }

    /// The same, with a sentence that says first what was being done.
    pub fn during(self, what: &str) -> Failure {
        Failure { sentence: format!("{what}: {}", self.sentence), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// Says what an error of a driver means.
pub(crate) fn of_driver(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(refusal) => of_server(refusal.as_ref()),
        // What rustls has against a certificate comes as this.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => of_tls(error),
        sqlx::Error::Io(error) => {
            let sentence = match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
                _ => error.to_string(),
            };
            Failure::new(Kind::Unreachable, sentence)
        }
        sqlx::Error::Tls(error) => of_tls(error),
        sqlx::Error::Configuration(error) => Failure::new(Kind::Unfit, error.to_string()),
        sqlx::Error::WorkerCrashed => Failure::new(Kind::Lost, "the connection is broken"),
        other => Failure::new(Kind::Defect, other.to_string()),
    }
}

fn of_tls(error: &dyn fmt::Display) -> Failure {
    Failure::new(
        Kind::Unfit,
        format!("no TLS connection: {error}; see sslmode and sslrootcert (ssl-mode and ssl-ca for MySQL) of the URL"),
    )
}

/// The server's own codes: PostgreSQL's SQLSTATEs (its manual, appendix A), MySQL's and MariaDB's error numbers, and
/// SQLite's result codes.
fn of_server(refusal: &dyn sqlx::error::DatabaseError) -> Failure {
    let text = refusal.message();
    if let Some(error) = refusal.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return of_mysql(error.number(), text);
    }
    let code = refusal.code().unwrap_or_default();
    if refusal.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        return of_sqlite(&code, text);
    }
    let (kind, remedy) = match code.as_ref() {
        "28P01" | "28000" => (Kind::Denied, "check the user and the password, or pg_hba.conf"),
        "42501" => (Kind::Denied, "grant the right, or choose another place with --history-table SCHEMA.NAME"),
        "3D000" => (Kind::Unfit, "create the database first"),
        "3F000" | "42P01" => (Kind::Unfit, "create the schema first"),
        "25006" => (Kind::Unwritable, "use the primary, and a user whose transactions may write"),
        "53100" => (Kind::Unwritable, "make room on the server's disk"),
        "53300" | "53200" | "57P01" | "57P02" | "57P03" | "57P05" => (Kind::Unreachable, ""),
        code if code.starts_with("08") => (Kind::Unreachable, ""),
        // A statement was prepared in another session, or somebody else's is there already.
        "26000" | "42P05" => (Kind::Unfit, POOLER),
        _ => (Kind::Defect, ""),
    };
    with_remedy(kind, text, remedy)
}

/// What a session lock behind a pooler meets.
pub(crate) const POOLER: &str = "the connection goes through a pooler in transaction mode, where session locks do not hold; connect to the \
     server itself, or use --lock-table NAME";

fn of_mysql(number: u16, text: &str) -> Failure {
    let (kind, remedy) = match number {
        1045 | 1044 | 1698 => (Kind::Denied, "check the user, the password and the host that it may come from"),
        1142 | 1143 | 1227 | 1370 => (Kind::Denied, "grant the right to create and write the table"),
        1049 => (Kind::Unfit, "create the database first"),
        1290 | 1792 | 1836 | 3100 => (Kind::Unwritable, "use a server that takes writes"),
        1021 | 1114 | 3 | 1026 | 1030 => (Kind::Unwritable, "make room on the server's disk"),
        1040 | 1203 | 1053 | 1077 | 1079 | 1152 | 1184 | 1927 => (Kind::Unreachable, ""),
        _ => (Kind::Defect, ""),
    };
    with_remedy(kind, text, remedy)
}

fn of_sqlite(code: &str, text: &str) -> Failure {
    // Extended codes hold the plain one in their low byte (sqlite.org/rescode.html).
    let (kind, remedy) = match code.parse::<u32>().unwrap_or_default() & 0xff {
        3 | 23 => (Kind::Denied, "the file's rights forbid it"),
        8 => (Kind::Unwritable, "the file, or the folder that it is in, can't be written"),
        13 => (Kind::Unwritable, "make room on the disk"),
        10 => (Kind::Unwritable, ""),
        14 => (Kind::Unfit, "the folder must exist, and be open to this user"),
        26 | 11 => (Kind::Unfit, "the file is no SQLite database, or a broken one"),
        5 | 6 => (Kind::Unreachable, "another program keeps the database locked"),
        _ => (Kind::Defect, ""),
    };
    with_remedy(kind, text, remedy)
}

fn with_remedy(kind: Kind, text: &str, remedy: &str) -> Failure {
    match remedy {
        "" => Failure::new(kind, text),
        remedy => Failure::new(kind, format!("{text}: {remedy}")),
    }
}
