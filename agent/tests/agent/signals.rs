//! Signals and passes: what is obeyed, what is ignored, and what is answered with the journal.

use std::fs;
use std::time::{Duration, Instant};

use migration_gate_agent::signal::Order;
use migration_gate_agent::watch::SignalDirectory;
use migration_gate_contract::{Outcome, pod};
use rustix::process::Signal;

use crate::pod::{Pod, SOON, until};

const RUN: &str = "echo ran >> $POD/ran";

#[test]
fn a_signal_that_appears_is_obeyed_once_and_at_once() {
    let pod = Pod::new();
    let agent = pod.start_waiting(RUN);
    let shown = Instant::now();
    pod.order(1, None);
    assert_eq!(agent.exit(), 0);
    // Far below the slow look that stands behind the watch.
    assert!(shown.elapsed() < Duration::from_secs(5), "{:?}", shown.elapsed());
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
    assert_eq!(pod.times_run(), 1);
    // The kubelet starts the container again before the mark is there: repeated, not run, and over at once.
    assert_eq!(pod.start(RUN).exit_within(Duration::from_secs(4)), 0);
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn a_signal_that_was_there_at_the_start_is_never_obeyed() {
    let pod = Pod::new();
    pod.order(3, None);
    assert_eq!(pod.start(RUN).exit(), 75);
    assert_eq!(pod.outcome(), (3, Outcome::NotStarted, None));
    // Having said so, no later agent runs it, whatever its kubelet shows it first.
    pod.show("", "");
    let agent = pod.start_waiting(RUN);
    pod.order(3, None);
    assert_eq!(agent.exit(), 75);
    assert_eq!(pod.outcome(), (3, Outcome::NotStarted, None));
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn a_journal_that_was_lost_runs_nothing_again() {
    let pod = Pod::new();
    let agent = pod.start_waiting(&format!("{RUN}; sleep 100"));
    pod.order(1, None);
    until("the command", SOON, || (pod.times_run() == 1).then_some(()));
    agent.kill();
    pod.kill_all();
    fs::remove_dir_all(pod.below(pod::JOURNAL_PATH)).expect("it is there");
    assert_eq!(pod.start(RUN).exit(), 75);
    assert_eq!(pod.outcome(), (1, Outcome::NotStarted, None));
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn a_restarted_agent_waits_for_the_next_attempt_once_the_first_is_settled() {
    let pod = Pod::new();
    let agent = pod.start_waiting("exit 3");
    pod.order(1, None);
    assert_eq!(agent.exit(), 3);
    let agent = pod.start("exit 4");
    until("the repeated verdict", SOON, || (!pod.message().is_empty()).then_some(()));
    assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(3)));
    pod.settle(1);
    until("an empty message", SOON, || pod.message().is_empty().then_some(()));
    pod.order(2, None);
    assert_eq!(agent.exit(), 4);
    assert_eq!(pod.outcome(), (2, Outcome::Failed, Some(4)));
}

#[test]
fn a_repeated_failure_waits_a_moment_for_the_mark_and_then_exits_again() {
    let pod = Pod::new();
    let agent = pod.start_waiting("echo no such table; exit 3");
    pod.order(1, None);
    assert_eq!(agent.exit(), 3);
    let first = pod.message();
    assert!(first.ends_with("\nno such table\n"), "{first}");
    let start = Instant::now();
    assert_eq!(pod.start(RUN).exit(), 3);
    assert!(start.elapsed() >= Duration::from_secs(5), "it lingered only {:?}", start.elapsed());
    assert_eq!(pod.message(), first, "repeated with its log");
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn an_agent_that_was_killed_while_the_command_ran_reports_an_interruption() {
    let pod = Pod::new();
    let agent = pod.start_waiting(&format!("{RUN}; sleep 100"));
    pod.order(1, None);
    until("the command", SOON, || (pod.times_run() == 1).then_some(()));
    let trace = pod.message();
    assert!(trace.contains("\"started\":"), "{trace}");
    agent.kill();
    pod.kill_all();
    assert_eq!(pod.start(RUN).exit(), 143);
    assert_eq!(pod.outcome(), (1, Outcome::Interrupted, None));
    assert!(trace.contains(&pod.verdict().start.expect("from the journal").to_string()));
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn the_pass_ends_the_wait_whenever_it_comes() {
    let pod = Pod::new();
    let agent = pod.start_waiting(RUN);
    pod.open();
    assert_eq!(agent.exit(), 0);
    assert_eq!(pod.start(RUN).exit(), 0);
    assert_eq!(pod.message(), "");
    assert_eq!(pod.times_run(), 0);
}

#[test]
fn what_is_meant_for_another_pod_or_malformed_is_ignored_and_said_once() {
    let pod = Pod::new();
    let mut agent = pod.start_waiting(RUN);
    pod.show(r#"{"run":{"podUid":"another","attempt":1}}"#, r#"{"podUid":"another","migration":"00"}"#);
    for _ in 0..3 {
        pod.show(r#"{"run":{"podUid"#, "true");
        until("the complaint", SOON, || pod.text("stderr").contains("is not understood").then_some(()));
        agent.until_waiting();
    }
    assert_eq!(pod.text("stderr").matches("is not understood").count(), 1, "{}", pod.text("stderr"));
    assert!(!agent.has_ended());
    pod.order(1, None);
    assert_eq!(agent.exit(), 0);
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn a_change_without_an_event_is_found_all_the_same() {
    let pod = Pod::new();
    let agent = pod.start_waiting(RUN);
    // Written into the present directory, where nobody watches.
    let signal = format!(r#"{{"run":{{"podUid":"{}","attempt":1}}}}"#, pod.uid);
    fs::write(pod.below(pod::SIGNAL_PATH).join("..data").join(pod::SIGNAL_FILE), signal).expect("room");
    assert_eq!(agent.exit(), 0);
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn signal_and_pass_are_of_the_same_moment() {
    let pod = Pod::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let settled = format!(r#"{{"settled":{{"podUid":"{}","attempt":1}}}}"#, pod.uid);
    let run = format!(r#"{{"run":{{"podUid":"{}","attempt":2}}}}"#, pod.uid);
    let opened = format!(r#"{{"podUid":"{}","migration":"00"}}"#, pod.uid);
    pod.show(&run, "");
    let mut directory = SignalDirectory::open(pod.below(pod::SIGNAL_PATH)).expect("a whole one");
    std::thread::scope(|scope| {
        let (pod, stop) = (&pod, &stop);
        let kubelet = std::thread::Builder::new().spawn_scoped(scope, move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                pod.show(&settled, &opened);
                pod.show(&run, "");
            }
        });
        let seen: Vec<_> = (0..2_000).map(|_| directory.read()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        kubelet.expect("a thread").join().expect("no panic");
        for news in seen {
            let news = news.expect("readable");
            assert_eq!(news.opened, matches!(news.order, Order::Settled(1)), "{news:?}");
        }
    });
}

#[test]
fn a_command_whose_attempt_is_settled_is_ended() {
    let pod = Pod::new();
    let agent = pod.start_waiting(&format!("{RUN}; sleep 100"));
    pod.order(1, None);
    until("the command", SOON, || (pod.times_run() == 1).then_some(()));
    pod.settle(1);
    assert_eq!(agent.exit(), 143);
    assert_eq!(pod.verdict().outcome, Outcome::Interrupted);
}

#[test]
fn a_waiting_agent_stops_on_any_stop_signal_without_a_verdict() {
    let signals = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::WINCH];
    for signal in signals {
        let pod = Pod::new();
        let agent = pod.start_waiting(RUN);
        agent.signal(signal);
        assert_eq!(agent.exit(), 143, "{signal:?}");
        assert_eq!(pod.message(), "");
    }
}

#[test]
fn waiting_costs_next_to_nothing() {
    let pod = Pod::new();
    let mut agent = pod.start_waiting(RUN);
    let awakenings = || {
        let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
        let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
        switches.map(|line| line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("one")).sum::<u64>()
    };
    let before = awakenings();
    let start = Instant::now();
    until("three seconds", SOON, || (start.elapsed() > Duration::from_secs(3)).then_some(()));
    assert!(awakenings() - before <= 2, "woke up {} times", awakenings() - before);
    assert!(!agent.has_ended());
}
