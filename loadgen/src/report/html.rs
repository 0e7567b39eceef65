//! One self-contained page for one or more runs.

use super::json::{ClassReport, Run};
use crate::{
    stats::{Class, Latencies, Percentiles, Sample, sample::Brief},
    units::{show_bytes, show_count, show_ns},
};
use anyhow::Result;
use forebay::chart::{Axis, COLOURS, Chart, Line, embedded, escape};
use std::{collections::BTreeSet, fmt::Write};

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1c2126; --soft: #5c6670; --line: #d8dde2; --back: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ec; --soft: #9aa5b0; --line: #39424b; --back: #14181c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); overflow-wrap: anywhere;
  min-width: 5.5rem; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
.scroll { overflow-x: auto; } .note { color: var(--soft); }
svg { width: 100%; height: auto; } .scroll > svg { min-width: 36rem; } svg text { font: 11px system-ui, sans-serif;
  fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: 1; } svg polyline { stroke-width: 1.8; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: 0; } .legend svg { width: 28px;
  margin-right: .4rem; }
";

/// Dash patterns of the runs.
const DASHES: [&str; 4] = ["", "7 4", "2 3", "9 3 2 3"];

/// A cell of the overview, the percentiles of one kind, and the number that a line over time shows.
type OfRun<'a> = &'a dyn Fn(&Run) -> String;
type OfClass = fn(&ClassReport) -> &Percentiles;
type OfBrief = fn(&Brief) -> u64;

/// The page; every run with the name it is shown by.
///
/// # Errors
/// A histogram that cannot be decoded.
pub fn page(runs: &[(String, Run)]) -> Result<String> {
    let runs: Vec<(String, &Run)> = runs
        .iter()
        .map(|(name, run)| match run.setting("label") {
            label if label.is_empty() => (name.clone(), run),
            label => (label, run),
        })
        .collect();
    let names: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>loadgen: {0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
        escape(&names.join(" · "))
    );
    // Writing to a string does not fail; histograms may.
    write!(html, "<h2>Overview</h2>\n{}", overview(&runs))?;
    write!(html, "<h2>Latency by percentile</h2>\n{}", by_percentile(&runs)?)?;
    html.push_str("<p class=\"note\">From the intended start of a request to its last byte.</p>\n");
    write!(html, "<h2>Throughput over time</h2>\n{}", throughput(&runs))?;
    write!(html, "<h2>Latency over time</h2>\n{}", over_time(&runs))?;
    html.push_str("<p class=\"note\">Median and 99th percentile of each interval.</p>\n");
    html.push_str(&percentiles(&runs));
    write!(html, "<h2>Settings</h2>\n{}", settings(&runs))?;
    html.push_str("</body>\n</html>\n");
    Ok(html)
}

/// A table with one column for each run.
fn table(runs: &[(String, &Run)], rows: impl Iterator<Item = (String, Vec<String>)>) -> String {
    let cells = |tag: &str, cells: &[String]| {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>()
    };
    let names: Vec<String> = runs.iter().map(|(name, _)| name.clone()).collect();
    let mut html = format!("<div class=\"scroll\"><table>\n<tr><th></th>{}</tr>\n", cells("th", &names));
    for (name, values) in rows {
        html.push_str(&format!("<tr><td>{}</td>{}</tr>\n", escape(&name), cells("td", &values)));
    }
    html.push_str("</table></div>\n");
    html
}

fn overview(runs: &[(String, &Run)]) -> String {
    let schedule_error = |run: &Run| match run.schedule.error_ns.count {
        0 => "-".into(),
        _ => show_ns(run.schedule.error_ns.p99 as f64),
    };
    let failures = |run: &Run| match run.classes.total.failures_shown() {
        kinds if kinds.is_empty() => "none".into(),
        kinds => kinds.join(", "),
    };
    let rows: [(&str, OfRun<'_>); 13] = [
        ("requests", &|run| show_count(run.classes.total.requests)),
        ("requests/s", &|run| show_count(run.requests_per_second.round() as u64)),
        ("bytes/s", &|run| show_bytes(run.bytes_per_second)),
        ("hits", &|run| show_count(run.classes.hit.requests)),
        ("misses", &|run| show_count(run.classes.miss.requests)),
        ("unclassified", &|run| show_count(run.classes.unclassified.requests)),
        ("miss share", &|run| run.miss_share().map_or("-".into(), |share| format!("{:.2} %", share * 100.0))),
        ("errors", &failures),
        ("late, dropped", &|run| format!("{}, {}", show_count(run.schedule.late), show_count(run.schedule.dropped))),
        ("schedule error p99", &schedule_error),
        ("client CPU per request", &|run| format!("{:.2} µs", run.client.cpu_us_per_request)),
        ("duration", &|run| format!("{:.2} s", run.elapsed_seconds)),
        ("ended", &|run| run.ended.clone()),
    ];
    table(runs, rows.iter().map(|(name, value)| (name.to_string(), runs.iter().map(|(_, run)| value(run)).collect())))
}

/// The classes worth showing: those with requests, and the total if it is not one of them.
fn shown(run: &Run) -> Vec<(usize, &'static str, &ClassReport)> {
    let total = run.classes.total.requests;
    let named = run.classes.named().into_iter().enumerate();
    let several = Class::ALL.len() > 1 && run.classes.named()[1..].iter().all(|(_, report)| report.requests < total);
    named
        .filter(|(index, (_, report))| report.requests > 0 && (*index > 0 || several))
        .map(|(index, (name, report))| (index, name, report))
        .collect()
}

/// Those of any run, in their order.
fn shown_in_any(runs: &[(String, &Run)]) -> BTreeSet<(usize, &'static str)> {
    runs.iter().flat_map(|(_, run)| shown(run)).map(|(index, name, _)| (index, name)).collect()
}

/// How a line looks: by class within one run, by both where there are several.
fn look(runs: usize, run: usize, class: usize) -> (&'static str, &'static str) {
    if runs == 1 {
        (COLOURS[class % 4], "")
    } else {
        (COLOURS[(run * 4 + class) % COLOURS.len()], DASHES[run % DASHES.len()])
    }
}

fn label(runs: usize, run: &str, class: &str) -> String {
    if runs == 1 { class.into() } else { format!("{run}: {class}") }
}

fn by_percentile(runs: &[(String, &Run)]) -> Result<String> {
    let mut lines = Vec::new();
    let (mut least, mut most, mut nines) = (f64::MAX, 1.0f64, 2.0f64);
    for (index, (run_name, run)) in runs.iter().enumerate() {
        for (class, class_name, report) in shown(run) {
            let latencies = Latencies::decode(&report.latency_ns.histogram)?;
            let mut points = Vec::new();
            for step in latencies.histogram().iter_quantiles(10) {
                let quantile = step.quantile_iterated_to().min(1.0 - 0.5 / latencies.count() as f64);
                let value = (step.value_iterated_to().min(latencies.max()) as f64).max(1.0);
                let place = (1.0 / (1.0 - quantile)).log10();
                (least, most, nines) = (least.min(value), most.max(value), nines.max(place));
                points.push((place, value));
            }
            let (color, dashes) = look(runs.len(), index, class);
            lines.push(Line { label: label(runs.len(), run_name, class_name), color, dashes, points });
        }
    }
    let mark = |place: i32| match place {
        0 => "0 %".into(),
        1 => "90 %".into(),
        nines => format!("99{}{} %", if nines > 2 { "." } else { "" }, "9".repeat(nines as usize - 2)),
    };
    let marks = (0..=nines as i32).map(|place| (f64::from(place), mark(place))).collect();
    let x = Axis { title: "percentile".into(), from: 0.0, to: nines, marks, is_logarithmic: false };
    Ok(embedded(&Chart::lines(x, Axis::decades("latency", least.min(most), most, show_ns), lines)))
}

fn percentiles(runs: &[(String, &Run)]) -> String {
    let mut html = String::new();
    for (class, class_name) in shown_in_any(runs) {
        let kinds: [(&str, OfClass); 3] = [
            ("latency", |report| &report.latency_ns),
            ("service time", |report| &report.service_ns),
            ("first byte", |report| &report.first_byte_ns),
        ];
        let mut rows = Vec::new();
        for (kind, of) in kinds {
            for (position, (name, _)) in Percentiles::default().named().into_iter().enumerate() {
                let value = |run: &Run| show_ns(of(run.classes.named()[class].1).named()[position].1 as f64);
                rows.push((format!("{kind} {name}"), runs.iter().map(|(_, run)| value(run)).collect()));
            }
        }
        html.push_str(&format!("<h2>Percentiles: {class_name}</h2>\n{}", table(runs, rows.into_iter())));
    }
    html
}

fn throughput(runs: &[(String, &Run)]) -> String {
    let rate = |sample: &Sample| sample.total.requests as f64 / sample.seconds.max(1e-9);
    let lines: Vec<Line> = runs
        .iter()
        .enumerate()
        .map(|(index, (name, run))| {
            let (color, dashes) = look(runs.len(), index, 0);
            let points = run.samples.iter().map(|sample| (middle(sample), rate(sample))).collect();
            Line { label: label(runs.len(), name, "requests/s"), color, dashes, points }
        })
        .collect();
    let most = lines.iter().flat_map(|line| &line.points).fold(0.0f64, |most, (_, y)| most.max(*y));
    let y = Axis::linear("requests/s", most, |value| show_count(value as u64));
    embedded(&Chart::lines(time_axis(runs), y, lines))
}

/// One chart for one run; where there are several, one for each class, so that their lines can be told apart.
fn over_time(runs: &[(String, &Run)]) -> String {
    if runs.len() == 1 {
        return classes_over_time(runs, |_| true);
    }
    shown_in_any(runs)
        .into_iter()
        .map(|(class, name)| format!("<h3>{name}</h3>\n{}", classes_over_time(runs, |index| index == class)))
        .collect()
}

fn classes_over_time(runs: &[(String, &Run)], wanted: impl Fn(usize) -> bool) -> String {
    let mut lines = Vec::new();
    let (mut least, mut most) = (f64::MAX, 1.0f64);
    for (index, (run_name, run)) in runs.iter().enumerate() {
        for (class, class_name, _) in shown(run).into_iter().filter(|(class, ..)| wanted(*class)) {
            let brief =
                |sample: &Sample| -> Brief { [sample.total, sample.hit, sample.miss, sample.unclassified][class] };
            let values: [(&str, OfBrief, &'static str); 2] =
                [("p50", |brief| brief.p50_ns, ""), ("p99", |brief| brief.p99_ns, "3 3")];
            for (name, value, dashes) in values {
                let samples = run.samples.iter().filter(|sample| brief(sample).requests > 0);
                let points: Vec<(f64, f64)> =
                    samples.map(|sample| (middle(sample), (value(&brief(sample)) as f64).max(1.0))).collect();
                for (_, y) in &points {
                    (least, most) = (least.min(*y), most.max(*y));
                }
                let (color, _) = look(runs.len(), index, class);
                let label = label(runs.len(), run_name, &format!("{class_name} {name}"));
                lines.push(Line { label, color, dashes, points });
            }
        }
    }
    embedded(&Chart::lines(time_axis(runs), Axis::decades("latency", least.min(most), most, show_ns), lines))
}

fn middle(sample: &Sample) -> f64 {
    sample.start_seconds + sample.seconds / 2.0
}

fn time_axis(runs: &[(String, &Run)]) -> Axis {
    let ends = runs.iter().flat_map(|(_, run)| run.samples.last()).map(|sample| sample.start_seconds + sample.seconds);
    Axis::linear("seconds", ends.fold(0.0, f64::max), |value| format!("{}", (value * 1000.0).round() / 1000.0))
}

fn settings(runs: &[(String, &Run)]) -> String {
    let names: BTreeSet<&String> = runs.iter().flat_map(|(_, run)| run.settings.keys()).collect();
    let row = |name: &&String| {
        let values: Vec<String> = runs.iter().map(|(_, run)| run.setting(name)).collect();
        (values.iter().any(|value| !value.is_empty() && value != "[]")).then(|| ((*name).clone(), values))
    };
    table(runs, names.iter().filter_map(row))
}
