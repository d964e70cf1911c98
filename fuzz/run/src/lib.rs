//! The one question that the admission modules ask of the crate `run`, for a warning: what kind of place a URL names.

/// What kind of place a URL names.
pub enum Scheme {
    /// A database.
    Database,
    /// A Lease.
    Lease,
    /// A file.
    File,
}

impl Scheme {
    /// The kind, by the URL's scheme alone.
    pub fn of(url: &str) -> Option<Scheme> {
        match url.split(':').next()? {
            "postgres" | "postgresql" | "mysql" | "mariadb" => Some(Scheme::Database),
            "lease" => Some(Scheme::Lease),
            "sqlite" | "file" => Some(Scheme::File),
            _ => None,
        }
    }
}
