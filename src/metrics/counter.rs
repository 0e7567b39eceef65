//! What a number is kept in.
//!
//! [`Counter`] has one writer: a worker counts without a locked instruction (a relaxed load and a relaxed store compile
//! to plain moves), and a scrape on another thread reads a value that is at most a few nanoseconds old.
//! [`SharedCounter`] may be written from anywhere and pays for it; it is for what happens rarely or off the hot path.

use std::marker::PhantomData;
use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A monotonic count with a single writing thread and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns this counter may call it: two writers would lose counts (never worse).
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one; see [`Counter::add`].
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }
}

/// A monotonic count that any thread may write.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }
}

/// A number that rises and falls, written by any thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds one.
    #[inline]
    pub fn rise(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Takes one away. Each call answers an earlier [`Gauge::rise`].
    #[inline]
    pub fn fall(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Reading a number, whatever keeps it.
pub trait Read {
    /// The number now.
    fn get(&self) -> u64;
}

impl Read for Counter {
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Read for SharedCounter {
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Read for Gauge {
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The closed set of values a label takes; made by [`labels!`](crate::metrics::labels).
pub trait Label: Copy + 'static {
    /// Every value, in declaration order.
    const ALL: &'static [Self];
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
    /// The label pairs as they stand in the exposition text, such as `class="hit",detail="fresh"`.
    fn pairs(self) -> &'static str;
}

/// One number for each value of a label: `family[Class::Hit].one()`.
#[derive(Debug)]
pub struct Family<C, L, const N: usize> {
    cells: [C; N],
    label: PhantomData<L>,
}

impl<C: Default, L, const N: usize> Default for Family<C, L, N> {
    fn default() -> Self {
        Family { cells: std::array::from_fn(|_| C::default()), label: PhantomData }
    }
}

impl<C, L: Label, const N: usize> Index<L> for Family<C, L, N> {
    type Output = C;

    #[inline]
    fn index(&self, label: L) -> &C {
        &self.cells[label.index()]
    }
}

/// Upper bounds of the latency buckets are 1 µs · 2^k for k in `0..BOUNDS`: 1 µs to 16.8 s.
pub const BOUNDS: usize = 25;

/// Latencies in buckets that double, so that finding the bucket is one count of leading zeros.
#[derive(Debug, Default)]
pub struct Histogram {
    /// `buckets[k]`: above the bound before, up to and including bound k; the last one: above every bound.
    buckets: [Counter; BOUNDS + 1],
    sum_ns: Counter,
}

impl Histogram {
    /// Records one latency in nanoseconds. Single writer, as for [`Counter::add`].
    #[inline]
    pub fn record(&self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Records the same latency `count` times.
    #[inline]
    pub fn record_many(&self, ns: u64, count: u64) {
        self.buckets[bucket(ns)].add(count);
        self.sum_ns.add(ns * count);
    }

    /// The counts of all buckets, not cumulative, and the sum in nanoseconds.
    pub fn read(&self) -> HistogramValues {
        HistogramValues { buckets: std::array::from_fn(|k| self.buckets[k].get()), sum_ns: self.sum_ns.get() }
    }
}

/// Which bucket a latency belongs to.
#[inline]
fn bucket(ns: u64) -> usize {
    let whole_us_below = ns.saturating_sub(1) / 1000;
    ((u64::BITS - whole_us_below.leading_zeros()) as usize).min(BOUNDS)
}

/// The upper bound of bucket `k` in seconds, exact in decimal.
pub fn bound_seconds(k: usize) -> f64 {
    (1u64 << k) as f64 / 1e6
}

/// What a [`Histogram`] held at one moment, or the sum of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistogramValues {
    /// Counts by bucket, not cumulative.
    pub buckets: [u64; BOUNDS + 1],
    /// Sum of everything recorded, in nanoseconds.
    pub sum_ns: u64,
}

impl HistogramValues {
    /// Adds another histogram's values to these.
    pub fn merge(&mut self, other: &HistogramValues) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_ns += other.sum_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_within_the_bounds_of_its_bucket() {
        for ns in (0..64).flat_map(|k| {
            let edge = 1000u64.saturating_mul(1 << k);
            [edge.saturating_sub(1), edge, edge.saturating_add(1)]
        }) {
            let k = bucket(ns);
            assert!(k == BOUNDS || ns <= 1000 << k, "{ns} ns in bucket {k}");
            assert!(k == 0 || ns > 1000 << (k - 1), "{ns} ns in bucket {k}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BOUNDS);
    }

    #[test]
    fn bounds_print_as_short_decimals() {
        assert_eq!(bound_seconds(0).to_string(), "0.000001");
        assert_eq!(bound_seconds(10).to_string(), "0.001024");
        assert_eq!(bound_seconds(BOUNDS - 1).to_string(), "16.777216");
    }

    #[test]
    fn a_histogram_keeps_counts_and_sum() {
        let histogram = Histogram::default();
        for ns in [500, 1000, 1001, 40_000_000_000] {
            histogram.record(ns);
        }
        let mut values = histogram.read();
        assert_eq!((values.buckets[0], values.buckets[1], values.buckets[BOUNDS]), (2, 1, 1));
        assert_eq!(values.sum_ns, 40_000_002_501);
        values.merge(&histogram.read());
        assert_eq!((values.buckets[0], values.sum_ns), (4, 80_000_005_002));
    }
}
