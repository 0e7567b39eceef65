//! What a run does, resolved from what was asked for.

use crate::{
    endpoint::Address,
    requests::{Order, Requests},
};
use forebay::units;
use std::{
    fmt::{Display, Formatter},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

/// When requests start.
#[derive(Debug, Clone)]
pub enum Pace {
    /// Closed loop: as soon as a connection is free.
    AsFastAsPossible,
    /// Open loop: at rates that follow each other, whatever the server does.
    Stages { stages: Arc<[Stage]>, arrivals: Arrivals },
    /// Open loop: at recorded times, in nanoseconds after the start.
    Times { ns: Arc<[u64]> },
}

/// A time of an open loop with one rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// Infinite for a stage without an end.
    pub seconds: f64,
    pub per_second: f64,
}

impl FromStr for Stage {
    type Err = String;

    /// Reads `10s:1000/s`.
    fn from_str(text: &str) -> Result<Stage, String> {
        let wrong = || format!("`{text}` is not a stage: write a duration and a rate, as in 10s:1000/s");
        let (time, rate) = text.split_once(':').ok_or_else(wrong)?;
        let longest = Duration::from_secs(1_000_000_000);
        let time = units::duration(Duration::from_millis(1), longest)(time)
            .map_err(|error| format!("{}: {error}", wrong()))?;
        let rate = rate.trim().strip_suffix("/s").and_then(|rate| rate.trim().parse::<f64>().ok());
        let per_second = rate.filter(|rate| (0.0..=1e9).contains(rate)).ok_or_else(wrong)?;
        Ok(Stage { seconds: time.as_secs_f64(), per_second })
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}s:{}/s", self.seconds, self.per_second)
    }
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
    /// Connections go to these in turns; at least one.
    pub addresses: Vec<Address>,
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
    fn stages_are_a_time_and_a_rate() {
        for (text, seconds, per_second) in
            [("10s:1000/s", 10.0, 1000.0), ("500ms: 2.5 /s", 0.5, 2.5), ("1m:0/s", 60.0, 0.0)]
        {
            let stage: Stage = text.parse().unwrap();
            assert_eq!(stage, Stage { seconds, per_second }, "{text}");
            assert_eq!(stage.to_string().parse(), Ok(stage));
        }
        for text in ["", "10s", "10:5/s", "10s:5", "10s:-1/s", "10s:1e10/s", "0s:5/s", ":5/s", "10s:NaN/s"] {
            assert!(text.parse::<Stage>().unwrap_err().contains("10s:1000/s"), "{text}");
        }
    }

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
