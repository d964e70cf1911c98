//! A running cluster: booting it, using it, hurting it, ending it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::Options;
use crate::boot;
use crate::command::{self, command};
use crate::component::Component;
use crate::control_plane::{self, Endpoints};
use crate::error::{Error, Result};
use crate::network;
use crate::node;
use crate::progress::{self, Seen, step};
use crate::sandbox::{Place, Sandbox};
use crate::state::{self, Layout, Logs, Site, State};

/// A Kubernetes that runs. It ends when this is dropped, unless it was told to stay.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    endpoints: Endpoints,
    kubectl: PathBuf,
    inner: Mutex<Inner>,
}

/// What changes while a cluster runs.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: State,
    pub(crate) layout: Layout,
    sandboxes: BTreeMap<Site, Sandbox>,
    children: HashMap<String, Child>,
    /// Whether dropping it ends it.
    owned: bool,
    logs: Logs,
}

impl Cluster {
    /// Boots one. What it takes the first time is built and installed, with progress on standard error.
    ///
    /// # Errors
    /// When the machine lacks something, or a component ends or does not become ready; the error names its
    /// log. Nothing is left running.
    pub fn boot(options: Options) -> Result<Self> {
        boot::boot(&options)
    }

    /// Finds one that another process has booted. Dropping what this returns ends nothing.
    ///
    /// # Errors
    /// When none of that name is up.
    pub fn attach(name: &str) -> Result<Self> {
        Self::attach_in(&state::default_folder()?, name)
    }

    /// The same with [`Options::state_dir`].
    ///
    /// # Errors
    /// When none of that name is up.
    pub fn attach_in(folder: &Path, name: &str) -> Result<Self> {
        let (state, layout) = State::load(folder, name)?;
        Self::around(Inner::new(state, layout, false))
    }

    /// Ends a cluster, whoever booted it; false when there was none of that name.
    ///
    /// # Errors
    /// When something of it can't be ended or removed.
    pub fn end(folder: &Path, name: &str) -> Result<bool> {
        state::clear(folder, name)
    }

    pub(crate) fn around(inner: Inner) -> Result<Self> {
        Ok(Self {
            layout: inner.layout.clone(),
            endpoints: Endpoints::of(&inner.state),
            kubectl: boot::kubectl(inner.state.profile)?,
            inner: Mutex::new(inner),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves no half-done state that matters for ending things.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.inner().state.name.clone()
    }

    /// A kubeconfig of a cluster administrator, usable on this machine.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// The API server's address, such as `https://10.213.0.2:6443`.
    #[must_use]
    pub fn api_url(&self) -> String {
        self.endpoints.url()
    }

    /// Where the API server and pods reach servers that listen on this machine.
    #[must_use]
    pub fn host_address(&self) -> IpAddr {
        let inner = self.inner();
        control_plane::host_address(inner.state.profile, inner.state.plan())
    }

    /// The address of a node, reachable from this machine: NodePorts are there.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn node_address(&self, index: usize) -> Result<IpAddr> {
        let inner = self.inner();
        inner.check_node(index)?;
        Ok(inner.state.plan().node(index).into())
    }

    /// The name of a node in the API.
    #[must_use]
    pub fn node_name(&self, index: usize) -> String {
        node::name(index)
    }

    /// How many nodes it has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.inner().state.profile.nodes()
    }

    /// The folder with one log for each component, and a folder of pods' logs for each node.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.layout.logs()
    }

    /// Keeps the logs when the cluster ends. They are kept anyway when it fails to boot, when the thread that
    /// drops it panics, and when its process is killed.
    pub fn keep_logs(&self) {
        self.inner().logs = Logs::Keep;
    }

    /// The audit log, with [`Options::audit`]: one JSON object a line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        control_plane::audit_log(&self.layout)
    }

    /// A folder of the cluster's own for things that belong to it; it goes with the cluster.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        self.layout.create(&format!("extra/{name}"))
    }

    /// kubectl as administrator, for what the functions here don't do.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut kubectl = command(&self.kubectl);
        kubectl.env("KUBECONFIG", self.kubeconfig()).env("KUBERC", "off");
        // Beside the cluster: a new one under the same address would be misunderstood with the old one's cache.
        kubectl.arg(format!("--cache-dir={}", self.layout.file("kubectl-cache").display()));
        kubectl
    }

    /// Runs kubectl and returns what it wrote.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::run(self.kubectl_command().args(arguments))
    }

    /// Applies objects, as YAML or JSON.
    ///
    /// # Errors
    /// When the API server refuses them, with what it said.
    pub fn apply(&self, objects: &str) -> Result<String> {
        command::run_with_input(self.kubectl_command().args(["apply", "-f", "-"]), objects)
    }

    /// One object, or a list of them, as JSON: `get(&["pods", "-n", "shop"])`.
    ///
    /// # Errors
    /// When there is none, or the API server can't be asked.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        let text = self.kubectl(&all)?;
        serde_json::from_str(&text).map_err(|error| Error::Invalid(format!("kubectl {}: {error}", all.join(" "))))
    }

    /// Looks again and again until `look` says that it is done. Ends early, naming the log, when a component
    /// has ended by itself.
    ///
    /// # Errors
    /// After `limit`, with what was seen last; or the error of `look`.
    pub fn wait_for<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Result<Seen<T>>) -> Result<T> {
        progress::wait(what, limit, || {
            let seen = look()?;
            if let Seen::NotYet(_) = seen {
                self.inner().check_components()?;
            }
            Ok(seen)
        })
    }

    /// Waits until an object's condition is true: `wait_for_condition("pod/web", "shop", "Ready", …)`.
    ///
    /// # Errors
    /// After `limit`, with the status seen last.
    pub fn wait_for_condition(&self, object: &str, namespace: &str, condition: &str, limit: Duration) -> Result<()> {
        self.wait_for(&format!("{object} in {namespace} to be {condition}"), limit, || {
            let found = match self.get(&[object, "-n", namespace]) {
                Ok(found) => found,
                Err(error) => return Ok(Seen::NotYet(error.to_string())),
            };
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is_true = conditions.iter().any(|entry| entry["type"] == condition && entry["status"] == "True");
            Ok(if is_true { Seen::Done(()) } else { Seen::NotYet(found["status"].to_string()) })
        })
    }

    /// Gives an image archive to every node.
    ///
    /// # Errors
    /// When a node's container runtime refuses it.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let nodes = self.nodes();
        for index in 0..nodes {
            let node = self.inner().node(index)?;
            node::import(node, archive)?;
        }
        Ok(())
    }

    /// A command inside a node: its network, its processes, its mounts.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn node_command(&self, index: usize, program: &str) -> Result<Command> {
        Ok(self.inner().node(index)?.command(program))
    }

    /// A program of the cluster by its name, such as `kube-apiserver`, `etcd` or `kubelet-0`.
    ///
    /// # Errors
    /// When there is none of that name; the error lists those that there are.
    pub fn component(&self, name: &str) -> Result<Handle<'_>> {
        let inner = self.inner();
        if inner.state.components.contains_key(name) {
            return Ok(Handle { cluster: self, name: name.to_owned() });
        }
        let names: Vec<&str> = inner.state.components.keys().map(String::as_str).collect();
        Err(Error::Invalid(format!("no component is called {name:?}; there are {}", names.join(", "))))
    }

    /// Adds a program of the caller's that belongs to the cluster: it runs where the control plane runs,
    /// logs beside the others and ends with it.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn run<I: Into<String>>(
        &self,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = I>,
    ) -> Result<Handle<'_>> {
        let component = Component::new(name, Site::Hub, program.to_owned()).arguments(arguments);
        self.inner().start(component)?;
        self.component(name)
    }

    /// Cuts a node off from everything: the API server, other nodes, this machine.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn partition(&self, index: usize) -> Result<()> {
        let inner = self.inner();
        inner.check_node(index)?;
        network::cut(index, inner.hub()?)
    }

    /// Cuts a node and its pods off from the API server only; they still reach each other and this machine.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn partition_from_api(&self, index: usize) -> Result<()> {
        let inner = self.inner();
        inner.check_node(index)?;
        network::cut_from_api(inner.state.plan(), index, inner.hub()?, self.endpoints.api.1)
    }

    /// Ends both kinds of partition of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn heal(&self, index: usize) -> Result<()> {
        let inner = self.inner();
        inner.check_node(index)?;
        let hub = inner.hub()?;
        // It may never have been cut off in this way.
        let _ = network::heal_from_api(index, hub);
        network::heal(inner.state.plan(), index, hub)
    }

    /// Pulls the plug of a node: its kubelet, its container runtime and all of its pods are gone at once.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn kill_node(&self, index: usize) -> Result<()> {
        let mut inner = self.inner();
        inner.check_node(index)?;
        inner.kill_sandbox(Site::Node(index))
    }

    /// Switches a killed node on again: its disk is as it was, nothing else is.
    ///
    /// # Errors
    /// When there is no such node, or its container runtime does not come up.
    pub fn start_node(&self, index: usize) -> Result<()> {
        let mut inner = self.inner();
        inner.check_node(index)?;
        boot::power_on(&mut inner, index)?;
        for name in [format!("containerd-{index}"), format!("kubelet-{index}"), format!("kube-proxy-{index}")] {
            inner.restart(&name)?;
            if name.starts_with("containerd") {
                boot::wait_for_containerd(&inner, index)?;
            }
        }
        Ok(())
    }

    /// Waits until the API server answers: after it was started again, say.
    ///
    /// # Errors
    /// After `limit`, with what was seen last.
    pub fn wait_for_api(&self, limit: Duration) -> Result<()> {
        let (address, port) = self.endpoints.api;
        self.wait_for("the API server to be ready", limit, || {
            // Connecting is much cheaper than a run of kubectl.
            if let Err(error) = TcpStream::connect((address, port)) {
                return Ok(Seen::NotYet(error.to_string()));
            }
            Ok(Seen::from(self.kubectl(&["get", "--raw=/readyz"]).map(drop)))
        })
    }

    /// Waits until every node is Ready.
    ///
    /// # Errors
    /// After `limit`, with what was seen last.
    pub fn wait_for_nodes(&self, limit: Duration) -> Result<()> {
        let wanted = self.nodes();
        self.wait_for(&format!("{wanted} ready nodes"), limit, || {
            let nodes = match self.get(&["nodes"]) {
                Ok(nodes) => nodes,
                Err(error) => return Ok(Seen::NotYet(error.to_string())),
            };
            let (ready, said) = boot::ready_nodes(&nodes);
            Ok(if ready == wanted { Seen::Done(()) } else { Seen::NotYet(said) })
        })
    }

    /// Lets the cluster live on without this process.
    ///
    /// # Errors
    /// When that can't be written down.
    pub fn stay(self) -> Result<()> {
        self.inner().stay()
    }

    /// Ends it, and says what could not be ended. Dropping it does the same without saying.
    ///
    /// # Errors
    /// When something of it can't be ended or removed.
    pub fn down(self) -> Result<()> {
        self.inner().end()
    }

    pub(crate) fn endpoints(&self) -> Endpoints {
        self.endpoints
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn with_inner<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner())
    }
}

/// One program of the cluster.
#[derive(Debug)]
pub struct Handle<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl Handle<'_> {
    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&self) -> Result<()> {
        self.cluster.inner().kill(&self.name)
    }

    /// Starts it again with the same arguments, killing it first if it still runs.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn restart(&self) -> Result<()> {
        self.cluster.inner().restart(&self.name)
    }

    /// The number of its process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        let inner = self.cluster.inner();
        let process = inner.state.components.get(&self.name)?.process()?;
        process.is_alive().then(|| process.pid())
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.cluster.layout.logs().join(format!("{}.log", self.name))
    }
}

impl Inner {
    pub(crate) fn new(state: State, layout: Layout, owned: bool) -> Self {
        Self { state, layout, sandboxes: BTreeMap::new(), children: HashMap::new(), owned, logs: Logs::Remove }
    }

    fn check_node(&self, index: usize) -> Result<()> {
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

    fn kill_sandbox(&mut self, site: Site) -> Result<()> {
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

    fn kill(&mut self, name: &str) -> Result<()> {
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

    fn stay(&mut self) -> Result<()> {
        self.state.stays = true;
        self.state.save(&self.layout)?;
        for sandbox in self.sandboxes.values_mut() {
            sandbox.detach().map_err(|error| Error::Invalid(format!("a sandbox has ended: {error}")))?;
        }
        self.owned = false;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.owned, false) {
            return Ok(());
        }
        let logs = if std::thread::panicking() { Logs::Keep } else { self.logs };
        if logs == Logs::Keep {
            step(format!("the logs of cluster {} are kept in {}", self.state.name, self.layout.logs().display()));
        }
        let result = self.state.clear(&self.layout, logs);
        self.sandboxes.clear();
        let names: Vec<String> = self.children.keys().cloned().collect();
        names.iter().for_each(|name| self.reap(name));
        result
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            step(format!("not all of cluster {} could be cleared away: {error}", self.state.name));
        }
    }
}
