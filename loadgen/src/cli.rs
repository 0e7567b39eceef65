//! The command line.

use crate::{
    classify::Rule,
    corpus::sizes::Sizes,
    exec::{Arrivals, Stage},
    report::{compare, thresholds::Threshold},
    requests::{Method, Popularity},
    trace,
};
use clap::{Args, Parser, Subcommand};
use forebay::units::{self, Size};
use std::{path::PathBuf, time::Duration};

/// No run is longer than thirty years.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// Shorter times cannot be told apart when they are waited for.
const SHORTEST: Duration = Duration::from_millis(1);

/// Measures a file server over HTTP/1.1: the latency of cache hits and of misses apart.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send requests and measure the responses
    Run(Box<RunOptions>),
    /// Find the highest rate at which no threshold is broken, such as p99>5ms
    Find(Box<FindOptions>),
    /// Make the files for a run, each body derived from its name
    Corpus(CorpusOptions),
    /// Make one page of one or more runs
    Report(ReportOptions),
    /// Say how runs differ from the first one, and whether that is more than they scatter
    Compare(CompareOptions),
}

#[derive(Debug, Args)]
pub struct RunOptions {
    /// The server: http://host:port/base/, host:port or unix:/path. Names are requested below its path
    pub url: String,

    /// Connect to these instead, in turns: HOST:PORT or unix:/path; repeatable, or a list with commas. Requests stay as
    /// the URL has them, Host included: for the members of a fleet
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "LOADGEN_CONNECT", help_heading = "Load")]
    pub connect: Vec<String>,
    /// Connections, shared among the threads
    #[arg(
        short,
        long,
        default_value_t = 64,
        env = "LOADGEN_CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        help_heading = "Load"
    )]
    pub connections: u32,
    /// Threads that send and receive
    #[arg(
        short,
        long,
        default_value_t = 1,
        env = "LOADGEN_THREADS",
        value_parser = clap::value_parser!(u32).range(1..=1024),
        help_heading = "Load"
    )]
    pub threads: u32,
    /// Requests on their way at once on each connection
    #[arg(
        long,
        default_value_t = 1,
        env = "LOADGEN_PIPELINE",
        value_parser = clap::value_parser!(u32).range(1..=1024),
        help_heading = "Load"
    )]
    pub pipeline: u32,
    /// How long requests are started; 10s unless --requests or --trace sets another end
    #[arg(
        short,
        long,
        env = "LOADGEN_DURATION",
        value_parser = units::duration(Duration::ZERO, LONGEST),
        help_heading = "Load"
    )]
    pub duration: Option<Duration>,
    /// How many requests are measured
    #[arg(
        short = 'n',
        long,
        env = "LOADGEN_REQUESTS",
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "Load"
    )]
    pub requests: Option<u64>,
    /// Send without measuring for this long first
    #[arg(
        short,
        long,
        default_value = "0s",
        env = "LOADGEN_WARMUP",
        value_parser = units::duration(Duration::ZERO, LONGEST),
        help_heading = "Load"
    )]
    pub warmup: Duration,
    /// Open loop: requests per second in all, whatever the server does. Latency counts from when a request was meant to
    /// start
    #[arg(short, long, env = "LOADGEN_RATE", value_parser = positive, group = "pace", help_heading = "Load")]
    pub rate: Option<f64>,
    /// Open loop at rates that follow each other: 10s:1000/s,30s:5000/s
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "TIME:RATE",
        env = "LOADGEN_STAGES",
        group = "pace",
        conflicts_with = "duration",
        help_heading = "Load"
    )]
    pub stages: Vec<Stage>,
    /// How requests of an open loop follow each other
    #[arg(
        long,
        value_enum,
        default_value = "constant",
        env = "LOADGEN_ARRIVALS",
        requires = "pace",
        help_heading = "Load"
    )]
    pub arrivals: Arrivals,
    /// The longest that a request may take
    #[arg(
        long,
        default_value = "10s",
        env = "LOADGEN_TIMEOUT",
        value_parser = units::duration(SHORTEST, LONGEST),
        help_heading = "Load"
    )]
    pub timeout: Duration,
    /// Let the kernel discard bodies instead of copying them here (TCP): cheaper from about 64 KiB on
    #[arg(long, env = "LOADGEN_DISCARD_BODIES", conflicts_with = "verify", help_heading = "Load")]
    pub discard_bodies: bool,
    /// A further header field of every request; Host replaces that of the URL
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", help_heading = "Load")]
    pub headers: Vec<String>,

    /// The method of every request
    #[arg(short = 'X', long, default_value = "GET", env = "LOADGEN_METHOD", help_heading = "Load")]
    pub method: Method,
    /// What every request carries: a text, or @FILE
    #[arg(long, value_name = "TEXT|@FILE", env = "LOADGEN_BODY", help_heading = "Load")]
    pub body: Option<String>,
    /// A connection of its own for every request
    #[arg(long, env = "LOADGEN_NO_KEEPALIVE", conflicts_with = "pipeline", help_heading = "Load")]
    pub no_keepalive: bool,
    /// What tells hits from misses: a field and how it begins ('X-Cache: HIT', 'X-Cache: HIT|STALE'), or forebay
    /// (Cache-Status), varnish, nginx, apache, squid, cloudfront, cloudflare, fastly, akamai
    #[arg(long, value_name = "FIELD", default_value = "forebay", env = "LOADGEN_HIT_HEADER", help_heading = "Load")]
    pub hit_header: Rule,
    /// Exit with status 1 if this comes true: errors>0.1%, dropped>100, p99>5ms, hit.p99.9>1ms, misses>10%, rate<5000.
    /// Repeatable; errors>1% and dropped>1% hold unless another condition on errors or dropped is given
    #[arg(long, value_name = "CONDITION", help_heading = "Load")]
    pub fail_on: Vec<Threshold>,

    /// Request the paths in this file: one a line, optionally followed by a tab and the size in bytes
    #[arg(short, long, env = "LOADGEN_PATHS", group = "names", help_heading = "Names")]
    pub paths: Option<PathBuf>,
    /// Request the files that the server lists
    #[arg(short, long, env = "LOADGEN_LISTING", group = "names", help_heading = "Names")]
    pub listing: bool,
    /// Replay a trace
    #[arg(
        long,
        env = "LOADGEN_TRACE",
        group = "names",
        conflicts_with_all = ["popularity", "miss_ratio"],
        help_heading = "Names"
    )]
    pub trace: Option<PathBuf>,
    /// The format of the trace
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        env = "LOADGEN_TRACE_FORMAT",
        requires = "trace",
        help_heading = "Names"
    )]
    pub trace_format: trace::Format,
    /// Replay at the recorded times, this many times as fast (1: as recorded)
    #[arg(
        long,
        env = "LOADGEN_TRACE_SPEED",
        value_parser = positive,
        requires = "trace",
        conflicts_with = "pace",
        help_heading = "Names"
    )]
    pub trace_speed: Option<f64>,
    /// uniform, zipf:S (the k-th name as often as 1/k^S) or sequential
    #[arg(long, default_value = "uniform", env = "LOADGEN_POPULARITY", help_heading = "Names")]
    pub popularity: Popularity,
    /// The share of misses wanted, from 0 to 1: names that fit the cache are mixed with names that cannot stay in it,
    /// steered by what the server says
    #[arg(long, env = "LOADGEN_MISS_RATIO", value_parser = share, help_heading = "Names")]
    pub miss_ratio: Option<f64>,
    /// The size of the server's cache, for --miss-ratio
    #[arg(long, default_value = "64MiB", env = "LOADGEN_CACHE_SIZE", help_heading = "Names")]
    pub cache_size: Size,
    /// Runs with the same seed request the same names in the same order (but for --miss-ratio)
    #[arg(long, default_value_t = 1, env = "LOADGEN_SEED", help_heading = "Names")]
    pub seed: u64,
    /// Check every byte of every body against what `loadgen corpus` makes for that name
    #[arg(long, env = "LOADGEN_VERIFY", conflicts_with = "method", help_heading = "Names")]
    pub verify: bool,
    /// The seed that the corpus was made with
    #[arg(long, default_value_t = 1, env = "LOADGEN_CORPUS_SEED", help_heading = "Names")]
    pub corpus_seed: u64,

    /// Write everything that was measured
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write a percentile file per class, as HdrHistogram plotters read them
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub hgrm: Option<PathBuf>,
    /// Write the sampled intervals as CSV
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub csv: Option<PathBuf>,
    /// Write the numbers in the text format of Prometheus
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub prometheus: Option<PathBuf>,
    /// Write the thresholds as a JUnit test suite
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub junit: Option<PathBuf>,
    /// The length of the sampled intervals
    #[arg(long, value_parser = units::duration(SHORTEST, LONGEST), env = "LOADGEN_INTERVAL", help_heading = "Output")]
    pub interval: Option<Duration>,
    /// A name for the run in reports
    #[arg(long, help_heading = "Output")]
    pub label: Option<String>,
    /// No live view
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct CorpusOptions {
    /// The directory to fill; made if need be
    pub directory: PathBuf,
    /// How many files
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub count: u64,
    /// fixed:4KiB, lognormal:16KiB,1.5 (median, sigma) or pareto:1KiB,1.2 (least, alpha)
    #[arg(long, default_value = "fixed:4KiB")]
    pub sizes: Sizes,
    /// No file is larger
    #[arg(long, default_value = "64MiB")]
    pub max_size: Size,
    /// Make the objects of this trace instead
    #[arg(long, conflicts_with_all = ["count", "sizes"])]
    pub trace: Option<PathBuf>,
    /// The format of the trace
    #[arg(long, value_enum, default_value = "auto", requires = "trace")]
    pub trace_format: trace::Format,
    /// Sizes and bodies follow from the seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write the names and sizes, as `loadgen run --paths` reads them
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ReportOptions {
    /// Files that `loadgen run --json` wrote
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long)]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct CompareOptions {
    /// Files that `loadgen run --json` wrote; every other one is compared with the first
    #[arg(required = true, num_args = 2..=compare::RUNS_MAX)]
    pub runs: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct FindOptions {
    #[command(flatten)]
    pub run: RunOptions,
    /// Try no rate above this; what a closed loop reaches unless given
    #[arg(long, value_parser = positive, value_name = "RATE", help_heading = "Find")]
    pub most: Option<f64>,
    /// Stop when the highest rate that passed and the lowest that failed are this near
    #[arg(long, default_value = "5%", value_parser = percent, value_name = "PERCENT", help_heading = "Find")]
    pub precision: f64,
    /// Runs of each rate, of which the majority decides
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99), help_heading = "Find")]
    pub repeat: u32,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(value) if (0.1..=100.0).contains(&value) => Ok(value / 100.0),
        _ => Err(format!("`{text}` is not a share from 0.1% to 100%")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e9 => Ok(value),
        _ => Err(format!("`{text}` is not a number above 0 (and up to a billion)")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a number from 0 to 1")),
    }
}
