//! `forebay simulate`.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Outcome, output};
use crate::cache::eviction::Eviction;
use crate::limits;
use crate::simulate::explain::explain;
use crate::simulate::page::page;
use crate::simulate::replay::Setup;
use crate::simulate::report::{PolicyReport, Report, TraceReport};
use crate::simulate::trace::{self, Names, Trace};
use crate::simulate::{curve, plot};
use crate::trace::Format;
use crate::units::{self, Size};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Files that are explained at most.
const FILES_MAX: u64 = 10_000;

/// The arenas that can be simulated: as those that can be had, and larger.
fn arena_size(text: &str) -> Result<Size, String> {
    units::size(MIB, TIB, 64 * KIB)(text)
}

/// The arguments of `forebay simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// The requests to replay: a trace, or a web server's access log
    #[arg(long, env = "FOREBAY_TRACE", value_name = "FILE")]
    pub trace: PathBuf,

    /// How the trace is written; told from its beginning if not given
    #[arg(long, env = "FOREBAY_FORMAT", value_enum, ignore_case = true)]
    pub format: Option<Format>,

    /// Size of the cache
    #[arg(long, env = "FOREBAY_ARENA", value_name = "SIZE", default_value = "64MiB", value_parser = arena_size)]
    pub arena: Size,

    /// The policies to compare
    #[arg(
        long,
        env = "FOREBAY_EVICTION",
        value_name = "POLICY,...",
        value_enum,
        value_delimiter = ',',
        default_value = "gdc"
    )]
    pub eviction: Vec<Eviction>,

    /// Also replay at sizes from LOW to HIGH, two to the octave, and draw miss-ratio curves
    #[arg(long, env = "FOREBAY_SIZES", value_name = "LOW..HIGH", value_parser = parse_sizes)]
    pub sizes: Option<(Size, Size)>,

    /// Where to draw the curves, as SVG; the trace's name with .svg, in the current directory, if not given
    #[arg(long, env = "FOREBAY_PLOT", value_name = "FILE", requires = "sizes")]
    pub plot: Option<PathBuf>,

    /// Write a page about it: figures, curves, files
    #[arg(long, env = "FOREBAY_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Say of so many files which ones each policy keeps and misses, and why
    #[arg(long, env = "FOREBAY_EXPLAIN", value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=FILES_MAX))]
    pub explain: u64,

    /// Print JSON
    #[arg(long, env = "FOREBAY_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,

    /// What a miss costs beyond its bytes, counted in bytes, for the policies that weigh it
    #[arg(long, env = "FOREBAY_MISS_COST", value_name = "SIZE", default_value = "64KiB",
          value_parser = units::size(0, 1 << 30, 1), hide_short_help = true)]
    pub miss_cost: Size,

    /// Lay objects out without any loss: each costs its own bytes only
    #[arg(long, env = "FOREBAY_IDEAL", value_parser = BoolishValueParser::new())]
    pub ideal: bool,

    /// Objects held by slow readers at any time, which cannot be evicted meanwhile
    #[arg(long, env = "FOREBAY_LEASES", value_name = "N", default_value_t = 0)]
    pub leases: usize,
}

/// Reads `16MiB..1GiB`.
fn parse_sizes(text: &str) -> Result<(Size, Size), String> {
    let (low, high) = text.split_once("..").ok_or("a range of sizes reads 16MiB..1GiB")?;
    let (low, high) = (arena_size(low)?, arena_size(high)?);
    if low > high { Err(format!("{low} is more than {high}")) } else { Ok((low, high)) }
}

/// Runs `forebay simulate`.
pub fn run(args: SimulateArgs) -> anyhow::Result<Outcome> {
    let (trace, names) = read(&args)?;
    let setups = setups(&args);
    let total = (trace.requests.len() * setups.len()) as u64;
    let bar = progress_bar(total, "{msg} {wide_bar} {percent}% {eta}")?.with_message("replaying");
    let explained = if args.explain > 0 { args.eviction.len() } else { 0 };
    let replayed = curve::replay_all(&trace, &setups, explained, |requests| bar.inc(requests));
    bar.finish_and_clear();

    let mut rows = setups.iter().zip(&replayed).map(|(setup, (outcome, _))| PolicyReport::new(setup, outcome));
    let report = Report {
        trace: TraceReport::new(args.trace.display().to_string(), &trace),
        policies: rows.by_ref().take(args.eviction.len()).collect(),
        curve: rows.collect(),
        explain: (setups.iter().zip(&replayed).take(explained))
            .map(|(setup, (_, accounts))| explain(&trace, &names, setup, accounts, args.explain as usize))
            .collect(),
    };
    if let Some(file) = &args.report {
        fs::write(file, page(&report)).with_context(|| format!("cannot write the report {}", file.display()))?;
    }
    let plot = match report.curve.is_empty() {
        true => None,
        false => Some(draw(&args, &report)?),
    };
    if args.json {
        output::print(&(serde_json::to_string(&report)? + "\n"))?;
    } else {
        let drawn = plot.map_or_else(String::new, |path| format!("\ncurves drawn in {}\n", path.display()));
        output::print(&(report.table() + &drawn))?;
    }
    Ok(Outcome::Done)
}

/// Every policy at the arena's size, then every policy at the sizes of the curve.
fn setups(args: &SimulateArgs) -> Vec<Setup> {
    let setup = |eviction, arena| Setup {
        eviction,
        arena,
        miss_cost: args.miss_cost.0,
        packed_max: limits::PACKED_MAX,
        ideal: args.ideal,
        leases: args.leases,
    };
    let sizes = args.sizes.map_or_else(Vec::new, |(low, high)| curve::sizes(low.0, high.0));
    let at_arena = args.eviction.iter().map(|eviction| setup(*eviction, args.arena.0));
    let on_curve = args.eviction.iter().flat_map(|eviction| sizes.iter().map(|size| setup(*eviction, *size)));
    at_arena.chain(on_curve).collect()
}

fn read(args: &SimulateArgs) -> anyhow::Result<(Trace, Names)> {
    let path = &args.trace;
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let bar = progress_bar(bytes, "{msg} {wide_bar} {bytes}/{total_bytes} {eta}")?.with_message("reading");
    // Counted where whole buffers are read, not single records.
    let input = BufReader::with_capacity(1 << 18, Counted { inner: file, bar: bar.clone() });
    let trace = trace::read(input, args.format).with_context(|| format!("cannot use the trace {}", path.display()))?;
    bar.finish_and_clear();
    Ok(trace)
}

/// On standard error, and only if that is a terminal.
fn progress_bar(length: u64, template: &str) -> anyhow::Result<ProgressBar> {
    Ok(ProgressBar::new(length).with_style(ProgressStyle::with_template(template)?))
}

/// Tells a progress bar what was read.
struct Counted {
    inner: File,
    bar: ProgressBar,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bar.inc(count as u64);
        Ok(count)
    }
}

/// Draws the curves, and says where.
fn draw(args: &SimulateArgs, report: &Report) -> anyhow::Result<PathBuf> {
    let name = args.trace.file_name().unwrap_or(args.trace.as_os_str());
    let path = args.plot.clone().unwrap_or_else(|| Path::new(name).with_added_extension("svg"));
    let svg = plot::curves(&name.to_string_lossy(), &report.curve);
    fs::write(&path, svg).with_context(|| format!("cannot write the plot {}", path.display()))?;
    Ok(path)
}
