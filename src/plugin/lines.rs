//! The lines that an attempt writes, each shown once, however often the way to them breaks.

use std::cell::Cell;
use std::pin::pin;

use futures::AsyncBufReadExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use super::cluster::Cluster;
use super::pods;
use super::problem::{Problem, Request};
use super::terminal::print;
use crate::controller::snapshot::AgentState;
use crate::controller::standing::whole_seconds;

/// What is read of an attempt's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What an attempt that goes on has written so far.
    SoFar,
    /// That, and what it writes until its container ends.
    Follow,
    /// What an attempt wrote that is over.
    Whole,
}

/// How the lines are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Only the last so many of them.
    pub(crate) tail: Option<i64>,
    /// With the time before each.
    pub(crate) timestamps: bool,
}

/// One attempt's log: what one container wrote, of those that the kubelet starts one after the other for an agent.
pub(crate) struct Lines<'a> {
    cluster: &'a Cluster,
    pod: &'a str,
    attempt: u32,
    wanted: Wanted,
    /// The time of the last line that was shown, by the node's clock.
    shown: Cell<Option<Timestamp>>,
}

impl<'a> Lines<'a> {
    /// The log of the attempt in this pod of the cluster's namespace.
    pub(crate) fn of(cluster: &'a Cluster, pod: &'a str, attempt: u32, wanted: Wanted) -> Lines<'a> {
        Lines { cluster, pod, attempt, wanted, shown: Cell::new(None) }
    }

    /// Prints what was not printed yet. It may be called again after a failure, and once more when the attempt is over.
    pub(crate) async fn print(&self, part: Part) -> Result<(), Problem> {
        let namespace = &self.cluster.namespace;
        let found: Option<Pod> = self.cluster.get(namespace, self.pod).await?;
        let found = found.ok_or_else(|| Problem::Unfit(format!("pod {} is gone", self.pod)))?;
        let container = CurrentContainer::of(&found, self.attempt);
        let previous = container.comes_after(part);
        // What the kubelet would show next of one that ended is another attempt's.
        let follow = part == Part::Follow && !previous && !container.ended;
        let shown = self.shown.get();
        // No time is asked for at first: a container runs one attempt, the node's clock isn't the controller's, and the
        // client rounds to seconds, which may be after the first lines.
        let params = LogParams {
            container: pods::agent_container(&found),
            follow,
            previous,
            since_time: shown.map(whole_seconds),
            tail_lines: self.wanted.tail.filter(|_| shown.is_none()),
            timestamps: true,
            ..LogParams::default()
        };
        let request = Request { verb: "get", resource: "pods/log", namespace: Some(namespace) };
        let stream = self.cluster.api::<Pod>(namespace).log_stream(self.pod, &params).await;
        let mut stream = pin!(stream.map_err(|error| Problem::of(request, &error))?);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = stream.read_until(b'\n', &mut bytes).await;
            if read.map_err(|error| Problem::Unreachable(error.to_string()))? == 0 {
                return Ok(());
            }
            // A command may write what is no UTF-8.
            let line = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes));
            let (time, text) = timed(&line);
            if time.is_some() && time <= shown {
                continue;
            }
            self.shown.set(time.or(self.shown.get()));
            print(&format!("{}\n", if self.wanted.timestamps { &line } else { text }))?;
        }
    }
}

/// The agent's container of which the API server speaks now.
#[derive(Debug, Default)]
struct CurrentContainer {
    /// It ended, and the kubelet has not started another one.
    ended: bool,
    /// The one before it reported on the attempt.
    follows_the_attempts: bool,
    /// The one before it was killed before it could report on anything.
    follows_a_silent_one: bool,
}

impl CurrentContainer {
    fn of(pod: &Pod, attempt: u32) -> CurrentContainer {
        let Some((_, facts)) = pods::facts(pod) else { return CurrentContainer::default() };
        let report = facts.agent_before.as_ref().map(|exit| exit.report.as_ref());
        let ended = matches!(facts.agent, AgentState::Exited(_));
        CurrentContainer {
            ended,
            follows_the_attempts: report.flatten().is_some_and(|report| report.attempt() == attempt),
            follows_a_silent_one: report == Some(None) && !ended,
        }
    }

    /// Whether the attempt's lines are in the container before. Of an attempt that is over, they are not in one that was
    /// started since.
    fn comes_after(&self, part: Part) -> bool {
        self.follows_the_attempts || part == Part::Whole && self.follows_a_silent_one
    }
}

/// A line's time and text. The kubelet's own words about a log that it can't read have no time.
fn timed(line: &str) -> (Option<Timestamp>, &str) {
    let Some((time, text)) = line.split_once(' ') else { return (None, line) };
    time.parse().map_or((None, line), |time| (Some(time), text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_attempts_lines_are_in_the_container_that_reported_on_it() {
        let pod = |state: serde_json::Value, before: Option<&str>| -> Pod {
            let last = before.map_or(json!({}), |message| json!({ "terminated": { "exitCode": 1, "containerID": "containerd://a", "message": message } }));
            let agent = json!({ "name": "m", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last });
            serde_json::from_value(json!({
                "metadata": { "name": "p", "namespace": "n", "uid": "u", "labels": { "migration-gate.dev/gate": "g" } },
                "spec": { "containers": [], "initContainers": [{ "name": "m", "command": ["/migration-gate/agent"] }] },
                "status": { "initContainerStatuses": [agent] },
            }))
            .expect("a pod")
        };
        let verdict = r#"{"podUid":"u","attempt":3,"outcome":"failed","exitCode":1}"#;
        assert!(crate::contract::Report::parse(verdict).is_some(), "the test's own words");
        let running = json!({ "running": {} });
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        for (state, before, attempt, part, is_before) in [
            (&running, Some(verdict), 3, Part::Follow, true),
            (&waiting, Some(verdict), 3, Part::Follow, true),
            (&running, Some(verdict), 3, Part::Whole, true),
            (&running, Some(verdict), 4, Part::Follow, false),
            (&running, Some(verdict), 4, Part::Whole, false),
            (&running, Some("killed"), 3, Part::Follow, false),
            (&running, Some("killed"), 3, Part::Whole, true),
            (&json!({ "terminated": { "exitCode": 137 } }), Some("killed"), 3, Part::Whole, false),
            (&running, None, 3, Part::Whole, false),
        ] {
            let current = CurrentContainer::of(&pod(state.clone(), before), attempt);
            assert_eq!(current.comes_after(part), is_before, "{state} after {before:?}: {part:?} of {attempt}");
            assert_eq!(current.ended, state["terminated"].is_object());
        }
    }

    #[test]
    fn a_line_has_its_time_before_it_whatever_the_nodes_time_zone() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        assert_eq!(timed("2026-11-22T00:14:39.9Z a b"), (at("2026-11-22T00:14:39.9Z"), "a b"));
        assert_eq!(timed("2026-11-22T02:14:39.9+02:00 "), (at("2026-11-22T00:14:39.9Z"), ""));
        let unable = "unable to retrieve container logs for containerd://0";
        assert_eq!(timed(unable), (None, unable));
        assert_eq!(timed("word"), (None, "word"));
    }

    #[test]
    fn a_time_to_go_on_from_is_never_after_what_was_shown() {
        let time: Timestamp = "2026-11-22T00:14:39.9Z".parse().expect("a time");
        assert_eq!(whole_seconds(time).to_string(), "2026-11-22T00:14:39Z");
    }
}
