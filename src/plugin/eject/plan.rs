//! What is to be done, before anything is.

use k8s_openapi::api::apps::v1::Deployment;

use super::super::cluster::Cluster;
use super::super::problem::Problem;
use super::super::seen::is_gated;
use super::super::subject::{current, short};
use super::super::table::{Cell, Table};
use super::super::terminal::{Screen, Tone};
use crate::contract::label;
use crate::migration::{MigrationGate, MigrationGateStatus};

/// Everything that is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// A step for each workload, by namespace and name.
    pub(super) steps: Vec<Step>,
}

/// One workload that is taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) workload: String,
    /// The name of its group's record, and the fingerprint of its template; nothing, where only the label is there.
    pub(super) gate: Option<(String, String)>,
    /// Where its migration stands.
    pub(super) standing: Standing,
}

/// Where a migration stands, as far as leaving goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is injected.
    NotInjected,
    /// It succeeded.
    Succeeded,
    /// This attempt runs.
    Running(u32),
    /// It has not succeeded, and waits for something.
    Held(String),
}

impl Plan {
    /// Reads what there is: these workloads, or all that have anything of ours.
    pub(super) async fn make(
        cluster: &Cluster,
        namespace: Option<&str>,
        workloads: &[String],
    ) -> Result<Plan, Problem> {
        let records: Vec<MigrationGate> = cluster.list(namespace, "").await?;
        let deployments: Vec<Deployment> = match workloads {
            [] => cluster.list(namespace, "").await?,
            named => {
                let mut found = Vec::new();
                for name in named {
                    let deployment = cluster.get(&cluster.namespace, name).await?;
                    found.push(deployment.ok_or_else(|| {
                        Problem::Unfit(format!("namespace {} has no deployment {name}", cluster.namespace))
                    })?);
                }
                found
            }
        };
        Ok(Plan::of(&deployments, &records))
    }

    fn of(deployments: &[Deployment], records: &[MigrationGate]) -> Plan {
        let mut steps: Vec<Step> = deployments.iter().filter_map(|deployment| Step::of(deployment, records)).collect();
        steps.sort_by(|a, b| (&a.namespace, &a.workload).cmp(&(&b.namespace, &b.workload)));
        Plan { steps }
    }

    /// The plan for people.
    pub(super) fn describe(&self, keep_injected: bool, screen: &Screen) -> String {
        if self.steps.is_empty() {
            return "no workload is gated\n".to_owned();
        }
        let mut table = Table::new(&["NAMESPACE", "WORKLOAD", "MIGRATION", "STANDS", "WHAT HAPPENS"]);
        for step in &self.steps {
            let fingerprint = step.gate.as_ref().map_or("", |(_, fingerprint)| short(fingerprint));
            let (stands, tone) = step.standing.in_words();
            table.push(vec![
                step.namespace.as_str().into(),
                step.workload.as_str().into(),
                fingerprint.into(),
                Cell::new(stands, tone),
                step.what_happens(keep_injected).into(),
            ]);
        }
        table.render(screen)
    }

    /// What a person is asked.
    pub(super) fn question(&self, keep_injected: bool) -> String {
        let unmigrated = self.steps.iter().filter(|step| step.starts_unmigrated()).count();
        let what = match (keep_injected, self.steps.len()) {
            (_, 0) => "Nothing is gated; only the opt-in goes.".to_owned(),
            (true, _) => "Every gate opens, now and for pods that are yet to come.".to_owned(),
            (false, 1) => "The workload is rolled out once more, without its gate.".to_owned(),
            (false, many) => {
                format!("{many} workloads are rolled out once more, one after the other, without their gates.")
            }
        };
        match unmigrated {
            0 => format!("{what} Go on?"),
            1 => {
                format!("{what} For one of them the migration has not succeeded: its version starts without it. Go on?")
            }
            many => {
                format!(
                    "{what} For {many} of them the migration has not succeeded: their versions start without it. Go on?"
                )
            }
        }
    }
}

impl Step {
    fn of(deployment: &Deployment, records: &[MigrationGate]) -> Option<Step> {
        let metadata = &deployment.metadata;
        let labels = deployment.spec.as_ref()?.template.metadata.as_ref().and_then(|template| template.labels.as_ref());
        let record = labels.and_then(|labels| labels.get(label::GATE)).cloned();
        if record.is_none() && !is_gated(deployment) {
            return None;
        }
        let gate = record.and_then(|record| Some((record, current(deployment.clone())?)));
        let namespace = metadata.namespace.clone()?;
        let status = gate.as_ref().and_then(|(record, _)| {
            let of_ours = |gate: &&MigrationGate| {
                gate.metadata.namespace.as_ref() == Some(&namespace) && gate.metadata.name.as_ref() == Some(record)
            };
            records.iter().find(of_ours)?.status.as_ref()
        });
        let standing = match &gate {
            None => Standing::NotInjected,
            Some((_, fingerprint)) => Standing::of(fingerprint, status),
        };
        Some(Step { namespace, workload: metadata.name.clone()?, gate, standing })
    }

    fn starts_unmigrated(&self) -> bool {
        matches!(self.standing, Standing::Held(_))
    }

    fn what_happens(&self, keep_injected: bool) -> &'static str {
        match (keep_injected, &self.standing) {
            (_, Standing::NotInjected) => "only its label goes",
            (true, Standing::Succeeded) => "nothing: its gates are open",
            (true, Standing::Running(_)) => "its end is waited for; then its gates open",
            (true, Standing::Held(_)) => "its migration counts as succeeded; its gates open",
            (false, Standing::Succeeded) => "a rollout without the gate",
            (false, Standing::Running(_)) => "its end is waited for; then a rollout without the gate",
            (false, Standing::Held(_)) => "a rollout without the gate, and WITHOUT its migration",
        }
    }
}

impl Standing {
    /// Where this migration stands by a record's status.
    pub(super) fn of(fingerprint: &str, status: Option<&MigrationGateStatus>) -> Standing {
        let Some(status) = status else { return Standing::Held("no record".to_owned()) };
        if let Some(active) = status.active.as_ref().filter(|active| active.fingerprint == fingerprint) {
            return Standing::Running(active.attempt);
        }
        if status.has_succeeded(fingerprint) {
            return Standing::Succeeded;
        }
        let phase = status.migration(fingerprint).map(|migration| format!("{:?}", migration.phase));
        Standing::Held(phase.unwrap_or_else(|| "Pending".to_owned()))
    }

    fn in_words(&self) -> (String, Tone) {
        match self {
            Standing::NotInjected => ("not injected".to_owned(), Tone::Dim),
            Standing::Succeeded => ("Succeeded".to_owned(), Tone::Good),
            Standing::Running(attempt) => (format!("Running, attempt {attempt}"), Tone::Busy),
            Standing::Held(phase) => (phase.clone(), Tone::Bad),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FINGERPRINT: &str = "0123456789abcdef0123456789abcdef";

    fn deployment(name: &str, gated: bool, injected: bool) -> Deployment {
        let labels = if gated { json!({ label::GATED: label::GATED_TRUE }) } else { json!({}) };
        let template = match injected {
            true => json!({ "app": name, label::GATE: format!("{name}.deployment"), label::MIGRATION: FINGERPRINT }),
            false => json!({ "app": name }),
        };
        serde_json::from_value(json!({
            "metadata": { "namespace": "shop", "name": name, "labels": labels },
            "spec": { "selector": {}, "template": { "metadata": { "labels": template } } },
        }))
        .expect("a Deployment")
    }

    fn record(name: &str, status: serde_json::Value) -> MigrationGate {
        serde_json::from_value(json!({
            "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate",
            "metadata": { "namespace": "shop", "name": format!("{name}.deployment") }, "spec": {}, "status": status,
        }))
        .expect("a record")
    }

    fn plan() -> Plan {
        let deployments = [
            deployment("running", true, true),
            deployment("failed", true, true),
            deployment("done", true, true),
            deployment("left-behind", false, true),
            deployment("labelled", true, false),
            deployment("plain", false, false),
        ];
        let active = json!({ "fingerprint": FINGERPRINT, "attempt": 3, "podName": "p", "podUid": "u", "electedAt": "2026-11-21T10:00:00Z" });
        let records = [
            record("running", json!({ "active": active })),
            record("failed", json!({ "migrations": [{ "fingerprint": FINGERPRINT, "phase": "Failed" }] })),
            record("done", json!({ "succeeded": [FINGERPRINT] })),
        ];
        Plan::of(&deployments, &records)
    }

    #[test]
    fn whoever_has_anything_of_ours_is_taken_out() {
        let expected = "\
NAMESPACE   WORKLOAD      MIGRATION   STANDS               WHAT HAPPENS
shop        done          01234567    Succeeded            a rollout without the gate
shop        failed        01234567    Failed               a rollout without the gate, and WITHOUT its migration
shop        labelled      -           not injected         only its label goes
shop        left-behind   01234567    no record            a rollout without the gate, and WITHOUT its migration
shop        running       01234567    Running, attempt 3   its end is waited for; then a rollout without the gate
";
        assert_eq!(plan().describe(false, &Screen::PLAIN), expected);
    }

    #[test]
    fn the_question_says_who_starts_without_a_migration() {
        assert_eq!(
            plan().question(false),
            "5 workloads are rolled out once more, one after the other, without their gates. For 2 of them the migration has \
             not succeeded: their versions start without it. Go on?"
        );
    }
}
