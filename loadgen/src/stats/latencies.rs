//! Latency histograms: nanoseconds, three significant digits, up to one hour.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};

/// The longest latency that is told apart from longer ones: one hour.
pub const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Digits that every recorded value keeps: at most 0.1 % off.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of nanoseconds.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // Grows with the largest value: a run in the microseconds keeps a few pages per histogram.
        Latencies(Histogram::new(SIGNIFICANT_DIGITS).expect("three digits are within the crate's 0..=5"))
    }
}

impl Latencies {
    /// Records one latency in nanoseconds; longer than an hour counts as an hour.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.record(ns.min(LATENCY_MAX_NS)).expect("a growing histogram takes every value up to an hour");
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Latencies) {
        if other.count() > 0 {
            self.0.add(&other.0).expect("a growing histogram takes every value of its like");
        }
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        if self.count() > 0 {
            self.0.reset();
        }
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value in nanoseconds that `quantile` (0..=1) of all values do not exceed; 0 when there are none.
    pub fn at(&self, quantile: f64) -> u64 {
        if self.count() == 0 { 0 } else { self.0.value_at_quantile(quantile).min(self.0.max()) }
    }

    /// The largest value in nanoseconds; 0 when there are none.
    pub fn max(&self) -> u64 {
        if self.count() == 0 { 0 } else { self.0.max() }
    }

    /// The mean in nanoseconds; 0 when there are no values.
    pub fn mean(&self) -> f64 {
        if self.count() == 0 { 0.0 } else { self.0.mean() }
    }

    /// The histogram itself, for those who walk it.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The numbers that reports show, with the histogram itself.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.count(),
            min: if self.count() == 0 { 0 } else { self.0.min() },
            p50: self.at(0.50),
            p90: self.at(0.90),
            p99: self.at(0.99),
            p999: self.at(0.999),
            p9999: self.at(0.9999),
            max: self.max(),
            mean: self.mean(),
            histogram: self.encode(),
        }
    }

    /// The standard V2 encoding, compressed, as base64: what stands in the lines of HdrHistogram logs.
    pub fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).expect("writing to memory does not fail");
        BASE64.encode(bytes)
    }

    /// Reads what [`Latencies::encode`] or another HdrHistogram implementation wrote.
    pub fn decode(text: &str) -> Result<Latencies> {
        let bytes = BASE64.decode(text).context("a histogram is not base64")?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .context("a histogram is not in the HdrHistogram encoding")?;
        let mut latencies = Latencies::default();
        latencies.0.add(&histogram).context("a histogram has values that cannot be")?;
        Ok(latencies)
    }
}

/// A histogram's numbers in nanoseconds, and the histogram itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
    pub mean: f64,
    /// The whole histogram: HdrHistogram V2, deflated, base64.
    #[serde(default)]
    pub histogram: String,
}

impl Percentiles {
    /// The named values, in the order in which tables show them.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("max", self.max),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_is_all_zeros() {
        let percentiles = Latencies::default().percentiles();
        assert_eq!((percentiles.count, percentiles.p50, percentiles.max, percentiles.mean), (0, 0, 0, 0.0));
    }

    #[test]
    fn values_over_an_hour_count_as_an_hour() {
        let mut latencies = Latencies::default();
        latencies.record(u64::MAX);
        assert!(latencies.max().abs_diff(LATENCY_MAX_NS) <= LATENCY_MAX_NS / 1000);
    }

    proptest! {
        #[test]
        fn percentiles_are_within_a_thousandth_of_the_sorted_values(
            mut values in prop::collection::vec(1..LATENCY_MAX_NS, 1..400),
        ) {
            let mut latencies = Latencies::default();
            values.iter().for_each(|&value| latencies.record(value));
            values.sort_unstable();
            for quantile in [0.5, 0.9, 0.99, 1.0] {
                let rank = ((quantile * values.len() as f64).ceil() as usize).max(1) - 1;
                prop_assert!(latencies.at(quantile).abs_diff(values[rank]) <= values[rank] / 1000 + 1);
            }
        }

        #[test]
        fn encoding_and_merging_keep_every_value(
            left in prop::collection::vec(1..LATENCY_MAX_NS, 0..100),
            right in prop::collection::vec(1..1_000_000u64, 0..100),
        ) {
            let (mut a, mut b, mut both) = (Latencies::default(), Latencies::default(), Latencies::default());
            left.iter().for_each(|&value| { a.record(value); both.record(value) });
            right.iter().for_each(|&value| { b.record(value); both.record(value) });
            let mut merged = Latencies::decode(&a.encode()).unwrap();
            merged.merge(&Latencies::decode(&b.encode()).unwrap());
            prop_assert!(merged.0 == both.0);
        }
    }
}
