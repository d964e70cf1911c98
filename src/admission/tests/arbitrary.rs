//! Arbitrary Deployments: any field of the pod template may be there, with values of the right type.
//!
//! Half of them are as a user may have written them, in a file; names are few, so that they collide and refer to each
//! other often. What the laws need is that nothing is special to this program, so the values need not make sense.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// An optional field.
pub(super) type Field = (&'static str, BoxedStrategy<Value>);

/// An object with any of these fields.
pub(super) fn object(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(key, value)| {
            prop::option::weighted(0.35, value).prop_map(move |value| value.map(|v| (key.to_owned(), v)))
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

/// An object with a name of these, and any of the fields.
fn named(names: &'static [&'static str], fields: Vec<Field>) -> BoxedStrategy<Value> {
    (prop::sample::select(names), object(fields))
        .prop_map(|(name, mut value)| {
            value["name"] = json!(name);
            value
        })
        .boxed()
}

/// A list without two entries of one name, or none, or null.
fn list(entry: BoxedStrategy<Value>, key: &'static str) -> BoxedStrategy<Value> {
    let list = prop::collection::vec(entry, 0..4).prop_map(move |mut list: Vec<Value>| {
        let mut seen = Vec::new();
        list.retain(|entry| {
            let is_new = !seen.contains(&entry[key]);
            seen.push(entry[key].clone());
            is_new
        });
        Value::Array(list)
    });
    prop_oneof![8 => list, 1 => Just(Value::Null)].boxed()
}

fn one_of(values: &[Value]) -> BoxedStrategy<Value> {
    prop::sample::select(values.to_vec()).boxed()
}

fn text() -> BoxedStrategy<Value> {
    "[a-z$(){}=\"\\\\ é]{0,8}".prop_map(Value::from).boxed()
}

fn number() -> BoxedStrategy<Value> {
    prop_oneof![0i64..5, Just(420), any::<i32>().prop_map(i64::from)].prop_map(Value::from).boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(Value::from).boxed()
}

fn words() -> BoxedStrategy<Value> {
    prop::collection::vec(text(), 0..3).prop_map(Value::from).boxed()
}

fn map() -> BoxedStrategy<Value> {
    let map = prop::collection::btree_map("[ab./]{1,4}", text(), 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()));
    prop_oneof![8 => map, 1 => Just(Value::Null)].boxed()
}

/// Something that this program has never heard of.
fn unheard_of() -> BoxedStrategy<Value> {
    prop_oneof![
        text(),
        number(),
        flag(),
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!({"name": "a", "nested": [{"list": [1, 2.5, null]}]})),
        Just(json!(18_446_744_073_709_551_615u64)),
    ]
    .boxed()
}

pub(super) const VARIABLES: &[&str] = &["A", "B", "DB", "LOG_LEVEL"];
const VOLUMES: &[&str] = &["config", "data", "scratch"];
const CONTAINERS: &[&str] = &["web", "worker", "cloud-sql-proxy"];
const INIT_CONTAINERS: &[&str] = &["migrate", "assets", "mesh"];

fn key_ref() -> BoxedStrategy<Value> {
    object(vec![("name", text()), ("key", text()), ("optional", flag())])
}

fn field_ref() -> BoxedStrategy<Value> {
    object(vec![("fieldPath", text()), ("apiVersion", one_of(&[json!("v1")]))])
}

fn resource_field_ref() -> BoxedStrategy<Value> {
    object(vec![("resource", text()), ("containerName", text()), ("divisor", one_of(&[json!("0"), json!("1Mi")]))])
}

pub(super) fn variable() -> BoxedStrategy<Value> {
    let source = object(vec![
        ("fieldRef", field_ref()),
        ("resourceFieldRef", resource_field_ref()),
        ("secretKeyRef", key_ref()),
        ("configMapKeyRef", key_ref()),
    ]);
    named(VARIABLES, vec![("value", text()), ("valueFrom", source)])
}

fn mount() -> BoxedStrategy<Value> {
    let paths = one_of(&[json!("/a"), json!("/a/b"), json!("/etc/config"), json!("/migration")]);
    (
        named(
            VOLUMES,
            vec![
                ("readOnly", flag()),
                ("subPath", text()),
                ("subPathExpr", text()),
                ("mountPropagation", one_of(&[json!("None"), json!("HostToContainer")])),
                ("recursiveReadOnly", one_of(&[json!("Disabled")])),
            ],
        ),
        paths,
    )
        .prop_map(|(mut mount, path)| {
            mount["mountPath"] = path;
            mount
        })
        .boxed()
}

pub(super) fn volume() -> BoxedStrategy<Value> {
    let items = list(object(vec![("key", text()), ("path", text()), ("mode", number())]), "path");
    let keys = || vec![("name", text()), ("items", items.clone()), ("optional", flag())];
    let mode = ("defaultMode", number());
    let with_mode = |mut fields: Vec<Field>| {
        fields.push(mode.clone());
        object(fields)
    };
    let files = list(
        object(vec![("path", text()), ("fieldRef", field_ref()), ("resourceFieldRef", resource_field_ref())]),
        "path",
    );
    let token = object(vec![
        ("path", text()),
        ("audience", text()),
        ("expirationSeconds", one_of(&[json!(3600), json!(7200)])),
    ]);
    let sources = object(vec![
        ("secret", object(keys())),
        ("configMap", object(keys())),
        ("downwardAPI", object(vec![("items", files.clone())])),
        ("serviceAccountToken", token),
    ]);
    let sources = prop::collection::vec(sources, 0..3).prop_map(Value::from).boxed();
    let claim =
        object(vec![("metadata", object(vec![("labels", map())])), ("spec", object(vec![("volumeMode", text())]))]);
    named(
        VOLUMES,
        vec![
            ("emptyDir", object(vec![("medium", text()), ("sizeLimit", text())])),
            ("configMap", with_mode(keys())),
            ("secret", with_mode(vec![("secretName", text()), ("items", items.clone()), ("optional", flag())])),
            ("projected", with_mode(vec![("sources", sources)])),
            ("downwardAPI", with_mode(vec![("items", files)])),
            ("hostPath", object(vec![("path", text()), ("type", text())])),
            ("persistentVolumeClaim", object(vec![("claimName", text()), ("readOnly", flag())])),
            ("ephemeral", object(vec![("volumeClaimTemplate", claim)])),
            ("csi", object(vec![("driver", text()), ("volumeAttributes", map())])),
            ("image", object(vec![("reference", text()), ("pullPolicy", text())])),
            ("nfs", object(vec![("server", text()), ("path", text()), ("readOnly", flag())])),
            ("unheardOf", unheard_of()),
        ],
    )
}

fn security_context() -> BoxedStrategy<Value> {
    object(vec![
        ("runAsUser", number()),
        ("runAsNonRoot", flag()),
        ("readOnlyRootFilesystem", flag()),
        ("capabilities", object(vec![("drop", words()), ("add", words())])),
        ("seccompProfile", object(vec![("type", text())])),
    ])
}

fn container(names: &'static [&'static str], mut more: Vec<Field>) -> BoxedStrategy<Value> {
    let quantities = || object(vec![("cpu", text()), ("memory", text())]);
    let probe = || object(vec![("httpGet", object(vec![("path", text()), ("port", number())]))]);
    let source = object(vec![("prefix", text()), ("secretRef", key_ref()), ("configMapRef", key_ref())]);
    more.extend([
        ("image", one_of(&["orders:1", "orders:2", "orders", "localhost:5000/orders@sha256:00"].map(Value::from))),
        ("imagePullPolicy", one_of(&["Always", "IfNotPresent"].map(Value::from))),
        ("args", words()),
        ("workingDir", text()),
        ("env", list(variable(), "name")),
        ("envFrom", prop::collection::vec(source, 0..3).prop_map(Value::from).boxed()),
        ("volumeMounts", list(mount(), "mountPath")),
        ("volumeDevices", list(object(vec![("name", text()), ("devicePath", text())]), "devicePath")),
        ("ports", list(object(vec![("containerPort", number()), ("name", text())]), "containerPort")),
        ("resources", object(vec![("limits", quantities()), ("requests", quantities()), ("claims", words())])),
        ("resizePolicy", words()),
        ("livenessProbe", probe()),
        ("readinessProbe", probe()),
        ("lifecycle", object(vec![("preStop", probe())])),
        ("securityContext", security_context()),
        ("terminationMessagePath", one_of(&["/dev/termination-log", "/tmp/why"].map(Value::from))),
        ("terminationMessagePolicy", one_of(&["File", "FallbackToLogsOnError"].map(Value::from))),
        ("stdin", flag()),
        ("tty", flag()),
        ("unheardOf", unheard_of()),
    ]);
    named(names, more)
}

/// A pod template with at least one container.
fn pod_template() -> BoxedStrategy<Value> {
    let containers = prop::collection::btree_map(
        prop::sample::select(CONTAINERS),
        container(CONTAINERS, vec![("command", words())]),
        1..3,
    );
    let containers = containers.prop_map(|containers| {
        Value::Array(
            containers
                .into_iter()
                .map(|(name, mut container)| {
                    container["name"] = json!(name);
                    container
                })
                .collect(),
        )
    });
    let init_containers = container(
        INIT_CONTAINERS,
        vec![
            ("command", prop_oneof![1 => words(), 4 => Just(json!(["alembic", "upgrade"]))].boxed()),
            ("restartPolicy", one_of(&[json!("Always")])),
        ],
    );
    let gate = object(vec![("conditionType", one_of(&["a.example/b", "c.example/d"].map(Value::from)))]);
    let metadata = object(vec![
        ("labels", map()),
        ("annotations", map()),
        ("creationTimestamp", Just(Value::Null).boxed()),
        ("finalizers", words()),
        ("unheardOf", unheard_of()),
    ]);
    let spec = object(vec![
        ("initContainers", list(init_containers, "name")),
        ("volumes", list(volume(), "name")),
        ("readinessGates", list(gate, "conditionType")),
        ("securityContext", security_context()),
        ("affinity", unheard_of()),
        ("tolerations", words()),
        ("nodeSelector", map()),
        ("os", object(vec![("name", one_of(&[json!("linux")]))])),
        ("hostNetwork", flag()),
        ("hostAliases", unheard_of()),
        ("imagePullSecrets", list(object(vec![("name", text())]), "name")),
        ("serviceAccountName", text()),
        ("schedulingGates", list(object(vec![("name", text())]), "name")),
        ("shareProcessNamespace", flag()),
        ("topologySpreadConstraints", unheard_of()),
        ("resourceClaims", list(object(vec![("name", text())]), "name")),
        ("terminationGracePeriodSeconds", number()),
        ("restartPolicy", one_of(&[json!("Always")])),
        ("unheardOf", unheard_of()),
    ]);
    (metadata, spec, containers)
        .prop_map(|(metadata, mut spec, containers)| {
            spec["containers"] = containers;
            json!({ "metadata": metadata, "spec": spec })
        })
        .boxed()
}

/// Annotations that ask for a copy of a container.
fn copying() -> BoxedStrategy<Value> {
    object(vec![
        (annotation::IMAGE, one_of(&[json!("migrations:1"), json!("migrations")])),
        (annotation::ENV, one_of(&[json!(r#"[{"name":"DB","value":"x"}]"#), json!("[]")])),
        (annotation::REVISION, text()),
        (annotation::IDENTITY_ENV, one_of(&[json!("A"), json!("A,DB"), json!("")])),
        (annotation::GROUP, one_of(&[json!("orders-db")])),
        (annotation::TIMEOUT, one_of(&[json!("30m")])),
        (annotation::WAIT_FOR, one_of(&[json!("tcp://db:5432"), json!("tcp://a:1,http://b/")])),
        (annotation::VERIFY, one_of(&[json!("alembic check"), json!(r#"["a", "b c"]"#)])),
        (annotation::LOCK_ENV, one_of(&[json!("DB")])),
        ("example.com/team", text()),
    ])
    .prop_map(|mut annotations| {
        if annotations.get(annotation::LOCK_ENV).is_some() {
            annotations[annotation::ENV] = json!(r#"[{"name":"DB","value":"x"}]"#);
        }
        annotations[annotation::COMMAND] = json!("alembic upgrade head");
        annotations
    })
    .boxed()
}

/// Annotations that ask to wrap an init container.
fn wrapping() -> BoxedStrategy<Value> {
    object(vec![(annotation::REVISION, text()), (annotation::WAIT_FOR, one_of(&[json!("tcp://db:5432")]))])
        .prop_map(|mut annotations| {
            annotations[annotation::CONTAINER] = json!("migrate");
            annotations
        })
        .boxed()
}

/// A gated Deployment that the webhook injects into.
pub(super) fn deployment() -> impl Strategy<Value = Value> {
    (pod_template(), copying(), wrapping()).prop_map(|(template, copying, wrapping)| {
        let init_containers = template["spec"]["initContainers"].as_array();
        let migrate = init_containers.into_iter().flatten().find(|container| container["name"] == "migrate");
        let can_wrap = migrate.is_some_and(|container| container["restartPolicy"].is_null());
        let has_command = |container: &Value| container["command"].as_array().is_some_and(|words| !words.is_empty());
        let mut wrapping = wrapping;
        if migrate.is_some_and(|container| !has_command(container)) {
            wrapping[annotation::ENTRYPOINT] = json!("/tini -- '$(SHELL)'");
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "orders",
                "labels": { label::GATED: label::GATED_TRUE },
                "annotations": if can_wrap { wrapping } else { copying },
            },
            "spec": { "template": template },
        })
    })
}
