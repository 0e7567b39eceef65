//! The data of a run as JSON. Its keys are a contract; `docs/json.md` documents them.

use crate::{
    exec::{Ended, Outcome},
    stats::{Class, ClassTally, Failure, Failures, Percentiles, Sample, Tally},
    units::show_count,
};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, fs, path::Path};

/// The version of the schema; it changes when a key changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that a run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub schema_version: u32,
    /// The options of the run, by name.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// `completed`, `interrupted` or `unreachable`.
    pub ended: String,
    /// Seconds since the epoch.
    pub started_unix_seconds: f64,
    /// From the end of the warm-up to the last response.
    pub elapsed_seconds: f64,
    /// Successful responses and their body bytes per second.
    pub requests_per_second: f64,
    pub bytes_per_second: f64,
    pub classes: Classes,
    pub schedule: Schedule,
    pub client: Client,
    pub samples: Vec<Sample>,
    /// What the run had to keep to, and whether it did.
    #[serde(default)]
    pub thresholds: Vec<Verdict>,
}

/// Every class of responses, and all of them together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    pub total: ClassReport,
    pub hit: ClassReport,
    pub miss: ClassReport,
    pub unclassified: ClassReport,
}

impl Classes {
    /// All of them with their names, the total first.
    pub fn named(&self) -> [(&'static str, &ClassReport); 4] {
        [("total", &self.total), ("hit", &self.hit), ("miss", &self.miss), ("unclassified", &self.unclassified)]
    }
}

/// What was counted of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Successful responses.
    pub requests: u64,
    /// Body bytes of successful responses.
    pub bytes: u64,
    /// Failed requests by kind.
    pub errors: Failures,
    /// Those of kind `status`, by the status of the response.
    #[serde(default)]
    pub errors_by_status: BTreeMap<u16, u64>,
    /// From the intended start to the last byte.
    pub latency_ns: Percentiles,
    /// From the actual send to the last byte.
    pub service_ns: Percentiles,
    /// From the actual send to the first byte.
    pub first_byte_ns: Percentiles,
}

/// How the schedule was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Requests whose time came.
    pub intended: u64,
    pub sent: u64,
    /// Sent only after waiting for a free connection.
    pub late: u64,
    /// Never sent.
    pub dropped: u64,
    /// Actual minus intended send time where a connection was free.
    pub error_ns: Percentiles,
}

/// What the load generator itself did and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Processor time of the threads that send and receive.
    pub cpu_seconds: f64,
    pub cpu_us_per_request: f64,
    /// Connections established, and requests sent again after the server closed one.
    pub connections: u64,
    pub retried: u64,
}

/// What became of one threshold. Its keys are part of the JSON file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The condition, as it was written.
    pub condition: String,
    /// What was measured, in the condition's unit: shares from 0 to 1, latencies in nanoseconds; null where nothing
    /// was.
    pub value: Option<f64>,
    pub broken: bool,
    /// `value` for people.
    #[serde(skip)]
    pub shown: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.condition, self.shown)
    }
}

impl Run {
    /// The report of what was measured.
    pub fn of(outcome: &Outcome, settings: BTreeMap<String, serde_json::Value>, started_unix_seconds: f64) -> Run {
        let tally = &outcome.tally;
        let total = tally.total();
        let seconds = outcome.elapsed.as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let answered = total.requests + total.failures.sum() - total.failures.connect;
        let cpu_seconds = outcome.cpu.as_secs_f64();
        Run {
            schema_version: SCHEMA_VERSION,
            settings,
            ended: match outcome.ended {
                Ended::Completed => "completed",
                Ended::Interrupted => "interrupted",
                Ended::Unreachable => "unreachable",
            }
            .into(),
            started_unix_seconds,
            elapsed_seconds: seconds,
            requests_per_second: per_second(total.requests),
            bytes_per_second: per_second(total.bytes),
            classes: Classes {
                hit: ClassReport::of(tally.class(Class::Hit)),
                miss: ClassReport::of(tally.class(Class::Miss)),
                unclassified: ClassReport::of(tally.class(Class::Unclassified)),
                total: ClassReport::of(&total),
            },
            schedule: Schedule::of(tally),
            client: Client {
                cpu_seconds,
                cpu_us_per_request: if answered > 0 { cpu_seconds * 1e6 / answered as f64 } else { 0.0 },
                connections: tally.connections,
                retried: tally.retried,
            },
            samples: outcome.samples.clone(),
            thresholds: Vec::new(),
        }
    }

    /// Reads a file that `--json` wrote.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(file: &Path) -> Result<Run> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
        match value.get("schema_version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(SCHEMA_VERSION) => {}
            Some(version) => bail!(
                "{} has schema version {version}, and this loadgen reads version {SCHEMA_VERSION}",
                file.display()
            ),
            None => bail!("{} is not a run of loadgen: it has no schema_version", file.display()),
        }
        serde_json::from_value(value).with_context(|| format!("{} is not a run of loadgen", file.display()))
    }

    /// Writes the run, whole or not at all.
    ///
    /// # Errors
    /// Names the file.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        write_whole(file, &text)
    }

    /// A short name for tables: the setting `name`, or the URL.
    pub fn setting(&self, name: &str) -> String {
        match self.settings.get(name) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }

    /// The share of misses among the classified responses; `None` where nothing was classified.
    pub fn miss_share(&self) -> Option<f64> {
        let (hits, misses) = (self.classes.hit.requests, self.classes.miss.requests);
        (hits + misses > 0).then(|| misses as f64 / (hits + misses) as f64)
    }
}

impl ClassReport {
    /// Failed requests for people, by kind, and by status where that is what failed them: `3 reset`, `2 status 404`.
    pub fn failures_shown(&self) -> Vec<String> {
        let count = |count: u64, kind: &str| format!("{} {}", show_count(count), kind.replace('_', " "));
        let kinds = Failure::ALL.into_iter().filter(|&kind| self.errors.of(kind) > 0);
        kinds
            .flat_map(|kind| match kind {
                Failure::Status if !self.errors_by_status.is_empty() => self
                    .errors_by_status
                    .iter()
                    .map(|(status, &times)| count(times, &format!("status {status}")))
                    .collect(),
                _ => vec![count(self.errors.of(kind), kind.as_str())],
            })
            .collect()
    }

    fn of(tally: &ClassTally) -> ClassReport {
        ClassReport {
            requests: tally.requests,
            bytes: tally.bytes,
            errors: tally.failures,
            errors_by_status: tally.statuses.clone(),
            latency_ns: tally.latency().percentiles(),
            service_ns: tally.service.percentiles(),
            first_byte_ns: tally.first_byte.percentiles(),
        }
    }
}

impl Schedule {
    fn of(tally: &Tally) -> Schedule {
        let schedule = &tally.schedule;
        Schedule {
            intended: schedule.intended,
            sent: schedule.sent,
            late: schedule.late,
            dropped: schedule.dropped,
            error_ns: schedule.error.percentiles(),
        }
    }
}

/// Writes a file under another name first, so that its own name never shows half of it. What is no regular file (a
/// pipe, `/dev/stdout`) is written directly.
///
/// # Errors
/// Names the file.
pub fn write_whole(file: &Path, text: &str) -> Result<()> {
    let regular = fs::metadata(file).map_or(true, |metadata| metadata.is_file());
    let written = if regular {
        let mut beside = file.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, file));
        if written.is_err() {
            // Nothing may be left behind; that it cannot be removed adds nothing to the error.
            let _ = fs::remove_file(&beside);
        }
        written
    } else {
        fs::write(file, text)
    };
    written.with_context(|| format!("cannot write {}", file.display()))
}
