//! The live view on a terminal: progress, and how the rate and the latency of hits and misses went lately.

use crate::{
    exec::{Plan, Progress},
    stats::{Sample, sample::Brief},
    units::{show_count, show_ns},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{cell::RefCell, collections::VecDeque, io::IsTerminal, time::Duration};

/// Intervals that the lines show.
const SHOWN: usize = 48;

/// From the least to the most.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The numbers of one class.
type OfSample = fn(&Sample) -> &Brief;

/// Shows how a run goes on; nothing where standard error is no terminal.
pub struct Live {
    bar: Option<ProgressBar>,
    requests_max: Option<u64>,
    lately: RefCell<VecDeque<Sample>>,
}

impl Live {
    /// A view of the run of `plan`; `quiet` shows nothing.
    pub fn new(plan: &Plan, quiet: bool) -> Live {
        let lately = RefCell::default();
        if quiet || !std::io::stderr().is_terminal() {
            return Live { bar: None, requests_max: None, lately };
        }
        let requests_max = plan.requests_max.or_else(|| match plan.duration {
            Some(_) => None,
            None => plan.order.length(),
        });
        let length = requests_max.or_else(|| plan.duration.map(|duration| duration.as_millis() as u64));
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message("connecting, warming up");
        bar.enable_steady_tick(Duration::from_millis(200));
        Live { bar: Some(bar), requests_max, lately }
    }

    /// Shows the interval that has just ended.
    pub fn update(&self, progress: &Progress<'_>) {
        let Some(bar) = &self.bar else { return };
        let sample = progress.sample;
        let mut lately = self.lately.borrow_mut();
        lately.push_back(sample.clone());
        if lately.len() > SHOWN {
            lately.pop_front();
        }
        bar.set_message(message(lately.make_contiguous(), progress.failures));
        bar.set_position(match self.requests_max {
            Some(_) => progress.requests + progress.failures,
            None => ((sample.start_seconds + sample.seconds) * 1000.0) as u64,
        });
    }

    /// Clears the view.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What is said of the last intervals: a line for the rate, and one for each class that has requests.
fn message(lately: &[Sample], failures: u64) -> String {
    let rate = |sample: &Sample| sample.total.requests as f64 / sample.seconds.max(1e-9);
    let rates: Vec<Option<f64>> = lately.iter().map(|sample| Some(rate(sample))).collect();
    let now = lately.last().map_or(0.0, rate);
    let mut text = match failures {
        0 => String::new(),
        failures => format!("{} errors", show_count(failures)),
    };
    text.push_str(&format!("\n  {:<9} {:<SHOWN$}  {}/s", "requests", spark(&rates), show_count(now as u64)));
    let classes: [(&str, OfSample); 3] = [
        ("hit p99", |sample| &sample.hit),
        ("miss p99", |sample| &sample.miss),
        ("p99", |sample| &sample.unclassified),
    ];
    for (name, of) in classes {
        let measured = |sample: &Sample| Some(of(sample).p99_ns as f64).filter(|_| of(sample).requests > 0);
        let values: Vec<Option<f64>> = lately.iter().map(measured).collect();
        if let Some(last) = values.iter().rev().find_map(|value| *value) {
            text.push_str(&format!("\n  {name:<9} {:<SHOWN$}  {}", spark(&values), show_ns(last)));
        }
    }
    text
}

/// One character for each value, from nothing to the most; a space where there is none.
fn spark(values: &[Option<f64>]) -> String {
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let level = |value: f64| LEVELS[((value / most.max(f64::MIN_POSITIVE) * 8.0).ceil() as usize).clamp(1, 8) - 1];
    values.iter().map(|value| value.map_or(' ', level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_nothing_to_the_most() {
        let values: Vec<Option<f64>> = (0..=8).map(|value| Some(f64::from(value))).chain([None]).collect();
        assert_eq!(spark(&values), "▁▁▂▃▄▅▆▇█ ");
        assert_eq!(spark(&[Some(0.0), Some(f64::NAN)]), "▁▁");
        assert_eq!(spark(&[]), "");
    }

    #[test]
    fn there_is_a_line_for_the_rate_and_for_each_class_with_requests() {
        let brief = |requests, p99_ns| Brief { requests, p99_ns, ..Brief::default() };
        let sample = |hits: u64, misses: u64| Sample {
            start_seconds: 0.0,
            seconds: 0.5,
            total: brief(hits + misses, 1),
            hit: brief(hits, 2_000_000),
            miss: brief(misses, 9_000_000),
            unclassified: Brief::default(),
        };
        let text = message(&[sample(100, 10), sample(50, 0)], 3);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0] == "3 errors" && lines[1].contains("█") && lines[1].ends_with("100/s"), "{text}");
        assert!(lines[2].contains("hit p99   ██") && lines[2].ends_with("2.00 ms"), "{text}");
        assert!(lines[3].contains("miss p99  █ ") && lines[3].ends_with("9.00 ms"), "{text}");
    }
}
