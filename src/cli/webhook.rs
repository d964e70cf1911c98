//! `migration-gate webhook`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::installation::{Delivery, installation};
use super::{Exit, Failure, LogArguments, serve};
use crate::server::ListenAddress;
use crate::webhook::{self, WebhookError, WebhookOptions};

/// Serve the admission webhook.
#[derive(Debug, Args)]
pub(super) struct WebhookArguments {
    /// Where the API server reaches the webhook: ADDRESS:PORT, or :PORT for all addresses
    #[arg(long, env = "MIGRATION_GATE_LISTEN", default_value = ":8443", value_name = "ADDRESS")]
    listen: ListenAddress,
    /// Where /healthz, /readyz and /metrics are served, in plain HTTP
    #[arg(long, env = "MIGRATION_GATE_HEALTH_LISTEN", default_value = ":8080", value_name = "ADDRESS")]
    health_listen: ListenAddress,
    /// The folder with tls.crt and tls.key; what changes there is taken into service
    #[arg(long, env = "MIGRATION_GATE_TLS_DIR", default_value = "/tls", value_name = "FOLDER")]
    tls_dir: PathBuf,
    /// The image that brings the agent into gated pods
    #[arg(long, env = "MIGRATION_GATE_AGENT_IMAGE", value_name = "IMAGE")]
    agent_image: String,
    /// How the agent gets into gated pods
    #[arg(long, env = "MIGRATION_GATE_AGENT_DELIVERY", value_enum, default_value_t)]
    agent_delivery: Delivery,
    /// Seconds from SIGTERM until no new connection is taken, while the cluster learns to send none
    #[arg(long, env = "MIGRATION_GATE_DRAIN_SECONDS", default_value_t = 5, value_name = "SECONDS")]
    drain_seconds: u16,
    #[command(flatten)]
    log: LogArguments,
}

impl WebhookArguments {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = WebhookOptions {
            listen: self.listen,
            health_listen: self.health_listen,
            tls_dir: self.tls_dir,
            drain: Duration::from_secs(self.drain_seconds.into()),
            installation: installation(self.agent_image, self.agent_delivery),
        };
        serve(&self.log, async move |shutdown| webhook::run(options, shutdown).await)
    }
}

impl From<WebhookError> for Failure {
    fn from(error: WebhookError) -> Failure {
        let exit = match error {
            WebhookError::Certificate(_) => Exit::Config,
            WebhookError::Tls(_) | WebhookError::Ended(_) => Exit::Software,
            WebhookError::Listen(_) => Exit::Unavailable,
        };
        Failure::new(exit, error)
    }
}
