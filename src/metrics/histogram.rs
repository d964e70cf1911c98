//! A histogram of durations that many threads may fill without waiting for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A histogram of durations. Clones share their counts.
///
/// The library's own histogram takes a lock at each observation; an admission is short enough to feel that.
#[derive(Clone, Debug)]
pub struct Durations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The upper bounds, rising; what is above the last one counts in the last bucket of `counts`.
    bounds: &'static [Duration],
    /// One more than `bounds`; not cumulative.
    counts: Vec<AtomicU64>,
    nanoseconds: AtomicU64,
}

impl Durations {
    /// An empty histogram with these upper bounds, which must rise.
    pub fn new(bounds: &'static [Duration]) -> Durations {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Durations(Arc::new(Inner { bounds, counts, nanoseconds: AtomicU64::new(0) }))
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < duration);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), std::fmt::Error> {
        let bounds = self.0.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(&self.0.counts).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn durations_count_in_the_bucket_that_holds_them() {
        const BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];
        let durations = Durations::new(&BOUNDS);
        for milliseconds in [1, 2, 1000, 1500] {
            durations.observe(Duration::from_millis(milliseconds));
        }
        let mut registry = Registry::default();
        registry.register("took", "How long it took", durations.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("memory");
        for line in [
            r#"took_bucket{le="0.001"} 1"#,
            r#"took_bucket{le="1.0"} 3"#,
            r#"took_bucket{le="+Inf"} 4"#,
            "took_count 4",
            "took_sum 2.503",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
