//! Requests to the API server without a process for each: a wait looks often, and the machine has two processors.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Error, Result};

/// The cluster's administrator.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

impl Api {
    /// Reads a kubeconfig.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn new(kubeconfig: &Path) -> Result<Api> {
        let unusable = |error: String| Error::Unreadable(format!("{}: {error}", kubeconfig.display()));
        let runtime = Runtime::new().map_err(|error| Error::System { what: "threads".to_owned(), error })?;
        let client = runtime.block_on(async {
            let config = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(error.to_string()))?;
            let options = KubeConfigOptions::default();
            let mut config =
                Config::from_custom_kubeconfig(config, &options).await.map_err(|error| unusable(error.to_string()))?;
            // Whoever asks here asks again anyway, and wants to know at once.
            config.default_retry = false;
            config.read_timeout = Some(std::time::Duration::from_secs(10));
            Client::try_from(config).map_err(|error| unusable(error.to_string()))
        })?;
        Ok(Api { runtime, client })
    }

    fn send(&self, method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Result<Option<Value>> {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type).body(body);
        let request = request.map_err(|error| Error::Unreadable(format!("{method} {path}: {error}")))?;
        match self.runtime.block_on(self.client.request::<Value>(request)) {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(Error::Refused(format!("{method} {path}: {error}"))),
        }
    }

    /// One object or list; none if there is none.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub fn get(&self, path: &str) -> Result<Option<Value>> {
        self.send("GET", path, "application/json", None)
    }

    /// What a pod's container wrote so far; of the container before it, if it was restarted.
    ///
    /// # Errors
    /// When the API server or the kubelet does not answer, or has none.
    pub fn log(&self, pod: &str, container: &str, previous: bool) -> Result<String> {
        let path = format!("{pod}/log?container={container}&previous={previous}");
        let refused = |error: String| Error::Refused(format!("GET {path}: {error}"));
        let request = http::Request::get(&path).body(Vec::new()).map_err(|error| refused(error.to_string()))?;
        self.runtime.block_on(self.client.request_text(request)).map_err(|error| refused(error.to_string()))
    }

    /// Makes an object.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub fn create(&self, path: &str, object: &Value) -> Result<()> {
        self.send("POST", path, "application/json", Some(object)).map(drop)
    }

    /// Merges fields into an object.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub fn merge(&self, path: &str, patch: &Value) -> Result<()> {
        self.send("PATCH", path, "application/merge-patch+json", Some(patch)).map(drop)
    }

    /// Deletes an object, if there is one; `grace` in seconds replaces its own grace period.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub fn delete(&self, path: &str, grace: Option<u32>) -> Result<()> {
        let mut options = json!({ "propagationPolicy": "Background" });
        if let Some(grace) = grace {
            options["gracePeriodSeconds"] = json!(grace);
        }
        self.send("DELETE", path, "application/json", Some(&options)).map(drop)
    }
}
