//! The live view on a terminal: progress, current rate, and the latency of hits and misses.

use crate::{
    exec::{Plan, Progress},
    units::{show_count, show_ns},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{io::IsTerminal, time::Duration};

/// Shows how a run goes on; nothing where standard error is no terminal.
pub struct Live {
    bar: Option<ProgressBar>,
    requests_max: Option<u64>,
}

impl Live {
    /// A view of the run of `plan`; `quiet` shows nothing.
    pub fn new(plan: &Plan, quiet: bool) -> Live {
        if quiet || !std::io::stderr().is_terminal() {
            return Live { bar: None, requests_max: None };
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
        Live { bar: Some(bar), requests_max }
    }

    /// Shows the interval that has just ended.
    pub fn update(&self, progress: &Progress<'_>) {
        let Some(bar) = &self.bar else { return };
        let sample = progress.sample;
        let rate = sample.total.requests as f64 / sample.seconds.max(1e-9);
        let mut message = format!("{} req/s", show_count(rate as u64));
        for (name, brief) in [("hit", &sample.hit), ("miss", &sample.miss), ("all", &sample.unclassified)] {
            if brief.requests > 0 {
                let (p50, p99) = (show_ns(brief.p50_ns as f64), show_ns(brief.p99_ns as f64));
                message.push_str(&format!("  {name} p50 {p50} p99 {p99}"));
            }
        }
        if progress.failures > 0 {
            message.push_str(&format!("  {} errors", show_count(progress.failures)));
        }
        bar.set_message(message);
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
