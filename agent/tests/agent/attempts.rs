//! What an attempt does, and what is reported of it.

use std::path::Path;
use std::time::{Duration, Instant};

use migration_gate_contract::{MESSAGE_BYTES, Outcome, VERDICT_BYTES};
use rustix::process::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

use crate::pod::{AGENT, Agent, Pod, SOON, until};

/// Runs one attempt of a script; returns the agent's exit code.
fn attempt(pod: &Pod, options: &[&str], script: &str) -> i32 {
    let agent = pod.start_with(options, script);
    agent.until_waiting();
    pod.order(1, None);
    agent.exit()
}

#[test]
fn the_start_is_journalled_and_told_before_the_command_is_there() {
    let pod = Pod::new();
    let script = "cat $POD/dev/termination-log $POD/migration-gate/journal/attempt-1.started; \
                  ls $POD/migration-gate/journal/attempt-1.outcome; exit 0";
    assert_eq!(attempt(&pod, &[], script), 0);
    let seen = pod.text("stdout");
    let [told, journalled] = seen.lines().collect::<Vec<_>>()[..] else { panic!("two lines, not {seen:?}") };
    assert_eq!(told, journalled);
    assert!(told.contains(r#""attempt":1"#) && told.contains(r#""started":"#), "{told}");
    let verdict = pod.verdict();
    assert!(verdict.start.expect("known") <= verdict.end.expect("known"));
    assert_eq!(pod.message(), pod.text("migration-gate/journal/attempt-1.outcome"), "journalled as it is told");
}

#[test]
fn a_failure_keeps_its_exit_code_and_the_end_of_its_log() {
    let pod = Pod::new();
    assert_eq!(attempt(&pod, &[], "echo out; echo 'ERROR: \x1b[31mno\x1b[0m table' >&2; exit 7"), 7);
    assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(7)));
    assert!(pod.message().contains("\nERROR: no table\n"), "{}", pod.message());
}

#[test]
fn a_command_that_was_killed_reports_the_signal() {
    let pod = Pod::new();
    assert_eq!(attempt(&pod, &[], "kill -9 $$"), 137);
    assert_eq!((pod.verdict().outcome, pod.verdict().signal), (Outcome::Failed, Some(9)));
}

#[test]
fn a_command_that_cannot_be_started_says_why() {
    for (program, code, expected) in [
        ("no-such-program", 127, "looked in PATH=/nowhere:/usr/bin"),
        ("/no/such/program", 127, "/no/such/program"),
        ("/etc/passwd", 126, "Permission denied"),
    ] {
        let pod = Pod::new();
        let mut command = pod.command(&[], Path::new(AGENT), &[], &[program]);
        command.env("PATH", "/nowhere:/usr/bin");
        let agent = Agent::spawn(command);
        agent.until_waiting();
        pod.order(1, None);
        assert_eq!(agent.exit(), code);
        assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(code)));
        let message = pod.message();
        assert!(message.contains(program) && message.contains(expected), "{message}");
    }
}

#[test]
fn a_stop_is_passed_on_and_makes_even_a_clean_exit_an_interruption() {
    let pod = Pod::new();
    // A shell heeds its trap only when the program that it waits for has ended: that gets the signal too.
    let agent = pod.start_waiting("trap 'echo asked; exit 0' TERM; touch $POD/ready; sleep 1000");
    pod.order(1, None);
    pod.until_exists("ready");
    agent.signal(Signal::TERM);
    assert_eq!(agent.exit(), 143);
    assert_eq!(pod.outcome(), (1, Outcome::Interrupted, Some(0)));
    assert!(pod.message().contains("\nasked\n"), "{}", pod.message());
}

#[test]
fn the_command_gets_sigterm_whatever_the_image_has_for_a_stop_signal() {
    let pod = Pod::new();
    let agent = pod.start_waiting("trap 'exit 5' TERM; touch $POD/ready; while :; do sleep 0.01; done");
    pod.order(1, None);
    pod.until_exists("ready");
    agent.signal(Signal::QUIT);
    assert_eq!(agent.exit(), 143);
    assert_eq!(pod.outcome(), (1, Outcome::Interrupted, Some(5)));
}

#[test]
fn time_that_is_up_ends_the_command() {
    let pod = Pod::new();
    let agent = pod.start_waiting("trap 'exit 0' TERM; while :; do sleep 0.01; done");
    pod.order(1, Some(1));
    let start = Instant::now();
    assert_eq!(agent.exit(), 124);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(pod.outcome(), (1, Outcome::TimedOut, Some(0)));
    assert!(pod.message().contains("time limit"), "{}", pod.message());
}

#[test]
fn a_command_that_does_not_heed_its_end_is_killed_after_the_grace() {
    let pod = Pod::new();
    let agent = pod.start_waiting("trap '' TERM; while :; do sleep 0.1; done");
    pod.order(1, Some(1));
    assert_eq!(agent.exit_within(Duration::from_secs(60)), 124);
    assert_eq!((pod.verdict().outcome, pod.verdict().signal), (Outcome::TimedOut, Some(9)));
    let took = pod.verdict().end.expect("known") - pod.verdict().start.expect("known");
    assert!((30_500..45_000).contains(&took), "{took} ms");
}

#[test]
fn the_time_limit_spans_both_commands() {
    let pod = Pod::new();
    let options = ["--verify=sh", "--verify=-c", "--verify=exec sleep 100"];
    let agent = pod.start_with(&options, "sleep 1");
    agent.until_waiting();
    pod.order(1, Some(2));
    assert_eq!(agent.exit(), 124);
    let took = pod.verdict().end.expect("known") - pod.verdict().start.expect("known");
    assert!((2_000..2_900).contains(&took), "{took} ms");
}

#[test]
fn the_second_command_runs_after_the_first_and_both_must_succeed() {
    let verify = |code: i32| {
        let script = format!("--verify=echo verify $0 >> $POD/ran; exit {code}");
        ["--verify=sh".to_owned(), "--verify=-c".to_owned(), script, "--verify=a \"b\\".to_owned()]
    };
    for (first, second, expected, ran) in [
        (0, 0, Outcome::Succeeded, "command\nverify a \"b\\\n"),
        (0, 4, Outcome::Failed, "command\nverify a \"b\\\n"),
        (4, 0, Outcome::Failed, "command\n"),
    ] {
        let pod = Pod::new();
        let options = verify(second);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        assert_eq!(attempt(&pod, &options, &format!("echo command >> $POD/ran; exit {first}")), first + second);
        assert_eq!(pod.verdict().outcome, expected);
        assert_eq!(pod.text("ran"), ran);
    }
}

#[test]
fn the_command_starts_with_default_signals_and_no_file_of_the_agents() {
    let pod = Pod::new();
    assert_eq!(attempt(&pod, &[], "cat /proc/self/status > $POD/status; ls /proc/self/fd"), 0);
    // What the tests' own surroundings ignore and leave open is inherited, with and without the agent; but a signal that
    // the agent takes for itself is a default one afterwards, even where the surroundings ignore it (a shell's job does).
    let taken = [SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
    let taken = taken.iter().fold(0_u64, |mask, signal| mask | 1 << (signal - 1));
    let signals = |status: String, mask: u64| {
        let lines = status.lines().filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ"));
        let masked = lines.map(|line| {
            let (name, bits) = line.split_once(":\t").expect("a name and a mask");
            (name.to_owned(), u64::from_str_radix(bits, 16).expect("a mask") & mask)
        });
        masked.collect::<Vec<_>>()
    };
    let direct = std::process::Command::new("cat").arg("/proc/self/status").output().expect("it starts");
    let direct = signals(String::from_utf8(direct.stdout).expect("ASCII"), !taken);
    assert_eq!(signals(pod.text("status"), u64::MAX), direct);
    let direct = std::process::Command::new("ls").arg("/proc/self/fd").output().expect("it starts");
    assert_eq!(pod.text("stdout"), String::from_utf8(direct.stdout).expect("ASCII"));
}

#[test]
fn a_message_fits_whatever_is_written() {
    let pod = Pod::new();
    let script = "head -c 100000 /dev/urandom; yes ä | head -c 50001; exit 1";
    assert_eq!(attempt(&pod, &[], script), 1);
    let bytes = std::fs::read(pod.below("dev/termination-log")).expect("it is there");
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert!(text.len() <= MESSAGE_BYTES && text.lines().next().expect("one").len() <= VERDICT_BYTES);
    assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(1)));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let pod = Pod::new();
    for options in [["--wait-for=db"], ["--verify="], ["--no-such-option"]] {
        let agent = Agent::spawn(pod.command(&[], Path::new(AGENT), &options, &["true"]));
        assert_eq!(agent.exit(), 64);
        let named = options[0].split('=').next().expect("at least one");
        assert!(pod.text("stderr").contains(named), "{}", pod.text("stderr"));
    }
}

#[test]
fn a_pod_without_its_signal_directory_is_refused() {
    let pod = Pod::new();
    std::fs::remove_dir_all(pod.below("migration-gate-signal")).expect("it is there");
    assert_eq!(pod.start("true").exit(), 78);
    assert!(pod.message().contains("migration-gate-signal"), "{}", pod.message());
    until("the log", SOON, || pod.text("stderr").contains("migration-gate-signal").then_some(()));
}
