//! Release 2's migration, made longer: it waits for a lock that the test has.

use demo::{Error, Result, Shop};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

/// The lock. Release 2's migration starts, and doesn't end before it is released.
pub struct Hold {
    runtime: Runtime,
    session: Client,
}

impl Hold {
    /// Takes the lock.
    pub fn of(shop: &Shop<'_>) -> Result<Hold> {
        let url = shop.site.database.url_of(&shop.namespace);
        let system = |error| Error::System { what: "the test's own session".to_owned(), error };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(system)?;
        let session = runtime.block_on(async {
            let (session, connection) = tokio_postgres::connect(&url, NoTls).await?;
            // It ends with the session, which says on its own what went wrong.
            tokio::spawn(connection);
            session.batch_execute("SELECT pg_advisory_lock(2)").await?;
            Ok(session)
        });
        let session = session.map_err(|error: tokio_postgres::Error| Error::Broken(format!("no lock: {error}")))?;
        Ok(Hold { runtime, session })
    }

    /// Lets the migration end.
    pub fn release(self) -> Result<()> {
        let done = self.runtime.block_on(self.session.batch_execute("SELECT pg_advisory_unlock(2)"));
        done.map_err(|error| Error::Broken(format!("the lock was lost: {error}")))
    }
}
