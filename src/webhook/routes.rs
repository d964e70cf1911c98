//! `POST /mutate` and `POST /audit`: from a request to the answer of a review, whatever comes in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::Semaphore;

use super::body::{Bodies, BodyLimits, Held, Refused, Size};
use crate::admission::{Answer, Decision, Mode, Operation, ReviewError};
use crate::metrics::{AdmissionResult, WebhookMetrics};

/// The path that the webhook's configuration names.
pub const PATH: &str = "/mutate";

/// The path that it names for namespaces in audit mode.
pub const AUDIT_PATH: &str = "/audit";

/// The seconds after which the API server may ask again; its client heeds this header on a 503.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What reviews a body: a pure function, called on many threads at once.
pub trait Reviewer: Fn(&[u8], Mode) -> Result<Answer, ReviewError> + Send + Sync + 'static {}

impl<R: Fn(&[u8], Mode) -> Result<Answer, ReviewError> + Send + Sync + 'static> Reviewer for R {}

struct Webhook<R> {
    reviewer: R,
    bodies: Bodies,
    /// Held while a large body is reviewed: the review takes a multiple of the body's memory.
    large: Semaphore,
    metrics: Arc<WebhookMetrics>,
}

/// The webhook's routes.
pub fn router<R: Reviewer>(reviewer: R, limits: BodyLimits, metrics: Arc<WebhookMetrics>) -> Router {
    let webhook = Webhook { reviewer, bodies: Bodies::new(limits), large: Semaphore::new(1), metrics };
    let enforce = |state, request| answer::<R>(state, request, Mode::Enforce);
    let audit = |state, request| answer::<R>(state, request, Mode::Audit);
    Router::new().route(PATH, post(enforce)).route(AUDIT_PATH, post(audit)).with_state(Arc::new(webhook))
}

async fn answer<R: Reviewer>(State(webhook): State<Arc<Webhook<R>>>, request: Request<Body>, mode: Mode) -> Response {
    let start = Instant::now();
    let (result, answer) = match webhook.bodies.read(request).await {
        Ok(held) => webhook.review(held, mode).await,
        Err(refused) => refuse(&refused),
    };
    webhook.metrics.admissions.of(result).inc();
    webhook.metrics.duration.observe(start.elapsed());
    answer
}

impl<R: Reviewer> Webhook<R> {
    async fn review(self: &Arc<Self>, held: Held, mode: Mode) -> (AdmissionResult, Response) {
        match held.size {
            Size::Ordinary => self.review_now(&held, mode),
            Size::Large => {
                // The semaphore is never closed.
                let _turn = self.large.acquire().await;
                let webhook = self.clone();
                // It may take some milliseconds, in which this thread could serve a hundred ordinary ones.
                let reviewed = tokio::task::spawn_blocking(move || webhook.review_now(&held, mode)).await;
                reviewed.unwrap_or_else(|_| defect())
            }
        }
    }

    /// Reviews a body. A panic on the way is a defect, but no reason to break the connection: the API server is told,
    /// and by its failure policy refuses the object.
    fn review_now(&self, held: &Held, mode: Mode) -> (AdmissionResult, Response) {
        match catch_unwind(AssertUnwindSafe(|| (self.reviewer)(&held.bytes, mode))) {
            Ok(Ok(answer)) => {
                log(&answer);
                let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                (AdmissionResult::Decided(answer.decision), ([content_type], answer.body).into_response())
            }
            Ok(Err(error)) => {
                tracing::warn!(status = 400, reason = %error, "request refused");
                (AdmissionResult::Malformed, (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response())
            }
            Err(_) => defect(),
        }
    }
}

/// One line for each review; what changed nothing is for those who ask for it.
fn log(answer: &Answer) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                uid = answer.subject.uid,
                kind = answer.subject.kind,
                namespace = answer.subject.namespace,
                workload = answer.subject.name,
                operation = answer.subject.operation.map(Operation::as_str),
                dry_run = answer.subject.dry_run,
                decision = answer.decision.as_str(),
                notes = answer.notes.join("; "),
                "reviewed"
            )
        };
    }
    match answer.decision {
        Decision::Ignored | Decision::Kept => line!(debug),
        Decision::Injected | Decision::Stripped | Decision::Audited => line!(info),
        Decision::Ungated | Decision::Denied => line!(warn),
    }
}

fn defect() -> (AdmissionResult, Response) {
    let text = "migration-gate failed on this review, which is a defect; its log has the reason\n";
    (AdmissionResult::Failed, (StatusCode::INTERNAL_SERVER_ERROR, text).into_response())
}

fn refuse(refused: &Refused) -> (AdmissionResult, Response) {
    let status = refused.status();
    tracing::warn!(status = status.as_u16(), reason = %refused, "request refused");
    let mut answer = (status, format!("{refused}\n")).into_response();
    let result = match refused {
        Refused::NoRoom => {
            answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            AdmissionResult::Overloaded
        }
        _ => AdmissionResult::Malformed,
    };
    (result, answer)
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
