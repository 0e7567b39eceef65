//! The readable summary of a run.

use super::json::{ClassReport, Run};
use crate::{
    stats::{Latencies, Percentiles},
    units::{show_bytes, show_count, show_ns},
};
use std::fmt::Write;

/// Characters that the longest bar of the histogram takes.
const BAR_WIDTH: usize = 50;

/// The most lines of the histogram.
const HISTOGRAM_LINES_MAX: usize = 24;

/// The summary, ready to be printed.
pub fn summary(run: &Run) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, run);
    text
}

fn write(text: &mut String, run: &Run) -> std::fmt::Result {
    let classes = &run.classes;
    let total = &classes.total;
    writeln!(text, "{}", run.setting("url"))?;
    writeln!(
        text,
        "  {} requests in {:.2} s: {:.0} requests/s, {}/s{}",
        show_count(total.requests),
        run.elapsed_seconds,
        run.requests_per_second,
        show_bytes(run.bytes_per_second),
        match run.ended.as_str() {
            "interrupted" => " (interrupted)",
            "unreachable" => " (no connection could be established)",
            _ => "",
        }
    )?;
    if let Some(share) = run.miss_share() {
        writeln!(
            text,
            "  {} hits, {} misses ({:.2} % of the classified), {} unclassified",
            show_count(classes.hit.requests),
            show_count(classes.miss.requests),
            share * 100.0,
            show_count(classes.unclassified.requests)
        )?;
    } else if total.requests > 0 {
        writeln!(text, "  unclassified: the server sends no Cache-Status, so hits and misses cannot be told apart")?;
    }
    writeln!(
        text,
        "  client: {:.2} s of processor time, {:.2} µs per request; {} connections{}",
        run.client.cpu_seconds,
        run.client.cpu_us_per_request,
        show_count(run.client.connections),
        match run.client.retried {
            0 => String::new(),
            retried => format!(", {} requests sent again after the server closed one", show_count(retried)),
        }
    )?;
    schedule(text, run)?;
    errors(text, total)?;

    let open_loop = run.setting("mode") == "open";
    let rows = classes.named();
    // A class that is all there is would only repeat the total.
    let shown = |report: &&(&str, &ClassReport)| {
        report.1.requests > 0 && (report.0 == "total" || report.1.requests < total.requests)
    };
    if total.requests > 0 {
        let title = if open_loop { "latency (from the intended start)" } else { "latency" };
        table(text, title, rows.iter().filter(shown).map(|(name, report)| (*name, &report.latency_ns)))?;
        if open_loop {
            table(
                text,
                "service time (from the actual send)",
                rows.iter().filter(shown).map(|(name, report)| (*name, &report.service_ns)),
            )?;
        }
        table(text, "first byte", rows.iter().filter(shown).map(|(name, report)| (*name, &report.first_byte_ns)))?;
        histogram(text, run)?;
    }
    Ok(())
}

fn schedule(text: &mut String, run: &Run) -> std::fmt::Result {
    let schedule = &run.schedule;
    if run.setting("mode") != "open" {
        return Ok(());
    }
    let error = &schedule.error_ns;
    writeln!(
        text,
        "  schedule: {} intended, {} sent, {} late (waited for a free connection), {} dropped; error p50 {}, p99 {}, \
         max {}",
        show_count(schedule.intended),
        show_count(schedule.sent),
        show_count(schedule.late),
        show_count(schedule.dropped),
        show_ns(error.p50 as f64),
        show_ns(error.p99 as f64),
        show_ns(error.max as f64)
    )?;
    if schedule.dropped > 0 {
        writeln!(
            text,
            "  {} requests were never sent: the server did not keep up, and its real latency is higher than shown",
            show_count(schedule.dropped)
        )?;
    }
    Ok(())
}

fn errors(text: &mut String, total: &ClassReport) -> std::fmt::Result {
    if total.errors.sum() == 0 {
        return Ok(());
    }
    writeln!(text, "  errors: {} ({})", show_count(total.errors.sum()), total.failures_shown().join(", "))
}

fn table<'a>(
    text: &mut String,
    title: &str,
    rows: impl Iterator<Item = (&'static str, &'a Percentiles)>,
) -> std::fmt::Result {
    let mut heading = false;
    for (name, percentiles) in rows {
        if !heading {
            heading = true;
            writeln!(text, "\n{title}")?;
            write!(text, "  {:<12}", "")?;
            percentiles.named().iter().try_for_each(|(name, _)| write!(text, " {name:>9}"))?;
            writeln!(text, " {:>9}", "mean")?;
        }
        write!(text, "  {name:<12}")?;
        percentiles.named().iter().try_for_each(|(_, value)| write!(text, " {:>9}", show_ns(*value as f64)))?;
        writeln!(text, " {:>9}", show_ns(percentiles.mean))?;
    }
    Ok(())
}

/// Latencies in steps of powers of two (or more, so that it fits), hits and misses side by side where there are both.
fn histogram(text: &mut String, run: &Run) -> std::fmt::Result {
    let decode = |report: &ClassReport| Latencies::decode(&report.latency_ns.histogram).unwrap_or_default();
    let (hit, miss, all) = (decode(&run.classes.hit), decode(&run.classes.miss), decode(&run.classes.total));
    let apart = hit.count() > 0 && miss.count() > 0;
    let (lowest, highest) = (run.classes.total.latency_ns.min.max(1), run.classes.total.latency_ns.max.max(1));
    let octaves = (highest as f64 / lowest as f64).log2();
    // Half octaves where they fit.
    let steps_per_octave = if octaves * 2.0 + 2.0 <= HISTOGRAM_LINES_MAX as f64 { 2.0 } else { 1.0 };
    let edge = |index: usize| 2f64.powf((lowest as f64).log2().floor() + index as f64 / steps_per_octave);
    let count = |latencies: &Latencies, from: f64, to: f64| {
        let buckets = latencies.histogram().iter_recorded();
        let within = buckets.filter(|bucket| (from..to).contains(&(bucket.value_iterated_to() as f64)));
        within.map(|bucket| bucket.count_at_value()).sum::<u64>()
    };
    let mut lines = Vec::new();
    for index in 0..HISTOGRAM_LINES_MAX * 3 {
        let (from, to) = (edge(index), edge(index + 1));
        if from > highest as f64 {
            break;
        }
        lines.push((from, to, count(&all, from, to), count(&hit, from, to), count(&miss, from, to)));
    }
    while lines.first().is_some_and(|line| line.2 == 0) {
        lines.remove(0);
    }
    let most = lines.iter().map(|line| line.2).max().unwrap_or(0).max(1);
    writeln!(text, "\nlatency histogram{}", if apart { " (# hits, + misses, - unclassified)" } else { "" })?;
    for (from, to, all, hit, miss) in lines {
        let width = (all as f64 / most as f64 * BAR_WIDTH as f64).round() as usize;
        let width = width.max(usize::from(all > 0));
        let bar = if apart { bar(width, [hit, miss, all - hit - miss]) } else { "#".repeat(width) };
        writeln!(text, "  {:>8} – {:>8} {:>12} {bar}", show_ns(from), show_ns(to), show_count(all))?;
    }
    Ok(())
}

/// A bar of `width` characters, divided among hits, misses and unclassified in proportion to their counts. A class that
/// has any gets a character where there are enough of them, and one that has none gets none.
fn bar(width: usize, counts: [u64; 3]) -> String {
    let sum = counts.iter().sum::<u64>().max(1) as f64;
    let share = |count: u64| count as f64 / sum * width as f64;
    let mut widths = counts.map(|count| (share(count) as usize).max(usize::from(count > 0)));
    // What rounding left over or took too much of belongs to the class that is furthest from its share.
    while widths.iter().sum::<usize>() != width {
        let wanting = widths.iter().sum::<usize>() < width;
        let distance = |index: &usize| {
            let distance = share(counts[*index]) - widths[*index] as f64;
            if wanting { distance } else { -distance }
        };
        // The last character of a class goes only when no class has more than one.
        let spare = usize::from(widths.iter().any(|&width| width > 1));
        let candidates = (0..3).filter(|&index| if wanting { counts[index] > 0 } else { widths[index] > spare });
        match candidates.max_by(|a, b| distance(a).total_cmp(&distance(b))) {
            Some(index) if wanting => widths[index] += 1,
            Some(index) => widths[index] -= 1,
            None => break,
        }
    }
    ["#", "+", "-"].iter().zip(widths).map(|(sign, width)| sign.repeat(width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_the_classes_that_are_there_and_no_others() {
        // Two shares that are rounded down each: what is left over is no third class's.
        assert_eq!(bar(3, [1, 1, 0]).matches('-').count(), 0);
        assert_eq!(bar(10, [1, 999, 0]), "#+++++++++");
        assert_eq!(bar(10, [500, 250, 250]).len(), 10);
        assert_eq!(bar(1, [1, 1, 1]).len(), 1);
        assert_eq!(bar(0, [0, 0, 0]), "");
        for width in 0..=BAR_WIDTH {
            for counts in [[7, 3, 0], [1, 0, 1], [0, 5, 1], [1000, 1, 1], [3, 3, 3], [0, 0, 9]] {
                let bar = bar(width, counts);
                assert_eq!(bar.len(), width, "{counts:?}");
                for (sign, count) in ["#", "+", "-"].iter().zip(counts) {
                    assert!(count > 0 || !bar.contains(sign), "{bar} of {counts:?}");
                    assert!(count == 0 || width < 3 || bar.contains(sign), "{bar} of {counts:?}");
                }
            }
        }
    }
}
