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
