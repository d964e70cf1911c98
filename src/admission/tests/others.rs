//! Other people's webhooks, before us and after us, and what else stands in a pod template.

use super::*;
use crate::contract::pod;

#[test]
fn other_webhooks_may_add_to_our_containers() {
    let mut injected = create(&orders()).object;
    for container in injected["spec"]["template"]["spec"]["initContainers"].as_array_mut().expect("a list") {
        container["securityContext"] = json!({"allowPrivilegeEscalation": false});
        container["env"] = json!([{"name": "PROXY", "value": "http://proxy"}]);
        container["imagePullPolicy"] = json!("IfNotPresent");
    }
    assert_eq!(create(&injected).decision, Decision::Kept);
}

#[test]
fn the_migration_comes_last_again_when_somebody_adds_behind_it() {
    let injected = create(&orders()).object;
    let sidecar = json!({"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"});
    let behind = with(&injected, "/spec/template/spec/initContainers/-", sidecar);
    let outcome = update(&injected, &behind);
    assert_eq!(outcome.decision, Decision::Injected);
    assert_eq!(init_containers(&outcome.object), [pod::INSTALL_CONTAINER, "proxy", pod::MIGRATE_CONTAINER]);
}

/// A webhook behind us adds to the target, and the API server calls us again (`reinvocationPolicy: IfNeeded`).
#[test]
fn what_a_later_webhook_adds_to_the_target_reaches_the_migration() {
    let first = create(&orders()).object;
    let secret = json!([{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]);
    let added = with(&first, "/spec/template/spec/containers/0/env", secret.clone());
    let again = create(&added);
    assert_eq!(again.decision, Decision::Injected);
    assert_eq!(again.template()["spec"]["initContainers"][1]["env"], secret);
    let at_once = create(&with(&orders(), "/spec/template/spec/containers/0/env", secret));
    assert_eq!(again.object, at_once.object, "as if it had been there before us");
    assert_eq!(create(&again.object).decision, Decision::Kept);
}

/// An injector before us brought an init container that fetches the secrets: the migration comes behind it.
#[test]
fn what_an_earlier_webhook_put_in_runs_before_the_migration() {
    let fetch = json!({"name": "vault-agent-init", "image": "vault:1", "restartPolicy": Value::Null});
    let sidecar = json!({"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"});
    let mut object = orders();
    object["spec"]["template"]["spec"]["initContainers"] = json!([fetch, sidecar]);
    let created = create(&object);
    let expected = [pod::INSTALL_CONTAINER, "vault-agent-init", "mesh", pod::MIGRATE_CONTAINER];
    assert_eq!(init_containers(&created.object), expected);
}

/// What belongs to the pod and not to a container holds for the migration anyway, and stays as it is.
#[test]
fn settings_of_the_pod_stay() {
    let mut object = orders();
    let spec = &mut object["spec"]["template"]["spec"];
    spec["hostNetwork"] = json!(true);
    spec["securityContext"] = json!({"runAsUser": 0, "runAsNonRoot": false, "fsGroup": 1000680000});
    spec["readinessGates"] = json!([{"conditionType": "target-health.example/a"}]);
    spec["containers"][0]["terminationMessagePath"] = json!("/tmp/why");
    let created = create(&object);
    let after = &created.template()["spec"];
    for field in ["hostNetwork", "securityContext", "containers"] {
        assert_eq!(after[field], object["spec"]["template"]["spec"][field], "{field}");
    }
    assert_eq!(after["readinessGates"][0]["conditionType"], "target-health.example/a");
    assert_eq!(after["initContainers"][1]["terminationMessagePath"], pod::TERMINATION_PATH);
}
