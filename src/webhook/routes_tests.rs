//! Tests of the routes without sockets.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::http::{HeaderMap, Method};
use futures::stream;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::*;
use crate::admission::Subject;
use crate::metrics::Metrics;

/// Answers with the body's length; what the body says makes it fail.
fn echo(body: &[u8], _: Mode) -> Result<Answer, ReviewError> {
    match body {
        b"bad" => Err(ReviewError::Missing("sense")),
        b"panic" => panic!("a defect"),
        _ => Ok(Answer {
            body: body.len().to_string().into_bytes(),
            decision: Decision::Kept,
            subject: Subject::default(),
            notes: Vec::new(),
        }),
    }
}

const SMALL: BodyLimits = BodyLimits {
    body: 1000,
    ordinary: 100,
    ordinary_total: 200,
    large_total: 1000,
    room: Duration::from_secs(3),
    protected: Duration::from_secs(1),
    arrival: Duration::from_secs(10),
};

fn webhook() -> (Router, Arc<WebhookMetrics>) {
    let metrics = Arc::new(WebhookMetrics::register(Metrics::new().registry()));
    (router(echo, SMALL, metrics.clone()), metrics)
}

fn post(body: Body) -> Request<Body> {
    Request::post(PATH).header(header::CONTENT_TYPE, "application/json").body(body).expect("a request")
}

/// A body of unknown length, whose pieces come when the test sends them.
fn slow() -> (mpsc::UnboundedSender<Bytes>, Request<Body>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let pieces = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (Ok::<_, Infallible>(piece), receiver))
    });
    (sender, post(Body::from_stream(pieces)))
}

async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let answer = router.clone().oneshot(request).await.expect("infallible");
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    (head.status, head.headers, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn a_review_is_answered_in_json() {
    let (router, metrics) = webhook();
    for content_type in ["application/json", "Application/JSON; charset=utf-8", " application/json ;x"] {
        let mut request = post(Body::from("{}"));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let (status, headers, text) = answer(&router, request).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "2"), "{content_type}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    }
    assert_eq!(metrics.admissions.of(AdmissionResult::Decided(Decision::Kept)).get(), 3);
}

#[tokio::test]
async fn what_is_no_review_gets_a_status_and_a_sentence() {
    let (router, metrics) = webhook();
    let mut yaml = post(Body::from("a: b"));
    yaml.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
    let mut bare = post(Body::from("{}"));
    bare.headers_mut().remove(header::CONTENT_TYPE);
    let chunked = Body::from_stream(stream::iter((0..11).map(|_| Ok::<_, Infallible>(Bytes::from(vec![b' '; 100])))));
    for (request, expected, said) in [
        (post(Body::from("bad")), 400, "has no sense"),
        (post(Body::from("panic")), 500, "a defect"),
        (yaml, 415, "application/json, not 'application/yaml'"),
        (bare, 415, "application/json, not ''"),
        (post(Body::from(vec![b' '; 1001])), 413, "more than 1000 bytes"),
        (post(chunked), 413, "more than 1000 bytes"),
        (post(Body::from_stream(stream::iter([Err::<Bytes, _>("cut")]))), 400, "cut"),
    ] {
        let (status, _, text) = answer(&router, request).await;
        assert_eq!(status.as_u16(), expected, "{text}");
        assert!(text.contains(said), "{said} in {text}");
    }
    assert_eq!(metrics.admissions.of(AdmissionResult::Malformed).get(), 6);
    assert_eq!(metrics.admissions.of(AdmissionResult::Failed).get(), 1);
    for (method, path, expected) in [(Method::GET, PATH, 405), (Method::PUT, PATH, 405), (Method::POST, "/", 404)] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        assert_eq!(answer(&router, request).await.0.as_u16(), expected);
    }
}

#[tokio::test]
async fn pieces_are_put_together() {
    let (router, _) = webhook();
    for (declared, pieces) in [(6, vec!["abc", "def"]), (6, vec!["a", "", "bcd", "ef"]), (300, vec!["x"; 300])] {
        let (sender, request) = slow();
        for piece in pieces {
            sender.send(Bytes::from(piece)).expect("an open body");
        }
        drop(sender);
        assert_eq!(answer(&router, request).await.2, declared.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_given_up() {
    let (router, _) = webhook();
    let (_sender, request) = slow();
    let (status, _, text) = answer(&router, request).await;
    assert_eq!((status, text.as_str()), (StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 10 s\n"));
}

#[tokio::test(start_paused = true)]
async fn large_bodies_wait_for_each_other() {
    let (router, metrics) = webhook();
    let (holder, first) = slow();
    let first = spawn(&router, first);
    tokio::task::yield_now().await;
    let second = spawn(&router, post(Body::from(vec![b' '; 500])));
    // Ordinary ones don't wait for either.
    assert_eq!(answer(&router, post(Body::from(vec![b' '; 100]))).await.0, StatusCode::OK);
    holder.send(Bytes::from(vec![b' '; 900])).expect("an open body");
    drop(holder);
    assert_eq!(first.await.expect("no panic").2, "900");
    assert_eq!(second.await.expect("no panic").2, "500");
    assert_eq!(metrics.admissions.of(AdmissionResult::Overloaded).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_given_up_for_others() {
    let (router, metrics) = webhook();
    let start = tokio::time::Instant::now();
    let (_holder, stopped) = slow();
    let stopped = spawn(&router, stopped);
    tokio::task::yield_now().await;
    assert_eq!(answer(&router, post(Body::from(vec![b' '; 500]))).await.2, "500");
    let waited = start.elapsed();
    assert!(waited >= SMALL.protected && waited < 2 * SMALL.protected, "{waited:?}");
    let (status, headers, _) = stopped.await.expect("no panic");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers[header::RETRY_AFTER], "1");
    assert_eq!(metrics.admissions.of(AdmissionResult::Overloaded).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn ordinary_bodies_pay_for_what_has_come() {
    let metrics = Arc::new(WebhookMetrics::register(Metrics::new().registry()));
    let router = router(echo, BodyLimits { body: 100, ..SMALL }, metrics);
    // Ten that declare 100 bytes each, of which 200 may be there at a time, and have sent one.
    let slow: Vec<_> = std::iter::repeat_with(slow).take(10).collect();
    let (senders, requests): (Vec<_>, Vec<_>) = slow.into_iter().unzip();
    let answers: Vec<_> = requests.into_iter().map(|request| spawn(&router, request)).collect();
    for sender in &senders {
        sender.send(Bytes::from_static(b"x")).expect("an open body");
    }
    tokio::task::yield_now().await;
    let start = tokio::time::Instant::now();
    assert_eq!(answer(&router, post(Body::from(vec![b' '; 100]))).await.2, "100");
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(senders);
    for answer in answers {
        assert_eq!(answer.await.expect("no panic").2, "1");
    }
}

type Answered = (StatusCode, HeaderMap, String);

fn spawn(router: &Router, request: Request<Body>) -> tokio::task::JoinHandle<Answered> {
    let router = router.clone();
    tokio::spawn(async move { answer(&router, request).await })
}
