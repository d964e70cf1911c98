//! What happens when the journal can't be written or read.

use std::fs;

use migration_gate_contract::{Outcome, pod};

use crate::pod::{AGENT, Agent, Pod, is_root};

const RUN: &str = "echo ran >> $POD/ran";

/// Makes the journal impossible, for root too: a file is where its directory should be.
fn spoil(pod: &Pod) {
    let _ = fs::remove_dir_all(pod.below(pod::JOURNAL_PATH));
    fs::write(pod.below(pod::JOURNAL_PATH), "").expect("room");
}

#[test]
fn nothing_runs_without_a_journal() {
    let pod = Pod::new();
    let agent = pod.start_waiting(RUN);
    spoil(&pod);
    pod.order(1, None);
    assert_eq!(agent.exit(), 75);
    assert_eq!(pod.outcome(), (1, Outcome::NotStarted, None));
    assert!(pod.message().contains("cannot write the journal"), "{}", pod.message());
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn nothing_runs_if_the_volume_is_full() {
    if !is_root("nothing_runs_if_the_volume_is_full") {
        return;
    }
    let pod = Pod::new();
    // In a mount namespace of its own; a file system with room for its root directory and nothing else.
    let script = r#"mount -t tmpfs -o size=4k,nr_inodes=1 full "$POD/migration-gate" && exec "$@""#;
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let agent = Agent::spawn(pod.command(&wrapper, AGENT.as_ref(), &[], &["sh", "-c", RUN]));
    crate::pod::until("the agent to wait", crate::pod::SOON, || pod.text("stderr").contains("waiting").then_some(()));
    pod.order(1, None);
    assert_eq!(agent.exit(), 75);
    assert_eq!(pod.outcome(), (1, Outcome::NotStarted, None));
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn an_outcome_that_cannot_be_journalled_is_told() {
    let pod = Pod::new();
    let agent = pod.start_waiting("rm -r $POD/migration-gate/journal; touch $POD/migration-gate/journal; exit 3");
    pod.order(1, None);
    assert_eq!(agent.exit(), 3);
    assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(3)));
}

#[test]
fn a_journal_that_cannot_be_read_may_hold_any_start() {
    let pod = Pod::new();
    spoil(&pod);
    pod.order(1, None);
    assert_eq!(pod.start(RUN).exit(), 143);
    assert_eq!(pod.outcome(), (1, Outcome::Interrupted, None));
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn what_a_crash_left_of_the_journal_is_taken_for_a_start() {
    for (name, text) in [
        ("attempt-2.started", ""),
        ("attempt-2.started", "{\"attempt\":2,"),
        ("attempt-2.outcome", ""),
        ("attempt-2.outcome", "\0\0\0"),
        ("attempt-2.outcome", r#"{"attempt":3,"podUid":"u","outcome":"succeeded"}"#),
    ] {
        let pod = Pod::new();
        fs::create_dir(pod.below(pod::JOURNAL_PATH)).expect("a new name");
        fs::write(pod.below(pod::JOURNAL_PATH).join(name), text).expect("room");
        let agent = pod.start_waiting(RUN);
        pod.order(2, None);
        assert_eq!(agent.exit(), 143, "{name} {text:?}");
        assert_eq!(pod.outcome(), (2, Outcome::Interrupted, None));
        assert_eq!(pod.times_run(), 0);
    }
}

#[test]
fn an_earlier_attempt_than_the_journals_is_never_run() {
    let pod = Pod::new();
    fs::create_dir(pod.below(pod::JOURNAL_PATH)).expect("a new name");
    fs::write(pod.below(pod::JOURNAL_PATH).join("attempt-7.started"), "").expect("room");
    let agent = pod.start_waiting(RUN);
    pod.order(6, None);
    agent.until_waiting();
    pod.order(8, None);
    assert_eq!(agent.exit(), 0);
    assert_eq!(pod.outcome(), (8, Outcome::Succeeded, Some(0)));
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn of_two_agents_only_one_starts_an_attempt() {
    let pod = Pod::new();
    let agents = [pod.start_waiting(RUN), pod.start_waiting(RUN)];
    pod.order(1, None);
    let mut codes = agents.map(Agent::exit);
    codes.sort();
    assert_eq!(codes, [0, 75]);
    assert_eq!(pod.times_run(), 1);
}
