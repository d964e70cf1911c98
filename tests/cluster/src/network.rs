//! Addresses and links of a cluster.
//!
//! The control plane lives in a network of its own, the *hub*. It has one link to the machine and one to each
//! node, and routes between them; no network has a default route, so nothing can leave the machine, and
//! cutting one node's link is a partition of that node.
//!
//! ```text
//!  machine 10.213.S.1 ── hub 10.213.S.2 ┬─ .5 ── .6 node-0 (pods 10.244.0.0/24)
//!  (tests, PostgreSQL)   (API server)   └─ .9 ── .10 node-1 (pods 10.244.1.0/24)
//! ```
//!
//! `S` is the cluster's slot: clusters side by side differ in it. Pods' addresses stay inside the cluster
//! (a node masquerades what leaves it), so they may be the same in several clusters.

use std::net::Ipv4Addr;

use crate::command::{self, command};
use crate::error::{Error, Result};
use crate::sandbox::Place;

/// Addresses of all pods.
pub(crate) const PODS: &str = "10.244.0.0/16";
/// Addresses of all services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The address of the API server's own service.
pub(crate) const API_SERVICE: &str = "10.96.0.1";
/// Where a DNS server's service would be.
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";
/// How many clusters there can be at a time.
pub(crate) const SLOTS: u8 = 64;
/// How many nodes a cluster can have: each needs four of the slot's 256 addresses.
pub(crate) const MOST_NODES: usize = 32;

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    slot: u8,
}

impl Plan {
    /// The plan of a slot.
    pub(crate) fn new(slot: u8) -> Self {
        Self { slot }
    }

    fn address(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.slot, last)
    }

    /// The machine's end of its link to the hub.
    pub(crate) fn host(self) -> Ipv4Addr {
        self.address(1)
    }

    /// The hub's end of that link, where the API server listens.
    pub(crate) fn hub(self) -> Ipv4Addr {
        self.address(2)
    }

    /// A node's end of its link to the hub.
    pub(crate) fn node(self, index: usize) -> Ipv4Addr {
        self.address(Self::gateway_octet(index) + 1)
    }

    fn gateway(self, index: usize) -> Ipv4Addr {
        self.address(Self::gateway_octet(index))
    }

    fn gateway_octet(index: usize) -> u8 {
        u8::try_from(index * 4 + 5).expect("more nodes than MOST_NODES are refused before")
    }

    /// The machine's link; its name has to fit in 15 characters.
    pub(crate) fn host_link(self) -> String {
        format!("testcluster{}", self.slot)
    }

    fn subnet(self) -> String {
        format!("{}/24", self.address(0))
    }
}

/// The addresses of a node's pods.
pub(crate) fn pods_of(index: usize) -> String {
    format!("10.244.{index}.0/24")
}

fn node_link(index: usize) -> String {
    format!("node-{index}")
}

/// Whether the machine already has an address or route that a slot would use.
pub(crate) fn slot_is_taken(slot: u8) -> bool {
    let prefix = format!("10.213.{slot}.");
    let shown = |what: &[&str]| command::run(command("ip").arg("-4").args(what)).unwrap_or_default();
    [shown(&["-o", "addr"]), shown(&["route"])]
        .iter()
        .any(|text| text.split_whitespace().any(|word| word.starts_with(&prefix)))
}

/// Links the machine and the hub.
pub(crate) fn link_hub(plan: Plan, hub: Place) -> Result<()> {
    let link = plan.host_link();
    let pid = hub.init().pid().to_string();
    host(&["link", "add", &link, "type", "veth", "peer", "name", "uplink", "netns", &pid])?;
    host(&["addr", "add", &format!("{}/30", plan.host()), "dev", &link])?;
    host(&["link", "set", &link, "up"])?;
    inside(hub, &["addr", "add", &format!("{}/30", plan.hub()), "dev", "uplink"])?;
    inside(hub, &["link", "set", "uplink", "up"])?;
    host(&["route", "add", &plan.subnet(), "via", &plan.hub().to_string()])
}

/// Removes the machine's end of the link, if it is there.
pub(crate) fn unlink_hub(plan: Plan) {
    let _ = host(&["link", "del", &plan.host_link()]);
}

/// Links a node and the hub.
pub(crate) fn link_node(plan: Plan, index: usize, hub: Place, node: Place) -> Result<()> {
    let (link, pid) = (node_link(index), node.init().pid().to_string());
    // A node that was killed may still hold its end for a moment.
    let _ = inside(hub, &["link", "del", &link]);
    inside(hub, &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    inside(hub, &["addr", "add", &format!("{}/30", plan.gateway(index)), "dev", &link])?;
    inside(node, &["addr", "add", &format!("{}/30", plan.node(index)), "dev", "eth0"])?;
    inside(node, &["link", "set", "eth0", "up"])?;
    heal(plan, index, hub)?;
    let gateway = plan.gateway(index).to_string();
    inside(node, &["route", "add", &plan.subnet(), "via", &gateway])?;
    inside(node, &["route", "add", PODS, "via", &gateway])?;
    // kube-proxy's rules turn packets to services away from it, but without a route there would be none.
    inside(node, &["route", "add", SERVICES, "via", &gateway])?;
    // Pods that are there have more exact routes; packets to others would go round in circles.
    inside(node, &["route", "add", "unreachable", &pods_of(index)])?;
    let rules = format!(
        "table ip testcluster {{ chain leave {{ type nat hook postrouting priority srcnat; \
         ip saddr {PODS} ip daddr != {PODS} masquerade; }}; }}\n"
    );
    filter(node, &rules)
}

/// Cuts a node's link: it reaches nothing but itself, and nothing reaches it.
pub(crate) fn cut(index: usize, hub: Place) -> Result<()> {
    inside(hub, &["link", "set", &node_link(index), "down"])
}

/// Joins it again. A link that goes down takes the routes over it along, so they are laid anew.
pub(crate) fn heal(plan: Plan, index: usize, hub: Place) -> Result<()> {
    inside(hub, &["link", "set", &node_link(index), "up"])?;
    inside(hub, &["route", "replace", &pods_of(index), "via", &plan.node(index).to_string()])
}

/// Drops what goes between a node and the API server, and nothing else: databases stay in reach.
pub(crate) fn cut_from_api(plan: Plan, index: usize, hub: Place, port: u16) -> Result<()> {
    let (link, address) = (node_link(index), plan.hub());
    let rules = format!(
        "table ip cut_{index} {{ \
         chain from {{ type filter hook input priority 0; iifname {link} ip daddr {address} tcp dport {port} drop; }}; \
         chain to {{ type filter hook output priority 0; oifname {link} ip saddr {address} tcp sport {port} drop; }}; }}\n"
    );
    filter(hub, &rules)
}

/// Ends that.
pub(crate) fn heal_from_api(index: usize, hub: Place) -> Result<()> {
    filter(hub, &format!("delete table ip cut_{index}\n"))
}

fn host(arguments: &[&str]) -> Result<()> {
    command::run(command("ip").args(arguments)).map(drop)
}

fn filter(place: Place, rules: &str) -> Result<()> {
    command::run_with_input(place.network_command("nft").args(["-f", "-"]), rules).map(drop)
}

fn inside(place: Place, arguments: &[&str]) -> Result<()> {
    command::run(place.network_command("ip").args(arguments)).map(drop)
}

/// Ports on loopback for a cluster that shares the machine's network: below those that the kernel gives to
/// clients, so nobody takes them by chance.
pub(crate) fn loopback_port(slot: u8, index: u16) -> u16 {
    const FIRST: u16 = 21_000;
    const EACH: u16 = 16;
    FIRST + u16::from(slot) * EACH + index
}

/// Whether somebody listens on one of the slot's ports.
pub(crate) fn ports_are_taken(slot: u8) -> bool {
    (0..8).any(|index| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, loopback_port(slot, index))).is_err())
}

/// Says that an address plan can't hold so many nodes.
pub(crate) fn check_nodes(nodes: usize) -> Result<()> {
    if (1..=MOST_NODES).contains(&nodes) {
        return Ok(());
    }
    Err(Error::Invalid(format!("a cluster has 1 to {MOST_NODES} nodes, not {nodes}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_ends_share_an_address() {
        let mut seen = HashSet::new();
        for slot in [0, SLOTS - 1] {
            let plan = Plan::new(slot);
            assert!(seen.insert(plan.host()) && seen.insert(plan.hub()));
            for index in 0..MOST_NODES {
                assert!(seen.insert(plan.gateway(index)) && seen.insert(plan.node(index)));
                assert_eq!(plan.node(index).octets()[3] % 4, 2, "the second usable address of a /30");
            }
        }
    }

    #[test]
    fn link_names_fit() {
        assert!(Plan::new(SLOTS - 1).host_link().len() <= 15);
        assert!(node_link(MOST_NODES - 1).len() <= 15);
    }
}
