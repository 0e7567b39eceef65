//! One run of a load: what is asked for, how, and the program that does it.

use crate::{
    measure::cores::Placement,
    plan::{Loader, Single},
    processes::Process,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

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
    /// The requests of a recorded trace, in order, each once.
    Trace(PathBuf),
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    Seconds(f64),
    Requests(u64),
    /// With the last request of a trace.
    Trace,
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
    /// What the requests say of it.
    pub accept_encoding: Option<&'static str>,
    /// Whether every byte of every body is checked; only lists can be.
    pub verify: bool,
    pub loadgen: &'a Path,
    /// The directory that is served.
    pub root: &'a Path,
    pub placement: &'a Placement,
    /// Where the load's own files go.
    pub state: &'a Path,
}

impl Job<'_> {
    /// Runs a program on the cores of the load; what it printed.
    pub fn execute(&self, command: &mut Command) -> Result<String> {
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
            Limit::Requests(_) | Limit::Trace => Duration::from_secs(300),
        }
    }

    pub fn url(&self, port: u16) -> String {
        match &self.target {
            Target::File(file) => format!("http://127.0.0.1:{port}/{}", file.name),
            Target::Trace(_) => format!("http://127.0.0.1:{port}/"),
            Target::List { directory, .. } => format!("http://127.0.0.1:{port}/{directory}/"),
        }
    }
}
