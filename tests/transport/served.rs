//! A webhook of its own for a test, and what it is sent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::support::files::{Authority, Secret};
use crate::support::https::Door;
use crate::support::webhook::Webhook;

pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const MIB: usize = 1 << 20;

/// The most memory that the webhook may ever have in use.
pub(crate) const RESIDENT: u64 = 64 << 20;

/// The file of the program that ships, all of which may be in memory; the one under test is several times as large.
pub(crate) const CODE: u64 = 17 << 20;

/// What an API server waits for an answer by default. The webhook's configuration says 5 s; a busy machine that runs the
/// tests may take longer than one that serves.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Held by the tests that take all of the machine.
pub(crate) static MACHINE: Mutex<()> = Mutex::const_new(());

pub(crate) struct Served {
    pub(crate) webhook: Webhook,
    pub(crate) door: Door,
    pub(crate) authority: Authority,
    pub(crate) secret: Secret,
    pub(crate) folder: PathBuf,
}

impl Served {
    pub(crate) async fn start(name: &str) -> Served {
        let folder = std::env::temp_dir().join(format!("migration-gate-{name}-{}", std::process::id()));
        let authority = Authority::new();
        let secret = Secret::new(folder.join("tls"), &authority.issue(&[HOST]));
        let webhook = Webhook::start(HOST, secret.path(), 0).await;
        let door = Door::new(webhook.address, &authority.certificate);
        Served { webhook, door, authority, secret, folder }
    }

    /// An ordinary review is answered at once.
    pub(crate) async fn works(&self) {
        let start = Instant::now();
        let answer = self.door.review(&create(&deployment()).to_string().into_bytes()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("\"patch\""), "{}", answer.text());
        assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    }

    /// For whoever reads along.
    pub(crate) fn memory(&self, when: &str) {
        let (resident, peak) = (self.webhook.resident(), self.webhook.peak());
        eprintln!("{when}: {} MiB resident, {} MiB at the most so far", resident >> 20, peak >> 20);
    }

    /// Nothing was logged that is a defect, and the memory kept its bound.
    pub(crate) fn sound(&self) {
        for line in self.webhook.log() {
            assert!(line["level"] != "ERROR", "{line}");
        }
        let peak = self.webhook.peak() - self.webhook.code() + CODE;
        assert!(peak <= RESIDENT, "{} MiB", peak >> 20);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "orders", "namespace": "shop",
            "labels": {"migration-gate.dev/gated": "true"},
            "annotations": {"migration-gate.dev/command": "alembic upgrade head"},
        },
        "spec": {
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example/shop:1.0"}]},
            },
        },
    })
}

pub(crate) fn create(object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "namespace": "shop", "name": "orders", "operation": "CREATE",
            "userInfo": {"username": "somebody"}, "dryRun": false, "object": object,
        },
    })
}

/// A review of about so many bytes.
pub(crate) fn large(bytes: usize) -> Vec<u8> {
    let mut object = deployment();
    object["metadata"]["annotations"]["note"] = json!("x".repeat(bytes));
    create(&object).to_string().into_bytes()
}
