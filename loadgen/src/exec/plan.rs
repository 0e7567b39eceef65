//! What a run does, resolved from what was asked for.

use crate::{
    endpoint::Endpoint,
    requests::{Order, Requests},
};
use std::{sync::Arc, time::Duration};

/// When requests start.
#[derive(Debug, Clone)]
pub enum Pace {
    /// Closed loop: as soon as a connection is free.
    AsFastAsPossible,
    /// Open loop: at a rate, whatever the server does.
    Rate { per_second: f64, arrivals: Arrivals },
    /// Open loop: at recorded times, in nanoseconds after the start.
    Times { ns: Arc<[u64]> },
}

/// How the requests of an open loop follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// At equal distances.
    Constant,
    /// At exponentially distributed distances, as from many independent users.
    Poisson,
}

/// A whole run.
#[derive(Debug)]
pub struct Plan {
    pub endpoint: Endpoint,
    /// Kept for the life of the process: the kernel reads requests from there.
    pub requests: &'static Requests,
    pub order: Order,
    pub pace: Pace,
    pub connections: u32,
    pub threads: u32,
    /// Requests that may be on their way on one connection.
    pub pipeline: u32,
    /// The kernel is asked to discard bodies instead of copying them.
    pub discards_bodies: bool,
    /// Requests that start within this time are not measured.
    pub warmup: Duration,
    /// How long requests are started after the warm-up; `None`: until `requests_max` or the end of the trace.
    pub duration: Option<Duration>,
    /// How many measured requests are started.
    pub requests_max: Option<u64>,
    /// The longest that one request, or one attempt to connect, may take.
    pub timeout: Duration,
    pub seed: u64,
    /// The length of the first intervals; see [`Intervals`].
    pub interval: Duration,
}

impl Plan {
    /// The share of `whole` that thread `thread` takes.
    pub fn share(&self, whole: u64, thread: u32) -> u64 {
        let threads = u64::from(self.threads);
        whole / threads + u64::from(u64::from(thread) < whole % threads)
    }
}

/// How many intervals of one length follow each other before the length doubles, so that a run of any length keeps a
/// bounded number of samples.
const INTERVALS_OF_A_LENGTH: u64 = 512;

/// The intervals that measurements are sampled in: the same for all threads, without their talking to each other.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    first_ns: u64,
}

impl Intervals {
    /// Intervals that begin with the length `first`.
    pub fn new(first: Duration) -> Intervals {
        Intervals { first_ns: (first.as_nanos() as u64).max(1_000_000) }
    }

    /// When interval `index` ends, in nanoseconds after the start of the measurement.
    pub fn end_ns(self, index: u64) -> u64 {
        let (doublings, within) = (index / INTERVALS_OF_A_LENGTH, index % INTERVALS_OF_A_LENGTH + 1);
        let Some(scale) = 1u64.checked_shl(doublings as u32) else { return u64::MAX };
        let before = self.first_ns.saturating_mul(INTERVALS_OF_A_LENGTH).saturating_mul(scale - 1);
        before.saturating_add(self.first_ns.saturating_mul(scale).saturating_mul(within))
    }

    /// When interval `index` begins.
    pub fn start_ns(self, index: u64) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.end_ns(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_follow_each_other_and_double() {
        let intervals = Intervals::new(Duration::from_millis(100));
        assert_eq!(intervals.start_ns(0), 0);
        assert_eq!(intervals.end_ns(0), 100_000_000);
        assert_eq!(intervals.end_ns(511), 51_200_000_000);
        assert_eq!(intervals.end_ns(512), 51_400_000_000);
        assert_eq!(intervals.end_ns(1024), 51_200_000_000 + 102_400_000_000 + 400_000_000);
        assert_eq!(intervals.end_ns(u64::MAX), u64::MAX);
        // A day takes less than ten thousand samples.
        assert!(intervals.end_ns(10_000) > 86_400_000_000_000);
    }
}
