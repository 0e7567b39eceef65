//! `loadgen find`: the highest rate of an open loop at which no threshold is broken, by bisection.
//!
//! A closed loop tells what the server answers at most with these connections; no open loop can be served faster.
//! Between nothing and that, the middle is tried until what passed and what failed are near enough. One run decides
//! nothing where a neighbour on the machine can spoil it, so each rate is run several times and the majority counts.

use crate::{
    cli::{FindOptions, RunOptions},
    commands::{self, Failed},
    exec::{self, Ended, Pace, Plan, Stage},
    report::{
        json::{self, Run, Verdict},
        thresholds::{self, Threshold},
    },
};
use anyhow::anyhow;
use forebay::units::{show_count, show_ns};
use serde::Serialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A run of each rate, unless --duration or --requests says otherwise.
const PROBE: Duration = Duration::from_secs(5);

/// Rates that are tried. Each halves what is left: from a billion to the least in 33, and to a thousandth of it in ten
/// more.
const PROBES_MAX: usize = 48;

/// Below this, there is no rate to be found.
const LEAST: f64 = 0.1;

/// What was found. Its keys are a contract, as those of a run.
#[derive(Debug, Serialize)]
struct Found {
    schema_version: u32,
    settings: std::collections::BTreeMap<String, serde_json::Value>,
    /// Requests a second that a closed loop reached.
    closed_loop_rate: Option<f64>,
    /// The highest rate that passed; null if none did.
    rate: Option<f64>,
    /// The lowest rate that failed; null if none did.
    failing_rate: Option<f64>,
    probes: Vec<Probe>,
}

/// One rate that was tried.
#[derive(Debug, Serialize)]
struct Probe {
    rate: f64,
    passed: bool,
    runs: Vec<ProbeRun>,
}

/// One run of a rate.
#[derive(Debug, Serialize)]
struct ProbeRun {
    requests: u64,
    errors: u64,
    dropped: u64,
    p50_ns: u64,
    p99_ns: u64,
    thresholds: Vec<Verdict>,
}

impl ProbeRun {
    fn passed(&self) -> bool {
        self.requests > 0 && !self.thresholds.iter().any(|verdict| verdict.broken)
    }
}

/// Where the rate that is looked for lies.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bracket {
    passed: f64,
    /// Nothing above this is tried.
    most: f64,
    /// Whether `most` was tried, and failed.
    most_failed: bool,
}

impl Bracket {
    /// The next rate to try; `None` when it is known well enough.
    fn next(&self, precision: f64) -> Option<f64> {
        let is_near = self.passed > 0.0 && self.most / self.passed <= 1.0 + precision;
        match () {
            // The highest first: where it passes there is nothing to look for.
            () if !self.most_failed && self.passed < self.most => Some(self.most),
            () if is_near || self.most < LEAST || self.passed >= self.most => None,
            () => Some((self.passed + self.most) / 2.0),
        }
    }

    fn learn(&mut self, rate: f64, passed: bool) {
        if passed {
            self.passed = self.passed.max(rate);
        } else {
            (self.most, self.most_failed) = (rate, true);
        }
    }
}

/// `loadgen find`: whether any rate passed.
///
/// # Errors
/// As those of `loadgen run`.
pub fn find(options: &FindOptions) -> Result<bool, Failed> {
    let run = &options.run;
    let refused = [
        (run.rate.is_some(), "--rate"),
        (!run.stages.is_empty(), "--stages"),
        (run.trace_speed.is_some(), "--trace-speed"),
        (
            run.csv.is_some() || run.prometheus.is_some() || run.junit.is_some() || run.hgrm.is_some(),
            "the outputs of a run",
        ),
    ];
    if let Some((_, option)) = refused.iter().find(|(given, _)| *given) {
        return Err(Failed::Usage(anyhow!("{option} cannot be given to `find`, which tries rates itself")));
    }
    let mut plan = commands::plan(run)?;
    if run.duration.is_none() && run.requests.is_none() {
        plan.duration = Some(PROBE);
    }
    let stop = Arc::new(AtomicBool::new(false));
    commands::on_signals(&stop).map_err(|error| Failed::Operation(error.into()))?;
    let finder = Finder { options, thresholds: thresholds::with_defaults(&run.fail_on), stop };
    let found = finder.find(&mut plan).map_err(Failed::Operation)?;
    if let Some(file) = &run.json {
        let text = serde_json::to_string_pretty(&found).map_err(|error| Failed::Operation(error.into()))?;
        json::write_whole(file, &(text + "\n")).map_err(Failed::Operation)?;
    }
    commands::print(&summary(&found, finder.stop.load(Ordering::Relaxed)));
    Ok(found.rate.is_some())
}

struct Finder<'a> {
    options: &'a FindOptions,
    thresholds: Vec<Threshold>,
    stop: Arc<AtomicBool>,
}

impl Finder<'_> {
    fn find(&self, plan: &mut Plan) -> anyhow::Result<Found> {
        let mut found = Found {
            schema_version: json::SCHEMA_VERSION,
            settings: commands::settings(&self.options.run, plan),
            closed_loop_rate: None,
            rate: None,
            failing_rate: None,
            probes: Vec::new(),
        };
        let most = match self.options.most {
            Some(most) => most,
            None => {
                let run = self.run(plan)?;
                anyhow::ensure!(
                    run.classes.total.requests > 0 || self.stopped(),
                    "no request of a closed loop succeeded: {}",
                    run.classes.total.failures_shown().join(", ")
                );
                self.tell(&format!("closed loop: {} requests/s", show_count(run.requests_per_second as u64)));
                found.closed_loop_rate = Some(run.requests_per_second);
                run.requests_per_second
            }
        };
        let mut bracket = Bracket { passed: 0.0, most, most_failed: false };
        while let Some(rate) = bracket.next(self.options.precision).filter(|_| found.probes.len() < PROBES_MAX) {
            let stages = [Stage { seconds: f64::INFINITY, per_second: rate }].into();
            plan.pace = Pace::Stages { stages, arrivals: self.options.run.arrivals };
            let Some(probe) = self.probe(plan, rate)? else { break };
            bracket.learn(rate, probe.passed);
            self.tell(&probe.shown());
            found.probes.push(probe);
        }
        found.rate = (bracket.passed > 0.0).then_some(bracket.passed);
        found.failing_rate = bracket.most_failed.then_some(bracket.most);
        Ok(found)
    }

    /// Runs one rate until its majority is known; `None` when it was interrupted.
    fn probe(&self, plan: &Plan, rate: f64) -> anyhow::Result<Option<Probe>> {
        let majority = self.options.repeat as usize / 2 + 1;
        let mut runs: Vec<ProbeRun> = Vec::new();
        loop {
            let run = self.run(plan)?;
            if self.stopped() {
                return Ok(None);
            }
            let total = &run.classes.total;
            runs.push(ProbeRun {
                requests: total.requests,
                errors: total.errors.sum(),
                dropped: run.schedule.dropped,
                p50_ns: total.latency_ns.p50,
                p99_ns: total.latency_ns.p99,
                thresholds: thresholds::judge(&run, &self.thresholds),
            });
            let passed = runs.iter().filter(|run| run.passed()).count();
            if passed >= majority || runs.len() - passed >= majority || runs.len() >= self.options.repeat as usize {
                return Ok(Some(Probe { rate, passed: passed >= majority, runs }));
            }
        }
    }

    fn run(&self, plan: &Plan) -> anyhow::Result<Run> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let outcome = exec::run(plan, self.stop.clone(), |_| ())?;
        anyhow::ensure!(outcome.ended != Ended::Unreachable, "no connection could be established");
        Ok(Run::of(&outcome, Default::default(), started))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tell(&self, text: &str) {
        let RunOptions { quiet, .. } = &self.options.run;
        if !quiet {
            eprintln!("loadgen: {text}");
        }
    }
}

impl Probe {
    fn shown(&self) -> String {
        let verdict = if self.passed { "passed" } else { "failed" };
        let p99: Vec<String> = self.runs.iter().map(|run| show_ns(run.p99_ns as f64)).collect();
        let broken = self.runs.iter().flat_map(|run| &run.thresholds).find(|verdict| verdict.broken);
        let broken = broken.map_or(String::new(), |verdict| format!(" ({verdict})"));
        format!("{} requests/s: {verdict}, p99 {}{broken}", show_count(self.rate as u64), p99.join(", "))
    }
}

fn summary(found: &Found, interrupted: bool) -> String {
    let rate = |rate: f64| if rate < 100.0 { format!("{rate:.1}") } else { show_count(rate as u64) };
    let end = if interrupted { " (interrupted: not known any better)" } else { "" };
    match (found.rate, found.failing_rate) {
        (Some(passed), Some(failed)) => {
            format!("{} requests/s pass, {} fail{end}\n", rate(passed), rate(failed))
        }
        (Some(passed), None) => format!("{} requests/s pass, and nothing above that was tried{end}\n", rate(passed)),
        (None, Some(failed)) => {
            format!("no rate passed; the lowest that was tried is {} requests/s{end}\n", rate(failed))
        }
        (None, None) => format!("no rate was tried{end}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates tried for a server that can serve `limit`.
    fn tried(most: f64, limit: f64, precision: f64) -> (Vec<f64>, Bracket) {
        let mut bracket = Bracket { passed: 0.0, most, most_failed: false };
        let mut tried = Vec::new();
        while let Some(rate) = bracket.next(precision) {
            tried.push(rate);
            bracket.learn(rate, rate <= limit);
            assert!(tried.len() <= PROBES_MAX, "{bracket:?}");
        }
        (tried, bracket)
    }

    #[test]
    fn bisection_closes_in_on_the_limit() {
        let (rates, bracket) = tried(1000.0, 600.0, 0.05);
        assert_eq!(rates[..3], [1000.0, 500.0, 750.0]);
        assert!(
            bracket.passed <= 600.0 && 600.0 < bracket.most && bracket.most / bracket.passed <= 1.05,
            "{bracket:?}"
        );
        assert_eq!(tried(1000.0, 5000.0, 0.05).0, [1000.0], "the highest passes: nothing else is tried");
        let (rates, bracket) = tried(1000.0, 0.0, 0.05);
        assert!(rates.len() < 20 && bracket.passed == 0.0, "{rates:?}");
        let (_, bracket) = tried(1e9, 1.0, 0.001);
        assert!(bracket.passed > 0.99, "{bracket:?}");
    }
}
