//! The wire contract: every name and every message that crosses from one process to another.
//!
//! The webhook writes these names into pod templates, the controller reads and writes them on pods, and the agent reads
//! two of them as files. They outlive any one version of the programs, so they stand here and nowhere else, and a change
//! of meaning is a new name, never a new value.

mod address;
pub mod ending;

use serde::{Deserialize, Serialize};

pub use address::Address;

/// The DNS domain of every label, annotation, condition and finalizer, and the API group of the MigrationGate resource.
pub const DOMAIN: &str = "migration-gate.dev";

/// `spec.readinessGates[].conditionType` and the type of the pod condition that opens it.
pub const CONDITION: &str = "migration-gate.dev/migrated";

/// Keeps the runner's pod object, through any deletion, until its outcome is recorded.
pub const POD_FINALIZER: &str = "migration-gate.dev/outcome";

/// Keeps the record while an attempt is active, so that the lock can't be deleted from under a live runner.
pub const RECORD_FINALIZER: &str = "migration-gate.dev/active";

/// Label keys, and the values that are ours.
pub mod label {
    /// On a Namespace: the webhook looks at its workloads. Value: [`INJECT_ENABLED`] or [`INJECT_AUDIT`].
    pub const INJECT: &str = "migration-gate.dev/inject";
    /// The value of [`INJECT`] that turns injection on.
    pub const INJECT_ENABLED: &str = "enabled";
    /// The value of [`INJECT`] with which nothing is changed, and warnings say what would be.
    pub const INJECT_AUDIT: &str = "audit";
    /// On a workload: it is to be gated. Value: [`GATED_TRUE`].
    pub const GATED: &str = "migration-gate.dev/gated";
    /// The value of [`GATED`] that turns the gate on.
    pub const GATED_TRUE: &str = "true";
    /// On a pod (and its template): the name of its group's record.
    pub const GATE: &str = "migration-gate.dev/gate";
    /// On a pod (and its template): the fingerprint of its migration, 32 hexadecimal digits.
    pub const MIGRATION: &str = "migration-gate.dev/migration";
    /// On a pod: its part in an attempt. Value: [`ROLE_RUNNER`].
    pub const ROLE: &str = "migration-gate.dev/role";
    /// The value of [`ROLE`] on the pod that was elected.
    pub const ROLE_RUNNER: &str = "runner";
}

/// Annotation keys. The first block is the user's, on the workload; the second is ours, on pods and templates.
pub mod annotation {
    /// The migration's command: a JSON array, or one line of POSIX shell words.
    pub const COMMAND: &str = "migration-gate.dev/command";
    /// The container whose image, environment, mounts and security context the migration uses.
    pub const CONTAINER: &str = "migration-gate.dev/container";
    /// The program of a wrapped init container that leaves it to its image: a JSON array, or one line of POSIX shell words.
    pub const ENTRYPOINT: &str = "migration-gate.dev/entrypoint";
    /// Another image for the migration.
    pub const IMAGE: &str = "migration-gate.dev/image";
    /// A JSON array of EnvVar, merged by name over the clone's.
    pub const ENV: &str = "migration-gate.dev/env";
    /// Free text, part of the identity: change it to migrate again.
    pub const REVISION: &str = "migration-gate.dev/revision";
    /// The names of the environment variables that count for the identity, separated by commas.
    pub const IDENTITY_ENV: &str = "migration-gate.dev/identity-env";
    /// Workloads of a namespace with the same value share one database.
    pub const GROUP: &str = "migration-gate.dev/group";
    /// A duration from the start of the command, after which the agent ends it.
    pub const TIMEOUT: &str = "migration-gate.dev/timeout";
    /// Failed attempts before the migration is given up.
    pub const BACKOFF_LIMIT: &str = "migration-gate.dev/backoff-limit";
    /// `true`: each new migration waits for an operator's approval.
    pub const SUSPEND: &str = "migration-gate.dev/suspend";
    /// Addresses that the agent awaits before the command, separated by commas.
    pub const WAIT_FOR: &str = "migration-gate.dev/wait-for";
    /// A second command, run after the first; both must succeed.
    pub const VERIFY: &str = "migration-gate.dev/verify";

    /// The environment variable with the URL of a database, which is locked while the migration runs: a second fence,
    /// for several clusters on one database.
    pub const LOCK_ENV: &str = "migration-gate.dev/lock-env";

    /// On a pod: the run signal, later the mark that it is settled. See [`Signal`](super::Signal).
    pub const SIGNAL: &str = "migration-gate.dev/signal";
    /// On a pod: the pass. See [`Opened`](super::Opened).
    pub const OPENED: &str = "migration-gate.dev/opened";
    /// On a pod template: what injection wrote and what it replaced, for taking it out again.
    pub const INJECTED: &str = "migration-gate.dev/injected";

    /// On a Lease that `migration-gate run` locks: what was run under it, as JSON.
    pub const RUNS: &str = "migration-gate.dev/runs";

    /// On a pod: the keys, separated by commas, of the annotations below that came with a signal and go with it.
    pub const GUARDS: &str = "migration-gate.dev/guards";
    /// Kubernetes': a pod with a higher cost is deleted later in a scale-down.
    pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    /// The cluster autoscaler's: `false` keeps it from evicting the pod.
    pub const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
    /// Karpenter's: `true` keeps it from disrupting the pod.
    pub const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
}

/// Names inside the pod template.
pub mod pod {
    /// The init container that copies the agent into [`VOLUME`].
    pub const INSTALL_CONTAINER: &str = "migration-gate-install";
    /// The init container that runs the migration, unless an existing one is wrapped.
    pub const MIGRATE_CONTAINER: &str = "migration-gate-migrate";
    /// The emptyDir that holds the agent's binary and its journal.
    pub const VOLUME: &str = "migration-gate";
    /// The downward API volume with the signals and the pod's UID.
    pub const SIGNAL_VOLUME: &str = "migration-gate-signal";
    /// Where [`VOLUME`] is mounted.
    pub const VOLUME_PATH: &str = "/migration-gate";
    /// The agent's binary inside the pod.
    pub const AGENT_PATH: &str = "/migration-gate/agent";
    /// The agent's journal inside the pod.
    pub const JOURNAL_PATH: &str = "/migration-gate/journal";
    /// Where [`SIGNAL_VOLUME`] is mounted.
    pub const SIGNAL_PATH: &str = "/migration-gate-signal";
    /// The file in [`SIGNAL_PATH`] with the annotation [`super::annotation::SIGNAL`]; empty while there is none.
    pub const SIGNAL_FILE: &str = "signal";
    /// The file in [`SIGNAL_PATH`] with the annotation [`super::annotation::OPENED`]; empty while there is none.
    pub const OPENED_FILE: &str = "opened";
    /// The file in [`SIGNAL_PATH`] with the pod's UID.
    pub const POD_UID_FILE: &str = "pod-uid";
    /// The agent's termination message; the kubelet mounts a file of its own there.
    pub const TERMINATION_PATH: &str = "/dev/termination-log";
    /// The agent's binary in our image.
    pub const IMAGE_AGENT_PATH: &str = "/migration-gate-agent";
    /// The agent's first argument that makes it copy itself to the path that follows; what follows in pairs is copied
    /// too, the first of each to the second.
    pub const INSTALL_ARGUMENT: &str = "install";
    /// The agent's option with one address to await; may be repeated. Written `--wait-for=ADDRESS`.
    pub const WAIT_FOR_OPTION: &str = "--wait-for";
    /// The agent's option with one word of the second command; repeated once per word. Written `--verify=WORD`.
    ///
    /// One word each, and not a JSON array: Kubernetes replaces `$(NAME)` in arguments by the variable's value as it
    /// is, and a quote or a backslash in that value would break any quoting around it.
    pub const VERIFY_WORD_OPTION: &str = "--verify";
    /// The agent's option with the variable of [`super::annotation::LOCK_ENV`]. Written `--lock-env=NAME`.
    pub const LOCK_ENV_OPTION: &str = "--lock-env";
    /// The agent's option with what is locked for: the fingerprint. Written `--lock-key=KEY`.
    pub const LOCK_KEY_OPTION: &str = "--lock-key";
    /// The agent's option with the program that takes the lock. Written `--lock-program=PATH`.
    pub const LOCK_PROGRAM_OPTION: &str = "--lock-program";
    /// The whole program inside the pod, where a lock is asked for.
    pub const PROGRAM_PATH: &str = "/migration-gate/migration-gate";
    /// The whole program in our image.
    pub const IMAGE_PROGRAM_PATH: &str = "/bin/migration-gate";
    /// The argument that ends the agent's options; the user's command follows.
    pub const COMMAND_SEPARATOR: &str = "--";
    /// The volume with our image, where an installation delivers the agent without the install container.
    pub const AGENT_VOLUME: &str = "migration-gate-agent";
    /// Where [`AGENT_VOLUME`] is mounted; [`VOLUME_AGENT_PATH`] is [`IMAGE_AGENT_PATH`] below it.
    pub const AGENT_VOLUME_PATH: &str = "/migration-gate-image";
    /// The agent's binary inside a pod that mounts our image.
    pub const VOLUME_AGENT_PATH: &str = "/migration-gate-image/migration-gate-agent";

    /// Whether a container with this command runs the agent that waits, whichever way that was delivered.
    pub fn runs_agent<T: AsRef<str>>(command: &[T]) -> bool {
        command.first().is_some_and(|path| [AGENT_PATH, VOLUME_AGENT_PATH].contains(&path.as_ref()))
    }
}

/// What the controller tells one pod's agent about attempts, in the annotation [`annotation::SIGNAL`].
///
/// The numbers on one pod only grow, and a run signal is replaced by its mark, never removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// Run the command, unless this signal was already there when the agent started.
    Run(Run),
    /// The attempt is over and recorded; wait for the next signal or for the pass.
    Settled(Settled),
}

/// The order to run one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The pod that is meant; an agent in any other ignores the signal.
    pub pod_uid: String,
    /// The attempt's number, unique in its group.
    pub attempt: u32,
    /// Seconds from the command's start until the agent ends it; never, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// The mark that an attempt is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// The pod that is meant.
    pub pod_uid: String,
    /// The attempt that is over.
    pub attempt: u32,
}

impl Signal {
    /// The pod that is meant.
    pub fn pod_uid(&self) -> &str {
        match self {
            Signal::Run(run) => &run.pod_uid,
            Signal::Settled(settled) => &settled.pod_uid,
        }
    }

    /// The attempt that is meant.
    pub fn attempt(&self) -> u32 {
        match self {
            Signal::Run(run) => run.attempt,
            Signal::Settled(settled) => settled.attempt,
        }
    }
}

/// The pass, in the annotation [`annotation::OPENED`]: a key of its own, so that writing it can't overwrite a signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// The pod that is meant.
    pub pod_uid: String,
    /// The fingerprint that succeeded.
    pub migration: String,
}

/// How an attempt ended, as the agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The command, and the second one if there is one, exited with 0, and nobody asked them to stop.
    Succeeded,
    /// The command exited with another code, was killed, or couldn't be started.
    Failed,
    /// The agent ended the command because its time was over.
    TimedOut,
    /// The agent was asked to stop while the command ran, or crashed; whatever the command's exit code says.
    Interrupted,
    /// The command was not started, and never will be for this attempt.
    NotStarted,
}

/// What `migration-gate run` writes for the agent that started it: its exit code may be the command's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockReport {
    /// How it ended; never [`Outcome::NotStarted`].
    pub outcome: Outcome,
}

/// The first line of the agent's termination message once an attempt is over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The attempt that is over.
    pub attempt: u32,
    /// The pod that ran it.
    pub pod_uid: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code of the command that decided the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When the command started, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
    /// When it ended, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
}

/// The first line of the agent's termination message while the command runs: what a SIGKILL leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The attempt that was started.
    pub attempt: u32,
    /// The pod that runs it.
    pub pod_uid: String,
    /// When the command started, in milliseconds since 1970.
    pub started: i64,
}

/// The first line of a termination message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Report {
    /// The attempt is over.
    Verdict(Verdict),
    /// The attempt was started, and nothing is known of its end.
    Trace(Trace),
}

impl Report {
    /// Reads the first line of a termination message; `None` where it isn't ours, or was cut.
    pub fn parse(message: &str) -> Option<Report> {
        serde_json::from_str(message.lines().next()?).ok()
    }

    /// The pod that reports.
    pub fn pod_uid(&self) -> &str {
        match self {
            Report::Verdict(verdict) => &verdict.pod_uid,
            Report::Trace(trace) => &trace.pod_uid,
        }
    }

    /// The attempt that it reports on.
    pub fn attempt(&self) -> u32 {
        match self {
            Report::Verdict(verdict) => verdict.attempt,
            Report::Trace(trace) => trace.attempt,
        }
    }
}

/// The bytes that the first line of a termination message may have. The kubelet cuts a message to 12 KiB divided by
/// the pod's number of containers (pkg/kubelet/status: maxTotalTerminationMessage), so the verdict survives up to 48.
pub const VERDICT_BYTES: usize = 256;

/// The bytes that the whole termination message may have.
///
/// Source: Kubernetes API reference, Container.terminationMessagePath.
pub const MESSAGE_BYTES: usize = 4096;

/// The characters of a label value. Source: Kubernetes, "Labels and Selectors".
pub const LABEL_VALUE_CHARS: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spelled_as_published() {
        let uid = "1f2e3d4c-0000-4000-8000-123456789abc".to_owned();
        let run = Signal::Run(Run { pod_uid: uid.clone(), attempt: 3, timeout_seconds: Some(1800) });
        assert_eq!(
            serde_json::to_string(&run).expect("plain data"),
            r#"{"run":{"podUid":"1f2e3d4c-0000-4000-8000-123456789abc","attempt":3,"timeoutSeconds":1800}}"#
        );
        let settled = Signal::Settled(Settled { pod_uid: uid.clone(), attempt: 3 });
        assert_eq!(
            serde_json::to_string(&settled).expect("plain data"),
            r#"{"settled":{"podUid":"1f2e3d4c-0000-4000-8000-123456789abc","attempt":3}}"#
        );
        for signal in [run, settled] {
            let text = serde_json::to_string(&signal).expect("plain data");
            assert_eq!(serde_json::from_str::<Signal>(&text).expect("what was written"), signal);
        }
    }

    #[test]
    fn the_longest_verdict_fits_its_line() {
        let longest = Verdict {
            attempt: u32::MAX,
            pod_uid: "1f2e3d4c-0000-4000-8000-123456789abc".to_owned(),
            outcome: Outcome::Interrupted,
            exit_code: Some(i32::MIN),
            signal: Some(i32::MIN),
            start: Some(i64::MIN),
            end: Some(i64::MIN),
        };
        let line = serde_json::to_string(&longest).expect("plain data");
        assert!(line.len() < VERDICT_BYTES, "{} bytes: {line}", line.len());
    }

    #[test]
    fn a_report_is_the_first_line_and_nothing_else() {
        let verdict = r#"{"attempt":1,"podUid":"u","outcome":"failed","exitCode":1}"#;
        let trace = r#"{"attempt":2,"podUid":"u","started":5}"#;
        assert!(matches!(Report::parse(&format!("{verdict}\nlog")), Some(Report::Verdict(v)) if v.attempt == 1));
        assert!(matches!(Report::parse(trace), Some(Report::Trace(t)) if t.attempt == 2));
        for not_ours in ["", "\n", "panic: no database", &verdict[..20], r#"{"attempt":1,"podUid":"u"}"#] {
            assert_eq!(Report::parse(not_ours), None, "{not_ours:?}");
        }
    }
}
