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
