//! Requests to the API server in anybody's name, with an answer for everything that an API server says or does not say.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures::Stream;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Client, Config};
use serde_json::Value;

use crate::{Error, Result};

/// What is not answered within this time is not answered at all.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries of a request that nobody answers.
const PAUSE: Duration = Duration::from_millis(250);

/// The media types of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole object.
    Object,
    /// A JSON merge patch.
    Merge,
    /// A strategic merge patch.
    Strategic,
    /// A server-side apply.
    Apply,
}

/// Somebody who makes requests.
#[derive(Clone)]
pub struct Api {
    client: Client,
    is_patient: bool,
}

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The API server's code; none, if there was no answer.
    pub code: Option<u16>,
    /// What it said.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(formatter, "{code}: {}", self.text),
            None => write!(formatter, "no answer: {}", self.text),
        }
    }
}

impl Refusal {
    /// The API server is away, or too busy: the same request may be taken later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.code.is_none_or(|code| code == 429 || code >= 500)
    }

    /// There is no such object.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        self.code == Some(404)
    }

    /// The object changed meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code == Some(409)
    }
}

/// The object that answers, or why none does.
pub type Answer = std::result::Result<Value, Refusal>;

impl Api {
    /// The user of a kubeconfig.
    ///
    /// # Errors
    /// When it can't be used.
    pub async fn of(kubeconfig: &Path) -> Result<Api> {
        Api::new(kubeconfig, None).await
    }

    /// A user with these groups, by impersonation: authorization and admission see nobody else.
    ///
    /// # Errors
    /// When the kubeconfig can't be used.
    pub async fn as_user(kubeconfig: &Path, name: &str, groups: &[&str]) -> Result<Api> {
        Api::new(kubeconfig, Some((name, groups))).await
    }

    async fn new(kubeconfig: &Path, user: Option<(&str, &[&str])>) -> Result<Api> {
        let unusable = |error: String| Error::Unusable(format!("{}: {error}", kubeconfig.display()));
        let read = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(error.to_string()))?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| unusable(error.to_string()))?;
        if let Some((name, groups)) = user {
            config.auth_info.impersonate = Some(name.to_owned());
            config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
        }
        // Whoever asks here knows best whether to ask again.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| unusable(error.to_string()))?;
        Ok(Api { client, is_patient: false })
    }

    async fn send(&self, method: &str, path: &str, kind: Kind, body: Option<&Value>) -> Answer {
        loop {
            match self.send_once(method, path, kind, body).await {
                Err(refusal) if self.is_patient && refusal.is_passing() => tokio::time::sleep(PAUSE).await,
                answer => return answer,
            }
        }
    }

    async fn send_once(&self, method: &str, path: &str, kind: Kind, body: Option<&Value>) -> Answer {
        let kind = match kind {
            Kind::Object => "application/json",
            Kind::Merge => "application/merge-patch+json",
            Kind::Strategic => "application/strategic-merge-patch+json",
            Kind::Apply => "application/apply-patch+yaml",
        };
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind).body(body);
        let nothing = |text: String| Refusal { code: None, text: format!("{method} {path}: {text}") };
        let request = request.map_err(|error| nothing(error.to_string()))?;
        match tokio::time::timeout(PATIENCE, self.client.request::<Value>(request)).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(kube::Error::Api(status))) => {
                Err(Refusal { code: Some(status.code), text: format!("{method} {path}: {}", status.message) })
            }
            Ok(Err(error)) => Err(nothing(error.to_string())),
            Err(_) => Err(nothing(format!("not within {PATIENCE:?}"))),
        }
    }

    /// An object or a list.
    ///
    /// # Errors
    /// As the API server says.
    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Kind::Object, None).await
    }

    /// Makes an object.
    ///
    /// # Errors
    /// As the API server says.
    pub async fn create(&self, path: &str, object: &Value) -> Answer {
        self.send("POST", path, Kind::Object, Some(object)).await
    }

    /// Changes an object.
    ///
    /// # Errors
    /// As the API server says.
    pub async fn patch(&self, path: &str, kind: Kind, patch: &Value) -> Answer {
        self.send("PATCH", path, kind, Some(patch)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As the API server says.
    pub async fn delete(&self, path: &str, options: &Value) -> Answer {
        self.send("DELETE", path, Kind::Object, Some(options)).await
    }

    /// The same, asking again and again until the API server answers.
    #[must_use]
    pub fn patiently(&self) -> Api {
        Api { is_patient: true, ..self.clone() }
    }

    /// What happens to the objects at a path, from a version on.
    ///
    /// # Errors
    /// As the API server says.
    pub async fn watch(
        &self,
        path: &str,
        since: &str,
    ) -> kube::Result<impl Stream<Item = kube::Result<WatchEvent<Value>>> + use<>> {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{join}watch=true&allowWatchBookmarks=true&resourceVersion={since}");
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client.request_events(request).await
    }
}
