//! A real Chromium without a screen, from Debian's package.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::packages;

/// Debian's two: the one that knows no screen is the smaller.
const PROGRAMS: [&str; 2] = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"];

/// The program; it is installed first when this is the first time that anyone asks.
///
/// # Errors
/// When it is not there and can't be installed: no root, no apt-get, no network.
pub fn program() -> Result<PathBuf> {
    packages::ensure(packages::CHROMIUM)?;
    let program = PROGRAMS.iter().map(PathBuf::from).find(|program| program.exists());
    program.ok_or_else(|| Error::Preflight("Chromium's package is installed, but its program is not there".into()))
}
