//! wrk, the independent check; it answers in words.

use super::job::{Job, Limit, Target};
use crate::{
    programs,
    results::{Latency, Outcome},
};
use anyhow::{Context, Result, bail};
use std::process::Command;

pub fn run(job: &Job, port: u16) -> Result<Outcome> {
    let (Target::File(file), Limit::Seconds(seconds)) = (&job.target, job.limit) else {
        bail!("wrk asks for one file for some seconds");
    };
    let mut command = Command::new(programs::find("wrk").context("wrk is not installed (Debian package wrk)")?);
    // It counts whole seconds.
    let duration = format!("{}s", seconds.ceil().max(1.0));
    command.args(["--threads", "1", "--connections", &job.connections.to_string()]);
    command.args(["--duration", &duration, "--latency"]).arg(job.url(port));
    let text = job.execute(&mut command)?;
    parse(&text, file.size).with_context(|| format!("wrk said what is not understood here: {text}"))
}

/// Reads the lines `50% 12.3us`, `1234 requests in 2.00s, 9.99MB read`, `Socket errors: connect 0, read 0, …` and
/// `Non-2xx or 3xx responses: 7`.
fn parse(text: &str, size: u64) -> Option<Outcome> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    let mut words = line.split_whitespace();
    let requests: u64 = words.next()?.parse().ok()?;
    let seconds = parse_us(words.nth(2)?.trim_end_matches(','))? / 1e6;
    let percentile = |percent: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(percent))?;
        parse_us(line.trim())
    };
    let after = |mark: &str| text.lines().find_map(|line| line.trim().strip_prefix(mark));
    let socket_errors: u64 =
        after("Socket errors:").unwrap_or_default().split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum();
    let refused: u64 = after("Non-2xx or 3xx responses:").and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    Some(Outcome {
        requests: requests.saturating_sub(refused),
        failures: socket_errors + refused,
        bytes: requests.saturating_sub(refused) * size,
        seconds,
        latency_us: Some(Latency {
            p50: percentile("50%")?,
            p90: percentile("90%")?,
            p99: percentile("99%")?,
            p999: None,
            max: None,
        }),
        ..Outcome::default()
    })
}

/// Reads `12.3us`, `4.5ms`, `2.00s`, `1.50m` in microseconds.
fn parse_us(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let factor = match &text[at..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3600e6,
        _ => return None,
    };
    Some(text[..at].parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 2s test @ http://127.0.0.1:8080/4k
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   250.10us  100.00us   5.00ms   90.00%
    Req/Sec   120.00k     2.00k  125.00k    70.00%
  Latency Distribution
     50%  249.00us
     75%  270.00us
     90%  300.00us
     99%    1.25ms
  240000 requests in 2.01s, 0.95GB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 40
Requests/sec: 119402.98
Transfer/sec:    484.00MB
";

    #[test]
    fn words_become_numbers() {
        let outcome = parse(SAID, 4096).expect("read");
        assert_eq!((outcome.requests, outcome.failures, outcome.bytes), (239_960, 44, 239_960 * 4096));
        assert_eq!(outcome.seconds, 2.01);
        let latency = outcome.latency_us.expect("latencies");
        assert_eq!((latency.p50, latency.p90, latency.p99), (249.0, 300.0, 1250.0));
        assert_eq!(parse("unable to connect to 127.0.0.1:1 Connection refused", 1), None);
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_us("1.5ms"), Some(1500.0));
        assert_eq!(parse_us("1.50m"), Some(90e6));
        assert_eq!(parse_us("7"), None);
        assert_eq!(parse_us("7 parsecs"), None);
    }
}
