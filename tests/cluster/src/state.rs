//! What is written down about each cluster, so that any later process can find it again or clear it away.
//!
//! One folder holds a folder for each cluster; everything that the cluster writes is in there. A cluster
//! belongs to the process that booted it, unless it was told to stay. The state file is written before
//! and after each thing that would be left behind by a crash.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Hierarchy;
use crate::component::Component;
use crate::error::{At, Error, Result};
use crate::network::{self, Plan};
use crate::process::Identity;
use crate::progress::step;
use crate::sandbox::Place;
use crate::{Options, Profile};

/// Where a component runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Site {
    /// With the control plane.
    Hub,
    /// On a node.
    Node(usize),
}

/// One cluster as written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) profile: Profile,
    pub(crate) slot: u8,
    /// Who booted it.
    pub(crate) owner: Identity,
    /// Whether it has come up whole.
    #[serde(default)]
    pub(crate) booted: bool,
    /// Whether it lives on without that process.
    pub(crate) stays: bool,
    pub(crate) sandboxes: Vec<(Site, Place)>,
    pub(crate) components: BTreeMap<String, Component>,
    pub(crate) cgroups: Vec<String>,
}

/// What becomes of the logs of a cluster that ends. Those that are kept are there until the next one of
/// the same name starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logs {
    /// Something went wrong, so somebody will want to read them.
    Keep,
    Remove,
}

/// The folders of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    folder: PathBuf,
}

impl Layout {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.file("pki")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.file("logs")
    }

    pub(crate) fn node(&self, index: usize) -> PathBuf {
        self.file(&format!("node-{index}"))
    }

    /// Makes a folder in here.
    pub(crate) fn create(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).at(&folder)?;
        Ok(folder)
    }
}

/// The folder of all clusters: `/var/lib/migration-gate-testcluster` for root, else in the user's own
/// state folder.
///
/// # Errors
/// When the user has neither XDG_STATE_HOME nor HOME.
pub fn default_folder() -> Result<PathBuf> {
    const NAME: &str = "migration-gate-testcluster";
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new("/var/lib").join(NAME));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    let home = home.ok_or_else(|| Error::Preflight("no place for a cluster: set XDG_STATE_HOME or HOME".into()))?;
    Ok(home.join(NAME))
}

impl State {
    /// Clears away what dead owners left and takes a name and a slot for a new cluster.
    pub(crate) fn reserve(folder: &Path, options: &Options) -> Result<(Self, Layout)> {
        check_name(&options.name)?;
        fs::create_dir_all(folder).at(folder)?;
        let _lock = lock(folder)?;
        let mut used = Vec::new();
        for (state, layout) in all(folder) {
            if state.is_alive() {
                if state.name == options.name {
                    return Err(Error::Invalid(format!(
                        "a cluster called {0} is up already; `testcluster down --name {0}` ends it",
                        state.name
                    )));
                }
                used.push(state.slot);
            } else {
                step(format!("clearing away the cluster {}, whose owner is gone", state.name));
                state.clear(&layout, Logs::Keep)?;
            }
        }
        let taken = |slot: u8| match options.profile {
            Profile::Api => network::ports_are_taken(slot),
            Profile::Node { .. } => network::slot_is_taken(slot),
        };
        let slot = (0..network::SLOTS)
            .find(|&slot| !used.contains(&slot) && !taken(slot))
            .ok_or_else(|| Error::Invalid("no room for another cluster beside those that are up".into()))?;
        let owner = Identity::own().ok_or_else(|| Error::Invalid("/proc does not show this process".into()))?;
        let state = Self {
            name: options.name.clone(),
            profile: options.profile,
            slot,
            owner,
            booted: false,
            stays: false,
            sandboxes: Vec::new(),
            components: BTreeMap::new(),
            cgroups: Vec::new(),
        };
        let layout = Layout { folder: folder.join(&state.name) };
        // Of an earlier cluster of this name only its logs can be left.
        let _ = fs::remove_dir_all(&layout.folder);
        layout.create("logs")?;
        state.save(&layout)?;
        Ok((state, layout))
    }

    /// Reads one that is up.
    pub(crate) fn load(folder: &Path, name: &str) -> Result<(Self, Layout)> {
        check_name(name)?;
        let layout = Layout { folder: folder.join(name) };
        let state = Self::read(&layout)?.filter(Self::is_alive).ok_or_else(|| {
            Error::Invalid(format!("no cluster called {name} is up (`testcluster up --name {name}` starts one)"))
        })?;
        if !state.booted {
            return Err(Error::Invalid(format!("the cluster {name} is still starting")));
        }
        Ok((state, layout))
    }

    fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.file("state.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at(&path),
        };
        let state = serde_json::from_str(&text);
        state.map(Some).map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
    }

    /// Writes it down, whole or not at all.
    pub(crate) fn save(&self, layout: &Layout) -> Result<()> {
        let (path, new) = (layout.file("state.json"), layout.file("state.json.new"));
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Invalid(error.to_string()))?;
        fs::write(&new, text).at(&new)?;
        fs::rename(&new, &path).at(&path)
    }

    /// Where a site is; none when it is the machine itself.
    pub(crate) fn place(&self, site: Site) -> Option<Place> {
        self.sandboxes.iter().find(|(at, _)| *at == site).map(|(_, place)| *place)
    }

    /// The addresses of a cluster with nodes.
    pub(crate) fn plan(&self) -> Plan {
        Plan::new(self.slot)
    }

    fn is_alive(&self) -> bool {
        if !self.stays {
            return self.owner.is_alive();
        }
        self.sandboxes.iter().any(|(_, place)| place.init().is_alive())
            || self.components.values().any(Component::is_running)
    }

    /// Ends everything that it has started and removes what that leaves.
    pub(crate) fn clear(&self, layout: &Layout, logs: Logs) -> Result<()> {
        let mut stuck = Vec::new();
        for (site, place) in self.sandboxes.iter().rev() {
            if !place.init().kill() {
                stuck.push(format!("{site:?} (process {})", place.init().pid()));
            }
        }
        for (name, component) in &self.components {
            if !component.kill() {
                stuck.push(name.clone());
            }
        }
        if !stuck.is_empty() {
            return Err(Error::Invalid(format!("these could not be ended: {}", stuck.join(", "))));
        }
        if matches!(self.profile, Profile::Node { .. }) {
            network::unlink_hub(self.plan());
        }
        if !self.cgroups.is_empty() {
            let hierarchy = Hierarchy::detect()?;
            self.cgroups.iter().for_each(|group| hierarchy.remove(group));
        }
        remove_files(layout, logs)
    }
}

/// Removes the cluster's files. Another thread may do the same: one that handles a signal, say.
fn remove_files(layout: &Layout, logs: Logs) -> Result<()> {
    let entries = fs::read_dir(&layout.folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut entries: Vec<PathBuf> = entries.filter(|path| logs == Logs::Remove || *path != layout.logs()).collect();
    // The state goes last: as long as it is there, a next start goes on with what is left.
    entries.sort_by_key(|path| path.ends_with("state.json"));
    for path in entries {
        gone(if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }, &path)?;
    }
    match logs {
        Logs::Keep => Ok(()),
        Logs::Remove => gone(fs::remove_dir(&layout.folder), &layout.folder),
    }
}

fn gone(result: std::io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.at(path),
    }
}

/// All clusters that are written down, alive or not.
fn all(folder: &Path) -> Vec<(State, Layout)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        let layout = Layout { folder: entry.path() };
        match State::read(&layout) {
            Ok(Some(state)) => found.push((state, layout)),
            Ok(None) => {}
            Err(error) => step(format!("left alone: {error}")),
        }
    }
    found
}

/// The names of the clusters in a folder, those with dead owners too.
#[must_use]
pub fn running(folder: &Path) -> Vec<String> {
    all(folder).into_iter().map(|(state, _)| state.name).collect()
}

/// Ends a cluster, whoever started it; false when there is none of that name.
pub(crate) fn clear(folder: &Path, name: &str) -> Result<bool> {
    check_name(name)?;
    if !folder.exists() {
        return Ok(false);
    }
    let _lock = lock(folder)?;
    let layout = Layout { folder: folder.join(name) };
    let Some(state) = State::read(&layout)? else { return Ok(false) };
    state.clear(&layout, Logs::Remove)?;
    Ok(true)
}

/// Ends every cluster of this process.
pub(crate) fn clear_own(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let _lock = lock(folder)?;
    let own = Identity::own();
    let mine = all(folder).into_iter().filter(|(state, _)| Some(state.owner) == own && !state.stays);
    mine.into_iter().try_for_each(|(state, layout)| state.clear(&layout, Logs::Remove))
}

fn lock(folder: &Path) -> Result<File> {
    crate::tools::wait_for_lock(&folder.join("lock"), "another process starts or ends a cluster")
}

/// Names become parts of paths of sockets, which may be 107 bytes long, and of control groups.
fn check_name(name: &str) -> Result<()> {
    let fits = (1..=24).contains(&name.len());
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits && plain && !name.starts_with('-') {
        return Ok(());
    }
    Err(Error::Invalid(format!("{name:?} is no name for a cluster: 1 to 24 of a-z, 0-9 and -, not starting with -")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names() {
        for good in ["a", "test-1", "0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "a/b", "-a", "Big", "a-name-that-is-much-too-long"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
