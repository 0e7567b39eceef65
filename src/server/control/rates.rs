//! The last minutes, second by second, for the dashboard.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::metrics::Metrics;
use crate::metrics::counter::{BOUNDS, HistogramValues, Label, Read, bound_seconds};
use crate::metrics::labels::{Class, Status};
use crate::server::notices::LimitWatch;
use crate::server::shared::Shared;

/// How often the counters are noted for the dashboard.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How many of these are kept: five minutes.
const SAMPLES: usize = 300;

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub hits: u64,
    pub misses: u64,
    pub others: u64,
    /// Responses whose status begins with 1, 2, 3, 4 and 5.
    pub statuses: [u64; 5],
    /// Handed to sockets, heads included.
    sent_bytes: u64,
    hit_latency: HistogramValues,
    miss_latency: HistogramValues,
}

impl Sample {
    pub fn of(metrics: &Metrics) -> Sample {
        let (hit_latency, miss_latency) = metrics.latencies();
        let sent_bytes = metrics.sum(|thread| thread.bytes_sent.get());
        let mut sample = Sample { hit_latency, miss_latency, sent_bytes, ..Sample::default() };
        for &status in Status::ALL {
            if let Some(count) = status.class().and_then(|class| sample.statuses.get_mut(class - 1)) {
                *count += metrics.sum(|thread| thread.responses[status].get());
            }
        }
        for &class in Class::ALL {
            let requests = metrics.sum(|thread| thread.requests[class].get());
            match class {
                Class::Hit | Class::HitRevalidated => sample.hits += requests,
                Class::Other => sample.others += requests,
                _ => sample.misses += requests,
            }
        }
        sample
    }
}

/// The last minutes, second by second.
#[derive(Debug, Default)]
pub(super) struct Rates(RefCell<VecDeque<Sample>>);

/// What happened in each second that is kept, oldest first. Latencies are in seconds; None where there was none.
#[derive(Debug, Default, Serialize)]
pub(super) struct Series {
    interval_seconds: f64,
    hits: Vec<u64>,
    misses: Vec<u64>,
    sent_bytes: Vec<u64>,
    client_errors: Vec<u64>,
    server_errors: Vec<u64>,
    hit_p50: Vec<Option<f64>>,
    hit_p99: Vec<Option<f64>>,
    miss_p50: Vec<Option<f64>>,
    miss_p99: Vec<Option<f64>>,
}

impl Rates {
    /// Notes the counters once a second, for ever, and says which limits were reached.
    pub async fn sample(&self, shared: Arc<Shared>) {
        let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
        let mut limits = LimitWatch::default();
        loop {
            interval.tick().await;
            let notice = limits.look(&shared.metrics, shared.connections.limit(), Instant::now());
            if let Some(notice) = notice.filter(|_| !shared.alarms.are_raised()) {
                tracing::warn!("{notice}");
            }
            let mut samples = self.0.borrow_mut();
            samples.push_back(Sample::of(&shared.metrics));
            if samples.len() > SAMPLES + 1 {
                samples.pop_front();
            }
        }
    }

    pub fn series(&self) -> Series {
        let mut series = Series { interval_seconds: SAMPLE_INTERVAL.as_secs_f64(), ..Series::default() };
        let samples = self.0.borrow();
        for (before, after) in samples.iter().zip(samples.iter().skip(1)) {
            series.hits.push(after.hits.saturating_sub(before.hits));
            series.misses.push(after.misses.saturating_sub(before.misses));
            series.sent_bytes.push(after.sent_bytes.saturating_sub(before.sent_bytes));
            series.client_errors.push(after.statuses[3].saturating_sub(before.statuses[3]));
            series.server_errors.push(after.statuses[4].saturating_sub(before.statuses[4]));
            let hits = difference(&before.hit_latency, &after.hit_latency);
            let misses = difference(&before.miss_latency, &after.miss_latency);
            series.hit_p50.push(quantile(&hits, 0.5));
            series.hit_p99.push(quantile(&hits, 0.99));
            series.miss_p50.push(quantile(&misses, 0.5));
            series.miss_p99.push(quantile(&misses, 0.99));
        }
        series
    }
}

fn difference(before: &HistogramValues, after: &HistogramValues) -> [u64; BOUNDS + 1] {
    std::array::from_fn(|k| after.buckets[k].saturating_sub(before.buckets[k]))
}

/// A quantile in seconds, by linear interpolation in its bucket, as Prometheus has it.
fn quantile(buckets: &[u64; BOUNDS + 1], q: f64) -> Option<f64> {
    let total: u64 = buckets.iter().sum();
    let rank = q * total as f64;
    let mut below = 0;
    for (k, &count) in buckets.iter().enumerate() {
        if count > 0 && (below + count) as f64 >= rank {
            let lower = if k == 0 { 0.0 } else { bound_seconds(k - 1) };
            let upper = if k < BOUNDS { bound_seconds(k) } else { lower };
            return Some(lower + (upper - lower) * (rank - below as f64) / count as f64);
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::counter::Histogram;

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let histogram = Histogram::default();
        assert_eq!(quantile(&histogram.read().buckets, 0.5), None);
        for _ in 0..98 {
            histogram.record(3_000);
        }
        for _ in 0..2 {
            histogram.record(1_000_000);
        }
        let buckets = histogram.read().buckets;
        let (p50, p99) = (quantile(&buckets, 0.5).unwrap(), quantile(&buckets, 0.99).unwrap());
        assert!(p50 > 2e-6 && p50 <= 4e-6, "{p50}");
        assert!(p99 > 512e-6 && p99 <= 1024e-6, "{p99}");
    }
}
