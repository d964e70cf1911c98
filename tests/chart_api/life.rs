//! A release's life on a real API server, with real Helm: installed, upgraded, rolled back, uninstalled.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testcluster::{Cluster, Options, Profile, certmanager};

use crate::support::client::{MERGE, Somebody};
use crate::support::eventually;
use crate::support::files::Authority;
use crate::{NAMESPACE, chart, deployment, helm, only, usual};

const REGISTERED: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/migration-gate";

#[tokio::test(flavor = "multi_thread")]
async fn it_is_installed_upgraded_rolled_back_and_uninstalled() {
    let cluster = Cluster::boot(Options::new("t-chart", Profile::Api)).expect("an API server");
    certmanager::install(&cluster).expect("cert-manager");
    let administrator = Somebody::administrator(&cluster.kubeconfig()).await;
    let home = cluster.folder("helm").expect("a folder");
    let kubeconfig = cluster.kubeconfig();
    let helm = |arguments: &[&str]| {
        let common = ["--kubeconfig", kubeconfig.to_str().expect("a path"), "--namespace", NAMESPACE];
        helm(&home, &[arguments, &common].concat()).expect("helm")
    };
    let replicas = async || {
        let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/migration-gate-controller");
        administrator.get(&path).await.expect("it exists")["spec"]["replicas"].clone()
    };
    let notes = helm(&["install", "gate", "deploy/chart", "--create-namespace"]);
    assert!(notes.contains("migration-gate.dev/inject=enabled"), "{notes}");
    assert_eq!(replicas().await, 2);
    helm(&["upgrade", "gate", "deploy/chart", "--set", "controller.replicas=3"]);
    assert_eq!(replicas().await, 3);
    // Turned on as docs/page.md has it; who signs for the webhook signs for the page, and the rest stays as it was.
    helm(&["upgrade", "gate", "deploy/chart", "--reset-then-reuse-values", "--set", "controller.page.enabled=true"]);
    assert_eq!(replicas().await, 3);
    let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/migration-gate-page-tls");
    let secret = eventually("the page's certificate", async || administrator.get(&secret).await.ok()).await;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    helm(&["rollback", "gate", "1"]);
    assert_eq!(replicas().await, 2);

    pods_are_accepted(&administrator).await;
    helm(&["uninstall", "gate", "--wait"]);

    // Somebody else's authority signs, and the API server is told of it.
    let platform = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": { "name": "platform" },
        "spec": { "ca": { "secretName": "platform" } },
    });
    let authority = Authority::new();
    let (certificate, key) = (STANDARD.encode(&authority.certificate), STANDARD.encode(authority.key()));
    let pair = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": { "name": "platform" },
        "data": { "tls.crt": certificate, "tls.key": key },
    });
    administrator.must_create("/api/v1/namespaces/cert-manager/secrets", &pair).await;
    administrator.must_create("/apis/cert-manager.io/v1/clusterissuers", &platform).await;
    helm(&[
        "install",
        "gate",
        "deploy/chart",
        "--set",
        "tls.certManager.issuerRef.name=platform,tls.certManager.issuerRef.kind=ClusterIssuer",
    ]);
    eventually("the authority in the registration", async || {
        let registered = administrator.get(REGISTERED).await.ok()?;
        (registered["webhooks"][0]["clientConfig"]["caBundle"] == certificate.as_str()).then_some(())
    })
    .await;
    helm(&["uninstall", "gate", "--wait"]);

    // Every option, taken by the same API server. It is installed anew: on an upgrade cert-manager would go on to own
    // the bundle in the registration.
    let values = cluster.folder("values").expect("a folder").join("values.yaml");
    let peers = json!([{ "ipBlock": { "cidr": "10.0.0.0/8" } }]);
    let every = json!({
        "image": { "repository": "registry.example/gate", "digest": format!("sha256:{}", "0".repeat(64)), "pullPolicy": "Always" },
        "imagePullSecrets": [{ "name": "registry" }],
        "commonLabels": { "team": "platform" },
        "controller": { "trustNodeDeletion": false, "otlpEndpoint": "http://collector.observability:4318", "serviceAccount": { "name": "steward", "annotations": { "a": "b" } }, "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "preference": { "matchExpressions": [{ "key": "pool", "operator": "Exists" }] } }] } }, "nodeSelector": { "pool": "system" }, "tolerations": [{ "operator": "Exists" }], "podAnnotations": { "a": "b" }, "podLabels": { "c": "d" } },
        "global": { "imageRegistry": "mirror.example" },
        "log": { "level": "debug", "format": "text" },
        "priorityClassName": "system-cluster-critical",
        "networkPolicy": { "apiServerPorts": [443, 16443], "apiServerPeers": peers, "webhookPeers": peers, "healthPeers": peers },
        "extraObjects": [{ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "extra" } }],
        "webhook": { "hostNetwork": true, "port": 10260, "healthPort": 10261, "extraArgs": ["--log-level=info"], "extraEnv": [{ "name": "GLIBC_TUNABLES", "value": "" }], "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway" }], "failurePolicy": "Ignore", "timeoutSeconds": 10, "excludedNamespaces": ["kube-system", "cert-manager"], "namespaceSelector": [{ "key": "tier", "operator": "Exists" }] },
        "tls": { "certManager": { "enabled": false }, "existingSecret": "own-tls", "caBundle": authority.certificate },
    });
    std::fs::write(&values, every.to_string()).expect("a file");
    helm(&["install", "gate", "deploy/chart", "--values", values.to_str().expect("a path")]);
    let webhook = administrator.get(REGISTERED).await.expect("it is registered")["webhooks"][0].clone();
    assert_eq!((&webhook["failurePolicy"], &webhook["timeoutSeconds"]), (&json!("Ignore"), &json!(10)));
    assert_eq!(
        webhook["namespaceSelector"]["matchExpressions"][0]["values"],
        json!(["kube-system", "cert-manager", NAMESPACE])
    );
    let extra = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/extra");
    administrator.get(&extra).await.expect("it came with the release");
    let traces =
        format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/migration-gate-controller-traces");
    let traces = administrator.get(&traces).await.expect("the way to the collector is open");
    assert_eq!(traces["spec"]["egress"][0]["ports"][0]["port"], 4318);

    helm(&["uninstall", "gate", "--wait"]);
    assert_eq!(administrator.get(REGISTERED).await.expect_err("it is gone").code, 404);
    // With the definition every record would go, and with the records what succeeded.
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/migrationgates.migration-gate.dev";
    administrator.get(definition).await.expect("it stays");
}

/// No controller makes pods here, so this makes them, as a trial: they satisfy the strictest Pod Security level, also where the
/// cluster chooses the IDs.
async fn pods_are_accepted(administrator: &Somebody) {
    let enforced = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    administrator.patch(&format!("/api/v1/namespaces/{NAMESPACE}"), MERGE, &enforced).await.expect("it is ours");
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All");
    let none = json!({ "podSecurityContext": { "runAsUser": null, "runAsGroup": null, "fsGroup": null } });
    for charted in [usual(), chart(&none).expect("the option")] {
        for program in ["webhook", "controller"] {
            let mut template = deployment(&charted, program)["spec"]["template"].clone();
            template["metadata"]["name"] = json!("trial");
            administrator.must_create(&pods, &template).await;
        }
        administrator.must_create(&pods, only(&charted, "Pod")).await;
    }
    let host = json!({ "webhook": { "hostNetwork": true, "port": 10260 } });
    let mut template = deployment(&chart(&host).expect("the option"), "webhook")["spec"]["template"].clone();
    template["metadata"]["name"] = json!("trial");
    let refusal = administrator.create(&pods, &template).await.expect_err("the host's network is not for this level");
    assert!(refusal.message.contains("violates PodSecurity"), "{}", refusal.message);
    let privileged = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "privileged" } } });
    administrator.patch(&format!("/api/v1/namespaces/{NAMESPACE}"), MERGE, &privileged).await.expect("it is ours");
    administrator.must_create(&pods, &template).await;
}
