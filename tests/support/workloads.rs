//! Generated Deployments that a real API server accepts.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use migration_gate::contract::{annotation, label};

type Field = (&'static str, BoxedStrategy<Value>);

/// An object with any of these fields.
fn object(fields: Vec<Field>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(key, value)| prop::option::weighted(0.4, value).prop_map(move |v| v.map(|v| (key.to_owned(), v))))
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

fn one_of(values: Value) -> BoxedStrategy<Value> {
    prop::sample::select(values.as_array().expect("a list").clone()).boxed()
}

/// Some of these, in this order.
fn some_of(values: Value) -> BoxedStrategy<Value> {
    let values = values.as_array().expect("a list").clone();
    prop::sample::subsequence(values.clone(), 0..=values.len()).prop_map(Value::from).boxed()
}

/// Volumes of every kind that needs nothing to be there; each container mounts some of them.
fn volumes() -> Value {
    json!([
        {"name": "scratch", "emptyDir": {"sizeLimit": "1024Mi"}},
        {"name": "config", "configMap": {"name": "config-7f8h9k", "items": [{"key": "a", "path": "b"}]}},
        {"name": "secret", "secret": {"secretName": "secret", "optional": true, "defaultMode": 256}},
        {"name": "info", "downwardAPI": {"items": [
            {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
            {"path": "cpu", "resourceFieldRef": {"containerName": "web", "resource": "limits.cpu"}}]}},
        {"name": "all", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "config"}},
            {"downwardAPI": {"items": [{"path": "uid", "fieldRef": {"fieldPath": "metadata.uid"}}]}}]}},
        {"name": "claim", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}},
        {"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}},
    ])
}

fn mounts() -> BoxedStrategy<Value> {
    some_of(json!([
        {"name": "scratch", "mountPath": "/tmp"},
        {"name": "config", "mountPath": "/config", "readOnly": true},
        {"name": "config", "mountPath": "/etc/app.conf", "subPath": "b"},
        {"name": "secret", "mountPath": "/secret"},
        {"name": "info", "mountPath": "/info"},
        {"name": "all", "mountPath": "/var/run/all", "readOnly": true, "recursiveReadOnly": "IfPossible"},
        {"name": "claim", "mountPath": "/claim", "subPathExpr": "$(POD)"},
    ]))
}

fn env() -> BoxedStrategy<Value> {
    some_of(json!([
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "EMPTY", "value": ""},
        {"name": "DATABASE_URL", "value": "postgres://$(POD)/x?a=\"b\""},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password", "optional": true}}},
        {"name": "SETTING", "valueFrom": {"configMapKeyRef": {"name": "db", "key": "setting"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "containerName": "web"}}},
    ]))
}

fn resources() -> BoxedStrategy<Value> {
    one_of(json!([
        {"limits": {"cpu": "500m", "memory": "128Mi"}, "requests": {"cpu": "0.5", "memory": "128Mi"}},
        {"limits": {"cpu": "1", "memory": "1024Mi"}},
        {"requests": {"cpu": "10m"}},
        {"limits": {"cpu": "64", "memory": "1Ti"}},
    ]))
}

fn security_context() -> BoxedStrategy<Value> {
    let restricted = json!({
        "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let any = object(vec![
        ("runAsUser", one_of(json!([0, 1000, 1000680000]))),
        ("runAsGroup", one_of(json!([0, 1000]))),
        ("readOnlyRootFilesystem", one_of(json!([true, false]))),
        ("allowPrivilegeEscalation", one_of(json!([true, false]))),
        ("capabilities", one_of(json!([{"drop": ["ALL"]}, {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}]))),
        ("seccompProfile", one_of(json!([{"type": "RuntimeDefault"}, {"type": "Unconfined"}]))),
        ("procMount", one_of(json!(["Default"]))),
    ]);
    prop_oneof![2 => Just(restricted), 1 => any].boxed()
}

fn container(name: &'static str, mut more: Vec<Field>) -> BoxedStrategy<Value> {
    let probe = || one_of(json!([{"httpGet": {"path": "/", "port": 80}}, {"exec": {"command": ["true"]}}]));
    more.extend([
        ("imagePullPolicy", one_of(json!(["Always", "IfNotPresent", "Never"]))),
        ("args", one_of(json!([[], ["serve"], ["--a=b", "$(POD)", "$$(POD)", ""]]))),
        ("workingDir", one_of(json!(["/srv", ""]))),
        ("env", env()),
        ("envFrom", some_of(json!([{"configMapRef": {"name": "a"}}, {"prefix": "X_", "secretRef": {"name": "b"}}]))),
        ("volumeMounts", mounts()),
        ("resources", resources()),
        ("terminationMessagePath", one_of(json!(["/dev/termination-log", "/tmp/why"]))),
        ("terminationMessagePolicy", one_of(json!(["File", "FallbackToLogsOnError"]))),
        ("stdin", one_of(json!([true, false]))),
    ]);
    if name == "web" {
        more.extend([
            ("ports", one_of(json!([[{"containerPort": 80, "name": "http"}]]))),
            ("livenessProbe", probe()),
            ("readinessProbe", probe()),
            ("startupProbe", probe()),
            ("lifecycle", one_of(json!([{"preStop": {"sleep": {"seconds": 1}}}]))),
            ("resizePolicy", one_of(json!([[{"resourceName": "cpu", "restartPolicy": "NotRequired"}]]))),
        ]);
    }
    let image = one_of(json!([
        "orders:1",
        "orders",
        "registry.example:5000/a/orders:2",
        "orders@sha256:0d1f2c4be6ed5d4d4ec4b0f2d8a8a35c8b1ad5b5dd0f6b0c9c0a0f6f6f1f6c11"
    ]));
    (object(more), image, security_context())
        .prop_map(move |(mut container, image, security_context)| {
            container["name"] = json!(name);
            container["image"] = image;
            container["securityContext"] = security_context;
            container
        })
        .boxed()
}

fn spec() -> BoxedStrategy<Value> {
    object(vec![
        ("readinessGates", one_of(json!([[], [{"conditionType": "target-health.example/a"}]]))),
        ("securityContext", one_of(json!([{}, {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000}]))),
        ("os", one_of(json!([{"name": "linux"}]))),
        ("hostNetwork", one_of(json!([false]))),
        ("shareProcessNamespace", one_of(json!([true, false]))),
        ("nodeSelector", one_of(json!([{"kubernetes.io/os": "linux"}, {}]))),
        ("tolerations", one_of(json!([[{"operator": "Exists"}]]))),
        ("serviceAccountName", one_of(json!(["default"]))),
        ("automountServiceAccountToken", one_of(json!([true, false]))),
        ("terminationGracePeriodSeconds", one_of(json!([2, 30, 600]))),
        ("priorityClassName", one_of(json!([""]))),
        ("enableServiceLinks", one_of(json!([true, false]))),
        ("hostAliases", one_of(json!([[{"ip": "10.0.0.1", "hostnames": ["a"]}]]))),
        ("imagePullSecrets", one_of(json!([[{"name": "registry"}]]))),
        ("schedulingGates", one_of(json!([[{"name": "example.com/gate"}]]))),
        (
            "topologySpreadConstraints",
            one_of(json!([[{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "orders"}}}]])),
        ),
    ])
}

/// A Deployment that asks for a gate in one of many ways.
pub fn deployment() -> impl Strategy<Value = Value> {
    let sidecar = (container("mesh", vec![]), Just(json!("Always")));
    let sidecar = sidecar.prop_map(|(mut container, policy)| {
        container["restartPolicy"] = policy;
        container
    });
    let command = one_of(json!([["alembic", "upgrade"], []]));
    let migrate = (container("migrate", vec![]), command).prop_map(|(mut container, command)| {
        container["command"] = command;
        container
    });
    let init_containers = (
        prop::option::of(sidecar),
        prop::option::of(migrate),
        prop::option::weighted(0.2, container("assets", vec![("command", one_of(json!([["cp"]])))])),
    );
    let annotations = object(vec![
        (annotation::IMAGE, one_of(json!(["migrations:1", "migrations"]))),
        (annotation::ENV, one_of(json!([r#"[{"name": "PASSWORD", "value": "x"}, {"name": "NEW", "value": ""}]"#]))),
        (annotation::REVISION, one_of(json!(["2", "a b"]))),
        (annotation::IDENTITY_ENV, one_of(json!(["POD,PASSWORD", ""]))),
        (annotation::GROUP, one_of(json!(["orders-db"]))),
        (annotation::TIMEOUT, one_of(json!(["30m"]))),
    ]);
    let common = object(vec![
        (annotation::WAIT_FOR, one_of(json!(["tcp://db:5432", "tcp://$(POD):1,http://a/"]))),
        (annotation::VERIFY, one_of(json!(["alembic check", r#"["a", "b c", ""]"#]))),
    ]);
    let containers = (container("web", vec![]), prop::option::weighted(0.3, container("worker", vec![])));
    let template_annotations = prop::option::of(one_of(json!([{}, {"kubectl.kubernetes.io/restartedAt": "2026"}])));
    (spec(), containers, init_containers, annotations, common, template_annotations, any::<bool>()).prop_map(
        |(mut spec, (web, worker), (mesh, migrate, assets), copying, mut annotations, on_template, wraps)| {
            let wraps = wraps && migrate.is_some();
            let leaves_program = migrate.as_ref().is_some_and(|migrate| migrate["command"] == json!([]));
            let init_containers: Vec<Value> = [mesh, migrate, assets].into_iter().flatten().collect();
            if !init_containers.is_empty() {
                spec["initContainers"] = json!(init_containers);
            }
            spec["containers"] = [Some(web), worker].into_iter().flatten().collect();
            spec["volumes"] = volumes();
            if wraps {
                annotations[annotation::CONTAINER] = json!("migrate");
                if leaves_program {
                    annotations[annotation::ENTRYPOINT] = json!("/tini -- '$(POD)'");
                }
            } else {
                annotations[annotation::COMMAND] = json!("alembic upgrade head");
                for (key, value) in copying.as_object().into_iter().flatten() {
                    annotations[key] = value.clone();
                }
            }
            let mut metadata = json!({"labels": {"app": "orders"}});
            if let Some(annotations) = on_template {
                metadata["annotations"] = annotations;
            }
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "orders", "labels": {label::GATED: label::GATED_TRUE}, "annotations": annotations},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": "orders"}},
                    "template": {"metadata": metadata, "spec": spec},
                },
            })
        },
    )
}
