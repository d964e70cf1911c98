//! The rule that holds a workload's pods, found by the controller's own rules: what `explain` says.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod as KubePod;
use serde::Serialize;

use super::pods;
use super::seen::{RULES, active};
use super::subject::short;
use crate::controller::decide::decide;
use crate::controller::decision::{Action, Decision};
use crate::controller::eligible::Obstacle;
use crate::controller::evidence::{Evidence, weigh};
use crate::controller::snapshot::{Pod, RecordView, Snapshot, Workload};
use crate::controller::standing::{INTERRUPTIONS_CAP, NEVER_STARTED_CAP, Standing, for_people, standing, unaccounted};
use crate::migration::{Active, Migration, MigrationGateStatus};

/// What holds pods: a small, fixed set, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Rule {
    /// The workload doesn't ask for a gate.
    NotGated,
    /// It asks for one and has none.
    NotInjected,
    /// Its group has no record.
    NoRecord,
    /// Its group's record can't be read.
    RecordUnreadable,
    /// Nothing of ours holds it.
    Open,
    /// The controller should have acted and has not.
    ControllerAway,
    /// An attempt runs.
    Running,
    /// Nobody can prove that an attempt is over.
    Unaccounted,
    /// Another migration of the group is active.
    GroupBusy,
    /// A failed or interrupted attempt is followed by a pause.
    BackingOff,
    /// It waits for an approval.
    Suspended,
    /// It failed as often as it may.
    OutOfAttempts,
    /// It was interrupted as often as it may.
    OutOfInterruptions,
    /// It was given out as often as it may and never started.
    OutOfStarts,
    /// The process of an attempt that was given up may still be ending.
    Fenced,
    /// The workload's settings can't be read.
    SettingsUnreadable,
    /// No pod can run it now.
    NoPodCanRun,
    /// No pod can run it now, and one of them lacks an image.
    NoImage,
    /// The pod's template is not the current one any more, and its migration never succeeded.
    Superseded,
    /// The namespace is being deleted.
    NamespaceLeaves,
}

/// What holds something, in a sentence, and what would release it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reason {
    /// The rule.
    pub(crate) rule: Rule,
    /// The rule, applied: a sentence.
    pub(crate) because: String,
    /// What would release it, each a sentence or a command.
    #[serde(rename = "releasedBy")]
    pub(crate) released_by: Vec<String>,
}

impl Reason {
    /// A reason.
    pub(crate) fn new(rule: Rule, because: String, released_by: impl IntoIterator<Item = String>) -> Reason {
        Reason { rule, because, released_by: released_by.into_iter().collect() }
    }
}

/// How the commands are spelled that a person is shown.
pub(crate) struct Commands {
    /// Such as `kubectl migration-gate`.
    pub(crate) program: String,
    /// Such as ` -n shop`.
    pub(crate) place: String,
}

impl Commands {
    fn verb(&self, verb: &str, subject: &str) -> String {
        format!("{} {verb} {subject}{}", self.program, self.place)
    }
}

/// Where to look when the controller doesn't act.
pub(crate) const CONTROLLER: &str =
    "a controller that runs: kubectl -n migration-gate-system get pods -l app.kubernetes.io/component=controller";

/// Why a workload's new pods are not ready, as far as its gate goes.
pub(crate) struct Case<'a> {
    /// The group.
    pub(crate) snapshot: &'a Snapshot,
    /// The workload, as it is in the group.
    pub(crate) workload: &'a Workload,
    /// The pods as the kubelet describes them, by name.
    pub(crate) pods: &'a BTreeMap<String, KubePod>,
    /// Now.
    pub(crate) now: Timestamp,
    /// How commands are spelled.
    pub(crate) commands: &'a Commands,
}

impl Case<'_> {
    /// The rule that holds the workload's current migration.
    pub(crate) fn reason(&self) -> Reason {
        let (name, fingerprint) = (&self.workload.name, &self.workload.fingerprint);
        let status = match &self.snapshot.record {
            RecordView::Missing | RecordView::Refused => {
                return Reason::new(
                    Rule::NoRecord,
                    format!("its group has no record {} yet; the controller makes it", self.snapshot.name),
                    [CONTROLLER.to_owned()],
                );
            }
            RecordView::Unreadable(record) => {
                return Reason::new(
                    Rule::RecordUnreadable,
                    format!("the record {} can't be read, so nobody knows who runs: {}", record.name, record.why),
                    [format!("the record's repair: kubectl edit migrationgate {}{}", record.name, self.commands.place)],
                );
            }
            RecordView::Present(record) => match &record.status {
                Some(status) => status,
                None => return self.controller_away("look at its new record"),
            },
        };
        let decision = decide(self.snapshot, RULES, self.now);
        if status.has_succeeded(fingerprint) {
            return self.succeeded(&decision);
        }
        if let Some(active) = active(self.snapshot) {
            return self.active(active, status);
        }
        if let Some(stall) = unaccounted(status) {
            return Reason::new(Rule::Unaccounted, stall, [self.commands.verb("confirm-dead", name)]);
        }
        self.standing(status, &decision)
    }

    fn controller_away(&self, what: &str) -> Reason {
        Reason::new(
            Rule::ControllerAway,
            format!("the controller would {what} now, and has not: it may be down, or just about to"),
            [CONTROLLER.to_owned()],
        )
    }

    fn succeeded(&self, decision: &Decision) -> Reason {
        let waiting = decision.actions.iter().map(|action| match action {
            Action::Open(pods) => pods.len(),
            _ => 0,
        });
        let late = waiting.sum();
        if late > 0 {
            return self.controller_away(&format!("open {}", count(late, "gate")));
        }
        let of_us = self.snapshot.pods.iter().filter(|pod| pod.fingerprint == self.workload.fingerprint);
        let unready: Vec<String> = of_us
            .filter_map(|pod| self.pods.get(&pod.name))
            .filter(|pod| !pods::is_ready(pod))
            .flat_map(pods::unready)
            .collect();
        let (because, released_by) = match unready.first() {
            None => ("its migration succeeded and its gates are open".to_owned(), None),
            Some(first) => (
                format!(
                    "its migration succeeded and its gates are open; what is not ready is the application: {first}"
                ),
                Some(format!(
                    "what the application needs: kubectl describe deployment {}{}",
                    self.workload.name, self.commands.place
                )),
            ),
        };
        Reason::new(Rule::Open, because, released_by)
    }

    fn active(&self, active: &Active, status: &MigrationGateStatus) -> Reason {
        let name = &self.workload.name;
        let since = for_people(self.now.duration_since(active.signalled_at.unwrap_or(active.elected_at)));
        let attempt = format!("attempt {} in pod {}", active.attempt, active.pod_name);
        let logs = self.commands.verb("logs -f", name);
        let evidence = weigh(active, self.snapshot, RULES.node_deletion);
        let confirm = self.commands.verb("confirm-dead", name);
        match evidence {
            Evidence::Held(why) => Reason::new(
                Rule::Unaccounted,
                format!("{why}; until somebody knows that it is dead, no other attempt may start"),
                [format!("your word that it is dead, once you know it: {confirm}")],
            ),
            Evidence::Ended(_) | Evidence::Fence(_) => self.controller_away(&format!("record the end of {attempt}")),
            _ if active.fingerprint != self.workload.fingerprint => {
                let other = status.migration(&active.fingerprint).map_or("", |migration| migration.image.as_str());
                Reason::new(
                    Rule::GroupBusy,
                    format!(
                        "another migration of its group runs first: {attempt}, migration {} of {other}, since {since}",
                        short(&active.fingerprint)
                    ),
                    [format!("its end: {logs}")],
                )
            }
            _ => {
                let mut released_by = vec![format!("its success: {logs}")];
                let because = match self.doubt(active) {
                    Some(doubt) => {
                        released_by.push(format!("your word that it is dead, once you know it: {confirm}"));
                        format!("{attempt} has been running for {since}; {doubt}, which does not prove that it is over")
                    }
                    None => format!("{attempt} has been running for {since}"),
                };
                Reason::new(Rule::Running, because, released_by)
            }
        }
    }

    /// What makes one wonder whether an active attempt is alive.
    fn doubt(&self, active: &Active) -> Option<String> {
        let pod = self.snapshot.pod(&active.pod_uid)?;
        let node = pod.node.as_ref().and_then(|name| Some((name, self.snapshot.nodes.get(name)?)));
        match node {
            Some((name, node)) if !node.ready => Some(format!("its node {name} is not Ready")),
            _ if pod.deleting => Some("its pod is being deleted".to_owned()),
            _ => None,
        }
    }

    fn standing(&self, status: &MigrationGateStatus, decision: &Decision) -> Reason {
        let name = &self.workload.name;
        let migration = status.migration(&self.workload.fingerprint);
        let retry = format!("another try, once the cause is mended: {}", self.commands.verb("retry", name));
        let skip = format!(
            "your word that the schema is as this version needs it: {}",
            self.commands.verb("mark-succeeded", name)
        );
        let fix = "a new version that fixes it: change the Deployment".to_owned();
        let standing = standing(self.workload, status);
        if let (Standing::Ready | Standing::BackingOff(_), Some(fenced)) = (standing, &status.fenced) {
            return Reason::new(
                Rule::Fenced,
                format!(
                    "attempt {} in pod {} was given up without a proof that its process is gone, and that may still be ending",
                    fenced.attempt, fenced.pod_name
                ),
                [
                    format!(
                        "{} from then on",
                        for_people(SignedDuration::try_from(fenced.longest_ending()).unwrap_or_default())
                    ),
                    "the report of its agent, if that is sooner".to_owned(),
                ],
            );
        }
        match standing {
            Standing::Done => self.succeeded(decision),
            Standing::Suspended => Reason::new(
                Rule::Suspended,
                "each new migration of it waits for an approval".to_owned(),
                [format!("an approval: {}", self.commands.verb("approve", name))],
            ),
            Standing::OutOfAttempts => Reason::new(
                Rule::OutOfAttempts,
                format!("its migration failed and has no attempts left{}", last_words(migration)),
                [fix, retry, skip],
            ),
            Standing::OutOfInterruptions => Reason::new(
                Rule::OutOfInterruptions,
                format!("its migration was interrupted {INTERRUPTIONS_CAP} times, which is no accident"),
                [fix, retry, skip],
            ),
            Standing::OutOfStarts => Reason::new(
                Rule::OutOfStarts,
                format!("its migration was given to a pod {NEVER_STARTED_CAP} times in a row and never started"),
                [format!("what the agent says: {}", self.commands.verb("logs", name)), retry, skip],
            ),
            Standing::Unreadable => {
                let why = self.workload.policy.as_ref().err().cloned().unwrap_or_default();
                Reason::new(
                    Rule::SettingsUnreadable,
                    format!("its settings can't be used: {why}"),
                    ["a valid value of that annotation".to_owned()],
                )
            }
            Standing::BackingOff(until) if until > self.now => Reason::new(
                Rule::BackingOff,
                format!(
                    "its migration is tried again in {}, after {} failed and {} interrupted{}",
                    for_people(until.duration_since(self.now)),
                    migration.map_or(0, |migration| migration.failures),
                    migration.map_or(0, |migration| migration.interruptions),
                    last_words(migration)
                ),
                ["time".to_owned(), format!("not waiting for it: {}", self.commands.verb("retry", name))],
            ),
            Standing::Ready | Standing::BackingOff(_) => self.nobody_elected(decision),
        }
    }

    /// It may be tried, and nobody runs it: why?
    fn nobody_elected(&self, decision: &Decision) -> Reason {
        let of_us: Vec<&Pod> =
            self.snapshot.pods.iter().filter(|pod| pod.fingerprint == self.workload.fingerprint).collect();
        if let Some(pod) = of_us.iter().find(|pod| self.snapshot.obstacle(pod).is_none())
            && !decision.actions.is_empty()
        {
            return self.controller_away(&format!("let pod {} run the migration", pod.name));
        }
        if of_us.is_empty() {
            return Reason::new(
                Rule::NoPodCanRun,
                "no pod of its current template exists yet".to_owned(),
                [format!("a pod: kubectl describe replicasets{} tells why there is none", self.commands.place)],
            );
        }
        if let Some(reason) = self.no_image(&of_us) {
            return reason;
        }
        let obstacles: Vec<String> = of_us.iter().filter_map(|pod| self.obstacle(pod)).collect();
        let first = obstacles.first().cloned().unwrap_or_else(|| "its agents were started just now".to_owned());
        let because = match obstacles.len() {
            0 | 1 => format!("no pod of it can run the migration yet: {first}"),
            many => format!("none of its {many} pods can run the migration yet; the first: {first}"),
        };
        Reason::new(Rule::NoPodCanRun, because, ["a pod whose agent runs on a Ready node".to_owned()])
    }

    /// An image that can't be had is no matter of time, as most obstacles are: it is told whichever pod lacks it.
    fn no_image(&self, of_us: &[&Pod]) -> Option<Reason> {
        if of_us.iter().any(|pod| self.snapshot.obstacle(pod).is_none()) {
            return None;
        }
        let lacks = |pod: &&Pod| Some((pod.name.clone(), self.pods.get(&pod.name).and_then(pods::image_error)?));
        let (pod, error) = of_us.iter().filter(|pod| pod.is_alive()).find_map(lacks)?;
        Some(Reason::new(
            Rule::NoImage,
            format!("no pod of it can run the migration yet: {pod}: {error}"),
            [
                "an image that is there: change the Deployment".to_owned(),
                format!(
                    "the way to it (imagePullSecrets, the registry): kubectl describe pod {pod}{}",
                    self.commands.place
                ),
            ],
        ))
    }

    /// What keeps one pod from running the migration.
    pub(crate) fn obstacle(&self, pod: &Pod) -> Option<String> {
        let described = self.pods.get(&pod.name);
        let why = match self.snapshot.obstacle(pod)? {
            obstacle @ (Obstacle::NoAgent | Obstacle::NoNode) => described
                .and_then(|pod| pods::image_error(pod).or_else(|| pods::trouble(pod)))
                .unwrap_or_else(|| obstacle.to_string()),
            obstacle => obstacle.to_string(),
        };
        Some(format!("{}: {why}", pod.name))
    }

    /// Why one pod is not ready; the workload's own reason, if `None`.
    pub(crate) fn of_pod(&self, pod: &Pod) -> Option<Reason> {
        let status = match &self.snapshot.record {
            RecordView::Present(record) => record.status.as_ref()?,
            _ => return None,
        };
        if pod.is_open() {
            let described = self.pods.get(&pod.name);
            let ready = described.is_some_and(pods::is_ready);
            let unready = described.map(pods::unready).unwrap_or_default();
            let because = match (ready, unready.first()) {
                (true, _) => "its gate is open and it is ready".to_owned(),
                (false, Some(first)) => format!("its gate is open; what is not ready is the application: {first}"),
                (false, None) => "its gate is open; the kubelet has not called it ready yet".to_owned(),
            };
            return Some(Reason::new(Rule::Open, because, []));
        }
        let succeeded = status.has_succeeded(&pod.fingerprint);
        (pod.fingerprint != self.workload.fingerprint && !succeeded).then(|| {
            Reason::new(
                Rule::Superseded,
                format!(
                    "its template is not {}'s current one, and its migration {} never succeeded",
                    self.workload.name,
                    short(&pod.fingerprint)
                ),
                ["the rollout, which replaces it".to_owned(), "a rollback to its template".to_owned()],
            )
        })
    }
}

/// How the last attempt ended, with its last line.
fn last_words(migration: Option<&Migration>) -> String {
    let Some(attempt) = migration.and_then(|migration| migration.attempts.last()) else { return String::new() };
    let code = attempt.exit_code.map_or_else(String::new, |code| format!(" with exit code {code}"));
    let line = attempt.log_tail.as_deref().and_then(|tail| tail.trim_end().lines().last());
    let line = line.map_or_else(String::new, |line| format!(": {}", super::terminal::harmless(line)));
    format!("; attempt {} in pod {} ended{code}{line}", attempt.number, attempt.pod)
}

/// A number and a noun.
fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
#[path = "reason_tests.rs"]
mod tests;
