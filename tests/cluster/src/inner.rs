//! What changes while a cluster runs: its sandboxes and components, as they are and as they are written down.

use std::collections::{BTreeMap, HashMap};
use std::process::Child;

use crate::component::Component;
use crate::error::{Error, Result};
use crate::progress::step;
use crate::sandbox::{Place, Sandbox};
use crate::state::{Layout, Logs, Site, State};

/// What changes while a cluster runs.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) layout: Layout,
    sandboxes: BTreeMap<Site, Sandbox>,
    children: HashMap<String, Child>,
    /// Whether dropping it ends it.
    pub(crate) owned: bool,
    pub(crate) logs: Logs,
}

impl Inner {
    pub(crate) fn new(state: State, layout: Layout, owned: bool) -> Self {
        Self { state, layout, sandboxes: BTreeMap::new(), children: HashMap::new(), owned, logs: Logs::Remove }
    }

    pub(crate) fn check_node(&self, index: usize) -> Result<()> {
        let nodes = self.state.profile.nodes();
        if index < nodes {
            return Ok(());
        }
        Err(Error::Invalid(format!("there is no node {index}: this cluster has {nodes}")))
    }

    pub(crate) fn hub(&self) -> Result<Place> {
        self.state.place(Site::Hub).ok_or_else(|| Error::Invalid("this cluster has no network of its own".into()))
    }

    pub(crate) fn node(&self, index: usize) -> Result<Place> {
        self.check_node(index)?;
        self.state.place(Site::Node(index)).ok_or_else(|| Error::Invalid(format!("node {index} is switched off")))
    }

    /// Takes a sandbox in as that of a site.
    pub(crate) fn keep(&mut self, site: Site, sandbox: Sandbox) -> Result<Place> {
        let place = sandbox.place();
        self.state.sandboxes.push((site, place));
        self.sandboxes.insert(site, sandbox);
        self.state.save(&self.layout)?;
        Ok(place)
    }

    pub(crate) fn kill_sandbox(&mut self, site: Site) -> Result<()> {
        let Some(place) = self.state.place(site) else { return Ok(()) };
        if !place.init().kill() {
            return Err(Error::Invalid(format!("{site:?} can't be ended (process {})", place.init().pid())));
        }
        self.sandboxes.remove(&site);
        self.state.sandboxes.retain(|(at, _)| *at != site);
        for component in self.state.components.values_mut().filter(|component| component.site == site) {
            component.stopped();
            if let Some(mut child) = self.children.remove(&component.name) {
                let _ = child.wait();
            }
        }
        self.state.save(&self.layout)
    }

    /// Starts a component and writes it down.
    pub(crate) fn start(&mut self, mut component: Component) -> Result<()> {
        let place = self.state.place(component.site);
        if place.is_none() && component.site != Site::Hub {
            return Err(Error::Invalid(format!("{} can't be started: its node is switched off", component.name)));
        }
        let child = component.start(place, &self.layout.logs())?;
        self.children.insert(component.name.clone(), child);
        self.state.components.insert(component.name.clone(), component);
        self.state.save(&self.layout)
    }

    pub(crate) fn kill(&mut self, name: &str) -> Result<()> {
        if self.state.components.get(name).is_some_and(|component| !component.kill()) {
            return Err(Error::Invalid(format!("{name} can't be killed")));
        }
        self.reap(name);
        if let Some(component) = self.state.components.get_mut(name) {
            component.stopped();
        }
        self.state.save(&self.layout)
    }

    pub(crate) fn restart(&mut self, name: &str) -> Result<()> {
        self.kill(name)?;
        match self.state.components.get(name).cloned() {
            Some(component) => self.start(component),
            None => Err(Error::Invalid(format!("no component is called {name:?}"))),
        }
    }

    fn reap(&mut self, name: &str) {
        if let Some(mut child) = self.children.remove(name) {
            let _ = child.wait();
        }
    }

    /// An error if a component that nobody has killed does not run.
    pub(crate) fn check_components(&self) -> Result<()> {
        for component in self.state.components.values() {
            if component.process().is_some() && !component.is_running() {
                return Err(component.ended(&self.layout.logs()));
            }
        }
        Ok(())
    }

    /// Writes down that it has come up whole.
    pub(crate) fn booted(&mut self) -> Result<()> {
        self.state.booted = true;
        self.state.save(&self.layout)
    }

    pub(crate) fn stay(&mut self) -> Result<()> {
        self.state.stays = true;
        self.state.save(&self.layout)?;
        for sandbox in self.sandboxes.values_mut() {
            sandbox.detach().map_err(|error| Error::Invalid(format!("a sandbox has ended: {error}")))?;
        }
        self.owned = false;
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        self.owned = false;
        let logs = if std::thread::panicking() { Logs::Keep } else { self.logs };
        if logs == Logs::Keep {
            step(format!("the logs of cluster {} are kept in {}", self.state.name, self.layout.logs().display()));
        }
        let result = self.state.clear(&self.layout, logs);
        self.sandboxes.clear();
        self.children.drain().for_each(|(_, mut child)| drop(child.wait()));
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Err(error) = self.end() {
            step(format!("not all of cluster {} could be cleared away: {error}", self.state.name));
        }
    }
}
