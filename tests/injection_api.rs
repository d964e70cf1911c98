//! Injection on a real API server: every way of writing a workload, another version of the webhook, and thousands of
//! workloads that were valid and stay so.

mod support;

use std::process::Command;

use futures::{StreamExt, stream};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::client::{APPLY, MERGE, Somebody, namespace};
use support::eventually;
use support::files::{Authority, Secret, bundle};
use support::webhook::{Webhook, register};
use support::workloads::deployment;
use testcluster::{Cluster, Options, Profile};

use migration_gate::admission::unrender;
use migration_gate::contract::{annotation, label};

const SHOP: &str = "/apis/apps/v1/namespaces/shop/deployments";

/// How many workloads are generated.
const GENERATED: usize = 2000;

/// How many requests are under way at a time.
const AT_ONCE: usize = 16;

/// A cluster with the webhook in it.
struct Installed {
    cluster: Cluster,
    administrator: Somebody,
    secret: Secret,
    webhook: Webhook,
}

impl Installed {
    async fn boot(name: &str) -> Installed {
        let cluster = Cluster::boot(Options::new(name, Profile::Api)).expect("an API server");
        let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
        let host = cluster.host_address();
        let authority = Authority::new();
        let secret = Secret::new(cluster.folder("tls").expect("a folder").join("secret"), &authority.issue(&[host]));
        let webhook = Webhook::start(host, secret.path(), 0).await;
        register(&administrator, webhook.address, &bundle(&[&authority])).await;
        let opted_in = |more: Value| {
            let mut labels = json!({ label::INJECT: label::INJECT_ENABLED });
            labels.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
            labels
        };
        namespace(&administrator, "shop", opted_in(json!({}))).await;
        namespace(&administrator, "plain", json!({})).await;
        namespace(&administrator, "strict", json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
        let installed = Installed { cluster, administrator, secret, webhook };
        eventually("the API server to call the webhook", async || {
            let probe = installed.administrator.create(&format!("{SHOP}?dryRun=All"), &wrapping("probe")).await;
            probe.ok().filter(|probe| !template(probe)["metadata"]["annotations"].is_null())
        })
        .await;
        installed
    }

    /// Puts a webhook of another version in the place of this one.
    async fn upgrade(mut self) -> Installed {
        let (address, host) = (self.webhook.address, self.cluster.host_address());
        self.webhook.terminate();
        assert!(self.webhook.ended().await.success());
        let image = "localhost/migration-gate:next";
        self.webhook = Webhook::start_with(image, host, self.secret.path(), address.port()).await;
        self
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments).expect("kubectl")
    }

    /// kubectl with a manifest.
    fn with_manifest(&self, verb: &[&str], manifest: &Value) -> String {
        let file = self.cluster.folder("manifests").expect("a folder").join("manifest.json");
        std::fs::write(&file, manifest.to_string()).expect("a file");
        let file = file.to_str().expect("a path").to_owned();
        self.kubectl(&[verb, &["-n", "shop", "-f", &file]].concat())
    }

    async fn template(&self, name: &str) -> Value {
        template(&self.administrator.get(&format!("{SHOP}/{name}")).await.expect("it exists")).clone()
    }
}

/// A Deployment with an init container that migrates, to be wrapped.
fn wrapping(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name,
            "labels": {label::GATED: label::GATED_TRUE},
            "annotations": {annotation::CONTAINER: "migrate"},
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "initContainers": [{"name": "migrate", "image": "shop:1", "command": ["alembic", "upgrade", "head"]}],
                    "containers": [{"name": "web", "image": "shop:1"}],
                },
            },
        },
    })
}

/// The same with a copy instead.
fn copying(name: &str) -> Value {
    let mut deployment = wrapping(name);
    deployment["metadata"]["annotations"] = json!({ annotation::COMMAND: "alembic upgrade head" });
    deployment["spec"]["template"]["spec"]["initContainers"] = Value::Null;
    deployment
}

/// A wrapped init container that leaves its program to its image.
fn leaving_the_program(name: &str) -> Value {
    let mut deployment = wrapping(name);
    deployment["metadata"]["annotations"][annotation::ENTRYPOINT] = json!("alembic");
    deployment["spec"]["template"]["spec"]["initContainers"] =
        json!([{"name": "migrate", "image": "shop:1", "args": ["upgrade", "head"]}]);
    deployment
}

fn template(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]
}

fn fingerprint(template: &Value) -> &Value {
    &template["metadata"]["labels"][label::MIGRATION]
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_a_workload_and_however_nothing_rolls_out_by_itself() {
    let installed = Installed::boot("t-injection").await;
    let mut written = Vec::new();
    let shapes = [("wrap", wrapping("wrap")), ("copy", copying("copy")), ("program", leaving_the_program("program"))];
    for (how, manifest) in shapes {
        for way in ["client", "server", "create"] {
            let name = format!("{how}-{way}");
            let text = manifest.to_string().replace(&format!("\"{how}\""), &format!("\"{name}\""));
            let manifest: Value = serde_json::from_str(&text).expect("JSON");
            match way {
                "client" => installed.with_manifest(&["apply"], &manifest),
                "server" => installed.with_manifest(&["apply", "--server-side"], &manifest),
                _ => installed.with_manifest(&["create"], &manifest),
            };
            let template = installed.template(&name).await;
            assert!(fingerprint(&template).is_string(), "{name}: {template:#}");
            written.push((name, way, manifest, template));
        }
    }
    let installed = installed.upgrade().await;
    for (name, way, manifest, before) in &written {
        for round in 0..2 {
            match *way {
                "client" => installed.with_manifest(&["apply"], manifest),
                "server" => installed.with_manifest(&["apply", "--server-side"], manifest),
                _ => installed.with_manifest(&["replace"], manifest),
            };
            assert_eq!(&installed.template(name).await, before, "{name}, written again {round}");
        }
        edit(&installed, name, "s/replicas: 0/replicas: 0\\n  minReadySeconds: 5/");
        assert_eq!(&installed.template(name).await, before, "{name}, edited");
        assert!(difference(&installed, way, manifest).is_empty(), "{name}: {}", difference(&installed, way, manifest));
        installed
            .administrator
            .patch(&format!("{SHOP}/{name}"), MERGE, &json!({"metadata": {"labels": {"x": "y"}}}))
            .await
            .expect("a label");
        assert_eq!(&installed.template(name).await, before, "{name}, labelled");
    }
    for (name, way, manifest, before) in &written {
        a_change_and_its_undo(&installed, name, way, manifest, before).await;
    }
    the_label_takes_it_out(&installed, &written).await;
    offline_injection_is_the_webhooks(&installed).await;
}

/// `kubectl edit` with an editor that does this.
fn edit(installed: &Installed, name: &str, script: &str) {
    let mut command: Command = installed.cluster.kubectl_command();
    command.args(["edit", "-n", "shop", "deployment", name]).env("KUBE_EDITOR", format!("sed -i -e '{script}'"));
    let output = command.output().expect("kubectl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a GitOps tool's server-side difference shows of the template.
fn difference(installed: &Installed, way: &str, manifest: &Value) -> String {
    if way == "create" {
        return String::new();
    }
    let file = installed.cluster.folder("manifests").expect("a folder").join("difference.json");
    std::fs::write(&file, manifest.to_string()).expect("a file");
    let mut command = installed.cluster.kubectl_command();
    command.args(["diff", "-n", "shop", "-f"]).arg(&file);
    if way == "server" {
        command.arg("--server-side");
    }
    let output = String::from_utf8(command.output().expect("kubectl runs").stdout).expect("text");
    // The edit above is a difference, outside the template; lines of context are none.
    let lines = output
        .lines()
        .filter(|line| line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---"));
    lines
        .filter(|line| !line.contains("minReadySeconds") && !line.contains("generation:"))
        .collect::<Vec<_>>()
        .join("\n")
}

async fn a_change_and_its_undo(installed: &Installed, name: &str, way: &str, manifest: &Value, before: &Value) {
    // The Deployment controller has taken note of the first revision.
    let sets = format!("/apis/apps/v1/namespaces/shop/replicasets?labelSelector=app%3D{name}");
    let count = async || {
        let sets = installed.administrator.get(&sets).await.expect("a list");
        sets["items"].as_array().map_or(0, Vec::len)
    };
    eventually("the first ReplicaSet", async || (count().await == 1).then_some(())).await;
    let text = manifest.to_string().replace("shop:1", "shop:2");
    let changed: Value = serde_json::from_str(&text).expect("JSON");
    match way {
        "client" => installed.with_manifest(&["apply"], &changed),
        "server" => installed.with_manifest(&["apply", "--server-side"], &changed),
        _ => installed.with_manifest(&["replace"], &changed),
    };
    let after = installed.template(name).await;
    assert_ne!(fingerprint(&after), fingerprint(before), "{name}");
    let text = after.to_string();
    assert!(!text.contains("shop:1") && text.contains("migration-gate:next"), "{name}: {after:#}");
    eventually("the second ReplicaSet", async || (count().await == 2).then_some(())).await;
    installed.kubectl(&["rollout", "undo", "-n", "shop", &format!("deployment/{name}")]);
    assert_eq!(&installed.template(name).await, before, "{name}, undone");
    installed.kubectl(&["rollout", "restart", "-n", "shop", &format!("deployment/{name}")]);
    let restarted = installed.template(name).await;
    assert_eq!(fingerprint(&restarted), fingerprint(before), "{name}, restarted");
    eventually("the third ReplicaSet", async || (count().await == 3).then_some(())).await;
}

async fn the_label_takes_it_out(installed: &Installed, written: &[(String, &str, Value, Value)]) {
    for (name, _, manifest, _) in written {
        let off = json!({"metadata": {"labels": {label::GATED: null}}});
        let path = format!("{SHOP}/{name}");
        let stripped = installed.administrator.patch(&path, MERGE, &off).await.expect("an ordinary change");
        let text = template(&stripped).to_string();
        assert!(!text.contains("migration-gate"), "{name}: {text}");
        let wanted = &template(manifest)["spec"]["initContainers"][0]["command"];
        assert_eq!(&template(&stripped)["spec"]["initContainers"][0]["command"], wanted, "{name}");
    }
}

/// What `migration-gate inject` prints is what the webhook makes of it.
async fn offline_injection_is_the_webhooks(installed: &Installed) {
    for manifest in [wrapping("offline-wrap"), copying("offline-copy"), leaving_the_program("offline-args")] {
        let name = manifest["metadata"]["name"].as_str().expect("a name");
        let file = installed.cluster.folder("manifests").expect("a folder").join("offline.json");
        std::fs::write(&file, manifest.to_string()).expect("a file");
        let output = Command::new(env!("CARGO_BIN_EXE_migration-gate"))
            .args(["inject", "--agent-image", "localhost/migration-gate:next", "-f"])
            .arg(&file)
            .output()
            .expect("the program was just built");
        let injected: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        installed.with_manifest(&["apply"], &injected);
        let applied = installed.template(name).await;
        assert_eq!(applied["metadata"], injected["spec"]["template"]["metadata"], "{name}");
        installed.with_manifest(&["apply", "--server-side", "--force-conflicts"], &manifest);
        assert_eq!(installed.template(name).await, applied, "{name}: with the manifest as it was before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_valid_stays_valid() {
    let installed = Installed::boot("t-injection-many").await;
    let administrator = &installed.administrator;
    limits(administrator).await;
    let mut runner = TestRunner::deterministic();
    let strategy = deployment();
    let workloads: Vec<Value> =
        (0..GENERATED).map(|_| strategy.new_tree(&mut runner).expect("a workload").current()).collect();
    let checks = workloads.into_iter().zip((0..4).cycle()).map(|(workload, n)| check(administrator, workload, n == 0));
    let results: Vec<bool> = stream::iter(checks).buffer_unordered(AT_ONCE).collect().await;
    let restricted = results.iter().filter(|is_restricted| **is_restricted).count();
    assert!(restricted >= GENERATED / 20, "only {restricted} of the workloads were fit for the strict namespace");
}

/// Limits in the strict namespace, which every pod must keep.
async fn limits(administrator: &Somebody) {
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "range"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "10"},
            "default": {"cpu": "100m", "memory": "64Mi"}, "defaultRequest": {"cpu": "50m", "memory": "64Mi"}}]},
    });
    administrator.must_create("/api/v1/namespaces/strict/limitranges", &range).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"},
        "spec": {"hard": {"limits.cpu": "2", "requests.memory": "2Gi"}},
    });
    administrator.must_create("/api/v1/namespaces/strict/resourcequotas", &quota).await;
    eventually("the quota and the service account to be ready", async || {
        let quota = administrator.get("/api/v1/namespaces/strict/resourcequotas/quota").await.ok()?;
        let account = administrator.get("/api/v1/namespaces/strict/serviceaccounts/default").await.ok();
        (quota["status"]["hard"].is_object() && account.is_some()).then_some(())
    })
    .await;
}

/// Checks one workload; says whether its pods were fit for the strict namespace.
async fn check(administrator: &Somebody, workload: Value, is_sent_again: bool) -> bool {
    let plain = administrator.create("/apis/apps/v1/namespaces/plain/deployments?dryRun=All", &workload).await;
    let plain = plain.unwrap_or_else(|status| panic!("the generator made what isn't valid: {status:?}\n{workload:#}"));
    let injected = administrator.create(&format!("{SHOP}?dryRun=All"), &workload).await;
    let injected = injected.unwrap_or_else(|status| panic!("{status:?}\n{workload:#}"));
    assert!(fingerprint(template(&injected)).is_string(), "{injected:#}");
    let mut stripped = injected.clone();
    assert!(unrender(&mut stripped));
    assert_eq!(template(&stripped), template(&plain), "{workload:#}");
    if !is_sent_again {
        return is_fit_for_strict(administrator, &plain, &injected, &workload).await;
    }
    // As a GitOps tool would send it, injected already.
    let mut again = workload.clone();
    again["spec"]["template"] = template(&injected).clone();
    let again = administrator.patch(&format!("{SHOP}/orders?fieldManager=x&dryRun=All"), APPLY, &again).await;
    assert_eq!(template(&again.expect("an apply")), template(&injected), "{workload:#}");

    is_fit_for_strict(administrator, &plain, &injected, &workload).await
}

/// Whether the strict namespace takes the plain pods; then it must take the injected ones.
async fn is_fit_for_strict(administrator: &Somebody, plain: &Value, injected: &Value, workload: &Value) -> bool {
    let pod = |deployment: &Value| {
        let mut pod = template(deployment).clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!("orders");
        pod
    };
    let strict = "/api/v1/namespaces/strict/pods?dryRun=All";
    if administrator.create(strict, &pod(plain)).await.is_err() {
        return false;
    }
    let gated = administrator.create(strict, &pod(injected)).await;
    gated.unwrap_or_else(|status| panic!("a strict namespace refuses the injection: {status:?}\n{workload:#}"));
    true
}
