//! What the machine must have, found out before anything is started.

use std::path::Path;

use crate::cgroup::Hierarchy;
use crate::command::{self, command};
use crate::error::{Error, Result};

/// What built programs, a node's images and its logs need at most.
const NEEDED_GIB: u64 = 6;

/// What every profile needs; `folders` are those that will be filled.
pub(crate) fn machine(folders: &[&Path]) -> Result<()> {
    architecture(std::env::consts::OS, std::env::consts::ARCH)?;
    folders.iter().try_for_each(|folder| space(folder))
}

/// What a node needs beyond that.
pub(crate) fn node() -> Result<Hierarchy> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::Preflight(
            "a node has to be started by root: it needs namespaces, mounts and control groups (try sudo)".into(),
        ));
    }
    for program in ["unshare", "nsenter", "setsid", "mount"] {
        if command(program).arg("--version").output().is_err() {
            return Err(Error::Preflight(format!("the program `{program}` is missing (Debian: util-linux, mount)")));
        }
    }
    Hierarchy::detect()
}

fn architecture(os: &str, architecture: &str) -> Result<()> {
    // aarch64 has everything that is used here, but nobody has tried it.
    if os == "linux" && matches!(architecture, "x86_64" | "aarch64") {
        return Ok(());
    }
    Err(Error::Preflight(format!("this machine is {os} on {architecture}; clusters run on Linux on x86_64 or aarch64")))
}

fn space(folder: &Path) -> Result<()> {
    let exists = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let shown = command::run(command("df").args(["--output=avail", "-B1"]).arg(exists))?;
    let free: Option<u64> = shown.lines().nth(1).and_then(|line| line.trim().parse().ok());
    enough(exists, free.unwrap_or(u64::MAX))
}

fn enough(folder: &Path, free: u64) -> Result<()> {
    const GIB: u64 = 1 << 30;
    if free >= NEEDED_GIB * GIB {
        return Ok(());
    }
    Err(Error::Preflight(format!(
        "{} has {:.1} GiB free, and {NEEDED_GIB} GiB are needed for programs, images and logs",
        folder.display(),
        free as f64 / GIB as f64
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_architecture_is_refused_in_one_sentence() {
        assert!(architecture("linux", "x86_64").is_ok());
        let message = architecture("linux", "riscv64").expect_err("nobody tried it").to_string();
        assert_eq!(message, "this machine is linux on riscv64; clusters run on Linux on x86_64 or aarch64");
    }

    #[test]
    fn too_little_space_is_said_with_numbers() {
        let message = enough(Path::new("/var/lib"), 1 << 29).expect_err("half a GiB is too little").to_string();
        assert_eq!(message, "/var/lib has 0.5 GiB free, and 6 GiB are needed for programs, images and logs");
        assert!(enough(Path::new("/"), 6 << 30).is_ok());
    }
}
