//! What a command leaves behind is gone before its verdict is there.

use std::time::Duration;

use migration_gate_contract::Outcome;

use crate::pod::{Pod, SOON, is_root, until};

/// Runs the script as an attempt and, at the moment that the outcome is journalled, which is before it is told, counts
/// the processes that are left.
fn leftovers(pod: &Pod, wrapper: &[&str], script: &str) -> Vec<i32> {
    let argv = ["sh", "-c", script];
    let mut agent = crate::pod::Agent::spawn(pod.command(wrapper, std::path::Path::new(crate::pod::AGENT), &[], &argv));
    until("the agent to wait", SOON, || pod.text("stderr").contains("waiting").then_some(()));
    pod.order(1, None);
    until("an outcome", Duration::from_secs(40), || {
        pod.below("migration-gate/journal/attempt-1.outcome").exists().then_some(())
    });
    let left = pod.processes(agent.pid());
    until("the agent's end", SOON, || agent.has_ended().then_some(()));
    left.into_iter().filter(|pid| !wrapper.contains(&"unshare") || is_no_agent(*pid)).collect()
}

/// Below `unshare --fork` the agent is a child of what was started.
fn is_no_agent(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    !name.is_empty() && !name.starts_with("migration-gate") && !name.starts_with("unshare")
}

/// Double forks, in sessions of their own, one with the output still open and one without; one in a group of its own in
/// the command's session, and one in the command's group.
const DAEMONS: &str = "(setsid sh -c 'sleep 1000 & sleep 1001' &) ; \
     (setsid sh -c 'exec >/dev/null 2>&1; setsid sleep 1002 & exec sleep 1003' &) ; \
     bash -c 'set -m; sleep 1005 &' ; sleep 1004 & echo started > $POD/ran; exit 0";

const PID_1: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];

#[test]
fn daemons_end_with_their_command() {
    let pod = Pod::new();
    assert_eq!(leftovers(&pod, &["env"], DAEMONS), [0; 0]);
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
}

#[test]
fn daemons_end_with_their_command_below_pid_1() {
    if !is_root("daemons_end_with_their_command_below_pid_1") {
        return;
    }
    let pod = Pod::new();
    assert_eq!(leftovers(&pod, &PID_1, &format!("[ $PPID = 1 ] || exit 9; {DAEMONS}")), [0; 0]);
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
}

#[test]
fn daemons_that_ignore_their_end_are_killed() {
    let pod = Pod::new();
    let script = "trap '' TERM; (setsid sh -c 'while :; do sleep 0.1; done' &); exit 3";
    assert_eq!(leftovers(&pod, &["env"], script), [0; 0]);
    assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(3)));
}

#[test]
fn what_ends_by_itself_a_moment_later_is_left_in_peace() {
    let pod = Pod::new();
    // As bash's `migrate > >(tee log)` does: the reader outlives the command a little, and has the last lines.
    let script = "(sleep 0.05; echo last) & exit 3";
    assert_eq!(leftovers(&pod, &["env"], script), [0; 0]);
    assert!(pod.message().ends_with("\nlast\n"), "{}", pod.message());
}

/// Each link starts the next, by this, and exits; the whole chain would take minutes. SIGTERM does not end it.
fn chain(pod: &Pod, start: &str) -> String {
    let link = format!("trap '' TERM; [ $1 -gt 0 ] || exit 0; {start} $0 $(($1 - 1)) & exit 0");
    std::fs::write(pod.below("link"), link).expect("room");
    "sh $POD/link 100000 & exit 0".to_owned()
}

#[test]
fn a_chain_that_forks_all_the_time_is_caught() {
    let pod = Pod::new();
    assert_eq!(leftovers(&pod, &["env"], &chain(&pod, "sh")), [0; 0]);
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
}

#[test]
fn a_chain_of_sessions_is_caught_by_pid_1() {
    if !is_root("a_chain_of_sessions_is_caught_by_pid_1") {
        return;
    }
    let pod = Pod::new();
    assert_eq!(leftovers(&pod, &PID_1, &chain(&pod, "setsid sh")), [0; 0]);
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    let pod = Pod::new();
    let mut agent = pod.start_waiting(
        "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &); done; touch $POD/orphaned; while [ ! -e $POD/go ]; do sleep 0.05; done",
    );
    pod.order(1, None);
    pod.until_exists("orphaned");
    let zombies = || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", agent.pid())).unwrap_or_default();
        children.split_whitespace().count()
    };
    until("the orphans to be reaped", SOON, || (zombies() == 1).then_some(()));
    std::fs::write(pod.below("go"), "").expect("room");
    until("the end", SOON, || agent.has_ended().then_some(()));
}

#[test]
fn a_stop_reaches_an_agent_that_is_pid_1() {
    if !is_root("a_stop_reaches_an_agent_that_is_pid_1") {
        return;
    }
    let pod = Pod::new();
    let argv = ["sleep", "1000"];
    let command = pod.command(&PID_1, std::path::Path::new(crate::pod::AGENT), &[], &argv);
    let agent = crate::pod::Agent::spawn(command);
    until("the agent to wait", SOON, || pod.text("stderr").contains("waiting").then_some(()));
    let children = format!("/proc/{0}/task/{0}/children", agent.pid());
    let pid_1 = until("PID 1", SOON, || std::fs::read_to_string(&children).ok()?.trim().parse::<i32>().ok());
    let pid_1 = rustix::process::Pid::from_raw(pid_1).expect("not 0");
    rustix::process::kill_process(pid_1, rustix::process::Signal::TERM).expect("it is there");
    assert_eq!(agent.exit(), 143);
}
