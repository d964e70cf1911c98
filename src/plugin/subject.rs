//! What a verb is about: a workload, a pod or a record, as a person names it.

use k8s_openapi::api::apps::v1::Deployment;

use super::cluster::Cluster;
use super::problem::Problem;
use crate::contract::label;
pub(crate) use crate::controller::shown::short;
use crate::group::{Group, WorkloadKind, record_name};
use crate::migration::{Migration, MigrationGate, MigrationGateStatus};

/// A name from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A workload.
    Workload(String),
    /// A pod.
    Pod(String),
    /// A group's record.
    Record(String),
}

impl Subject {
    /// Reads `orders`, `deployment/orders`, `pod/orders-1`, `migrationgate/orders.deployment` or `orders.deployment`.
    ///
    /// # Errors
    /// If the kind is another one.
    pub(crate) fn parse(text: &str) -> Result<Subject, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("", text));
        if name.is_empty() || name.contains('/') {
            return Err("a NAME or KIND/NAME is needed".to_owned());
        }
        let name = name.to_owned();
        match kind.to_ascii_lowercase().as_str() {
            "" if name.ends_with(".deployment") || name.ends_with(".group") => Ok(Subject::Record(name)),
            "" | "deploy" | "deployment" | "deployments" | "deployment.apps" | "deployments.apps" => {
                Ok(Subject::Workload(name))
            }
            "po" | "pod" | "pods" => Ok(Subject::Pod(name)),
            "mgate" | "migrationgate" | "migrationgates" | "migrationgate.migration-gate.dev" => {
                Ok(Subject::Record(name))
            }
            _ => Err("only deployments, pods and migrationgates can be named".to_owned()),
        }
    }

    /// The name for people.
    pub(crate) fn name(&self) -> &str {
        match self {
            Subject::Workload(name) | Subject::Pod(name) | Subject::Record(name) => name,
        }
    }
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Subject, String> {
        Subject::parse(text)
    }
}

/// The record of a group by itself: enough for most verbs, and readable with no other right than to read records.
pub(crate) async fn record_of(cluster: &Cluster, subject: &Subject) -> Result<MigrationGate, Problem> {
    let records: Vec<MigrationGate> = cluster.list(Some(&cluster.namespace), "").await?;
    choose_record(records, subject, &cluster.namespace)
}

fn choose_record(records: Vec<MigrationGate>, subject: &Subject, namespace: &str) -> Result<MigrationGate, Problem> {
    let known: Vec<String> = records.iter().filter_map(|record| record.metadata.name.clone()).collect();
    let found = match subject {
        Subject::Record(name) => records.into_iter().find(|record| record.metadata.name.as_ref() == Some(name)),
        Subject::Workload(name) => {
            let alone = record_name(Group::Workload { kind: WorkloadKind::Deployment, name });
            let mut owned: Vec<MigrationGate> = records
                .into_iter()
                .filter(|record| record.metadata.name.as_ref() == Some(&alone) || owns(record, name).is_some())
                .collect();
            // A workload that an edit moved to another group still owns the old group's record.
            owned.sort_by_key(|record| has_left(record, name));
            owned.into_iter().next()
        }
        Subject::Pod(name) => records.into_iter().find(|record| {
            let status = record.status.as_ref();
            status.and_then(|status| status.active.as_ref()).is_some_and(|active| active.pod_name == *name)
        }),
    };
    found.ok_or_else(|| {
        let others = match known.len() {
            0 => "there are no records".to_owned(),
            1..=10 => format!("there are {}", known.join(", ")),
            many => format!("there are {many} others"),
        };
        Problem::Unfit(format!(
            "no record of {} in namespace {namespace} ({others}); is it gated? `migration-gate explain {}` tells",
            subject.name(),
            subject.name()
        ))
    })
}

/// The UID under which a workload owns a record.
fn owns<'a>(record: &'a MigrationGate, workload: &str) -> Option<&'a str> {
    let owners = record.metadata.owner_references.iter().flatten();
    let kind = WorkloadKind::Deployment.kind();
    owners.filter(|owner| owner.kind == kind && owner.name == workload).map(|owner| owner.uid.as_str()).next()
}

fn has_left(record: &MigrationGate, workload: &str) -> bool {
    let departed = record.status.iter().flat_map(|status| &status.departed);
    owns(record, workload).is_none_or(|uid| departed.into_iter().any(|gone| gone.workload_uid == uid))
}

/// The names of the workloads that own a record, or the record's own name.
pub(crate) fn workload_names(record: &MigrationGate) -> String {
    let owners = record.metadata.owner_references.iter().flatten();
    let names: Vec<&str> = owners.map(|owner| owner.name.as_str()).collect();
    if names.is_empty() { record.metadata.name.clone().unwrap_or_default() } else { names.join(",") }
}

/// Which of a record's migrations an order means.
pub(crate) struct Choice<'a> {
    /// The beginning of a fingerprint, if one was given.
    pub(crate) prefix: Option<&'a str>,
    /// What the migration must be like for the order to make sense.
    pub(crate) fits: fn(&Migration, &MigrationGateStatus) -> bool,
    /// That, in words that follow "no migration".
    pub(crate) what: &'static str,
}

impl Choice<'_> {
    /// The migration that is meant: the one that fits, or the workload's current one where several do.
    pub(crate) async fn make(
        &self,
        cluster: &Cluster,
        subject: &Subject,
        record: &MigrationGate,
    ) -> Result<Migration, Problem> {
        let status = record.status.clone().unwrap_or_default();
        let candidates = self.candidates(&status)?;
        match &candidates[..] {
            [one] => Ok(one.clone()),
            [] => Err(Problem::Unfit(format!(
                "no migration of {} {}; {}",
                subject.name(),
                self.what,
                status.message.as_deref().unwrap_or("nothing is recorded yet")
            ))),
            several => {
                let current = match subject {
                    Subject::Workload(name) => {
                        cluster.get::<Deployment>(&cluster.namespace, name).await?.and_then(current)
                    }
                    _ => None,
                };
                let named = several.iter().find(|migration| Some(&migration.fingerprint) == current.as_ref());
                named.cloned().ok_or_else(|| {
                    let list: Vec<String> = several
                        .iter()
                        .map(|migration| format!("{} ({})", short(&migration.fingerprint), migration.image))
                        .collect();
                    Problem::Usage(format!("several migrations fit; choose with --migration: {}", list.join(", ")))
                })
            }
        }
    }

    fn candidates(&self, status: &MigrationGateStatus) -> Result<Vec<Migration>, Problem> {
        let Some(prefix) = self.prefix else {
            return Ok(status.migrations.iter().filter(|each| (self.fits)(each, status)).cloned().collect());
        };
        let named: Vec<Migration> =
            status.migrations.iter().filter(|each| each.fingerprint.starts_with(prefix)).cloned().collect();
        if named.is_empty() {
            return Err(Problem::Unfit(format!(
                "no migration begins with {prefix}; `migration-gate history` lists them"
            )));
        }
        Ok(named)
    }
}

/// The fingerprint of a Deployment's current template.
pub(crate) fn current(deployment: Deployment) -> Option<String> {
    deployment.spec?.template.metadata?.labels?.get(label::MIGRATION).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_kubectl_reads_them() {
        for (text, expected) in [
            ("orders", Subject::Workload("orders".to_owned())),
            ("deploy/orders", Subject::Workload("orders".to_owned())),
            ("Deployment/orders", Subject::Workload("orders".to_owned())),
            ("deployments.apps/orders", Subject::Workload("orders".to_owned())),
            ("pod/orders-1", Subject::Pod("orders-1".to_owned())),
            ("orders.deployment", Subject::Record("orders.deployment".to_owned())),
            ("orders-db.group", Subject::Record("orders-db.group".to_owned())),
            ("mgate/x", Subject::Record("x".to_owned())),
        ] {
            assert_eq!(Subject::parse(text), Ok(expected), "{text}");
        }
        for bad in ["", "/", "deploy/", "statefulset/db", "a/b/c"] {
            assert!(Subject::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_workload_that_moved_is_found_where_it_is_now() {
        let record = |name: &str, departed: &str| -> MigrationGate {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "migration-gate.dev/v1alpha1", "kind": "MigrationGate",
                "metadata": { "name": name, "ownerReferences": [
                    { "apiVersion": "apps/v1", "kind": "Deployment", "name": "orders", "uid": "u" }] },
                "spec": {}, "status": { "departed": [{ "workloadUid": departed, "generation": 2 }] },
            }))
            .expect("a record")
        };
        let records = || vec![record("orders.deployment", "u"), record("orders-db.group", "other")];
        let find = |subject: &str| {
            let subject = Subject::parse(subject).expect(subject);
            choose_record(records(), &subject, "shop").map(|record| record.metadata.name.unwrap_or_default())
        };
        assert_eq!(find("orders").as_deref(), Ok("orders-db.group"));
        assert_eq!(find("orders.deployment").as_deref(), Ok("orders.deployment"));
        let missing = find("billing").expect_err("there is none").to_string();
        assert!(missing.contains("orders.deployment, orders-db.group"), "{missing}");
    }
}
