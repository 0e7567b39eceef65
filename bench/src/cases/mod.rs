//! What is measured: every case with its load and the figure that is compared.

mod idle;
mod startup;
mod turns;

use crate::{
    data::{Amounts, Corpus},
    load::{Loader, Single},
};
use crate::{report::CaseResult, run::Bench};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// One case. Each server taking part in it is started anew, warmed, and run in turns with the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// In options and results.
    pub name: String,
    pub title: String,
    /// Worker threads or processes of each server.
    pub workers: usize,
    /// What is compared.
    pub metric: Metric,
    pub procedure: Procedure,
}

/// How a case is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Procedure {
    /// Closed loop: as fast as the server answers.
    Load(Load),
    /// Open loop, at a share of what nginx answers at most for the same file.
    OpenLoop { file: Single, connections: u32, share: f64 },
    /// Files that were dropped from the page cache just before, each asked for once.
    Cold { corpus: Corpus, connections: u32 },
    /// Memory with idle connections, after the cache has been filled.
    Idle { connections: u32 },
    /// From the start of the process to the first byte of a response.
    Startup,
}

/// A closed loop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub what: What,
    pub connections: u32,
    pub pipeline: u32,
    pub loader: Loader,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// One file, a hit wherever there is a cache that may hold it.
    File(Single),
    /// The mix, some files much more often than others.
    Mix,
    /// All files of a corpus in turn, so that no cache of 64 MiB has the next one. All are in the page cache.
    Misses(Corpus),
}

/// The figure of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Processor time of the server's processes, in microseconds for each request.
    CpuPerRequest,
    RequestsPerSecond,
    /// Median latency in microseconds.
    P50,
    /// 99th percentile of the latency in microseconds.
    P99,
    /// MiB.
    Memory,
    /// Milliseconds.
    FirstByte,
}

impl Case {
    /// Runs the case with every server that takes part in it.
    ///
    /// # Errors
    /// What no server is to blame for. What a server is to blame for is in the result.
    pub fn run(&self, bench: &Bench, result: &mut CaseResult) -> Result<()> {
        match self.procedure {
            Procedure::Load(_) | Procedure::OpenLoop { .. } | Procedure::Cold { .. } => turns::run(self, bench, result),
            Procedure::Idle { connections } => idle::run(self, connections, bench, result),
            Procedure::Startup => startup::run(self, bench, result),
        }
    }
}

impl Metric {
    pub fn label(self) -> &'static str {
        match self {
            Metric::CpuPerRequest => "server CPU per request",
            Metric::RequestsPerSecond => "requests per second",
            Metric::P50 => "median latency",
            Metric::P99 => "99th percentile of latency",
            Metric::Memory => "memory",
            Metric::FirstByte => "start to first byte",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Metric::CpuPerRequest | Metric::P50 | Metric::P99 => "µs",
            Metric::RequestsPerSecond => "/s",
            Metric::Memory => "MiB",
            Metric::FirstByte => "ms",
        }
    }

    pub fn lower_is_better(self) -> bool {
        self != Metric::RequestsPerSecond
    }
}

/// How much of everything is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Runs of each server in each case.
    pub rounds: u32,
    pub seconds: f64,
    pub warmup_seconds: f64,
    pub idle_connections: u32,
    pub amounts: Amounts,
    /// Every body of a corpus is checked while caches are warmed.
    pub quick: bool,
}

impl Scale {
    /// For figures that mean something.
    pub fn full() -> Scale {
        Scale {
            rounds: 7,
            seconds: 2.0,
            warmup_seconds: 0.5,
            idle_connections: 10_000,
            amounts: Amounts { mix_files: 10_000, corpus_bytes: 512 << 20, huge_bytes: 200 << 20 },
            quick: false,
        }
    }

    /// To see that everything runs.
    pub fn quick() -> Scale {
        Scale {
            rounds: 1,
            seconds: 0.2,
            warmup_seconds: 0.1,
            idle_connections: 500,
            amounts: Amounts { mix_files: 2_000, corpus_bytes: 96 << 20, huge_bytes: 80 << 20 },
            quick: true,
        }
    }
}

/// Connections of the closed loops.
const CONNECTIONS: u32 = 32;

/// Connections of the open loop: more than are ever needed at once while the server keeps up.
const OPEN_CONNECTIONS: u32 = 64;

/// Few, so that the latency is that of the storage and the server, not of a queue.
const COLD_CONNECTIONS: u32 = 4;

/// All cases, in the order in which they are run.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let files: Vec<Single> = crate::data::FILES.iter().map(|&(name, size)| Single { name, size }).collect();
    let named = |name: &str| files.iter().copied().find(|file| file.name == name);
    let mut all = Vec::new();
    let mut push = |name: String, title: String, workers, metric, procedure| {
        all.push(Case { name, title, workers, metric, procedure });
    };
    let closed = |what, connections, pipeline, loader| Procedure::Load(Load { what, connections, pipeline, loader });
    for &file in &files {
        let size = show_size(file.size);
        let procedure = closed(What::File(file), CONNECTIONS, 1, Loader::Loadgen);
        push(format!("hits-{}", file.name), format!("Hits, {size}"), 1, Metric::CpuPerRequest, procedure);
    }
    for file in ["4k", "64k", "1m"].into_iter().filter_map(named) {
        let title = format!("Hits, {}, load by wrk", show_size(file.size));
        let procedure = closed(What::File(file), CONNECTIONS, 1, Loader::Wrk);
        push(format!("hits-{}-wrk", file.name), title, 1, Metric::CpuPerRequest, procedure);
    }
    if let Some(file) = named("4k") {
        let procedure = closed(What::File(file), CONNECTIONS, 16, Loader::Loadgen);
        push("pipelined-4k".into(), "Pipelined ×16, 4 KiB".into(), 1, Metric::RequestsPerSecond, procedure);
    }
    let title = format!("Zipf mix of {} files", scale.amounts.mix_files);
    push("mix".into(), title, 1, Metric::CpuPerRequest, closed(What::Mix, CONNECTIONS, 1, Loader::Loadgen));
    for (corpus, name, size) in
        [(Corpus::Of16k, "16k", 16 << 10), (Corpus::Of64k, "64k", 64 << 10), (Corpus::Of1m, "1m", 1 << 20)]
    {
        let title = format!("Misses, {}, page cache warm", show_size(size));
        let procedure = closed(What::Misses(corpus), CONNECTIONS, 1, Loader::Loadgen);
        push(format!("miss-warm-{name}"), title, 1, Metric::CpuPerRequest, procedure);
    }
    for (corpus, name, size) in [(Corpus::Of64k, "64k", 64 << 10), (Corpus::Of1m, "1m", 1 << 20)] {
        let title = format!("Misses, {}, page cache cold", show_size(size));
        let procedure = Procedure::Cold { corpus, connections: COLD_CONNECTIONS };
        push(format!("miss-cold-{name}"), title, 1, Metric::P50, procedure);
    }
    let huge = Single { name: crate::data::HUGE, size: scale.amounts.huge_bytes };
    let title = format!("Larger than the cache: {}, page cache warm", show_size(huge.size));
    push("huge".into(), title, 1, Metric::CpuPerRequest, closed(What::File(huge), 4, 1, Loader::Loadgen));
    for file in ["4k", "64k"].into_iter().filter_map(named) {
        let title = format!("Open loop at 70 % of nginx's peak, {}", show_size(file.size));
        let procedure = Procedure::OpenLoop { file, connections: OPEN_CONNECTIONS, share: 0.7 };
        push(format!("open-{}", file.name), title, 1, Metric::P99, procedure);
    }
    for file in ["4k", "64k"].into_iter().filter_map(named) {
        let title = format!("Hits, {}, 2 workers", show_size(file.size));
        let procedure = closed(What::File(file), CONNECTIONS, 1, Loader::Loadgen);
        push(format!("workers-2-hits-{}", file.name), title, 2, Metric::CpuPerRequest, procedure);
    }
    let title = format!("{} idle connections and a full cache", scale.idle_connections);
    push("idle".into(), title, 1, Metric::Memory, Procedure::Idle { connections: scale.idle_connections });
    push("startup".into(), "Start to first byte".into(), 1, Metric::FirstByte, Procedure::Startup);
    if scale.quick {
        // One of each kind.
        all.retain(|case| {
            !matches!(
                case.name.as_str(),
                "hits-16k"
                    | "hits-256k"
                    | "hits-4k-wrk"
                    | "hits-1m-wrk"
                    | "miss-warm-16k"
                    | "miss-warm-1m"
                    | "miss-cold-1m"
                    | "open-64k"
                    | "workers-2-hits-64k"
            )
        });
    }
    all
}

/// `4 KiB`, `200 MiB`.
pub fn show_size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_a_quick_run_has_every_kind() {
        let (full, quick) = (cases(&Scale::full()), cases(&Scale::quick()));
        let names: BTreeSet<&str> = full.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), full.len());
        assert!(quick.iter().all(|case| names.contains(case.name.as_str())));
        let kinds = |cases: &[Case]| -> BTreeSet<String> {
            cases.iter().map(|case| case.name.split('-').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(kinds(&full), kinds(&quick));
        assert!(quick.len() < full.len());
    }

    #[test]
    fn sizes_are_shown_as_people_say_them() {
        assert_eq!(show_size(4096), "4 KiB");
        assert_eq!(show_size(1 << 20), "1 MiB");
        assert_eq!(show_size(200 << 20), "200 MiB");
    }
}
