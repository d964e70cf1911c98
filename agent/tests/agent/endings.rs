//! The mark ends whatever runs, within the time that the contract gives to those who are elected next.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use migration_gate_contract::ending::{DELIVERY, GRACE, LONGEST_ENDING};
use migration_gate_contract::{Outcome, pod};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::pod::{AGENT, Agent, Pod, SOON, is_root, until};

/// A mark is here as soon as it is shown.
const LIMIT: Duration = LONGEST_ENDING.saturating_sub(DELIVERY);
/// It goes on and on, whoever sends SIGTERM; what it starts inherits that.
const STUBBORN: &str = "trap '' TERM; touch $POD/ready; while :; do sleep 0.1; done";
const PID_1: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];

/// A command that runs and is about to be settled.
struct Case {
    what: &'static str,
    pod: Pod,
    agent: Agent,
    /// How long it lives at least after the mark.
    least: Duration,
}

impl Case {
    fn start(what: &'static str, least: Duration, wrapper: &[&str], script: &str) -> Case {
        let pod = Pod::new();
        let mut command = pod.command(wrapper, Path::new(AGENT), &[], &["sh", "-c", script]);
        // Nobody reads it, so it is full soon.
        command.stdout(Stdio::piped());
        let agent = Agent::spawn(command);
        until("the agent to wait", SOON, || pod.text("stderr").contains("waiting").then_some(()));
        pod.order(1, None);
        pod.until_exists("ready");
        Case { what, pod, agent, least }
    }

    /// A command that was asked to end before, by a kubelet, and did not.
    fn asked_before(self) -> Case {
        self.agent.signal(Signal::TERM);
        self.pod.until_exists("asked");
        self
    }
}

#[test]
fn a_settled_command_is_gone_within_the_longest_ending_whatever_it_is() {
    let asked = "trap 'touch $POD/asked' TERM; touch $POD/ready; while :; do sleep 0.1; done";
    let daemons = format!("trap '' TERM; (setsid sh -c '(setsid sleep 1000 &); sleep 1000' &); {STUBBORN}");
    let left = "(trap '' TERM; setsid sleep 1000 &); trap 'exit 0' TERM; touch $POD/ready; while :; do sleep 0.1; done";
    let full = "trap '' TERM; touch $POD/ready; yes; while :; do sleep 0.1; done";
    let mut cases = vec![
        Case::start("it ignores SIGTERM", GRACE, &[], STUBBORN),
        Case::start("it was asked to stop before", GRACE, &[], asked).asked_before(),
        Case::start("it has daemons, and all ignore SIGTERM", GRACE, &[], &daemons),
        Case::start("it is stopped", GRACE, &[], "touch $POD/ready; kill -STOP $$; exit 0"),
        Case::start("it leaves a daemon that ignores SIGTERM", Duration::ZERO, &[], left),
        Case::start("nobody reads what it writes", GRACE, &[], full),
    ];
    if is_root("the part below PID 1 of a_settled_command_is_gone_within_the_longest_ending_whatever_it_is") {
        cases.push(Case::start("its agent is PID 1", GRACE, &PID_1, &daemons));
    }
    let settled = Instant::now();
    cases.iter().for_each(|case| case.pod.settle(1));
    until("all of them to end", LIMIT, || {
        cases.retain_mut(|case| {
            if !case.agent.has_ended() {
                return true;
            }
            let (what, took) = (case.what, settled.elapsed());
            assert_eq!(case.pod.processes(0), [0; 0], "{what}: something of it lives");
            assert_eq!(case.pod.verdict().outcome, Outcome::Interrupted, "{what}");
            assert!(took >= case.least, "{what}: it was gone after {took:?} and should have had {:?}", case.least);
            false
        });
        cases.is_empty().then_some(())
    });
}

#[test]
fn a_mark_that_comes_before_the_command_is_there_keeps_it_from_starting() {
    let pod = Pod::new();
    let agent = pod.start_waiting("echo ran >> $POD/ran");
    // The agent can't get beyond its message while nobody opens the other end.
    let message = pod.below(pod::TERMINATION_PATH);
    fs::remove_file(&message).expect("it is there");
    mknodat(CWD, &message, FileType::Fifo, Mode::from(0o666), 0).expect("a new name");
    pod.order(1, None);
    pod.until_exists("migration-gate/journal/attempt-1.started");
    pod.settle(1);
    let _reader = File::open(&message).expect("a pipe");
    // It has run nothing, and runs the next one.
    pod.order(2, None);
    assert_eq!(agent.exit(), 0);
    let journal = |name: &str| pod.below(pod::JOURNAL_PATH).join(name).exists();
    assert!(journal("attempt-2.outcome") && !journal("attempt-1.outcome"), "{}", pod.text("stderr"));
    assert_eq!(pod.times_run(), 1);
}

#[test]
fn a_mark_between_both_commands_keeps_the_second_from_starting() {
    let pod = Pod::new();
    let options = ["--verify=sh", "--verify=-c", "--verify=echo verified >> $POD/ran"];
    let agent = pod.start_with(&options, "trap '' TERM; (setsid sh -c 'while :; do sleep 0.1; done' &); exit 0");
    agent.until_waiting();
    pod.order(1, None);
    // It is being swept up from now on, for five seconds.
    until("the daemon to be found", SOON, || pod.text("stderr").contains("processes behind").then_some(()));
    pod.settle(1);
    assert_eq!(agent.exit(), 143);
    assert_eq!(pod.outcome(), (1, Outcome::Interrupted, Some(0)));
    assert_eq!(pod.times_run(), 0);
}
