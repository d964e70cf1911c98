//! `migration-gate controller`.

use std::path::PathBuf;

use clap::Args;
use kube::{Client, Config};

use super::{Exit, Failure, LogArguments, serve};
use crate::controller::decision::Rules;
use crate::controller::evidence::NodeDeletion;
use crate::controller::{self, Options};
use crate::health::{self, Readiness};
use crate::metrics::{CertificateMetrics, ControllerMetrics, Metrics};
use crate::otlp;
use crate::page::Place;
use crate::server::{ListenAddress, NoAddress};
use crate::supervise::{Sentence, Shutdown, Supervisor};

/// Run the controller that elects, records and opens the gates.
#[derive(Debug, Args)]
pub(super) struct ControllerArguments {
    /// Where /healthz, /readyz and /metrics are served, in plain HTTP
    #[arg(long, env = "MIGRATION_GATE_HEALTH_LISTEN", default_value = ":8080", value_name = "ADDRESS")]
    health_listen: ListenAddress,
    /// The namespace of the Lease that decides which replica acts; the client configuration's, if not given
    #[arg(long, env = "MIGRATION_GATE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// This replica's name in the Lease and in events, unique among all replicas
    #[arg(long, env = "MIGRATION_GATE_IDENTITY", value_name = "NAME")]
    identity: String,
    /// Take a deleted Node object as proof that its processes are dead, as Kubernetes does for StatefulSets
    #[arg(long, env = "MIGRATION_GATE_TRUST_NODE_DELETION", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    trust_node_deletion: bool,
    /// Send a trace of each rollout to this OpenTelemetry collector, such as http://collector.observability:4318; none
    /// are sent, if not given
    #[arg(long, env = "MIGRATION_GATE_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<otlp::Endpoint>,
    /// Where a read-only page on all migrations is served with TLS, such as 127.0.0.1:8444; off, if not given. It knows
    /// no users, so only a loopback address is taken: kubectl port-forward reaches it
    #[arg(long, env = "MIGRATION_GATE_PAGE_LISTEN", value_name = "ADDRESS", value_parser = loopback)]
    page_listen: Option<ListenAddress>,
    /// The folder with the page's tls.crt and tls.key; what changes there is taken into service
    #[arg(long, env = "MIGRATION_GATE_PAGE_TLS_DIR", default_value = "/page-tls", value_name = "FOLDER")]
    page_tls_dir: PathBuf,
    #[command(flatten)]
    log: LogArguments,
}

impl ControllerArguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        serve(&self.log, async |shutdown| start(&self, shutdown).await)
    }
}

/// Reads an address that only this machine, or this pod, reaches.
fn loopback(text: &str) -> Result<ListenAddress, String> {
    let address: ListenAddress = text.parse().map_err(|error: NoAddress| error.to_string())?;
    if address.is_loopback() {
        return Ok(address);
    }
    Err("the page knows no users and shows log tails of all namespaces; listen on 127.0.0.1:PORT or [::1]:PORT, and reach it \
        with kubectl port-forward"
        .to_owned())
}

async fn start(arguments: &ControllerArguments, shutdown: Shutdown) -> Result<(), Failure> {
    let no_config = |error| Failure::new(Exit::Config, Sentence(format!("there is no way to the API server: {error}")));
    let config = Config::infer().await.map_err(no_config)?;
    let namespace = arguments.lease_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| Failure::new(Exit::Config, error))?;
    let mut metrics = Metrics::new();
    let controller_metrics = ControllerMetrics::register(metrics.registry());
    let readiness = Readiness::default();
    let watching = readiness.part("watches");
    let mut supervisor = Supervisor::new(shutdown.clone());
    let traces = match &arguments.otlp_endpoint {
        None => None,
        Some(endpoint) => {
            let (traces, sender) = otlp::to(endpoint, controller::NAME, controller_metrics.dropped_spans.clone())
                .map_err(|error| Failure::new(Exit::Config, error))?;
            supervisor.spawn("traces", sender.run(shutdown.clone()));
            Some(traces)
        }
    };
    let options = Options {
        namespace,
        identity: arguments.identity.clone(),
        rules: Rules {
            node_deletion: match arguments.trust_node_deletion {
                true => NodeDeletion::Proves,
                false => NodeDeletion::Ignored,
            },
        },
        traces,
    };
    let listen = |address: ListenAddress| address.listen().map_err(|error| Failure::new(Exit::Unavailable, error));
    let page = arguments.page_listen.map(listen).transpose()?.map(|listener| Place {
        listener,
        tls_dir: arguments.page_tls_dir.clone(),
        metrics: CertificateMetrics::register(metrics.registry()),
    });
    controller::start(options, client, controller_metrics, watching, page, &mut supervisor);
    let health = health::server(arguments.health_listen, metrics, readiness, shutdown)
        .map_err(|error| Failure::new(Exit::Unavailable, error))?;
    supervisor.spawn("health server", health.run());
    supervisor.run(controller::GRACE).await.map_err(|error| Failure::new(Exit::Software, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_kept_to_the_loopback() {
        for address in ["127.0.0.1:8444", "127.0.0.2:1", "[::1]:8444"] {
            assert_eq!(loopback(address).map(|address| address.to_string()), Ok(address.to_owned()));
        }
        for (address, said) in [
            (":8444", "kubectl port-forward"),
            ("0.0.0.0:8444", "kubectl port-forward"),
            ("[::]:8444", "kubectl port-forward"),
            ("10.0.0.1:8444", "kubectl port-forward"),
            ("localhost:8444", "no address"),
        ] {
            let refusal = loopback(address).expect_err(address);
            assert!(refusal.contains(said), "{address}: {refusal}");
        }
    }
}
