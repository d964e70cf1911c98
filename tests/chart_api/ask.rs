//! What `helm test` runs, run against a webhook: the container's command, with real curl. Only the way differs: the name of the
//! Service leads to a process here.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use testcluster::curl;

use crate::support::files::{Authority, Secret};
use crate::support::webhook::Webhook;
use crate::{Objects, chart, namespaced, only, usual};

/// The name in the webhook's certificate.
const SERVICE: &str = "migration-gate-webhook.migration-gate-system.svc";

/// Runs the test's container beside the webhook, with its ConfigMap as the folder `/ca`.
fn run(charted: &Objects, webhook: &Webhook, folder: &Path) -> Output {
    let ca = folder.join("ca.crt");
    std::fs::write(&ca, only(charted, "ConfigMap")["data"]["ca.crt"].as_str().expect("text")).expect("a file");
    let container = &only(charted, "Pod")["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["curl"]));
    let words = container["args"].as_array().expect("a list").iter().map(|word| word.as_str().expect("a word"));
    let words = words.map(|word| if word == "/ca/ca.crt" { ca.to_str().expect("a path") } else { word });
    Command::new(curl::program().expect("curl"))
        .args(words)
        .args(["--connect-to", &format!("{SERVICE}:443:{}", webhook.address)])
        .output()
        .expect("curl starts")
}

fn with_authority(authority: &Authority) -> Objects {
    let tls = json!({
        "certManager": { "enabled": false }, "existingSecret": "own", "caBundle": authority.certificate,
    });
    chart(&json!({ "tls": tls })).expect("a certificate of one's own")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_test_passes_where_the_webhook_answers_with_a_certificate_that_the_api_server_takes() {
    let folder = std::env::temp_dir().join(format!("migration-gate-chart-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (authority, another) = (Authority::new(), Authority::new());
    let secret = Secret::new(folder.join("secret"), &authority.issue_for(SERVICE));
    let webhook = Webhook::start([127, 0, 0, 1].into(), secret.path(), 0).await;

    let passed = run(&with_authority(&authority), &webhook, &folder);
    assert!(passed.status.success(), "{passed:?}");
    let review: Value = serde_json::from_slice(&passed.stdout).expect("a review");
    let response = &review["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("migration-gate-test"), &json!(true)));

    let refused = run(&with_authority(&another), &webhook, &folder);
    // curl's codes for a certificate that it doesn't trust, and for a signature that is another key's.
    assert!([Some(60), Some(35)].contains(&refused.status.code()), "{refused:?}");
    std::fs::remove_dir_all(&folder).expect("it is there");
}

/// With cert-manager the authority's certificate is in the webhook's own Secret; the key beside it is not for the test.
#[test]
fn the_test_sees_no_key() {
    let charted = usual();
    let pod = &charted[&namespaced("Pod", "migration-gate-test")];
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let secret =
        json!({ "secretName": "migration-gate-webhook-tls", "items": [{ "key": "ca.crt", "path": "ca.crt" }] });
    assert_eq!(pod["spec"]["volumes"], json!([{ "name": "ca", "secret": secret }]));
}
