//! What somebody makes who copies what isn't theirs: pods with our labels, templates with our labels, whole workloads.

use serde_json::{Value, json};

use super::act::Copy;
use super::people::People;
use super::workload::Workload;
use crate::api::{Api, Kind};
use crate::witness::facts::agent_container;

/// Pods whose name begins so were copied by somebody.
pub const COPY: &str = "copy-";
/// The image of somebody else's that lies about an attempt; its tag is the attempt.
const FORGER: &str = "registry.example/forger:";

/// Somebody who may create pods and Deployments, and nothing else.
pub struct Copier {
    api: Api,
}

/// The attempt that a pod's container will claim to have brought to a good end, if somebody made it for that.
#[must_use]
pub fn forged_attempt(object: &Value) -> Option<u32> {
    agent_container(object)?["image"].as_str()?.strip_prefix(FORGER)?.parse().ok()
}

impl Copier {
    /// Somebody with this client.
    #[must_use]
    pub fn new(api: Api) -> Copier {
        Copier { api }
    }

    /// Copies a pod of a workload.
    pub(super) async fn pod(&self, people: &People, workload: &Workload, copy: Copy) {
        let path = format!("/api/v1/namespaces/{}/pods", workload.namespace);
        let list = format!("{path}?labelSelector=app%3D{}", workload.name);
        let Ok(pods) = people.administrator.patiently().get(&list).await else { return };
        let Some(pod) = pods["items"].as_array().and_then(|items| items.first()) else { return };
        let metadata = &pod["metadata"];
        let mut copied = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "generateName": format!("{COPY}{}-", workload.name), "labels": metadata["labels"] },
            "spec": pod["spec"],
        });
        if copy == Copy::Owned {
            copied["metadata"]["ownerReferences"] = metadata["ownerReferences"].clone();
        } else if let Some(labels) = copied["metadata"]["labels"].as_object_mut() {
            // The ReplicaSet would take it for one of its own.
            labels.remove("pod-template-hash");
        }
        if let Copy::Forged(attempt) = copy {
            forge(&mut copied, attempt);
        }
        let made = self.api.patiently().create(&path, &copied).await;
        let word = match &made {
            Ok(made) => format!("copied as {}", made["metadata"]["name"]),
            Err(refusal) => format!("not copied: {refusal}"),
        };
        people.chronicle.note([workload.key(), format!("{}/{}", workload.namespace, workload.record())], word);
        people.witness.books().copied(made.is_ok());
    }

    /// Copies a workload under another name, injection and all: the webhook makes it one of its own.
    pub(super) async fn workload(&self, people: &People, from: &Workload, to: &Workload) {
        let found = people.administrator.patiently().get(&from.path()).await;
        let Ok(object) = found else { return };
        let mut copied = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": to.name, "labels": object["metadata"]["labels"], "annotations": object["metadata"]["annotations"] },
            "spec": object["spec"],
        });
        copied["spec"]["selector"]["matchLabels"]["app"] = json!(to.name);
        copied["spec"]["template"]["metadata"]["labels"]["app"] = json!(to.name);
        let path = format!("{}?fieldManager=owner&force=true", to.path());
        let answer = people.administrator.patiently().patch(&path, Kind::Apply, &copied).await;
        if let Some(object) = people.expect(&[to.key()], answer) {
            people.compare(to, &object);
            // What its owner applies from now on says less than what was copied.
            people.apply(to).await;
        }
    }

    /// Copies a workload's template into a Deployment that asks for no gate.
    pub(super) async fn template(&self, people: &People, from: &Workload, name: &str) {
        let found = people.administrator.patiently().get(&from.path()).await;
        let Ok(object) = found else { return };
        let mut template = object["spec"]["template"].clone();
        template["metadata"]["labels"]["app"] = json!(name);
        let copied = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": { "replicas": 1, "selector": { "matchLabels": { "app": name } }, "template": template },
        });
        let to = Workload { name: name.to_owned(), ..from.clone() };
        self.deploy(people, &to, &copied).await;
    }

    async fn deploy(&self, people: &People, to: &Workload, object: &Value) {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments", to.namespace);
        let made = self.api.patiently().create(&path, object).await;
        let word = match &made {
            Ok(_) => "it was copied".to_owned(),
            Err(refusal) => format!("it was not copied: {refusal}"),
        };
        people.chronicle.note([to.key()], word);
    }

    /// Everything that was copied goes.
    pub(super) async fn remove(&self, people: &People, namespace: &str) {
        let begins =
            |object: &Value, with: &str| object["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(with));
        for (path, prefix) in [
            (format!("/apis/apps/v1/namespaces/{namespace}/deployments"), crate::witness::calm::STRAY),
            (format!("/api/v1/namespaces/{namespace}/pods"), COPY),
        ] {
            let Ok(list) = people.administrator.patiently().get(&path).await else { continue };
            let items = list["items"].as_array().cloned().unwrap_or_default();
            for item in items.iter().filter(|item| begins(item, prefix)) {
                let one = format!("{path}/{}", item["metadata"]["name"].as_str().unwrap_or_default());
                let options = json!({ "propagationPolicy": "Background" });
                let answer = people.administrator.patiently().delete(&one, &options).await;
                people.expect(&[one], answer);
            }
        }
    }
}

/// Puts somebody else's image in the agent's place.
fn forge(pod: &mut Value, attempt: u32) {
    let name = agent_container(pod).map(|container| container["name"].clone());
    for container in pod["spec"]["initContainers"].as_array_mut().into_iter().flatten() {
        if Some(&container["name"]) == name.as_ref() {
            container["image"] = json!(format!("{FORGER}{attempt}"));
        }
    }
}
