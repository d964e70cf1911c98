//! An injection stays as it is until the template changes, whoever sends what.

use super::*;
use crate::contract::{CONDITION, pod};

#[test]
fn an_upgrade_rolls_nothing_out() {
    for object in [orders(), wrapping(), with_entrypoint()] {
        let injected = create(&object).object;
        // A client-side apply or an edit sends all, a replace sends nothing of ours.
        for sent in [&injected, &object] {
            let scaled = with(sent, "/spec/replicas", json!(5));
            let outcome = admit_with(&upgraded(), Some(&injected), &scaled);
            assert_eq!(outcome.decision, Decision::Kept);
            assert_eq!(outcome.template(), &injected["spec"]["template"]);
        }
    }
}

#[test]
fn an_apply_over_a_wrapped_container_rolls_nothing_out() {
    let object = wrapping();
    let injected = create(&object).object;
    // A client-side apply sends the user's command again, and keeps what it doesn't know.
    let mut sent = injected.clone();
    let containers = &mut sent["spec"]["template"]["spec"]["initContainers"];
    containers[1]["command"] = json!(["alembic"]);
    containers[1]["args"] = json!(["upgrade", "head"]);
    let outcome = admit_with(&upgraded(), Some(&injected), &sent);
    assert_eq!(outcome.decision, Decision::Kept);
    assert_eq!(outcome.template(), &injected["spec"]["template"]);

    sent["spec"]["template"]["spec"]["initContainers"][1]["args"] = json!(["upgrade", "1.2"]);
    let outcome = update(&injected, &sent);
    assert_eq!(outcome.decision, Decision::Injected);
    let migrate = &outcome.template()["spec"]["initContainers"][1];
    assert_eq!(migrate["args"], json!(["--", "alembic", "upgrade", "1.2"]));
    let unlabelled = with(&outcome.object, "/metadata/labels", Value::Null);
    let stripped = update(&outcome.object, &unlabelled).object;
    assert_eq!(stripped["spec"]["template"]["spec"]["initContainers"][0]["args"], json!(["upgrade", "1.2"]));
}

#[test]
fn a_workload_injected_in_a_file_stays_when_its_manifest_is_applied() {
    // As a chart has it: with collections that hold nothing, which the API server drops, and without its defaults.
    let mut in_a_file = wrapping();
    let template = &mut in_a_file["spec"]["template"];
    template["metadata"]["annotations"] = json!({});
    template["spec"]["volumes"] = json!([]);
    template["spec"]["readinessGates"] = Value::Null;
    template["spec"]["initContainers"][0]["volumeMounts"] = json!([]);
    let injected = create(&in_a_file).object;
    let mut manifest = wrapping();
    let migrate = &mut manifest["spec"]["template"]["spec"]["initContainers"][0];
    migrate["terminationMessagePath"] = json!(pod::TERMINATION_PATH);
    migrate["terminationMessagePolicy"] = json!("File");
    let outcome = update(&injected, &manifest);
    assert_eq!((outcome.decision, outcome.object), (Decision::Kept, injected));
    // A list of words with nothing in it is one that the API server drops.
    let mut in_a_file = with_entrypoint();
    in_a_file["spec"]["template"]["spec"]["initContainers"][0]["command"] = json!([]);
    in_a_file["spec"]["template"]["spec"]["initContainers"][0]["args"] = Value::Null;
    let injected = create(&in_a_file).object;
    let manifest = with(&with_entrypoint(), "/spec/template/spec/initContainers/0/args", Value::Null);
    let outcome = update(&injected, &manifest);
    assert_eq!((outcome.decision, outcome.object), (Decision::Kept, injected));
}

#[test]
fn what_somebody_took_out_by_hand_comes_back() {
    let injected = create(&orders()).object;
    for pointer in [
        "/spec/template/metadata/labels/migration-gate.dev~1gate",
        "/spec/template/spec/readinessGates",
        "/spec/template/spec/volumes",
        "/spec/template/spec/initContainers",
    ] {
        let outcome = update(&injected, &with(&injected, pointer, Value::Null));
        assert_eq!(outcome.decision, Decision::Kept, "{pointer}");
        assert_eq!(outcome.object, injected, "{pointer}");
    }
}

const ENV: &str = "/spec/template/spec/containers/0/env";

/// `orders`, with two variables.
fn configured() -> Value {
    with(&orders(), ENV, json!([{"name": "URL", "value": "a"}, {"name": "DEBUG", "value": "1"}]))
}

/// Sees that the change is injected anew, as another migration or as the same one.
fn injects_anew(object: &Value, changed: &Value, migrates: bool) {
    let label = "/spec/template/metadata/labels/migration-gate.dev~1migration";
    let injected = create(object).object;
    // Sent with the injection of before, and without.
    for carries in [true, false] {
        let mut sent = changed.clone();
        if carries {
            sent = injected.clone();
            sent["metadata"] = changed["metadata"].clone();
            sent["spec"]["template"]["spec"]["containers"] = changed["spec"]["template"]["spec"]["containers"].clone();
        }
        let outcome = update(&injected, &sent);
        assert_eq!(outcome.decision, Decision::Injected, "{changed}");
        assert_eq!(outcome.object, create(changed).object, "{changed}");
        assert_eq!(outcome.object.pointer(label) != injected.pointer(label), migrates, "{changed}");
    }
}

#[test]
fn a_change_that_reaches_the_template_injects_anew() {
    let object = configured();
    for (changed, migrates) in [
        (with(&object, "/spec/template/spec/containers/0/image", json!("orders:2")), true),
        (with(&object, &format!("{ENV}/1/value"), json!("2")), true),
        (annotated(&object, annotation::COMMAND, "alembic upgrade 2"), true),
        (annotated(&object, annotation::REVISION, "2"), true),
        (annotated(&object, annotation::VERIFY, "alembic check"), true),
        (annotated(&object, annotation::WAIT_FOR, "tcp://db:5432"), false),
        (annotated(&object, annotation::LOCK_ENV, "URL"), false),
        (annotated(&object, annotation::GROUP, "orders-db"), false),
        (with(&object, "/spec/template/spec/containers/0/resources", json!({"limits": {"cpu": "1"}})), false),
        (with(&object, "/spec/template/spec/containers/0/securityContext", json!({"runAsUser": 1})), false),
        (with(&object, "/spec/template/spec/containers/0/imagePullPolicy", json!("Always")), false),
    ] {
        injects_anew(&object, &changed, migrates);
    }
}

#[test]
fn a_variable_that_is_not_named_injects_anew_and_migrates_nothing() {
    let named = annotated(&configured(), annotation::IDENTITY_ENV, "URL");
    injects_anew(&named, &with(&named, &format!("{ENV}/0/value"), json!("b")), true);
    injects_anew(&named, &with(&named, &format!("{ENV}/1/value"), json!("2")), false);
    let more = json!([{"configMapRef": {"name": "settings"}}]);
    injects_anew(&named, &with(&named, "/spec/template/spec/containers/0/envFrom", more), false);
}

#[test]
fn a_change_elsewhere_in_the_template_keeps_the_migration() {
    let injected = create(&orders()).object;
    let changed = with(&injected, "/spec/template/spec/containers/0/ports", json!([{"containerPort": 80}]));
    let outcome = admit_with(&upgraded(), Some(&injected), &changed);
    assert_eq!(outcome.decision, Decision::Kept);
    assert_eq!(outcome.patch, Value::Null);
}

#[test]
fn an_undo_finds_its_old_template() {
    let first = create(&orders()).object;
    let second = update(&first, &with(&orders(), "/spec/template/spec/containers/0/image", json!("orders:2"))).object;
    let outcome = admit_with(&upgraded(), Some(&second), &first);
    assert_eq!(outcome.decision, Decision::Kept);
    assert_eq!(outcome.object, first);
}

#[test]
fn an_undo_to_before_the_adoption_is_admitted_with_a_warning() {
    let mut before = orders();
    before["metadata"]["annotations"] = json!({});
    let injected = create(&orders()).object;
    let changed = with(&before, "/spec/template/spec/containers/0/image", json!("orders:0"));
    for sent in [&before, &changed] {
        let outcome = update(&injected, sent);
        assert_eq!(outcome.decision, Decision::Ungated, "{}", outcome.response);
        assert_eq!(outcome.patch, Value::Null);
        assert_eq!(outcome.warnings().len(), 1);
    }
    // And it may be scaled afterwards; but it isn't created like that.
    assert_eq!(update(&before, &with(&before, "/spec/replicas", json!(9))).decision, Decision::Kept);
    assert_eq!(create(&before).decision, Decision::Denied);
    // With our injection in its template it isn't from before the adoption.
    let stale = with(&injected, "/metadata/annotations", Value::Null);
    assert_eq!(update(&injected, &stale).decision, Decision::Denied);
}

#[test]
fn adding_the_label_is_a_change() {
    let unlabelled = with(&orders(), "/metadata/labels", Value::Null);
    assert_eq!(update(&unlabelled, &orders()).decision, Decision::Injected);
    // But what came in without a gate while the webhook was away stays so until it changes.
    assert_eq!(update(&orders(), &with(&orders(), "/spec/replicas", json!(9))).decision, Decision::Kept);
}

#[test]
fn a_copy_under_another_name_gets_a_record_of_its_own() {
    let copy = with(&create(&orders()).object, "/metadata/name", json!("orders-canary"));
    let outcome = create(&copy);
    assert_eq!(outcome.decision, Decision::Injected);
    assert_eq!(outcome.template()["metadata"]["labels"][label::GATE], "orders-canary.deployment");
}

#[test]
fn a_damaged_copy_is_injected_afresh() {
    for object in [orders(), wrapping()] {
        let injected = create(&object).object;
        let spec = "/spec/template/spec";
        for (pointer, value) in [
            ("/initContainers/0/command", json!(["true"])),
            ("/initContainers/0/volumeMounts", Value::Null),
            ("/initContainers/1/command", json!(["true"])),
            ("/initContainers/1/args", json!(["--", "true"])),
            ("/initContainers/1/terminationMessagePath", json!("/tmp/why")),
            ("/initContainers/1/terminationMessagePolicy", json!("FallbackToLogsOnError")),
            ("/initContainers/1/volumeMounts", Value::Null),
            ("/initContainers/1", Value::Null),
            ("/readinessGates", Value::Null),
            ("/readinessGates/-", json!({"conditionType": CONDITION})),
            ("/volumes/0", json!({"name": pod::VOLUME, "hostPath": {"path": "/"}})),
            ("/volumes/1/downwardAPI/items", json!([])),
        ] {
            let damaged = with(&injected, &format!("{spec}{pointer}"), value);
            let outcome = create(&damaged);
            // In a wrapped container these fields are the user's again; without it there is nothing to wrap.
            if object == orders() || !pointer.starts_with("/initContainers/1") || pointer.ends_with("Mounts") {
                assert_eq!(outcome.decision, Decision::Injected, "{pointer}");
                assert_eq!(outcome.object, injected, "{pointer}");
            } else {
                assert_ne!(outcome.decision, Decision::Kept, "{pointer}");
            }
        }
    }
}
