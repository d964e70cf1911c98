//! How the installation brings its agent into pods: by an init container that copies it, or by an image volume.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testcluster::progress::{Seen, step};

use crate::{Result, Site, site::system};

const WEBHOOK: &str = "deployment/migration-gate-webhook";
const LIMIT: Duration = Duration::from_secs(120);

/// An installation whose webhook mounts the agent from its image, until it is told [otherwise](ByImageVolume::off).
#[derive(Debug)]
pub struct ByImageVolume<'a> {
    site: &'a Site,
    probe: String,
}

impl<'a> ByImageVolume<'a> {
    /// Sets the installation's option, and waits until it counts for what is created. The probe is a gated Deployment's
    /// manifest; under another name, it is shown to the API server, and never created.
    ///
    /// # Errors
    /// When the webhook doesn't inject like that in time.
    pub fn on(site: &'a Site, mut probe: Value) -> Result<ByImageVolume<'a>> {
        probe["metadata"]["name"] = json!("delivery-probe");
        let file = site.cluster.folder("delivery")?.join("probe.json");
        fs::write(&file, probe.to_string()).map_err(|error| system(&file, error))?;
        let on = ByImageVolume { site, probe: file.to_string_lossy().into_owned() };
        on.set("MIGRATION_GATE_AGENT_DELIVERY=image-volume")?;
        on.until_installed(false)?;
        Ok(on)
    }

    /// Takes the option back, and waits for that.
    ///
    /// # Errors
    /// As above.
    pub fn off(self) -> Result<()> {
        self.set("MIGRATION_GATE_AGENT_DELIVERY-")?;
        self.until_installed(true)
    }

    fn set(&self, option: &str) -> Result<()> {
        step(format!("kubectl set env {WEBHOOK} {option}"));
        self.site.cluster.kubectl(&["set", "env", WEBHOOK, "-n", "migration-gate-system", option])?;
        Ok(())
    }

    /// Waits until what is created has an install container, or none. A webhook that ends still serves for some seconds, so
    /// the old ones have to be gone.
    fn until_installed(&self, wanted: bool) -> Result<()> {
        let limit = format!("--timeout={}s", LIMIT.as_secs());
        self.site.cluster.kubectl(&["rollout", "status", WEBHOOK, "-n", "migration-gate-system", &limit])?;
        Ok(self.site.cluster.wait_for("the webhooks with the option", LIMIT, || {
            let selector = "app.kubernetes.io/name=migration-gate-webhook";
            let pods = self.site.cluster.get(&["pods", "-n", "migration-gate-system", "-l", selector])?;
            let ending = pods["items"].as_array().into_iter().flatten();
            let ending = ending.filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null()).count();
            if ending > 0 {
                return Ok(Seen::NotYet(format!("{ending} old ones end")));
            }
            let created =
                self.site.cluster.kubectl(&["create", "--dry-run=server", "-o", "json", "-f", &self.probe])?;
            Ok(match created.contains("migration-gate-install") == wanted {
                true => Seen::Done(()),
                false => Seen::NotYet("a workload is still injected as before".to_owned()),
            })
        })?)
    }
}
