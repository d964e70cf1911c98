//! The watches: they keep the index current and say which groups changed. Nothing is decided here.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::api_error::classify_watch;
use crate::contract::label;
use crate::metrics::{ControllerMetrics, Label, Watched};
use crate::migration::MigrationGate;
use crate::supervise::Shutdown;

use super::index::{Concerned, Index};
use super::objects::{
    DeploymentObject, GroupKey, NodeObject, PodObject, ReplicaSetObject, record_facts, unreadable_facts,
};
use super::queue::Queue;

/// How often an API server that can't be reached is mentioned.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What the watches share with those who work.
#[derive(Debug, Default)]
pub struct Cache {
    index: Mutex<Index>,
    /// The groups that changed.
    pub queue: Queue,
}

impl Cache {
    /// The index. It is held for the time of a look-up or a change, never across a request.
    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index and queues the groups that this concerns.
    pub fn update(&self, change: impl FnOnce(&mut Index) -> Concerned) {
        let concerned = change(&mut self.index());
        if !concerned.is_empty() {
            self.queue.add(concerned);
        }
    }
}

/// Which of the watches have a complete first list. Before all have, nothing may be decided: a pod that isn't known
/// yet would look like one that is gone.
#[derive(Clone, Debug)]
pub struct Synced(Arc<watch::Sender<usize>>);

/// The number of watches.
const WATCHES: usize = 5;

impl Default for Synced {
    fn default() -> Synced {
        Synced(Arc::new(watch::Sender::new(0)))
    }
}

impl Synced {
    pub(super) fn one_more(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Whether every watch has its first list.
    pub fn is_complete(&self) -> bool {
        *self.0.borrow() >= WATCHES
    }

    /// Waits for the first list of every watch.
    pub async fn complete(&self) {
        // The sender lives as long as self does.
        let _ = self.0.subscribe().wait_for(|count| *count >= WATCHES).await;
    }
}

/// What the watches need.
#[derive(Clone)]
pub struct Watching {
    /// The client.
    pub client: Client,
    /// What they fill.
    pub cache: Arc<Cache>,
    /// Whom they tell of their first list.
    pub synced: Synced,
    /// What they count.
    pub metrics: Arc<ControllerMetrics>,
    /// When they end.
    pub shutdown: Shutdown,
}

/// The watches never fail for good: they list again, with a back-off, until they are asked to end.
pub type Never = std::convert::Infallible;

impl Watching {
    /// Watches the pods that carry the gate label.
    pub async fn pods(self) -> Result<(), Never> {
        let config = Config::default().labels(label::GATE);
        let seen = |index: &mut Index, pod: &PodObject| match pod.facts() {
            Some((key, facts)) => index.put_pod(key, facts),
            None => Concerned::new(),
        };
        self.follow(Watched::Pods, config, seen, pod_gone, Index::retain_pods).await
    }

    /// Watches the workloads that carry the gated label.
    pub async fn deployments(self) -> Result<(), Never> {
        let config = Config::default().labels(&format!("{}={}", label::GATED, label::GATED_TRUE));
        let seen = |index: &mut Index, workload: &DeploymentObject| match workload.facts() {
            Some((key, facts)) => index.put_workload(key, facts),
            None => workload.meta().uid.as_deref().map_or_else(Concerned::new, |uid| index.put_ungated(uid)),
        };
        let gone = |index: &mut Index, _: &DeploymentObject, uid: &str, version: &str| index.end(uid, version);
        self.follow(Watched::Deployments, config, seen, gone, Index::retain_workloads).await
    }

    /// Watches who controls the ReplicaSets that carry the gate label.
    pub async fn replica_sets(self) -> Result<(), Never> {
        let config = Config::default().labels(label::GATE);
        let seen = |index: &mut Index, replica_set: &ReplicaSetObject| match replica_set.facts() {
            Some((key, uid, workload)) => index.put_replica_set(key, uid, workload),
            None => replica_set.meta().uid.as_deref().map_or_else(Concerned::new, |uid| index.remove(uid)),
        };
        let gone = |index: &mut Index, _: &ReplicaSetObject, uid: &str, version: &str| index.end(uid, version);
        self.follow(Watched::ReplicaSets, config, seen, gone, Index::retain_replica_sets).await
    }

    /// Watches the records.
    pub async fn records(self) -> Result<(), Never> {
        let seen = |index: &mut Index, guarded: &DeserializeGuard<MigrationGate>| match &guarded.0 {
            Ok(gate) => record_facts(gate).map_or_else(Concerned::new, |(key, record)| index.put_record(key, record)),
            Err(invalid) => {
                let facts = unreadable_facts(&invalid.metadata, invalid.error.to_string());
                facts.map_or_else(Concerned::new, |(key, unreadable)| index.put_unreadable(key, unreadable))
            }
        };
        let gone = |index: &mut Index, guarded: &DeserializeGuard<MigrationGate>, uid: &str, version: &str| {
            record_key(guarded.meta()).map_or_else(Concerned::new, |key| index.end_record(&key, uid, version))
        };
        self.follow(Watched::Records, Config::default(), seen, gone, Index::retain_records).await
    }

    /// Watches the nodes.
    pub async fn nodes(self) -> Result<(), Never> {
        let seen = |index: &mut Index, node: &NodeObject| match node.facts() {
            Some((name, facts)) => index.put_node(name, facts),
            None => Concerned::new(),
        };
        let gone = |index: &mut Index, _: &NodeObject, uid: &str, _: &str| index.remove_node_by_uid(uid);
        self.follow(Watched::Nodes, Config::default(), seen, gone, Index::retain_nodes).await
    }

    async fn follow<K>(
        self,
        watched: Watched,
        config: Config,
        seen: impl Fn(&mut Index, &K) -> Concerned,
        gone: impl Fn(&mut Index, &K, &str, &str) -> Concerned,
        retain: impl Fn(&mut Index, &HashSet<String>) -> Concerned,
    ) -> Result<(), Never>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let what = watched.value();
        let stream = watcher::watcher(Api::<K>::all(self.client.clone()), config).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listed = HashSet::new();
        let mut first = true;
        let mut complained: Option<Instant> = None;
        loop {
            let event = tokio::select! {
                () = self.shutdown.requested() => return Ok(()),
                event = stream.next() => event,
            };
            if let Some(Ok(_)) = &event {
                self.metrics.last_event.of(watched).set(Timestamp::now().as_second());
            }
            match event {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(object))) => {
                    listed.extend(object.meta().uid.clone());
                    self.cache.update(|index| seen(index, &object));
                }
                Some(Ok(Event::InitDone)) => {
                    self.cache.update(|index| retain(index, &listed));
                    listed = HashSet::new();
                    complained = None;
                    if std::mem::take(&mut first) {
                        info!(what, "the first list is complete");
                        self.synced.one_more();
                    }
                }
                Some(Ok(Event::Apply(object))) => self.cache.update(|index| seen(index, &object)),
                Some(Ok(Event::Delete(object))) => {
                    if let Some(uid) = &object.meta().uid {
                        let version = object.meta().resource_version.as_deref().unwrap_or_default();
                        self.cache.update(|index| gone(index, &object, uid, version));
                    }
                }
                Some(Err(error)) => {
                    let failure = classify_watch(&error);
                    self.metrics.api_errors.of(failure).inc();
                    if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                        complained = Some(Instant::now());
                        warn!(what, %failure, error = %crate::supervise::with_causes(&error), "the watch failed; it is tried again with a back-off");
                    }
                }
                // The stream of a watcher has no end.
                None => return Ok(()),
            }
        }
    }
}

/// A pod went: its last state comes with the news.
fn pod_gone(index: &mut Index, last: &PodObject, uid: &str, version: &str) -> Concerned {
    match last.facts() {
        Some((_, last)) => index.end_pod(uid, version, last.signal.map_or(0, |signal| signal.attempt())),
        None => index.end(uid, version),
    }
}

/// The group whose record this is.
fn record_key(metadata: &ObjectMeta) -> Option<GroupKey> {
    Some(GroupKey { namespace: metadata.namespace.clone()?, name: metadata.name.clone()? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::snapshot::{LastSight, Live};
    use super::super::testing::{pod, record, running, uid};
    use super::*;
    use crate::contract::annotation;

    #[test]
    fn what_a_pod_was_like_in_the_moment_in_which_it_went_is_taken_from_the_news() {
        let key = GroupKey { namespace: "shop".to_owned(), name: "shop.deployment".to_owned() };
        let run = json!({ "run": { "podUid": uid("a"), "attempt": 4 } }).to_string();
        let others = json!({ "run": { "podUid": "another", "attempt": 4 } }).to_string();
        for (signal, sight) in
            [(run, LastSight::Signalled(4)), (others, LastSight::Unsignalled), (String::new(), LastSight::Unsignalled)]
        {
            let mut index = Index::default();
            index.put_record(key.clone(), record(running("a", 4)));
            index.put_pod(key.clone(), pod("a"));
            let last = json!({ "metadata": {
                "name": "a", "namespace": "shop", "uid": uid("a"), "resourceVersion": "12",
                "labels": { label::GATE: key.name }, "annotations": { annotation::SIGNAL: signal },
            } });
            let last: PodObject = serde_json::from_value(last).expect("a pod");
            assert_eq!(pod_gone(&mut index, &last, &uid("a"), "12"), std::slice::from_ref(&key));
            assert_eq!(index.snapshot(&key, Live::default()).map(|snapshot| snapshot.last_sight), Some(sight));
        }
    }
}
