//! Requests to the API server, in the name of anybody.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use serde_json::Value;

/// Somebody who makes requests.
#[derive(Clone)]
pub struct Somebody {
    pub name: String,
    client: Client,
}

/// An answer: the object, or why not.
pub type Answer = Result<Value, Box<Status>>;

/// The media types of patches.
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";

impl Somebody {
    /// The cluster's administrator.
    pub async fn administrator(kubeconfig: &Path) -> Somebody {
        Somebody::new(kubeconfig, None, &[]).await
    }

    /// A user with these groups, by impersonation: authorization and admission see only them.
    pub async fn user(kubeconfig: &Path, name: &str, groups: &[&str]) -> Somebody {
        Somebody::new(kubeconfig, Some(name), groups).await
    }

    /// A service account, with the groups that its tokens have.
    pub async fn service_account(kubeconfig: &Path, namespace: &str, name: &str) -> Somebody {
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
        Somebody::new(kubeconfig, Some(&format!("system:serviceaccount:{namespace}:{name}")), &groups).await
    }

    async fn new(kubeconfig: &Path, name: Option<&str>, groups: &[&str]) -> Somebody {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the cluster's kubeconfig");
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
        config.auth_info.impersonate = name.map(str::to_owned);
        config.auth_info.impersonate_groups = name.map(|_| groups.iter().map(|group| (*group).to_owned()).collect());
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client");
        Somebody { name: name.unwrap_or("administrator").to_owned(), client }
    }

    async fn send(&self, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let request = axum::http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(body).expect("a request");
        match self.client.request::<Value>(request).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) => Err(status),
            Err(error) => panic!("{method} {path} as {}: {error}", self.name),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "application/json", Vec::new()).await
    }

    /// All versions of the objects at a path, since this one, in the order in which they were written.
    pub async fn history(&self, path: &str, since: &str) -> Vec<Value> {
        let watch = format!("{path}?watch=true&resourceVersion={since}&timeoutSeconds=1");
        let request = axum::http::Request::get(watch).body(Vec::new()).expect("a request");
        let events = self.client.request_text(request).await.expect("what was written");
        let event = |line: &str| serde_json::from_str::<Value>(line).expect("an event of a watch");
        events.lines().map(|line| event(line)["object"].take()).collect()
    }

    pub async fn create(&self, path: &str, object: &Value) -> Answer {
        self.send("POST", path, "application/json", object.to_string().into_bytes()).await
    }

    pub async fn replace(&self, path: &str, object: &Value) -> Answer {
        self.send("PUT", path, "application/json", object.to_string().into_bytes()).await
    }

    pub async fn patch(&self, path: &str, kind: &str, patch: &Value) -> Answer {
        self.send("PATCH", path, kind, patch.to_string().into_bytes()).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.send("DELETE", path, "application/json", options.to_string().into_bytes()).await
    }

    /// Creates an object; it must be taken.
    pub async fn must_create(&self, path: &str, object: &Value) -> Value {
        self.create(path, object).await.unwrap_or_else(|status| panic!("POST {path} as {}: {status:?}", self.name))
    }
}

/// A namespace.
pub async fn namespace(administrator: &Somebody, name: &str, labels: Value) {
    let object =
        serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    administrator.must_create("/api/v1/namespaces", &object).await;
}
