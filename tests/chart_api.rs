//! The Helm chart: the same objects as the kustomization's, values that are checked, and a life on a real API server.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::client::Somebody;
use support::eventually;
use support::files::Authority;
use testcluster::tools::{self, Tool};
use testcluster::{Cluster, Options, Profile, certmanager};

const NAMESPACE: &str = "migration-gate-system";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs Helm with a home of its own. What it says, or what it complains about.
fn helm(home: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tools::path(Tool::Helm).expect("helm"))
        .args(arguments)
        .current_dir(root())
        .env("HELM_CACHE_HOME", home.join("cache"))
        .env("HELM_CONFIG_HOME", home.join("config"))
        .env("HELM_DATA_HOME", home.join("data"))
        .output()
        .expect("helm starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn rendered(values: &[&str]) -> Result<String, String> {
    let home = std::env::temp_dir();
    helm(&home, &[&["template", "migration-gate", "deploy/chart", "--namespace", NAMESPACE], values].concat())
}

/// What [`objects`] has an object of the installation's namespace by.
fn namespaced(kind: &str, name: &str) -> (String, String, String) {
    (kind.to_owned(), NAMESPACE.to_owned(), name.to_owned())
}

/// The objects of a stream, by kind, namespace and name, without what says only who installed them.
fn objects(stream: &str) -> BTreeMap<(String, String, String), Value> {
    let read: Vec<Value> = serde_saphyr::from_multiple(stream).expect("YAML");
    let keyed = read.into_iter().filter(|object| !object.is_null()).map(|mut object| {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        for (part, keys) in [
            (
                "labels",
                &[
                    "app.kubernetes.io/managed-by",
                    "app.kubernetes.io/version",
                    "app.kubernetes.io/part-of",
                    "helm.sh/chart",
                ][..],
            ),
            ("annotations", &["helm.sh/resource-policy"][..]),
        ] {
            let Some(entries) = metadata.get_mut(part).and_then(Value::as_object_mut) else { continue };
            entries.retain(|key, _| !keys.contains(&key.as_str()));
            if entries.is_empty() {
                metadata.remove(part);
            }
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        ((text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"])), object)
    });
    keyed.collect()
}

#[test]
fn the_chart_and_the_kustomization_are_the_same_objects() {
    let output = Command::new(tools::path(Tool::Kubectl).expect("kubectl"))
        .arg("kustomize")
        .arg(root())
        .output()
        .expect("kubectl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut kustomized = objects(&String::from_utf8(output.stdout).expect("UTF-8"));
    // Helm makes the namespace itself, if it is asked to.
    assert!(kustomized.remove(&("Namespace".to_owned(), String::new(), NAMESPACE.to_owned())).is_some());
    let charted = objects(&rendered(&[]).expect("the defaults"));
    assert_eq!(charted.keys().collect::<Vec<_>>(), kustomized.keys().collect::<Vec<_>>());
    for (key, object) in &charted {
        assert_eq!(object, &kustomized[key], "{key:?}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_name() {
    for (value, named) in [
        ("webhook.failurePolicy=Maybe", "failurePolicy"),
        ("webhook.replicas=0", "replicas"),
        ("image.digest=latest", "digest"),
        ("contoller.replicas=3", "contoller"),
        ("tls.certManager.enabled=false", "tls.existingSecret"),
        ("controller.page.port=80", "port"),
        ("webhook.agentDelivery=volume", "agentDelivery"),
        (
            "controller.page.enabled=true,tls.certManager.enabled=false,tls.existingSecret=a,tls.caBundle=-----BEGIN CERTIFICATE-----",
            "controller.page.existingSecret",
        ),
    ] {
        let refusal = rendered(&["--set", value]).expect_err(value);
        assert!(refusal.contains(named), "{value}: {refusal}");
    }
}

#[test]
fn what_the_prometheus_operator_and_grafana_load_is_what_the_files_say() {
    let options = ["--set", "podMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true"];
    let charted = objects(&rendered(&options).expect("the options"));
    let of =
        |kind: &str| charted.iter().find(|((found, _, _), _)| found == kind).map(|(_, object)| object).expect(kind);
    let rules: Value = serde_saphyr::from_str(include_str!("../deploy/monitoring/alerts.yaml")).expect("YAML");
    assert_eq!(of("PrometheusRule")["spec"], rules);
    let dashboard = of("ConfigMap")["data"]["migration-gate.json"].as_str().expect("a file");
    assert_eq!(dashboard, include_str!("../deploy/monitoring/dashboard.json"));
    assert_eq!(of("PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"], "health");
}

#[test]
fn how_the_agent_gets_into_pods_is_an_option_of_the_webhook() {
    let charted = objects(&rendered(&["--set", "webhook.agentDelivery=image-volume"]).expect("the option"));
    let webhook = &charted[&namespaced("Deployment", "migration-gate-webhook")];
    let env = webhook["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("a list");
    assert!(env.contains(&json!({ "name": "MIGRATION_GATE_AGENT_DELIVERY", "value": "image-volume" })), "{env:?}");
}

#[test]
fn the_page_is_for_who_may_forward_a_port_and_off_by_default() {
    let usual = objects(&rendered(&[]).expect("the defaults"));
    let paged = objects(&rendered(&["--set", "controller.page.enabled=true"]).expect("the page"));
    let (controller, page) =
        (namespaced("Deployment", "migration-gate-controller"), namespaced("Certificate", "migration-gate-page"));
    // Nothing else differs: no Service leads to it, and no network policy opens a way.
    let differ = |key: &&(String, String, String)| usual.get(*key) != paged.get(*key);
    assert_eq!(paged.keys().filter(differ).collect::<Vec<_>>(), [&page, &controller]);
    let spec = |objects: &BTreeMap<_, Value>| objects[&controller]["spec"]["template"]["spec"].clone();
    let listens = |spec: &Value| spec.to_string().contains("MIGRATION_GATE_PAGE_LISTEN");
    assert!(!listens(&spec(&usual)) && listens(&spec(&paged)));
    assert!(spec(&paged).to_string().contains("127.0.0.1:8444"));
    assert_eq!(spec(&paged)["volumes"][0]["secret"]["optional"], true, "no controller waits for a page");
    assert_eq!(paged[&page]["spec"]["dnsNames"], json!(["localhost"]));
    let own = ["--set", "controller.page.enabled=true,controller.page.existingSecret=mine"];
    let own = objects(&rendered(&own).expect("an own Secret"));
    assert!(!own.contains_key(&page));
    assert_eq!(spec(&own)["volumes"][0]["secret"]["secretName"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_installed_upgraded_rolled_back_and_uninstalled() {
    let cluster = Cluster::boot(Options::new("t-chart", Profile::Api)).expect("an API server");
    certmanager::install(&cluster).expect("cert-manager");
    let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
    let home = cluster.folder("helm").expect("a folder");
    let kubeconfig = cluster.kubeconfig();
    let helm = |arguments: &[&str]| {
        let common = ["--kubeconfig", kubeconfig.to_str().expect("a path"), "--namespace", NAMESPACE];
        helm(&home, &[arguments, &common].concat()).expect("helm")
    };
    let replicas = async || {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/migration-gate-controller");
        administrator.get(&path).await.expect("it exists")["spec"]["replicas"].clone()
    };
    let notes = helm(&["install", "gate", "deploy/chart", "--create-namespace"]);
    assert!(notes.contains("migration-gate.dev/inject=enabled"), "{notes}");
    assert_eq!(replicas().await, 2);
    helm(&["upgrade", "gate", "deploy/chart", "--set", "controller.replicas=3"]);
    assert_eq!(replicas().await, 3);
    // Turned on as docs/page.md has it; who signs for the webhook signs for the page, and the rest stays as it was.
    helm(&["upgrade", "gate", "deploy/chart", "--reset-then-reuse-values", "--set", "controller.page.enabled=true"]);
    assert_eq!(replicas().await, 3);
    let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/migration-gate-page-tls");
    let secret = eventually("the page's certificate", async || administrator.get(&secret).await.ok()).await;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    helm(&["rollback", "gate", "1"]);
    assert_eq!(replicas().await, 2);

    helm(&["uninstall", "gate", "--wait"]);

    // Every option, taken by the same API server. It is installed anew: on an upgrade cert-manager would go on to own
    // the bundle in the registration.
    let authority = Authority::new();
    let values = cluster.folder("values").expect("a folder").join("values.yaml");
    let every = json!({
        "image": { "repository": "registry.example/gate", "digest": format!("sha256:{}", "0".repeat(64)), "pullPolicy": "Always" },
        "imagePullSecrets": [{ "name": "registry" }],
        "commonLabels": { "team": "platform" },
        "controller": { "trustNodeDeletion": false, "otlpEndpoint": "http://collector.observability:4318", "nodeSelector": { "pool": "system" }, "tolerations": [{ "operator": "Exists" }], "podAnnotations": { "a": "b" }, "podLabels": { "c": "d" } },
        "webhook": { "failurePolicy": "Ignore", "timeoutSeconds": 10, "excludedNamespaces": ["kube-system", "cert-manager"], "namespaceSelector": [{ "key": "tier", "operator": "Exists" }] },
        "tls": { "certManager": { "enabled": false }, "existingSecret": "own-tls", "caBundle": authority.certificate },
    });
    std::fs::write(&values, every.to_string()).expect("a file");
    helm(&["install", "gate", "deploy/chart", "--values", values.to_str().expect("a path")]);
    let registered = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/migration-gate";
    let webhook = administrator.get(registered).await.expect("it is registered")["webhooks"][0].clone();
    assert_eq!((&webhook["failurePolicy"], &webhook["timeoutSeconds"]), (&json!("Ignore"), &json!(10)));
    assert_eq!(
        webhook["namespaceSelector"]["matchExpressions"][0]["values"],
        json!(["kube-system", "cert-manager", NAMESPACE])
    );
    let traces =
        format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/migration-gate-controller-traces");
    let traces = administrator.get(&traces).await.expect("the way to the collector is open");
    assert_eq!(traces["spec"]["egress"][0]["ports"][0]["port"], 4318);

    helm(&["uninstall", "gate", "--wait"]);
    assert_eq!(administrator.get(registered).await.expect_err("it is gone").code, 404);
    // With the definition every record would go, and with the records what succeeded.
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/migrationgates.migration-gate.dev";
    administrator.get(definition).await.expect("it stays");
}
