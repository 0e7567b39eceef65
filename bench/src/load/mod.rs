//! The load: who sends requests, which, and what came of them.

pub mod http;
pub mod keyvalue;
mod loadgen;
mod wrk;

use crate::{
    measure::cores::Placement,
    peers::{Peer, Role},
    processes::Process,
    programs,
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Who sends the requests to file servers. Key-value stores have a sender of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Loadgen,
    /// An independent check.
    Wrk,
}

/// A single file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Single {
    pub name: &'static str,
    pub size: u64,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    File(Single),
    /// The names in a list file, below a directory of the root, by popularity as the load generator calls it.
    List {
        directory: &'static str,
        list: PathBuf,
        popularity: &'static str,
    },
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    Seconds(f64),
    Requests(u64),
}

/// One run of a load.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    pub target: Target,
    pub connections: u32,
    /// Requests on their way at once on each connection.
    pub pipeline: u32,
    pub limit: Limit,
    /// Open loop: requests per second, at random times (a Poisson process).
    pub rate: Option<f64>,
    pub loader: Loader,
    /// Whether every byte of every body is checked; only lists can be.
    pub verify: bool,
    pub loadgen: &'a Path,
    /// The directory that is served.
    pub root: &'a Path,
    pub placement: &'a Placement,
    /// Where the load's own files go.
    pub state: &'a Path,
}

/// What came of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Answered as wanted.
    pub requests: u64,
    pub failures: u64,
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

impl Job<'_> {
    /// Runs the load against `peer` on `port`.
    ///
    /// # Errors
    /// The load could not be run; nothing was answered.
    pub fn run(&self, peer: Peer, port: u16) -> Result<Outcome> {
        let outcome = match (peer.role(), self.loader) {
            (Role::KeyValue, _) => keyvalue::run(self, peer, port)?,
            (_, Loader::Loadgen) => loadgen::run(self, port)?,
            (_, Loader::Wrk) => wrk::run(self, port)?,
        };
        ensure!(outcome.requests > 0, "{} answered no request ({} failed)", peer.name(), outcome.failures);
        Ok(outcome)
    }

    /// Runs a program on the cores of the load; what it printed.
    fn execute(&self, command: &mut Command) -> Result<String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let [output, complaints] = ["load.out", "load.err"].map(|file| self.state.join(file));
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&complaints)?);
        let mut process = Process::start(&self.placement.load, command)?;
        let status = process.wait(self.patience()).with_context(|| name.clone())?;
        let said = fs::read_to_string(&complaints).unwrap_or_default();
        ensure!(status.success(), "{name} failed ({status}): {}", said.trim());
        Ok(fs::read_to_string(&output)?)
    }

    /// No load takes longer than this unless it hangs.
    fn patience(&self) -> Duration {
        match self.limit {
            Limit::Seconds(seconds) => Duration::from_secs_f64(seconds * 2.0 + 30.0),
            Limit::Requests(_) => Duration::from_secs(300),
        }
    }

    fn url(&self, port: u16) -> String {
        match &self.target {
            Target::File(file) => format!("http://127.0.0.1:{port}/{}", file.name),
            Target::List { directory, .. } => format!("http://127.0.0.1:{port}/{directory}/"),
        }
    }
}

/// Whether wrk is there for the independent check, and the Debian package that it comes in.
pub fn wrk_missing() -> Option<&'static str> {
    programs::find("wrk").is_none().then_some("wrk")
}
