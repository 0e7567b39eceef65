//! What came of a run, as JSON and as a page.

use super::{
    clients::Tally,
    sample::Sample,
    trend::{self, Tolerance, Trend},
};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{fmt::Write, fs, path::Path, time::Duration};

/// Changes when a key changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// Takes a value out of a sample.
type Of = fn(&Sample) -> u64;

const MIB: f64 = 1048576.0;

/// What has to stay where it is, and by how much it may move.
const FLAT: [(&str, Of, Tolerance); 5] = [
    ("memory", |sample| sample.memory_bytes, Tolerance { at_least: 2.0 * MIB, share: 0.03 }),
    ("descriptors", |sample| sample.descriptors, Tolerance { at_least: 8.0, share: 0.10 }),
    ("tasks", |sample| sample.tasks, Tolerance { at_least: 2.0, share: 0.10 }),
    ("arena", |sample| sample.arena_bytes, Tolerance { at_least: MIB, share: 0.05 }),
    ("connections", |sample| sample.connections, Tolerance { at_least: 8.0, share: 0.10 }),
];

/// A run.
#[derive(Debug, Serialize)]
pub struct Soak {
    pub schema_version: u32,
    pub version: &'static str,
    pub seconds: f64,
    pub interval_seconds: f64,
    pub kinds: Vec<Tally>,
    pub trends: Vec<Trend>,
    /// What servers still held after their clients had gone.
    pub left_over: Vec<String>,
    pub samples: Vec<Sample>,
}

impl Soak {
    pub fn new(length: Duration, interval_seconds: f64) -> Soak {
        Soak {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION"),
            seconds: length.as_secs_f64(),
            interval_seconds,
            kinds: Vec::new(),
            trends: Vec::new(),
            left_over: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Finds the trends.
    pub fn judge(&mut self) {
        let mut servers: Vec<&'static str> = self.samples.iter().map(|sample| sample.server).collect();
        servers.sort_unstable();
        servers.dedup();
        let samples = &self.samples;
        let of = |server: &'static str| {
            FLAT.iter().filter_map(move |(what, of, tolerance)| {
                let own = samples.iter().filter(|sample| sample.server == server);
                let values: Vec<(f64, f64)> = own.map(|sample| (sample.seconds, of(sample) as f64)).collect();
                trend::trend(server, what, &values, *tolerance)
            })
        };
        let trends = servers.into_iter().flat_map(of).collect();
        self.trends = trends;
    }

    /// Whether nothing failed, nothing grew, and nothing was left over.
    pub fn is_good(&self) -> bool {
        self.kinds.iter().all(|kind| kind.errors == 0 && kind.requests > 0)
            && self.trends.iter().all(|trend| trend.flat)
            && self.left_over.is_empty()
    }

    /// Writes the data, whole or not at all.
    ///
    /// # Errors
    /// Names the file.
    pub fn save(&self, file: &Path) -> Result<()> {
        let partial = file.with_extension("json.partial");
        fs::write(&partial, serde_json::to_string_pretty(self)? + "\n")
            .and_then(|()| fs::rename(&partial, file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The page. Writing to a string does not fail.
    pub fn page(&self) -> String {
        let mut text = format!("# Everything at once for {:.1} minutes\n\n", self.seconds / 60.0);
        let _ =
            writeln!(text, "| clients | requests | errors | p50 µs | p99 µs | most µs |\n|---|---|---|---|---|---|");
        for kind in &self.kinds {
            let Tally { name, requests, errors, p50_us, p99_us, max_us, .. } = kind;
            let _ = writeln!(text, "| {name} | {requests} | {errors} | {p50_us} | {p99_us} | {max_us} |");
        }
        let _ = writeln!(
            text,
            "\nOver the second half of the run, {} samples of each server:\n\n\
             | server | what | median | growth | may grow by | |\n|---|---|---|---|---|---|",
            self.samples.len() / 2
        );
        for Trend { server, what, median, growth, tolerance, flat } in &self.trends {
            let (unit, suffix) = if ["memory", "arena"].contains(what) { (MIB, " MiB") } else { (1.0, "") };
            let shown = |value: &f64| format!("{:.1}{suffix}", value / unit);
            let verdict = if *flat { "flat" } else { "**grows**" };
            let (median, growth, tolerance) = (shown(median), shown(growth), shown(tolerance));
            let _ = writeln!(text, "| {server} | {what} | {median} | {growth} | {tolerance} | {verdict} |");
        }
        if self.trends.is_empty() {
            let _ = writeln!(text, "\nThe run was too short to tell whether anything grows.");
        }
        for held in &self.left_over {
            let _ = writeln!(text, "\nLeft over after the clients had gone: {held}.");
        }
        for (name, error) in self.kinds.iter().flat_map(|kind| kind.said.iter().map(|error| (kind.name, error))) {
            let _ = writeln!(text, "\n**{name}**: {}", error.replace('\n', " "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::sample::example;

    fn soak(memory: impl Fn(u64) -> u64) -> Soak {
        let mut soak = Soak::new(Duration::from_secs(60), 0.5);
        soak.samples = (0..60).map(|at| example::sample(at as f64, memory(at))).collect();
        let kind = Tally { name: "hits", requests: 5, errors: 0, p50_us: 1, p99_us: 2, max_us: 3, said: Vec::new() };
        soak.kinds = vec![kind];
        soak.judge();
        soak
    }

    #[test]
    fn growth_errors_and_leftovers_are_failures() {
        let mut good = soak(|_| 80 << 20);
        assert!(good.is_good() && good.trends.len() == FLAT.len(), "{}", good.page());
        good.left_over.push("directory: 3 connections".into());
        assert!(!good.is_good() && good.page().contains("directory: 3 connections"));
        let mut failing = soak(|_| 80 << 20);
        failing.kinds[0].errors = 1;
        failing.kinds[0].said.push("a byte\nis wrong".into());
        assert!(!failing.is_good() && failing.page().contains("**hits**: a byte is wrong"));
        let leaking = soak(|at| (80 << 20) + (at << 18));
        assert!(!leaking.is_good() && leaking.page().contains("| memory |") && leaking.page().contains("**grows**"));
    }

    #[test]
    fn the_data_is_written_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("soak.json");
        soak(|_| 1).save(&file).expect("saved");
        let read: serde_json::Value = serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON");
        assert_eq!(read["samples"].as_array().map(Vec::len), Some(60));
    }
}
