//! Pods with an identity: who makes them, and which templates lead to them.

use serde_json::{Value, json};

use migration_gate::contract::label;
use migration_gate::group::{Group, WorkloadKind, record_name};

use crate::people::{PODS, People, bare, gated, identity, passed, refused, with};
use crate::support::client::{MERGE, Somebody};
use crate::support::eventually;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";
const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/shop/replicasets";
const BOTH_LABELS: &str = "the labels migration-gate.dev/gate and migration-gate.dev/migration are for";

/// Whoever may create pods makes none that counts.
pub(crate) async fn nobody_gives_a_pod_an_identity(people: &People) {
    let one = |key: &str| json!({ key: identity()[key] });
    for who in [&people.pod_maker, &people.app, &people.owner] {
        for labels in [identity(), one(label::GATE), one(label::MIGRATION)] {
            let pod = with(&bare("forged"), "/metadata/labels", labels.clone());
            refused(who.create(PODS, &pod).await, who, &format!("create a pod with {labels}"), BOTH_LABELS);
        }
        let owned = with(&gated("forged"), "/metadata/ownerReferences", json!([owner("ReplicaSet", "apps/v1")]));
        let said = refused(who.create(PODS, &owned).await, who, "create a pod and name a ReplicaSet", BOTH_LABELS);
        let name = format!("{} may not 'open' gates.migration-gate.dev in namespace shop", who.name);
        assert!(said.contains(&name) && said.contains("--copy-to without --keep-labels"), "{said}");
        passed(who.create(&format!("{PODS}?dryRun=All"), &bare("plain")).await, who, "create an ordinary pod");
    }
    let who = &people.administrator;
    passed(who.create(PODS, &gated("by-the-administrator")).await, who, "create a pod with an identity");
}

/// Also whoever may do everything gives a pod no identity that the webhook wouldn't.
pub(crate) async fn an_identity_is_as_the_webhook_writes_it(people: &People) {
    let who = &people.administrator;
    let create = async |gate: Option<&str>, migration: Option<&str>| {
        let pod = with(&bare("odd"), "/metadata/labels", json!({ label::GATE: gate, label::MIGRATION: migration }));
        who.create(&format!("{PODS}?dryRun=All"), &pod).await
    };
    let fingerprint = "0123456789abcdef0123456789abcdef";
    let long = record_name(Group::Workload { kind: WorkloadKind::Deployment, name: &"x".repeat(253) });
    for gate in ["orders.deployment", "orders-db.group", "a", &long] {
        passed(create(Some(gate), Some(fingerprint)).await, who, &format!("say {gate}"));
    }
    for (gate, migration) in [
        (None, Some(fingerprint)),
        (Some("orders.deployment"), None),
        (Some("orders.deployment"), Some("")),
        (Some("orders.deployment"), Some(&fingerprint[1..])),
        (Some("orders.deployment"), Some("0123456789ABCDEF0123456789ABCDEF")),
        (Some("orders.deployment"), Some("0123456789abcdef0123456789abcdefa")),
        (Some(""), Some(fingerprint)),
        (Some("Orders.deployment"), Some(fingerprint)),
        (Some("orders_1.deployment"), Some(fingerprint)),
        (Some("orders.-deployment"), Some(fingerprint)),
        (Some("orders..deployment"), Some(fingerprint)),
    ] {
        let status = create(gate, migration).await.expect_err("an odd identity");
        let said = &status.message;
        assert!(
            status.code == 422 && said.contains("32 lower-case hexadecimal digits"),
            "{gate:?} {migration:?}: {status:?}"
        );
    }
}

/// The controllers of a cluster: those of workloads pass, on either kind of control plane, and others don't.
pub(crate) async fn workloads_controllers_make_gated_pods(people: &People) {
    let (administrator, deployer) = (&people.administrator, &people.deployer);
    let deployment = workload("apps/v1", "Deployment", "rollout", &identity());
    passed(deployer.create(DEPLOYMENTS, &deployment).await, deployer, "create a Deployment");
    pod_of(administrator, "rollout").await;
    // An administrator's templates go in, so that the controllers come to what they may.
    for (path, object) in [
        ("statefulsets", workload("apps/v1", "StatefulSet", "set", &identity())),
        ("daemonsets", workload("apps/v1", "DaemonSet", "daemon", &identity())),
    ] {
        let path = format!("/apis/apps/v1/namespaces/shop/{path}");
        passed(administrator.create(&path, &object).await, administrator, "create a workload");
        pod_of(administrator, object["metadata"]["name"].as_str().expect("a name")).await;
    }
    let job = workload("batch/v1", "Job", "job", &identity());
    let controller = workload("v1", "ReplicationController", "rc", &identity());
    for (path, object, account) in [
        ("/apis/batch/v1/namespaces/shop/jobs", job, "job-controller"),
        ("/api/v1/namespaces/shop/replicationcontrollers", controller, "replication-controller"),
    ] {
        passed(administrator.create(path, &object).await, administrator, "create a workload");
        let name = object["metadata"]["name"].as_str().expect("a name");
        let refusal = format!("system:serviceaccount:kube-system:{account} may not 'open'");
        eventually(&format!("{account} to be refused"), async || {
            let events = administrator.get("/api/v1/namespaces/shop/events").await.ok()?;
            let of = |event: &&Value| {
                event["involvedObject"]["name"] == name && event["message"].as_str().unwrap_or("").contains(&refusal)
            };
            events["items"].as_array()?.iter().find(of).map(drop)
        })
        .await;
        assert_eq!(pods_of(administrator, name).await, Vec::<Value>::new());
    }
    let who = &people.one_for_all;
    let by = |kind: &str, version: &str| {
        with(&gated("one-for-all"), "/metadata/ownerReferences", json!([owner(kind, version)]))
    };
    let path = format!("{PODS}?dryRun=All");
    passed(who.create(&path, &by("ReplicaSet", "apps/v1")).await, who, "create a ReplicaSet's pod");
    refused(who.create(&path, &by("Job", "batch/v1")).await, who, "create a Job's pod", BOTH_LABELS);
    refused(who.create(&path, &gated("one-for-all")).await, who, "create nobody's pod", BOTH_LABELS);
}

/// Whoever may create the workloads that a controller makes pods for can't have pods with an identity made.
pub(crate) async fn no_other_template_leads_to_gated_pods(people: &People) {
    let (crafter, job_maker) = (&people.crafter, &people.job_maker);
    let sets = |resource: &str| format!("/apis/apps/v1/namespaces/shop/{resource}");
    let jobs = |resource: &str| format!("/apis/batch/v1/namespaces/shop/{resource}");
    let controllers = "/api/v1/namespaces/shop/replicationcontrollers".to_owned();
    for (who, path, version, kind) in [
        (crafter, sets("replicasets"), "apps/v1", "ReplicaSet"),
        (crafter, sets("statefulsets"), "apps/v1", "StatefulSet"),
        (crafter, sets("daemonsets"), "apps/v1", "DaemonSet"),
        (crafter, controllers, "v1", "ReplicationController"),
        (job_maker, jobs("jobs"), "batch/v1", "Job"),
        (job_maker, jobs("cronjobs"), "batch/v1", "CronJob"),
    ] {
        for key in [label::GATE, label::MIGRATION] {
            let forged = workload(version, kind, "forged", &json!({ key: identity()[key] }));
            let answer = who.create(&path, &forged).await;
            let said = refused(answer, who, &format!("create a {kind} with {key}"), "both labels out of the template");
            assert!(said.contains(&format!("{} may not 'open'", who.name)), "{said}");
        }
        let name = format!("plain-{}", kind.to_lowercase());
        let plain = with(&workload(version, kind, &name, &json!({})), "/spec/replicas", json!(0));
        passed(who.create(&path, &plain).await, who, &format!("create an ordinary {kind}"));
        if who.name == crafter.name {
            let path = format!("{path}/{name}");
            let adopt = json!({"spec": {"template": {"metadata": {"labels": identity()}}}});
            refused(who.patch(&path, MERGE, &adopt).await, who, &format!("label a {kind}'s template"), "both labels");
            let other = json!({"spec": {"template": {"metadata": {"labels": {"team": "blue"}}}}});
            passed(who.patch(&path, MERGE, &other).await, who, &format!("change a {kind}'s template"));
        }
    }
    let made = eventually("a pod of the ordinary Job", async || {
        let pods = pods_of(&people.administrator, "plain-job").await;
        pods.into_iter().next()
    })
    .await;
    assert!(made["metadata"]["labels"][label::GATE].is_null());
}

/// The ReplicaSet of a gated Deployment is its controller's, and no other names that Deployment as its owner.
pub(crate) async fn replica_sets_are_their_deployments(people: &People) {
    let (administrator, who) = (&people.administrator, &people.crafter);
    let deployment = workload("apps/v1", "Deployment", "owner", &identity());
    let deployment = passed(administrator.create(DEPLOYMENTS, &deployment).await, administrator, "create a Deployment");
    let made = eventually("its ReplicaSet", async || {
        let list = administrator.get(&format!("{REPLICA_SETS}?labelSelector=app%3Downer")).await.ok()?;
        list["items"].as_array()?.first().cloned()
    })
    .await;
    let path = format!("{REPLICA_SETS}/{}", made["metadata"]["name"].as_str().expect("a name"));
    let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]);
    let answer = who.patch(&path, "application/json-patch+json", &image).await;
    refused(answer, who, "change what a gated ReplicaSet runs", "Change the Deployment");
    passed(who.patch(&path, MERGE, &json!({"spec": {"replicas": 2}})).await, who, "scale it");
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    passed(who.patch(&path, MERGE, &note).await, who, "annotate it");

    let mut forged = workload("apps/v1", "ReplicaSet", "owner-forged", &identity());
    forged["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "owner", "uid": deployment["metadata"]["uid"], "controller": true,
    }]);
    refused(who.create(REPLICA_SETS, &forged).await, who, "name a Deployment as the owner", "ReplicaSets that a gated");
    // What an administrator made stays as it is, and everybody may take the labels out.
    let planted = workload("apps/v1", "StatefulSet", "planted", &identity());
    let sets = "/apis/apps/v1/namespaces/shop/statefulsets";
    administrator.must_create(sets, &planted).await;
    let path = format!("{sets}/planted");
    passed(who.patch(&path, MERGE, &json!({"spec": {"replicas": 0}})).await, who, "scale what an administrator made");
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}});
    refused(who.patch(&path, MERGE, &restart).await, who, "change its template", "both labels out of the template");
    let out = json!({"spec": {"template": {"metadata": {"labels": {label::GATE: null, label::MIGRATION: null}}}}});
    passed(who.patch(&path, MERGE, &out).await, who, "take the labels out of it");
}

/// Here the webhook isn't asked, which would write the right group.
pub(crate) async fn a_deployment_is_of_its_own_group(people: &People) {
    let who = &people.deployer;
    let asking = |name: &str, gate: &str| {
        let labels = json!({ label::GATE: gate, label::MIGRATION: "0".repeat(32) });
        let deployment = with(&workload("apps/v1", "Deployment", name, &labels), "/spec/replicas", json!(0));
        with(&deployment, "/metadata/labels", json!({ label::GATED: label::GATED_TRUE }))
    };
    let dry = format!("{DEPLOYMENTS}?dryRun=All");
    let long = "long.name-".repeat(10) + "x";
    let of_long = record_name(Group::Workload { kind: WorkloadKind::Deployment, name: &long });
    for (name, gate) in [("mine", "mine.deployment"), ("mine", "orders-db.group"), (&*long, &*of_long)] {
        passed(who.create(&dry, &asking(name, gate)).await, who, &format!("create {name} in {gate}"));
    }
    let elsewhere = format!("{}-0123456789ab", "y".repeat(50));
    for (name, gate) in [
        ("mine", "orders.deployment"),
        ("mine", "x"),
        ("mine", &*of_long),
        (&*long, &*elsewhere),
        (&*long, "x-0123456789ab"),
    ] {
        let answer = who.create(DEPLOYMENTS, &asking(name, gate)).await;
        refused(answer, who, &format!("create {name} in {gate}"), "which is not this Deployment's");
    }
    // Tools that copy a Deployment's template (canaries) leave the label of the workload away: such a copy asks for nothing.
    let copy = with(&asking("copy", "orders.deployment"), "/metadata/labels", json!({}));
    passed(who.create(DEPLOYMENTS, &copy).await, who, "copy a template");
    let adopt = json!({"metadata": {"labels": {label::GATED: label::GATED_TRUE}}});
    let path = format!("{DEPLOYMENTS}/copy");
    refused(who.patch(&path, MERGE, &adopt).await, who, "ask for a gate", "which is not this Deployment's");
    passed(people.administrator.patch(&path, MERGE, &adopt).await, &people.administrator, "ask for a gate");
    passed(who.patch(&path, MERGE, &json!({"spec": {"paused": true}})).await, who, "change it otherwise");
    let moved = json!({"spec": {"template": {"metadata": {"labels": {label::GATE: "billing.deployment"}}}}});
    refused(who.patch(&path, MERGE, &moved).await, who, "move it", "which is not this Deployment's");
    let home = json!({"spec": {"template": {"metadata": {"labels": {label::GATE: "copy.deployment"}}}}});
    passed(who.patch(&path, MERGE, &home).await, who, "bring it home");
}

/// In a waiting pod the images are all that can be changed, and one of them is what the migration is.
pub(crate) async fn what_migrates_stays(people: &People) {
    let administrator = &people.administrator;
    let init = json!([{"name": "migrate", "image": "registry.example/shop:1.0"}]);
    for pod in [gated("waiting"), bare("without")] {
        administrator.must_create(PODS, &with(&pod, "/spec/initContainers", init.clone())).await;
    }
    let change = |list: &str| json!([{"op": "replace", "path": format!("/spec/{list}/0/image"), "value": "evil:1"}]);
    let who = &people.app;
    let patch = async |pod: &str, list: &str| {
        who.patch(&format!("{PODS}/{pod}"), "application/json-patch+json", &change(list)).await
    };
    refused(patch("waiting", "initContainers").await, who, "change what migrates", "Change the workload");
    passed(patch("waiting", "containers").await, who, "change another image");
    passed(patch("without", "initContainers").await, who, "change an ordinary pod");
}

/// A workload with one pod, whose template has these labels too.
fn workload(version: &str, kind: &str, name: &str, labels: &Value) -> Value {
    // A label's value ends at 63 characters, a workload's name may be longer.
    let app = name.split('.').next();
    let mut template = bare(name);
    template["metadata"] = json!({ "labels": { "app": app } });
    json_patch::merge(&mut template["metadata"]["labels"], labels);
    let spec = match kind {
        "Job" => {
            template["spec"]["restartPolicy"] = json!("Never");
            json!({ "template": template })
        }
        "CronJob" => {
            template["spec"]["restartPolicy"] = json!("Never");
            json!({ "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": template } } })
        }
        "ReplicationController" => json!({ "replicas": 1, "selector": { "app": app }, "template": template }),
        _ => json!({ "selector": { "matchLabels": { "app": app } }, "template": template }),
    };
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn owner(kind: &str, version: &str) -> Value {
    json!({ "apiVersion": version, "kind": kind, "name": "x", "uid": "00000000-0000-0000-0000-000000000000", "controller": true })
}

async fn pods_of(who: &Somebody, app: &str) -> Vec<Value> {
    let list = who.get(&format!("{PODS}?labelSelector=app%3D{app}")).await.expect("the pods");
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Waits for a pod of this app, which must have its identity.
async fn pod_of(who: &Somebody, app: &str) {
    let pod = eventually(&format!("a pod of {app}"), async || pods_of(who, app).await.into_iter().next()).await;
    assert_eq!(pod["metadata"]["labels"][label::MIGRATION], identity()[label::MIGRATION], "{pod:#}");
}
