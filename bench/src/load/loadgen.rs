//! The project's own load generator as a subprocess; it is told what to do on its command line and answers in JSON.

use super::job::{Job, Limit, Target};
use crate::results::{Latency, Outcome};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::{fs, process::Command};

/// The parts of the report that are used here; `docs/json.md` documents all of it.
#[derive(Debug, Deserialize)]
struct Report {
    elapsed_seconds: f64,
    classes: Classes,
    schedule: Schedule,
    client: Client,
}

#[derive(Debug, Deserialize)]
struct Classes {
    total: Class,
    hit: Class,
    miss: Class,
}

#[derive(Debug, Deserialize)]
struct Class {
    requests: u64,
    bytes: u64,
    errors: std::collections::BTreeMap<String, u64>,
    latency_ns: Percentiles,
}

#[derive(Debug, Deserialize)]
struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Debug, Deserialize)]
struct Schedule {
    dropped: u64,
}

#[derive(Debug, Deserialize)]
struct Client {
    cpu_seconds: f64,
}

pub fn run(job: &Job, port: u16) -> Result<Outcome> {
    let json = job.state.join("loadgen.json");
    let mut command = Command::new(job.loadgen);
    command.arg("run").arg(job.url(port)).arg("--quiet").arg("--json").arg(&json);
    command.args(["--threads", "1", "--connections", &job.connections.to_string()]);
    command.args(["--pipeline", &job.pipeline.to_string()]);
    // What failed is counted here, for every load alike.
    command.args(["--fail-on", "errors>100%", "--fail-on", "dropped>100%"]);
    match job.limit {
        Limit::Seconds(seconds) => command.args(["--duration", &format!("{seconds:.3}s")]),
        Limit::Requests(requests) => command.args(["--requests", &requests.to_string()]),
        Limit::Trace => &mut command,
    };
    if let Some(codings) = job.accept_encoding {
        command.args(["--header", &format!("Accept-Encoding: {codings}")]);
    }
    if let Some(rate) = job.rate {
        // The client copies no bodies: else its own core, nearly full at 64 KiB, is the queue that is measured.
        command.args(["--rate", &format!("{rate:.1}"), "--arrivals", "poisson", "--discard-bodies"]);
    }
    match &job.target {
        Target::File(_) => {}
        Target::List { list, popularity, .. } => {
            command.arg("--paths").arg(list).args(["--popularity", popularity]);
        }
        Target::Trace(file) => {
            command.arg("--trace").arg(file);
        }
    }
    if job.verify && !matches!(job.target, Target::File(_)) {
        command.arg("--verify");
    }
    job.execute(&mut command)?;
    let text = fs::read_to_string(&json).with_context(|| format!("cannot read {}", json.display()))?;
    parse(&text, job.rate.is_some()).with_context(|| format!("{} is not a report of loadgen", json.display()))
}

fn parse(text: &str, open_loop: bool) -> Result<Outcome> {
    let report: Report = serde_json::from_str(text)?;
    let total = &report.classes.total;
    let us = |ns: u64| ns as f64 / 1e3;
    let latency = &total.latency_ns;
    // Servers that say nothing have neither hits nor misses.
    let classified = report.classes.hit.requests + report.classes.miss.requests > 0;
    Ok(Outcome {
        requests: total.requests,
        failures: total.errors.values().sum(),
        wrong_bytes: ["wrong_bytes", "short_body"].into_iter().filter_map(|kind| total.errors.get(kind)).sum(),
        bytes: total.bytes,
        seconds: report.elapsed_seconds,
        latency_us: Some(Latency {
            p50: us(latency.p50),
            p90: us(latency.p90),
            p99: us(latency.p99),
            p999: Some(us(latency.p999)),
            max: Some(us(latency.max)),
        }),
        hits: classified.then_some(report.classes.hit.requests),
        misses: classified.then_some(report.classes.miss.requests),
        unsent: open_loop.then_some(report.schedule.dropped),
        client_cpu_seconds: Some(report.client.cpu_seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let class = |requests: u64| {
            format!(
                r#"{{"requests":{requests},"bytes":4096,"errors":{{"reset":1,"status":1,"wrong_bytes":1}},
                    "latency_ns":{{"count":9,"min":1,"p50":1000,"p90":2000,
                    "p99":3500,"p999":4000,"p9999":1,"max":5000,"mean":1.5}}}}"#
            )
        };
        let text = |hits: u64, misses: u64| {
            format!(
                r#"{{"schema_version":1,"elapsed_seconds":2.5,
                    "classes":{{"total":{},"hit":{},"miss":{},"unclassified":{}}},
                    "schedule":{{"intended":12,"sent":10,"late":1,"dropped":2}},"client":{{"cpu_seconds":0.5}}}}"#,
                class(10),
                class(hits),
                class(misses),
                class(0)
            )
        };
        let outcome = parse(&text(7, 3), true).expect("read");
        assert_eq!((outcome.requests, outcome.failures, outcome.wrong_bytes, outcome.bytes), (10, 3, 1, 4096));
        assert_eq!((outcome.hits, outcome.misses, outcome.unsent), (Some(7), Some(3), Some(2)));
        assert_eq!(
            outcome.latency_us.map(|latency| (latency.p50, latency.p99, latency.max)),
            Some((1.0, 3.5, Some(5.0)))
        );
        let outcome = parse(&text(0, 0), false).expect("read");
        assert_eq!((outcome.hits, outcome.unsent, outcome.client_cpu_seconds), (None, None, Some(0.5)));
        assert!(parse("{}", false).is_err());
    }
}
