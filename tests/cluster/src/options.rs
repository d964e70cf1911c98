//! What can be asked for when a cluster is booted.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How much of a Kubernetes is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// etcd, the API server and the controllers, on loopback: what the API does, with pods that nobody runs.
    /// Needs no root.
    Api,
    /// Everything, with so many nodes that run pods.
    Node {
        /// How many.
        nodes: usize,
    },
}

impl Profile {
    /// How many nodes there are.
    #[must_use]
    pub fn nodes(self) -> usize {
        match self {
            Profile::Api => 0,
            Profile::Node { nodes } => nodes,
        }
    }
}

/// How a cluster is booted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name: clusters with different names run side by side.
    pub name: String,
    /// How much of it.
    pub profile: Profile,
    /// The folder that holds a folder for each cluster; [`crate::default_folder`] if none.
    pub state_dir: Option<PathBuf>,
    /// Whether etcd waits for the disk: needed only where a test is about losing power.
    pub durable: bool,
    /// Whether the API server writes an audit log (who did what to which object, without contents).
    pub audit: bool,
    /// More arguments for components: the component's name and the argument.
    pub arguments: Vec<(String, String)>,
}

impl Options {
    /// The usual ones.
    #[must_use]
    pub fn new(name: impl Into<String>, profile: Profile) -> Self {
        Self { name: name.into(), profile, state_dir: None, durable: false, audit: false, arguments: Vec::new() }
    }

    /// With an audit log.
    #[must_use]
    pub fn audit(mut self) -> Self {
        self.audit = true;
        self
    }

    /// With an etcd that waits for the disk.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// With another folder for clusters.
    #[must_use]
    pub fn state_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(folder.into());
        self
    }

    /// With one more argument for a component, such as
    /// `argument("kube-controller-manager", "--node-monitor-grace-period=16s")`. For the kubelet of every
    /// node and for kube-proxy the name is without the node's number.
    #[must_use]
    pub fn argument(mut self, component: &str, argument: &str) -> Self {
        self.arguments.push((component.to_owned(), argument.to_owned()));
        self
    }

    /// The arguments that were asked for a component.
    pub(crate) fn arguments_of(&self, component: &str) -> impl Iterator<Item = &str> {
        let plain = component.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').to_owned();
        let full = component.to_owned();
        self.arguments
            .iter()
            .filter(move |(name, _)| *name == full || *name == plain)
            .map(|(_, argument)| argument.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_to_every_node_or_to_one() {
        let options = Options::new("x", Profile::Api).argument("kubelet", "--a").argument("kubelet-1", "--b");
        assert_eq!(options.arguments_of("kubelet-0").collect::<Vec<_>>(), ["--a"]);
        assert_eq!(options.arguments_of("kubelet-1").collect::<Vec<_>>(), ["--a", "--b"]);
        assert_eq!(options.arguments_of("etcd").count(), 0);
    }
}
