//! What is read when many ask, and when answers take their time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::evidence::Question;
use super::fake_api::{Answer, Asked, FakeApi, page, pod_object, record_object, refusal, silence};
use super::live::Reader;
use super::objects::GroupKey;
use super::snapshot::{Asked as Subject, Owner, Pod, Record, RecordView, Snapshot, Workload};
use super::testing::{at, group, member, owner, pod, record, workload};
use super::watch::Cache;
use crate::api_error::ApiFailure;
use crate::metrics::ControllerMetrics;
use crate::migration::{Condition, ConditionStatus, ConditionType, Member, MigrationGateStatus};

/// A reader, what it teaches, and the API server that it asks.
fn reader(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Reader, Arc<Cache>, Arc<FakeApi>) {
    let (api, client) = FakeApi::new(answer);
    let cache = Arc::<Cache>::default();
    let metrics = Arc::new(ControllerMetrics::register(&mut Registry::default()));
    (Reader::new(client, Arc::clone(&cache), metrics), cache, api)
}

/// The group of one workload.
fn new_group(name: &str) -> Snapshot {
    let mut snapshot = group(MigrationGateStatus::default(), Vec::new());
    snapshot.name = format!("{name}.deployment");
    snapshot.workloads = vec![workload(name)];
    snapshot.record = RecordView::Present(Arc::new(record_of(name)));
    snapshot
}

fn record_of(name: &str) -> Record {
    let written = Condition {
        type_: ConditionType::Migrated,
        status: ConditionStatus::Unknown,
        observed_generation: None,
        last_transition_time: at(0),
        reason: "Unknown".to_owned(),
        message: String::new(),
    };
    let mut record = record(MigrationGateStatus { conditions: vec![written], ..MigrationGateStatus::default() });
    record.status.as_mut().expect("a status").workloads = vec![member(name)];
    let (uid, owners) = (format!("uid-of-record-of-{name}"), vec![owner(name)]);
    Record { name: format!("{name}.deployment"), uid, owners, ..record }
}

fn parameter<'a>(asked: &'a Asked, name: &str) -> Option<&'a str> {
    asked.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The page of a list that is asked for.
fn paged(asked: &Asked, all: &[Value]) -> Answer {
    let size: usize = parameter(asked, "limit").expect("nobody asks for all at once").parse().expect("a number");
    let start: usize = parameter(asked, "continue").map_or(0, |start| start.parse().expect("a number"));
    let end = (start + size).min(all.len());
    page(all[start..end].to_vec(), Some(end).filter(|end| *end < all.len()))
}

fn first_pages(api: &FakeApi) -> usize {
    api.asked(|asked| parameter(asked, "continue").is_none()).len()
}

#[tokio::test(start_paused = true)]
async fn new_groups_of_a_namespace_share_lists_and_get_what_concerns_them() {
    let groups: Vec<Snapshot> = (0..64).map(|at| new_group(&format!("new-{at}"))).collect();
    let own = groups.iter().map(|group| record_of(group.workloads[0].name.as_str()));
    // Of one that is made again under its name, and of one whose owner reference is all that is left.
    let elders = ["before-3", "before-5"].map(|name| {
        let mut elder = record_of(name);
        let before = Workload { uid: "before".to_owned(), ..workload(&name.replace("before", "new")) };
        let status = elder.status.as_mut().expect("a status");
        match name {
            "before-3" => status.workloads = vec![Member::of(&before)],
            _ => (status.workloads, elder.owners) = (Vec::new(), vec![Owner::of(&before)]),
        }
        elder
    });
    let others = (0..1000).map(|at| record_of(&format!("other-{at}")));
    let mut all: Vec<Value> = own.chain(elders).chain(others).map(|record| record_object("shop", &record)).collect();
    let mut broken = record_object("shop", &record_of("broken"));
    broken["status"]["lastAttempt"] = json!("nonsense");
    all.push(broken);
    let (reader, cache, api) = reader(move |asked| paged(asked, &all));
    let answers = join_all(groups.iter().map(|group| reader.answer(group, Question::Elders, None))).await;
    for (at, (group, answer)) in groups.iter().zip(answers).enumerate() {
        let answer = answer.expect("an answer");
        let RecordView::Present(record) = &group.record else { panic!("no record") };
        assert_eq!(answer.asked, Some(Subject::beside(record)));
        let elders = answer.elders.expect("elders");
        let concern = |record: &&Arc<Record>| {
            record.unreadable || record.electorate().any(|member| member.precedes(&group.workloads[0]))
        };
        let names: BTreeSet<&str> = elders.iter().filter(concern).map(|record| record.name.as_str()).collect();
        let elder = format!("before-{at}.deployment");
        let expected = ["broken.deployment"].into_iter().chain(Some(&*elder).filter(|_| at == 3 || at == 5));
        assert_eq!(names, expected.collect());
        assert!(elders.iter().all(|record| record.name != group.name), "it is not beside itself");
        assert!(elders.len() < 100, "the {} others are let go of", elders.len());
    }
    assert!(first_pages(&api) <= 2, "{} lists", first_pages(&api));
    let key = |name: &str| GroupKey { namespace: "shop".to_owned(), name: name.to_owned() };
    assert!(cache.index().record(&key("before-3.deployment")).is_some(), "a watch that is late is made up for");
    assert!(
        cache.index().record(&key("other-1.deployment")).is_none() && cache.index().record(&key("broken")).is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn pods_of_several_groups_come_in_one_list_and_each_group_gets_its_own() {
    let key = |at: usize| GroupKey { namespace: "shop".to_owned(), name: format!("new-{at}.deployment") };
    let pods = |at: usize| (0..at % 4).map(move |pod| format!("pod-{at}-{pod}"));
    let all: Vec<Value> = (0..200).flat_map(|at| pods(at).map(move |name| pod_object(&key(at), &pod(&name)))).collect();
    let (reader, _, api) = reader(move |asked| paged(asked, &all));
    let groups: Vec<Snapshot> = (0..64).map(|at| new_group(&format!("new-{at}"))).collect();
    let answers = join_all(groups.iter().map(|group| reader.answer(group, Question::Pods, None))).await;
    for (at, answer) in answers.into_iter().enumerate() {
        let found: Vec<Pod> = answer.expect("an answer").pods.expect("pods");
        assert_eq!(found.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>(), pods(at).collect::<Vec<_>>());
    }
    assert!(first_pages(&api) <= 2, "{} lists", first_pages(&api));
    let selectors = api.asked(|asked| asked.query.contains("new-63.deployment"));
    assert!(!selectors.is_empty(), "only the pods of those who ask are wanted");
}

#[tokio::test(start_paused = true)]
async fn each_page_of_a_list_has_its_own_time() {
    let key = GroupKey { namespace: "shop".to_owned(), name: "large.deployment".to_owned() };
    let all: Vec<Value> = (0..3000).map(|at| pod_object(&key, &pod(&at.to_string()))).collect();
    let (reader, ..) = reader(move |asked| (Duration::from_secs(10), paged(asked, &all).1));
    let start = Instant::now();
    let answer = reader.answer(&new_group("large"), Question::Pods, None).await.expect("an answer, in the end");
    assert_eq!(answer.pods.map(|pods| pods.len()), Some(3000));
    assert_eq!(start.elapsed(), Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_page_without_an_answer_or_that_is_refused_is_a_failure_of_the_list() {
    let (reader_of_silence, ..) = reader(|_| silence());
    let start = Instant::now();
    let failed = reader_of_silence.answer(&new_group("a"), Question::Elders, None).await.expect_err("no answer");
    assert_eq!(failed.failure, ApiFailure::Transient { retry_after: None });
    assert!(start.elapsed() <= Duration::from_secs(20), "{:?}", start.elapsed());
    // The state of the first page is not kept any more: half a list is none.
    let (reader, ..) = reader(|asked| match parameter(asked, "continue") {
        None => page(vec![record_object("shop", &record_of("a"))], Some(25)),
        Some(_) => refusal(410, "Expired"),
    });
    let failed = reader.answer(&new_group("a"), Question::Elders, None).await.expect_err("half a list");
    assert_eq!(failed.failure, ApiFailure::Expired);
}
