//! What a server holds at one moment.

use super::servers::Target;
use crate::{
    load::http,
    measure::{cpu, memory},
};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// How often a server is looked at that is to become calm.
const GLANCE: Duration = Duration::from_millis(50);

/// The connection that asks for the numbers is one of them.
const OWN_CONNECTION: u64 = 1;

/// One look at a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    pub server: &'static str,
    pub seconds: f64,
    pub memory_bytes: u64,
    pub descriptors: u64,
    /// Threads.
    pub tasks: u64,
    pub arena_bytes: u64,
    pub leased_bytes: u64,
    pub connections: u64,
    pub entries: u64,
}

impl Sample {
    /// Looks at a server.
    ///
    /// # Errors
    /// It is gone, or does not answer.
    pub fn take(target: &Target, since_start: Duration) -> Result<Sample> {
        let metrics = http::get(target.port, ".forebay/metrics").context("its metrics")?;
        let metrics = String::from_utf8_lossy(&metrics);
        let metric = |name: &str| sum(&metrics, name).with_context(|| format!("there is no metric {name}"));
        let tree = cpu::tree(target.pid());
        let count = |what: &str| {
            let entries = tree.iter().filter_map(|(pid, _)| fs::read_dir(format!("/proc/{pid}/{what}")).ok());
            entries.map(|entries| entries.count() as u64).sum()
        };
        Ok(Sample {
            server: target.name,
            seconds: since_start.as_secs_f64(),
            memory_bytes: memory::memory(&[target.pid()]).context("its memory")?.total_bytes,
            descriptors: count("fd"),
            tasks: count("task"),
            arena_bytes: metric("forebay_arena_resident_bytes")?,
            leased_bytes: metric("forebay_arena_leased_bytes")?,
            connections: metric("forebay_connections_open")?,
            entries: metric("forebay_cache_entries")?,
        })
    }
}

/// What a server still holds when its clients have been gone for a while: nothing, if all is well.
pub fn left_over(target: &Target, patience: Duration) -> Vec<String> {
    let deadline = Instant::now() + patience;
    loop {
        let held = match Sample::take(target, Duration::ZERO) {
            Ok(sample) => held(&sample),
            Err(error) => vec![format!("{}: {error:#}", target.name)],
        };
        if held.is_empty() || Instant::now() > deadline {
            return held;
        }
        thread::sleep(GLANCE);
    }
}

fn held(sample: &Sample) -> Vec<String> {
    let most = [("connections", sample.connections, OWN_CONNECTION), ("leased bytes", sample.leased_bytes, 0)];
    let more = most.into_iter().filter(|(_, value, most)| value > most);
    more.map(|(name, value, _)| format!("{}: {value} {name}", sample.server)).collect()
}

/// The sum of all series of a metric in the text format of Prometheus.
fn sum(text: &str, name: &str) -> Option<u64> {
    let series = |line: &str| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    };
    let values: Vec<f64> = text.lines().filter_map(series).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
}

#[cfg(test)]
pub mod example {
    use super::*;

    pub fn sample(seconds: f64, memory_bytes: u64) -> Sample {
        Sample {
            server: "directory",
            seconds,
            memory_bytes,
            descriptors: 40,
            tasks: 7,
            arena_bytes: 16 << 20,
            leased_bytes: 0,
            connections: 1,
            entries: 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed() {
        let text = "# HELP a_b x\n# TYPE a_b gauge\na_b{w=\"0\"} 3\na_b{w=\"1\"} 4\na_bc 100\nd 1.5e3\n";
        assert_eq!(
            (sum(text, "a_b"), sum(text, "a_bc"), sum(text, "d"), sum(text, "e")),
            (Some(7), Some(100), Some(1500), None)
        );
    }

    #[test]
    fn what_is_left_over_is_named() {
        let mut sample = example::sample(1.0, 1);
        assert_eq!(held(&sample), [""; 0]);
        (sample.connections, sample.leased_bytes) = (3, 4096);
        assert_eq!(held(&sample), ["directory: 3 connections", "directory: 4096 leased bytes"]);
    }
}
