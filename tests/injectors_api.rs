//! Other people's mutating webhooks on a real API server: an ordinary sidecar injector that runs before ours, or after,
//! and is called again or isn't. Whatever the order, the migration has what the injector gave to its target, and nothing
//! rolls out by itself.

mod support;

use serde_json::{Value, json};
use support::client::{APPLY, MERGE, STRATEGIC, Somebody, namespace};
use support::deployments::{gated, image};
use support::eventually;
use support::files::{Authority, Secret, bundle};
use support::injector::{Injector, SIDECAR, VARIABLE, VOLUME};
use support::webhook::{Webhook, register};
use testcluster::{Cluster, Options, Profile};

use migration_gate::contract::{CONDITION, label, pod};

/// Where the injector stands, and whether it is called again when somebody after it changed the object. Ours is
/// registered as `migration-gate`, and the API server goes by the alphabet.
const ORDERS: [(&str, &str, &str); 4] = [
    ("before", "a-mesh-before", "Never"),
    ("before-again", "a-mesh-before-again", "IfNeeded"),
    ("after", "z-mesh-after", "Never"),
    ("after-again", "z-mesh-after-again", "IfNeeded"),
];

#[tokio::test(flavor = "multi_thread")]
async fn another_injector_may_stand_before_us_or_after_us() {
    let cluster = Cluster::boot(Options::new("t-injectors", Profile::Api)).expect("an API server");
    let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
    let host = cluster.host_address();
    let authority = Authority::new();
    let secret = Secret::new(cluster.folder("tls").expect("a folder").join("secret"), &authority.issue(&[host]));
    let bundle = bundle(&[&authority]);
    let webhook = Webhook::start(host, secret.path(), 0).await;
    register(&administrator, webhook.address, &bundle).await;

    let mut fingerprints = Vec::new();
    for (space, configuration, reinvocation) in ORDERS {
        namespace(&administrator, space, json!({ label::INJECT: label::INJECT_ENABLED })).await;
        let injector = Injector::start(host, secret.path());
        injector.register(&administrator, configuration, space, reinvocation, &bundle).await;
        let shop = Shop { administrator: &administrator, space, injector: &injector };
        shop.called_by_the_api_server().await;
        fingerprints.push(shop.creation_gives_the_migration_what_its_target_got().await);
        shop.nothing_that_is_written_again_changes_the_template().await;
        shop.a_change_of_the_image_changes_both().await;
        shop.without_the_label_only_ours_goes().await;
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 1, "the order makes no other migration: {fingerprints:?}");
}

/// A namespace with the injector in it.
struct Shop<'a> {
    administrator: &'a Somebody,
    space: &'a str,
    injector: &'a Injector,
}

impl Shop<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments{rest}", self.space)
    }

    async fn called_by_the_api_server(&self) {
        eventually("the API server to call both webhooks", async || {
            let probe = self.administrator.create(&self.path("?dryRun=All"), &gated("probe")).await.ok()?;
            let names = names(&template(&probe)["spec"]["initContainers"]);
            (names.contains(&SIDECAR.to_owned()) && names.contains(&pod::MIGRATE_CONTAINER.to_owned())).then_some(())
        })
        .await;
    }

    /// Returns the fingerprint.
    async fn creation_gives_the_migration_what_its_target_got(&self) -> String {
        let created = self.administrator.must_create(&self.path(""), &gated("orders")).await;
        check(self.space, &created, "1.0");
        // The order is what this test is about, so it is looked at and not believed.
        let shown = self.injector.shown("orders");
        let came_first = template(&shown[0])["metadata"]["labels"][label::GATE].is_null();
        assert_eq!(came_first, self.space.starts_with("before"), "{}", self.space);
        assert_eq!(shown.len() > 1, self.space == "before-again" || self.space == "after-again", "{}", self.space);
        template(&created)["metadata"]["labels"][label::MIGRATION].as_str().expect("a fingerprint").to_owned()
    }

    async fn nothing_that_is_written_again_changes_the_template(&self) {
        let path = self.path("/orders");
        let before = self.administrator.get(&path).await.expect("it exists");
        let unchanged = |how: &str, now: &Value| {
            assert_eq!(template(now), template(&before), "{}, {how}", self.space);
        };
        for patch in [json!({"spec": {"minReadySeconds": 5}}), json!({"metadata": {"labels": {"team": "blue"}}})] {
            unchanged("patched", &self.administrator.patch(&path, MERGE, &patch).await.expect("a patch"));
        }
        // The manifest as its user keeps it, without what the two have added.
        let manifest = gated("orders");
        for round in ["replaced", "replaced again"] {
            unchanged(round, &self.administrator.replace(&path, &manifest).await.expect("a replacement"));
        }
        for query in ["?fieldManager=gitops&force=true&dryRun=All", "?fieldManager=gitops&force=true"] {
            let path = format!("{path}{query}");
            unchanged(query, &self.administrator.patch(&path, APPLY, &manifest).await.expect("an apply"));
        }
        // As a backup holds it: with what both have added.
        let mut backup = self.administrator.get(&path).await.expect("it exists");
        backup["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
        unchanged("restored", &self.administrator.replace(&path, &backup).await.expect("a replacement"));
        backup["metadata"]["name"] = json!("copy");
        for field in ["uid", "managedFields", "creationTimestamp", "generation"] {
            backup["metadata"].as_object_mut().expect("metadata").remove(field);
        }
        let created = self.administrator.must_create(&self.path(""), &backup).await;
        check(self.space, &created, "1.0");
    }

    async fn a_change_of_the_image_changes_both(&self) {
        let path = self.path("/orders");
        let before = self.administrator.get(&path).await.expect("it exists");
        let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": image("2.0")}]}}}});
        let changed = self.administrator.patch(&path, STRATEGIC, &image).await.expect("an ordinary change");
        check(self.space, &changed, "2.0");
        let fingerprint = |of: &Value| template(of)["metadata"]["labels"][label::MIGRATION].clone();
        assert_ne!(fingerprint(&changed), fingerprint(&before), "{}", self.space);
        let back = self.administrator.replace(&path, &gated("orders")).await.expect("a replacement");
        check(self.space, &back, "1.0");
        assert_eq!(fingerprint(&back), fingerprint(&before), "{}", self.space);
    }

    async fn without_the_label_only_ours_goes(&self) {
        let off = json!({"metadata": {"labels": {label::GATED: null}}});
        let path = self.path("/orders");
        let stripped = self.administrator.patch(&path, MERGE, &off).await.expect("an ordinary change");
        assert!(!template(&stripped).to_string().contains("migration-gate"), "{}: {stripped:#}", self.space);
        assert_eq!(names(&template(&stripped)["spec"]["initContainers"]), [SIDECAR], "{}", self.space);
        // A finished case must not answer the probes of another.
        self.administrator.delete(&path, &json!({})).await.expect("it goes");
    }
}

fn template(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]
}

fn names(list: &Value) -> Vec<String> {
    let names = list.as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Everybody's work is in the template, once, and in an order in which it runs: what copies the agent, the sidecar that
/// the migration may need, the migration with all that its target has.
fn check(space: &str, deployment: &Value, tag: &str) {
    let spec = &template(deployment)["spec"];
    let init = &spec["initContainers"];
    let expected = [pod::INSTALL_CONTAINER, SIDECAR, pod::MIGRATE_CONTAINER];
    assert_eq!(names(init), expected, "{space}: {init:#}");
    assert_eq!(spec["readinessGates"], json!([{"conditionType": CONDITION}]), "{space}");
    let (web, migrate) = (&spec["containers"][0], &init[2]);
    assert_eq!(names(&spec["containers"]), ["web"], "{space}");
    assert_eq!(names(&web["env"]), ["DATABASE_URL", VARIABLE], "{space}");
    assert_eq!(migrate["env"], web["env"], "{space}");
    assert_eq!(migrate["image"], image(tag), "{space}");
    assert!(names(&migrate["volumeMounts"]).contains(&VOLUME.to_owned()), "{space}: {migrate:#}");
    let mut volumes = names(&spec["volumes"]);
    volumes.sort();
    assert_eq!(volumes, [VOLUME, pod::VOLUME, pod::SIGNAL_VOLUME], "{space}");
}
