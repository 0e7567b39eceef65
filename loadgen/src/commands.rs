//! What each command does.

use crate::{
    cli::{CompareOptions, CorpusOptions, ReportOptions, RunOptions},
    corpus::make::{self, Entry},
    endpoint::{Address, Endpoint},
    exec::{self, Pace, Plan, Stage},
    report::{
        compare, formats, hgrm, html,
        json::{self, Run},
        live::Live,
        summary, thresholds,
    },
    requests::{
        Fields, Form, Item, Order, Requests,
        listing::{self, Listed},
        paths,
    },
    trace::{self, Trace},
    units,
};
use anyhow::{Context, Result, anyhow, ensure};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How a command failed.
#[derive(Debug)]
pub enum Failed {
    /// What was asked for makes no sense: exit status 2.
    Usage(anyhow::Error),
    /// It could not be done: exit status 1.
    Operation(anyhow::Error),
}

/// What one request may carry: it stands in memory once for each name.
const CONTENT_BYTES_MAX: u64 = 64 << 20;

/// What a run is written as.
type OfRun = fn(&Run) -> String;

/// The samples that a run of known length is divided into.
const SAMPLES: u32 = 100;

/// `loadgen run`: whether any request succeeded, and no threshold was broken.
///
/// # Errors
/// Wrong usage, io_uring refused, a list or trace that cannot be read, a file that cannot be written.
pub fn run(options: &RunOptions) -> Result<bool, Failed> {
    let plan = plan(options)?;
    let stop = Arc::new(AtomicBool::new(false));
    on_signals(&stop).map_err(|error| Failed::Operation(error.into()))?;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let live = Live::new(&plan, options.quiet);
    let outcome = exec::run(&plan, stop, |progress| live.update(&progress));
    live.finish();
    let outcome = outcome.map_err(Failed::Operation)?;
    let mut run = Run::of(&outcome, settings(options, &plan), started);
    run.thresholds = thresholds::judge(&run, &thresholds::with_defaults(&options.fail_on));
    // The data first: a closed pipe must not cost it.
    let written = write_files(options, &run);
    print(&summary::summary(&run));
    let broken = run.thresholds.iter().filter(|verdict| verdict.broken);
    broken.clone().for_each(|verdict| eprintln!("loadgen: a threshold is broken: {verdict}"));
    written.map_err(Failed::Operation)?;
    Ok(run.classes.total.requests > 0 && broken.count() == 0)
}

fn write_files(options: &RunOptions, run: &Run) -> Result<()> {
    if let Some(file) = &options.json {
        run.save(file)?;
    }
    let texts: [(&Option<PathBuf>, OfRun); 3] =
        [(&options.csv, formats::csv), (&options.prometheus, formats::prometheus), (&options.junit, formats::junit)];
    for (file, text) in texts {
        if let Some(file) = file {
            json::write_whole(file, &text(run))?;
        }
    }
    if let Some(directory) = &options.hgrm {
        hgrm::write(directory, run)?;
    }
    Ok(())
}

/// The first Ctrl-C (or SIGTERM) ends the measurement, the second one the process.
pub fn on_signals(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(())
}

pub fn plan(options: &RunOptions) -> Result<Plan, Failed> {
    let mut addresses = connect_to(&options.connect).map_err(Failed::Usage)?;
    let mut endpoint = Endpoint::at(&options.url, addresses.first().cloned()).map_err(Failed::Usage)?;
    if addresses.is_empty() {
        addresses.push(endpoint.address.clone());
    }
    if options.discard_bodies && !addresses.iter().all(|address| matches!(address, Address::Tcp(_))) {
        return Err(Failed::Usage(anyhow!("only of a TCP connection can the kernel discard bodies")));
    }
    let trace = match &options.trace {
        Some(file) => Some(trace::load(file, options.trace_format).map_err(Failed::Usage)?),
        None => None,
    };
    let form = form(options).map_err(Failed::Usage)?;
    let items = items(options, &mut endpoint, &form.fields, trace.as_ref())?;
    let order = order(options, &items, trace.as_ref()).map_err(Failed::Usage)?;
    let verify = options.verify.then_some(options.corpus_seed);
    let requests = Requests::prepare(&endpoint, &items, &form, verify).map_err(Failed::Usage)?;
    let pace = pace(options, trace.as_ref());
    let endless = options.requests.is_none() && order.length().is_none();
    let staged: f64 = options.stages.iter().map(|stage| stage.seconds).sum();
    let staged = (staged > 0.0).then(|| Duration::from_secs_f64(staged));
    let duration = options.duration.or(staged).or(endless.then_some(Duration::from_secs(10)));
    let interval = match (options.interval, duration) {
        (Some(interval), _) => interval,
        (None, Some(duration)) => (duration / SAMPLES).clamp(Duration::from_millis(50), Duration::from_secs(10)),
        (None, None) => Duration::from_millis(100),
    };
    Ok(Plan {
        addresses,
        // The kernel reads requests from there until the process is gone.
        requests: Box::leak(Box::new(requests)),
        order,
        pace,
        connections: options.connections.max(options.threads),
        threads: options.threads,
        pipeline: options.pipeline,
        discards_bodies: options.discard_bodies,
        warmup: options.warmup,
        duration,
        requests_max: options.requests,
        timeout: options.timeout,
        seed: options.seed,
        interval,
    })
}

/// Where connections go instead of to the URL's host.
fn connect_to(hosts: &[String]) -> Result<Vec<Address>> {
    hosts.iter().map(|host| Ok(Endpoint::parse(host)?.address)).collect()
}

/// When requests start.
fn pace(options: &RunOptions, trace: Option<&Trace>) -> Pace {
    let mut stages = options.stages.clone();
    // Slots begin with the warm-up.
    if let Some(first) = stages.first_mut() {
        first.seconds += options.warmup.as_secs_f64();
    }
    stages.extend(options.rate.map(|per_second| Stage { seconds: f64::INFINITY, per_second }));
    match (stages.is_empty(), options.trace_speed, trace) {
        (false, ..) => Pace::Stages { stages: stages.into(), arrivals: options.arrivals },
        (true, Some(speed), Some(trace)) => {
            Pace::Times { ns: trace.times_ns.iter().map(|&ns| (ns as f64 / speed) as u64).collect() }
        }
        _ => Pace::AsFastAsPossible,
    }
}

/// A file that every request carries, which may be a pipe or a device without an end.
fn read_content(file: &str) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?.take(CONTENT_BYTES_MAX + 1).read_to_end(&mut content)?;
    let fits = content.len() as u64 <= CONTENT_BYTES_MAX;
    ensure!(fits, "it is longer than {}", units::show_bytes(CONTENT_BYTES_MAX as f64));
    Ok(content)
}

/// What the requests are, but for their targets.
fn form(options: &RunOptions) -> Result<Form> {
    let content = match &options.body {
        None => None,
        Some(text) => Some(match text.strip_prefix('@') {
            Some(file) => read_content(file).with_context(|| format!("cannot read the body {file}"))?,
            None => text.clone().into_bytes(),
        }),
    };
    Ok(Form {
        method: options.method.clone(),
        fields: Fields::parse(&options.headers)?,
        content,
        single_use: options.no_keepalive,
        rule: options.hit_header.clone(),
    })
}

/// The names to ask for. A URL alone names one file.
fn items(
    options: &RunOptions,
    endpoint: &mut Endpoint,
    fields: &Fields,
    trace: Option<&Trace>,
) -> Result<Vec<Item>, Failed> {
    if let Some(trace) = trace {
        let item = |object: &trace::Object| Item { target: object.target.clone(), size: Some(object.size) };
        return Ok(trace.objects.iter().map(item).collect());
    }
    if let Some(file) = &options.paths {
        return paths::load(file).map_err(Failed::Usage);
    }
    if options.listing {
        let Listed { items, skipped } = listing::fetch(endpoint, fields, options.timeout).map_err(Failed::Operation)?;
        skipped.iter().for_each(|what| eprintln!("loadgen: {what}"));
        return Ok(items);
    }
    let target = endpoint.path.strip_prefix('/').unwrap_or_default().to_owned();
    endpoint.path = "/".into();
    Ok(vec![Item { target, size: None }])
}

fn order(options: &RunOptions, items: &[Item], trace: Option<&Trace>) -> Result<Order> {
    let count = u32::try_from(items.len()).context("there are more than 4,294,967,295 names")?;
    Ok(match (trace, options.miss_ratio) {
        (Some(trace), _) => Order::Replay { sequence: trace.requests.clone().into() },
        (None, Some(misses)) => {
            let sizes: Vec<Option<u64>> = items.iter().map(|item| item.size).collect();
            Order::mixed(&sizes, options.cache_size.0, misses, options.popularity)?
        }
        (None, None) => Order::Popular { count, popularity: options.popularity },
    })
}

pub fn settings(options: &RunOptions, plan: &Plan) -> BTreeMap<String, Value> {
    let source = match (&options.trace, &options.paths) {
        (Some(file), _) => format!("trace {}", file.display()),
        (None, Some(file)) => format!("list {}", file.display()),
        (None, None) if options.listing => "the server's listing".into(),
        (None, None) => "the URL".into(),
    };
    let paced = matches!(plan.pace, Pace::Stages { .. });
    let open = !matches!(plan.pace, Pace::AsFastAsPossible);
    let pairs = [
        ("label", json!(options.label)),
        ("url", json!(options.url)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("connect", json!(options.connect)),
        ("mode", json!(if open { "open" } else { "closed" })),
        ("rate", json!(options.rate)),
        ("stages", json!(options.stages.iter().map(Stage::to_string).collect::<Vec<_>>())),
        ("arrivals", json!(paced.then(|| format!("{:?}", options.arrivals).to_lowercase()))),
        ("connections", json!(plan.connections)),
        ("threads", json!(plan.threads)),
        ("pipeline", json!(plan.pipeline)),
        ("duration_seconds", json!(plan.duration.map(|duration| duration.as_secs_f64()))),
        ("requests", json!(plan.requests_max)),
        ("warmup_seconds", json!(plan.warmup.as_secs_f64())),
        ("timeout_seconds", json!(plan.timeout.as_secs_f64())),
        ("interval_seconds", json!(plan.interval.as_secs_f64())),
        ("names", json!(plan.requests.len())),
        ("source", json!(source)),
        ("popularity", json!(options.trace.is_none().then(|| options.popularity.to_string()))),
        ("miss_ratio", json!(options.miss_ratio)),
        ("cache_size_bytes", json!(options.miss_ratio.map(|_| options.cache_size.0))),
        ("trace_speed", json!(options.trace_speed)),
        ("seed", json!(plan.seed)),
        ("verify", json!(options.verify)),
        ("discard_bodies", json!(plan.discards_bodies)),
        ("headers", json!(options.headers)),
        ("method", json!(options.method.as_str())),
        ("body", json!(options.body)),
        ("keepalive", json!(!options.no_keepalive)),
        ("hit_header", json!(options.hit_header.to_string())),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `loadgen corpus`.
///
/// # Errors
/// A trace that cannot be read, a file that cannot be written.
pub fn corpus(options: &CorpusOptions) -> Result<(), Failed> {
    let mut skipped = 0;
    let entries = match &options.trace {
        None => make::numbered(&options.sizes.draw(options.count, options.max_size.0, options.seed)),
        Some(file) => {
            let trace = trace::load(file, options.trace_format).map_err(Failed::Usage)?;
            let entry = |object: &trace::Object| {
                let name = percent_decode_str(&object.target).decode_utf8().ok()?.into_owned();
                Some(Entry { name, size: object.size.min(options.max_size.0) })
            };
            let entries: Vec<Entry> = trace.objects.iter().filter_map(entry).collect();
            skipped = (trace.objects.len() - entries.len()) as u64;
            entries
        }
    };
    let made = make::make(&options.directory, &entries, options.seed, |_| {}).map_err(Failed::Operation)?;
    if let Some(list) = &options.list {
        make::write_list(list, &entries).map_err(Failed::Operation)?;
    }
    let skipped = made.skipped + skipped;
    print(&format!(
        "{} files, {} in {}{}\n",
        units::show_count(made.files),
        units::show_bytes(made.bytes as f64),
        options.directory.display(),
        if skipped > 0 { format!(" ({skipped} names skipped: no file can have them)") } else { String::new() }
    ));
    Ok(())
}

/// `loadgen report`.
///
/// # Errors
/// A run that cannot be read, a page that cannot be written.
pub fn report(options: &ReportOptions) -> Result<(), Failed> {
    let mut runs = Vec::new();
    for file in &options.runs {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        runs.push((name, Run::load(file).map_err(Failed::Operation)?));
    }
    let page = html::page(&runs).map_err(Failed::Operation)?;
    json::write_whole(&options.output, &page).map_err(Failed::Operation)
}

/// `loadgen compare`.
///
/// # Errors
/// A run that cannot be read.
pub fn compare(options: &CompareOptions) -> Result<(), Failed> {
    let load = |file: &PathBuf| Ok((file.display().to_string(), Run::load(file)?));
    let runs: Result<Vec<(String, Run)>> = options.runs.iter().map(load).collect();
    print(&compare::compare(&runs.map_err(Failed::Operation)?));
    Ok(())
}

/// Prints to standard output; that nobody reads it is no failure.
pub fn print(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}
