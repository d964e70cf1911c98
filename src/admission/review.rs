//! The review: an AdmissionReview's bytes in, the answer's bytes out.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bumpalo::Bump;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Installation;
use super::arena::Arena;
use super::audit::{Mode, audited};
use super::canonical;
use super::decide::{Admission, Case, Decided, decide};
use super::denial::Denial;
use super::reader;
use super::warnings::Warning;
use super::workload::Workload;
use crate::group::WorkloadKind;

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
    /// Untouched, in a namespace that only wants to know what would be.
    Audited,
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
            Decision::Audited => "audited",
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

impl Operation {
    /// The operation as a review names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
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
pub fn review(body: &[u8], installation: &Installation, mode: Mode) -> Result<Answer, ReviewError> {
    let text = std::str::from_utf8(body).map_err(serde_json::Error::custom)?;
    // One pass reads what matters of the objects too. Where something can't be read, the review is read around them: the
    // denial must carry its UID.
    match reader::read::<Review<'_, Workload<'_>>>(text) {
        Ok(review) => answer(review, installation, mode, Ok),
        Err(_) => answer(serde_json::from_str::<Review<'_, &RawValue>>(text)?, installation, mode, |object| {
            Workload::read(object.get())
        }),
    }
}

/// How an object becomes a workload.
type Read<'a, O> = fn(O) -> Result<Workload<'a>, serde_json::Error>;

fn answer<'a, O>(
    review: Review<'a, O>,
    installation: &Installation,
    mode: Mode,
    read: Read<'a, O>,
) -> Result<Answer, ReviewError> {
    if (review.api_version.as_ref(), review.kind.as_ref()) != (REVIEW_API_VERSION, REVIEW_KIND) {
        let (api_version, kind) = (review.api_version.into_owned(), review.kind.into_owned());
        return Err(ReviewError::NotAReview { api_version, kind });
    }
    let mut request = review.request.ok_or(ReviewError::Missing("request"))?;
    if request.uid.is_empty() {
        return Err(ReviewError::Missing("request.uid"));
    }
    let bump = Bump::new();
    let arena = Arena(&bump);
    let decided = examine(&mut request, installation, read, arena);
    let decided = decided.unwrap_or_else(|denial| Admission::Deny(denial).into());
    let (decision, response) = match mode {
        Mode::Enforce => respond(&request.uid, &decided, arena),
        Mode::Audit => (Decision::Audited, Response::allowing(&request.uid, &audited(&decided, arena))),
    };
    let body = serde_json::to_vec(&ReviewResponse { api_version: REVIEW_API_VERSION, kind: REVIEW_KIND, response })?;
    let mut notes: Vec<String> = decided.warnings.iter().map(ToString::to_string).collect();
    if let Admission::Deny(denial) = &decided.admission {
        notes.push(denial.to_string());
    }
    Ok(Answer { body, decision, subject: request.into_subject(), notes })
}

/// Reads the objects and decides.
fn examine<'a, O>(
    request: &mut Request<O>,
    installation: &Installation,
    read: Read<'a, O>,
    arena: Arena<'a>,
) -> Result<Decided<'a>, Denial> {
    let Some(kind) = request.workload_kind() else { return Ok(Admission::Ignore.into()) };
    let object = request.object.take().ok_or_else(|| Denial::Unreadable("the request has no object".to_owned()))?;
    let new = read(object).map_err(|error| Denial::Unreadable(error.to_string()))?;
    // What it was before can't be held against it: an old object that can't be read is as good as none.
    let old = request.old_object.take().and_then(|object| read(object).ok());
    let case = Case { kind, is_update: request.operation == Operation::Update, old, new };
    Ok(decide(&case, installation, arena))
}

/// The answer that says what was decided.
fn respond<'a, 't>(uid: &'a str, decided: &Decided<'t>, arena: Arena<'t>) -> (Decision, Response<'a>) {
    let mut response = Response::allowing(uid, &decided.warnings);
    let (decision, rewrite) = match &decided.admission {
        Admission::Ignore => (Decision::Ignored, None),
        Admission::Keep => (Decision::Kept, None),
        Admission::AdmitUngated => (Decision::Ungated, None),
        Admission::Restore(rewrite) => (Decision::Kept, Some(rewrite)),
        Admission::Inject(rewrite) => (Decision::Injected, Some(rewrite)),
        Admission::Strip(rewrite) => (Decision::Stripped, Some(rewrite)),
        Admission::Deny(denial) => {
            response.allowed = false;
            response.status = Some(Status {
                status: "Failure",
                message: denial.to_string(),
                reason: denial.reason(),
                code: denial.code(),
            });
            (Decision::Denied, None)
        }
    };
    if let Some(patch) = rewrite.and_then(|rewrite| rewrite.patch(arena)) {
        response.patch_type = Some("JSONPatch");
        response.patch = base64_text(&canonical::text(patch));
    }
    (decision, response)
}

/// The bytes in base64, as JSON. Nothing in it is to be escaped, so it is not looked through again for that.
fn base64_text(bytes: &str) -> Option<Box<RawValue>> {
    let mut text = String::with_capacity(bytes.len() / 3 * 4 + 6);
    text.push('"');
    BASE64_STANDARD.encode_string(bytes, &mut text);
    text.push('"');
    RawValue::from_string(text).ok()
}

const REVIEW_API_VERSION: &str = "admission.k8s.io/v1";
const REVIEW_KIND: &str = "AdmissionReview";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a, O> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    request: Option<Request<O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<O> {
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
    object: Option<O>,
    old_object: Option<O>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

impl<O> Request<O> {
    /// The kind of workload that is created or changed; `None` for all that doesn't concern us.
    fn workload_kind(&self) -> Option<WorkloadKind> {
        let changes = matches!(self.operation, Operation::Create | Operation::Update) && self.sub_resource.is_empty();
        let Kind { group, version, kind } = &self.kind;
        if changes { WorkloadKind::of(&format!("{group}/{version}"), kind) } else { None }
    }

    fn into_subject(self) -> Subject {
        Subject {
            uid: self.uid,
            kind: self.kind.kind,
            namespace: self.namespace,
            name: self.name,
            operation: Some(self.operation),
            dry_run: self.dry_run,
        }
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl<'a> Response<'a> {
    fn allowing(uid: &'a str, warnings: &[Warning]) -> Response<'a> {
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Response { uid, allowed: true, status: None, patch_type: None, patch: None, warnings }
    }
}

/// Why a workload is refused, as the API says it.
#[derive(Serialize)]
struct Status {
    status: &'static str,
    message: String,
    reason: &'static str,
    code: u16,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
