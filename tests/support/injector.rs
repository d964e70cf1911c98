//! Another mutating webhook: a sidecar injector as they are usually written. It adds what isn't there yet to whatever
//! pod template it is shown.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::post;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use migration_gate::metrics::{CertificateMetrics, Metrics, ServerMetrics};
use migration_gate::server::{Drain, Limits, ListenAddress, Server, Transport};
use migration_gate::tls::Certificates;
use serde_json::{Value, json};

use super::client::Somebody;

/// What it puts in.
pub const SIDECAR: &str = "mesh";
pub const VARIABLE: &str = "MESH_PROXY";
pub const VOLUME: &str = "mesh-certificates";

/// Each object that it was shown, as it came.
type Shown = Arc<Mutex<Vec<Value>>>;

/// A running injector. It ends when this is dropped.
pub struct Injector {
    address: SocketAddr,
    shown: Shown,
    drain: Drain,
}

impl Injector {
    /// Starts one that serves with this certificate.
    pub fn start(host: IpAddr, tls: &Path) -> Injector {
        let mut metrics = Metrics::new();
        let certificates = CertificateMetrics::register(metrics.registry());
        let certificates = Certificates::open(tls, certificates).expect("a certificate");
        let listener = ListenAddress::One((host, 0).into()).listen().expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (shown, drain) = (Shown::default(), Drain::default());
        let server = Server {
            name: "injector",
            listener,
            transport: Transport::Tls(certificates.server_config().expect("TLS")),
            router: Router::new().route("/inject", post(inject)).with_state(shown.clone()),
            limits: Limits::default(),
            metrics: ServerMetrics::default(),
            drain: drain.clone(),
        };
        tokio::spawn(server.run());
        Injector { address, shown, drain }
    }

    /// Registers it for one namespace. The API server calls the configurations in the order of their names.
    pub async fn register(&self, who: &Somebody, name: &str, namespace: &str, reinvocation: &str, bundle: &str) {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": format!("{name}.mesh.example"),
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": format!("https://{}/inject", self.address), "caBundle": bundle},
                "rules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["deployments"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "reinvocationPolicy": reinvocation,
            }],
        });
        who.must_create("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", &configuration).await;
    }

    /// What it was shown of one object, in order.
    pub fn shown(&self, name: &str) -> Vec<Value> {
        let all = self.shown.lock().expect("no panic");
        all.iter().filter(|object| object["metadata"]["name"] == name).cloned().collect()
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.drain.stop.request();
    }
}

async fn inject(State(shown): State<Shown>, body: Bytes) -> impl IntoResponse {
    let review: Value = serde_json::from_slice(&body).expect("the API server sends JSON");
    let object = review["request"]["object"].clone();
    let mut injected = object.clone();
    add(&mut injected["spec"]["template"]["spec"]);
    let patch = serde_json::to_vec(&json_patch::diff(&object, &injected)).expect("a patch");
    shown.lock().expect("no panic").push(object);
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": review["request"]["uid"],
            "allowed": true,
            "patchType": "JSONPatch",
            "patch": BASE64_STANDARD.encode(patch),
        },
    });
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string())
}

/// A native sidecar in front, for whoever it finds; a variable and a mount in every other container.
fn add(spec: &mut Value) {
    push(&mut spec["volumes"], json!({"name": VOLUME, "emptyDir": {}}), usize::MAX);
    let sidecar = json!({"name": SIDECAR, "image": "registry.example/mesh:1.0", "restartPolicy": "Always"});
    push(&mut spec["initContainers"], sidecar, 0);
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten().filter(|one| one["name"] != SIDECAR) {
            push(&mut container["env"], json!({"name": VARIABLE, "value": "http://127.0.0.1:15001"}), usize::MAX);
            let mount = json!({"name": VOLUME, "mountPath": "/run/mesh"});
            push(&mut container["volumeMounts"], mount, usize::MAX);
        }
    }
}

/// Puts an entry into a list, unless one of its name is there.
fn push(list: &mut Value, entry: Value, at: usize) {
    if !list.is_array() {
        *list = json!([]);
    }
    let list = list.as_array_mut().expect("a list, made just above if it wasn't one");
    if list.iter().all(|other| other["name"] != entry["name"]) {
        list.insert(at.min(list.len()), entry);
    }
}
