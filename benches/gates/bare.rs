//! A client that does nothing but send passes: the API server's own speed.

use std::ops::Range;
use std::time::{Duration, Instant};

use axum::http::Request;
use futures::StreamExt;
use kube::Client;
use serde_json::json;

use migration_gate::contract::{CONDITION, annotation};

use crate::PLACE;
use crate::support::pods::{FINGERPRINT, Kind, Pods};
use crate::support::{Result, say};

/// What is tried in the pilot.
const CONCURRENCIES: [usize; 5] = [8, 16, 32, 64, 128];
/// Patches for each of them.
const PILOT: usize = 300;

/// The bare client.
pub struct Bare {
    client: Client,
}

impl Bare {
    /// One that sends by this client.
    pub fn new(client: Client) -> Bare {
        Bare { client }
    }

    /// The number of requests at once with which most passes a second go through.
    pub async fn best_concurrency(&self, name: &str) -> Result<usize> {
        let pods = Pods::make(&self.client, PLACE, name, PILOT * CONCURRENCIES.len(), Kind::Other).await?;
        let mut best = (Duration::MAX, 1);
        for (at, concurrency) in CONCURRENCIES.into_iter().enumerate() {
            let took = self.open(&pods, at * PILOT..(at + 1) * PILOT, concurrency).await?;
            say(&format!("pilot: {concurrency} at once, {:.0} patches/s", PILOT as f64 / took.as_secs_f64()));
            best = best.min((took, concurrency));
        }
        pods.delete(&self.client).await?;
        Ok(best.1)
    }

    /// Sends to each of these pods the pass that the controller would, and reads none of the answers' contents.
    pub async fn open(&self, pods: &Pods, which: Range<usize>, concurrency: usize) -> Result<Duration> {
        let start = Instant::now();
        let sent = pods.names[which].iter().map(|(name, uid)| self.pass(name, uid));
        let answers: Vec<Result<()>> = futures::stream::iter(sent).buffer_unordered(concurrency).collect().await;
        answers.into_iter().collect::<Result<Vec<()>>>()?;
        Ok(start.elapsed())
    }

    async fn pass(&self, name: &str, uid: &str) -> Result<()> {
        let opened = json!({ "podUid": uid, "migration": FINGERPRINT }).to_string();
        let body = json!({
            "metadata": { "uid": uid, "annotations": { annotation::OPENED: opened } },
            "status": { "conditions": [{
                "type": CONDITION, "status": "True", "reason": "MigrationSucceeded",
                "message": "the pod's migration succeeded or was marked so", "lastTransitionTime": "2026-11-21T10:00:00Z",
            }] },
        });
        let request = Request::patch(format!("/api/v1/namespaces/{}/pods/{name}/status", PLACE.namespace))
            .header("content-type", "application/strategic-merge-patch+json")
            .body(body.to_string().into_bytes())?;
        self.client.request_text(request).await?;
        Ok(())
    }
}
