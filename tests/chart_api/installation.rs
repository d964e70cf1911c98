//! What values make of the objects around the programs.

use serde_json::{Value, json};

use crate::{Key, NAMESPACE, Objects, chart, differing, namespaced, only, pod, usual};

fn own_certificate() -> Value {
    json!({ "certManager": { "enabled": false }, "existingSecret": "own", "caBundle": "-----BEGIN CERTIFICATE-----" })
}

/// Everything that can be had at once, with and without cert-manager.
fn everything() -> [Objects; 2] {
    let on = json!({ "enabled": true });
    let mut values = json!({
        "controller": { "otlpEndpoint": "http://collector:4318", "page": { "enabled": true } },
        "podMonitor": on, "prometheusRule": on, "dashboard": on,
    });
    let with = chart(&values).expect("everything");
    values["controller"]["page"]["existingSecret"] = json!("page");
    values["tls"] = own_certificate();
    [with, chart(&values).expect("everything but cert-manager")]
}

#[test]
fn every_object_says_of_which_release_and_part_it_is() {
    for object in everything().iter().flat_map(Objects::values) {
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/instance"], "migration-gate", "{object}");
        assert!(labels["app.kubernetes.io/component"].is_string(), "{object}");
        assert_eq!(labels["app.kubernetes.io/part-of"], "migration-gate", "{object}");
    }
    for program in ["webhook", "controller"] {
        let usual = usual();
        let labels = &crate::deployment(&usual, program)["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/instance"], "migration-gate");
        assert_eq!(labels["app.kubernetes.io/component"], program);
    }
}

#[test]
fn the_page_is_for_who_may_forward_a_port_and_off_by_default() {
    let usual = usual();
    let paged = chart(&json!({ "controller": { "page": { "enabled": true } } })).expect("the page");
    let (controller, page) =
        (namespaced("Deployment", "migration-gate-controller"), namespaced("Certificate", "migration-gate-page"));
    // Nothing else differs: no Service leads to it, and no network policy opens a way.
    assert_eq!(differing(&usual, &paged), [&page, &controller]);
    let spec = |objects| pod(objects, "controller").clone();
    let listens = |spec: &Value| spec.to_string().contains("MIGRATION_GATE_PAGE_LISTEN");
    assert!(!listens(&spec(&usual)) && listens(&spec(&paged)));
    assert!(spec(&paged).to_string().contains("127.0.0.1:8444"));
    assert_eq!(spec(&paged)["volumes"][0]["secret"]["optional"], true, "no controller waits for a page");
    assert_eq!(paged[&page]["spec"]["dnsNames"], json!(["localhost"]));
    let own = json!({ "controller": { "page": { "enabled": true, "existingSecret": "mine" } } });
    let own = chart(&own).expect("an own Secret");
    assert!(!own.contains_key(&page));
    assert_eq!(spec(&own)["volumes"][0]["secret"]["secretName"], "mine");
}

/// Roles and policies are for the account that the controller has, or it could do nothing, or too much.
#[test]
fn service_accounts_have_other_names_and_annotations() {
    let values = json!({
        "controller": { "serviceAccount": { "name": "gate-controller", "annotations": { "a": "b" } } },
        "webhook": { "serviceAccount": { "create": false, "name": "theirs" } },
    });
    let charted = chart(&values).expect("the options");
    assert_eq!(charted[&namespaced("ServiceAccount", "gate-controller")]["metadata"]["annotations"]["a"], "b");
    assert_eq!(only(&charted, "ServiceAccount")["metadata"]["name"], "gate-controller", "and none for the webhook");
    assert_eq!(pod(&charted, "controller")["serviceAccountName"], "gate-controller");
    assert_eq!(pod(&charted, "webhook")["serviceAccountName"], "theirs");
    let mut bindings = 0;
    for (_, object) in charted.iter().filter(|((kind, _, _), _)| kind.ends_with("RoleBinding")) {
        assert_eq!(object["subjects"][0]["name"], "gate-controller", "{object}");
        assert_eq!(object["subjects"][0]["namespace"], NAMESPACE, "{object}");
        bindings += 1;
    }
    assert_eq!(bindings, 3);
    let cluster_wide = |name: &str| ("ValidatingAdmissionPolicy".to_owned(), String::new(), name.to_owned());
    let policy = charted[&cluster_wide("controller.migration-gate.dev")].to_string();
    assert!(policy.contains("'system:serviceaccount:migration-gate-system:gate-controller'"), "{policy}");
    assert!(!charted.values().any(|object| object.to_string().contains(":migration-gate-controller'")));
}

#[test]
fn network_policies_name_the_ports_and_peers_that_are_given() {
    let block = |cidr: &str| json!([{ "ipBlock": { "cidr": cidr } }]);
    let charted = chart(&json!({ "networkPolicy": {
        "apiServerPorts": [16443], "apiServerPeers": block("10.0.0.1/32"), "webhookPeers": block("10.0.0.2/32"),
        "healthPeers": block("10.0.0.3/32"),
    } }));
    let (charted, usual) = (charted.expect("the options"), usual());
    let policy = |objects: &Objects, program: &str| {
        objects[&namespaced("NetworkPolicy", &format!("migration-gate-{program}"))]["spec"].clone()
    };
    let port = |port: Value| json!([{ "port": port, "protocol": "TCP" }]);
    let tests = json!({ "podSelector": { "matchLabels": { "app.kubernetes.io/name": "migration-gate-test" } } });
    let webhook = policy(&charted, "webhook");
    assert_eq!(
        webhook["ingress"],
        json!([
            { "ports": port(json!("https")), "from": [block("10.0.0.2/32")[0], tests] },
            { "ports": port(json!("health")), "from": block("10.0.0.3/32") },
        ])
    );
    assert_eq!(webhook["egress"], json!([]));
    let controller = policy(&charted, "controller");
    assert_eq!(controller["ingress"], json!([{ "ports": port(json!("health")), "from": block("10.0.0.3/32") }]));
    assert_eq!(controller["egress"], json!([{ "ports": port(json!(16443)), "to": block("10.0.0.1/32") }]));
    // The API server comes from outside of the pod network, so by default nobody is kept out.
    for rule in policy(&usual, "webhook")["ingress"].as_array().expect("rules") {
        assert!(rule["from"].is_null(), "{rule}");
    }
}

#[test]
fn somebody_elses_issuer_signs_and_our_authority_is_not_made() {
    let issuer = json!({ "name": "platform", "kind": "ClusterIssuer" });
    let page = json!({ "page": { "enabled": true } });
    let values = json!({ "controller": page, "tls": { "certManager": { "issuerRef": issuer } } });
    let charted = chart(&values).expect("the option");
    let kept = |key: &&Key| ["Issuer", "Certificate"].contains(&key.0.as_str());
    let (webhook, page) =
        (namespaced("Certificate", "migration-gate-webhook"), namespaced("Certificate", "migration-gate-page"));
    assert_eq!(charted.keys().filter(kept).collect::<Vec<_>>(), [&page, &webhook]);
    assert_eq!((&charted[&webhook]["spec"]["issuerRef"], &charted[&page]["spec"]["issuerRef"]), (&issuer, &issuer));
}

#[test]
fn what_the_prometheus_operator_and_grafana_load_is_what_the_files_say() {
    let charted = &everything()[0];
    let rules: Value = serde_saphyr::from_str(include_str!("../../deploy/monitoring/alerts.yaml")).expect("YAML");
    assert_eq!(only(charted, "PrometheusRule")["spec"], rules);
    let dashboard = only(charted, "ConfigMap")["data"]["migration-gate.json"].as_str().expect("a file");
    assert_eq!(dashboard, include_str!("../../deploy/monitoring/dashboard.json"));
    assert_eq!(only(charted, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"], "health");
}

#[test]
fn alerts_lead_to_the_runbook_and_prometheus_finds_them() {
    const RUNBOOK: &str = "https://git.example/gate/docs/operations.md";
    let labels = json!({ "release": "prometheus" });
    let charted = chart(&json!({
        "podMonitor": { "enabled": true, "labels": labels },
        "prometheusRule": { "enabled": true, "labels": labels, "runbookUrl": RUNBOOK },
    }));
    let charted = charted.expect("the options");
    for kind in ["PodMonitor", "PrometheusRule"] {
        assert_eq!(only(&charted, kind)["metadata"]["labels"]["release"], "prometheus");
    }
    let rules = only(&charted, "PrometheusRule")["spec"]["groups"][0]["rules"].as_array().expect("rules").clone();
    for rule in rules {
        // As a Markdown viewer makes anchors; tests/monitoring_api.rs sees that the section is there.
        let section = rule["alert"].as_str().expect("a name").to_lowercase();
        assert_eq!(rule["annotations"]["runbook_url"], format!("{RUNBOOK}#{section}"));
    }
}

#[test]
fn more_objects_are_installed_with_it() {
    let charted = chart(&json!({ "extraObjects": [
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "one" }, "data": { "a": "b" } },
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-two\n",
    ] }));
    let charted = charted.expect("the objects");
    let names: Vec<&str> =
        charted.keys().filter(|(kind, _, _)| kind == "ConfigMap").map(|(_, _, name)| name.as_str()).collect();
    assert_eq!(names, ["migration-gate-two", "one"]);
}
