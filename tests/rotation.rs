//! The webhook under a constant load through a real API server, while its certificate is renewed and while it is rolled.
//!
//! `ROTATIONS` and `RESTARTS` set how often, for a longer run: `make test-long`.
//!
//! What makes the renewal of the authority harmless is that its key stays: the API server's bundle and the webhook's files
//! change at different moments, and nobody can order them. So the test sees to that key too, before and after.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::client::{MERGE, Somebody, namespace};
use support::deployments::gated;
use support::eventually;
use support::files::{Authority, Secret, bundle};
use support::webhook::{Webhook, register};
use testcluster::{Cluster, Options, Profile, certmanager};
use tokio::net::{TcpListener, TcpStream};

use migration_gate::contract::label;

const SHOP: &str = "/apis/apps/v1/namespaces/shop/deployments";
const SECRETS: &str = "/api/v1/namespaces/migration-gate-system/secrets";
const CERTIFICATES: &str = "/apis/cert-manager.io/v1/namespaces/migration-gate-system/certificates";

/// The names of the installation's certificates and of the Secrets with them.
const LEAF: (&str, &str) = ("migration-gate-webhook", "migration-gate-webhook-tls");
const AUTHORITY: (&str, &str) = ("migration-gate-ca", "migration-gate-ca");

fn times(variable: &str, usually: usize) -> usize {
    std::env::var(variable).map_or(usually, |text| text.parse().expect("a number"))
}

/// Requests that go on until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Starts so many clients, each of which creates a gated workload, dry, again and again.
    fn start(administrator: &Somebody, clients: usize) -> Load {
        let (stop, done, failures) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::default());
        let tasks = (0..clients).map(|client| {
            let (stop, done) = (stop.clone(), done.clone());
            let failures: Arc<Mutex<Vec<String>>> = Arc::clone(&failures);
            let administrator = administrator.clone();
            let object = gated(&format!("load-{client}"));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match administrator.create(&format!("{SHOP}?dryRun=All"), &object).await {
                        Ok(created) if created["spec"]["template"]["spec"]["readinessGates"].is_array() => {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(created) => failures.lock().expect("no panic").push(format!("not injected: {created}")),
                        Err(status) => failures.lock().expect("no panic").push(status.message),
                    }
                }
            })
        });
        Load { tasks: tasks.collect(), stop, done, failures }
    }

    /// Ends it; how many requests succeeded, of which none failed.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no panic");
        }
        let failures = self.failures.lock().expect("no panic");
        let done = self.done.load(Ordering::Relaxed);
        assert!(failures.is_empty(), "{} of {done} failed: {:#?}", failures.len(), &failures[..failures.len().min(5)]);
        done
    }
}

async fn until_it_injects(administrator: &Somebody) {
    eventually("the API server to call the webhook", async || {
        let probe = administrator.create(&format!("{SHOP}?dryRun=All"), &gated("probe")).await;
        probe.ok().filter(|created| created["spec"]["template"]["spec"]["readinessGates"].is_array())
    })
    .await;
}

/// The pair in a Secret, once it is there and another than `before`.
async fn issued(administrator: &Somebody, secret: &str, before: Option<&(String, String)>) -> (String, String) {
    eventually(&format!("another pair in {secret}"), async || {
        let found = administrator.get(&format!("{SECRETS}/{secret}")).await.ok()?;
        let part = |key: &str| {
            let bytes = STANDARD.decode(found["data"][key].as_str()?).ok()?;
            String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
        };
        let pair = (part("tls.crt")?, part("tls.key")?);
        (Some(&pair) != before).then_some(pair)
    })
    .await
}

/// Waits until cert-manager has nothing left to do for a certificate.
async fn settled(administrator: &Somebody, certificate: &str) -> Value {
    eventually("the certificate to be settled", async || {
        let found = administrator.get(&format!("{CERTIFICATES}/{certificate}")).await.ok()?;
        let conditions = found["status"]["conditions"].as_array()?;
        let is = |name: &str| conditions.iter().any(|one| one["type"] == name && one["status"] == "True");
        (is("Ready") && !is("Issuing")).then_some(found)
    })
    .await
}

/// Asks cert-manager to issue a certificate again now, as its command line tool does.
async fn renew(administrator: &Somebody, certificate: &str) {
    let found = settled(administrator, certificate).await;
    let path = format!("{CERTIFICATES}/{certificate}");
    let mut conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|one| one["type"] != "Issuing");
    conditions.push(json!({"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "a test"}));
    let patch = json!({"status": {"conditions": conditions}});
    administrator.patch(&format!("{path}/status"), MERGE, &patch).await.expect("an ordinary change");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_fail_nobody() {
    let rotations = times("ROTATIONS", 20);
    let cluster = Cluster::boot(Options::new("t-rotation", Profile::Api)).expect("an API server");
    certmanager::install(&cluster).expect("cert-manager");
    let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
    let host = cluster.host_address();
    cluster.kubectl(&["apply", "-f", "deploy/namespace.yaml"]).expect("a namespace");
    let certificates = include_str!("../certs/certificates.yaml");
    // The only difference to the installation: there is no network with services here.
    let reachable = certificates.replace("  dnsNames:\n", &format!("  ipAddresses: [\"{host}\"]\n  dnsNames:\n"));
    assert_ne!(reachable, certificates);
    cluster.apply(&reachable).expect("the installation's certificates");
    let mut pair = issued(&administrator, LEAF.1, None).await;
    let mut authority = issued(&administrator, AUTHORITY.1, None).await;
    let mut secret = Secret::new(cluster.folder("tls").expect("a folder").join("secret"), &pair);
    let webhook = Webhook::start(host, secret.path(), 0).await;
    // cert-manager writes the authority into it, by the installation's annotation.
    register(&administrator, webhook.address, "").await;
    namespace(&administrator, "shop", json!({ label::INJECT: label::INJECT_ENABLED })).await;
    until_it_injects(&administrator).await;

    let load = Load::start(&administrator, 4);
    let (start, mut authorities) = (Instant::now(), 0);
    for rotation in 1..=rotations {
        if rotation % 10 == 0 {
            renew(&administrator, AUTHORITY.0).await;
            let renewed = issued(&administrator, AUTHORITY.1, Some(&authority)).await;
            assert_eq!(renewed.1, authority.1, "renewal {rotation} gave the authority another key");
            authority = renewed;
            authorities += 1;
        }
        renew(&administrator, LEAF.0).await;
        pair = issued(&administrator, LEAF.1, Some(&pair)).await;
        secret.swap(&pair);
        eventually("the new certificate in service", async || {
            let reloads = webhook.metric("migration_gate_certificate_reloads_total").await;
            (reloads == rotation as f64).then_some(())
        })
        .await;
    }
    let took = start.elapsed();
    let done = load.end().await;
    assert_eq!(webhook.metric("migration_gate_certificate_errors_total").await, 0.0);
    assert!(done as usize > rotations, "{done}");
    eprintln!("{rotations} certificates and {authorities} authorities in {took:?}: {done} admissions, none failed");
}

/// New connections go to whoever is ready, and open ones stay where they are: what a Service does.
#[derive(Clone, Default)]
struct Service {
    ready: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Service {
    async fn listen(&self, host: IpAddr) -> SocketAddr {
        let listener = TcpListener::bind((host, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let ready = self.ready.clone();
        tokio::spawn(async move {
            for turn in 0_usize.. {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                let ready = ready.clone();
                tokio::spawn(async move {
                    let endpoint = {
                        let ready = ready.lock().expect("no panic");
                        ready[turn % ready.len()]
                    };
                    let Ok(mut server) = TcpStream::connect(endpoint).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        address
    }

    fn add(&self, endpoint: SocketAddr) {
        self.ready.lock().expect("no panic").push(endpoint);
    }

    fn remove(&self, endpoint: SocketAddr) {
        self.ready.lock().expect("no panic").retain(|ready| *ready != endpoint);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_nobody() {
    let restarts = times("RESTARTS", 10);
    let cluster = Cluster::boot(Options::new("t-restart", Profile::Api)).expect("an API server");
    let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
    let host = cluster.host_address();
    let authority = Authority::new();
    let secret = Secret::new(cluster.folder("tls").expect("a folder").join("secret"), &authority.issue(&[host]));
    let service = Service::default();
    let mut replicas = std::collections::VecDeque::new();
    for _ in 0..2 {
        let replica = Webhook::start(host, secret.path(), 0).await;
        service.add(replica.address);
        replicas.push_back(replica);
    }
    register(&administrator, service.listen(host).await, &bundle(&[&authority])).await;
    namespace(&administrator, "shop", json!({ label::INJECT: label::INJECT_ENABLED })).await;
    until_it_injects(&administrator).await;

    let load = Load::start(&administrator, 4);
    let start = Instant::now();
    for _ in 0..restarts {
        // As the Deployment says: a new one is ready before an old one goes.
        let new = Webhook::start(host, secret.path(), 0).await;
        service.add(new.address);
        replicas.push_back(new);
        let old = replicas.pop_front().expect("three");
        old.terminate();
        // The cluster needs a moment to learn that it goes.
        tokio::time::sleep(Duration::from_millis(200)).await;
        service.remove(old.address);
        assert!(old.ended().await.success());
    }
    let took = start.elapsed();
    let done = load.end().await;
    assert!(done as usize > restarts, "{done}");
    eprintln!("{restarts} restarts in {took:?}: {done} admissions, none failed");
}
