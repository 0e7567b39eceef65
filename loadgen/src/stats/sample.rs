//! The numbers of one interval, for plots over time and for telling how far a run scatters.

use super::{Class, ClassTally, Tally};
use serde::{Deserialize, Serialize};

/// The numbers of one interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// After the start of the measurement.
    pub start_seconds: f64,
    pub seconds: f64,
    pub total: Brief,
    pub hit: Brief,
    pub miss: Brief,
    pub unclassified: Brief,
}

/// The numbers of one class in one interval. Latencies count from the intended start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    pub requests: u64,
    pub bytes: u64,
    pub errors: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

impl Sample {
    /// Sums up what was counted from `start_ns` to `end_ns`.
    pub fn of(tally: &Tally, start_ns: u64, end_ns: u64) -> Sample {
        Sample {
            start_seconds: start_ns as f64 / 1e9,
            seconds: end_ns.saturating_sub(start_ns) as f64 / 1e9,
            total: Brief::of(&tally.total()),
            hit: Brief::of(tally.class(Class::Hit)),
            miss: Brief::of(tally.class(Class::Miss)),
            unclassified: Brief::of(tally.class(Class::Unclassified)),
        }
    }

    /// The numbers of one class.
    pub fn class(&self, class: Class) -> &Brief {
        match class {
            Class::Hit => &self.hit,
            Class::Miss => &self.miss,
            Class::Unclassified => &self.unclassified,
        }
    }
}

impl Brief {
    fn of(tally: &ClassTally) -> Brief {
        let latency = tally.latency();
        Brief {
            requests: tally.requests,
            bytes: tally.bytes,
            errors: tally.failures.sum(),
            mean_ns: latency.mean(),
            p50_ns: latency.at(0.5),
            p99_ns: latency.at(0.99),
            max_ns: latency.max(),
        }
    }
}
