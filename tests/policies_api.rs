//! The policies that guard a gate, on a real API server, with real identities at every door.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::client::{Answer, MERGE, STRATEGIC, Somebody, namespace};
use support::eventually;
use testcluster::{Cluster, Options, Profile};

use migration_gate::contract::{CONDITION, POD_FINALIZER, annotation, label, pod};

const PODS: &str = "/api/v1/namespaces/shop/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";
const NODE: &str = "node-1";

/// Everybody who meets the policies.
struct People {
    administrator: Somebody,
    /// A service account with every right on pods and all their subresources, and none on gates.
    app: Somebody,
    /// A person with the built-in role `admin` in the namespace.
    owner: Somebody,
    scheduler: Somebody,
    kubelet: Somebody,
    controller: Somebody,
    /// A person with the role for emergencies, in this namespace alone.
    fireman: Somebody,
}

async fn boot(name: &str) -> (Cluster, People) {
    let cluster = Cluster::boot(Options::new(name, Profile::Api)).expect("an API server");
    for file in ["deploy/namespace.yaml", "deploy/rbac.yaml", "webhook-config/policies.yaml"] {
        cluster.kubectl(&["apply", "-f", file]).expect("a part of the installation");
    }
    let config = cluster.kubeconfig();
    let everyone = ["system:authenticated"];
    let people = People {
        administrator: Somebody::administrator(&config).await,
        app: Somebody::service_account(&config, "shop", "app").await,
        owner: Somebody::user(&config, "olivia", &everyone).await,
        scheduler: Somebody::user(&config, "system:kube-scheduler", &everyone).await,
        kubelet: Somebody::user(&config, &format!("system:node:{NODE}"), &["system:nodes", "system:authenticated"])
            .await,
        controller: Somebody::service_account(&config, "migration-gate-system", "migration-gate-controller").await,
        fireman: Somebody::user(&config, "frank", &everyone).await,
    };
    // As a workload in the namespace sees the policy for workloads.
    namespace(&people.administrator, "shop", json!({ label::INJECT: label::INJECT_ENABLED })).await;
    let role = |name: &str, subject: Value, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "shop"}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        })
    };
    let user = |name: &str| json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    for object in [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all-of-pods"},
            "rules": [{
                "apiGroups": [""], "verbs": ["*"],
                "resources": ["pods", "pods/status", "pods/ephemeralcontainers", "pods/resize", "pods/eviction",
                    "pods/binding", "bindings"],
            }],
        }),
        role("app", json!({"kind": "ServiceAccount", "name": "app", "namespace": "shop"}), "all-of-pods"),
        role("olivia", user("olivia"), "admin"),
        role("frank", user("frank"), "migration-gate-break-glass"),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}),
    ] {
        cluster.apply(&object.to_string()).expect("an ordinary object");
    }
    let probe = with(&gated("probe"), "/metadata/annotations", json!({ annotation::SIGNAL: "x" }));
    eventually("the policies to act", async || {
        let answer = people.app.create(&format!("{PODS}?dryRun=All"), &probe).await;
        answer.err().filter(|status| status.message.contains("pods.migration-gate.dev"))
    })
    .await;
    (cluster, people)
}

fn bare(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "web", "image": "registry.example/shop:1.0"}]},
    })
}

/// A pod as a ReplicaSet makes it from an injected template.
fn gated(name: &str) -> Value {
    let mut gated = bare(name);
    gated["metadata"]["labels"] = json!({ label::GATE: "orders.deployment", label::MIGRATION: "0".repeat(32) });
    gated["spec"]["readinessGates"] = json!([{ "conditionType": CONDITION }]);
    gated
}

fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[key] = value;
    object
}

/// The condition that opens the gate, as a patch of the status.
fn opened() -> Value {
    json!({"status": {"conditions": [{"type": CONDITION, "status": "True"}]}})
}

/// All that the controller writes on a pod, each as a patch.
fn guarded_changes() -> Vec<(&'static str, Value)> {
    vec![
        ("condition migration-gate.dev/migrated", opened()),
        ("annotations", json!({"metadata": {"annotations": {annotation::SIGNAL: "{}"}}})),
        ("annotations", json!({"metadata": {"annotations": {annotation::OPENED: "{}"}}})),
        ("role", json!({"metadata": {"labels": {label::ROLE: label::ROLE_RUNNER}}})),
        ("finalizer", json!({"metadata": {"finalizers": [POD_FINALIZER]}})),
        ("can't be changed", json!({"metadata": {"labels": {label::GATE: "other.deployment"}}})),
        ("can't be changed", json!({"metadata": {"labels": {label::MIGRATION: "1".repeat(32)}}})),
        ("can't be changed", json!({"metadata": {"labels": {label::MIGRATION: null}}})),
    ]
}

#[track_caller]
fn refused(answer: Answer, who: &Somebody, what: &str, said: &str) {
    match answer {
        Ok(_) => panic!("{} may {what}", who.name),
        Err(status) => assert!(
            status.code == 403 && status.message.contains("ValidatingAdmissionPolicy") && status.message.contains(said),
            "{} may not {what}, but for another reason: {status:?}",
            who.name
        ),
    }
}

#[track_caller]
fn passed(answer: Answer, who: &Somebody, what: &str) -> Value {
    answer.unwrap_or_else(|status| panic!("{} may {what}: {status:?}", who.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_controller_touches_a_gate() {
    let (cluster, people) = boot("t-policies").await;
    pods_are_created_with_their_identity_and_nothing_more(&people).await;
    nobody_else_changes_what_is_guarded(&people).await;
    the_controller_and_the_fireman_may(&people).await;
    subresources_are_no_way_around(&people).await;
    bindings_carry_nothing(&people).await;
    what_was_guarded_stays_guarded_when_it_is_there(&people).await;
    a_kubelet_is_never_refused(&people).await;
    the_controller_keeps_to_gated_pods(&people).await;
    workloads_wait_for_their_gate(&cluster, &people).await;
}

async fn pods_are_created_with_their_identity_and_nothing_more(people: &People) {
    for who in [&people.app, &people.owner] {
        passed(
            who.create(PODS, &gated(&format!("by-{}", who.name.replace(':', "-")))).await,
            who,
            "create a gated pod",
        );
        for (pointer, value, said) in [
            ("/metadata/annotations", json!({ annotation::SIGNAL: "" }), "annotations"),
            ("/metadata/annotations", json!({ annotation::OPENED: "{}" }), "annotations"),
            ("/metadata/labels", json!({ label::ROLE: label::ROLE_RUNNER }), "role"),
            ("/metadata/finalizers", json!([POD_FINALIZER]), "finalizer"),
        ] {
            let object = with(&gated("made"), pointer, value);
            refused(who.create(PODS, &object).await, who, &format!("create a pod with {pointer}"), said);
        }
    }
}

async fn nobody_else_changes_what_is_guarded(people: &People) {
    people.administrator.must_create(PODS, &gated("guarded")).await;
    let (main, status) = (format!("{PODS}/guarded"), format!("{PODS}/guarded/status"));
    for (said, patch) in guarded_changes() {
        let who = &people.app;
        for kind in [MERGE, STRATEGIC] {
            refused(who.patch(&status, kind, &patch).await, who, &format!("patch the status with {patch}"), said);
        }
        // The condition doesn't reach a pod through its main resource.
        if patch["status"].is_null() {
            refused(who.patch(&main, MERGE, &patch).await, who, &format!("patch with {patch}"), said);
            refused(
                people.owner.patch(&main, MERGE, &patch).await,
                &people.owner,
                &format!("patch with {patch}"),
                said,
            );
            let mut object = people.administrator.get(&main).await.expect("it exists");
            json_patch::merge(&mut object, &patch);
            refused(who.replace(&main, &object).await, who, &format!("replace with {patch}"), said);
            refused(who.replace(&status, &object).await, who, &format!("replace the status with {patch}"), said);
        }
    }
    let harmless = json!({"metadata": {"annotations": {"note": "x"}, "labels": {"team": "blue"}}});
    passed(people.owner.patch(&main, MERGE, &harmless).await, &people.owner, "annotate a pod");
    let other = json!({"status": {"conditions": [{"type": "example.com/other", "status": "True"}]}});
    passed(people.app.patch(&status, STRATEGIC, &other).await, &people.app, "set another condition");
}

async fn the_controller_and_the_fireman_may(people: &People) {
    for who in [&people.controller, &people.fireman] {
        let name = format!("for-{}", who.name.rsplit(':').next().expect("a name"));
        people.administrator.must_create(PODS, &gated(&name)).await;
        for (_, patch) in guarded_changes() {
            let status = format!("{PODS}/{name}/status?dryRun=All");
            passed(who.patch(&status, STRATEGIC, &patch).await, who, &format!("patch with {patch}"));
        }
    }
    // The role for emergencies was bound in one namespace, and so is worth nothing elsewhere.
    namespace(&people.administrator, "elsewhere", json!({})).await;
    let elsewhere = "/api/v1/namespaces/elsewhere/pods";
    people.administrator.must_create(elsewhere, &gated("guarded")).await;
    let answer = people.fireman.patch(&format!("{elsewhere}/guarded/status"), STRATEGIC, &opened()).await;
    assert_eq!(answer.expect_err("no right there").code, 403);
}

async fn subresources_are_no_way_around(people: &People) {
    let who = &people.app;
    people.administrator.must_create(PODS, &gated("doors")).await;
    let path = format!("{PODS}/doors");
    let before = people.administrator.get(&path).await.expect("it exists");
    let debug = json!({"name": "debug", "image": "registry.example/debug:1"});
    for (door, spec) in [
        ("ephemeralcontainers", json!({"ephemeralContainers": [debug]})),
        ("resize", json!({"containers": [{"name": "web", "resources": {"requests": {"cpu": "1m"}}}]})),
    ] {
        for (_, mut patch) in guarded_changes() {
            patch["spec"] = spec.clone();
            // Refused, or taken without what is guarded: the registry drops what isn't the door's.
            let _ = who.patch(&format!("{path}/{door}"), STRATEGIC, &patch).await;
        }
    }
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": "doors", "namespace": "shop", "annotations": {annotation::OPENED: "{}"}},
        "deleteOptions": {"dryRun": ["All"]},
    });
    passed(who.create(&format!("{path}/eviction"), &eviction).await, who, "evict a pod");
    let after = people.administrator.get(&path).await.expect("it exists");
    for field in ["annotations", "labels", "finalizers"] {
        assert_eq!(after["metadata"][field], before["metadata"][field], "{field}");
    }
    assert!(!after["status"].to_string().contains(CONDITION));
}

async fn bindings_carry_nothing(people: &People) {
    let binding = |name: &str, metadata: Value| {
        let mut binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        json_patch::merge(&mut binding["metadata"], &metadata);
        binding
    };
    people.administrator.must_create(PODS, &gated("bound")).await;
    for who in [&people.scheduler, &people.app] {
        for metadata in [
            json!({"annotations": {annotation::SIGNAL: "{}"}}),
            json!({"annotations": {annotation::OPENED: "{}"}}),
            json!({"labels": {label::ROLE: label::ROLE_RUNNER}}),
            json!({"labels": {label::MIGRATION: "1".repeat(32)}}),
            json!({"labels": {label::GATE: "x"}}),
        ] {
            for path in [format!("{PODS}/bound/binding"), "/api/v1/namespaces/shop/bindings".to_owned()] {
                let answer = who.create(&path, &binding("bound", metadata.clone())).await;
                // The scheduler has no right on the older resource.
                match path.ends_with("bindings") && who.name == people.scheduler.name {
                    true => assert_eq!(answer.expect_err("no right").code, 403),
                    false => refused(answer, who, &format!("bind with {metadata}"), "binding"),
                }
            }
        }
    }
    let who = &people.scheduler;
    let plain = binding("bound", json!({"annotations": {"scheduled-by": "me"}}));
    passed(who.create(&format!("{PODS}/bound/binding"), &plain).await, who, "bind a gated pod");
    let scheduled = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}});
    passed(who.patch(&format!("{PODS}/bound/status"), STRATEGIC, &scheduled).await, who, "report on a gated pod");
}

async fn what_was_guarded_stays_guarded_when_it_is_there(people: &People) {
    people.administrator.must_create(PODS, &gated("running")).await;
    let (main, status) = (format!("{PODS}/running"), format!("{PODS}/running/status"));
    let elected = json!({
        "metadata": {
            "annotations": {annotation::SIGNAL: "{\"run\":{}}", annotation::OPENED: "{}"},
            "labels": {label::ROLE: label::ROLE_RUNNER},
            "finalizers": [POD_FINALIZER],
        },
        "status": {"conditions": [{"type": CONDITION, "status": "False"}]},
    });
    passed(people.controller.patch(&status, STRATEGIC, &elected).await, &people.controller, "elect a pod");
    let drop = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [POD_FINALIZER]}});
    let who = &people.app;
    for (said, patch) in [
        ("annotations", json!({"metadata": {"annotations": {annotation::SIGNAL: null}}})),
        ("annotations", json!({"metadata": {"annotations": {annotation::SIGNAL: "{\"settled\":{}}"}}})),
        ("annotations", json!({"metadata": {"annotations": {annotation::OPENED: null}}})),
        ("role", json!({"metadata": {"labels": {label::ROLE: null}}})),
        ("finalizer", json!({"metadata": {"finalizers": null}})),
        ("finalizer", drop.clone()),
    ] {
        refused(who.patch(&main, STRATEGIC, &patch).await, who, &format!("patch with {patch}"), said);
        refused(who.patch(&status, STRATEGIC, &patch).await, who, &format!("patch the status with {patch}"), said);
    }
    refused(who.patch(&status, STRATEGIC, &opened()).await, who, "turn a condition", "condition");
    let none = json!({"status": {"conditions": null}});
    refused(who.patch(&status, MERGE, &none).await, who, "remove a condition", "condition");
    // Also while it is being deleted; and only then does the controller let go.
    passed(who.delete(&main, &json!({"gracePeriodSeconds": 0})).await, who, "delete a pod");
    refused(who.patch(&main, STRATEGIC, &drop).await, who, "drop the finalizer of a dying pod", "finalizer");
    passed(people.controller.patch(&status, STRATEGIC, &drop).await, &people.controller, "drop the finalizer");
    eventually("the pod to go", async || people.administrator.get(&main).await.err()).await;
}

/// A kubelet writes the status of its pods, whatever they hold, and may not open a gate.
async fn a_kubelet_is_never_refused(people: &People) {
    let who = &people.kubelet;
    let many: Vec<String> = (0..500).map(|number| format!("example.com/finalizer-{number}")).collect();
    let conditions: Vec<Value> =
        (0..500).map(|number| json!({"type": format!("example.com/condition-{number}"), "status": "True"})).collect();
    let all = json!({
        "metadata": {
            "annotations": {annotation::SIGNAL: "", annotation::OPENED: "not json", "big": "x".repeat(200_000)},
            "labels": {label::ROLE: ""},
            "finalizers": [POD_FINALIZER],
        },
        "status": {"conditions": [{"type": CONDITION, "status": "True"}]},
    });
    for (name, pod, patch) in [
        ("k-bare", bare("k-bare"), json!({})),
        ("k-gated", gated("k-gated"), json!({})),
        ("k-open", gated("k-open"), opened()),
        ("k-no-status", gated("k-no-status"), json!({"status": {"conditions": [{"type": CONDITION}]}})),
        ("k-all", gated("k-all"), all),
        ("k-many", gated("k-many"), json!({"metadata": {"finalizers": many}, "status": {"conditions": conditions}})),
    ] {
        let pod = with(&pod, "/spec/nodeName", json!(NODE));
        people.administrator.must_create(PODS, &pod).await;
        let status = format!("{PODS}/{name}/status");
        people.administrator.patch(&status, STRATEGIC, &patch).await.expect("the administrator may");
        let report = json!({
            "metadata": {"uid": people.administrator.get(&format!("{PODS}/{name}")).await.expect("it exists")["metadata"]["uid"]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
                "containerStatuses": [{"name": "web", "ready": true, "restartCount": 0, "image": "x", "imageID": "x",
                    "state": {"running": {}}}],
            },
        });
        passed(who.patch(&status, STRATEGIC, &report).await, who, &format!("report on {name}"));
        let read = people.administrator.get(&format!("{PODS}/{name}")).await.expect("it exists");
        passed(who.replace(&status, &read).await, who, &format!("replace the status of {name}"));
        let open = json!({"status": {"conditions": [{"type": CONDITION, "status": "Unknown"}]}});
        refused(who.patch(&status, STRATEGIC, &open).await, who, &format!("turn the condition of {name}"), "condition");
    }
}

async fn the_controller_keeps_to_gated_pods(people: &People) {
    let who = &people.controller;
    people.administrator.must_create(PODS, &bare("not-ours")).await;
    let status = format!("{PODS}/not-ours/status");
    for patch in [opened(), json!({"metadata": {"labels": {label::GATE: "x.deployment"}}})] {
        refused(
            who.patch(&status, STRATEGIC, &patch).await,
            who,
            &format!("patch with {patch}"),
            "only pods with the label",
        );
    }
}

/// Where the webhook may be skipped (failurePolicy: Ignore); here it isn't there at all.
async fn workloads_wait_for_their_gate(cluster: &Cluster, people: &People) {
    let who = &people.administrator;
    let plain = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example/shop:1.0"}]},
            },
        },
    });
    let labelled = with(&plain, "/metadata/labels", json!({ label::GATED: label::GATED_TRUE }));
    let missed = |answer: Answer, what: &str| {
        let status = answer.expect_err(what);
        assert!(status.message.contains("asks for a gate but has none"), "{what}: {status:?}");
    };
    for key in [annotation::COMMAND, annotation::CONTAINER] {
        let asking = with(&labelled, "/metadata/annotations", json!({ key: "web" }));
        eventually("the policy to act", async || {
            let answer = who.create(&format!("{DEPLOYMENTS}?dryRun=All"), &asking).await;
            answer.err().filter(|status| status.message.contains("asks for a gate"))
        })
        .await;
        missed(who.create(DEPLOYMENTS, &asking).await, key);
        let elsewhere = "/apis/apps/v1/namespaces/elsewhere/deployments?dryRun=All";
        passed(who.create(elsewhere, &asking).await, who, "create it where nobody opted in");
        let note = json!({ annotation::INJECTED: "{}" });
        let injected = with(&asking, "/spec/template/metadata/annotations", note);
        passed(who.create(&format!("{DEPLOYMENTS}?dryRun=All"), &injected).await, who, "create it with its gate");
    }
    passed(who.create(&format!("{DEPLOYMENTS}?dryRun=All"), &labelled).await, who, "create it without a command");
    // One that was there before: what leaves the template alone passes, a new template doesn't.
    passed(who.create(DEPLOYMENTS, &plain).await, who, "create a plain one");
    let path = format!("{DEPLOYMENTS}/orders");
    let adopt =
        json!({"metadata": {"labels": {label::GATED: "true"}, "annotations": {annotation::COMMAND: "migrate"}}});
    passed(who.patch(&path, MERGE, &adopt).await, who, "label it without a change of its template");
    passed(who.patch(&path, MERGE, &json!({"spec": {"replicas": 1}})).await, who, "scale it");
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}});
    missed(who.patch(&path, MERGE, &restart).await, "a restart makes pods without a gate");
    let leave = json!({"metadata": {"labels": {label::GATED: null}}, "spec": restart["spec"]});
    passed(who.patch(&path, MERGE, &leave).await, who, "take the label off");
    passed(who.patch(&path, MERGE, &adopt).await, who, "put it on again");
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    passed(who.patch(&path, MERGE, &hold).await, who, "hold it");
    passed(who.delete(&path, &json!({})).await, who, "delete it");
    let mut last = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "later"}}}}});
    last["metadata"] = json!({"finalizers": null});
    passed(who.patch(&path, MERGE, &last).await, who, "let it go, whatever else changes");
    eventually("the deployment to go", async || who.get(&path).await.err()).await;
    let policies = cluster.get(&["validatingadmissionpolicies"]).expect("a list");
    for policy in policies["items"].as_array().expect("a list") {
        assert_eq!(policy["status"]["typeChecking"], json!({}), "{}", policy["metadata"]["name"]);
    }
}

/// The names of the init containers are no secret, but the tests of the installation should not need them.
#[test]
fn the_policies_spell_the_contract() {
    let text = include_str!("../webhook-config/policies.yaml");
    for word in [
        CONDITION,
        POD_FINALIZER,
        annotation::SIGNAL,
        annotation::OPENED,
        annotation::INJECTED,
        annotation::COMMAND,
        annotation::CONTAINER,
        label::GATE,
        label::MIGRATION,
        label::ROLE,
        label::GATED,
        label::INJECT,
    ] {
        assert!(text.contains(&format!("{word}'")) || text.contains(&format!("{word}:")), "{word}");
    }
    assert!(!text.contains(pod::MIGRATE_CONTAINER));
}

/// What the policies add to a kubelet's update of a pod's status, in one run, in turns: the time that a client waits, and
/// the API server's processor time, which a busy machine doesn't blur.
///
/// Measures; it can't fail. `cargo test --release --test policies_api -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn what_the_policies_cost() {
    const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
    let (cluster, people) = boot("t-policy-cost").await;
    people.administrator.must_create(PODS, &with(&gated("busy"), "/spec/nodeName", json!(NODE))).await;
    let status = format!("{PODS}/busy/status");
    let probe = with(&bare("probe"), "/metadata/annotations", json!({ annotation::SIGNAL: "x" }));
    let server = cluster.component("kube-apiserver").expect("it runs").pid().expect("it runs");
    let (mut medians, mut spent) = ([Vec::new(), Vec::new()], [Duration::ZERO; 2]);
    for round in 0..6 {
        let on = round % 2 == 0;
        match on {
            true => {
                cluster.kubectl(&["apply", "-f", "webhook-config/policies.yaml"]).expect("the policies");
            }
            false => {
                for name in ["pods", "bindings", "controller", "workloads"] {
                    let path = format!("{BINDINGS}/{name}.migration-gate.dev");
                    people.administrator.delete(&path, &json!({})).await.expect("it exists");
                }
            }
        }
        eventually("the policies to be on or off", async || {
            let taken = people.app.create(&format!("{PODS}?dryRun=All"), &probe).await.is_ok();
            (taken != on).then_some(())
        })
        .await;
        let (mut times, before) = (Vec::new(), processor_time(server));
        for number in 0..500 {
            let message = json!({"status": {"message": number.to_string()}});
            let start = std::time::Instant::now();
            passed(people.kubelet.patch(&status, STRATEGIC, &message).await, &people.kubelet, "report");
            times.push(start.elapsed());
        }
        spent[usize::from(on)] += (processor_time(server) - before) / 1500;
        times.sort_unstable();
        medians[usize::from(on)].push(times[times.len() / 2]);
    }
    let [off, on] = medians.map(|mut medians| {
        medians.sort_unstable();
        medians[medians.len() / 2]
    });
    eprintln!("a kubelet's status update: {off:?} without the policies, {on:?} with them (medians of 3 times 500)");
    eprintln!("the API server's processor time for one: {:?} without, {:?} with", spent[0], spent[1]);
}

/// The processor time that a process has had. Source: proc(5), fields 14 and 15, in hundredths of a second.
fn processor_time(process: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
