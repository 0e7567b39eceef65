//! `bench soak`: everything at once, for minutes or days, by clients that verify what they get. What a server holds is
//! sampled, and has to stay where it is.

mod clients;
mod report;
mod sample;
mod servers;
mod trend;

use crate::{origin, processes::Directory, programs};
use anyhow::{Context, Result};
use clients::Crowd;
use report::Soak;
use sample::Sample;
use servers::Servers;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// At least so many samples are taken in a run, unless they would be closer together than this.
const SAMPLES: u32 = 240;
const INTERVAL: std::ops::RangeInclusive<f64> = 0.2..=15.0;

/// How long servers may take to be rid of everything after the last client has gone.
const CALM: Duration = Duration::from_secs(30);

/// The options of `bench soak`.
#[derive(Debug, Clone, clap::Args)]
pub struct SoakOptions {
    /// How long, in minutes (at most a week); fractions count
    #[arg(long, default_value_t = 10.0, value_parser = minutes)]
    pub minutes: f64,
    /// Where soak.json and soak.md go [default: bench-soak in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// A built forebay, instead of building this workspace's
    #[arg(long, value_name = "FILE")]
    pub forebay: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.05..=7.0 * 24.0 * 60.0).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a number of minutes from 0.05 to 10080")),
    }
}

/// Runs it; whether nothing failed and nothing grew.
///
/// # Errors
/// Servers that cannot be started, results that cannot be written.
pub fn soak(options: &SoakOptions) -> Result<bool> {
    // The load generator is not needed: any program will do in its place.
    let own = programs::own(options.forebay.as_deref(), options.forebay.as_deref())?;
    let output = match &options.output {
        Some(directory) => directory.clone(),
        None => programs::target_directory()?.join("bench-soak"),
    };
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let state = Directory::make(output.join(format!("state-{}", std::process::id())))?;
    let soak = run(&own.forebay, state.path(), Duration::from_secs_f64(options.minutes * 60.0), |soak| {
        soak.save(&output.join("soak.json"))
    })?;
    let page = output.join("soak.md");
    fs::write(&page, soak.page()).with_context(|| format!("cannot write {}", page.display()))?;
    println!("{}", soak.page());
    println!("{}\n{}", output.join("soak.json").display(), page.display());
    Ok(soak.is_good())
}

/// The run itself; `save` is called after each sample and in the end.
fn run(forebay: &Path, state: &Path, length: Duration, save: impl Fn(&Soak) -> Result<()>) -> Result<Soak> {
    let mut servers = Servers::start(forebay, state, origin::counting::program()?)?;
    let interval = (length.as_secs_f64() / f64::from(SAMPLES)).clamp(*INTERVAL.start(), *INTERVAL.end());
    let mut soak = Soak::new(length, interval);
    let started = Instant::now();
    let crowd = Crowd::start(&servers)?;
    while started.elapsed() < length {
        std::thread::sleep(Duration::from_secs_f64(interval).min(length.saturating_sub(started.elapsed())));
        for server in servers.both() {
            soak.samples
                .push(Sample::take(server, started.elapsed()).with_context(|| format!("{} is gone", server.name))?);
        }
        soak.kinds = crowd.tallies();
        save(&soak)?;
    }
    soak.kinds = crowd.end();
    soak.left_over = servers.both().iter().flat_map(|server| sample::left_over(server, CALM)).collect();
    servers.check()?;
    soak.judge();
    save(&soak)?;
    Ok(soak)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few seconds of everything. Needs the program beside the tests, as `cargo test --workspace` builds it.
    #[test]
    fn everything_at_once_for_a_few_seconds() {
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("forebay")));
        let programs = beside.filter(|file| file.is_file()).zip(beside_bench());
        let Some((forebay, bench)) = programs else {
            eprintln!("SKIPPED: no forebay is built beside the tests (cargo build --workspace)");
            return;
        };
        let state = tempfile::tempdir().expect("a directory");
        let saved = state.path().join("soak.json");
        let mut servers = Servers::start(&forebay, state.path(), bench).expect("servers");
        let crowd = Crowd::start(&servers).expect("clients");
        let started = Instant::now();
        // As long as it takes until every kind of client has done something, and not longer.
        while crowd.tallies().iter().any(|kind| kind.requests == 0) && started.elapsed() < CALM {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut soak = Soak::new(started.elapsed(), 0.2);
        let sample = |server| Sample::take(server, started.elapsed()).expect("a sample");
        soak.samples.extend(servers.both().map(sample));
        soak.kinds = crowd.end();
        soak.left_over = servers.both().iter().flat_map(|server| sample::left_over(server, CALM)).collect();
        servers.check().expect("both run");
        soak.judge();
        soak.save(&saved).expect("saved");
        for kind in &soak.kinds {
            assert!(kind.requests > 0 && kind.errors == 0, "{kind:?}");
        }
        assert_eq!(soak.left_over, [""; 0]);
        assert!(soak.samples.iter().all(|sample| sample.memory_bytes > 0 && sample.descriptors > 3));
        assert!(fs::read_to_string(saved).expect("read").contains("\"kinds\""));
    }

    fn beside_bench() -> Option<PathBuf> {
        let file = std::env::current_exe().ok()?.parent()?.parent()?.join("bench");
        file.is_file().then_some(file)
    }

    #[test]
    fn lengths_are_sane() {
        assert_eq!((minutes("0.1"), minutes("60")), (Ok(0.1), Ok(60.0)));
        assert!(["0", "-1", "week", "1e9", "NaN"].iter().all(|text| minutes(text).is_err()));
    }
}
