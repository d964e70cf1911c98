//! cert-manager: its controller, webhook and CA injector, run beside the control plane.
//!
//! They are the real programs with an administrator's rights. Only how they are reached differs from an
//! installation with its chart: the API server calls the webhook by address instead of by service.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::{At, Result};
use crate::progress::{Seen, step};
use crate::tools::{self, Tool};

const NAMESPACE: &str = "cert-manager";
/// As the chart calls the webhook's secret.
const AUTHORITY: &str = "cert-manager-webhook-ca";
/// A certificate for this name is made by the webhook itself; every network here has it.
const HOST: &str = "localhost";
const LIMIT: Duration = Duration::from_secs(120);

/// Installs it and waits until it checks what it is given.
///
/// # Errors
/// When it can't be built, one of its programs ends, or it does not answer; the error names the log.
pub fn install(cluster: &Cluster) -> Result<()> {
    let (controller, webhook, injector) = (
        tools::path(Tool::CertManagerController)?,
        tools::path(Tool::CertManagerWebhook)?,
        tools::path(Tool::CertManagerCainjector)?,
    );
    let definitions = tools::cert_manager_definitions()?;
    step("installing cert-manager");
    cluster.apply(&fs::read_to_string(&definitions).at(&definitions)?)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"])?;
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string())?;
    let ports = cluster.endpoints().cert_manager;
    let config = format!("--kubeconfig={}", cluster.kubeconfig().display());
    cluster.run(
        "cert-manager-webhook",
        &webhook,
        [
            config.clone(),
            format!("--secure-port={}", ports.webhook),
            format!("--healthz-port={}", ports.webhook_health),
            format!("--dynamic-serving-ca-secret-namespace={NAMESPACE}"),
            format!("--dynamic-serving-ca-secret-name={AUTHORITY}"),
            format!("--dynamic-serving-dns-names={HOST}"),
        ],
    )?;
    cluster.run(
        "cert-manager-controller",
        &controller,
        [
            config.clone(),
            "--leader-elect=false".into(),
            format!("--cluster-resource-namespace={NAMESPACE}"),
            format!("--metrics-listen-address=127.0.0.1:{}", ports.metrics),
        ],
    )?;
    cluster.run("cert-manager-cainjector", &injector, [config, "--leader-elect=false".into()])?;
    cluster.apply(&webhooks(ports.webhook).to_string())?;
    wait_until_it_checks(cluster)
}

/// Its webhooks as the chart has them.
fn webhooks(port: u16) -> Value {
    let configuration = |kind: &str, path: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {
                "name": "cert-manager-webhook",
                "annotations": {"cert-manager.io/inject-ca-from-secret": format!("{NAMESPACE}/{AUTHORITY}")},
            },
            "webhooks": [{
                "name": "webhook.cert-manager.io",
                "admissionReviewVersions": ["v1"],
                "matchPolicy": "Equivalent",
                "timeoutSeconds": 10,
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "rules": [{
                    "apiGroups": ["cert-manager.io", "acme.cert-manager.io"],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["*/*"],
                }],
                "clientConfig": {"url": format!("https://{HOST}:{port}{path}")},
            }],
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        configuration("MutatingWebhookConfiguration", "/mutate"),
        configuration("ValidatingWebhookConfiguration", "/validate"),
    ]})
}

/// It is ready when the API server gets an answer from it: certificate made, authority injected, listening.
fn wait_until_it_checks(cluster: &Cluster) -> Result<()> {
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer",
        "metadata": {"name": "is-it-up", "namespace": NAMESPACE},
        "spec": {"selfSigned": {}},
    });
    let file = cluster.folder("cert-manager")?.join("issuer.json");
    fs::write(&file, issuer.to_string()).at(&file)?;
    let file = file.display().to_string();
    cluster.wait_for("cert-manager's webhook to answer", LIMIT, || {
        Ok(Seen::from(cluster.kubectl(&["create", "--dry-run=server", "-f", &file])))
    })?;
    Ok(())
}
