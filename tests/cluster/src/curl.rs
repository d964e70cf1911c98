//! curl, from Debian's package.

use std::path::PathBuf;

use crate::error::Result;
use crate::packages;

/// The program; it is installed first when this is the first time that anyone asks.
///
/// # Errors
/// When it is not there and can't be installed: no root, no apt-get, no network.
pub fn program() -> Result<PathBuf> {
    packages::ensure(packages::CURL)?;
    Ok("/usr/bin/curl".into())
}
