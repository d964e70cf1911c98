//! A real Kubernetes, built from package registries, for tests and the demo.
//!
//! [`Cluster::boot`] starts one: real etcd, API server and controllers, and with [`Profile::Node`] real
//! kubelets, containerd and kube-proxy too. Nothing is mocked, no container engine and no image registry
//! is needed, and nothing can leave the machine. It ends when it is dropped, and when its process is
//! killed, however that happens.
//!
//! ```no_run
//! use testcluster::{Cluster, Options, Profile};
//!
//! # fn main() -> Result<(), testcluster::Error> {
//! let cluster = Cluster::boot(Options::new("example", Profile::Node { nodes: 1 }))?;
//! println!("{}", cluster.kubectl(&["get", "nodes"])?);
//! # Ok(())
//! # }
//! ```
//!
//! Tests may share one in a `static`: that is never dropped, but its programs end with the test program, and
//! its files are cleared away by the next start of any cluster. Logs are kept when something went wrong (a
//! boot that failed, a panic, a killed owner) until a cluster of the same name starts.
//!
//! The order of the modules is that of a start: what the machine must have ([`tools`], packages, control
//! groups), where things run (sandboxes, network), what runs there (control plane, nodes), how it comes up
//! and what can be done with it ([`Cluster`]).

mod boot;
pub mod certmanager;
mod cgroup;
pub mod chromium;
mod cluster;
mod command;
mod component;
mod control_plane;
pub mod curl;
mod error;
mod faults;
mod inner;
mod network;
mod node;
mod options;
mod packages;
mod pki;
pub mod postgres;
mod preflight;
mod process;
pub mod progress;
pub mod prometheus;
mod sandbox;
mod state;
pub mod tools;

pub use cluster::Cluster;
pub use error::{Error, Result};
pub use faults::Handle;
pub use node::busybox;
pub use oci_image as image;
pub use options::{Options, Profile};
pub use state::{default_folder, running};
