//! The cluster as a person reaches it: by kubeconfig, with that person's rights, one request at a time.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ApiResource, DynamicObject, ListParams, ObjectList, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::{Problem, Request};
use super::terminal::Progress;
use crate::supervise::with_causes;

/// How long a connection may take: a person waits for it.
const CONNECT: Duration = Duration::from_secs(10);
/// How often an API server that can't be had is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// The resource of Deployments.
const DEPLOYMENTS: &str = "deployments.apps";
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// Which cluster, and where in it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Place {
    /// The kubeconfig file; $KUBECONFIG or ~/.kube/config, if not given
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one, if not given
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) context: Option<String>,
    /// The namespace; the context's, if not given
    #[arg(short, long, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) namespace: Option<String>,
}

/// A connection with one person's rights.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    /// The namespace that was chosen.
    pub(crate) namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig. Nothing is asked of the cluster yet.
    pub(crate) async fn reach(place: &Place) -> Result<Cluster, Problem> {
        let unusable = |error: &dyn std::error::Error| Problem::Kubeconfig(with_causes(error));
        let options = KubeConfigOptions { context: place.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &place.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(|error| unusable(&error))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(&error))?
            }
            None if place.context.is_some() => {
                Config::from_kubeconfig(&options).await.map_err(|error| unusable(&error))?
            }
            None => Config::infer().await.map_err(|error| unusable(&error))?,
        };
        config.connect_timeout = Some(CONNECT);
        let namespace = place.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        Ok(Cluster { client, namespace })
    }

    /// The same, where another namespace is chosen.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Cluster {
        Cluster { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The client, for what the functions here don't do.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Lists what a label selector picks, in one namespace or in all, page by page.
    pub(crate) async fn list<K>(&self, namespace: Option<&str>, selector: &str) -> Result<Vec<K>, Problem>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client(), namespace),
            None => Api::all(self.client()),
        };
        let resource = resource_of::<K>();
        let request = Request { verb: "list", resource: &resource, namespace };
        let mut all = Vec::new();
        let mut params = ListParams::default().labels(selector).limit(PAGE);
        loop {
            let ObjectList { items, metadata, .. } =
                api.list(&params).await.map_err(|error| Problem::of(request, &error))?;
            all.extend(items);
            match metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// One object of a namespace, if it is there.
    pub(crate) async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Problem>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let resource = resource_of::<K>();
        let request = Request { verb: "get", resource: &resource, namespace: Some(namespace) };
        self.api::<K>(namespace).get_opt(name).await.map_err(|error| Problem::of(request, &error))
    }

    /// One object of the cluster, if it is there.
    pub(crate) async fn get_global<K>(&self, name: &str) -> Result<Option<K>, Problem>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let resource = resource_of::<K>();
        let request = Request { verb: "get", resource: &resource, namespace: None };
        let api: Api<K> = Api::all(self.client());
        api.get_opt(name).await.map_err(|error| Problem::of(request, &error))
    }

    /// Makes an object.
    pub(crate) async fn create<K>(&self, namespace: &str, object: &K) -> Result<K, Problem>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let resource = resource_of::<K>();
        let request = Request { verb: "create", resource: &resource, namespace: Some(namespace) };
        let made = self.api::<K>(namespace).create(&PostParams::default(), object).await;
        made.map_err(|error| Problem::of(request, &error))
    }

    /// Patches an object, or a subresource of it.
    pub(crate) async fn patch<K, P>(
        &self,
        namespace: &str,
        name: &str,
        part: Part,
        patch: &Patch<P>,
    ) -> Result<K, Problem>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
        P: serde::Serialize + Debug,
    {
        let resource = part.of(&resource_of::<K>());
        let request = Request { verb: "patch", resource: &resource, namespace: Some(namespace) };
        let api = self.api::<K>(namespace);
        let params = PatchParams::default();
        let patched = match part {
            Part::Whole => api.patch(name, &params, patch).await,
            Part::Status => api.patch_status(name, &params, patch).await,
        };
        patched.map_err(|error| Problem::of(request, &error))
    }

    /// A Deployment with every field that the API server sent, known here or not: it may be written back.
    pub(crate) async fn whole_deployment(&self, namespace: &str, name: &str) -> Result<Option<Value>, Problem> {
        let request = Request { verb: "get", resource: DEPLOYMENTS, namespace: Some(namespace) };
        let found = self.deployments(namespace).get_opt(name).await.map_err(|error| Problem::of(request, &error))?;
        found
            .map(|object| serde_json::to_value(object).map_err(|error| Problem::Refused(error.to_string())))
            .transpose()
    }

    /// Writes a whole Deployment back, if nobody else has changed it since it was read.
    pub(crate) async fn replace_deployment(&self, namespace: &str, object: Value) -> Result<(), Problem> {
        let request = Request { verb: "update", resource: DEPLOYMENTS, namespace: Some(namespace) };
        let object: DynamicObject =
            serde_json::from_value(object).map_err(|error| Problem::Refused(error.to_string()))?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let replaced = self.deployments(namespace).replace(&name, &PostParams::default(), &object).await;
        replaced.map(|_| ()).map_err(|error| Problem::of(request, &error))
    }

    fn deployments(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client(), namespace, &ApiResource::erase::<Deployment>(&()))
    }

    /// Patches an object of the cluster.
    pub(crate) async fn patch_global<K, P>(&self, name: &str, patch: &Patch<P>) -> Result<K, Problem>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
        P: serde::Serialize + Debug,
    {
        let resource = resource_of::<K>();
        let request = Request { verb: "patch", resource: &resource, namespace: None };
        let api: Api<K> = Api::all(self.client());
        api.patch(name, &PatchParams::default(), patch).await.map_err(|error| Problem::of(request, &error))
    }

    /// Lists objects of the cluster by a label selector.
    pub(crate) async fn list_global<K>(&self, selector: &str) -> Result<Vec<K>, Problem>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let resource = resource_of::<K>();
        let request = Request { verb: "list", resource: &resource, namespace: None };
        let api: Api<K> = Api::all(self.client());
        let listed = api.list(&ListParams::default().labels(selector)).await;
        listed.map(|listed| listed.items).map_err(|error| Problem::of(request, &error))
    }

    /// The objects of a kind in a namespace.
    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), namespace)
    }
}

/// What of an object a patch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object, but for its status.
    Whole,
    /// Its status, and of its metadata what the status endpoint takes.
    Status,
}

impl Part {
    fn of(self, resource: &str) -> String {
        match self {
            Part::Whole => resource.to_owned(),
            Part::Status => format!("{resource}/status"),
        }
    }
}

/// A resource as kubectl names it: `pods`, `deployments.apps`.
pub(crate) fn resource_of<K: Resource<DynamicType = ()>>() -> String {
    let (plural, group) = (K::plural(&()), K::group(&()));
    if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") }
}

/// What is optional for a verb: `None` where the right to it is missing.
pub(crate) fn if_allowed<T>(answer: Result<T, Problem>) -> Result<Option<T>, Problem> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Problem::Right(_)) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// The answer, however long the API server can't be had: who follows something wants to see the end of it.
pub(crate) async fn in_the_end<T>(mut ask: impl AsyncFnMut() -> Result<T, Problem>) -> Result<T, Problem> {
    let (start, mut progress) = (Instant::now(), Progress::new());
    loop {
        match ask().await {
            Err(Problem::Unreachable(why)) => {
                progress.say(&format!("the API server does not answer: {why}"), start.elapsed());
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}
