//! The chart's defaults are the kustomization, and its values are checked.

use std::process::Command;

use serde_json::{Value, json};
use testcluster::tools::{self, Tool};

use crate::{NAMESPACE, Objects, chart, objects, root, usual};

/// What says only who installed an object, and Helm's hooks.
fn without_the_installer(mut all: Objects) -> Objects {
    all.retain(|_, object| object["metadata"]["annotations"]["helm.sh/hook"].is_null());
    for object in all.values_mut() {
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        for (part, keys) in [
            ("labels", &["app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"][..]),
            ("annotations", &["helm.sh/resource-policy"][..]),
        ] {
            let Some(entries) = metadata.get_mut(part).and_then(Value::as_object_mut) else { continue };
            entries.retain(|key, _| !keys.contains(&key.as_str()));
            if entries.is_empty() {
                metadata.remove(part);
            }
        }
    }
    all
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
    let charted = without_the_installer(usual());
    assert_eq!(charted.keys().collect::<Vec<_>>(), kustomized.keys().collect::<Vec<_>>());
    for (key, object) in &charted {
        assert_eq!(object, &kustomized[key], "{key:?}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_name() {
    let own = json!({ "certManager": { "enabled": false }, "existingSecret": "a", "caBundle": "-----BEGIN CERTIFICATE-----" });
    for (values, named) in [
        (json!({ "webhook": { "failurePolicy": "Maybe" } }), "failurePolicy"),
        (json!({ "webhook": { "replicas": 0 } }), "replicas"),
        (json!({ "image": { "digest": "latest" } }), "digest"),
        (json!({ "contoller": { "replicas": 3 } }), "contoller"),
        (json!({ "tls": { "certManager": { "enabled": false } } }), "tls.existingSecret"),
        (json!({ "controller": { "page": { "port": 80 } } }), "port"),
        (json!({ "webhook": { "agentDelivery": "volume" } }), "agentDelivery"),
        (json!({ "controller": { "page": { "enabled": true } }, "tls": own }), "controller.page.existingSecret"),
        (json!({ "log": { "format": "xml" } }), "format"),
        (json!({ "webhook": { "port": 443 } }), "webhook/port"),
        (json!({ "webhook": { "healthPort": 10250 } }), "webhook.healthPort"),
        // The kubelet has that port on every node.
        (json!({ "webhook": { "hostNetwork": true } }), "webhook.port"),
        (json!({ "controller": { "extraEnv": [{ "value": "nameless" }] } }), "extraEnv"),
        (json!({ "controller": { "extraArgs": "--one" } }), "extraArgs"),
        (json!({ "webhook": { "affinity": { "antiAffinity": {} } } }), "antiAffinity"),
        (json!({ "controller": { "serviceAccount": { "create": false } } }), "controller.serviceAccount.name"),
        (json!({ "webhook": { "serviceAccount": { "create": false } } }), "webhook.serviceAccount.name"),
        (json!({ "tls": { "certManager": { "issuerRef": { "kind": "ClusterIssuer" } } } }), "issuerRef"),
        (json!({ "networkPolicy": { "apiServerPorts": [] } }), "apiServerPorts"),
        (json!({ "prometheusRule": { "runbookUrl": "docs/operations.md" } }), "runbookUrl"),
    ] {
        let refusal = chart(&values).expect_err(&values.to_string());
        assert!(refusal.contains(named), "{values}: {refusal}");
    }
}

/// Every value, by its path, has a place in the schema, and the other way round.
#[test]
fn the_schema_knows_exactly_the_values_that_there_are() {
    let schema: Value = serde_json::from_str(include_str!("../../deploy/chart/values.schema.json")).expect("JSON");
    let values: Value = serde_saphyr::from_str(include_str!("../../deploy/chart/values.yaml")).expect("YAML");
    compare("", &values, &schema, &schema);
}

fn compare(path: &str, values: &Value, schema: &Value, root: &Value) {
    let resolved = match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or_else(|| panic!("{path}: no {pointer}")),
        None => schema,
    };
    let Some(properties) = resolved["properties"].as_object() else { return };
    let Some(values) = values.as_object() else { panic!("{path} is no object") };
    // What has only optional parts is empty by default: an issuer, an affinity.
    if values.is_empty() {
        return;
    }
    // Other charts have values of their own in `global`.
    assert!(path == "/global" || resolved["additionalProperties"] == false, "{path} takes anything");
    assert_eq!(values.keys().collect::<Vec<_>>(), properties.keys().collect::<Vec<_>>(), "{path}");
    for (key, schema) in properties {
        compare(&format!("{path}/{key}"), &values[key], schema, root);
    }
}
