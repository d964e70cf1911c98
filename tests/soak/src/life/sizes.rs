//! How large a life is: what suits the time that there is for it.

use std::time::Duration;

/// How large the life is.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The groups of several workloads, by how many each has at first.
    pub groups: Vec<u64>,
    /// The workloads that have a group of their own, at first.
    pub alone: u64,
    /// The most workloads that there are at a time.
    pub most: usize,
    /// How long things happen in each phase.
    pub phase: Duration,
    /// How many things happen in each second.
    pub pace: u64,
    /// The namespaces.
    pub namespaces: u64,
    /// The nodes.
    pub nodes: u64,
}

impl Sizes {
    /// What suits so many seconds.
    #[must_use]
    pub fn of(seconds: u64) -> Sizes {
        if seconds <= 180 {
            return Sizes {
                groups: vec![28, 8, 5, 3, 2, 2],
                alone: 16,
                most: 80,
                phase: Duration::from_secs(50),
                pace: 3,
                namespaces: 1,
                nodes: 3,
            };
        }
        Sizes {
            groups: vec![40, 30, 21, 16, 12, 10, 8, 8, 6, 5, 5, 4, 4, 3, 3, 3, 2, 2, 2, 2],
            alone: 70,
            most: 320,
            phase: Duration::from_secs(150),
            pace: 3,
            namespaces: 2,
            nodes: 4,
        }
    }

    /// The same, with no group larger than this at first.
    #[must_use]
    pub fn with_largest(mut self, largest: Option<u64>) -> Sizes {
        if let Some(largest) = largest {
            self.groups.iter_mut().for_each(|size| *size = (*size).min(largest));
        }
        self
    }

    /// The names of the namespaces.
    #[must_use]
    pub fn names_of_namespaces(&self) -> Vec<String> {
        (1..=self.namespaces).map(|number| format!("shop-{number}")).collect()
    }

    /// The names of the nodes.
    #[must_use]
    pub fn names_of_nodes(&self) -> Vec<String> {
        (1..=self.nodes).map(|number| format!("node-{number}")).collect()
    }
}
