//! Any user, a read-only root, and the copy into the pod.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use migration_gate_contract::{Outcome, pod};

use crate::pod::{AGENT, Agent, Pod, SOON, is_root, until};

/// Installs the agent into the pod, as somebody.
fn install(pod: &Pod, wrapper: &[&str], agent: &Path) -> PathBuf {
    let to = pod.below(pod::AGENT_PATH);
    let status = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(agent)
        .arg(pod::INSTALL_ARGUMENT)
        .arg(&to)
        .status()
        .expect("it starts");
    assert!(status.success(), "{status}");
    to
}

const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn the_copy_is_the_same_program_and_anybody_may_run_it() {
    let pod = Pod::new();
    // A narrow umask, and a second time, as when the container is restarted.
    for _ in 0..2 {
        let to = install(&pod, &["sh", "-c", "umask 077; exec \"$@\"", "sh"], Path::new(AGENT));
        assert_eq!(fs::metadata(&to).expect("it is there").permissions().mode() & 0o7777, 0o755);
        assert!(fs::read(&to).expect("it is there") == fs::read(AGENT).expect("it is there"));
    }
    let names: Vec<_> = fs::read_dir(pod.below(pod::VOLUME_PATH)).expect("it is there").collect();
    assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
}

#[test]
fn a_copy_that_cannot_be_made_says_why() {
    let output = Command::new(AGENT).args(["install", "/proc/agent"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(73));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/proc/agent"), "{said}");
}

#[test]
fn an_unprivileged_user_can_replace_the_copy_of_another_and_run_an_attempt() {
    if !is_root("an_unprivileged_user_can_replace_the_copy_of_another_and_run_an_attempt") {
        return;
    }
    let pod = Pod::new();
    // The build directory may be closed to others; the pod's is not. (A process of its own copies: a file that this one
    // had open for writing, at the moment when another test forks, could not be executed.)
    let image = pod.below("image-agent");
    assert!(Command::new("cp").arg(AGENT).arg(&image).status().expect("it starts").success());
    // Half a copy of root's is in the way too.
    install(&pod, &["env"], Path::new(AGENT));
    fs::write(pod.below("migration-gate/agent.new"), "half").expect("room");
    let agent = install(&pod, &NOBODY, &image);
    assert_eq!(fs::metadata(&agent).expect("it is there").uid(), 65534);

    let command = pod.command(&NOBODY, &agent, &[], &["sh", "-c", "id -u"]);
    let agent = Agent::spawn(command);
    until("the agent to wait", SOON, || pod.text("stderr").contains("waiting").then_some(()));
    pod.order(1, None);
    assert_eq!(agent.exit(), 0, "{}", pod.text("stderr"));
    assert_eq!(pod.text("stdout"), "65534\n");
    assert_eq!(pod.outcome(), (1, Outcome::Succeeded, Some(0)));
}

#[test]
fn a_read_only_root_is_enough() {
    if !is_root("a_read_only_root_is_enough") {
        return;
    }
    let pod = Pod::new();
    // Everything but the pod's volumes and its message is read-only, in a mount namespace of its own.
    let script = r#"
        set -e
        for path in migration-gate dev/termination-log; do mount --bind "$POD/$path" "$POD/$path"; done
        findmnt -rno TARGET | while read -r at; do
            case "$at" in
                "$POD"/*) ;;
                *) mount -o remount,bind,ro "$at" 2>/dev/null || true ;;
            esac
        done
        if touch "$POD/x" 2>/dev/null; then echo writable >&2; exit 99; fi
        "$1" install "$POD/migration-gate/agent"
        shift
        exec "$POD/migration-gate/agent" "$@""#;
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let agent = Agent::spawn(pod.command(&wrapper, Path::new(AGENT), &[], &["sh", "-c", "echo ran; exit 3"]));
    until("the agent to wait", SOON, || pod.text("stderr").contains("waiting").then_some(()));
    pod.order(1, None);
    assert_eq!(agent.exit(), 3, "{}", pod.text("stderr"));
    assert_eq!(pod.outcome(), (1, Outcome::Failed, Some(3)));
    assert!(pod.message().ends_with("\nran\n"));
}
