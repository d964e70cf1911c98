//! What an error of the Kubernetes API means for the one who made the request.
//!
//! The client's error type says what went wrong on which layer. The controller needs to know something else: decide
//! afresh, give up, or wait. That is said here, once; nothing else looks into a [`kube::Error`].

use std::fmt;
use std::time::Duration;

use kube::core::Status;
use kube::core::response::reason;
use kube::runtime::watcher;

/// The cause that the API server gives when it refuses a creation because the namespace is being deleted.
///
/// Source: k8s.io/api/core/v1, NamespaceTerminatingCause.
const NAMESPACE_TERMINATING: &str = "NamespaceTerminating";

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiFailure {
    /// The object has changed since it was read, or another object has taken its name: decide afresh from a newer
    /// read, never send the same again. Nothing was written.
    Conflict,
    /// An object of that name exists already. Nothing was written.
    AlreadyExists,
    /// There is no such object, or no such resource or namespace. Nothing was written.
    NotFound,
    /// The resource version is too old to watch or to page on from: list again.
    Expired,
    /// The namespace is being deleted and takes no new objects. Nothing was written.
    NamespaceTerminating,
    /// The rights are missing, a policy or quota forbids it, or the token isn't accepted: it helps only to wait for
    /// somebody to grant it. Nothing was written.
    Forbidden,
    /// The API server doesn't take the request as it stands; the same again can't succeed. Nothing was written.
    Invalid,
    /// The answer was not understood. A write may have happened.
    Unreadable,
    /// The API server or the network had no answer; the same may succeed later. A write may have happened.
    Transient {
        /// The time that the API server asked us to wait.
        retry_after: Option<Duration>,
    },
}

impl ApiFailure {
    /// The value of the metrics' and logs' label; a bounded set.
    pub fn label(self) -> &'static str {
        match self {
            ApiFailure::Conflict => "conflict",
            ApiFailure::AlreadyExists => "already_exists",
            ApiFailure::NotFound => "not_found",
            ApiFailure::Expired => "expired",
            ApiFailure::NamespaceTerminating => "namespace_terminating",
            ApiFailure::Forbidden => "forbidden",
            ApiFailure::Invalid => "invalid",
            ApiFailure::Unreadable => "unreadable",
            ApiFailure::Transient { .. } => "transient",
        }
    }

    /// One of each kind.
    pub const ALL: [ApiFailure; 9] = [
        ApiFailure::Conflict,
        ApiFailure::AlreadyExists,
        ApiFailure::NotFound,
        ApiFailure::Expired,
        ApiFailure::NamespaceTerminating,
        ApiFailure::Forbidden,
        ApiFailure::Invalid,
        ApiFailure::Unreadable,
        ApiFailure::Transient { retry_after: None },
    ];
}

impl fmt::Display for ApiFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.label())
    }
}

/// Says what the failure of a request means.
pub fn classify(error: &kube::Error) -> ApiFailure {
    match error {
        kube::Error::Api(status) => classify_status(status),
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => ApiFailure::Invalid,
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::LinesCodecMaxLineLengthExceeded => {
            ApiFailure::Unreadable
        }
        // Connections, proxies, TLS and token files: what the operator or the network may yet put right.
        _ => ApiFailure::Transient { retry_after: None },
    }
}

/// Says what the failure of a watch means.
pub fn classify_watch(error: &watcher::Error) -> ApiFailure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => classify(error),
        watcher::Error::WatchError(status) => classify_status(status),
        watcher::Error::NoResourceVersion => ApiFailure::Unreadable,
    }
}

/// Says what the API server's own word for a failure means.
///
/// The reason goes before the code, as in Go's client (k8s.io/apimachinery/pkg/api/errors, reasonAndCodeForError); the
/// code counts where the answer comes from a proxy that gives no reason, or one that we don't know.
pub fn classify_status(status: &Status) -> ApiFailure {
    match status.reason.as_str() {
        reason::CONFLICT => ApiFailure::Conflict,
        reason::ALREADY_EXISTS => ApiFailure::AlreadyExists,
        reason::NOT_FOUND => ApiFailure::NotFound,
        reason::EXPIRED | reason::GONE => ApiFailure::Expired,
        reason::FORBIDDEN if names_cause(status, NAMESPACE_TERMINATING) => ApiFailure::NamespaceTerminating,
        reason::FORBIDDEN | reason::UNAUTHORIZED => ApiFailure::Forbidden,
        _ => match status.code {
            401 | 403 => ApiFailure::Forbidden,
            404 => ApiFailure::NotFound,
            409 => ApiFailure::Conflict,
            410 => ApiFailure::Expired,
            408 | 429 => ApiFailure::Transient { retry_after: retry_after(status) },
            400..=499 => ApiFailure::Invalid,
            _ => ApiFailure::Transient { retry_after: retry_after(status) },
        },
    }
}

fn names_cause(status: &Status, cause: &str) -> bool {
    status.details.iter().flat_map(|details| &details.causes).any(|named| named.reason == cause)
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as the API server writes it.
    fn status(code: u16, reason: &str, details: &str) -> Status {
        let text = format!(
            r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"m","reason":"{reason}","code":{code},"details":{details}}}"#
        );
        serde_json::from_str(&text).expect("a Status")
    }

    #[test]
    fn the_api_servers_reasons_are_told_apart() {
        let waits = ApiFailure::Transient { retry_after: Some(Duration::from_secs(3)) };
        let unknown = ApiFailure::Transient { retry_after: None };
        for (code, reason, details, expected) in [
            (409, "Conflict", "{}", ApiFailure::Conflict),
            (409, "AlreadyExists", "{}", ApiFailure::AlreadyExists),
            (404, "NotFound", "{}", ApiFailure::NotFound),
            (410, "Expired", "{}", ApiFailure::Expired),
            (410, "Gone", "{}", ApiFailure::Expired),
            (401, "Unauthorized", "{}", ApiFailure::Forbidden),
            (403, "Forbidden", "{}", ApiFailure::Forbidden),
            (403, "Forbidden", r#"{"causes":[{"reason":"NamespaceTerminating"}]}"#, ApiFailure::NamespaceTerminating),
            (422, "Invalid", "{}", ApiFailure::Invalid),
            (400, "BadRequest", "{}", ApiFailure::Invalid),
            (413, "RequestEntityTooLarge", "{}", ApiFailure::Invalid),
            (415, "UnsupportedMediaType", "{}", ApiFailure::Invalid),
            (429, "TooManyRequests", r#"{"retryAfterSeconds":3}"#, waits),
            (500, "ServerTimeout", r#"{"retryAfterSeconds":3}"#, waits),
            (500, "InternalError", "{}", unknown),
            (504, "Timeout", "{}", unknown),
            (503, "ServiceUnavailable", "{}", unknown),
        ] {
            assert_eq!(classify_status(&status(code, reason, details)), expected, "{code} {reason} {details}");
        }
    }

    #[test]
    fn a_proxys_answer_counts_by_its_code() {
        for (code, expected) in [
            (403, ApiFailure::Forbidden),
            (404, ApiFailure::NotFound),
            (409, ApiFailure::Conflict),
            (502, ApiFailure::Transient { retry_after: None }),
            (0, ApiFailure::Transient { retry_after: None }),
        ] {
            assert_eq!(classify_status(&status(code, "", "{}")), expected, "{code}");
            assert_eq!(classify_status(&status(code, "Failed to parse error data", "{}")), expected, "{code}");
        }
    }

    #[test]
    fn what_is_no_answer_may_have_happened() {
        let unreadable = serde_json::from_str::<Status>("<html>").expect_err("no JSON");
        assert_eq!(classify(&kube::Error::SerdeError(unreadable)), ApiFailure::Unreadable);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(classify(&kube::Error::Service(Box::new(refused))), ApiFailure::Transient { retry_after: None });
        assert_eq!(classify_watch(&watcher::Error::NoResourceVersion), ApiFailure::Unreadable);
    }
}
