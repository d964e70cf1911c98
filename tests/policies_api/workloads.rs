//! Workloads that ask for a gate.

use serde_json::json;
use testcluster::Cluster;

use migration_gate::contract::{annotation, label};

use crate::people::{People, passed, with};
use crate::support::client::{Answer, MERGE};
use crate::support::eventually;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/shop/deployments";

/// Where the webhook may be skipped (failurePolicy: Ignore); here it isn't there at all.
pub(crate) async fn workloads_wait_for_their_gate(cluster: &Cluster, people: &People) {
    let who = &people.administrator;
    let plain = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "orders"}},
            "template": {
                "metadata": {"labels": {"app": "orders"}},
                "spec": {"containers": [{"name": "web", "image": "registry.example/shop:1.0"}]},
            },
        },
    });
    let labelled = with(&plain, "/metadata/labels", json!({ label::GATED: label::GATED_TRUE }));
    let missed = |answer: Answer, what: &str| {
        let status = answer.expect_err(what);
        assert!(status.message.contains("asks for a gate but has none"), "{what}: {status:?}");
    };
    for key in [annotation::COMMAND, annotation::CONTAINER] {
        let asking = with(&labelled, "/metadata/annotations", json!({ key: "web" }));
        eventually("the policy to act", async || {
            let answer = who.create(&format!("{DEPLOYMENTS}?dryRun=All"), &asking).await;
            answer.err().filter(|status| status.message.contains("asks for a gate"))
        })
        .await;
        missed(who.create(DEPLOYMENTS, &asking).await, key);
        let elsewhere = "/apis/apps/v1/namespaces/elsewhere/deployments?dryRun=All";
        passed(who.create(elsewhere, &asking).await, who, "create it where nobody opted in");
        let note = json!({ annotation::INJECTED: "{}" });
        let injected = with(&asking, "/spec/template/metadata/annotations", note);
        passed(who.create(&format!("{DEPLOYMENTS}?dryRun=All"), &injected).await, who, "create it with its gate");
    }
    passed(who.create(&format!("{DEPLOYMENTS}?dryRun=All"), &labelled).await, who, "create it without a command");
    // One that was there before: what leaves the template alone passes, a new template doesn't.
    passed(who.create(DEPLOYMENTS, &plain).await, who, "create a plain one");
    let path = format!("{DEPLOYMENTS}/orders");
    let adopt =
        json!({"metadata": {"labels": {label::GATED: "true"}, "annotations": {annotation::COMMAND: "migrate"}}});
    passed(who.patch(&path, MERGE, &adopt).await, who, "label it without a change of its template");
    passed(who.patch(&path, MERGE, &json!({"spec": {"replicas": 1}})).await, who, "scale it");
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}});
    missed(who.patch(&path, MERGE, &restart).await, "a restart makes pods without a gate");
    let leave = json!({"metadata": {"labels": {label::GATED: null}}, "spec": restart["spec"]});
    passed(who.patch(&path, MERGE, &leave).await, who, "take the label off");
    passed(who.patch(&path, MERGE, &adopt).await, who, "put it on again");
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    passed(who.patch(&path, MERGE, &hold).await, who, "hold it");
    passed(who.delete(&path, &json!({})).await, who, "delete it");
    let mut last = json!({"spec": {"template": {"metadata": {"annotations": {"restarted": "later"}}}}});
    last["metadata"] = json!({"finalizers": null});
    passed(who.patch(&path, MERGE, &last).await, who, "let it go, whatever else changes");
    eventually("the deployment to go", async || who.get(&path).await.err()).await;
    let policies = cluster.get(&["validatingadmissionpolicies"]).expect("a list");
    for policy in policies["items"].as_array().expect("a list") {
        assert_eq!(policy["status"]["typeChecking"], json!({}), "{}", policy["metadata"]["name"]);
    }
}
