//! Runs a command once among many starters: what stands behind `migration-gate run`.
//!
//! A [`Target`] says where the lock and the history are, [`place`] makes a [`Place`] of it, and a [`Wrapper`] does the
//! work: it waits for the place, takes the lock, looks whether the key was done, runs the command under a guard, and
//! records how it ended. The database drivers are in this crate alone, so that nothing else has to link them.

pub mod failure;
mod file;
pub mod guard;
pub mod history;
pub mod place;
mod rows;
mod running;
mod secrets;
mod session;
mod signals;
mod sql;
mod status;
mod table;
mod target;
mod waiting;
mod wrapper;

pub use failure::{Failure, Kind};
pub use history::Attempts;
pub use place::Place;
pub use secrets::Secrets;
pub use sql::TableName;
pub use status::status;
pub use target::{Scheme, Site, Target};
pub use wrapper::{EXIT_INTERRUPTED, Ended, How, LOST_GRACE_MAX, OnLost, Options, Wrapper};

/// Which kind of lock is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// The one that suits the place best.
    Native,
    /// A row of this table.
    Table(TableName),
}

/// The place that a target names; `None` for a Lease, which needs a client that this crate does not have.
///
/// # Errors
/// A lock table was asked for where there is none.
pub fn place(
    target: &Target,
    lock: &Lock,
    history: TableName,
    options: &Options,
) -> Result<Option<Box<dyn Place>>, Failure> {
    let (site, name) = (target.site.clone(), options.lock.clone());
    let place: Box<dyn Place> = match (site, lock) {
        (site @ (Site::Postgres(_) | Site::MySql(_)), Lock::Table(table)) => {
            Box::new(table::TableLock::new(site, table.clone(), history, name, options.owner.clone()))
        }
        (_, Lock::Table(_)) => {
            let sentence = "--lock-table is for postgres:// and mysql:// databases; what the URL names has a lock that \
                            is better";
            return Err(Failure::new(Kind::Usage, sentence));
        }
        (site @ (Site::Postgres(_) | Site::MySql(_)), Lock::Native) => {
            Box::new(session::SessionLock::new(site, name, options.owner.clone(), history))
        }
        (Site::Sqlite(path), Lock::Native) => Box::new(file::FileLock::beside_sqlite(path, history, name)),
        (Site::File(path), Lock::Native) => Box::new(file::FileLock::plain(path, name)),
        (Site::Lease { .. }, Lock::Native) => return Ok(None),
    };
    Ok(Some(place))
}

/// A token that no other process has.
pub fn random_hex() -> String {
    let mut bytes = [0; 16];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random_byte() -> u8 {
    let mut bytes = [0; 1];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes[0]
}
