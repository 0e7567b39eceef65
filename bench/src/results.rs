//! The results: the data as it is written to `results.json`.

use crate::{
    measure::{cores::Placement, folios, memory::Memory},
    origin::counting::Counts,
    plan::Metric,
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

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

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Answered as wanted.
    pub requests: u64,
    pub failures: u64,
    /// Those of them whose bytes were not the file's, where bytes were checked.
    #[serde(default)]
    pub wrong_bytes: u64,
    /// Body bytes.
    pub bytes: u64,
    pub seconds: f64,
    pub latency_us: Option<Latency>,
    /// By the server's own word (`Cache-Status`), where it says so.
    pub hits: Option<u64>,
    pub misses: Option<u64>,
    /// Requests of an open loop that were never sent because no connection became free.
    pub unsent: Option<u64>,
    /// Processor time of the load itself.
    pub client_cpu_seconds: Option<f64>,
}

/// Microseconds from when a request was meant to start until its last byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: Option<f64>,
    pub max: Option<f64>,
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
    /// What the server asked its origin for.
    #[serde(default)]
    pub origin: Option<Counts>,
    /// Of clients that waited for one object: how long after the first one the last one got its first byte.
    #[serde(default)]
    pub waiter_lag_ms: Option<f64>,
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Processor time is counted in ticks of 10 ms: of less than ten of them, one more or less decides.
const CPU_SECONDS_MIN: f64 = 0.1;

/// A run in which a larger share of the requests failed is no figure: refusing costs less than serving.
pub const FAILED_SHARE_MAX: f64 = 0.01;

impl Outcome {
    /// Whether so many requests failed that the rest tells nothing.
    pub fn is_spoilt(&self) -> bool {
        self.failures as f64 > (self.requests + self.failures) as f64 * FAILED_SHARE_MAX
    }
}

impl Sample {
    /// The figure, if the run tells one.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        if self.outcome.as_ref().is_some_and(Outcome::is_spoilt) {
            return None;
        }
        let latency = || self.outcome.as_ref()?.latency_us;
        match metric {
            Metric::CpuPerRequest if self.is_too_short(metric) => None,
            Metric::CpuPerRequest => self.per_request_us(self.server_cpu_seconds),
            Metric::RequestsPerSecond => {
                let outcome = self.outcome.as_ref().filter(|outcome| outcome.seconds > 0.0)?;
                Some(outcome.requests as f64 / outcome.seconds)
            }
            Metric::P50 => Some(latency()?.p50),
            Metric::P99 => Some(latency()?.p99),
            Metric::Memory => Some(self.memory?.total_bytes as f64 / f64::from(1 << 20)),
            Metric::FirstByte => self.first_byte_ms,
            Metric::OriginRequests => Some(self.origin?.requests as f64),
            Metric::OriginMebibytes => Some(self.origin?.bytes as f64 / f64::from(1 << 20)),
            Metric::WaiterLag => self.waiter_lag_ms,
        }
    }

    /// Whether the run was shorter than the clock can tell.
    pub fn is_too_short(&self, metric: Metric) -> bool {
        metric == Metric::CpuPerRequest && self.server_cpu_seconds.is_some_and(|seconds| seconds < CPU_SECONDS_MIN)
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
    pub fn fail(&mut self, peer: &str, error: &anyhow::Error) {
        eprintln!("bench: {}: {peer} failed: {error:#}", self.name);
        self.failures.push(Failure { peer: peer.into(), error: format!("{error:#}") });
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

    /// Whether all runs of one server were too short to tell the figure.
    pub fn is_too_short(&self, peer: &str) -> bool {
        let mut own = self.samples.iter().filter(|sample| sample.peer == peer).peekable();
        own.peek().is_some() && own.all(|sample| sample.is_too_short(self.metric))
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

    /// Reads a file that `bench run` wrote.
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
}

#[cfg(test)]
pub mod example {
    //! Results for the tests of what is made from results.

    use super::*;

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
            origin: Some(Counts { requests: us as u64, bytes: (us * 1048576.0) as u64 }),
            waiter_lag_ms: Some(us),
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
    fn figures_follow_from_what_was_counted() {
        let sample = example::sample("x", 1, 4.0);
        let values = [
            (Metric::CpuPerRequest, 4.0),
            (Metric::RequestsPerSecond, 250_000.0),
            (Metric::P50, 8.0),
            (Metric::P99, 40.0),
            (Metric::Memory, 4.0),
            (Metric::FirstByte, 4.0),
            (Metric::OriginRequests, 4.0),
            (Metric::OriginMebibytes, 4.0),
            (Metric::WaiterLag, 4.0),
        ];
        for (metric, value) in values {
            assert_eq!(sample.value(metric), Some(value), "{metric:?}");
            assert_eq!(Sample::default().value(metric), None, "{metric:?}");
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[f64::NAN, 7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_run_that_is_too_short_or_failed_has_no_figure() {
        let mut sample = example::sample("x", 1, 0.09);
        assert_eq!((sample.value(Metric::CpuPerRequest), sample.is_too_short(Metric::CpuPerRequest)), (None, true));
        assert!(sample.value(Metric::P50).is_some(), "latencies have a clock of their own");
        sample.server_cpu_seconds = Some(0.1);
        assert_eq!(sample.value(Metric::CpuPerRequest), Some(0.1));
        for (failures, counts) in [(10_000, true), (11_000, false)] {
            sample.outcome = Some(Outcome { failures, requests: 1_000_000, seconds: 1.0, ..Outcome::default() });
            assert_eq!(sample.value(Metric::CpuPerRequest).is_some(), counts, "{failures}");
            assert_eq!(sample.value(Metric::RequestsPerSecond).is_some(), counts, "{failures}");
        }
    }
}
