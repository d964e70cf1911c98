//! What the metrics say of the present: counted from the index now and then, so that nothing on the path counts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::health::Part;
use crate::metrics::{ControllerMetrics, Label};
use crate::migration::Phase;
use crate::supervise::Shutdown;

use super::watch::{Cache, Synced};

/// How often the gauges are brought up to date; scrapes are rarer.
const PERIOD: Duration = Duration::from_secs(2);

/// What is counted, and where.
pub(super) struct Gauges {
    pub(super) cache: Arc<Cache>,
    pub(super) metrics: Arc<ControllerMetrics>,
    pub(super) leading: watch::Receiver<bool>,
    pub(super) synced: Synced,
    pub(super) ready: Part,
}

impl Gauges {
    /// Counts until the shutdown.
    pub(super) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = self.synced.complete() => self.ready.set(true),
        }
        loop {
            self.count();
            tokio::select! {
                () = shutdown.requested() => break,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        self.ready.set(false);
        self.metrics.leader.set(0);
        Ok(())
    }

    fn count(&self) {
        let now = Timestamp::now();
        let mut phases = vec![0; Phase::ALL.len()];
        let (mut waiting, mut oldest_wait, mut oldest_attempt) = (0, 0, 0);
        let age = |since: Timestamp| now.duration_since(since).as_secs().max(0);
        let index = self.cache.index();
        index.survey(|group| {
            for pod in group.pods.filter(|pod| pod.is_waiting()) {
                waiting += 1;
                oldest_wait = oldest_wait.max(age(pod.created));
            }
            let Some(status) = group.record.and_then(|record| record.status.as_ref()) else { return };
            if let Some(active) = &status.active {
                oldest_attempt = oldest_attempt.max(age(active.elected_at));
            }
            for migration in &status.migrations {
                if let Some(at) = Phase::ALL.iter().position(|phase| *phase == migration.phase) {
                    phases[at] += 1;
                }
            }
        });
        let missed = index.ungated();
        drop(index);
        for (phase, count) in Phase::ALL.iter().zip(phases) {
            self.metrics.migrations.of(*phase).set(count);
        }
        self.metrics.waiting_pods.set(waiting);
        self.metrics.oldest_wait.set(oldest_wait);
        self.metrics.oldest_attempt.set(oldest_attempt);
        self.metrics.missed_injections.set(i64::try_from(missed).unwrap_or(i64::MAX));
        self.metrics.leader.set(i64::from(*self.leading.borrow()));
    }
}
