//! Every rule, from objects as the API server would send them.

use k8s_openapi::api::apps::v1::Deployment;
use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use super::*;
use crate::contract::{CONDITION, annotation, label, pod};
use crate::migration::MigrationGate;
use crate::plugin::seen::Seen;

const NEW: &str = "0123456789abcdef0123456789abcdef";
const OLD: &str = "fedcba9876543210fedcba9876543210";

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn deployment(annotations: Value) -> Deployment {
    from(json!({
        "metadata": { "namespace": "shop", "name": "orders", "uid": "u-orders", "generation": 2,
            "labels": { label::GATED: label::GATED_TRUE }, "annotations": annotations },
        "spec": { "selector": { "matchLabels": { "app": "orders" } }, "template": {
            "metadata": { "labels": { "app": "orders", label::GATE: "orders.deployment", label::MIGRATION: NEW } },
            "spec": { "containers": [], "initContainers": [{ "name": pod::MIGRATE_CONTAINER, "image": "orders:2",
                "command": [pod::AGENT_PATH], "args": ["--", "alembic", "upgrade", "head"] }] },
        } },
    }))
}

fn pod(name: &str, fingerprint: &str, more: Value) -> KubePod {
    let mut pod = json!({
        "metadata": { "namespace": "shop", "name": name, "uid": format!("u-{name}"),
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": "u-orders",
                "controller": true }],
            "labels": { "app": "orders", label::GATE: "orders.deployment", label::MIGRATION: fingerprint } },
        "spec": { "nodeName": "node-1", "containers": [], "initContainers": [{ "name": pod::MIGRATE_CONTAINER,
            "image": "orders:2", "command": [pod::AGENT_PATH], "args": ["--", "true"] }] },
        "status": { "phase": "Pending", "initContainerStatuses": [container(pod::MIGRATE_CONTAINER, json!({ "running": {} }))] },
    });
    json_patch::merge(&mut pod, &more);
    from(pod)
}

fn container(name: &str, state: Value) -> Value {
    json!({ "name": name, "image": "orders:2", "imageID": "", "ready": false, "restartCount": 0, "state": state })
}

/// The pass and the condition that open a pod's gate.
fn opened(name: &str, fingerprint: &str) -> Value {
    let pass = json!({ "podUid": format!("u-{name}"), "migration": fingerprint }).to_string();
    json!({ "metadata": { "annotations": { annotation::OPENED: pass } },
        "status": { "phase": "Running", "conditions": [{ "type": CONDITION, "status": "True" }] } })
}

fn record(mut status: Value) -> Vec<DeserializeGuard<MigrationGate>> {
    if status["conditions"].is_null() {
        // The controller's own statuses always have it.
        status["conditions"] = json!([{ "type": "Migrated", "status": "False", "reason": "Pending", "message": "",
            "lastTransitionTime": "2026-11-21T10:00:00Z" }]);
    }
    vec![from(json!({
        "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate",
        "metadata": { "namespace": "shop", "name": "orders.deployment", "uid": "u-record", "resourceVersion": "5",
            "generation": 1, "finalizers": ["migration-gate.dev/active"], "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": "u-orders" }] },
        "spec": {}, "status": status,
    }))]
}

fn active(pod: &str, signalled: bool) -> Value {
    let mut active = json!({ "fingerprint": NEW, "attempt": 3, "podName": pod, "podUid": format!("u-{pod}"),
        "nodeName": "node-1", "electedAt": "2026-11-21T10:00:00Z" });
    if signalled {
        active["signalledAt"] = json!("2026-11-21T10:00:01Z");
    }
    json!({ "lastAttempt": 3, "active": active, "migrations": [{ "fingerprint": NEW, "image": "orders:2", "phase": "Running" }] })
}

fn run_signal(pod: &str) -> Value {
    let signal = json!({ "run": { "podUid": format!("u-{pod}"), "attempt": 3 } }).to_string();
    json!({ "metadata": { "annotations": { annotation::SIGNAL: signal }, "finalizers": ["migration-gate.dev/outcome"] } })
}

fn failed(failures: u32, recorded: &str) -> Value {
    let attempt = json!({ "number": failures, "pod": "orders-a", "outcome": "Failed", "exitCode": 1,
        "elected": recorded, "recorded": recorded, "logTail": "Traceback\nno such table: orders\n" });
    json!({ "lastAttempt": failures, "migrations": [
        { "fingerprint": NEW, "image": "orders:2", "phase": "Pending", "failures": failures, "attempts": [attempt] }] })
}

/// Explains the workload, with its node Ready or not.
fn explained(
    records: &[DeserializeGuard<MigrationGate>],
    annotations: Value,
    pods: Vec<KubePod>,
    ready: bool,
) -> Reason {
    let mut seen = Seen::of("shop", records, vec![deployment(annotations)], &[], pods);
    seen.put_node("node-1", ready);
    let (key, workload) = seen.group_of("orders").expect("it is gated");
    let snapshot = seen.snapshot(&key.name);
    let commands = Commands { program: "kubectl migration-gate".to_owned(), place: " -n shop".to_owned() };
    let now = "2026-11-21T10:01:01Z".parse().expect("a time");
    Case { snapshot: &snapshot, workload: &workload, pods: &seen.pods, now, commands: &commands }.reason()
}

fn waits() -> Vec<KubePod> {
    vec![pod("orders-a", NEW, json!({})), pod("orders-b", NEW, json!({}))]
}

#[test]
fn each_rule_is_found_and_named_with_what_releases_it() {
    let none = || json!({});
    let suspended = json!({ annotation::SUSPEND: "true" });
    let runner = || vec![pod("orders-a", NEW, run_signal("orders-a")), pod("orders-b", NEW, json!({}))];
    let busy = {
        let mut status = active("orders-old", true);
        status["active"]["fingerprint"] = json!(OLD);
        status
    };
    let old_runner = || vec![pod("orders-old", OLD, run_signal("orders-old")), pod("orders-b", NEW, json!({}))];
    for (status, annotations, pods, ready, rule, because, release) in [
        (none(), none(), waits(), true, Rule::ControllerAway, "let pod orders-a run the migration", "get pods"),
        (none(), none(), Vec::new(), true, Rule::NoPodCanRun, "no pod of its current template exists", "replicasets"),
        (none(), none(), waits(), false, Rule::NoPodCanRun, "its node node-1 is not Ready", "Ready node"),
        (
            none(),
            suspended,
            waits(),
            true,
            Rule::Suspended,
            "approval",
            "kubectl migration-gate approve orders -n shop",
        ),
        (
            none(),
            json!({ annotation::TIMEOUT: "soon" }),
            waits(),
            true,
            Rule::SettingsUnreadable,
            "migration-gate.dev/timeout",
            "a valid value",
        ),
        (
            failed(2, "2026-11-21T10:00:59Z"),
            none(),
            waits(),
            true,
            Rule::BackingOff,
            "tried again in 18s, after 2 failed and 0 interrupted; attempt 2 in pod orders-a ended with exit code 1: no such table",
            "time",
        ),
        (
            failed(6, "2026-11-21T10:00:00Z"),
            none(),
            waits(),
            true,
            Rule::OutOfAttempts,
            "no attempts left; attempt 6 in pod orders-a ended with exit code 1: no such table: orders",
            "change the Deployment",
        ),
        (
            active("orders-a", true),
            none(),
            runner(),
            true,
            Rule::Running,
            "attempt 3 in pod orders-a has been running for 1m0s",
            "logs -f orders",
        ),
        (
            active("orders-a", true),
            none(),
            runner(),
            false,
            Rule::Running,
            "its node node-1 is not Ready, which does not prove",
            "logs",
        ),
        (
            active("orders-a", true),
            none(),
            vec![pod("orders-b", NEW, json!({}))],
            true,
            Rule::Unaccounted,
            "somebody removed its finalizer",
            "confirm-dead orders -n shop",
        ),
        (
            busy,
            none(),
            old_runner(),
            true,
            Rule::GroupBusy,
            "another migration of its group runs first: attempt 3 in pod orders-old",
            "its end",
        ),
        (json!({ "succeeded": [NEW] }), none(), waits(), true, Rule::ControllerAway, "open 2 gates", "get pods"),
        (
            json!({ "succeeded": [NEW] }),
            none(),
            vec![pod("orders-a", NEW, opened("orders-a", NEW))],
            true,
            Rule::Open,
            "its gates are open",
            "",
        ),
    ] {
        let mut status = status;
        if status == json!({}) {
            status = json!({ "lastAttempt": 0 });
        }
        let reason = explained(&record(status), annotations, pods, ready);
        assert_eq!(reason.rule, rule, "{reason:?}");
        assert!(reason.because.contains(because), "{because}: {reason:?}");
        assert!(reason.released_by.first().map_or("", String::as_str).contains(release), "{release}: {reason:?}");
    }
}

/// A pod whose containers are in these states, in this order; the last one is the agent's.
fn stands(name: &str, states: &[Value]) -> KubePod {
    let names = ["migration-gate-install", pod::MIGRATE_CONTAINER];
    let names = names[2 - states.len()..].iter();
    let statuses: Vec<Value> = names.zip(states).map(|(name, state)| container(name, state.clone())).collect();
    pod(name, NEW, json!({ "status": { "initContainerStatuses": statuses } }))
}

#[test]
fn what_keeps_a_pod_from_its_agent_is_named_and_an_image_first() {
    let waiting = |reason: &str| json!({ "waiting": { "reason": reason, "message": "no such\timage" } });
    let (running, ended) = (json!({ "running": {} }), json!({ "terminated": { "exitCode": 0 } }));
    let initializing = json!({ "waiting": { "reason": "PodInitializing" } });
    let slow = || stands("orders-a", &[initializing.clone(), initializing.clone()]);
    let no_image =
        "the image orders:2 of its container migration-gate-migrate can't be had: ErrImagePull: no such image";
    for (pods, rule, because, release) in [
        (vec![stands("orders-a", &[waiting("ErrImagePull")])], Rule::NoImage, no_image, "change the Deployment"),
        (vec![slow(), stands("orders-b", &[ended.clone(), waiting("ErrImagePull")])], Rule::NoImage, no_image, "image"),
        (
            vec![stands("orders-a", &[waiting("ImagePullBackOff"), initializing.clone()])],
            Rule::NoImage,
            "orders-a: the image orders:2 of its container migration-gate-install can't be had: ImagePullBackOff",
            "image",
        ),
        (
            vec![slow()],
            Rule::NoPodCanRun,
            "orders-a: its container migration-gate-install has not started yet; the image orders:2 may still be on its way",
            "agent runs",
        ),
        (
            vec![stands("orders-a", &[running.clone(), initializing.clone()])],
            Rule::NoPodCanRun,
            "orders-a: its init container migration-gate-install still runs",
            "agent runs",
        ),
        (
            vec![stands("orders-a", &[waiting("CreateContainerConfigError")])],
            Rule::NoPodCanRun,
            "orders-a: container migration-gate-migrate waits: CreateContainerConfigError",
            "agent runs",
        ),
        // Another pod can go on without it.
        (
            vec![stands("orders-a", &[waiting("ErrImagePull")]), stands("orders-b", &[ended.clone(), running.clone()])],
            Rule::ControllerAway,
            "let pod orders-b run the migration",
            "a controller",
        ),
    ] {
        let reason = explained(&record(json!({ "lastAttempt": 0 })), json!({}), pods, true);
        assert_eq!(reason.rule, rule, "{reason:?}");
        assert!(reason.because.contains(because), "{because}: {reason:?}");
        assert!(reason.released_by[0].contains(release), "{release}: {reason:?}");
    }
}

#[test]
fn records_that_are_missing_new_or_broken_are_told_apart() {
    let because = |records: &[DeserializeGuard<MigrationGate>]| explained(records, json!({}), waits(), true);
    assert_eq!(because(&[]).rule, Rule::NoRecord);
    assert_eq!(because(&record(Value::Null)).rule, Rule::ControllerAway);
    let nonsense = record(json!({ "lastAttempt": -1 }));
    let reason = because(&nonsense);
    assert_eq!(reason.rule, Rule::RecordUnreadable);
    assert!(reason.because.contains("-1"), "{reason:?}");
}

#[test]
fn a_pod_of_an_older_template_waits_for_its_replacement() {
    let pods = vec![pod("orders-old", OLD, json!({})), pod("orders-a", NEW, json!({}))];
    let seen = Seen::of("shop", &record(json!({ "lastAttempt": 1 })), vec![deployment(json!({}))], &[], pods);
    let (key, workload) = seen.group_of("orders").expect("it is gated");
    let snapshot = seen.snapshot(&key.name);
    let commands = Commands { program: String::new(), place: String::new() };
    let case = Case {
        snapshot: &snapshot,
        workload: &workload,
        pods: &seen.pods,
        now: Timestamp::UNIX_EPOCH,
        commands: &commands,
    };
    let of = |name: &str| {
        let pod = snapshot.pods.iter().find(|pod| pod.name == name).expect(name);
        case.of_pod(pod).map(|reason| reason.rule)
    };
    assert_eq!(of("orders-old"), Some(Rule::Superseded));
    assert_eq!(of("orders-a"), None, "the workload's own reason holds it");
}
