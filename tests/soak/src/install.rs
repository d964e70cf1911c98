//! The cluster, with migration-gate on it as its users install it, as far as that goes without nodes: the definition, the
//! rights, the policies, the webhook as a process, and the controllers' account.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::config::{AuthInfo, Kubeconfig};
use migration_gate_contract::label;
use serde_json::{Value, json};
use testcluster::{Cluster, Options, Profile};

use crate::api::Api;
use crate::processes::Recipe;
use crate::{Error, Result, audit, processes, system};

/// The namespace of the installation.
pub const SYSTEM: &str = "migration-gate-system";
/// The name of the webhook's process.
const WEBHOOK: &str = "webhook";
/// What takes longer than this is broken.
const LIMIT: Duration = Duration::from_secs(180);

/// A cluster that migration-gate is installed on.
pub struct Site {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Who may do everything.
    pub administrator: Api,
    /// How controllers are started.
    pub controllers: Recipe,
}

impl Site {
    /// Boots a cluster of this name and installs the program on it; what belongs to the life goes into the folder.
    ///
    /// # Errors
    /// Whatever does not come up.
    pub async fn set_up(name: &str, program: &Path, folder: &Path, namespaces: &[String]) -> Result<Site> {
        let policy = folder.join("audit-policy.json");
        audit::write_policy(&policy)?;
        let options = Options::new(name, Profile::Api)
            .audit()
            .argument("kube-apiserver", &format!("--audit-policy-file={}", policy.display()))
            // The whole of it in one file.
            .argument("kube-apiserver", "--audit-log-maxsize=100000");
        let cluster = tokio::task::spawn_blocking(|| Cluster::boot(options)).await;
        let cluster = cluster.map_err(|error| Error::Unusable(error.to_string()))??;
        for file in [
            include_str!("../../../deploy/crd.yaml"),
            include_str!("../../../deploy/namespace.yaml"),
            include_str!("../../../deploy/rbac.yaml"),
            include_str!("../../../webhook-config/policies.yaml"),
        ] {
            cluster.apply(file)?;
        }
        let administrator = Api::of(&cluster.kubeconfig()).await?;
        for namespace in namespaces {
            self::namespace(&administrator, namespace).await?;
        }
        let cluster = Arc::new(cluster);
        webhook(&cluster, program, folder, &administrator).await?;
        let kubeconfig = token(&cluster, &administrator, folder).await?;
        let (program, namespace) = (program.to_owned(), SYSTEM.to_owned());
        let controllers = Recipe { cluster: Arc::clone(&cluster), program, kubeconfig, namespace };
        let site = Site { cluster, administrator, controllers };
        site.wait_for_injection(&namespaces[0]).await?;
        Ok(site)
    }

    /// Somebody of a namespace who may create pods and Deployments, and nothing else.
    ///
    /// # Errors
    /// When the account can't be made.
    pub async fn copier(&self, namespaces: &[String]) -> Result<Api> {
        let name = "copier";
        let home = &namespaces[0];
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": name },
            "rules": [
                { "apiGroups": [""], "resources": ["pods"], "verbs": ["create"] },
                { "apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"] },
            ],
        });
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        must(self.administrator.create(&format!("{rbac}/clusterroles"), &role).await)?;
        for namespace in namespaces {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": home }],
            });
            must(self.administrator.create(&format!("{rbac}/namespaces/{namespace}/rolebindings"), &binding).await)?;
        }
        let user = format!("system:serviceaccount:{home}:{name}");
        let accounts = format!("system:serviceaccounts:{home}");
        let groups = ["system:serviceaccounts", accounts.as_str(), "system:authenticated"];
        Api::as_user(&self.cluster.kubeconfig(), &user, &groups).await
    }

    /// The API server hears of a webhook a moment later.
    async fn wait_for_injection(&self, namespace: &str) -> Result<()> {
        let probe = crate::life::workload::Workload {
            namespace: namespace.to_owned(),
            name: "probe".to_owned(),
            group: None,
            release: crate::life::workload::Release { tag: 0, script: crate::script::Script(Vec::new()) },
            before: None,
            shape: 0,
            replicas: 0,
            gated: true,
            suspended: false,
            backoff_limit: 1,
            node: "nowhere".to_owned(),
        };
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All");
        let begin = Instant::now();
        loop {
            let answer = self.administrator.create(&path, &probe.manifest()).await;
            let injected = |object: &Value| object["spec"]["template"]["metadata"]["labels"][label::GATE].is_string();
            match answer {
                Ok(object) if injected(&object) => return Ok(()),
                answer if begin.elapsed() > LIMIT => {
                    return Err(Error::Unusable(format!("nothing is injected: {answer:?}")));
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn namespace(administrator: &Api, name: &str) -> Result<()> {
    let labels = json!({ label::INJECT: label::INJECT_ENABLED });
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    must(administrator.create("/api/v1/namespaces", &object).await)?;
    // A pod is taken only once its namespace has a service account.
    let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
    let begin = Instant::now();
    while administrator.get(&account).await.is_err() {
        if begin.elapsed() > LIMIT {
            return Err(Error::Unusable(format!("{name} has no service account")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Starts the webhook with a certificate of its own, and registers it.
async fn webhook(cluster: &Arc<Cluster>, program: &Path, folder: &Path, administrator: &Api) -> Result<()> {
    let host = cluster.host_address();
    let unusable = |error: rcgen::Error| Error::Unusable(format!("a certificate: {error}"));
    let pair = rcgen::generate_simple_self_signed(vec![host.to_string()]).map_err(unusable)?;
    let tls = folder.join("tls");
    std::fs::create_dir_all(&tls).map_err(|error| system(&tls, error))?;
    let certificate = pair.cert.pem();
    for (name, text) in [("tls.crt", &certificate), ("tls.key", &pair.signing_key.serialize_pem())] {
        let path = tls.join(name);
        std::fs::write(&path, text).map_err(|error| system(&path, error))?;
    }
    let address = start_webhook(cluster, program, &tls, SocketAddr::new(host, 0)).await?;
    let text = include_str!("../../../webhook-config/webhook.yaml");
    let mut configuration: Value =
        serde_saphyr::from_str(text).map_err(|error| Error::Unusable(format!("webhook.yaml: {error}")))?;
    for one in configuration["webhooks"].as_array_mut().into_iter().flatten() {
        let path = one["clientConfig"]["service"]["path"].as_str().unwrap_or_default();
        let url = format!("https://{address}{path}");
        one["clientConfig"] = json!({ "url": url, "caBundle": BASE64_STANDARD.encode(&certificate) });
    }
    const PATH: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    must(administrator.create(PATH, &configuration).await).map(drop)
}

/// Starts it, and waits until it says where it listens.
async fn start_webhook(cluster: &Arc<Cluster>, program: &Path, tls: &Path, listen: SocketAddr) -> Result<SocketAddr> {
    let arguments = [
        "webhook".to_owned(),
        "--agent-image=registry.example/migration-gate:soak".to_owned(),
        format!("--tls-dir={}", tls.display()),
        format!("--listen={listen}"),
        "--health-listen=127.0.0.1:0".to_owned(),
    ];
    let process = processes::start(cluster, WEBHOOK, program, &[], arguments.into())?;
    let log = cluster.component(WEBHOOK)?.log();
    let begin = Instant::now();
    while begin.elapsed() < LIMIT && process.runs() {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let address = text.lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let is_it = line["message"] == "listening" && line["server"] == "webhook";
            is_it.then(|| line["address"].as_str()?.parse().ok())?
        });
        if let Some(address) = address {
            return Ok(address);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Error::Unusable(format!("the webhook does not listen; {}", process.last_words())))
}

/// A kubeconfig with the controllers' token.
async fn token(cluster: &Cluster, administrator: &Api, folder: &Path) -> Result<PathBuf> {
    let account = format!("/api/v1/namespaces/{SYSTEM}/serviceaccounts/migration-gate-controller");
    let account_file = include_str!("../../../deploy/controller.yaml").split("\n---\n").next().unwrap_or_default();
    cluster.apply(account_file)?;
    // Longer than any life: nobody renews it here.
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "expirationSeconds": 86400 } });
    let answer = must(administrator.create(&format!("{account}/token"), &request).await)?;
    let token = answer["status"]["token"].as_str().unwrap_or_default().to_owned();
    let unusable = |error: String| Error::Unusable(format!("a kubeconfig: {error}"));
    let mut kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).map_err(|error| unusable(error.to_string()))?;
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
    }
    let path = folder.join("controller.kubeconfig");
    let text = serde_saphyr::to_string(&kubeconfig).map_err(|error| unusable(error.to_string()))?;
    std::fs::write(&path, text).map_err(|error| system(&path, error))?;
    Ok(path)
}

fn must(answer: crate::api::Answer) -> Result<Value> {
    answer.map_err(|refusal| Error::Unusable(refusal.to_string()))
}
