//! Who carries the life out: owners of workloads, operators, and others who have the right to touch pods.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use migration_gate_contract::label;
use serde_json::{Value, json};

use super::act::{Act, Hurt, Order, Propagation};
use super::copies::Copier;
use super::workload::Workload;
use crate::api::{Answer, Api, Kind};
use crate::chronicle::Chronicle;
use crate::kubelet::{House, Presence};
use crate::witness::Witness;
use crate::witness::blame::Promise;

/// How long a command is waited for that something is to happen to.
const RUNNER: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);
/// The orders that are left in a record; the oldest are removed before.
const ORDERS: usize = 24;

/// Who carries the life out.
pub struct People {
    /// Who may do everything.
    pub administrator: Api,
    /// Who copies.
    pub copier: Copier,
    /// The nodes.
    pub house: Arc<House>,
    /// Whom a broken promise is told.
    pub witness: Witness,
    /// What happened.
    pub chronicle: Chronicle,
    /// The fingerprint of each release that was seen: the same one has always the same.
    pub fingerprints: Mutex<HashMap<String, String>>,
}

impl People {
    /// Carries out what the plan says. What must wait for something goes on by itself.
    pub async fn happen(self: &Arc<Self>, act: &Act) {
        if let Some(workload) = act.workload() {
            self.chronicle
                .note([workload.key(), format!("{}/{}", workload.namespace, workload.record())], act.to_string());
        } else {
            self.chronicle.note([""; 0], act.to_string());
        }
        match act {
            Act::Apply(workload, _) => self.apply(workload).await,
            Act::Again(workload) => self.apply_again(workload).await,
            Act::Delete(workload, how) => self.delete(workload, *how).await,
            Act::Order(workload, Order::ConfirmDead) => {
                let (people, workload) = (Arc::clone(self), workload.clone());
                tokio::spawn(async move { people.confirm_the_living_dead(&workload).await });
            }
            Act::Order(workload, order) => self.order_about(workload, *order).await,
            Act::Hurt(workload, hurt) => {
                let (people, workload, hurt) = (Arc::clone(self), workload.clone(), *hurt);
                tokio::spawn(async move { people.hurt(&workload, hurt).await });
            }
            Act::CopyPod(workload, copy) => self.copier.pod(self, workload, *copy).await,
            Act::CopyWorkload(workload, copy) => self.copier.workload(self, workload, copy).await,
            Act::CopyTemplate(workload, name) => self.copier.template(self, workload, name).await,
            Act::RemoveCopies(namespace) => self.copier.remove(self, namespace).await,
            Act::DeleteNode(node) => {
                let path = format!("/api/v1/nodes/{node}");
                let answer = self.administrator.patiently().delete(&path, &json!({})).await;
                self.expect(std::slice::from_ref(node), answer);
            }
            // Not people's.
            Act::Disturb(_) => {}
        }
    }

    /// What must have been taken. An object that isn't there (any more) is no surprise in such a life.
    pub fn expect(&self, about: &[String], answer: Answer) -> Option<Value> {
        match answer {
            Ok(object) => Some(object),
            Err(refusal) => {
                self.chronicle.note(about.to_vec(), format!("refused: {refusal}"));
                if !refusal.is_absence() && !refusal.is_conflict() {
                    let what = format!("what an owner or an operator may do was refused: {refusal}");
                    self.witness.books().blame(Promise::Progress, about.to_vec(), what);
                }
                None
            }
        }
    }

    /// A workload's owner applies it.
    pub(super) async fn apply(&self, workload: &Workload) {
        let applied = self.send_manifest(workload).await;
        if let Some(object) = self.expect(&[workload.key()], applied) {
            self.compare(workload, &object);
        }
    }

    async fn send_manifest(&self, workload: &Workload) -> Answer {
        let path = format!("{}?fieldManager=owner&force=true", workload.path());
        let manifest = workload.manifest();
        self.administrator.patiently().patch(&path, Kind::Apply, &manifest).await
    }

    async fn wait_for_absence(&self, workload: &Workload) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(60) {
            if self.administrator.get(&workload.path()).await.is_err_and(|refusal| refusal.is_absence()) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The identity of a migration is a pure function of what is released.
    pub fn compare(&self, workload: &Workload, object: &Value) {
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        let fingerprint = labels[label::MIGRATION].as_str();
        let mut wrong = Vec::new();
        if fingerprint.is_some() != workload.gated {
            wrong.push(format!("it asks for a gate: {}, and has fingerprint {fingerprint:?}", workload.gated));
        }
        if let Some(fingerprint) = fingerprint {
            let release = format!("{} {}", workload.release.tag, workload.release.script);
            let mut known = self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
            let before = known.entry(release).or_insert_with(|| fingerprint.to_owned());
            if before != fingerprint {
                wrong.push(format!("its fingerprint was {before} for the same release, and is {fingerprint}"));
            }
            if labels[label::GATE] != workload.record() {
                wrong.push(format!(
                    "its group's record is {}, and its label says {}",
                    workload.record(),
                    labels[label::GATE]
                ));
            }
        }
        for what in wrong {
            self.witness.books().blame(Promise::NoDrift, vec![workload.key()], format!("{}: {what}", workload.key()));
        }
    }

    async fn apply_again(&self, workload: &Workload) {
        let before = self.administrator.patiently().get(&workload.path()).await;
        let Ok(before) = before else { return };
        let applied = self.send_manifest(workload).await;
        let Some(after) = self.expect(&[workload.key()], applied) else { return };
        let generation = |object: &Value| object["metadata"]["generation"].as_i64();
        let same =
            before["metadata"]["uid"] == after["metadata"]["uid"] && before["metadata"]["deletionTimestamp"].is_null();
        if same && generation(&before) != generation(&after) {
            let what = format!(
                "{}: the same manifest led from generation {:?} to {:?}",
                workload.key(),
                generation(&before),
                generation(&after)
            );
            self.witness.books().blame(Promise::NoDrift, vec![workload.key()], what);
        }
    }

    async fn delete(&self, workload: &Workload, how: Propagation) {
        let options = json!({ "propagationPolicy": format!("{how:?}") });
        let path = workload.path();
        let answer = self.administrator.patiently().delete(&path, &options).await;
        self.expect(&[workload.key()], answer);
        if how == Propagation::Foreground {
            // It is gone only when its pods are, and what is done to it before is in vain.
            self.wait_for_absence(workload).await;
        }
    }

    /// An order about the migration that a workload's current template asks for.
    async fn order_about(&self, workload: &Workload, order: Order) {
        let Ok(object) = self.administrator.patiently().get(&workload.path()).await else { return };
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        let (Some(record), Some(fingerprint)) = (labels[label::GATE].as_str(), labels[label::MIGRATION].as_str())
        else {
            return;
        };
        let record = format!("{}/{record}", workload.namespace);
        let latest = self
            .witness
            .books()
            .record_now(&record)
            .and_then(|record| record.status.migration(fingerprint)?.attempts.last().map(|attempt| attempt.number));
        let order = match (order, latest) {
            (Order::Retry, Some(attempt)) => json!({ "action": "Retry", "attempt": attempt }),
            (Order::Retry, None) => return,
            (order, _) => json!({ "action": format!("{order:?}") }),
        };
        self.order(&record, fingerprint, order).await;
    }

    /// An operator says that the process of the active attempt is dead, while it lives.
    async fn confirm_the_living_dead(&self, workload: &Workload) {
        let Some(runner) = self.runner(&workload.key()).await else { return };
        let (Some(record), Some(attempt)) = (runner.pod.gate.clone(), runner.running) else { return };
        self.chronicle
            .note([record.clone()], format!("attempt {attempt} in {} is said to be dead, and lives", runner.pod.key));
        let order = json!({ "action": "ConfirmDead", "attempt": attempt, "podUid": runner.pod.uid });
        self.order(&record, &runner.pod.fingerprint, order).await;
    }

    /// Adds an order to a record, and removes the oldest ones where there are many.
    pub async fn order(&self, record: &str, fingerprint: &str, mut order: Value) {
        let Some((namespace, name)) = record.split_once('/') else { return };
        let path = format!("/apis/migration-gate.dev/v1alpha1/namespaces/{namespace}/migrationgates/{name}");
        order["fingerprint"] = json!(fingerprint);
        order["reason"] = json!("part of the life");
        for (key, usual) in [("attempt", json!(0)), ("podUid", json!(""))] {
            if order[key].is_null() {
                order[key] = usual;
            }
        }
        self.chronicle.note([record.to_owned()], format!("order: {order}"));
        let answer = loop {
            match self.add_order(&path, &order).await {
                // Somebody else was faster: once more.
                Err(refusal) if refusal.is_conflict() => {}
                answer => break answer,
            }
        };
        self.expect(&[record.to_owned()], answer);
    }

    async fn add_order(&self, path: &str, order: &Value) -> Answer {
        let object = self.administrator.patiently().get(path).await?;
        let mut orders = object["spec"]["overrides"].as_array().cloned().unwrap_or_default();
        let same =
            |one: &Value| ["fingerprint", "action", "attempt", "podUid"].iter().all(|key| one[key] == order[key]);
        orders.retain(|one| !same(one));
        let excess = orders.len().saturating_sub(ORDERS - 1);
        orders.drain(..excess);
        orders.push(order.clone());
        let version = &object["metadata"]["resourceVersion"];
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "overrides": orders } });
        self.administrator.patiently().patch(path, Kind::Merge, &patch).await
    }

    /// The pod of a workload in which a command runs, as soon as there is one.
    async fn runner(&self, app: &str) -> Option<Presence> {
        let begin = Instant::now();
        while begin.elapsed() < RUNNER {
            if let Some(runner) = self.house.pods_of(app).into_iter().find(|pod| pod.running.is_some()) {
                return Some(runner);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    async fn hurt(&self, workload: &Workload, hurt: Hurt) {
        let found = match hurt {
            Hurt::DeleteAny => self.house.pods_of(&workload.key()).into_iter().find(|pod| !pod.over),
            _ => self.runner(&workload.key()).await,
        };
        let Some(presence) = found else { return };
        let pod = &presence.pod;
        let about = [pod.key.clone(), pod.gate.clone().unwrap_or_default(), pod.app.clone()];
        self.chronicle.note(about.clone(), format!("{hurt:?} of {}", pod.key));
        let Some((namespace, name)) = pod.key.split_once('/') else { return };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let only = json!({ "preconditions": { "uid": pod.uid } });
        let at_once = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": pod.uid } });
        match hurt {
            Hurt::DeleteAny | Hurt::DeleteRunner => {
                let answer = self.administrator.patiently().delete(&path, &only).await;
                self.expect(&about, answer);
            }
            Hurt::ForceRunner => {
                let answer = self.administrator.patiently().delete(&path, &at_once).await;
                self.expect(&about, answer);
            }
            Hurt::StripRunner => {
                let bare = json!({ "metadata": { "uid": pod.uid, "finalizers": null } });
                let answer = self.administrator.patiently().patch(&path, Kind::Merge, &bare).await;
                self.expect(&about, answer);
                let answer = self.administrator.patiently().delete(&path, &at_once).await;
                self.expect(&about, answer);
            }
            Hurt::KillRunner => self.house.kill_container(&pod.uid, false),
            Hurt::ForgetRunner => self.house.kill_container(&pod.uid, true),
        }
    }
}
