//! What values make of the two programs' pods.

use serde_json::{Value, json};

use crate::{chart, deployment, namespaced, only, pod, usual};

const PROGRAMS: [&str; 2] = ["webhook", "controller"];

fn container(pod: &Value) -> &Value {
    &pod["containers"][0]
}

/// The values of an environment variable of a container, each time that it is there.
fn variable<'a>(pod: &'a Value, name: &str) -> Vec<&'a str> {
    let all = container(pod)["env"].as_array().expect("a list");
    all.iter().filter(|one| one["name"] == name).map(|one| one["value"].as_str().expect("a value")).collect()
}

#[test]
fn how_the_agent_gets_into_pods_is_an_option_of_the_webhook() {
    let charted = chart(&json!({ "webhook": { "agentDelivery": "image-volume" } })).expect("the option");
    assert_eq!(variable(pod(&charted, "webhook"), "MIGRATION_GATE_AGENT_DELIVERY"), ["image-volume"]);
}

#[test]
fn the_log_is_as_asked_for() {
    let charted = chart(&json!({ "log": { "level": "warn,kube=debug", "format": "text" } })).expect("the option");
    for program in PROGRAMS {
        assert_eq!(variable(pod(&charted, program), "MIGRATION_GATE_LOG_LEVEL"), ["warn,kube=debug"]);
        assert_eq!(variable(pod(&charted, program), "MIGRATION_GATE_LOG_FORMAT"), ["text"]);
    }
}

/// A server-side apply refuses a variable that is there twice.
#[test]
fn more_arguments_and_variables_come_beside_and_instead_of_the_charts() {
    let own = json!({
        "extraArgs": ["--log-level=debug"],
        "extraEnv": [{ "name": "GLIBC_TUNABLES", "value": "own" }, { "name": "HTTPS_PROXY", "value": "http://proxy:3128" }],
    });
    let charted = chart(&json!({ "webhook": own, "controller": own })).expect("the options");
    for program in PROGRAMS {
        let pod = pod(&charted, program);
        assert_eq!(container(pod)["args"], json!([program, "--log-level=debug"]));
        assert_eq!(variable(pod, "GLIBC_TUNABLES"), ["own"]);
        assert_eq!(variable(pod, "HTTPS_PROXY"), ["http://proxy:3128"]);
    }
    assert_eq!(variable(pod(&charted, "webhook"), "MIGRATION_GATE_DRAIN_SECONDS").len(), 1);
}

#[test]
fn replicas_go_where_they_are_wanted() {
    let zones = json!([{ "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" }]);
    let node = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [] } });
    let charted = chart(&json!({
        "priorityClassName": "important",
        "webhook": { "affinity": { "nodeAffinity": node }, "topologySpreadConstraints": zones },
        "controller": { "affinity": { "podAntiAffinity": { "mine": true } } },
    }));
    let (charted, usual) = (charted.expect("the options"), usual());
    let (webhook, controller) = (pod(&charted, "webhook"), pod(&charted, "controller"));
    assert_eq!(webhook["affinity"]["nodeAffinity"], node);
    // Who says nothing of pods keeps what the chart says of them.
    assert_eq!(webhook["affinity"]["podAntiAffinity"], pod(&usual, "webhook")["affinity"]["podAntiAffinity"]);
    assert_eq!(controller["affinity"], json!({ "podAntiAffinity": { "mine": true } }));
    assert_eq!(webhook["topologySpreadConstraints"], zones);
    assert_eq!(controller["topologySpreadConstraints"], pod(&usual, "controller")["topologySpreadConstraints"]);
    assert_eq!(
        (&webhook["priorityClassName"], &controller["priorityClassName"]),
        (&json!("important"), &json!("important"))
    );
    // GKE refuses system-cluster-critical outside of kube-system.
    assert!(PROGRAMS.iter().all(|program| pod(&usual, program)["priorityClassName"].is_null()));
}

/// OpenShift's restricted-v2 refuses IDs that are not of the namespace's range, and gives its own where there are none.
#[test]
fn a_cluster_may_choose_the_ids() {
    let none = json!({ "runAsUser": null, "runAsGroup": null, "fsGroup": null });
    let values = json!({ "podSecurityContext": none, "containerSecurityContext": { "readOnlyRootFilesystem": null } });
    let charted = chart(&values).expect("the options");
    let expected = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    let of_container = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let tests = &charted[&namespaced("Pod", "migration-gate-test")]["spec"];
    for pod in [pod(&charted, "webhook"), pod(&charted, "controller"), tests] {
        assert_eq!(pod["securityContext"], expected);
        assert_eq!(container(pod)["securityContext"], of_container);
    }
}

#[test]
fn the_webhook_listens_where_it_is_told_to() {
    let usual = usual();
    // Firewalls of private clusters let API servers reach it.
    assert_eq!(variable(pod(&usual, "webhook"), "MIGRATION_GATE_LISTEN"), [":10250"]);
    let values = json!({ "webhook": { "port": 10260, "healthPort": 10261, "hostNetwork": true } });
    let charted = chart(&values).expect("the options");
    let webhook = pod(&charted, "webhook");
    assert_eq!(webhook["hostNetwork"], true);
    assert_eq!(variable(webhook, "MIGRATION_GATE_LISTEN"), [":10260"]);
    assert_eq!(variable(webhook, "MIGRATION_GATE_HEALTH_LISTEN"), [":10261"]);
    assert_eq!(
        container(webhook)["ports"],
        json!([{ "name": "https", "containerPort": 10260 }, { "name": "health", "containerPort": 10261 }])
    );
    // On as many nodes as there are replicas, a new one has a place only when an old one has gone.
    let strategy = |objects| deployment(objects, "webhook")["spec"]["strategy"]["rollingUpdate"].clone();
    assert_eq!(strategy(&charted), json!({ "maxSurge": 0, "maxUnavailable": 1 }));
    assert_eq!(strategy(&usual), json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    assert!(pod(&charted, "controller")["hostNetwork"].is_null());
}

#[test]
fn images_come_from_the_registry_that_is_named() {
    let usual = "localhost/migration-gate:0.1.0";
    for (values, ours, tests) in [
        (json!({}), usual, "docker.io/curlimages/curl:8.11.1"),
        (
            json!({ "image": { "repository": "registry.example/team/gate" } }),
            "registry.example/team/gate:0.1.0",
            "docker.io/curlimages/curl:8.11.1",
        ),
        (
            json!({ "image": { "registry": "registry.example:5000" }, "test": { "image": { "tag": "1" } } }),
            "registry.example:5000/migration-gate:0.1.0",
            "docker.io/curlimages/curl:1",
        ),
        (
            json!({ "image": { "registry": "registry.example", "repository": "team/gate", "tag": "2" } }),
            "registry.example/team/gate:2",
            "docker.io/curlimages/curl:8.11.1",
        ),
        (
            json!({ "global": { "imageRegistry": "mirror.example" }, "image": { "registry": "registry.example" } }),
            "mirror.example/migration-gate:0.1.0",
            "mirror.example/curlimages/curl:8.11.1",
        ),
    ] {
        let charted = chart(&values).expect("the options");
        for program in PROGRAMS {
            assert_eq!(container(pod(&charted, program))["image"], ours, "{values}");
        }
        // What gated pods are given.
        assert_eq!(variable(pod(&charted, "webhook"), "MIGRATION_GATE_AGENT_IMAGE"), [ours], "{values}");
        assert_eq!(container(&only(&charted, "Pod")["spec"])["image"], tests, "{values}");
    }
}
