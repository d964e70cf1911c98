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

use super::pods::Pods;
use super::snapshot::Record;
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
        let mut index = self.cache.index();
        let (tally, missed) = (index.tally(), index.ungated());
        drop(index);
        let now = Timestamp::now();
        let age = |since: Option<Timestamp>| since.map_or(0, |since| now.duration_since(since).as_secs().max(0));
        for (phase, count) in Phase::ALL.iter().zip(tally.phases) {
            self.metrics.migrations.of(*phase).set(count);
        }
        self.metrics.waiting_pods.set(tally.waiting);
        self.metrics.oldest_wait.set(age(tally.waits_since));
        self.metrics.oldest_attempt.set(age(tally.runs_since));
        self.metrics.missed_injections.set(i64::try_from(missed).unwrap_or(i64::MAX));
        self.metrics.leader.set(i64::from(*self.leading.borrow()));
    }
}

/// What there is to count in a group, or in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    waiting: i64,
    waits_since: Option<Timestamp>,
    runs_since: Option<Timestamp>,
    /// How many migrations are in each of [`Phase::ALL`].
    phases: [i64; PHASES],
}

const PHASES: usize = Phase::ALL.len();

impl Tally {
    /// What there is in a group.
    pub(super) fn of(pods: &Pods, record: Option<&Record>) -> Tally {
        let mut tally = Tally::default();
        for pod in pods.iter().filter(|pod| pod.is_waiting()) {
            tally.waiting += 1;
            tally.waits_since = earlier(tally.waits_since, Some(pod.created));
        }
        let Some(status) = record.and_then(|record| record.status.as_ref()) else { return tally };
        tally.runs_since = status.active.as_ref().map(|active| active.elected_at);
        for migration in &status.migrations {
            if let Some(at) = Phase::ALL.iter().position(|phase| *phase == migration.phase) {
                tally.phases[at] += 1;
            }
        }
        tally
    }

    /// And what there is in others.
    pub(super) fn add(&mut self, other: &Tally) {
        self.waiting += other.waiting;
        self.waits_since = earlier(self.waits_since, other.waits_since);
        self.runs_since = earlier(self.runs_since, other.runs_since);
        self.phases.iter_mut().zip(other.phases).for_each(|(all, more)| *all += more);
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}
