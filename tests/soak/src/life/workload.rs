//! A workload as its owner writes it.

use std::time::Duration;

use migration_gate_contract::{annotation, label};
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::script::{End, Fate, Script};

/// What is released: what the fingerprint is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The image's tag.
    pub tag: u32,
    /// How its migration goes.
    pub script: Script,
}

/// A workload as its owner wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The group that it shares a database with; none, if it has one of its own.
    pub group: Option<String>,
    /// What it releases now.
    pub release: Release,
    /// What it released before.
    pub before: Option<Release>,
    /// Something in its template that no migration depends on.
    pub shape: u32,
    /// Its pods.
    pub replicas: u64,
    /// It asks for a gate.
    pub gated: bool,
    /// Each new migration waits for an approval.
    pub suspended: bool,
    /// Failures after which it is given up.
    pub backoff_limit: u32,
    /// The node that its pods are bound to.
    pub node: String,
}

impl Workload {
    /// Its name with its namespace.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The path of its object.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments/{}", self.namespace, self.name)
    }

    /// The name of its group's record.
    #[must_use]
    pub fn record(&self) -> String {
        match &self.group {
            Some(group) => format!("{group}.group"),
            None => format!("{}.deployment", self.name),
        }
    }

    /// What its owner applies.
    #[must_use]
    pub fn manifest(&self) -> Value {
        let mut annotations = json!({
            annotation::COMMAND: self.release.script.to_string(),
            annotation::BACKOFF_LIMIT: self.backoff_limit.to_string(),
        });
        if let Some(group) = &self.group {
            annotations[annotation::GROUP] = json!(group);
        }
        if self.suspended {
            annotations[annotation::SUSPEND] = json!("true");
        }
        if self.release.script.0.iter().any(|fate| fate.end == End::Hangs) {
            annotations[annotation::TIMEOUT] = json!("2s");
        }
        let labels = if self.gated { json!({ label::GATED: label::GATED_TRUE }) } else { json!({}) };
        // One that asks for nothing says nothing either: the annotations alone would be refused.
        let annotations = if self.gated { annotations } else { json!({}) };
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": self.name, "namespace": self.namespace, "labels": labels, "annotations": annotations },
            "spec": {
                "replicas": self.replicas, "revisionHistoryLimit": 2,
                "selector": { "matchLabels": { "app": self.name } },
                "template": {
                    "metadata": { "labels": { "app": self.name }, "annotations": { "soak/shape": self.shape.to_string() } },
                    "spec": {
                        "nodeName": self.node, "terminationGracePeriodSeconds": 10,
                        "containers": [{ "name": "app", "image": format!("registry.example/app:{}", self.release.tag) }],
                    },
                },
            },
        })
    }
}

/// How a new migration goes.
#[must_use]
pub fn script(dice: &mut Dice, backoff_limit: u32) -> Script {
    let mut quick = || Duration::from_millis(dice.within(100..=900));
    let (one, other) = (quick(), quick());
    let ok = Fate::new(End::Succeeds, one);
    let first = |end| vec![Fate::new(end, other), ok];
    let deaf = |fate: Fate, dice: &mut Dice| Fate { deaf: Duration::from_secs(dice.within(2..=40)), ..fate };
    let kind = dice.weighted(&[(56, 0), (14, 1), (5, 2), (4, 3), (5, 4), (4, 5), (4, 6), (8, 7)]);
    Script(match kind {
        1 => first(End::Fails),
        2 => vec![Fate::new(End::Fails, one); backoff_limit as usize + 1],
        3 => first(End::Dies),
        4 => first(End::Crashes),
        5 => first(End::LosesSandbox),
        6 => vec![deaf(Fate::new(End::Hangs, one), dice), ok],
        // It takes long enough to be disturbed.
        7 => vec![deaf(Fate::new(End::Succeeds, Duration::from_secs(dice.within(3..=8))), dice), ok],
        _ => vec![ok],
    })
}
