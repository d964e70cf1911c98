//! The trace of a rollout, as a collector gets it.

mod support;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use support::controller::{Controller, FINGERPRINT, World};
use support::eventually;

/// What a collector took in: the names of the services, and the spans.
#[derive(Default)]
struct Taken {
    services: Vec<String>,
    spans: Vec<Span>,
}

type Collector = Arc<Mutex<Taken>>;

async fn take(State(collector): State<Collector>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut taken = collector.lock().expect("nobody panicked");
    for part in request.resource_spans {
        let resource = part.resource.unwrap_or_default();
        let names = resource.attributes.iter().filter(|attribute| attribute.key == "service.name");
        taken.services.extend(names.map(|name| format!("{:?}", name.value)));
        taken.spans.extend(part.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    StatusCode::OK
}

#[tokio::test]
async fn a_rollout_is_one_trace_from_its_first_pod_to_its_last_gate() {
    let world = World::boot("t-traces").await;
    let collector = Collector::default();
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&collector));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let controller = Controller::start_with(&world.cluster, "a", &["--otlp-endpoint", &endpoint]);
    world.deploy("orders", 3).await;
    world.agents_run("orders", 3).await;
    let (runner, attempt) = world.elected("orders").await;
    world.verdict(&runner, attempt, "failed").await;
    let rest = |span: &Span| span.name == "attempt";
    let failed = eventually("the failed attempt's span", async || {
        collector.lock().expect("nobody panicked").spans.iter().find(|span| rest(span)).cloned()
    })
    .await;
    assert_eq!(failed.status.as_ref().map(|status| status.code), Some(2), "an error: {failed:?}");

    let runner = eventually("the second attempt", async || {
        let (runner, attempt) = world.elected("orders").await;
        (attempt == 2).then_some(runner)
    })
    .await;
    world.verdict(&runner, 2, "succeeded").await;
    world.all_open("orders", 3).await;
    let spans = eventually("the rollout's span", async || {
        let taken = collector.lock().expect("nobody panicked");
        taken.spans.iter().any(|span| span.name == "rollout").then(|| taken.spans.clone())
    })
    .await;
    controller.end();
    serving.abort();

    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["run", "attempt", "run", "attempt", "wait", "rollout", "open"]);
    let rollout = spans.iter().find(|span| span.name == "rollout").expect("it was waited for");
    for span in &spans {
        assert_eq!(span.trace_id, rollout.trace_id, "one trace");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(span.attributes.iter().any(|attribute| format!("{:?}", attribute.value).contains(FINGERPRINT)));
        if !matches!(&span.name[..], "rollout" | "run") {
            assert_eq!(span.parent_span_id, rollout.span_id, "{span:?}");
        }
    }
    let taken = collector.lock().expect("nobody panicked");
    assert!(taken.services.iter().all(|name| name.contains("migration-gate-controller")), "{:?}", taken.services);
    world.cluster.down().expect("nothing is left behind");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_traces_and_nothing_else() {
    let world = World::boot("t-untraced").await;
    // Bound and never listened on: whoever connects is refused, and nobody else gets the port.
    let nobody = tokio::net::TcpSocket::new_v4().expect("a socket");
    nobody.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let endpoint = format!("http://{}", nobody.local_addr().expect("it is bound"));
    let controller = Controller::start_with(&world.cluster, "a", &["--otlp-endpoint", &endpoint]);
    world.deploy("orders", 2).await;
    world.agents_run("orders", 2).await;
    let (runner, attempt) = world.elected("orders").await;
    world.verdict(&runner, attempt, "succeeded").await;
    world.all_open("orders", 2).await;
    eventually("a complaint", async || controller.log().contains("takes no traces").then_some(())).await;
    controller.end();
    world.cluster.down().expect("nothing is left behind");
}
