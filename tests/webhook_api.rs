//! The webhook, registered with a real API server as the installation registers it.

mod support;

use serde_json::{Value, json};
use support::client::{APPLY, Answer, MERGE, STRATEGIC, Somebody, namespace};
use support::deployments::{gated, plain};
use support::eventually;
use support::files::{Authority, Secret, bundle};
use support::webhook::{Webhook, register};
use testcluster::{Cluster, Options, Profile};

use migration_gate::contract::{CONDITION, annotation, label, pod};

/// A namespace that opted in, and one that did not.
const SHOP: &str = "/apis/apps/v1/namespaces/shop/deployments";
const PLAIN: &str = "/apis/apps/v1/namespaces/plain/deployments";

/// A cluster with the webhook in it.
struct Installed {
    cluster: Cluster,
    administrator: Somebody,
    authority: Authority,
    secret: Secret,
    webhook: Option<Webhook>,
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
        namespace(&administrator, "shop", json!({ label::INJECT: label::INJECT_ENABLED })).await;
        namespace(&administrator, "plain", json!({})).await;
        let installed = Installed { cluster, administrator, authority, secret, webhook: Some(webhook) };
        eventually("the API server to call the webhook", async || {
            let probe = installed.administrator.create(&format!("{SHOP}?dryRun=All"), &gated("probe")).await;
            probe.ok().filter(is_injected)
        })
        .await;
        installed
    }
}

fn is_injected(deployment: &Value) -> bool {
    let spec = &deployment["spec"]["template"]["spec"];
    let named = |name: &str| {
        spec["initContainers"].as_array().is_some_and(|all| all.iter().any(|container| container["name"] == name))
    };
    let gates = spec["readinessGates"].as_array();
    named(pod::INSTALL_CONTAINER)
        && named(pod::MIGRATE_CONTAINER)
        && gates.is_some_and(|gates| gates.contains(&json!({ "conditionType": CONDITION })))
}

fn template(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]
}

/// An object as it was read, and as it is once that was written back. The Deployment controller writes its status in
/// between as it likes, and whoever replaces then reads again.
async fn written_back(who: &Somebody, path: &str) -> (Value, Value) {
    eventually("nobody else to write between a read and a replacement", async || {
        let read = who.get(path).await.expect("it exists");
        match who.replace(path, &read).await {
            Ok(replaced) => Some((read, replaced)),
            Err(refusal) if refusal.code == 409 => None,
            Err(refusal) => panic!("{refusal:?}"),
        }
    })
    .await
}

/// What the API server says when it refuses.
fn refusal(answer: Answer) -> String {
    answer.expect_err("a refusal").message
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_are_gated_and_ungated_by_their_labels() {
    let installed = Installed::boot("t-webhook").await;
    creation_injects_and_nothing_else_changes_the_template(&installed).await;
    every_way_of_writing_gives_the_same(&installed).await;
    taking_the_label_off_strips(&installed).await;
    a_denial_names_the_key(&installed).await;
    who_did_not_opt_in_is_left_alone(&installed).await;
    an_undo_to_before_the_adoption_is_admitted(&installed).await;
    an_audited_namespace_is_only_told(&installed).await;
    without_the_webhook_only_the_gated_wait(installed).await;
}

async fn creation_injects_and_nothing_else_changes_the_template(installed: &Installed) {
    let administrator = &installed.administrator;
    let created = administrator.must_create(SHOP, &gated("orders")).await;
    assert!(is_injected(&created), "{created:#}");
    let labels = &template(&created)["metadata"]["labels"];
    assert_eq!(labels[label::GATE], "orders.deployment");
    assert_eq!(labels[label::MIGRATION].as_str().expect("a fingerprint").len(), 32);
    // What is not the template's leaves the template, and so the pods, as they are.
    let path = format!("{SHOP}/orders");
    for patch in [
        json!({"spec": {"replicas": 1}}),
        json!({"spec": {"replicas": 0, "progressDeadlineSeconds": 300}}),
        json!({"metadata": {"annotations": {"note": "x", annotation::TIMEOUT: "10m"}}}),
        json!({"metadata": {"annotations": {annotation::SUSPEND: "true"}, "labels": {"team": "blue"}}}),
    ] {
        let updated = administrator.patch(&path, MERGE, &patch).await.expect("an ordinary change");
        assert_eq!(template(&updated), template(&created), "{patch}");
    }
    // Written back as it was read, it stays as it was.
    let (read, replaced) = written_back(administrator, &path).await;
    assert_eq!(replaced["metadata"]["generation"], read["metadata"]["generation"]);
    // A change of the image is another migration; the injection follows.
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "registry.example/shop:2.0"}]}}}});
    let updated = administrator.patch(&path, STRATEGIC, &image).await.expect("an ordinary change");
    assert!(is_injected(&updated));
    assert_ne!(template(&updated)["metadata"]["labels"][label::MIGRATION], labels[label::MIGRATION]);
    let migrate = &template(&updated)["spec"]["initContainers"][1];
    assert_eq!(
        (&migrate["name"], &migrate["image"]),
        (&json!(pod::MIGRATE_CONTAINER), &json!("registry.example/shop:2.0"))
    );
}

async fn every_way_of_writing_gives_the_same(installed: &Installed) {
    let administrator = &installed.administrator;
    let path = format!("{SHOP}/carts?fieldManager=gitops");
    let manifest = gated("carts");
    let dry = administrator.patch(&format!("{path}&dryRun=All"), APPLY, &manifest).await.expect("a dry run");
    assert!(is_injected(&dry));
    assert_eq!(administrator.get(&format!("{SHOP}/carts")).await.expect_err("a dry run").code, 404);
    let applied = administrator.patch(&path, APPLY, &manifest).await.expect("an apply");
    assert_eq!(template(&applied), template(&dry));
    // Applied again it is the same: a GitOps tool sees no difference, dry or not.
    for query in ["&dryRun=All", ""] {
        let again = administrator.patch(&format!("{path}{query}"), APPLY, &manifest).await.expect("an apply");
        assert_eq!(again["metadata"]["generation"], applied["metadata"]["generation"], "{query}");
        assert_eq!(template(&again), template(&applied));
    }
    // kubectl's client-side apply, and its replace, of the same manifest.
    let text = manifest.to_string().replace("carts", "baskets");
    let kubectl = |verb: &str| {
        let file = installed.cluster.folder("manifests").expect("a folder").join("baskets.json");
        std::fs::write(&file, &text).expect("a file");
        let file = file.to_str().expect("a path").to_owned();
        installed.cluster.kubectl(&[verb, "-n", "shop", "-f", &file]).expect("kubectl")
    };
    kubectl("apply");
    let first = administrator.get(&format!("{SHOP}/baskets")).await.expect("it exists");
    assert!(is_injected(&first));
    assert!(kubectl("apply").contains("unchanged"));
    kubectl("replace");
    let last = administrator.get(&format!("{SHOP}/baskets")).await.expect("it exists");
    // Its generation counts changes of annotations too, and kubectl's own is gone (registry/apps/deployment/strategy.go).
    assert_eq!(last["spec"], first["spec"]);
}

async fn taking_the_label_off_strips(installed: &Installed) {
    let administrator = &installed.administrator;
    let before = administrator.must_create(PLAIN, &plain("stock")).await;
    let created = administrator.must_create(SHOP, &gated("stock")).await;
    assert!(is_injected(&created));
    let off = json!({"metadata": {"labels": {label::GATED: null}}});
    let stripped = administrator.patch(&format!("{SHOP}/stock"), MERGE, &off).await.expect("an ordinary change");
    assert_eq!(template(&stripped), template(&before));
}

async fn a_denial_names_the_key(installed: &Installed) {
    let administrator = &installed.administrator;
    for (key, value, said) in [
        (annotation::TIMEOUT, "soon", annotation::TIMEOUT),
        (annotation::CONTAINER, "nobody", "nobody"),
        ("migration-gate.dev/comand", "x", "migration-gate.dev/comand"),
    ] {
        let mut deployment = gated("bad");
        deployment["metadata"]["annotations"][key] = json!(value);
        let said_all = refusal(administrator.create(SHOP, &deployment).await);
        assert!(said_all.contains("workloads.migration-gate.dev") && said_all.contains(said), "{said} in {said_all}");
    }
    let mut deployment = gated("bad");
    deployment["metadata"]["annotations"] = json!({});
    assert!(refusal(administrator.create(SHOP, &deployment).await).contains(annotation::COMMAND));
}

async fn who_did_not_opt_in_is_left_alone(installed: &Installed) {
    let administrator = &installed.administrator;
    for (collection, deployment) in [
        (PLAIN, gated("left")),
        (SHOP, plain("left")),
        ("/apis/apps/v1/namespaces/kube-system/deployments", gated("left")),
    ] {
        let created = administrator.must_create(collection, &deployment).await;
        assert!(!is_injected(&created), "{collection}");
    }
}

/// `kubectl rollout undo` brings the old template and annotations back, but not the labels.
async fn an_undo_to_before_the_adoption_is_admitted(installed: &Installed) {
    let administrator = &installed.administrator;
    administrator.must_create(SHOP, &plain("old")).await;
    let first_revision = async || {
        let sets = administrator.get("/apis/apps/v1/namespaces/shop/replicasets?labelSelector=app%3Dold").await;
        let sets = sets.expect("a list")["items"].as_array().map_or(0, Vec::len);
        (sets > 0).then_some(())
    };
    eventually("the first ReplicaSet", first_revision).await;
    let adopted = gated("old");
    let adopt = json!({"metadata": adopted["metadata"]});
    let adopted = administrator.patch(&format!("{SHOP}/old"), MERGE, &adopt).await.expect("an ordinary change");
    assert!(is_injected(&adopted));
    eventually("the second ReplicaSet", async || {
        let sets = administrator.get("/apis/apps/v1/namespaces/shop/replicasets?labelSelector=app%3Dold").await;
        (sets.expect("a list")["items"].as_array().map_or(0, Vec::len) > 1).then_some(())
    })
    .await;
    installed.cluster.kubectl(&["rollout", "undo", "-n", "shop", "deployment/old"]).expect("never refused");
    let undone = administrator.get(&format!("{SHOP}/old")).await.expect("it exists");
    assert!(!is_injected(&undone), "{undone:#}");
    assert_eq!(undone["metadata"]["labels"][label::GATED], label::GATED_TRUE);
}

/// Warnings arrive in a header, which kubectl shows.
async fn an_audited_namespace_is_only_told(installed: &Installed) {
    namespace(&installed.administrator, "curious", json!({ label::INJECT: label::INJECT_AUDIT })).await;
    let mut bad = gated("bad");
    bad["metadata"]["annotations"][annotation::TIMEOUT] = json!("for ever");
    for (deployment, warning) in
        [(gated("orders"), "Warning: migration-gate audit: would be gated"), (bad, "audit: would be refused: ")]
    {
        let file = installed.cluster.folder("audit").expect("a folder").join("deployment.json");
        std::fs::write(&file, deployment.to_string()).expect("a file");
        eventually("a warning from the webhook", async || {
            let mut kubectl = installed.cluster.kubectl_command();
            let output = kubectl.args(["apply", "-n", "curious", "-f"]).arg(&file).output().expect("kubectl runs");
            assert!(output.status.success(), "nothing is refused: {output:?}");
            installed.cluster.kubectl(&["delete", "-n", "curious", "-f", &file.to_string_lossy()]).expect("it goes");
            String::from_utf8_lossy(&output.stderr).contains(warning).then_some(())
        })
        .await;
        let path = "/apis/apps/v1/namespaces/curious/deployments";
        let made = installed.administrator.must_create(path, &deployment).await;
        assert_eq!(template(&made)["spec"]["initContainers"], Value::Null, "nothing is changed");
    }
}

async fn without_the_webhook_only_the_gated_wait(mut installed: Installed) {
    let webhook = installed.webhook.take().expect("it runs");
    let address = webhook.address;
    webhook.terminate();
    assert!(webhook.ended().await.success());
    let administrator = &installed.administrator;
    // Being deleted, with a finalizer still on: the garbage collector and users can take it off.
    let foreground = json!({"propagationPolicy": "Foreground"});
    administrator.delete(&format!("{SHOP}/carts"), &foreground).await.expect("deletions pass");
    eventually("the garbage collector to finish", async || administrator.get(&format!("{SHOP}/carts")).await.err())
        .await;

    assert!(refusal(administrator.create(SHOP, &gated("closed")).await).contains("failed calling webhook"));
    let scale = json!({"spec": {"replicas": 1}});
    let path = format!("{SHOP}/orders/scale");
    administrator.patch(&path, MERGE, &scale).await.expect("scaling needs no webhook");
    for number in 0..1000 {
        let collection = if number % 2 == 0 { PLAIN } else { SHOP };
        administrator.must_create(collection, &plain(&format!("free-{number}"))).await;
    }
    // Back at the same address it serves at once.
    let host = installed.cluster.host_address();
    installed.secret.swap(&installed.authority.issue(&[host]));
    let webhook = Webhook::start(host, installed.secret.path(), address.port()).await;
    assert!(is_injected(&administrator.must_create(SHOP, &gated("open")).await));
    drop(webhook);
}
