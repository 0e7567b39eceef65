//! The results: the data as it is written to `results.json`, and what is made from it.

mod markdown;
mod ratios;
mod requirements;
mod svg;

pub use ratios::median;

use crate::{
    cases::Metric,
    load::Outcome,
    measure::{cores::Placement, folios, memory::Memory},
    peers::Peer,
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Changes when a key changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// Everything that a run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub schema_version: u32,
    pub started_unix_seconds: u64,
    /// The options of the run.
    pub command: String,
    /// A run that only shows that everything works: its timings mean nothing.
    pub quick: bool,
    pub rounds: u32,
    pub seconds: f64,
    pub environment: Environment,
    pub peers: Vec<PeerInfo>,
    pub missing: Vec<Missing>,
    pub cases: Vec<CaseResult>,
}

/// The machine and the state that it was in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub kernel: String,
    pub processor: String,
    pub cores: usize,
    pub memory_bytes: u64,
    /// The file system of the files served.
    pub load_average: String,
    pub commit: String,
    /// The kernel's setting for 64 KiB folios in shared memory; `advise` during the run where it is settable.
    pub large_folios: folios::Found,
}

impl Environment {
    /// Whether Forebay could have large folios.
    pub fn has_large_folios(&self) -> bool {
        let value = self.large_folios.value.as_deref();
        self.large_folios.settable || matches!(value, Some("advise" | "always" | "within_size"))
    }
}

/// A server as it was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    pub name: String,
    pub version: String,
    /// The template of its configuration, if it has one.
    pub configuration: Option<String>,
}

/// A program that was not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    pub name: String,
    pub packages: Vec<String>,
}

/// The runs of one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    pub name: String,
    pub title: String,
    pub metric: Metric,
    pub workers: usize,
    pub placement: Placement,
    /// Requests per second of an open loop.
    pub rate: Option<f64>,
    /// In the order in which they ran.
    pub samples: Vec<Sample>,
    /// Servers whose bytes were compared with the files.
    pub verified: Vec<String>,
    /// What went wrong; empty if nothing.
    pub failures: Vec<Failure>,
    /// Why a case was not run.
    pub skipped: Option<String>,
    /// How each server was started.
    pub commands: Vec<String>,
}

/// What went wrong with one server in one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub peer: String,
    pub error: String,
}

/// One run of one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub peer: String,
    /// Counts from 1.
    pub round: u32,
    /// What the load saw.
    pub outcome: Option<Outcome>,
    /// User and system time of all processes and threads of the server.
    pub server_cpu_seconds: Option<f64>,
    /// Busy time of the server's cores, whoever used it.
    pub server_cores_busy_seconds: Option<f64>,
    /// Time on those cores that the hypervisor gave to others.
    pub steal_seconds: Option<f64>,
    /// What the server read from storage, past the page cache.
    pub storage_read_bytes: Option<u64>,
    /// Right after the run.
    pub memory: Option<Memory>,
    pub first_byte_ms: Option<f64>,
}

impl Sample {
    pub fn value(&self, metric: Metric) -> Option<f64> {
        let latency = || self.outcome.as_ref()?.latency_us;
        match metric {
            Metric::CpuPerRequest => self.per_request_us(self.server_cpu_seconds),
            Metric::RequestsPerSecond => {
                let outcome = self.outcome.as_ref().filter(|outcome| outcome.seconds > 0.0)?;
                Some(outcome.requests as f64 / outcome.seconds)
            }
            Metric::P50 => Some(latency()?.p50),
            Metric::P99 => Some(latency()?.p99),
            Metric::Memory => Some(self.memory?.total_bytes as f64 / f64::from(1 << 20)),
            Metric::FirstByte => self.first_byte_ms,
        }
    }

    /// A time as microseconds for each request, failed ones included.
    pub fn per_request_us(&self, seconds: Option<f64>) -> Option<f64> {
        let outcome = self.outcome.as_ref()?;
        let requests = outcome.requests + outcome.failures;
        (requests > 0).then_some(seconds? * 1e6 / requests as f64)
    }
}

impl CaseResult {
    /// Says and records that a server failed.
    pub fn fail(&mut self, peer: Peer, error: &anyhow::Error) {
        eprintln!("bench: {}: {} failed: {error:#}", self.name, peer.name());
        self.failures.push(Failure { peer: peer.name().into(), error: format!("{error:#}") });
    }

    /// The values of one server, by round.
    pub fn values(&self, peer: &str, metric: Metric) -> Vec<(u32, f64)> {
        let of_peer = self.samples.iter().filter(|sample| sample.peer == peer);
        of_peer.filter_map(|sample| Some((sample.round, sample.value(metric)?))).collect()
    }

    /// The median of one server's values.
    pub fn median(&self, peer: &str, metric: Metric) -> Option<f64> {
        median(&self.values(peer, metric).into_iter().map(|(_, value)| value).collect::<Vec<_>>())
    }

    /// The servers that have samples, in the order in which they ran.
    pub fn peers(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !names.contains(&sample.peer.as_str()) {
                names.push(&sample.peer);
            }
        }
        names
    }
}

impl Results {
    pub fn new(command: String) -> Results {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Results {
            schema_version: SCHEMA_VERSION,
            started_unix_seconds: now.as_secs(),
            command,
            quick: false,
            rounds: 0,
            seconds: 0.0,
            environment: Environment {
                kernel: String::new(),
                processor: String::new(),
                cores: 0,
                memory_bytes: 0,
                load_average: String::new(),
                commit: String::new(),
                large_folios: folios::Found { value: None, settable: false },
            },
            peers: Vec::new(),
            missing: Vec::new(),
            cases: Vec::new(),
        }
    }

    pub fn case(&self, name: &str) -> Option<&CaseResult> {
        self.cases.iter().find(|case| case.name == name)
    }

    /// Reads a file that [`Results::save`] wrote.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(file: &Path) -> Result<Results> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let results: Results =
            serde_json::from_str(&text).with_context(|| format!("{} is not a result of bench", file.display()))?;
        let version = results.schema_version;
        ensure!(version == SCHEMA_VERSION, "{} has schema version {version}, not {SCHEMA_VERSION}", file.display());
        Ok(results)
    }

    /// Writes the data, whole or not at all.
    ///
    /// # Errors
    /// Names the file.
    pub fn save(&self, file: &Path) -> Result<()> {
        let summary = requirements::check(self);
        let mut value = serde_json::to_value(self)?;
        value["requirements"] = serde_json::to_value(summary)?;
        let text = serde_json::to_string_pretty(&value)? + "\n";
        let partial = file.with_extension("json.partial");
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Writes the table and the plots beside the data; the files written.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub fn write_reports(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let plots = svg::plots(self);
        let names: Vec<&str> = plots.iter().map(|(name, _)| *name).collect();
        let table = ("results.md", markdown::page(self, &names));
        let write = |(name, text): (&str, String)| {
            let file = directory.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(file)
        };
        std::iter::once(table).chain(plots).map(write).collect()
    }
}

#[cfg(test)]
pub mod example {
    //! Results for the tests of what is made from results.

    use super::*;
    use crate::load::Latency;

    /// A run whose processor time for each request is `us`.
    pub fn sample(peer: &str, round: u32, us: f64) -> Sample {
        let latency = Latency { p50: 2.0 * us, p90: 3.0 * us, p99: 10.0 * us, p999: Some(20.0 * us), max: None };
        Sample {
            peer: peer.into(),
            round,
            outcome: Some(Outcome {
                requests: 1_000_000,
                bytes: 4_096_000_000,
                seconds: us,
                latency_us: Some(latency),
                ..Outcome::default()
            }),
            server_cpu_seconds: Some(us),
            memory: Some(Memory { total_bytes: (us * 1048576.0) as u64, ..Memory::default() }),
            first_byte_ms: Some(us),
            ..Sample::default()
        }
    }

    pub fn case(name: &str, metric: Metric, peers: &[(&str, &[f64])]) -> CaseResult {
        let rounds = peers.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        let all = (0..rounds).flat_map(|round| {
            peers.iter().filter_map(move |(peer, values)| Some(sample(peer, round as u32 + 1, *values.get(round)?)))
        });
        CaseResult {
            name: name.into(),
            title: format!("Case {name}"),
            metric,
            workers: 1,
            placement: Placement { server: vec![0], load: vec![1], apart: true },
            rate: None,
            samples: all.collect(),
            verified: vec!["forebay".into()],
            failures: Vec::new(),
            skipped: None,
            commands: Vec::new(),
        }
    }

    pub fn results(cases: Vec<CaseResult>) -> Results {
        Results { cases, rounds: 3, seconds: 2.0, ..Results::new("run".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("results.json");
        let results = example::results(vec![example::case(
            "hits-4k",
            Metric::CpuPerRequest,
            &[("forebay", &[4.0]), ("nginx", &[6.0])],
        )]);
        results.save(&file).expect("saved");
        assert_eq!(Results::load(&file).expect("loaded"), results);
        let text = fs::read_to_string(&file).expect("read");
        assert!(text.contains("\"requirements\""), "the verdicts are part of the data");
        fs::write(&file, text.replace("\"schema_version\": 1", "\"schema_version\": 99")).expect("written");
        assert!(Results::load(&file).expect_err("refused").to_string().contains("99"));
    }

    #[test]
    fn figures_follow_from_what_was_counted() {
        let sample = example::sample("x", 1, 4.0);
        let values = [
            (Metric::CpuPerRequest, 4.0),
            (Metric::RequestsPerSecond, 250_000.0),
            (Metric::P50, 8.0),
            (Metric::P99, 40.0),
            (Metric::Memory, 4.0),
            (Metric::FirstByte, 4.0),
        ];
        for (metric, value) in values {
            assert_eq!(sample.value(metric), Some(value), "{metric:?}");
            assert_eq!(Sample::default().value(metric), None, "{metric:?}");
        }
    }
}
