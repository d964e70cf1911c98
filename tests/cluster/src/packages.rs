//! Debian packages that the programs need beside them: installed by name, only when missing, saying so.

use std::path::Path;

use crate::command::{self, command};
use crate::error::{At, Error, Result};
use crate::progress::step;
use crate::tools;

/// A package, and a file that shows that it (or something as good) is there.
pub(crate) struct Package {
    name: &'static str,
    shows: &'static [&'static str],
}

/// What a node needs.
pub(crate) const NODE: &[Package] = &[
    Package { name: "runc", shows: &["/usr/sbin/runc", "/usr/bin/runc"] },
    Package { name: "containernetworking-plugins", shows: &["/usr/lib/cni/ptp"] },
    Package { name: "iptables", shows: &["/usr/sbin/iptables", "/sbin/iptables"] },
    Package { name: "nftables", shows: &["/usr/sbin/nft"] },
    Package { name: "iproute2", shows: &["/usr/sbin/ip", "/sbin/ip", "/bin/ip", "/usr/bin/ip"] },
    Package { name: "busybox-static", shows: &[] },
];

/// What a PostgreSQL server needs.
pub(crate) const POSTGRES: &[Package] = &[Package { name: "postgresql", shows: &[] }];

/// What sends a request from a command line.
pub(crate) const CURL: &[Package] = &[Package { name: "curl", shows: &["/usr/bin/curl"] }];

/// What looks at a page as a person's browser does, without a screen.
pub(crate) const CHROMIUM: &[Package] =
    &[Package { name: "chromium-headless-shell", shows: &["/usr/bin/chromium-headless-shell", "/usr/bin/chromium"] }];

impl Package {
    fn is_here(&self) -> bool {
        if self.shows.iter().any(|file| Path::new(file).exists()) {
            return true;
        }
        let mut query = command("dpkg-query");
        query.args(["-W", "-f", "${db:Status-Status}", self.name]);
        command::run(&mut query).is_ok_and(|status| status == "installed")
    }
}

/// Installs those that are missing.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().filter(|package| !package.is_here()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Preflight(format!(
            "these Debian packages are missing, and only root can install them: {names}"
        )));
    }
    if command("apt-get").arg("--version").output().is_err() {
        return Err(Error::Preflight(format!(
            "these programs are missing (named as Debian's packages), and there is no apt-get to install them: {names}"
        )));
    }
    step(format!("installing Debian packages: {names}"));
    // Two test processes may find the same package missing.
    let cache = tools::cache_folder()?;
    std::fs::create_dir_all(&cache).at(&cache)?;
    let _lock = tools::wait_for_lock(&cache.join("packages.lock"), "another process installs packages")?;
    command::run(apt().args(["update", "-q"]))?;
    command::run(apt().args(["install", "-y", "-q", "--no-install-recommends"]).args(&missing))?;
    Ok(())
}

fn apt() -> std::process::Command {
    let mut apt = command("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300"]);
    apt
}
