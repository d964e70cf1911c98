//! The API profile, booted for real: what it offers, what survives a fault, and that it ends with its owner.

mod shared;

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use shared::{LIMIT, Owner, forget_logs, left_of};
use testcluster::progress::{Seen, wait};
use testcluster::{Cluster, Options, Profile, Result, certmanager, postgres};

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "docker.io/local/web:1"}]},
            },
        },
    })
}

fn wait_for_pods(cluster: &Cluster, app: &str, wanted: usize) -> Result<()> {
    cluster.wait_for(&format!("{wanted} pods of {app}"), LIMIT, || {
        let pods = cluster.get(&["pods", "-l", &format!("app={app}")])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        Ok(if count == wanted { Seen::Done(()) } else { Seen::NotYet(format!("{count} pods")) })
    })
}

#[test]
fn controllers_run_and_what_was_written_survives_crashes() -> Result<()> {
    let cluster = Cluster::boot(Options::new("t-api", Profile::Api).audit().durable())?;
    cluster.apply(&deployment("web").to_string())?;
    wait_for_pods(&cluster, "web", 2)?;

    let server = cluster.component("kube-apiserver")?;
    server.kill()?;
    assert!(server.pid().is_none());
    assert!(cluster.kubectl(&["get", "deployments"]).is_err(), "nobody answers");
    cluster.component("etcd")?.kill()?;
    cluster.component("etcd")?.restart()?;
    server.restart()?;
    cluster.wait_for_api(LIMIT)?;
    assert_eq!(cluster.get(&["deployment", "web"])?["spec"]["replicas"], 2);
    cluster.kubectl(&["scale", "deployment/web", "--replicas=3"])?;
    wait_for_pods(&cluster, "web", 3)?;

    let audit = fs::read_to_string(cluster.audit_log()).expect("it was asked for");
    let created = audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|event| {
        event["user"]["username"] == "system:serviceaccount:kube-system:replicaset-controller"
            && event["verb"] == "create"
            && event["objectRef"]["resource"] == "pods"
    });
    assert!(created, "controllers have accounts of their own, and the audit log says what they do");
    assert!(cluster.component("kubelet-0").is_err_and(|error| error.to_string().contains("kube-apiserver")));

    cluster.down()?;
    assert_eq!(left_of("t-api"), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_component_that_ends_is_named_with_its_log() {
    let options = Options::new("t-broken", Profile::Api).argument("kube-apiserver", "--no-such-flag");
    let message = Cluster::boot(options).expect_err("it can't start").to_string();
    assert!(message.contains("kube-apiserver ended by itself"), "{message}");
    assert!(message.contains("t-broken/logs/kube-apiserver.log"), "{message}");
    assert!(message.contains("unknown flag: --no-such-flag"), "{message}");
    assert_eq!(left_of("t-broken"), Vec::<String>::new());
    forget_logs("t-broken");
}

#[test]
fn clusters_with_different_names_do_not_meet() -> Result<()> {
    let one = Cluster::boot(Options::new("t-one", Profile::Api))?;
    let two = Cluster::boot(Options::new("t-two", Profile::Api))?;
    one.kubectl(&["create", "namespace", "only-here"])?;
    assert!(two.kubectl(&["get", "namespace", "only-here"]).is_err());
    assert!(Cluster::boot(Options::new("t-one", Profile::Api)).is_err_and(|error| error.to_string().contains("is up")));
    drop(one);
    two.kubectl(&["get", "namespaces"])?;
    Ok(())
}

#[test]
fn cert_manager_checks_issues_and_injects() -> Result<()> {
    let cluster = Cluster::boot(Options::new("t-certs", Profile::Api))?;
    certmanager::install(&cluster)?;
    let named = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "cert-manager.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "default"},
            "spec": spec})
    };
    cluster.apply(&named("Issuer", "own", json!({"selfSigned": {}})).to_string())?;
    let refused = cluster
        .apply(&named("Certificate", "bad", json!({"secretName": "x", "issuerRef": {"name": "own"}})).to_string());
    assert!(refused.is_err_and(|error| error.to_string().contains("admission webhook")), "it names nobody");

    let spec = json!({"secretName": "webhook-tls", "dnsNames": ["webhook.default.svc"], "issuerRef": {"name": "own"}});
    cluster.apply(&named("Certificate", "webhook", spec).to_string())?;
    cluster.apply(
        &json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "ours", "annotations": {"cert-manager.io/inject-ca-from": "default/webhook"}},
            "webhooks": [{
                "name": "ours.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}],
                "clientConfig": {"service": {"name": "webhook", "namespace": "default"}},
            }],
        })
        .to_string(),
    )?;
    cluster.wait_for_condition("certificate/webhook", "default", "Ready", LIMIT)?;
    cluster.wait_for("the injected authority", LIMIT, || {
        let found = cluster.get(&["mutatingwebhookconfiguration", "ours"])?;
        let bundle = found["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().len();
        Ok(if bundle > 0 { Seen::Done(()) } else { Seen::NotYet("no caBundle".into()) })
    })
}

#[test]
fn a_cluster_ends_with_its_killed_owner_and_its_name_is_free_again() {
    let (owner, cluster) = Owner::start("t-killed", "api");
    cluster.kubectl(&["get", "namespaces"]).expect("it works");
    drop(owner);
    let programs = || left_of("t-killed").into_iter().filter(|left| left.starts_with("process")).collect::<Vec<_>>();
    let gone = wait("its programs to end", LIMIT, || {
        Ok(if programs().is_empty() { Seen::Done(()) } else { Seen::NotYet(programs().join(", ")) })
    });
    gone.expect("they end with their owner");

    let cluster = Cluster::boot(Options::new("t-killed", Profile::Api)).expect("the name is free");
    cluster.kubectl(&["get", "namespaces"]).expect("and the new one works");
    drop(cluster);
    assert_eq!(left_of("t-killed"), Vec::<String>::new());
}

#[test]
fn the_command_leaves_a_cluster_up_and_ends_it() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_testcluster")).args(arguments).output().expect("it was just built");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["up", "--name", "t-command", "--profile", "api"]);
    let config = run(&["kubeconfig", "--name", "t-command"]);
    assert!(fs::read_to_string(config.trim()).expect("it is there").contains("client-key-data"));
    assert!(run(&["kubectl", "--name", "t-command", "--", "get", "ns"]).contains("kube-system"));
    assert!(run(&["logs", "--name", "t-command"]).contains("kube-apiserver\n"));
    run(&["down", "--name", "t-command"]);
    assert_eq!(left_of("t-command"), Vec::<String>::new());
}

#[test]
fn a_users_own_envtest_programs_are_taken() {
    let kubectl = testcluster::tools::path(testcluster::tools::Tool::Kubectl).expect("it can be built");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testcluster"));
        let command = command.args(arguments).env("KUBEBUILDER_ASSETS", kubectl.parent().expect("it is in a folder"));
        let output = command.output().expect("it was just built");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["up", "--name", "t-assets", "--profile", "api"]);
    assert_eq!(run(&["logs", "--name", "t-assets"]), "etcd\nkube-apiserver\n");
    let pod = ["run", "web", "--image=docker.io/local/web:1"];
    run(&[&["kubectl", "--name", "t-assets", "--"], pod.as_slice()].concat());
    run(&["down", "--name", "t-assets"]);
}

#[test]
fn a_postgres_keeps_what_was_committed_when_it_crashes() -> Result<()> {
    let mut server = postgres::Server::start(Ipv4Addr::LOCALHOST.into())?;
    let folder = server.log().parent().expect("it is in a folder").to_owned();
    server.create_database("shop")?;
    server.psql_in("shop", "CREATE TABLE runs (n int); INSERT INTO runs VALUES (1), (2)")?;
    assert!(server.psql("SELECT * FROM nothing").is_err_and(|error| error.to_string().contains("does not exist")));
    server.kill();
    assert!(server.psql("SELECT 1").is_err());
    server.run()?;
    assert_eq!(server.psql_in("shop", "SELECT n, n + 1 FROM runs ORDER BY n")?, "1|2\n2|3");
    drop(server);
    std::thread::sleep(Duration::from_millis(100));
    assert!(!folder.exists());
    Ok(())
}
