//! The percentile format of HdrHistogram (`.hgrm`), as its plotters read it. Values in milliseconds.

use super::json::Run;
use crate::stats::Latencies;
use anyhow::{Context, Result};
use std::{fmt::Write, fs, path::Path};

/// Lines per halving of the distance to 100 %, as the reference implementation writes by default.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

const NS_PER_MS: f64 = 1e6;

/// Writes `CLASS-latency.hgrm`, `CLASS-service.hgrm` and `CLASS-first-byte.hgrm` for every class that has values.
///
/// # Errors
/// Names the file.
pub fn write(directory: &Path, run: &Run) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create the directory {}", directory.display()))?;
    for (class, report) in run.classes.named() {
        let kinds =
            [("latency", &report.latency_ns), ("service", &report.service_ns), ("first-byte", &report.first_byte_ns)];
        for (kind, percentiles) in kinds.into_iter().filter(|(_, percentiles)| percentiles.count > 0) {
            let text = percentile_text(&Latencies::decode(&percentiles.histogram)?);
            super::json::write_whole(&directory.join(format!("{class}-{kind}.hgrm")), &text)?;
        }
    }
    Ok(())
}

/// The text that the reference implementation's `outputPercentileDistribution` writes.
pub fn percentile_text(latencies: &Latencies) -> String {
    let histogram = latencies.histogram();
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut seen = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        seen += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / NS_PER_MS, step.quantile_iterated_to());
        let _ = if quantile < 1.0 {
            writeln!(text, "{value:12.6} {quantile:14.12} {seen:10} {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, "{value:12.6} {quantile:14.12} {seen:10}")
        };
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_MS, histogram.stdev() / NS_PER_MS);
    let _ = writeln!(text, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]");
    let _ = writeln!(
        text,
        "#[Max     = {:12.6}, Total count    = {:12}]",
        latencies.max() as f64 / NS_PER_MS,
        latencies.count()
    );
    let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 ms to 100 ms in steps of 1 ms, and 2.5 s, as the Python implementation of HdrHistogram encodes them …
    const REFERENCE: &str = "HISTFAAAAGJ4nJNpmSzMwMBwlwECmKE0I5DpZrBjAYP9B4jAwXWMTH/5mVZzMJ1nZzrMwvSUGYSeMzOdZ2L6yIi\
         CPoPJ\
         q4xM5VhhJZwVzWTNZEkCxiYqzyTNJAvE0gRpXLKPvZgAh6Ypww==";

    /// … and rows of the percentile text that it writes of them: value in ms, percentile, count.
    const REFERENCE_ROWS: [(f64, f64, u64); 9] = [
        (1.000, 0.0, 1),
        (11.002, 0.1, 11),
        (42.009, 0.409_510, 42),
        (53.019, 0.521_703_1, 53),
        (90.046, 0.890_581_010_868, 90),
        (97.059, 0.957_608_841_725, 97),
        (100.008, 0.981_751_996_369, 100),
        (2501.902, 0.990_302_262_702, 101),
        (2501.902, 1.0, 101),
    ];

    #[test]
    fn another_implementations_histogram_reads_and_writes_alike() {
        let reference = Latencies::decode(REFERENCE).unwrap();
        let mut own = Latencies::default();
        (1..=100).for_each(|ms| own.record(ms * 1_000_000));
        own.record(2_500_000_000);
        assert!(reference.histogram() == own.histogram());
        for (value_ms, quantile, count) in REFERENCE_ROWS {
            let value = own.histogram().value_at_quantile(quantile);
            assert!((value as f64 / NS_PER_MS - value_ms).abs() < 0.001, "{value} at {quantile}");
            assert_eq!(own.histogram().count_between(0, value), count, "at {quantile}");
        }
    }

    #[test]
    fn the_text_is_that_of_the_reference_implementation() {
        let mut latencies = Latencies::default();
        latencies.record(1_000_000);
        latencies.record(3_000_000);
        let text = percentile_text(&latencies);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "    1.000447 0.000000000000          1           1.00");
        assert!(lines.contains(&"    3.000319 1.000000000000          2"), "{text}");
        assert!(text.contains("#[Mean    =     1.999744, StdDeviation   =     0.999552]"), "{text}");
        assert!(text.contains("Total count    =            2]"), "{text}");
    }
}
