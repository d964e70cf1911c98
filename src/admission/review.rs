//! The review: an AdmissionReview's bytes in, the answer's bytes out.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Installation;

/// The answer to a review.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The AdmissionReview to send back, as JSON.
    pub body: Vec<u8>,
    /// What was decided, for counting.
    pub decision: Decision,
    /// What it was decided about, for the log.
    pub subject: Subject,
    /// Why it was decided: the denial's sentence, or the warnings.
    pub notes: Vec<String>,
}

/// What was decided about a review: a small, fixed set, fit for a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Not a workload that could be gated, or an operation that changes none: untouched.
    Ignored,
    /// The gate and the migration were added, or renewed.
    Injected,
    /// What the template has is kept, or put back as it was.
    Kept,
    /// The gate and the migration were taken out.
    Stripped,
    /// Admitted without a gate although it is labelled, with a warning.
    Ungated,
    /// Refused.
    Denied,
}

impl Decision {
    /// The decision in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Ignored => "ignored",
            Decision::Injected => "injected",
            Decision::Kept => "kept",
            Decision::Stripped => "stripped",
            Decision::Ungated => "ungated",
            Decision::Denied => "denied",
        }
    }
}

/// The operation that is reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of an object, by update, patch or apply.
    Update,
    /// A deletion.
    Delete,
    /// A connection to a subresource.
    Connect,
}

/// What a review is about, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The request's UID.
    pub uid: String,
    /// The object's kind.
    pub kind: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name; empty if it is still to be generated.
    pub name: String,
    /// The operation.
    pub operation: Option<Operation>,
    /// Nothing will be persisted.
    pub dry_run: bool,
}

/// The bytes aren't an AdmissionReview that can be answered. There is no UID to answer to, so this is an HTTP 400.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, or not of this shape.
    #[error("the body is not an AdmissionReview: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another kind or version of object.
    #[error("the body is {api_version} {kind}, and must be admission.k8s.io/v1 AdmissionReview")]
    NotAReview {
        /// The apiVersion that was found.
        api_version: String,
        /// The kind that was found.
        kind: String,
    },
    /// A review without a request, or a request without a UID.
    #[error("the AdmissionReview has no {0}")]
    Missing(&'static str),
}

/// Answers one review.
///
/// # Errors
/// If the bytes aren't an AdmissionReview of v1 with a request and a UID. Whatever the object in it looks like, there
/// is an answer.
pub fn review(body: &[u8], installation: &Installation) -> Result<Answer, ReviewError> {
    let _ = installation;
    let review: Review<'_> = serde_json::from_slice(body)?;
    if (review.api_version.as_str(), review.kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(ReviewError::NotAReview { api_version: review.api_version, kind: review.kind });
    }
    let request = review.request.ok_or(ReviewError::Missing("request"))?;
    if request.uid.is_empty() {
        return Err(ReviewError::Missing("request.uid"));
    }
    let response = Response { uid: &request.uid, allowed: true };
    let body =
        serde_json::to_vec(&ReviewResponse { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response })?;
    let subject = Subject {
        uid: request.uid,
        kind: request.kind.kind,
        namespace: request.namespace,
        name: request.name,
        operation: Some(request.operation),
        dry_run: request.dry_run,
    };
    let _ = (request.object, request.old_object, request.sub_resource, request.kind.group, request.kind.version);
    Ok(Answer { body, decision: Decision::Ignored, subject, notes: Vec::new() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(default)]
    uid: String,
    kind: Kind,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    operation: Operation,
    #[serde(default)]
    dry_run: bool,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewResponse<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
