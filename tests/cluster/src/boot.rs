//! The order in which a cluster comes up.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cgroup::Hierarchy;
use crate::cluster::Cluster;
use crate::component::Component;
use crate::control_plane::{self, Endpoints, Files, Programs};
use crate::error::Result;
use crate::inner::Inner;
use crate::network;
use crate::node;
use crate::options::{Options, Profile};
use crate::packages;
use crate::preflight;
use crate::progress::{self, Seen, step};
use crate::sandbox::{Network, Sandbox};
use crate::state::{self, Site, State};
use crate::tools::{self, Tool};

/// A first start on a busy machine with two processors takes ten seconds; what takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn boot(options: &Options) -> Result<Cluster> {
    let folder = options.state_dir.clone().map_or_else(state::default_folder, Ok)?;
    preflight::machine(&[&folder, &tools::cache_folder()?])?;
    let hierarchy = match options.profile {
        Profile::Api => None,
        Profile::Node { nodes } => {
            network::check_nodes(nodes)?;
            Some(preflight::node()?)
        }
    };
    let programs = Programs::find(options.profile)?;
    if hierarchy.is_some() {
        packages::ensure(packages::NODE)?;
        tools::path(Tool::Containerd)?;
    }
    let begin = Instant::now();
    let (state, layout) = State::reserve(&folder, options)?;
    step(format!("starting cluster {} (logs in {})", options.name, layout.logs().display()));
    let cluster = Cluster::around(Inner::new(state, layout, true))?;
    let boot = Boot { cluster: &cluster, options, programs, endpoints: cluster.endpoints() };
    // The error names a log, which has to be there still.
    boot.run(hierarchy).inspect_err(|_| cluster.keep_logs())?;
    cluster.with_inner(Inner::booted)?;
    step(format!("cluster {} is up after {:.1} s", options.name, begin.elapsed().as_secs_f32()));
    Ok(cluster)
}

struct Boot<'a> {
    cluster: &'a Cluster,
    options: &'a Options,
    programs: Programs,
    endpoints: Endpoints,
}

impl Boot<'_> {
    fn run(&self, hierarchy: Option<Hierarchy>) -> Result<()> {
        let layout = self.cluster.layout();
        let files = Files::create(layout, &self.endpoints)?;
        self.hub()?;
        self.start(control_plane::etcd(&self.programs, &self.endpoints, layout, self.options.durable))?;
        self.start(control_plane::api_server(&self.programs, &self.endpoints, layout, &files, self.options)?)?;
        let nodes = 0..self.options.profile.nodes();
        if let Some(hierarchy) = hierarchy {
            // While the API server starts.
            nodes.clone().try_for_each(|index| self.runtime(&hierarchy, index))?;
        }
        self.cluster.wait_for_api(LIMIT)?;
        step("the API server is ready");
        if let Some(program) = &self.programs.controller_manager {
            self.start(control_plane::controller_manager(program.clone(), &self.endpoints, &files)?)?;
        }
        if nodes.is_empty() {
            return self.wait_for_default_account();
        }
        self.start(control_plane::scheduler(&self.endpoints, &files)?)?;
        nodes.clone().try_for_each(|index| self.kubelet(&files, index))?;
        self.cluster.apply(PROXY_ROLE)?;
        self.cluster.wait_for_nodes(LIMIT)?;
        step("all nodes are ready");
        self.wait_for_default_account()
    }

    fn start(&self, component: Component) -> Result<()> {
        let more: Vec<String> = self.options.arguments_of(&component.name).map(str::to_owned).collect();
        self.cluster.with_inner(|inner| inner.start(component.arguments(more)))
    }

    /// Where the control plane runs. Without root it runs on the machine itself.
    fn hub(&self) -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        self.cluster.with_inner(|inner| match self.options.profile {
            Profile::Api => inner.keep(Site::Hub, Sandbox::start(Network::Shared, "")?).map(drop),
            Profile::Node { .. } => {
                let hub = inner.keep(Site::Hub, Sandbox::start(Network::Own, "")?)?;
                network::link_hub(inner.state.plan(), hub)
            }
        })
    }

    /// A node's sandbox and its container runtime, with the one image that every pod needs.
    fn runtime(&self, hierarchy: &Hierarchy, index: usize) -> Result<()> {
        let layout = self.cluster.layout();
        let group = node::cgroup(&self.options.name, index);
        self.cluster.with_inner(|inner| {
            inner.state.cgroups.push(group.clone());
            inner.state.save(layout)?;
            hierarchy.create(&group)?;
            power_on(inner, index)
        })?;
        self.start(node::containerd(layout, index)?)?;
        let place = self.cluster.with_inner(|inner| {
            wait_for_containerd(inner, index)?;
            inner.node(index)
        })?;
        node::import(place, &node::pause_image(layout)?)
    }

    fn kubelet(&self, files: &Files, index: usize) -> Result<()> {
        let layout = self.cluster.layout();
        let plan = self.cluster.with_inner(|inner| inner.state.plan());
        let group = node::cgroup(&self.options.name, index);
        self.start(node::kubelet(layout, files, &self.endpoints, plan, &group, index)?)?;
        self.start(node::kube_proxy(layout, files, &self.endpoints, index)?)
    }

    /// Pods are refused until the controllers have made their namespace's service account.
    fn wait_for_default_account(&self) -> Result<()> {
        if self.programs.controller_manager.is_none() {
            return Ok(());
        }
        self.cluster.wait_for("the service account of the namespace default", LIMIT, || {
            Ok(self.cluster.get(&["serviceaccount", "default"]).into())
        })?;
        Ok(())
    }
}

/// kube-proxy's role is there from the start, but bound to nobody.
const PROXY_ROLE: &str = r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
 "metadata": {"name": "testcluster:kube-proxy"},
 "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
 "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-proxy"}]}"#;

/// Makes a node's sandbox and links it; nothing runs in it yet.
pub(crate) fn power_on(inner: &mut Inner, index: usize) -> Result<()> {
    let (hub, plan) = (inner.hub()?, inner.state.plan());
    let setup = node::setup(&inner.layout)?;
    let place = inner.keep(Site::Node(index), Sandbox::start(Network::Own, &setup)?)?;
    network::link_node(plan, index, hub, place)
}

pub(crate) fn wait_for_containerd(inner: &Inner, index: usize) -> Result<()> {
    let place = inner.node(index)?;
    progress::wait(&format!("containerd of node {index}"), LIMIT, || {
        if node::containerd_answers(place) {
            return Ok(Seen::Done(()));
        }
        inner.check_components()?;
        Ok(Seen::NotYet("its socket does not answer".into()))
    })
}

/// How many nodes are ready, and what the others say.
pub(crate) fn ready_nodes(nodes: &Value) -> (usize, String) {
    let mut ready = 0;
    let mut said = Vec::new();
    for node in nodes["items"].as_array().into_iter().flatten() {
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.iter().find(|one| one["type"] == "Ready");
        if condition.is_some_and(|one| one["status"] == "True") {
            ready += 1;
        } else {
            let message = condition.map_or("no condition Ready", |one| one["message"].as_str().unwrap_or_default());
            said.push(format!("{}: {message}", node["metadata"]["name"].as_str().unwrap_or_default()));
        }
    }
    if ready == 0 && said.is_empty() {
        said.push("no node has registered".into());
    }
    (ready, said.join("; "))
}

/// kubectl: ours, or beside the user's own programs.
pub(crate) fn kubectl(profile: Profile) -> Result<PathBuf> {
    let own = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| PathBuf::from(folder).join("kubectl"));
    match own.filter(|path| profile == Profile::Api && path.exists()) {
        Some(path) => Ok(path),
        None => tools::path(Tool::Kubectl),
    }
}
