//! What the loop does with what its writes and reads come to: with an API server that answers as each test wants it to,
//! and a clock that passes when nobody is busy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::runtime::events::{Recorder, Reporter};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fake_api::{Answer, Asked, FakeApi, object, pod_object, record_object, refusal, silence};
use super::objects::GroupKey;
use super::snapshot::{AgentState, Exit, Node, Pod, PodPhase, Record};
use super::testing::{
    FP, RULES, node, pod, record, runner, running, silence as silent_end, succeeded, uid, verdict, workload,
};
use super::watch::{Cache, Synced};
use super::{apply, live, tell, work};
use crate::contract::{Outcome, annotation};
use crate::metrics::ControllerMetrics;
use crate::migration::MigrationGateStatus;
use crate::supervise::{Sentence, Shutdown};

const GROUP: &str = "shop.deployment";

fn key() -> GroupKey {
    GroupKey { namespace: "shop".to_owned(), name: GROUP.to_owned() }
}

/// A worker that may lead, what it knows, and the API server that it talks to.
struct World {
    cache: Arc<Cache>,
    api: Arc<FakeApi>,
    registry: Registry,
    leading: watch::Sender<bool>,
    shutdown: Shutdown,
    working: JoinHandle<Result<(), Sentence>>,
    versions: Arc<AtomicU64>,
}

impl World {
    /// A world whose API server answers some requests like that, and takes the others.
    fn new(answer: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> World {
        let (cache, versions) = (Arc::<Cache>::default(), Arc::new(AtomicU64::new(1000)));
        let (api, client) = FakeApi::new({
            let (cache, versions) = (Arc::clone(&cache), Arc::clone(&versions));
            move |asked| answer(asked).unwrap_or_else(|| taken(&cache, &versions, asked))
        });
        let mut registry = Registry::default();
        let metrics = Arc::new(ControllerMetrics::register(&mut registry));
        let reporter = Reporter { controller: "test".to_owned(), instance: None };
        let worker = work::Worker {
            cache: Arc::clone(&cache),
            writer: apply::Writer { client: client.clone(), cache: Arc::clone(&cache), metrics: Arc::clone(&metrics) },
            reader: live::Reader::new(client.clone(), Arc::clone(&cache), Arc::clone(&metrics)),
            teller: tell::Teller { recorder: Recorder::new(client, reporter), metrics, traces: None },
            rules: RULES,
        };
        let (leading, shutdown, synced) = (watch::Sender::new(false), Shutdown::new(), Synced::default());
        (0..5).for_each(|_| synced.one_more());
        let working = tokio::spawn(worker.run(synced, leading.subscribe(), shutdown.clone()));
        let world = World { cache, api, registry, leading, shutdown, working, versions };
        world.cache.update(|index| index.put_node("node-1".to_owned(), node()));
        world.cache.update(|index| index.put_workload(key(), workload("shop")));
        world
    }

    fn see(&self, pod: Pod) {
        self.cache.update(|index| index.put_pod(key(), pod));
    }

    fn see_record(&self, status: MigrationGateStatus) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed).to_string();
        self.cache.update(|index| index.put_record(key(), Record { resource_version: version, ..record(status) }));
    }

    fn lead(&self) {
        self.leading.send_replace(true);
    }

    fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("memory");
        let value = text.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in {text}")).parse().expect("a number")
    }

    fn patches(&self, name: &str) -> Vec<Asked> {
        self.api.asked(|asked| asked.is("PATCH", &format!("/pods/{name}/status")))
    }

    fn status_writes(&self) -> usize {
        self.api.asked(|asked| asked.is("PATCH", "/migrationgates/shop.deployment/status")).len()
    }

    /// The reasons of the events that were published.
    fn events(&self) -> Vec<String> {
        let events = self.api.asked(|asked| asked.is("POST", "/events"));
        events.iter().map(|event| event.body["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// It ends well.
    async fn end(self) {
        self.shutdown.request();
        self.working.await.expect("no panic").expect("no error");
    }
}

/// What an API server answers that takes everything.
fn taken(cache: &Cache, versions: &AtomicU64, asked: &Asked) -> Answer {
    let version = versions.fetch_add(1, Ordering::Relaxed).to_string();
    let name = asked.path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default().to_owned();
    if asked.path.contains("/pods/") && asked.method == "PATCH" {
        let opens = asked.body["metadata"]["annotations"][annotation::OPENED].is_string();
        let pod = Pod { resource_version: version, passed: opens, gate_open: opens, ..pod(&name) };
        return object(pod_object(&key(), &pod));
    }
    if asked.path.contains("/migrationgates/") && asked.method == "PATCH" {
        let mut known = Record::clone(cache.index().record(&key()).expect("a record"));
        known.resource_version = version;
        known.status = status_in(asked).or(known.status);
        if let Some(finalizers) = asked.body["metadata"].get("finalizers") {
            known.finalizers = serde_json::from_value(finalizers.clone()).expect("finalizers");
        }
        return object(record_object("shop", &known));
    }
    object(asked.body.clone())
}

/// The status that a request writes.
fn status_in(asked: &Asked) -> Option<MigrationGateStatus> {
    let writes = asked.is("PATCH", "/migrationgates/shop.deployment/status");
    let steps = asked.body.as_array().filter(|_| writes)?;
    let status = steps.iter().find(|step| step["path"] == "/status")?;
    Some(serde_json::from_value(status["value"].clone()).expect("a status"))
}

/// A pod that is seen again, with something new.
fn seen_again(name: &str, times: u32) -> Pod {
    Pod { agent_restarts: times, resource_version: (10 + times).to_string(), ..pod(name) }
}

fn is_pass(asked: &Asked, name: &str) -> bool {
    asked.is("PATCH", &format!("/pods/{name}/status"))
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_refused_is_repeated_at_its_own_pace_and_holds_up_no_other_pod() {
    let world = World::new(|asked| is_pass(asked, "refused").then(|| refusal(403, "Forbidden")));
    world.see_record(succeeded(FP));
    world.see(pod("refused"));
    world.lead();
    // A rollout: 300 events in 30 seconds, every tenth of them a new pod.
    for event in 0..300 {
        world.see(seen_again("refused", event));
        if event % 10 == 0 {
            world.see(pod(&format!("new-{event}")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let last = event / 10 * 10;
        assert_eq!(world.patches(&format!("new-{last}")).len(), 1, "it opens at once");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // 0.1 s doubling to 10 s: seven in the first ten seconds, at the most, and one in 5.6 afterwards.
    let refused = world.patches("refused").len();
    assert!((5..=12).contains(&refused), "{refused} requests in 30 s");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let later = world.patches("refused").len() - refused;
    assert!((25..=54).contains(&later), "{later} requests in 300 quiet seconds");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_just_gone_is_not_tried_again_and_again() {
    let world = World::new(|asked| is_pass(asked, "gone").then(|| refusal(404, "NotFound")));
    world.see_record(succeeded(FP));
    world.see(pod("gone"));
    world.lead();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tries = world.patches("gone").len();
    assert!((4..=9).contains(&tries), "{tries}");
    world.cache.update(|index| index.end_pod(&uid("gone"), "99", 0));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.patches("gone").len(), tries, "the watch said that it went");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_is_not_asked_again_with_each_event() {
    let world = World::new(|asked| {
        let lease = json!({ "metadata": { "name": "node-1", "namespace": "kube-node-lease", "resourceVersion": "5" } });
        let node = json!({
            "metadata": { "name": "node-1", "uid": uid("node-1") },
            "spec": { "taints": [{ "key": "node.kubernetes.io/out-of-service" }] },
            "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] },
        });
        match asked {
            _ if asked.is("GET", "/leases/node-1") => Some(object(lease)),
            _ if asked.is("GET", "/nodes/node-1") => Some(object(node)),
            _ if asked.is("GET", "/pods/a") => Some(object(pod_object(&key(), &pod("a")))),
            _ => None,
        }
    });
    let down = Node { ready: false, out_of_service: true, ..node() };
    world.cache.update(|index| index.put_node("node-1".to_owned(), down));
    world.see_record(running("a", 1));
    world.see(runner("a", 1));
    world.lead();
    for event in 0..300 {
        world.see(seen_again("b", event));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = world.api.asked(|asked| asked.is("GET", "/nodes/node-1")).len();
    assert!((5..=15).contains(&asked), "{asked} times in 30 s");
    world.end().await;
}

/// A group whose runner has failed, and in which an earlier runner is not settled yet.
fn failed_beside_a_leftover(world: &World) {
    world.see_record(running("a", 3));
    world.see(Pod { agent: AgentState::Exited(verdict("a", 3, Outcome::Failed)), ..runner("a", 3) });
    world.see(runner("left", 2));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_told_although_another_write_of_the_same_decision_failed() {
    let world = World::new(|asked| is_pass(asked, "left").then(|| refusal(409, "Conflict")));
    failed_beside_a_leftover(&world);
    world.lead();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!world.patches("left").is_empty(), "it was tried in the same decision");
    assert_eq!(world.events().iter().filter(|reason| *reason == "MigrationFailed").count(), 1);
    assert_eq!(world.metric(r#"attempts_total{outcome="failed"}"#), 1);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_not_recorded_is_not_told() {
    let world = World::new(|asked| asked.path.contains("/migrationgates/").then(|| refusal(409, "Conflict")));
    failed_beside_a_leftover(&world);
    world.lead();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.status_writes() > 2 && !world.patches("left").is_empty(), "both were tried");
    assert_eq!(world.events(), Vec::<String>::new());
    assert_eq!(world.metric(r#"attempts_total{outcome="failed"}"#), 0);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_whose_answer_was_lost_is_told_when_it_shows() {
    let written = Arc::new(Mutex::new(Vec::<MigrationGateStatus>::new()));
    let world = World::new({
        let written = Arc::clone(&written);
        move |asked| {
            let status = status_in(asked)?;
            let mut written = written.lock().expect("nobody panicked");
            let first = written.is_empty();
            written.push(status);
            Some(if first { refusal(500, "InternalError") } else { refusal(409, "Conflict") })
        }
    });
    failed_beside_a_leftover(&world);
    world.lead();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.events(), Vec::<String>::new(), "nobody knows yet");
    let first = written.lock().expect("nobody panicked").first().cloned().expect("a write");
    world.see_record(first.clone());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told = |world: &World| world.events().iter().filter(|reason| *reason == "MigrationFailed").count();
    assert_eq!(told(&world), 1);
    assert_eq!(world.metric(r#"attempts_total{outcome="failed"}"#), 1);
    world.see_record(MigrationGateStatus { waiting: 7, ..first });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(told(&world), 1, "once");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_never_comes_to_rest_is_slowed_down() {
    // It takes each status, and forgets what is in it.
    let versions = AtomicU64::new(5000);
    let world = World::new(move |asked| {
        let forgotten = MigrationGateStatus { migrations: Vec::new(), ..running("a", 1) };
        let status = MigrationGateStatus { conditions: status_in(asked)?.conditions, ..forgotten };
        let resource_version = versions.fetch_add(1, Ordering::Relaxed).to_string();
        Some(object(record_object("shop", &Record { resource_version, ..record(status) })))
    });
    world.see_record(running("a", 1));
    world.see(Pod { agent: AgentState::Exited(verdict("a", 1, Outcome::Failed)), ..runner("a", 1) });
    world.lead();
    for event in 0..600 {
        world.see(seen_again("b", event));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let writes = world.status_writes();
    assert!((64..=32 * 17).contains(&writes), "{writes} writes in a minute");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_without_an_answer_keeps_nobody_from_letting_go_of_the_lead() {
    let world = World::new(|asked| asked.is("GET", "/pods").then(silence));
    world
        .cache
        .update(|index| index.put_record(key(), Record { status: None, ..record(MigrationGateStatus::default()) }));
    world.lead();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.api.asked(|asked| asked.is("GET", "/pods")).len(), 1, "its pods are asked for");
    let start = tokio::time::Instant::now();
    world.end().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_gate_takes_no_longer_to_open_because_nobody_led_before() {
    let world = World::new(|_| None);
    world.see_record(succeeded(FP));
    world.see(pod("a"));
    tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    world.lead();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.metric("gates_opened_total"), 1);
    assert_eq!(world.metric(r#"gate_opening_seconds_bucket{le="1.0"}"#), 1);
    world.end().await;
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panicked")).matches(text).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_record_can_tell_of_is_logged_once_until_its_reason_changes() {
    let log = Log::default();
    let writer = {
        let log = log.clone();
        move || log.clone()
    };
    let _logging = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(writer).finish());
    let world = World::new(|asked| asked.is("GET", "/nodes/node-1").then(|| refusal(404, "NotFound")));
    let lost = |times| {
        let agent = AgentState::Exited(Exit { real: false, ..silent_end() });
        Pod {
            phase: PodPhase::Ended,
            agent,
            held: true,
            ..Pod { signal: runner("a", 1).signal, ..seen_again("a", times) }
        }
    };
    world.see(lost(0));
    world.cache.update(|index| {
        index.refuse_record(&key());
        vec![key()]
    });
    world.lead();
    for times in 1..100 {
        world.see(lost(times));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(log.count("a pod is held until an operator decides"), 1);
    world.see(Pod { phase: PodPhase::Collected, ..lost(100) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(log.count("a pod is held until an operator decides"), 2, "declared failed by another");
    world.end().await;
}
