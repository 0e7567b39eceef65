//! How two runs differ, and whether that is more than they scatter.

use super::json::Run;
use crate::{
    stats::{Class, Sample, sample::Brief, spread::Difference},
    units::show_ns,
};
use std::fmt::Write;

/// Samples that cover less than this part of the usual time are the ragged ends of a run.
const WHOLE_SAMPLE: f64 = 0.5;

/// A value taken from a sample; `None` where the sample has nothing of it.
type OfSample = Box<dyn Fn(&Sample) -> Option<f64>>;

/// A latency taken from the numbers of a class.
type OfBrief = fn(&Brief) -> f64;

/// One quantity that runs are compared by.
struct Quantity {
    name: String,
    of: OfSample,
    is_time: bool,
}

/// The letters that runs are shown by.
const LETTERS: [&str; RUNS_MAX] = [
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W",
    "X", "Y", "Z",
];

/// As many runs as there are letters.
pub const RUNS_MAX: usize = 26;

/// The comparison of every run with the first one, as text. Each has the name that it is shown by; at most
/// [`RUNS_MAX`].
pub fn compare(runs: &[(String, Run)]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut text, runs);
    text
}

fn write(text: &mut String, runs: &[(String, Run)]) -> std::fmt::Result {
    let Some(((_, first), others)) = runs.split_first() else { return Ok(()) };
    for (letter, (name, _)) in LETTERS.iter().zip(runs) {
        writeln!(text, "{letter}: {name}")?;
    }
    let mut undecided = false;
    for (letter, (_, other)) in LETTERS[1..].iter().zip(others) {
        writeln!(text)?;
        undecided |= pair(text, letter, first, other)?;
    }
    writeln!(
        text,
        "\n\"The spread\" is how the samples scatter inside each run (batch means, Welch's t, 95 %: one line in \
         twenty will\nsay MORE by chance). What differs from run to run, such as neighbours on the machine, the \
         placement of threads or\nwhat the cache held, is not in it: repeat the runs, in turns, before \
         believing a small difference."
    )?;
    if undecided {
        writeln!(text, "Longer runs, or a shorter --interval, give enough samples.")?;
    }
    Ok(())
}

/// The run `letter` beside the first one; whether a quantity had too few samples.
fn pair(text: &mut String, letter: &str, before: &Run, after: &Run) -> Result<bool, std::fmt::Error> {
    differing_settings(text, letter, before, after)?;
    let heading = format!("{letter} - A");
    writeln!(text, "{:<26} {:>11} {letter:>11} {heading:>8}  95 % interval", "mean of the samples", "A")?;
    let (a, b) = (whole_samples(before), whole_samples(after));
    let mut undecided = false;
    for quantity in quantities() {
        let values =
            |samples: &[&Sample]| samples.iter().filter_map(|sample| (quantity.of)(sample)).collect::<Vec<f64>>();
        let (a, b) = (values(&a), values(&b));
        if a.is_empty() || b.is_empty() {
            continue;
        }
        let show = |value: f64| if quantity.is_time { show_ns(value) } else { format!("{value:.0}") };
        let Some(difference) = Difference::of(&a, &b) else {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            undecided = true;
            writeln!(
                text,
                "{:<26} {:>11} {:>11} {:>8}  {:<20} too few samples to tell ({} and {})",
                quantity.name,
                show(mean(&a)),
                show(mean(&b)),
                "",
                "",
                a.len(),
                b.len()
            )?;
            continue;
        };
        let percent = |value: f64| difference.relative(value) * 100.0;
        writeln!(
            text,
            "{:<26} {:>11} {:>11} {:>+7.1}%  {:<20} {}",
            quantity.name,
            show(difference.before),
            show(difference.after),
            percent(difference.after - difference.before),
            format!("{:+.1}% to {:+.1}%", percent(difference.low), percent(difference.high)),
            if difference.exceeds_spread() { "MORE than the spread" } else { "within the spread" }
        )?;
    }
    counts(text, letter, before, after)?;
    Ok(undecided)
}

fn differing_settings(text: &mut String, letter: &str, before: &Run, after: &Run) -> std::fmt::Result {
    let names: std::collections::BTreeSet<&String> = before.settings.keys().chain(after.settings.keys()).collect();
    let mut any = false;
    for name in names {
        let (a, b) = (before.setting(name), after.setting(name));
        if a != b {
            any = true;
            writeln!(text, "setting {name}: A {a:?}, {letter} {b:?}")?;
        }
    }
    if any { writeln!(text) } else { Ok(()) }
}

fn counts(text: &mut String, letter: &str, before: &Run, after: &Run) -> std::fmt::Result {
    writeln!(text, "\n{:<26} {:>11} {letter:>11}", "whole runs", "A")?;
    let share = |run: &Run| run.miss_share().map_or("-".into(), |share| format!("{:.2} %", share * 100.0));
    writeln!(text, "{:<26} {:>11} {:>11}", "miss share", share(before), share(after))?;
    for (name, value) in [
        ("requests", [before, after].map(|run| run.classes.total.requests)),
        ("errors", [before, after].map(|run| run.classes.total.errors.sum())),
        ("dropped", [before, after].map(|run| run.schedule.dropped)),
    ] {
        writeln!(text, "{name:<26} {:>11} {:>11}", value[0], value[1])?;
    }
    let cpu = [before, after].map(|run| format!("{:.2} µs", run.client.cpu_us_per_request));
    writeln!(text, "{:<26} {:>11} {:>11}", "client CPU per request", cpu[0], cpu[1])
}

fn quantities() -> Vec<Quantity> {
    let mut quantities = vec![Quantity {
        name: "requests/s".into(),
        of: Box::new(|sample| Some(sample.total.requests as f64 / sample.seconds)),
        is_time: false,
    }];
    let named = Class::ALL.map(|class| (class.as_str(), Some(class)));
    for (class_name, class) in [("total", None)].into_iter().chain(named) {
        let latencies: [(&str, OfBrief); 3] = [
            ("mean", |brief| brief.mean_ns),
            ("p50", |brief| brief.p50_ns as f64),
            ("p99", |brief| brief.p99_ns as f64),
        ];
        for (name, value) in latencies {
            let of = move |sample: &Sample| {
                let brief = class.map_or(&sample.total, |class| sample.class(class));
                (brief.requests > 0).then(|| value(brief))
            };
            quantities.push(Quantity { name: format!("{class_name} latency {name}"), of: Box::new(of), is_time: true });
        }
    }
    quantities
}

fn whole_samples(run: &Run) -> Vec<&Sample> {
    let mut lengths: Vec<f64> = run.samples.iter().map(|sample| sample.seconds).collect();
    lengths.sort_by(f64::total_cmp);
    let usual = lengths.get(lengths.len() / 2).copied().unwrap_or(0.0);
    run.samples.iter().filter(|sample| sample.seconds >= usual * WHOLE_SAMPLE && sample.seconds > 0.0).collect()
}
