//! The witness, shown an orderly life and every kind of disorder: what is in order is not blamed, and each disorder is.

use serde_json::{Value, json};

use migration_gate_contract::{CONDITION, POD_FINALIZER, RECORD_FINALIZER, annotation, label, pod};

use super::of_records::STATUS_BYTES;
use super::*;

const F: &str = "0123456789abcdef0123456789abcdef";
const G: &str = "ffffffffffffffffffffffffffffffff";

/// A group of one workload with one pod, as the API shows it.
struct Shown {
    books: Books,
    at: u64,
    record: Value,
    pod: Value,
}

fn new_books() -> Books {
    let witness = Witness::new(Chronicle::in_memory());
    let Ok(books) = Arc::try_unwrap(witness.0) else { panic!("nobody else has it") };
    let mut books = books.into_inner().expect("no panic");
    for (kind, _) in Object::ALL {
        books.hear(kind, Word::Missed);
        books.hear(kind, Word::Whole);
    }
    books
}

impl Shown {
    fn new() -> Shown {
        let mut books = new_books();
        let workload = json!({
            "metadata": { "namespace": "shop", "name": "a", "uid": "w", "resourceVersion": "1", "generation": 1,
                "labels": { label::GATED: "true" }, "annotations": { annotation::BACKOFF_LIMIT: "2" } },
            "spec": { "replicas": 1, "template": { "metadata": { "labels": { label::GATE: "a.deployment", label::MIGRATION: F } } } },
            "status": { "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1 },
        });
        books.hear(Object::Workload, Word::Version(workload));
        let record = json!({
            "metadata": { "namespace": "shop", "name": "a.deployment", "uid": "r", "generation": 1,
                "finalizers": [RECORD_FINALIZER], "ownerReferences": [{}] },
            "spec": {},
            "status": status("Pending", json!({})),
        });
        let pod = json!({
            "metadata": { "namespace": "shop", "name": "a-1", "uid": "p", "annotations": {},
                "labels": { "app": "a", label::GATE: "a.deployment", label::MIGRATION: F },
                "ownerReferences": [{ "kind": "ReplicaSet", "controller": true }] },
            "spec": { "initContainers": [{ "name": "m", "command": [pod::AGENT_PATH] }] },
            "status": { "phase": "Pending" },
        });
        let mut shown = Shown { books, at: 10, record, pod };
        shown.show_record();
        shown.show_pod();
        shown
    }

    fn show_record(&mut self) {
        self.at += 1;
        self.record["metadata"]["resourceVersion"] = json!(self.at.to_string());
        self.books.hear(Object::Record, Word::Version(self.record.clone()));
    }

    fn show_pod(&mut self) {
        self.at += 1;
        self.pod["metadata"]["resourceVersion"] = json!(self.at.to_string());
        self.books.hear(Object::Pod, Word::Version(self.pod.clone()));
    }

    fn set_status(&mut self, phase: &str, more: Value) {
        self.record["status"] = status(phase, more);
        self.show_record();
    }

    fn elect(&mut self, attempt: u32) {
        let active = json!({ "fingerprint": F, "attempt": attempt, "podUid": "p", "podName": "a-1" });
        self.set_status("Running", json!({ "active": active, "lastAttempt": attempt }));
    }

    fn order(&mut self, attempt: u32) {
        let signal = json!({ "run": { "podUid": "p", "attempt": attempt } });
        self.pod["metadata"]["annotations"][annotation::SIGNAL] = json!(signal.to_string());
        self.pod["metadata"]["finalizers"] = json!([POD_FINALIZER]);
        self.show_pod();
    }

    fn settle(&mut self, attempt: u32) {
        let mark = json!({ "settled": { "podUid": "p", "attempt": attempt } });
        self.pod["metadata"]["annotations"][annotation::SIGNAL] = json!(mark.to_string());
        self.pod["metadata"]["finalizers"] = json!([]);
        self.show_pod();
    }

    fn open(&mut self) {
        let pass = json!({ "podUid": "p", "migration": F });
        self.pod["metadata"]["annotations"][annotation::OPENED] = json!(pass.to_string());
        self.pod["status"]["conditions"] = json!([{ "type": CONDITION, "status": "True" }]);
        self.show_pod();
    }

    fn report(&mut self, attempt: u32, outcome: &str) {
        let verdict = json!({ "attempt": attempt, "podUid": "p", "outcome": outcome });
        let terminated = json!({ "terminated": { "message": verdict.to_string() } });
        self.pod["status"]["initContainerStatuses"] = json!([{ "name": "m", "state": terminated }]);
        self.show_pod();
    }

    fn run_in(&self, pod: &str, gate: &str, attempt: u32) -> Run {
        let (pod_uid, app) = (pod.to_owned(), "shop/a".to_owned());
        let (fingerprint, mark) = (F.to_owned(), format!("line {attempt}"));
        let (began, ended) = (self.books.chronicle.now(), None);
        Run {
            pod_uid,
            pod: format!("shop/{pod}"),
            gate: gate.to_owned(),
            app,
            fingerprint,
            attempt,
            began,
            ended,
            mark,
        }
    }

    fn run(&mut self, attempt: u32, truth: Truth) {
        let run = self.run_in("p", "shop/a.deployment", attempt);
        self.books.began(run);
        self.books.ended("p", truth);
    }

    fn record_end(&mut self, attempt: u32, outcome: &str, succeeded: &[&str]) {
        let (phase, failures) = match outcome {
            "Succeeded" => ("Succeeded", 0),
            _ => ("Pending", 1),
        };
        let attempts =
            json!([{ "number": attempt, "pod": "a-1", "outcome": outcome, "logTail": format!("line {attempt}") }]);
        let migration = json!({ "fingerprint": F, "phase": phase, "failures": failures, "attempts": attempts });
        self.set_status(phase, json!({ "migrations": [migration], "lastAttempt": attempt, "succeeded": succeeded }));
        let event = json!({
            "metadata": { "namespace": "shop" }, "reportingController": "migration-gate-controller",
            "reason": format!("Migration{outcome}"), "note": format!("attempt {attempt} of migration {F} in pod a-1: over"),
        });
        self.books.hear(Object::Event, Word::Version(event));
    }

    /// What is orderly up to the success on record.
    fn succeed(&mut self) {
        self.elect(1);
        self.order(1);
        self.run(1, Truth::Succeeded);
        self.report(1, "succeeded");
        self.record_end(1, "Succeeded", &[F]);
    }

    /// Everything that there is to say about what was shown.
    fn blamed(mut self) -> Vec<Promise> {
        self.books.judge_calm();
        self.books.blames().iter().map(|blame| blame.promise).collect()
    }
}

fn status(phase: &str, more: Value) -> Value {
    let holds = |holds: bool| if holds { "True" } else { "False" };
    let mut status = json!({
        "phase": phase, "observedGeneration": 1,
        "conditions": [
            { "type": "Migrated", "status": holds(phase == "Succeeded"), "reason": phase },
            { "type": "Stalled", "status": holds(phase == "Failed"), "reason": "AttemptsExhausted" },
        ],
    });
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        status[key] = value;
    }
    status
}

fn app_of(shown: &mut Shown) {
    let pod = Pod::of(&shown.pod);
    shown.books.app_started(&pod, None);
    shown.pod["status"]["phase"] = json!("Running");
    let ready = json!({ "type": "Ready", "status": "True" });
    if let Some(conditions) = shown.pod["status"]["conditions"].as_array_mut() {
        conditions.push(ready);
    }
    shown.show_pod();
}

#[test]
fn an_orderly_life_is_not_blamed() {
    let mut shown = Shown::new();
    shown.elect(1);
    shown.order(1);
    shown.run(1, Truth::Failed);
    shown.report(1, "failed");
    shown.record_end(1, "Failed", &[]);
    shown.settle(1);
    shown.elect(2);
    shown.order(2);
    shown.run(2, Truth::Succeeded);
    shown.report(2, "succeeded");
    shown.record_end(2, "Succeeded", &[F]);
    shown.settle(2);
    shown.open();
    app_of(&mut shown);
    assert_eq!(shown.books.unsettled(), []);
    assert_eq!(shown.blamed(), []);
}

#[test]
fn two_runners_of_a_group_or_of_a_workload() {
    for other in ["shop/a.deployment", "shop/db.group"] {
        let mut shown = Shown::new();
        let (one, two) = (shown.run_in("p", "shop/a.deployment", 1), shown.run_in("q", other, 2));
        shown.books.began(one);
        shown.books.began(two);
        assert_eq!(shown.blamed(), [Promise::SingleRunner]);
    }
}

#[test]
fn an_attempt_that_runs_twice() {
    let mut shown = Shown::new();
    shown.run(1, Truth::Failed);
    shown.run(1, Truth::Failed);
    assert_eq!(shown.blamed(), [Promise::AttemptOnce]);
}

#[test]
fn a_gate_that_opens_before_its_record_says_so() {
    let mut shown = Shown::new();
    shown.elect(1);
    shown.order(1);
    shown.run(1, Truth::Succeeded);
    shown.report(1, "succeeded");
    shown.open();
    shown.record_end(1, "Succeeded", &[F]);
    shown.settle(1);
    app_of(&mut shown);
    assert_eq!(shown.blamed(), [Promise::GateSoundness]);
}

#[test]
fn an_order_that_no_record_gave() {
    let mut shown = Shown::new();
    shown.order(1);
    assert_eq!(shown.blamed(), [Promise::SingleRunner]);
}

#[test]
fn an_order_without_the_finalizer_and_one_to_a_pod_of_nobodys() {
    let mut shown = Shown::new();
    shown.elect(1);
    shown.pod["metadata"]["ownerReferences"] = json!([]);
    let signal = json!({ "run": { "podUid": "p", "attempt": 1 } });
    shown.pod["metadata"]["annotations"][annotation::SIGNAL] = json!(signal.to_string());
    shown.show_pod();
    assert_eq!(shown.blamed(), [Promise::GateSoundness, Promise::NoOutcomeLost]);
}

#[test]
fn a_signal_that_is_removed_or_goes_back_and_a_gate_that_closes() {
    let mut shown = Shown::new();
    shown.succeed();
    shown.settle(1);
    shown.open();
    app_of(&mut shown);
    shown.settle(0);
    shown.pod["metadata"]["annotations"] = json!({});
    shown.pod["status"]["conditions"] = json!([]);
    shown.show_pod();
    let blamed = shown.blamed();
    assert_eq!(blamed[..3], [Promise::AttemptOnce, Promise::AttemptOnce, Promise::FailClosed]);
}

#[test]
fn an_application_that_starts_early() {
    let mut shown = Shown::new();
    let pod = Pod::of(&shown.pod);
    shown.books.app_started(&pod, None);
    assert_eq!(shown.blamed(), [Promise::NoEarlyStart]);
    let mut shown = Shown::new();
    shown.books.app_started(&pod, Some(12));
    assert_eq!(shown.blamed(), [Promise::NoEarlyStart], "it says that it had its pass, and no record says so");
}

#[test]
fn a_success_that_nobody_had_and_one_that_is_forgotten() {
    let mut shown = Shown::new();
    shown.set_status("Pending", json!({ "succeeded": [G] }));
    assert_eq!(shown.blamed(), [Promise::GateSoundness]);
    let mut shown = Shown::new();
    shown.succeed();
    shown.set_status("Pending", json!({ "lastAttempt": 1 }));
    assert!(shown.blamed().contains(&Promise::Progress));
}

#[test]
fn a_success_that_was_marked_or_brought_along() {
    let mut shown = Shown::new();
    shown.record["spec"]["overrides"] = json!([{ "action": "MarkSucceeded", "fingerprint": G }]);
    shown.show_record();
    shown.set_status("Pending", json!({ "succeeded": [G], "overrides": [{}] }));
    let mut other = shown.record.clone();
    other["metadata"]["name"] = json!("b.deployment");
    other["metadata"]["uid"] = json!("s");
    other["metadata"]["resourceVersion"] = json!("99");
    other["spec"] = json!({});
    shown.books.hear(Object::Record, Word::Version(other));
    assert_eq!(shown.blamed(), []);
}

#[test]
fn an_election_after_a_success_and_one_without_attempts_left() {
    let mut shown = Shown::new();
    shown.succeed();
    shown.settle(1);
    let active = json!({ "fingerprint": F, "attempt": 2, "podUid": "p", "podName": "a-1" });
    shown.set_status("Running", json!({ "active": active, "lastAttempt": 2, "succeeded": [F] }));
    assert!(shown.blamed().contains(&Promise::Progress));

    let mut shown = Shown::new();
    let migration = json!({ "fingerprint": F, "phase": "Failed", "failures": 2 });
    shown.set_status("Failed", json!({ "migrations": [migration], "lastAttempt": 2 }));
    shown.elect(3);
    assert!(shown.blamed().contains(&Promise::FailClosed));
}

#[test]
fn an_election_that_nobody_asked_for_and_one_in_an_unprotected_record() {
    let mut shown = Shown::new();
    let active = json!({ "fingerprint": G, "attempt": 1, "podUid": "p", "podName": "a-1" });
    shown.set_status("Running", json!({ "active": active, "lastAttempt": 1 }));
    assert_eq!(shown.blamed()[0], Promise::Progress);
    let mut shown = Shown::new();
    shown.record["metadata"]["finalizers"] = json!([]);
    shown.show_record();
    shown.elect(1);
    assert_eq!(shown.blamed()[0], Promise::SingleRunner);
}

#[test]
fn numbers_that_shrink_or_come_twice_and_an_active_attempt_that_is_replaced() {
    let mut shown = Shown::new();
    shown.elect(2);
    let other = json!({ "fingerprint": F, "attempt": 2, "podUid": "q", "podName": "a-2" });
    shown.set_status("Running", json!({ "active": other, "lastAttempt": 1 }));
    let blamed = shown.blamed();
    for promise in [Promise::AttemptOnce, Promise::SingleRunner, Promise::NoOutcomeLost] {
        assert!(blamed.contains(&promise), "{promise:?}: {blamed:?}");
    }
}

#[test]
fn outcomes_that_are_not_true() {
    for (truth, outcome) in [(Truth::Failed, "Succeeded"), (Truth::Succeeded, "Failed"), (Truth::Stopped, "NotStarted")]
    {
        let mut shown = Shown::new();
        shown.elect(1);
        shown.order(1);
        shown.run(1, truth);
        shown.record_end(1, outcome, &[]);
        assert!(shown.blamed().contains(&Promise::TrueRecord), "{outcome} for {truth:?}");
    }
}

#[test]
fn an_outcome_without_its_log_and_one_without_its_event() {
    let mut shown = Shown::new();
    shown.elect(1);
    shown.order(1);
    shown.run(1, Truth::Failed);
    let migration = |tail: &str| {
        let attempts = json!([{ "number": 1, "pod": "a-1", "outcome": "Failed", "logTail": tail }]);
        json!({ "migrations": [{ "fingerprint": F, "phase": "Pending", "failures": 1, "attempts": attempts }], "lastAttempt": 1 })
    };
    shown.set_status("Pending", migration("something else"));
    let told = shown.blamed();
    assert_eq!(told, [Promise::FailClosed, Promise::FailClosed]);
}

#[test]
fn an_event_may_be_lost_where_somebody_was_hurt() {
    let mut shown = Shown::new();
    shown.elect(1);
    shown.books.disturbed(Duration::ZERO, Duration::from_secs(1));
    let attempts = json!([{ "number": 1, "pod": "a-1", "outcome": "NotStarted" }]);
    let migration = json!({ "fingerprint": F, "phase": "Pending", "attempts": attempts });
    shown.set_status("Pending", json!({ "migrations": [migration], "lastAttempt": 1 }));
    assert_eq!(shown.blamed(), []);
}

#[test]
fn a_success_that_is_reported_and_not_recorded() {
    let mut shown = Shown::new();
    shown.elect(1);
    shown.order(1);
    shown.run(1, Truth::Succeeded);
    shown.report(1, "succeeded");
    assert_eq!(shown.blamed(), [Promise::NoOutcomeLost]);
}

#[test]
fn records_that_lie() {
    let lies = [
        json!({ "phase": "Running" }),
        json!({ "phase": "Succeeded" }),
        json!({ "migrations": [{ "fingerprint": F, "phase": "Succeeded" }] }),
        json!({ "message": "x".repeat(STATUS_BYTES) }),
    ];
    for lie in lies {
        let mut shown = Shown::new();
        shown.set_status("Pending", lie.clone());
        assert!(shown.blamed().contains(&Promise::TrueRecord), "{lie}");
    }
}

#[test]
fn a_storm_of_writes() {
    let mut shown = Shown::new();
    (0..250).for_each(|_| shown.show_record());
    assert_eq!(shown.blamed(), [Promise::Rest]);
}

#[test]
fn what_is_left_undone_is_not_settled() {
    let mut shown = Shown::new();
    let why = |shown: &Shown| shown.books.unsettled().iter().map(|one| one.why.clone()).collect::<Vec<_>>().join("\n");
    assert!(why(&shown).contains("knows nothing of its migration"), "{}", why(&shown));
    shown.elect(1);
    shown.order(1);
    for part in ["an attempt is active", "it has a run signal"] {
        assert!(why(&shown).contains(part), "{part}: {}", why(&shown));
    }
    shown.run(1, Truth::Succeeded);
    shown.record_end(1, "Succeeded", &[F]);
    shown.settle(1);
    assert_eq!(why(&shown), "");
    shown.report(1, "succeeded");
    assert!(shown.blamed().contains(&Promise::Progress), "its gate is closed");
}

#[test]
fn what_was_missed_is_not_blamed() {
    let mut shown = Shown::new();
    shown.books.hear(Object::Record, Word::Missed);
    let attempts = json!([{ "number": 3, "pod": "a-1", "outcome": "Succeeded" }]);
    let migration = json!({ "fingerprint": F, "phase": "Succeeded", "attempts": attempts });
    shown.run(3, Truth::Succeeded);
    shown.open();
    shown.set_status("Succeeded", json!({ "migrations": [migration], "lastAttempt": 3, "succeeded": [F] }));
    shown.books.hear(Object::Record, Word::Whole);
    app_of(&mut shown);
    assert_eq!(shown.blamed(), []);
}

#[test]
fn a_claim_that_is_late_is_blamed_only_where_the_records_are_seen() {
    let mut shown = Shown::new();
    shown.open();
    let late = shown.books.chronicle.now() + Duration::from_secs(3600);
    let Books { claims, records, .. } = &mut shown.books;
    assert!(claims.settle(records, None, late).is_empty(), "nobody sees the records");
    assert!(claims.settle(records, Some(late), late).is_empty(), "they are seen again since just now");
    assert_eq!(claims.settle(records, Some(Duration::ZERO), late).len(), 1);
}
