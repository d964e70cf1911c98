//! A control group for each node, in whichever version of control groups the machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{At, Error, Result};
use crate::process::Identity;

/// Where the machine's control groups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// One folder for each controller; a machine on its way to version 2 has that too, without controllers.
    V1 { controllers: Vec<PathBuf>, unified: Vec<PathBuf> },
    /// One folder for all.
    V2(PathBuf),
}

impl Hierarchy {
    /// Finds out from the mounts. A machine with both versions has its controllers in version 1.
    pub(crate) fn detect() -> Result<Self> {
        let file = Path::new("/proc/self/mountinfo");
        Self::from_mounts(&fs::read_to_string(file).at(file)?).ok_or_else(|| {
            Error::Preflight(
                "no control groups are mounted (/sys/fs/cgroup), and a kubelet can't work without them".into(),
            )
        })
    }

    fn from_mounts(mounts: &str) -> Option<Self> {
        let mounted = |kind: &str| -> Vec<PathBuf> {
            let fields = mounts.lines().filter_map(|line| line.split_once(" - "));
            fields
                .filter(|(_, right)| right.split(' ').next() == Some(kind))
                .filter_map(|(left, _)| left.split(' ').nth(4).map(PathBuf::from))
                .collect()
        };
        let (controllers, unified) = (mounted("cgroup"), mounted("cgroup2"));
        if !controllers.is_empty() {
            return Some(Self::V1 { controllers, unified });
        }
        unified.into_iter().next().map(Self::V2)
    }

    /// Makes the group `name` in every controller, fit to hold containers.
    pub(crate) fn create(&self, name: &str) -> Result<()> {
        match self {
            Self::V1 { controllers, .. } => {
                for folder in controllers.iter().map(|controller| controller.join(name)) {
                    fs::create_dir_all(&folder).at(&folder)?;
                    copy_cpuset(&folder)?;
                }
                Ok(())
            }
            Self::V2(root) => {
                enable_controllers(root)?;
                let folder = root.join(name);
                fs::create_dir_all(&folder).at(&folder)?;
                enable_controllers(&folder)
            }
        }
    }

    /// Ends what is left in the group and removes it.
    pub(crate) fn remove(&self, name: &str) {
        let parents = match self {
            // runc makes groups of the same name in version 2 as well.
            Self::V1 { controllers, unified } => [controllers.as_slice(), unified.as_slice()].concat(),
            Self::V2(root) => vec![root.clone()],
        };
        for folder in parents.iter().map(|parent| parent.join(name)) {
            // Groups of containers that are just being ended are busy for a moment.
            for _ in 0..100 {
                if !folder.exists() || remove_tree(&folder) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Version 1: a new cpuset holds no processor and no memory, and so no process, until it is given some.
fn copy_cpuset(folder: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = folder.join(file);
        let Some(parent) = folder.parent().map(|parent| parent.join(file)).filter(|_| own.exists()) else { continue };
        let value = fs::read_to_string(&parent).at(&parent)?;
        fs::write(&own, value.trim()).at(&own)?;
    }
    Ok(())
}

/// Version 2: controllers have to be handed down from each level to the next.
fn enable_controllers(folder: &Path) -> Result<()> {
    let available = folder.join("cgroup.controllers");
    let enabled = folder.join("cgroup.subtree_control");
    for controller in fs::read_to_string(&available).at(&available)?.split_whitespace() {
        // One that can't be handed down (cpu with real-time processes) may still not be needed.
        let _ = fs::write(&enabled, format!("+{controller}"));
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> bool {
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&child.path());
        }
    }
    for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Some(process) = pid.parse().ok().and_then(Identity::of) {
            process.signal(rustix::process::Signal::KILL);
        }
    }
    fs::remove_dir(folder).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 23 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
31 23 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 23 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
41 23 0:37 / /cgroup rw,relatime - tmpfs cgroup rw";

    #[test]
    fn controllers_of_version_1_come_first() {
        let controllers = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"].map(PathBuf::from).to_vec();
        let unified = vec![PathBuf::from("/sys/fs/cgroup/unified")];
        assert_eq!(Hierarchy::from_mounts(V1), Some(Hierarchy::V1 { controllers, unified }));
    }

    #[test]
    fn version_2_is_one_folder() {
        let mounts = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(Hierarchy::from_mounts(mounts), Some(Hierarchy::V2("/sys/fs/cgroup".into())));
        assert_eq!(Hierarchy::from_mounts("1 1 0:1 / / rw - ext4 /dev/vda rw"), None);
    }
}
