//! A run's data for other programs: CSV of the samples, Prometheus text, JUnit results of the thresholds.

use super::json::{ClassReport, Run};
use crate::stats::{Class, Failure, sample::Brief};
use forebay::chart::escape;
use std::fmt::{self, Write};

/// A line for each interval and class (`total` included), with a heading.
pub fn csv(run: &Run) -> String {
    let mut text = "start_seconds,seconds,class,requests,bytes,errors,mean_ns,p50_ns,p99_ns,max_ns\n".to_owned();
    for sample in &run.samples {
        let classes = Class::ALL.map(|class| (class.as_str(), sample.class(class)));
        for (name, brief) in [("total", &sample.total)].into_iter().chain(classes) {
            let Brief { requests, bytes, errors, mean_ns, p50_ns, p99_ns, max_ns } = brief;
            let (start, seconds) = (sample.start_seconds, sample.seconds);
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{start},{seconds},{name},{requests},{bytes},{errors},{mean_ns:.0},{p50_ns},{p99_ns},{max_ns}"
            );
        }
    }
    text
}

/// The text format of Prometheus, for a node exporter's textfile collector or a push gateway. Times in seconds.
pub fn prometheus(run: &Run) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_prometheus(&mut text, run);
    text
}

fn write_prometheus(text: &mut String, run: &Run) -> fmt::Result {
    let classes: Vec<(&str, &ClassReport)> = run.classes.named().into_iter().skip(1).collect();
    family(text, "loadgen_requests", "Successful responses.")?;
    for (class, report) in &classes {
        writeln!(text, "loadgen_requests{{class=\"{class}\"}} {}", report.requests)?;
    }
    family(text, "loadgen_response_body_bytes", "Body bytes of successful responses.")?;
    for (class, report) in &classes {
        writeln!(text, "loadgen_response_body_bytes{{class=\"{class}\"}} {}", report.bytes)?;
    }
    family(text, "loadgen_errors", "Failed requests, by kind.")?;
    for kind in Failure::ALL {
        writeln!(text, "loadgen_errors{{kind=\"{}\"}} {}", kind.as_str(), run.classes.total.errors.of(kind))?;
    }
    family(text, "loadgen_latency_seconds", "From the intended start of a request to its last byte.")?;
    for (class, report) in classes.iter().filter(|(_, report)| report.latency_ns.count > 0) {
        let latency = &report.latency_ns;
        let quantiles = [
            ("0.5", latency.p50),
            ("0.9", latency.p90),
            ("0.99", latency.p99),
            ("0.999", latency.p999),
            ("0.9999", latency.p9999),
            ("1", latency.max),
        ];
        for (quantile, ns) in quantiles {
            let seconds = ns as f64 / 1e9;
            writeln!(text, "loadgen_latency_seconds{{class=\"{class}\",quantile=\"{quantile}\"}} {seconds}")?;
        }
    }
    let schedule = &run.schedule;
    for (name, help, value) in [
        ("loadgen_requests_per_second", "Successful responses per second.", run.requests_per_second),
        ("loadgen_elapsed_seconds", "Length of the measurement.", run.elapsed_seconds),
        ("loadgen_slots_late", "Slots of an open loop sent after waiting for a connection.", schedule.late as f64),
        ("loadgen_slots_dropped", "Slots of an open loop that were never sent.", schedule.dropped as f64),
        ("loadgen_started_timestamp_seconds", "When the run started, since the epoch.", run.started_unix_seconds),
    ] {
        family(text, name, help)?;
        writeln!(text, "{name} {value}")?;
    }
    Ok(())
}

fn family(text: &mut String, name: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")
}

/// A JUnit test suite with a test for each threshold, as build servers read it.
pub fn junit(run: &Run) -> String {
    let tests = &run.thresholds;
    let failures = tests.iter().filter(|verdict| verdict.broken).count();
    let name = escape(&run.setting("url"));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"loadgen {name}\" tests=\"{}\" \
         failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\">\n",
        tests.len(),
        run.elapsed_seconds
    );
    for verdict in tests {
        let (condition, said) = (escape(&verdict.condition), escape(&verdict.to_string()));
        // Writing to a string does not fail.
        let _ = match verdict.broken {
            false => writeln!(text, "  <testcase classname=\"loadgen\" name=\"not {condition}\"/>"),
            true => writeln!(
                text,
                "  <testcase classname=\"loadgen\" name=\"not {condition}\"><failure message=\"{said}\"/></testcase>"
            ),
        };
    }
    text.push_str("</testsuite>\n");
    text
}
