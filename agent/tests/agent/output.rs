//! The command's output reaches the container's streams unchanged, and never holds the agent up.

use std::io::{Read, Write};
use std::process::Stdio;

use migration_gate_contract::Outcome;
use rustix::io::ioctl_fionread;
use rustix::process::Signal;

use crate::pod::{AGENT, Agent, Pod, SOON, until};

#[test]
fn ten_megabytes_pass_unchanged() {
    let pod = Pod::new();
    // Neither text nor a multiple of any buffer's size, and the same on both streams.
    let script = "head -c 10485763 /dev/urandom > $POD/expected; cat $POD/expected; cat $POD/expected >&2; exit 3";
    let agent = pod.start_waiting(script);
    pod.order(1, None);
    assert_eq!(agent.exit(), 3);
    let read = |name| std::fs::read(pod.below(name)).expect("it is there");
    let expected = read("expected");
    assert!(expected.len() == 10_485_763 && read("stdout") == expected, "stdout differs");
    // The agent's own words stand before and after it, not within: it says nothing while the command runs.
    let errors = read("stderr");
    let start = errors.windows(64).position(|window| window == &expected[..64]).expect("its beginning");
    assert!(errors[start..].starts_with(&expected), "stderr differs");
}

#[test]
fn a_command_that_closes_its_output_is_awaited() {
    let pod = Pod::new();
    let agent = pod.start_waiting("exec >&- 2>&-; sleep 0.5; exit 3");
    pod.order(1, None);
    assert_eq!(agent.exit(), 3);
    assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(3)));
    let verdict = pod.verdict();
    assert!(verdict.end.expect("known") - verdict.start.expect("known") >= 500);
}

#[test]
fn a_log_that_nobody_reads_holds_up_the_command_and_not_the_agent() {
    let pod = Pod::new();
    let mut command = pod.command(&[], AGENT.as_ref(), &[], &["sh", "-c", "touch $POD/ran; exec cat /dev/zero"]);
    let mut agent = Agent::spawn({
        command.stdout(Stdio::piped());
        command
    });
    let mut unread = agent.child.stdout.take().expect("piped");
    agent.until_waiting();
    pod.order(1, None);
    pod.until_exists("ran");
    // The pipe is full when it holds what a pipe holds.
    until("a full pipe", SOON, || (ioctl_fionread(&unread).expect("a pipe") == 65536).then_some(()));
    agent.signal(Signal::TERM);
    assert_eq!(agent.exit(), 143);
    assert_eq!(pod.verdict().outcome, Outcome::Interrupted);
    // What was passed on is what the pipe held.
    let mut read = Vec::new();
    unread.read_to_end(&mut read).expect("a pipe");
    assert!(read.len() <= 1 << 20, "{} bytes", read.len());
}

#[test]
fn the_report_has_the_end_of_a_log_that_nobody_reads() {
    let pod = Pod::new();
    // More than a pipe holds, and less than the two that are between the command and who should read.
    let mut command = pod.command(&[], AGENT.as_ref(), &[], &["sh", "-c", "seq 1 20000; exit 3"]);
    let mut agent = Agent::spawn({
        command.stdout(Stdio::piped());
        command
    });
    let unread = agent.child.stdout.take();
    agent.until_waiting();
    pod.order(1, None);
    assert_eq!(agent.exit(), 3);
    assert!(pod.message().ends_with("\n20000\n"), "{}", pod.message());
    drop(unread);
}

#[test]
fn a_log_whose_reader_is_gone_does_not_end_the_command() {
    let pod = Pod::new();
    let script = "while [ ! -e $POD/go ]; do sleep 0.02; done; seq 1 100000; exit 3";
    let mut command = pod.command(&[], AGENT.as_ref(), &[], &["sh", "-c", script]);
    let mut agent = Agent::spawn({
        command.stdout(Stdio::piped());
        command
    });
    agent.until_waiting();
    pod.order(1, None);
    drop(agent.child.stdout.take());
    std::fs::File::create(pod.below("go")).expect("room").write_all(b"go").expect("room");
    assert_eq!(agent.exit(), 3);
    assert!(pod.message().ends_with("\n100000\n"), "the report has it all the same: {}", pod.message());
}

#[test]
fn output_is_passed_on_as_it_comes() {
    let pod = Pod::new();
    let agent = pod.start_waiting("printf half; while [ ! -e $POD/go ]; do sleep 0.02; done; echo ' done'");
    pod.order(1, None);
    until("half a line", SOON, || (pod.text("stdout") == "half").then_some(()));
    std::fs::write(pod.below("go"), "").expect("room");
    assert_eq!(agent.exit(), 0);
    assert_eq!(pod.text("stdout"), "half done\n");
}
