//! The fingerprint is frozen, blind to defaults, blind to what doesn't count, and sees all that does.

use proptest::prelude::*;

use super::arbitrary::deployment;
use super::*;

fn fingerprint(object: &Value) -> String {
    let outcome = create(object);
    let fingerprint = outcome.template()["metadata"]["labels"][label::MIGRATION].as_str();
    fingerprint.unwrap_or_else(|| panic!("not injected: {}", outcome.response)).to_owned()
}

/// Each `NAME.yaml` holds Deployments that are all the same migration; `GOLDEN` says which. There is no switch that
/// writes that file: another fingerprint would migrate again everywhere.
#[test]
fn golden_vectors_never_change() {
    let golden = std::fs::read_to_string(data("fingerprints/GOLDEN")).expect("the golden vectors");
    let mut count = 0;
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let (name, expected) = line.split_once(' ').expect("NAME FINGERPRINT");
        let text = std::fs::read_to_string(data(&format!("fingerprints/{name}.yaml"))).expect(name);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect(name);
        for (index, object) in objects.iter().enumerate() {
            assert_eq!(fingerprint(object), expected, "{name}, document {}", index + 1);
        }
        count += objects.len();
    }
    assert!(count >= 12, "{count} documents");
}

fn everything() -> Value {
    let text = std::fs::read_to_string(data("patches/everything.yaml")).expect("a readable file");
    let mut object: Value = serde_saphyr::from_str(&text).expect("YAML");
    // So that all of the container counts.
    for key in [annotation::IMAGE, annotation::IDENTITY_ENV] {
        object["metadata"]["annotations"].as_object_mut().expect("a map").remove(key);
    }
    object
}

#[test]
fn each_listed_field_counts() {
    let base = fingerprint(&everything());
    let mut seen = vec![base];
    for (pointer, value) in [
        ("/metadata/annotations/migration-gate.dev~1image", json!("superset:5")),
        ("/metadata/annotations/migration-gate.dev~1command", json!("superset db upgrade 2")),
        ("/metadata/annotations/migration-gate.dev~1command", json!(r#"["superset", "", "db", "upgrade"]"#)),
        ("/metadata/annotations/migration-gate.dev~1env", json!(r#"[{"name": "DB_USER", "value": "x"}]"#)),
        ("/metadata/annotations/migration-gate.dev~1revision", json!("3")),
        ("/metadata/annotations/migration-gate.dev~1verify", json!("superset db check")),
        ("/metadata/annotations/migration-gate.dev~1container", json!("metrics")),
        ("/spec/template/spec/containers/1/image", json!("apache/superset:4.1.2")),
        ("/spec/template/spec/containers/1/workingDir", json!("/app2")),
        ("/spec/template/spec/containers/1/env/0/value", json!("superset2")),
        ("/spec/template/spec/containers/1/env/-", json!({"name": "NEW", "value": "1"})),
        ("/spec/template/spec/containers/1/env/3/valueFrom/fieldRef/fieldPath", json!("metadata.namespace")),
        ("/spec/template/spec/containers/1/envFrom/0/secretRef/name", json!("superset-env-2")),
        ("/spec/template/spec/containers/1/envFrom/-", json!({"prefix": "A_", "configMapRef": {"name": "x"}})),
        ("/spec/template/spec/containers/1/volumeMounts/0/mountPath", json!("/app/elsewhere")),
        ("/spec/template/spec/containers/1/volumeMounts/0/subPath", json!("worker")),
        ("/spec/template/spec/containers/1/volumeMounts/-", json!({"name": "disk", "mountPath": "/disk"})),
        ("/spec/template/spec/volumes/0/projected/sources/1/configMap/name", json!("superset-0a1b2c")),
        ("/spec/template/spec/volumes/0/projected/defaultMode", json!(256)),
        ("/spec/template/spec/volumes/1", json!({"name": "scratch", "hostPath": {"path": "/tmp"}})),
    ] {
        let mut changed = everything();
        set(&mut changed, pointer, value);
        let fingerprint = fingerprint(&changed);
        assert!(!seen.contains(&fingerprint), "{pointer}");
        seen.push(fingerprint);
    }
}

#[test]
fn nothing_else_counts() {
    let base = fingerprint(&everything());
    for (pointer, value) in [
        ("/metadata/name", json!("other")),
        ("/metadata/annotations/migration-gate.dev~1group", json!("other")),
        ("/metadata/annotations/migration-gate.dev~1timeout", json!("1h")),
        ("/metadata/annotations/migration-gate.dev~1wait-for", json!("tcp://x:1")),
        ("/metadata/annotations/migration-gate.dev~1lock-env", json!("DB_NAME")),
        ("/metadata/annotations/migration-gate.dev~1command", json!("superset  db 'upgrade' $(EXTRA)")),
        ("/spec/replicas", json!(9)),
        ("/spec/template/metadata/labels/x", json!("y")),
        ("/spec/template/spec/containers/0/image", json!("metrics:2")),
        ("/spec/template/spec/containers/1/resources", json!({})),
        ("/spec/template/spec/containers/1/securityContext", json!({})),
        ("/spec/template/spec/containers/1/imagePullPolicy", json!("Never")),
        ("/spec/template/spec/containers/1/command", json!(["gunicorn", "-w", "4"])),
        ("/spec/template/spec/containers/1/args", json!([])),
        ("/spec/template/spec/containers/1/ports", json!([])),
        ("/spec/template/spec/containers/1/livenessProbe", Value::Null),
        ("/spec/template/spec/containers/1/volumeDevices", json!([])),
        ("/spec/template/spec/initContainers/1/image", json!("assets:2")),
        ("/spec/template/spec/volumes/1/emptyDir/sizeLimit", json!("2Gi")),
        ("/spec/template/spec/volumes/2/persistentVolumeClaim/claimName", json!("disk-2")),
        ("/spec/template/spec/volumes/-", json!({"name": "more", "emptyDir": {}})),
        ("/spec/template/spec/serviceAccountName", json!("superset")),
    ] {
        let mut changed = everything();
        set(&mut changed, pointer, value);
        assert_eq!(fingerprint(&changed), base, "{pointer}");
    }
}

#[test]
fn identity_env_says_which_variables_count() {
    let with_names = |names: &str, pointer: &str, value: Value| {
        let mut object = everything();
        set(&mut object, "/metadata/annotations/migration-gate.dev~1identity-env", json!(names));
        set(&mut object, pointer, value);
        fingerprint(&object)
    };
    let value = "/spec/template/spec/containers/1/env/0/value";
    let env_from = "/spec/template/spec/containers/1/envFrom";
    assert_ne!(with_names("DB_NAME", value, json!("a")), with_names("DB_NAME", value, json!("b")));
    assert_eq!(with_names("DB_USER", value, json!("a")), with_names("DB_USER", value, json!("b")));
    assert_eq!(with_names("", value, json!("a")), with_names("", value, json!("b")));
    assert_eq!(with_names("DB_NAME", env_from, json!([])), with_names("DB_NAME", value, json!("superset")));
}

/// The object as the API server would hold it: fields that Go leaves out are gone, defaults are there.
/// Source: Kubernetes 1.36, pkg/apis/core/v1/defaults.go, and the `omitempty` tags of k8s.io/api/core/v1.
fn defaulted(object: &Value) -> Value {
    let mut object = object.clone();
    let template = &mut object["spec"]["template"];
    set(template, "/metadata/creationTimestamp", Value::Null);
    let spec = &mut template["spec"];
    spec["dnsPolicy"] = json!("ClusterFirst");
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let container = container.as_object_mut().expect("an object");
            let is_latest = container.get("image").is_none_or(|image| image == "orders");
            for (field, default) in [
                ("imagePullPolicy", json!(if is_latest { "Always" } else { "IfNotPresent" })),
                ("terminationMessagePath", json!("/dev/termination-log")),
                ("terminationMessagePolicy", json!("File")),
                ("resources", json!({})),
            ] {
                container.entry(field).or_insert(default);
            }
            container.retain(|field, value| {
                let is_list = ["args", "env", "envFrom", "volumeMounts"].contains(&field.as_str());
                let is_left_out =
                    value.is_null() || is_list && value == &json!([]) || field == "workingDir" && value == "";
                !is_left_out
            });
            for mount in container.get_mut("volumeMounts").and_then(Value::as_array_mut).into_iter().flatten() {
                drop_empty(mount, &["readOnly", "subPath", "subPathExpr"]);
            }
            for variable in container.get_mut("env").and_then(Value::as_array_mut).into_iter().flatten() {
                drop_empty(variable, &["value"]);
                if let Some(source) = variable.get_mut("valueFrom") {
                    default_references(source);
                }
                drop_empty(variable, &["valueFrom"]);
            }
            for source in container.get_mut("envFrom").and_then(Value::as_array_mut).into_iter().flatten() {
                drop_empty(source, &["prefix"]);
            }
        }
    }
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        let volume = volume.as_object_mut().expect("an object");
        if volume.len() == 1 {
            volume.insert("emptyDir".to_owned(), json!({}));
        }
        for (source, value) in volume.iter_mut().filter(|(_, value)| value.is_object()) {
            if ["configMap", "secret", "projected", "downwardAPI"].contains(&source.as_str()) {
                value.as_object_mut().expect("an object").entry("defaultMode").or_insert(json!(420));
                drop_empty(value, &["items", "sources"]);
            }
            if source == "hostPath" {
                value.as_object_mut().expect("an object").entry("type").or_insert(json!(""));
            }
            if ["persistentVolumeClaim", "nfs"].contains(&source.as_str()) {
                drop_empty(value, &["readOnly"]);
            }
            default_files(value);
            for projected in value.get_mut("sources").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(token) = projected.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
                    token.entry("expirationSeconds").or_insert(json!(3600));
                }
                if let Some(files) = projected.get_mut("downwardAPI") {
                    default_files(files);
                }
            }
            drop_empty(value, &["sources"]);
        }
    }
    object
}

fn default_files(source: &mut Value) {
    for item in source.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        default_references(item);
    }
}

fn default_references(holder: &mut Value) {
    for (reference, field, default) in [("fieldRef", "apiVersion", "v1"), ("resourceFieldRef", "divisor", "0")] {
        if let Some(reference) = holder.get_mut(reference).and_then(Value::as_object_mut) {
            reference.entry(field).or_insert(json!(default));
        }
    }
}

fn drop_empty(holder: &mut Value, fields: &[&str]) {
    let is_empty = |value: &Value| [Value::Null, json!(false), json!(""), json!([])].contains(value);
    if let Some(holder) = holder.as_object_mut() {
        holder.retain(|field, value| !(fields.contains(&field.as_str()) && is_empty(value)));
    }
}

proptest! {
    #[test]
    fn defaults_make_no_difference(object in deployment()) {
        prop_assert_eq!(fingerprint(&object), fingerprint(&defaulted(&object)));
    }

    /// Offline injection and the webhook's leave the same note, so a client-side difference is empty.
    #[test]
    fn what_was_injected_offline_is_kept_by_the_webhook(object in deployment()) {
        let offline = create(&object).object;
        let online = create(&defaulted(&offline));
        prop_assert_eq!(online.decision, Decision::Kept, "{}", online.patch);
    }

    #[test]
    fn the_rest_of_the_template_makes_no_difference(object in deployment(), other in deployment()) {
        let mut mixed = object.clone();
        let (mixed_template, template) = (&mut mixed["spec"]["template"], &object["spec"]["template"]);
        mixed_template["metadata"] = other["spec"]["template"]["metadata"].clone();
        mixed_template["spec"] = other["spec"]["template"]["spec"].clone();
        for field in ["containers", "initContainers", "volumes"] {
            mixed_template["spec"][field] = template["spec"][field].clone();
        }
        prop_assert_eq!(fingerprint(&object), fingerprint(&mixed));
    }
}
