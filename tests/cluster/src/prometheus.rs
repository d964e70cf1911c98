//! A real Prometheus, from Debian's package, which is unpacked and not installed: an installation would start a service.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{self, command};
use crate::error::{At, Error, Result};
use crate::progress::step;
use crate::tools;

/// Where the machine has one, if it has one.
const INSTALLED: &str = "/usr/bin/prometheus";

/// The program; it is fetched first when this is the first time that anyone asks.
///
/// # Errors
/// When it is not there and can't be fetched: no apt-get, no network.
pub fn program() -> Result<PathBuf> {
    if Path::new(INSTALLED).exists() {
        return Ok(INSTALLED.into());
    }
    let cache = tools::cache_folder()?;
    fs::create_dir_all(&cache).at(&cache)?;
    let (unpacked, lock) = (cache.join("prometheus-debian"), cache.join("packages.lock"));
    let program = unpacked.join(INSTALLED.trim_start_matches('/'));
    let _lock = tools::wait_for_lock(&lock, "another process installs packages")?;
    if program.exists() {
        return Ok(program);
    }
    step("fetching Debian package: prometheus");
    let fresh = cache.join("prometheus-debian.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).at(&fresh)?;
    }
    fs::create_dir_all(&fresh).at(&fresh)?;
    command::run(command("apt-get").args(["update", "-q"]))?;
    command::run(command("apt-get").args(["download", "-q", "prometheus"]).current_dir(&fresh))?;
    let package = fs::read_dir(&fresh).at(&fresh)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = package.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.ok_or_else(|| Error::Invalid("apt-get download left no package behind".to_owned()))?;
    command::run(command("dpkg-deb").arg("-x").arg(&package).arg(&fresh))?;
    fs::remove_file(&package).at(&package)?;
    // Whoever finds the folder finds it whole.
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).at(&unpacked)?;
    }
    fs::rename(&fresh, &unpacked).at(&unpacked)?;
    Ok(program)
}
