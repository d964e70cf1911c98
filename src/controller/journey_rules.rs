//! What a trace tells, and when.

use std::collections::BTreeSet;

use jiff::Timestamp;
use opentelemetry::trace::Status;

use crate::contract::Outcome;
use crate::otlp::Span;

use super::decision::Decision;
use super::journey;
use super::snapshot::{AgentState, Pod, Snapshot};
use super::testing::{FP, at, decided, group, open, pod, runner, running, verdict, written};

/// The spans of a decision of which everything went well.
fn told(snapshot: &Snapshot, decision: &Decision, now: Timestamp) -> Vec<Span> {
    journey::of(snapshot, &decision.actions).until(now, true, &BTreeSet::new())
}

/// The spans of the decisions until nothing but these pods' gates is left, with the record as it is then.
fn recorded(snapshot: &mut Snapshot) -> (Vec<Span>, Decision) {
    let mut spans = Vec::new();
    loop {
        let decision = decided(snapshot);
        match written(&decision) {
            Some(status) => {
                spans.extend(told(snapshot, &decision, at(10)));
                *snapshot.status_mut() = status.clone();
            }
            None => return (spans, decision),
        }
    }
}

fn ended(outcome: Outcome) -> Snapshot {
    let runner = Pod { agent: AgentState::Exited(verdict("a", 1, outcome)), ..runner("a", 1) };
    group(running("a", 1), vec![runner, Pod { created: at(-5), ..pod("b") }])
}

fn times(span: &Span) -> (Timestamp, Timestamp) {
    let of = |time| Timestamp::try_from(time).expect("a time of this century");
    (of(span.start), of(span.end))
}

fn shape(spans: &[Span]) -> Vec<(&str, Option<&str>)> {
    spans.iter().map(|span| (span.id.as_str(), span.parent.as_deref())).collect()
}

#[test]
fn an_attempt_is_told_when_it_is_on_record() {
    let (spans, _) = recorded(&mut ended(Outcome::Failed));
    assert_eq!(shape(&spans), [("run 1", Some("attempt 1")), ("attempt 1", Some("rollout"))]);
    assert_eq!(times(&spans[0]), (Timestamp::from_second(1).expect("1970"), Timestamp::from_second(2).expect("1970")));
    assert_eq!(times(&spans[1]), (at(0), at(10)), "from the election to the record");
    assert!(matches!(&spans[1].status, Status::Error { description } if description.contains("last line")));
}

#[test]
fn a_rollout_is_told_with_its_last_gate_and_finds_its_attempts() {
    let mut snapshot = ended(Outcome::Succeeded);
    let (mut spans, decision) = recorded(&mut snapshot);
    spans.extend(told(&snapshot, &decision, at(12)));
    let parts = [
        ("run 1", Some("attempt 1")),
        ("attempt 1", Some("rollout")),
        ("wait", Some("rollout")),
        ("rollout", None),
        ("open", Some("rollout")),
    ];
    assert_eq!(shape(&spans), parts);
    assert!(spans.iter().all(|span| span.trace == spans[0].trace && span.trace.ends_with(FP)));
    assert_eq!(times(&spans[2]), (at(-5), at(0)));
    assert_eq!(times(&spans[3]), (at(-5), at(12)), "from the first pod to the last gate");
    assert_eq!(times(&spans[4]), (at(10), at(12)));
    assert_eq!(spans[1].status, Status::Ok);
}

#[test]
fn a_rollout_is_not_told_while_a_gate_is_left() {
    let mut snapshot = ended(Outcome::Succeeded);
    let (_, mut decision) = recorded(&mut snapshot);
    decision.actions.pop();
    assert_eq!(told(&snapshot, &decision, at(12)), []);
}

#[test]
fn who_comes_after_the_success_is_no_rollout() {
    let mut snapshot = ended(Outcome::Succeeded);
    recorded(&mut snapshot);
    snapshot.pods = vec![open("a"), Pod { created: at(60), ..pod("late") }].into();
    let decision = decided(&snapshot);
    assert_eq!(decision.actions.len(), 1, "it passes: {decision:?}");
    assert_eq!(told(&snapshot, &decision, at(61)), []);
}

#[test]
fn what_failed_is_not_told() {
    let mut snapshot = ended(Outcome::Succeeded);
    let decision = decided(&snapshot);
    let unrecorded = journey::of(&snapshot, &decision.actions).until(at(10), false, &BTreeSet::new());
    assert_eq!(unrecorded, [], "the status was not written");
    let (_, decision) = recorded(&mut snapshot);
    let shut = BTreeSet::from([FP.to_owned()]);
    let opened = journey::of(&snapshot, &decision.actions).until(at(12), true, &shut);
    assert_eq!(opened, [], "one of its gates stayed shut");
    let other = BTreeSet::from(["another".to_owned()]);
    assert_eq!(journey::of(&snapshot, &decision.actions).until(at(12), true, &other).len(), 3);
}
