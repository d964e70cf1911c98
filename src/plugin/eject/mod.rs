//! `eject`: takes workloads out, so that nothing of ours is left in their pods and nobody waits for us.
//!
//! A workload whose migration is under way is held first: no other attempt is elected, and the one that runs is waited
//! for. Then the label and the injection go in one write, which the Deployment rolls out like any other change. The
//! [`plan`] is made and shown before anything is written; [`hold`] and [`leave`] carry it out, [`rest`] sees that nothing
//! is left behind.

mod hold;
mod interrupt;
mod leave;
mod plan;
mod rest;

use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Patch;
use serde_json::json;

use self::plan::{Plan, Step};
use super::cluster::{Cluster, Place};
use super::problem::Problem;
use super::terminal::{Consent, Screen, print};
use crate::contract::label;
use crate::settings::duration;

/// Take workloads out of migration-gate, without leaving anybody stuck
///
/// Running migrations are waited for; then each workload is rolled out once more, without the gate. A new version whose
/// migration has not succeeded starts without it. The records stay: a workload that is gated again does not migrate again.
#[derive(Clone, Debug, Args)]
pub(crate) struct EjectArguments {
    /// Deployments of the namespace
    #[arg(value_name = "WORKLOAD", required_unless_present_any = ["all", "all_namespaces"])]
    workloads: Vec<String>,
    /// Everything in the namespace, which opts out: its label is taken off first
    #[arg(long, conflicts_with = "workloads")]
    all: bool,
    /// Everything in all namespaces, as before an uninstallation
    #[arg(short = 'A', long, conflicts_with = "workloads")]
    all_namespaces: bool,
    /// Roll nothing out: treat every migration as succeeded, so that all gates open. The controller must stay until the
    /// workloads were ejected without this
    #[arg(long, conflicts_with = "workloads")]
    keep_injected: bool,
    /// How long one workload's migration and its rollout are waited for
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = patience)]
    timeout: Duration,
    /// The controller is gone for good: take off what it would have taken off
    #[arg(long)]
    without_controller: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

fn patience(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

impl EjectArguments {
    pub(crate) async fn run(self) -> Result<(), Problem> {
        let cluster = Cluster::reach(&self.place).await?;
        let namespace = (!self.all_namespaces).then(|| cluster.namespace.clone());
        let plan = Plan::make(&cluster, namespace.as_deref(), &self.workloads).await?;
        if plan.steps.is_empty() && !self.all && !self.all_namespaces {
            return print("nothing to do: none of them is gated\n");
        }
        print(&plan.describe(self.keep_injected, &Screen::of_stdout()))?;
        if self.dry_run {
            return Ok(());
        }
        Consent::from_yes(self.yes).obtain(&plan.question(self.keep_injected))?;
        if self.all || self.all_namespaces {
            opt_out(&cluster, namespace.as_deref()).await?;
        }
        interrupt::listen();
        let mut late = Vec::new();
        for step in &plan.steps {
            match self.take_out(&cluster, step).await {
                Ok(()) => {}
                Err(Problem::Late(why)) => late.push(why),
                Err(problem) => return Err(problem),
            }
        }
        let scope = rest::Scope::of(namespace.as_deref(), &self.workloads, &plan);
        let controller = if self.without_controller { rest::Controller::Gone } else { rest::Controller::There };
        late.extend(rest::see_to_it(&cluster, &scope, controller).await?);
        if !late.is_empty() {
            return Err(Problem::Late(format!("not everything is done:\n  {}", late.join("\n  "))));
        }
        print(self.farewell())
    }

    async fn take_out(&self, cluster: &Cluster, step: &Step) -> Result<(), Problem> {
        let deadline = Instant::now() + self.timeout;
        if self.keep_injected {
            return hold::open_for_good(cluster, step, deadline).await;
        }
        let held = hold::hold(cluster, step, deadline, self.without_controller).await?;
        leave::leave(cluster, step, held).await?;
        leave::rolled_out(cluster, step, deadline).await
    }

    fn farewell(&self) -> &'static str {
        match (self.keep_injected, self.all_namespaces) {
            (true, _) => {
                "every gate is open; the controller must stay: it opens the gates of pods that are yet to come\n"
            }
            (false, true) => "nothing is gated any more; what is left can go: kubectl delete -k .\n",
            (false, false) => "done\n",
        }
    }
}

/// Takes the label off the namespaces: from now on nothing new is injected, and a webhook that is down is in nobody's way.
async fn opt_out(cluster: &Cluster, namespace: Option<&str>) -> Result<(), Problem> {
    let names: Vec<String> = match namespace {
        Some(name) => vec![name.to_owned()],
        None => {
            let listed: Vec<Namespace> = cluster.list_global(label::INJECT).await?;
            listed.into_iter().filter_map(|namespace| namespace.metadata.name).collect()
        }
    };
    let patch = Patch::Merge(json!({ "metadata": { "labels": { label::INJECT: null } } }));
    for name in names {
        cluster.patch_global::<Namespace, _>(&name, &patch).await?;
        print(&format!("namespace {name} has opted out\n"))?;
    }
    Ok(())
}
