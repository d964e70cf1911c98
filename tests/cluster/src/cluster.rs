//! A running cluster: booting it, using it, ending it.

use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::Options;
use crate::boot;
use crate::command::{self, command};
use crate::component::Component;
use crate::control_plane::{self, Endpoints};
use crate::error::{Error, Result};
use crate::faults::Handle;
use crate::inner::Inner;
use crate::node;
use crate::progress::{self, Seen};
use crate::state::{self, Layout, Logs, Site, State};

/// A Kubernetes that runs. It ends when this is dropped, unless it was told to stay.
#[derive(Debug)]
pub struct Cluster {
    layout: Layout,
    endpoints: Endpoints,
    kubectl: PathBuf,
    inner: Mutex<Inner>,
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

    /// Ends every cluster that this process has booted and that does not stay: for handlers of signals, which
    /// have no other way to reach them.
    ///
    /// # Errors
    /// When something of them can't be ended or removed.
    pub fn end_own(folder: &Path) -> Result<()> {
        state::clear_own(folder)
    }

    pub(crate) fn around(inner: Inner) -> Result<Self> {
        Ok(Self {
            layout: inner.layout.clone(),
            endpoints: Endpoints::of(&inner.state),
            kubectl: boot::kubectl(inner.state.profile)?,
            inner: Mutex::new(inner),
        })
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
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
            return Ok(Handle::new(self, name));
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

    /// Ends it, and says what could not be ended. Dropping it does the same without saying, and only in the
    /// process that has booted it.
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
