//! What the user is warned of.

use super::*;

#[test]
fn warnings_are_few_and_meant() {
    assert_eq!(create(&orders()).warnings(), Vec::<&str>::new());
    for (image, is_warned) in [
        ("orders", true),
        ("orders:latest", true),
        ("localhost:5000/orders", true),
        ("localhost:5000/orders:1", false),
        ("orders@sha256:00", false),
        ("orders:latest@sha256:00", false),
    ] {
        let object = with(&orders(), "/spec/template/spec/containers/0/image", json!(image));
        assert_eq!(create(&object).warnings().len(), usize::from(is_warned), "{image}");
    }
    let proxy = json!({"name": "db", "image": "gcr.io/x/cloud-sql-proxy:2@sha256:00"});
    let object = with(&orders(), "/spec/template/spec/containers/-", proxy.clone());
    assert_eq!(create(&object).warnings().len(), 1);
    // However long the names are, the warning says what to do.
    let mut long = with(&object, "/spec/template/spec/containers/1/name", json!("n".repeat(63)));
    set(&mut long, "/spec/template/spec/containers/0/image", json!(format!("registry.example/{}", "i".repeat(200))));
    let warned = create(&long);
    assert!(warned.warnings()[0].ends_with("use a fixed tag or a digest"), "{:?}", warned.warnings());
    assert!(warned.warnings()[1].ends_with("make that proxy a native sidecar"), "{:?}", warned.warnings());
    let alone = with(&orders(), "/spec/template/spec/containers/0", proxy);
    assert_eq!(create(&alone).warnings(), Vec::<&str>::new());
}

/// Meshes and Vault add their containers when pods are created, so all that the template shows is a key.
#[test]
fn injectors_that_announce_themselves_are_seen() {
    let metadata = |field: &str, entries: Value| {
        let mut object = orders();
        let fields = &mut object["spec"]["template"]["metadata"];
        for (key, value) in entries.as_object().expect("entries") {
            fields[field][key] = value.clone();
        }
        create(&object).warnings().iter().map(|warning| (*warning).to_owned()).collect::<Vec<_>>()
    };
    for (field, entries, said) in [
        ("labels", json!({"sidecar.istio.io/inject": "true"}), Some("native sidecar")),
        ("annotations", json!({"linkerd.io/inject": "enabled"}), Some("native sidecar")),
        ("annotations", json!({"consul.hashicorp.com/connect-inject": "true"}), Some("native sidecar")),
        ("labels", json!({"kuma.io/sidecar-injection": "enabled"}), Some("native sidecar")),
        ("annotations", json!({"vault.hashicorp.com/agent-inject": "true"}), Some("agent-init-first: \"true\"")),
        ("labels", json!({"sidecar.istio.io/inject": "false"}), None),
        ("annotations", json!({"linkerd.io/inject": "disabled"}), None),
        ("annotations", json!({"sidecar.istio.io/inject": "true", "sidecar.istio.io/nativeSidecar": "true"}), None),
        (
            "annotations",
            json!({"linkerd.io/inject": "enabled", "config.linkerd.io/proxy-enable-native-sidecar": "true"}),
            None,
        ),
        (
            "annotations",
            json!({"vault.hashicorp.com/agent-inject": "true", "vault.hashicorp.com/agent-init-first": "true"}),
            None,
        ),
    ] {
        let warnings = metadata(field, entries.clone());
        assert_eq!(warnings.len(), usize::from(said.is_some()), "{entries}: {warnings:?}");
        if let (Some(said), Some(warning)) = (said, warnings.first()) {
            assert!(warning.contains(said) && !warning.ends_with('…'), "{entries}: {warning}");
        }
    }
}

/// Long names, so that a warning that leaves out what to do would be seen.
#[test]
fn a_proxy_behind_a_wrapped_container_is_seen() {
    let sidecar = |name: &str, policy: Value| json!({"name": name, "image": "x/pgbouncer:1", "restartPolicy": policy});
    let warnings = |before: Option<Value>, after: Option<Value>| {
        let mut object = wrapping();
        let list = object["spec"]["template"]["spec"]["initContainers"].as_array_mut().expect("a list");
        let migrate = list.remove(0);
        list.extend(before.into_iter().chain([migrate]).chain(after));
        create(&object).warnings().iter().map(|warning| (*warning).to_owned()).collect::<Vec<_>>()
    };
    let behind = warnings(None, Some(sidecar(&"p".repeat(63), json!("Always"))));
    assert_eq!(behind.len(), 1, "{behind:?}");
    assert!(behind[0].contains("can't reach") && behind[0].ends_with("put that sidecar before it"), "{behind:?}");
    assert_eq!(warnings(Some(sidecar("p", json!("Always"))), None), Vec::<String>::new());
    assert_eq!(warnings(None, Some(sidecar("p", Value::Null))), Vec::<String>::new(), "it runs once and ends");
    let other = json!({"name": "logs", "image": "fluent-bit:1", "restartPolicy": "Always"});
    assert_eq!(warnings(None, Some(other)), Vec::<String>::new());
}

#[test]
fn an_init_container_that_waits_for_a_job_is_named() {
    let warnings = |container: Value| {
        let mut object = orders();
        object["spec"]["template"]["spec"]["initContainers"] = json!([container]);
        create(&object).warnings().iter().map(|warning| (*warning).to_owned()).collect::<Vec<_>>()
    };
    let name = "w".repeat(63);
    for (image, command, args) in [
        ("ghcr.io/groundnuty/k8s-wait-for:v2.0", json!(null), json!(["job", "shop-migrate"])),
        ("mirror/k8s-wait-for@sha256:00", json!(null), json!(["job-wr", "-lapp=shop"])),
        ("tools:1", json!(["wait_for.sh"]), json!(["job", "shop-migrate"])),
        ("bitnami/kubectl:1.30", json!(null), json!(["wait", "--for=condition=complete", "job/shop-migrate"])),
        ("tools:1", json!(["kubectl", "wait", "--for=condition=complete", "--timeout=5m", "job", "x"]), json!(null)),
        (
            "tools:1",
            json!(["sh", "-c"]),
            json!(["until /usr/bin/kubectl wait --for=condition=complete jobs.batch/x; do sleep 1; done"]),
        ),
    ] {
        let container = json!({"name": name, "image": image, "command": command, "args": args});
        let warned = warnings(container.clone());
        assert_eq!(warned.len(), 1, "{container}: {warned:?}");
        assert!(warned[0].contains("waits for a Job") && warned[0].ends_with("still needed?"), "{warned:?}");
    }
    for (image, args) in [
        ("k8s-wait-for:v2.0", json!(["pod", "-lapp=db"])),
        ("bitnami/kubectl:1.30", json!(["wait", "--for=condition=ready", "pod/db-0"])),
        ("bitnami/kubectl:1.30", json!(["get", "job"])),
        ("busybox:1", json!(["sh", "-c", "wait; nc -z db 5432 && echo job"])),
    ] {
        let container = json!({"name": "w", "image": image, "args": args});
        assert_eq!(warnings(container.clone()), Vec::<String>::new(), "{container}");
    }
    // Our own never are.
    let again = create(&create(&annotated(&orders(), annotation::COMMAND, "k8s-wait-for job x")).object);
    assert_eq!(again.warnings(), Vec::<&str>::new());
}

#[test]
fn a_deployment_that_is_a_helm_hook_is_seen() {
    let hook = with(&orders(), "/metadata/annotations/helm.sh~1hook", json!("post-install,post-upgrade"));
    let outcome = create(&hook);
    assert_eq!(outcome.decision, Decision::Injected);
    assert!(
        outcome.warnings().len() == 1 && outcome.warnings()[0].ends_with("goes with it"),
        "{:?}",
        outcome.warnings()
    );
    // Other annotations of Helm's say nothing, and nobody is told twice.
    let weight = with(&orders(), "/metadata/annotations/helm.sh~1hook-weight", json!("10"));
    assert_eq!(create(&weight).warnings(), Vec::<&str>::new());
    let scaled = with(&outcome.object, "/spec/replicas", json!(9));
    assert_eq!(update(&outcome.object, &scaled).warnings(), Vec::<&str>::new());
}

#[test]
fn a_program_without_arguments_is_all_that_runs() {
    let mut bare = with(&with_entrypoint(), "/spec/template/spec/initContainers/0/args", Value::Null);
    set(&mut bare, "/spec/template/spec/initContainers/0/name", json!("m".repeat(63)));
    let outcome = create(&annotated(&bare, annotation::CONTAINER, &"m".repeat(63)));
    assert_eq!(outcome.template()["spec"]["initContainers"][1]["args"], json!(["--", "alembic"]));
    assert!(
        outcome.warnings().len() == 1 && outcome.warnings()[0].ends_with("not the image's CMD"),
        "{:?}",
        outcome.warnings()
    );
}
