//! The reviews that are sent: Deployments as an API server shows them, in two sizes.

use std::fmt::Write as _;

use migration_gate_contract::{DOMAIN, annotation, label};
use serde_json::{Value, json};

/// How large the created Deployment's review is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// About 6 kB: one container with a screenful of settings.
    Usual,
    /// About 60 kB: five containers with a hundred variables each.
    Large,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A new Deployment, which is to be injected.
    Create,
    /// An injected Deployment of which only the replicas change.
    StickyUpdate,
    /// A new Deployment with an annotation that doesn't exist.
    Denial,
}

impl Size {
    /// All sizes.
    pub const ALL: [Size; 2] = [Size::Usual, Size::Large];

    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Size::Usual => "6 kB",
            Size::Large => "60 kB",
        }
    }

    fn containers(self) -> (usize, usize) {
        match self {
            Size::Usual => (1, 22),
            Size::Large => (5, 100),
        }
    }
}

impl Question {
    /// All questions.
    pub const ALL: [Question; 3] = [Question::Create, Question::StickyUpdate, Question::Denial];

    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Question::Create => "create",
            Question::StickyUpdate => "sticky update",
            Question::Denial => "denial",
        }
    }
}

/// A Deployment that asks for a gate, as an API server has it after defaulting.
pub fn deployment(size: Size) -> Value {
    let (containers, variables) = size.containers();
    let names = ["web", "worker", "scheduler", "exporter", "cache"];
    let containers: Vec<Value> = names.iter().take(containers).map(|name| container(name, variables)).collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "orders",
            "namespace": "shop",
            "labels": {"app": "orders", "team": "checkout", label::GATED: label::GATED_TRUE},
            "annotations": {
                annotation::COMMAND: "alembic upgrade head",
                "meta.helm.sh/release-name": "orders",
                "meta.helm.sh/release-namespace": "shop",
            },
        },
        "spec": {
            "replicas": 3,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {
                    "labels": {"app": "orders", "team": "checkout"},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
                },
                "spec": {
                    "containers": containers,
                    "volumes": [
                        {"name": "config", "configMap": {"name": "orders-config-7f8h9k2m4t", "defaultMode": 420}},
                        {"name": "tmp", "emptyDir": {}},
                        {"name": "secret", "secret": {"secretName": "orders", "defaultMode": 420}},
                    ],
                    "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst",
                    "serviceAccountName": "orders",
                    "serviceAccount": "orders",
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "schedulerName": "default-scheduler",
                    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                        "weight": 100,
                        "podAffinityTerm": {
                            "labelSelector": {"matchLabels": {"app": "orders"}},
                            "topologyKey": "kubernetes.io/hostname",
                        },
                    }]}},
                },
            },
        },
        "status": {},
    })
}

fn container(name: &str, variables: usize) -> Value {
    let probe = |path: &str| {
        json!({
            "httpGet": {"path": path, "port": 8080, "scheme": "HTTP"},
            "initialDelaySeconds": 5, "timeoutSeconds": 2, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    };
    json!({
        "name": name,
        "image": format!("registry.example/shop/{name}:2026.11.21-7f8h9k"),
        "imagePullPolicy": "IfNotPresent",
        "args": ["--listen=0.0.0.0:8080", "--workers=4"],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": (0..variables).map(variable).collect::<Vec<_>>(),
        "envFrom": [{"configMapRef": {"name": "orders-environment"}}],
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/orders", "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "secret", "mountPath": "/run/secrets/orders", "readOnly": true},
        ],
        "livenessProbe": probe("/healthz"),
        "readinessProbe": probe("/readyz"),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
    })
}

fn variable(number: usize) -> Value {
    match number % 4 {
        0 => {
            json!({"name": format!("FEATURE_{number}_ENDPOINT"), "value": format!("https://feature-{number}.shop.svc.cluster.local:8443/v2")})
        }
        1 => json!({"name": format!("POOL_SIZE_{number}"), "value": "32"}),
        2 => {
            json!({"name": format!("SECRET_{number}"), "valueFrom": {"secretKeyRef": {"name": "orders", "key": format!("secret-{number}")}}})
        }
        _ => {
            json!({"name": format!("POD_{number}"), "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}})
        }
    }
}

/// The review's bytes as an API server writes them. `injected` is the same Deployment with the injection in it.
pub fn review(question: Question, size: Size, injected: &Value) -> Vec<u8> {
    let (operation, object, old_object) = match question {
        Question::Create => ("CREATE", deployment(size), Value::Null),
        Question::Denial => {
            let mut object = deployment(size);
            object["metadata"]["annotations"][format!("{DOMAIN}/comand")] = json!("alembic upgrade head");
            ("CREATE", object, Value::Null)
        }
        Question::StickyUpdate => {
            let old = with_managed_fields(injected);
            let mut new = old.clone();
            new["spec"]["replicas"] = json!(5);
            ("UPDATE", new, old)
        }
    };
    // Go writes the fields in the order of their declarations, so the UID comes first. Source: k8s.io/api/admission/v1.
    let mut text = String::from(r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"#);
    let options = if operation == "CREATE" { "CreateOptions" } else { "UpdateOptions" };
    for (key, value) in [
        ("uid", json!("705ab4f5-6393-11e8-b7cc-42010a800002")),
        ("kind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
        ("resource", json!({"group": "apps", "version": "v1", "resource": "deployments"})),
        ("requestKind", json!({"group": "apps", "version": "v1", "kind": "Deployment"})),
        ("requestResource", json!({"group": "apps", "version": "v1", "resource": "deployments"})),
        ("name", json!("orders")),
        ("namespace", json!("shop")),
        ("operation", json!(operation)),
        (
            "userInfo",
            json!({"username": "system:serviceaccount:argocd:argocd-application-controller",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:argocd", "system:authenticated"]}),
        ),
        ("object", object),
        ("oldObject", old_object),
        ("dryRun", json!(false)),
    ] {
        // Writing to a String can't fail.
        let _ = write!(text, "{}:{value},", json!(key));
    }
    let options = json!({"kind": options, "apiVersion": "meta.k8s.io/v1", "fieldManager": "argocd-controller"});
    let _ = write!(text, r#""options":{options}}}}}"#);
    text.into_bytes()
}

/// Who wrote which field, which stored objects carry; short for what it can be.
fn with_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["uid"] = json!("0f1b3a52-8d0c-4a6d-9d0a-6f3f0e6d8c11");
    object["metadata"]["resourceVersion"] = json!("81293");
    object["metadata"]["generation"] = json!(3);
    object["metadata"]["creationTimestamp"] = json!("2026-11-21T09:00:00Z");
    object["metadata"]["managedFields"] = json!([{
        "manager": "argocd-controller", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-11-21T09:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:app": {}, "f:team": {}}}, "f:spec": {"f:replicas": {},
            "f:template": {"f:metadata": {"f:labels": {"f:app": {}}}, "f:spec": {"f:containers": {
                "k:{\"name\":\"web\"}": {".": {}, "f:args": {}, "f:env": {}, "f:image": {}, "f:name": {}}}}}}},
    }]);
    object
}
