//! `bench run`: finds the servers, makes the files, runs the cases, and writes what came of it after each of them.

use crate::{
    data::Data,
    load,
    measure::{cores, folios::Folios},
    origin,
    peers::{
        Peer, Role,
        launch::{self, Site},
    },
    plan::{Case, Procedure, Scale, cases},
    procedures,
    processes::Directory,
    programs,
    report::{self, console},
    results::{CaseResult, Environment, Missing, PeerInfo, Results},
    session::Session,
};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Descriptors for 10,000 connections and as many files, with room to spare. Only root can have more than the hard
/// limit.
const DESCRIPTORS: u64 = 262_144;

/// The options of `bench run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunOptions {
    /// Only these servers, by name: forebay, nginx, lighttpd … (see bench/README.md); forebay always runs
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub peers: Vec<String>,
    /// Only the cases whose names begin with one of these: hits, hits-4k, miss-cold …
    #[arg(long, value_delimiter = ',', value_name = "PREFIX")]
    pub cases: Vec<String>,
    /// About a minute: everything once, few files, short runs. Fails when a result is missing or a byte is wrong
    #[arg(long)]
    pub quick: bool,
    /// Runs of each server in each case
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// Length of a run
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Where results.json, the table and the plots go [default: bench-results in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Where the files are that are served, on a disk; kept for the next run [default: bench-data in cargo's target
    /// directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The trace that origins-trace replays, in any format that `loadgen run --trace` reads
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// A built forebay, instead of building this workspace's
    #[arg(long, value_name = "FILE")]
    pub forebay: Option<PathBuf>,
    /// A built loadgen, instead of building this workspace's
    #[arg(long, value_name = "FILE")]
    pub loadgen: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(value) if (0.05..=3600.0).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a number of seconds from 0.05 to 3600")),
    }
}

/// Runs everything; whether all went well, and for a quick run also whether everything is there.
///
/// # Errors
/// What prevents a run altogether.
pub fn run(options: &RunOptions) -> Result<bool> {
    let mut scale = if options.quick { Scale::quick() } else { Scale::full() };
    scale.rounds = options.rounds.unwrap_or(scale.rounds);
    scale.seconds = options.seconds.unwrap_or(scale.seconds);
    let wanted = wanted_peers(&options.peers)?;
    let mut cases = cases(&scale);
    if !options.cases.is_empty() {
        cases.retain(|case| options.cases.iter().any(|prefix| case.name.starts_with(prefix.as_str())));
        ensure!(!cases.is_empty(), "no case begins with {}", options.cases.join(" or "));
    }
    raise_descriptors(&scale)?;
    let own = programs::own(options.forebay.as_deref(), options.loadgen.as_deref())?;
    let target = programs::target_directory()?;
    let output = options.output.clone().unwrap_or_else(|| target.join("bench-results"));
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let data = options.data.clone().unwrap_or_else(|| target.join("bench-data"));
    let data = data.join(if options.quick { "quick" } else { "full" });
    fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    let data = fs::canonicalize(&data).with_context(|| format!("cannot find {}", data.display()))?;

    let folios = Folios::find();
    let mut results = Results::new(command_line());
    (results.quick, results.rounds, results.seconds) = (options.quick, scale.rounds, scale.seconds);
    results.environment = environment(&folios);
    let state = Directory::make(data.join(format!("state-{}", std::process::id())))?;
    let data = Data::make(&data, &scale.amounts, &own)?;
    let memory = origin::memory_directory(state.path())?;
    let site = Site { root: data.root.clone(), state: state.path().to_owned(), memory: memory.path().to_owned(), own };
    let trace = options.trace.as_ref().map(fs::canonicalize).transpose().context("--trace")?;
    let mut session = Session { site, data, scale, folios, trace, peers: Vec::new() };
    find_peers(&wanted, &mut session, &mut results);

    for case in &cases {
        let placement = cores::place(&cores::available(), case.workers, cores::siblings);
        let mut result = CaseResult {
            name: case.name.clone(),
            title: case.title.clone(),
            metric: case.metric,
            workers: case.workers,
            placement,
            rate: None,
            samples: Vec::new(),
            verified: Vec::new(),
            failures: Vec::new(),
            skipped: None,
            commands: Vec::new(),
        };
        procedures::run(case, &session, &mut result).with_context(|| format!("case {}", case.name))?;
        eprintln!("{}", console::case(&result));
        results.cases.push(result);
        // The data first, and of every finished case: an interruption must not cost it.
        report::save(&results, &output.join("results.json"))?;
    }
    let written = report::write_pages(&results, &output)?;
    println!("{}", console::verdicts(&results));
    println!("{}", output.join("results.json").display());
    written.iter().for_each(|file| println!("{}", file.display()));
    Ok(judge(&session, &cases, &results))
}

/// Who runs whatever was chosen; the bare loop only where there is one.
const ALWAYS: [Peer; 3] = [Peer::Forebay, Peer::ForebayDirectory, Peer::Floor];

/// Forebay first, then the others in their order.
fn wanted_peers(names: &[String]) -> Result<Vec<Peer>> {
    let known = || Peer::ALL.map(Peer::name).join(", ");
    if let Some(name) = names.iter().find(|name| Peer::from_name(name).is_none()) {
        bail!("{name} is no server that is known here; there are {}", known());
    }
    let chosen =
        |peer: &Peer| names.is_empty() || ALWAYS.contains(peer) || names.iter().any(|name| name == peer.name());
    Ok(Peer::ALL.into_iter().filter(chosen).collect())
}

fn find_peers(wanted: &[Peer], session: &mut Session, results: &mut Results) {
    for &peer in wanted {
        // Where the kernel's setting cannot be changed, there is one Forebay: with what was found.
        let impossible = peer == Peer::ForebaySmallPages && !session.folios.found().settable;
        let missing = peer.missing();
        if !missing.is_empty() {
            eprintln!(
                "bench: {} is not installed, going on without (Debian: apt-get install {})",
                peer.name(),
                missing.join(" ")
            );
            let packages = missing.into_iter().map(str::to_owned).collect();
            results.missing.push(Missing { name: peer.name().into(), packages });
        } else if !impossible && peer.program(&session.site.own).is_some() {
            session.peers.push(peer);
            results.peers.push(PeerInfo {
                name: peer.name().into(),
                version: peer.version(&session.site.own),
                configuration: launch::template(peer).map(str::to_owned),
            });
        }
    }
    if let Some(package) = load::wrk_missing() {
        eprintln!("bench: wrk is not installed, going on without (Debian: apt-get install {package})");
        results.missing.push(Missing { name: "wrk".into(), packages: vec![package.into()] });
    }
}

/// Whether everything that was to be measured of Forebay is there, with the right bytes. What is wrong with the servers
/// that it is compared with is said, and changes nothing: it is theirs, and the ratios leave out what it spoils.
fn judge(session: &Session, cases: &[Case], results: &Results) -> bool {
    let mut good = true;
    for case in cases {
        let Some(result) = results.case(&case.name) else {
            eprintln!("bench: {}: no result", case.name);
            good = false;
            continue;
        };
        for peer in session.taking_part(case) {
            for complaint in complaints(case, result, peer) {
                let weight = if peer.role() == Role::Own { "" } else { " (not counted: not Forebay's)" };
                eprintln!("bench: {}: {}: {complaint}{weight}", case.name, peer.name());
                good &= peer.role() != Role::Own;
            }
        }
    }
    if !session.peers.iter().any(|peer| peer.role() == Role::FileServer) {
        eprintln!("bench: no file server to compare with was found");
    }
    good
}

/// What is wrong with a server's part of a case.
fn complaints(case: &Case, result: &CaseResult, peer: Peer) -> Vec<String> {
    let failures = result.failures.iter().filter(|failure| failure.peer == peer.name());
    let mut complaints: Vec<String> = failures.map(|failure| failure.error.clone()).collect();
    if result.skipped.is_some() || !complaints.is_empty() {
        return complaints;
    }
    if result.median(peer.name(), case.metric).is_none() && !result.is_too_short(peer.name()) {
        complaints.push("no figure".into());
    }
    // The bare loop has bodies of its own; a start has no more than a first byte.
    let verified = result.verified.iter().any(|name| name == peer.name());
    if !verified && peer != Peer::Floor && case.procedure != Procedure::Startup {
        complaints.push("its bytes were not compared".into());
    }
    complaints
}

/// This many descriptors for the servers and this process, or as many as are allowed.
fn raise_descriptors(scale: &Scale) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    if limit.current.is_some_and(|current| current < DESCRIPTORS) && setrlimit(Resource::Nofile, most).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
            .context("cannot raise the limit of open files")?;
    }
    let needed = u64::from(scale.idle_connections) + 1000;
    if getrlimit(Resource::Nofile).current.is_some_and(|current| current < needed) {
        bail!("{needed} open files are needed (ulimit -n); the limit of this user is lower");
    }
    Ok(())
}

fn command_line() -> String {
    std::env::args().skip(1).collect::<Vec<_>>().join(" ")
}

fn environment(folios: &Folios) -> Environment {
    let line = |file: &str| fs::read_to_string(file).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let value = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, value)| value.trim().to_owned()));
        value.unwrap_or_default()
    };
    let memory = value("/proc/meminfo", "MemTotal");
    Environment {
        kernel: line("/proc/sys/kernel/osrelease"),
        processor: value("/proc/cpuinfo", "model name"),
        cores: cores::available().len(),
        memory_bytes: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10,
        load_average: line("/proc/loadavg"),
        commit: commit(&programs::workspace()).unwrap_or_else(|| "unknown".into()),
        large_folios: folios.found().clone(),
    }
}

/// The commit that was built, with a plus sign where files were changed since.
fn commit(workspace: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(workspace).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    Some(commit + if changed { "+" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::example;

    #[test]
    fn forebay_always_runs_and_unknown_names_are_refused() {
        let names = |names: &[&str]| wanted_peers(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            names(&["nginx"]).expect("known"),
            [Peer::Forebay, Peer::ForebayDirectory, Peer::Nginx, Peer::Floor]
        );
        assert_eq!(names(&[]).expect("all").len(), Peer::ALL.len());
        let error = names(&["apache"]).expect_err("unknown").to_string();
        assert!(error.contains("apache") && error.contains("lighttpd"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_apart_from_what_is_too_short() {
        let all = cases(&Scale::full());
        let case = all.iter().find(|case| case.name == "hits-4k").expect("it exists");
        let result = |values: &[f64]| example::case("hits-4k", case.metric, &[("forebay", values)]);
        assert_eq!(complaints(case, &result(&[4.0]), Peer::Forebay), [""; 0]);
        assert_eq!(complaints(case, &result(&[0.0]), Peer::Forebay), [""; 0], "a quick run may be too short");
        assert_eq!(complaints(case, &result(&[]), Peer::Forebay), ["no figure"]);
        assert_eq!(complaints(case, &result(&[4.0]), Peer::Nginx), ["no figure", "its bytes were not compared"]);
        let mut failing = result(&[4.0]);
        failing.fail("varnish", &anyhow::anyhow!("3 of 100 requests failed"));
        assert_eq!(complaints(case, &failing, Peer::Varnish), ["3 of 100 requests failed"]);
        assert_eq!(complaints(case, &failing, Peer::Forebay), [""; 0]);
    }

    #[test]
    fn lengths_of_runs_are_sane() {
        assert_eq!(seconds("2"), Ok(2.0));
        assert_eq!(seconds("0.5s"), Ok(0.5));
        assert!(["0", "-1", "soon", "1e9", "NaN"].iter().all(|text| seconds(text).is_err()));
    }
}
