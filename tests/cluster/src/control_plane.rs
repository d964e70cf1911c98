//! etcd, the API server, the controller manager and the scheduler: how each is told what to do.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::component::Component;
use crate::error::{At, Result};
use crate::network::{self, Plan};
use crate::pki::{Authority, Pair, SigningKeys, User};
use crate::state::{Layout, Site, State};
use crate::tools::{self, Tool};
use crate::{Options, Profile};

/// Where the control plane's programs listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoints {
    pub(crate) api: (Ipv4Addr, u16),
    etcd: u16,
    etcd_peers: u16,
    controller_manager: u16,
    pub(crate) cert_manager: CertManagerPorts,
}

/// Where cert-manager's programs listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertManagerPorts {
    pub(crate) webhook: u16,
    pub(crate) webhook_health: u16,
    pub(crate) metrics: u16,
}

impl Endpoints {
    /// Fixed ports in a network of one's own, the slot's ports on loopback otherwise.
    pub(crate) fn of(state: &State) -> Self {
        let port = |index| network::loopback_port(state.slot, index);
        match state.profile {
            Profile::Api => Self {
                api: (Ipv4Addr::LOCALHOST, port(0)),
                etcd: port(1),
                etcd_peers: port(2),
                controller_manager: port(3),
                cert_manager: CertManagerPorts { webhook: port(4), webhook_health: port(5), metrics: port(6) },
            },
            Profile::Node { .. } => Self {
                api: (state.plan().hub(), 6443),
                etcd: 2379,
                etcd_peers: 2380,
                controller_manager: 10257,
                cert_manager: CertManagerPorts { webhook: 10250, webhook_health: 6080, metrics: 9402 },
            },
        }
    }

    /// The API server's address as in a kubeconfig.
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.api.0, self.api.1)
    }
}

/// The programs of a control plane.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    etcd: PathBuf,
    api_server: PathBuf,
    /// None with a user's own envtest binaries, which have no controllers.
    pub(crate) controller_manager: Option<PathBuf>,
}

impl Programs {
    /// Ours, or for the API profile those in `KUBEBUILDER_ASSETS` if that is set.
    pub(crate) fn find(profile: Profile) -> Result<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from);
        if let (Profile::Api, Some(assets)) = (profile, assets) {
            return Ok(Self {
                etcd: assets.join("etcd"),
                api_server: assets.join("kube-apiserver"),
                controller_manager: None,
            });
        }
        Ok(Self {
            etcd: tools::path(Tool::Etcd)?,
            api_server: tools::path(Tool::KubeApiserver)?,
            controller_manager: Some(tools::path(Tool::KubeControllerManager)?),
        })
    }
}

/// The files that the control plane's programs share.
pub(crate) struct Files {
    authority: Authority,
    account_keys: SigningKeys,
    server: Pair,
    kubelet_client: Pair,
    folder: PathBuf,
}

impl Files {
    /// Makes certificates, keys and the administrator's kubeconfig.
    pub(crate) fn create(layout: &Layout, endpoints: &Endpoints) -> Result<Self> {
        let authority = Authority::create(&layout.pki())?;
        let address = endpoints.api.0.to_string();
        let names =
            [address.as_str(), network::API_SERVICE, "kubernetes.default.svc", "kubernetes", "localhost", "127.0.0.1"];
        let administrator = User { name: "admin", group: Some("system:masters") };
        authority.kubeconfig(&layout.kubeconfig(), &endpoints.url(), &administrator)?;
        Ok(Self {
            account_keys: authority.signing_keys("service-accounts")?,
            server: authority.server("kube-apiserver", &names)?,
            kubelet_client: authority.client(
                "kube-apiserver-kubelet-client",
                &User { name: "kube-apiserver-kubelet-client", group: Some("system:masters") },
            )?,
            folder: layout.pki(),
            authority,
        })
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A kubeconfig for one of the control plane's users.
    pub(crate) fn kubeconfig(&self, endpoints: &Endpoints, name: &str, user: &User<'_>) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        self.authority.kubeconfig(&path, &endpoints.url(), user)?;
        Ok(path)
    }
}

/// The key-value store behind the API server.
pub(crate) fn etcd(programs: &Programs, endpoints: &Endpoints, layout: &Layout, durable: bool) -> Component {
    let (clients, peers) =
        (format!("http://127.0.0.1:{}", endpoints.etcd), format!("http://127.0.0.1:{}", endpoints.etcd_peers));
    let etcd = Component::new("etcd", Site::Hub, programs.etcd.clone()).arguments([
        format!("--data-dir={}", layout.file("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ]);
    // Waiting for the disk is what makes etcd slow on a small machine.
    if durable { etcd } else { etcd.arguments(["--unsafe-no-fsync"]) }
}

/// The API server.
pub(crate) fn api_server(
    programs: &Programs,
    endpoints: &Endpoints,
    layout: &Layout,
    files: &Files,
    options: &Options,
) -> Result<Component> {
    let (address, port) = endpoints.api;
    let show = |path: &Path| path.display().to_string();
    let server = Component::new("kube-apiserver", Site::Hub, programs.api_server.clone()).arguments([
        format!("--etcd-servers=http://127.0.0.1:{}", endpoints.etcd),
        format!("--bind-address={}", if address.is_loopback() { address } else { Ipv4Addr::UNSPECIFIED }),
        format!("--advertise-address={address}"),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", show(&layout.pki())),
        format!("--client-ca-file={}", show(&files.authority.certificate())),
        format!("--tls-cert-file={}", show(&files.server.certificate)),
        format!("--tls-private-key-file={}", show(&files.server.key)),
        format!("--kubelet-certificate-authority={}", show(&files.authority.certificate())),
        format!("--kubelet-client-certificate={}", show(&files.kubelet_client.certificate)),
        format!("--kubelet-client-key={}", show(&files.kubelet_client.key)),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", show(&files.account_keys.public)),
        format!("--service-account-signing-key-file={}", show(&files.account_keys.private)),
        format!("--service-cluster-ip-range={}", network::SERVICES),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        // The webhooks' services are dialled at their endpoints: there is no kube-proxy beside the API server.
        "--enable-aggregator-routing=true".into(),
        // Nobody waits for requests in flight when a test ends.
        "--shutdown-delay-duration=0s".into(),
    ]);
    let server = match options.profile {
        // A loopback address can't be an endpoint of the service `kubernetes`.
        Profile::Api => server.arguments(["--endpoint-reconciler-type=none"]),
        Profile::Node { .. } => server,
    };
    // Without controllers nobody makes the service accounts that pods would have to name.
    let server = match programs.controller_manager {
        None => server.arguments(["--disable-admission-plugins=ServiceAccount"]),
        Some(_) => server,
    };
    if !options.audit {
        return Ok(server);
    }
    let policy = layout.file("audit-policy.json");
    let rules = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    });
    fs::write(&policy, rules.to_string()).at(&policy)?;
    Ok(server.arguments([
        format!("--audit-policy-file={}", show(&policy)),
        format!("--audit-log-path={}", show(&audit_log(layout))),
    ]))
}

/// Where the audit log is, one JSON object a line.
pub(crate) fn audit_log(layout: &Layout) -> PathBuf {
    layout.logs().join("audit.log")
}

/// The controllers of Deployments, ReplicaSets, service accounts and so on.
pub(crate) fn controller_manager(program: PathBuf, endpoints: &Endpoints, files: &Files) -> Result<Component> {
    let user = User { name: "system:kube-controller-manager", group: None };
    let config = files.kubeconfig(endpoints, "kube-controller-manager", &user)?;
    let authority = files.authority.certificate();
    Ok(Component::new("kube-controller-manager", Site::Hub, program).arguments(with_kubeconfig(&config)).arguments([
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", endpoints.controller_manager),
        "--leader-elect=false".into(),
        "--use-service-account-credentials=true".into(),
        // It asks for forty accounts' tokens first; the usual 20 requests a second make that four seconds.
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
        format!("--service-account-private-key-file={}", files.account_keys.private.display()),
        format!("--root-ca-file={}", authority.display()),
    ]))
}

/// The scheduler.
pub(crate) fn scheduler(endpoints: &Endpoints, files: &Files) -> Result<Component> {
    let config = files.kubeconfig(endpoints, "kube-scheduler", &User { name: "system:kube-scheduler", group: None })?;
    Ok(Component::new("kube-scheduler", Site::Hub, tools::path(Tool::KubeScheduler)?)
        .arguments(with_kubeconfig(&config))
        .arguments(["--bind-address=127.0.0.1", "--leader-elect=false"]))
}

fn with_kubeconfig(config: &Path) -> [String; 3] {
    let config = config.display();
    [
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
    ]
}

/// The address at which the cluster reaches servers of this machine.
pub(crate) fn host_address(profile: Profile, plan: Plan) -> IpAddr {
    match profile {
        Profile::Api => Ipv4Addr::LOCALHOST.into(),
        Profile::Node { .. } => plan.host().into(),
    }
}
