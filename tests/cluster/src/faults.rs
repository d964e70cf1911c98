//! Hurting a cluster: crashing its programs, cutting its links, pulling plugs.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::boot;
use crate::cluster::Cluster;
use crate::error::Result;
use crate::network;
use crate::process::Identity;
use crate::state::Site;

impl Cluster {
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
        network::cut_from_api(inner.state.plan(), index, inner.hub()?, self.endpoints().api.1)
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
}

/// One program of the cluster.
#[derive(Debug)]
pub struct Handle<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Handle<'a> {
    pub(crate) fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self { cluster, name: name.to_owned() }
    }

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

    /// Stops it (SIGSTOP): it does nothing until it is [resumed](Handle::resume), and nothing of it goes.
    pub fn pause(&self) {
        if let Some(process) = self.process() {
            process.signal(Signal::STOP);
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        let Some(process) = self.process() else { return };
        // nsenter stops when its child does. Left like that, it would never reap it, and the node could not end.
        if let Some(parent) = process.parent() {
            parent.signal(Signal::CONT);
        }
        process.signal(Signal::CONT);
    }

    /// The number of its process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.process().map(Identity::pid)
    }

    fn process(&self) -> Option<Identity> {
        let inner = self.cluster.inner();
        let process = inner.state.components.get(&self.name)?.process()?;
        process.is_alive().then_some(process)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.cluster.logs_dir().join(format!("{}.log", self.name))
    }
}
