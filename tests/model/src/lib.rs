//! A model of a cluster around the real decisions: [`migration_gate::controller::decide`] and the real agent machine
//! [`migration_gate::agent::machine`] run here against a modelled API server, modelled kubelets and modelled faults.
//!
//! What is real: every decision of the controller and of the agent. What is modelled: the [`api`] server (one version
//! for each content, finalizers, the answers to a write), each controller's beliefs, which are late by an amount of
//! their own for pods, records, nodes and workloads ([`world::Controller`]), the [`kubelet`], and what may go wrong
//! ([`config::Fault`]). Any interleaving of the steps in [`step::Step`] is possible; the [`checker`] tries them all.

pub mod api;
pub mod checker;
pub mod clock;
pub mod config;
pub mod explorer;
mod faults;
pub mod intern;
pub mod kubelet;
pub mod mutants;
pub mod recovery;
pub mod scenarios;
pub mod step;
pub mod view;
pub mod walk;
pub mod workloads;
pub mod world;
