//! Why a verb could not do its work, in words that say what helps.

use kube::core::Status;

use crate::api_error::{ApiFailure, classify};
use crate::cli::{Exit, Failure};
use crate::supervise::{Sentence, with_causes};

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The command line makes no sense together with what was found.
    #[error("{0}")]
    Usage(String),
    /// The kubeconfig can't be used.
    #[error("the kubeconfig can't be used: {0}")]
    Kubeconfig(String),
    /// The API server is not to be had.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// The API server doesn't know who asks.
    #[error("the API server does not accept these credentials: {0}; log in again, or choose another --context")]
    Unauthenticated(String),
    /// A right is missing.
    #[error("{0}")]
    Right(MissingRight),
    /// The cluster has no MigrationGates.
    #[error(
        "this cluster has no migrationgates.migration-gate.dev: migration-gate is not installed there (kubectl apply -k .)"
    )]
    NotInstalled,
    /// What was asked for isn't there, or isn't so that the verb makes sense.
    #[error("{0}")]
    Unfit(String),
    /// An admission policy, a webhook or the schema refused it.
    #[error("the API server refused it: {0}")]
    Refused(String),
    /// Somebody else wrote at the same time, again and again.
    #[error("{0} was changed by somebody else at the same time; try again")]
    Conflict(String),
    /// Something did not happen in time.
    #[error("{0}")]
    Late(String),
    /// The migration that was followed failed for good.
    #[error("{0}")]
    Failed(String),
    /// Standard output can't be written.
    #[error("the output can't be written: {0}")]
    Output(String),
}

/// A right that a verb needs and its user hasn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingRight {
    /// Such as `patch`.
    pub(crate) verb: &'static str,
    /// Such as `migrationgates.migration-gate.dev`.
    pub(crate) resource: String,
    /// The namespace; the whole cluster, if `None`.
    pub(crate) namespace: Option<String>,
    /// Who hasn't it, as the API server says.
    pub(crate) user: Option<String>,
}

/// A request, as its right is named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The verb of the right.
    pub(crate) verb: &'static str,
    /// The resource, with its group.
    pub(crate) resource: &'a str,
    /// The namespace; the whole cluster, if `None`.
    pub(crate) namespace: Option<&'a str>,
}

/// The resource of the records.
pub(crate) const RECORDS: &str = "migrationgates.migration-gate.dev";

impl Problem {
    /// What a failed request means to its user.
    pub(crate) fn of(request: Request<'_>, error: &kube::Error) -> Problem {
        let status = match error {
            kube::Error::Api(status) => Some(&**status),
            _ => None,
        };
        let said = status.map_or_else(|| with_causes(error), |status| status.message.clone());
        // The client's names for its own layers help nobody.
        let said = said.trim_start_matches("ServiceError: ").to_owned();
        match (classify(error), status) {
            (ApiFailure::Forbidden, Some(status)) if status.code == 401 => Problem::Unauthenticated(said),
            (ApiFailure::Forbidden, Some(status)) if lacks_right(status, request.verb) => {
                Problem::Right(MissingRight::new(request, user(&said)))
            }
            (ApiFailure::NotFound, _) if request.resource == RECORDS && matches!(request.verb, "list" | "watch") => {
                Problem::NotInstalled
            }
            (ApiFailure::NotFound, _) => Problem::Unfit(said),
            (ApiFailure::Conflict | ApiFailure::AlreadyExists, _) => Problem::Conflict(request.resource.to_owned()),
            (ApiFailure::Transient { .. }, Some(status)) if status.code == 500 => Problem::Refused(said),
            (ApiFailure::Transient { .. }, _) => Problem::Unreachable(said),
            _ => Problem::Refused(said),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Problem::Usage(_) => Exit::Usage,
            Problem::Unfit(_) | Problem::NotInstalled | Problem::Refused(_) => Exit::Data,
            Problem::Kubeconfig(_) => Exit::Config,
            Problem::Unreachable(_) => Exit::Unavailable,
            Problem::Unauthenticated(_) | Problem::Right(_) => Exit::NoPermission,
            Problem::Conflict(_) | Problem::Late(_) => Exit::Temporary,
            Problem::Failed(_) => Exit::Failed,
            Problem::Output(_) => Exit::System,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::new(problem.exit(), Sentence(problem.to_string()))
    }
}

/// The API server's authorizer speaks of what the user "cannot"; policies and webhooks don't.
///
/// Source: k8s.io/apiserver, endpoints/handlers/responsewriters, forbiddenMessage.
fn lacks_right(status: &Status, verb: &str) -> bool {
    status.message.contains(&format!(" cannot {verb} resource "))
}

fn user(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("User \"")?;
    rest.split_once('"').map(|(user, _)| user.to_owned())
}

impl MissingRight {
    /// The right for a request.
    pub(crate) fn new(request: Request<'_>, user: Option<String>) -> MissingRight {
        MissingRight {
            verb: request.verb,
            resource: request.resource.to_owned(),
            namespace: request.namespace.map(str::to_owned),
            user,
        }
    }

    /// The role of the installation that grants it.
    fn remedy(&self) -> &'static str {
        match (self.resource.as_str(), self.verb) {
            (RECORDS, "get" | "list" | "watch") => {
                "; the ClusterRole migration-gate-view grants it, and so do view, edit and admin"
            }
            (RECORDS, _) => "; the ClusterRole migration-gate-edit grants it, and so do edit and admin",
            ("pods/status" | "gates.migration-gate.dev", _) => {
                "; the ClusterRole migration-gate-break-glass grants it, and is bound to nobody until somebody binds it"
            }
            ("namespaces", _) => "; it is a cluster administrator's",
            ("pods" | "pods/log" | "deployments.apps", "get" | "list" | "watch") => "; the ClusterRole view grants it",
            ("deployments.apps", _) => "; the ClusterRole edit grants it",
            _ => "",
        }
    }
}

impl std::fmt::Display for MissingRight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = self.user.as_deref().unwrap_or("you");
        write!(f, "{who} may not {} {}", self.verb, self.resource)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}")?,
            None => {
                f.write_str(" in the whole cluster (with -n NAMESPACE one namespace is enough, where a verb takes it)")?
            }
        }
        f.write_str(self.remedy())
    }
}
