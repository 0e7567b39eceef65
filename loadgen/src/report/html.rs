//! One self-contained page for one or more runs.

use super::json::{ClassReport, Run};
use crate::{
    stats::{Class, Latencies, Percentiles, Sample, sample::Brief},
    units::{show_bytes, show_count, show_ns},
};
use anyhow::Result;
use forebay::{
    chart::{Axis, Chart, Line, PAGE_COLOURS, embedded, escape},
    http::date,
    page::filled,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// The page around its content.
const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>{{title}}</title>
<style>{{style}}
th, td { min-width:5.5rem; white-space:normal; overflow-wrap:anywhere; }
.scroll > svg { min-width:36rem; }
@media print { .scroll > svg { min-width:0; } }
</style>
</head>
<body>
<main>
{{content}}</main>
<script>{{charts}}</script>
</body>
</html>
";

/// The end of the year 9999, in seconds since 1970; a file may say anything.
const LATEST: u64 = 253_402_300_799;

/// Steps of the histogram to a tenfold latency.
const STEPS_PER_DECADE: f64 = 12.0;

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
    // Writing to a string does not fail; histograms may.
    let mut html = String::new();
    write!(html, "{}", heading(&runs))?;
    let section = |title: &str, content: &str, note: &str| {
        let note = if note.is_empty() { String::new() } else { format!("<p class=\"note\">{note}</p>\n") };
        format!("<section><h2>{title}</h2>\n{content}{note}</section>\n")
    };
    html.push_str(&section("Overview", &overview(&runs), ""));
    let counted = "From the intended start of a request to its last byte.";
    html.push_str(&section("Latency by percentile", &by_percentile(&runs)?, counted));
    let shares = "The share of each class's responses, by latency.";
    html.push_str(&section("Histogram", &histogram(&runs)?, shares));
    html.push_str(&section("Throughput over time", &throughput(&runs), ""));
    html.push_str(&section("Latency over time", &over_time(&runs), "Median and 99th percentile of each interval."));
    html.push_str(&percentiles(&runs));
    html.push_str(&section("Settings", &settings(&runs), ""));
    let title = format!("loadgen: {}", targets(&runs));
    Ok(filled(PAGE).replace("{{title}}", &escape(&title)).replace("{{content}}", &html))
}

/// What was loaded, each once.
fn targets(runs: &[(String, &Run)]) -> String {
    let targets: BTreeSet<String> = runs.iter().map(|(_, run)| run.setting("url")).collect();
    targets.into_iter().collect::<Vec<_>>().join(" · ")
}

/// What was loaded, when and how, and the figures that are looked for first.
fn heading(runs: &[(String, &Run)]) -> String {
    let mut html = format!("<header><h1>{}</h1></header>\n", escape(&targets(runs)));
    for (name, run) in runs {
        let mut date = Vec::new();
        date::write(&mut date, (run.started_unix_seconds as u64).min(LATEST));
        let date = String::from_utf8_lossy(&date).into_owned();
        let pace = match (run.setting("mode").as_str(), run.setting("rate"), run.setting("stages")) {
            ("open", rate, _) if !rate.is_empty() => format!("open loop at {rate} requests/s"),
            ("open", _, stages) => format!("open loop, {stages}"),
            _ => "closed loop".into(),
        };
        let connections = run.setting("connections");
        let told = format!("{date} · {pace} · {connections} connections · {:.1} s", run.elapsed_seconds);
        let name = if runs.len() > 1 { format!("<h2>{}</h2>\n", escape(name)) } else { String::new() };
        html.push_str(&format!("<section>{name}<p class=\"note\">{}</p>\n<div class=\"figures\">\n", escape(&told)));
        let latency = &run.classes.total.latency_ns;
        let errors = run.classes.total.errors.sum();
        for (value, what) in [
            (show_count(run.requests_per_second.round() as u64), "requests/s"),
            (show_ns(latency.p50 as f64), "latency, median"),
            (show_ns(latency.p99 as f64), "latency, 99 %"),
            (format!("{}/s", show_bytes(run.bytes_per_second)), "bodies"),
            (hit_ratio(run), "hits"),
            (show_count(errors), "errors"),
        ] {
            html.push_str(&format!("<div><b>{}</b><span>{what}</span></div>\n", escape(&value)));
        }
        html.push_str("</div></section>\n");
    }
    html
}

/// The share of hits; a server that does not tell them from misses has none that is known.
fn hit_ratio(run: &Run) -> String {
    run.miss_share().map_or("unknown".into(), |share| format!("{:.1} %", (1.0 - share) * 100.0))
}

/// A count of one class, where the server tells classes apart.
fn classified(run: &Run, count: u64) -> String {
    if run.miss_share().is_some() { show_count(count) } else { "unknown".into() }
}

/// A table with one column for each run.
fn table(runs: &[(String, &Run)], rows: impl Iterator<Item = (String, Vec<String>)>) -> String {
    let cells = |tag: &str, cells: &[String]| {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>()
    };
    let names: Vec<String> = runs.iter().map(|(name, _)| name.clone()).collect();
    let names = cells("th scope=\"col\"", &names).replace("</th scope=\"col\">", "</th>");
    let mut html =
        format!("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><td></td>{names}</tr></thead>\n<tbody>\n");
    for (name, values) in rows {
        html.push_str(&format!("<tr><th scope=\"row\">{}</th>{}</tr>\n", escape(&name), cells("td", &values)));
    }
    html.push_str("</tbody></table></div>\n");
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
        ("bytes/s", &|run| format!("{}/s", show_bytes(run.bytes_per_second))),
        ("hits", &|run| classified(run, run.classes.hit.requests)),
        ("misses", &|run| classified(run, run.classes.miss.requests)),
        ("unclassified", &|run| show_count(run.classes.unclassified.requests)),
        ("miss share", &|run| run.miss_share().map_or("unknown".into(), |share| format!("{:.2} %", share * 100.0))),
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
        (PAGE_COLOURS[class % 4], "")
    } else {
        (PAGE_COLOURS[(run * 4 + class) % PAGE_COLOURS.len()], DASHES[run % DASHES.len()])
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
    let x = Axis { title: "percentile".into(), from: 0.0, to: nines, marks, is_logarithmic: false, unit: "nines" };
    let y = Axis::decades("latency", least.min(most), most, show_ns).in_unit("ns");
    Ok(embedded(&Chart::lines(x, y, lines), "by-percentile"))
}

/// Which share of a class took how long, as a line of steps.
fn histogram(runs: &[(String, &Run)]) -> Result<String> {
    let step = |ns: f64| (ns.max(1.0).log10() * STEPS_PER_DECADE).floor();
    let edge = |step: f64| 10f64.powf(step / STEPS_PER_DECADE);
    let mut lines = Vec::new();
    let (mut least, mut most, mut highest) = (f64::MAX, 1.0f64, 0.0f64);
    for (index, (run_name, run)) in runs.iter().enumerate() {
        for (class, class_name, report) in shown(run) {
            let latencies = Latencies::decode(&report.latency_ns.histogram)?;
            let mut counts: BTreeMap<i64, u64> = BTreeMap::new();
            for bucket in latencies.histogram().iter_recorded() {
                *counts.entry(step(bucket.value_iterated_to() as f64) as i64).or_default() += bucket.count_at_value();
            }
            let (Some(first), Some(last)) = (counts.keys().next().copied(), counts.keys().last().copied()) else {
                continue;
            };
            let mut points = vec![(edge(first as f64), 0.0)];
            for at in first..=last {
                let count = counts.get(&at).copied().unwrap_or(0);
                let share = count as f64 / latencies.count().max(1) as f64 * 100.0;
                points.extend([(edge(at as f64), share), (edge(at as f64 + 1.0), share)]);
                highest = highest.max(share);
            }
            points.push((edge(last as f64 + 1.0), 0.0));
            (least, most) = (least.min(edge(first as f64)), most.max(edge(last as f64 + 1.0)));
            let (color, dashes) = look(runs.len(), index, class);
            lines.push(Line { label: label(runs.len(), run_name, class_name), color, dashes, points });
        }
    }
    let x = Axis::decades("latency", least.min(most), most, show_ns).in_unit("ns");
    let y = Axis::linear("responses", highest, |percent| format!("{percent} %")).in_unit("percent");
    Ok(embedded(&Chart::lines(x, y, lines), "histogram"))
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
        let rows = table(runs, rows.into_iter());
        html.push_str(&format!("<section><h2>Percentiles: {class_name}</h2>\n{rows}</section>\n"));
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
    let y = Axis::linear("requests/s", most, |value| show_count(value as u64)).in_unit("count");
    embedded(&Chart::lines(time_axis(runs), y, lines), "throughput")
}

/// One chart for one run; where there are several, one for each class, so that their lines can be told apart.
fn over_time(runs: &[(String, &Run)]) -> String {
    if runs.len() == 1 {
        return classes_over_time(runs, "over-time", |_| true);
    }
    shown_in_any(runs)
        .into_iter()
        .map(|(class, name)| {
            let chart = classes_over_time(runs, &format!("{name}-over-time"), |index| index == class);
            format!("<h3>{name}</h3>\n{chart}")
        })
        .collect()
}

fn classes_over_time(runs: &[(String, &Run)], chart: &str, wanted: impl Fn(usize) -> bool) -> String {
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
    let y = Axis::decades("latency", least.min(most), most, show_ns).in_unit("ns");
    embedded(&Chart::lines(time_axis(runs), y, lines), chart)
}

fn middle(sample: &Sample) -> f64 {
    sample.start_seconds + sample.seconds / 2.0
}

fn time_axis(runs: &[(String, &Run)]) -> Axis {
    let ends = runs.iter().flat_map(|(_, run)| run.samples.last()).map(|sample| sample.start_seconds + sample.seconds);
    Axis::linear("seconds", ends.fold(0.0, f64::max), |value| format!("{}", (value * 1000.0).round() / 1000.0))
        .in_unit("time")
}

fn settings(runs: &[(String, &Run)]) -> String {
    let names: BTreeSet<&String> = runs.iter().flat_map(|(_, run)| run.settings.keys()).collect();
    let row = |name: &&String| {
        let values: Vec<String> = runs.iter().map(|(_, run)| run.setting(name)).collect();
        (values.iter().any(|value| !value.is_empty() && value != "[]")).then(|| ((*name).clone(), values))
    };
    table(runs, names.iter().filter_map(row))
}
