//! The page's parts, from snapshots as the controller has them.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::overview::{Chosen, Overview, PER_PAGE, Question};
use super::render;
use super::view::{Depth, Group, Mood, PODS};
use crate::contract::Outcome;
use crate::controller::index::Index;
use crate::controller::objects::GroupKey;
use crate::controller::snapshot::{AgentState, Exit, Live, Pod, Record, Snapshot, Unreadable};
use crate::controller::testing::{FP, OLD_FP, active, at, group, open, pod, record, uid, verdict, workload};
use crate::migration::{MigrationGateStatus, Phase};

const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&";

fn status(value: Value) -> MigrationGateStatus {
    serde_json::from_value(value).expect("a status")
}

fn attempt(number: u32, outcome: &str, from: i64, to: i64) -> Value {
    json!({ "number": number, "pod": format!("shop-{number}"), "outcome": outcome,
        "elected": at(from).to_string(), "recorded": at(to).to_string() })
}

fn migrated(phase: &str, attempts: Value) -> MigrationGateStatus {
    status(json!({ "phase": phase, "message": format!("migration {FP} says this"), "lastAttempt": 9, "migrations": [
        { "fingerprint": FP, "image": "shop:2", "command": "goose up", "phase": phase, "attempts": attempts }] }))
}

fn seen(snapshot: &Snapshot) -> Group {
    Group::of(snapshot, Depth::Whole, at(100))
}

/// Both pages of a group.
fn pages(snapshot: &Snapshot) -> String {
    let listed = Overview {
        question: Question::parse(""),
        counts: vec![(Mood::Held, 1)],
        pages: 1,
        moving: vec![Group::of(snapshot, Depth::Listed, at(100))],
        resting: vec![Group::of(snapshot, Depth::Listed, at(100))],
    };
    render::overview(&listed, at(100)).into_string() + &render::group(&seen(snapshot), at(100)).into_string()
}

#[test]
fn an_attempt_that_runs_ends_in_the_present() {
    let mut status = migrated("Running", json!([attempt(1, "Failed", 0, 20)]));
    status.active = Some(crate::migration::Active { elected_at: at(60), ..active("shop-a", 2) });
    let view = seen(&group(status, vec![pod("shop-a"), pod("shop-b"), open("shop-c")]));
    assert_eq!((view.mood, view.phase, view.waiting), (Mood::Running, Some(Phase::Running), 2));
    let line = view.timeline.expect("a line");
    assert_eq!((line.from, line.to, line.now), (at(0), at(100), Some(100.0)));
    let bars: Vec<_> = line.bars.iter().map(|bar| (bar.attempt, bar.left, bar.width)).collect();
    assert_eq!(bars, [(1, 0.0, 20.0), (2, 60.0, 40.0)]);
    assert_eq!(line.waiting, [(0.0, 2)]);
    let states: Vec<_> = view.pods.iter().map(|pod| (pod.name.as_str(), pod.state.as_str())).collect();
    assert_eq!(states, [("shop-a", "runs attempt 2"), ("shop-b", "waits, and could run it")]);
    assert_eq!(view.message, "says this");
}

#[test]
fn what_is_over_fills_its_line_however_long_its_pods_wait() {
    let tried = json!([attempt(1, "Failed", 40, 44), attempt(2, "Failed", 60, 64)]);
    let line = seen(&group(migrated("Failed", tried), vec![pod("shop-a")])).timeline.expect("a line");
    // The pod waits since 0: shown for as long as the attempts took, and no longer.
    assert_eq!(line.from, at(16));
    assert!(line.to > at(64) && line.to < at(68), "{:?}", line.to);
    assert_eq!(line.now, None);
}

#[test]
fn a_back_off_shows_when_it_ends() {
    let mut status = migrated("Pending", json!([attempt(1, "Failed", 90, 95)]));
    status.migrations[0].failures = 1;
    let view = seen(&group(status, vec![pod("shop-a")]));
    let line = view.timeline.expect("a line");
    assert_eq!((view.mood, view.next, line.from), (Mood::Waiting, Some(at(105)), at(75)));
    let (now, next) = line.now.zip(line.next).expect("both are on the line");
    assert!(80.0 < now && now < next && next < 97.0, "{line:?}");
}

#[test]
fn many_attempts_stay_on_the_line_and_many_pods_in_bounds() {
    let tried: Vec<Value> = (0..10).map(|n| attempt(n + 1, "Failed", i64::from(n) * 9, i64::from(n) * 9)).collect();
    let pods: Vec<Pod> = (0..10_000).map(|n| Pod { created: at(n % 90), ..pod(&format!("shop-{n}")) }).collect();
    let snapshot = group(migrated("Failed", json!(tried)), pods);
    let view = seen(&snapshot);
    let line = view.timeline.as_ref().expect("a line");
    assert!(line.bars.iter().all(|bar| bar.width > 0.0 && bar.left + bar.width <= 100.01), "{line:?}");
    assert!(line.waiting.len() <= 41, "{}", line.waiting.len());
    assert_eq!((view.waiting, view.pods.len()), (10_000, PODS));
    let html = pages(&snapshot);
    assert!(html.contains("10000 pods wait") && html.contains("and 9950 more"));
    assert!(html.len() < 60_000, "{}", html.len());
}

#[test]
fn a_log_is_the_records_or_what_a_pod_still_says() {
    let mut status = migrated("Succeeded", json!([attempt(1, "Failed", 0, 1), attempt(2, "Succeeded", 2, 3)]));
    status.migrations[0].attempts[0].log_tail = Some("no such table\n".to_owned());
    let told = |name: &str, attempt| Pod {
        agent: AgentState::Exited(Exit { tail: "1 applied".to_owned(), ..verdict(name, attempt, Outcome::Succeeded) }),
        ..open(name)
    };
    let view = seen(&group(status.clone(), vec![told("shop-2", 2)])).migration.expect("a migration");
    let tails: Vec<_> = view.attempts.iter().map(|attempt| attempt.tail.as_deref()).collect();
    assert_eq!(tails, [Some("no such table\n"), Some("1 applied")]);
    // Another pod of that name doesn't speak for it, nor does it speak of another attempt.
    let mut stranger = told("shop-2", 2);
    stranger.uid = uid("another");
    for pod in [stranger, told("shop-2", 3)] {
        let view = seen(&group(status.clone(), vec![pod])).migration.expect("a migration");
        assert_eq!(view.attempts[1].tail, None);
    }
}

/// Whatever can hold a text that somebody else chose holds a hostile one.
#[test]
fn every_text_is_escaped() {
    let hostile = |text: &str| format!("{text}{HOSTILE}");
    let mut status = migrated("Failed", json!([attempt(1, "Failed", 0, 10)]));
    status.message = Some(hostile("message"));
    let migration = &mut status.migrations[0];
    (migration.image, migration.command) = (hostile("image"), hostile("command"));
    migration.revision = Some(hostile("revision"));
    let tried = &mut migration.attempts[0];
    tried.pod = hostile("attempt-pod");
    (tried.node, tried.evidence) = (Some(hostile("node")), Some(hostile("evidence")));
    tried.log_tail = Some(format!("first\n{}", hostile("tail")));
    let mut other = status.migrations[0].clone();
    other.fingerprint = hostile("print");
    status.migrations.insert(0, other);
    let waits = Pod { node: Some(hostile("pod-node")), ..pod(&hostile("pod")) };
    let mut snapshot = group(status, vec![waits]);
    snapshot.workloads = vec![workload(&hostile("workload"))];
    (snapshot.namespace, snapshot.name) = (hostile("namespace"), hostile("name"));
    let order = json!({ "fingerprint": OLD_FP, "action": "Retry", "attempt": 1, "by": hostile("by"), "reason": hostile("reason") });
    snapshot.record_mut().overrides = vec![serde_json::from_value(order).expect("an order")];
    let mut question = Question::parse("");
    question.find = hostile("find");
    let asked = Overview { question, counts: Vec::new(), pages: 3, moving: Vec::new(), resting: Vec::new() };
    let moment = render::Moment { replica: hostile("replica"), leads: true, heard: None, now: at(0) };
    let html = render::document(&moment, &hostile("title"), Some(hostile("still")), &render::overview(&asked, at(0)));
    let html = html.into_string() + &pages(&snapshot);
    for what in [
        "message",
        "image",
        "command",
        "revision",
        "attempt-pod",
        "node",
        "evidence",
        "tail",
        "print",
        "pod-node",
        "pod",
        "workload",
        "namespace",
        "name",
        "by",
        "reason",
        "find",
        "replica",
        "title",
        "still",
    ] {
        assert!(html.contains(&format!("{what}&quot;'&gt;&lt;script&gt;")), "{what} is not shown");
    }
    for mark in ["<script>", "<img", "\"'>"] {
        assert!(!html.contains(mark), "{mark} in {html}");
    }
    // A strict policy forbids them, so that a page with one would be without it.
    for forbidden in [" style=", "<style", " onclick", "javascript:", "http://", "https://"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn a_group_without_a_good_record_is_shown_too() {
    let mut snapshot = group(MigrationGateStatus::default(), vec![pod("shop-a")]);
    snapshot.record = crate::controller::snapshot::RecordView::Missing;
    let view = seen(&snapshot);
    assert_eq!((view.mood, view.phase, view.message.as_str()), (Mood::Waiting, None, "it has no record yet"));
    let unreadable = Unreadable {
        name: "shop.deployment".to_owned(),
        uid: "u".to_owned(),
        resource_version: "1".to_owned(),
        created: at(0),
        why: "phase: unknown variant".to_owned(),
    };
    snapshot.record = crate::controller::snapshot::RecordView::Unreadable(unreadable);
    let view = seen(&snapshot);
    assert_eq!(view.mood, Mood::Held);
    assert!(view.message.ends_with("phase: unknown variant"), "{}", view.message);
    assert!(pages(&snapshot).contains("Unreadable"));
}

fn index(groups: impl IntoIterator<Item = (String, MigrationGateStatus)>) -> Index {
    let mut index = Index::default();
    for (name, status) in groups {
        let key = GroupKey { namespace: "shop".to_owned(), name: name.clone() };
        index.put_record(key, Record { uid: name.clone(), name, ..record(status) });
    }
    index
}

fn listed(index: &Index, query: &str, now: Timestamp) -> Overview {
    let chosen = Chosen::from(index, Question::parse(query), now);
    chosen.seen(|entry| Some(Group::of(&index.snapshot(&entry.key, Live::default())?, Depth::Listed, now)))
}

fn names(groups: &[Group]) -> Vec<&str> {
    groups.iter().map(|group| group.name.as_str()).collect()
}

#[test]
fn what_moves_comes_first_and_what_ended_lately_stays_there_for_a_while() {
    let ended = |to| migrated("Succeeded", json!([attempt(1, "Succeeded", 0, to)]));
    let index = index([
        ("a".to_owned(), ended(10)),
        ("b".to_owned(), ended(4000)),
        ("c".to_owned(), migrated("Failed", json!([attempt(1, "Failed", 0, 10)]))),
    ]);
    let list = listed(&index, "", at(4060));
    assert_eq!((names(&list.moving), names(&list.resting)), (vec!["b", "c"], vec!["a"]));
    assert_eq!(list.counts, [(Mood::Held, 1), (Mood::Running, 0), (Mood::Waiting, 0), (Mood::Rest, 2)]);
    let later = listed(&index, "", at(9000));
    assert_eq!((names(&later.moving), names(&later.resting)), (vec!["c"], vec!["a", "b"]));
    assert_eq!(names(&listed(&index, "show=rest&find=SHOP/B", at(9000)).resting), ["b"]);
    assert_eq!(render::overview_title(&list), "1 held – migration-gate");
}

#[test]
fn a_page_holds_a_hundred_groups_of_however_many() {
    let many = (0..250).map(|n| (format!("g{n:03}"), migrated("Failed", json!([attempt(1, "Failed", 0, 10)]))));
    let index = index(many);
    for (query, first, count) in
        [("", "g000", PER_PAGE), ("page=2", "g100", PER_PAGE), ("page=3", "g200", 50), ("page=99", "g200", 50)]
    {
        let list = listed(&index, query, at(20));
        assert_eq!((list.moving[0].name.as_str(), list.moving.len(), list.pages), (first, count, 3), "{query}");
    }
    let html = render::overview(&listed(&index, "page=2&show=held", at(20)), at(20)).into_string();
    for link in ["href=\"/?show=held\"", "href=\"/?show=held&amp;page=3\"", "page 2 of 3"] {
        assert!(html.contains(link), "{link} in {html}");
    }
    assert!(html.len() < 400_000, "{}", html.len());
}

#[test]
fn an_empty_cluster_says_how_to_begin() {
    let list = listed(&Index::default(), "", at(0));
    let html = render::overview(&list, at(0)).into_string();
    assert!(html.contains("migration-gate.dev/inject=enabled"), "{html}");
    assert!(
        render::overview(&listed(&Index::default(), "find=x", at(0)), at(0))
            .into_string()
            .contains("No group is like that")
    );
    assert_eq!(render::overview_title(&list), "migration-gate");
}

#[test]
fn addresses_are_read_as_they_are_written() {
    for address in ["/", "/?show=held", "/?find=a%26b+c", "/?page=3", "/?show=rest&find=x&page=2&still=1"] {
        let query = address.split_once('?').map_or("", |(_, query)| query);
        assert_eq!(Question::parse(query).address(), address);
    }
    assert_eq!(
        Question::parse("show=everything&page=-1&page=x&other=1&find=%FF"),
        Question { find: "\u{fffd}".to_owned(), page: 1, ..Question::default() }
    );
    assert_eq!(Question::parse(&format!("find={}", "x".repeat(5000))).find.len(), 100);
}

#[tokio::test]
async fn a_replica_that_has_not_read_everything_says_so() {
    let mut metrics = crate::metrics::Metrics::new();
    let source = super::Source {
        cache: std::sync::Arc::default(),
        synced: crate::controller::watch::Synced::default(),
        metrics: std::sync::Arc::new(crate::metrics::ControllerMetrics::register(metrics.registry())),
        leading: tokio::sync::watch::channel(false).1,
        replica: "a".to_owned(),
    };
    let router = super::router(source);
    let ask = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("infallible");
        assert!(answer.headers().contains_key("content-security-policy"), "{path}");
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    };
    for path in ["/", "/groups/shop/x", "/api/groups", "/api/groups/shop/x"] {
        let (status, text) = ask("GET", path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(text.contains("has not read the whole cluster yet"), "{path}: {text}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(ask(method, "/").await.0, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    assert_eq!(ask("GET", "/page.js").await.0, StatusCode::OK);
}
