//! The Prometheus text exposition format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};

use super::catalogue::{Kind, Metric};
use super::counter::{BOUNDS, HistogramValues, bound_seconds};

/// The Content-Type of what [`Exposition`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An exposition being written: `metric` opens a family, the others add its samples.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Opens a metric: its HELP and TYPE lines.
    pub fn metric(&mut self, metric: &'static Metric) -> Samples<'_> {
        let (name, kind) = (metric.name, metric.kind.as_str());
        self.push(format_args!("# HELP {name} {}\n# TYPE {name} {kind}\n", escape_help(metric.help)));
        Samples { exposition: self, metric }
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.text
    }

    fn push(&mut self, args: std::fmt::Arguments<'_>) {
        self.text.write_fmt(args).expect("a String takes everything written to it");
    }
}

/// The samples of one metric.
pub struct Samples<'a> {
    exposition: &'a mut Exposition,
    metric: &'static Metric,
}

impl Samples<'_> {
    /// The only sample of a metric without labels.
    pub fn value(self, value: impl Display) {
        let name = self.metric.name;
        self.exposition.push(format_args!("{name} {value}\n"));
    }

    /// One sample; `pairs` are label pairs already in exposition form.
    pub fn labelled(&mut self, pairs: &str, value: impl Display) {
        let name = self.metric.name;
        self.exposition.push(format_args!("{name}{{{pairs}}} {value}\n"));
    }

    /// One histogram of a histogram metric.
    pub fn histogram(&mut self, pairs: &str, values: &HistogramValues) {
        debug_assert_eq!(self.metric.kind, Kind::Histogram);
        let name = self.metric.name;
        let mut cumulative = 0;
        for k in 0..BOUNDS {
            cumulative += values.buckets[k];
            self.exposition.push(format_args!("{name}_bucket{{{pairs},le=\"{}\"}} {cumulative}\n", bound_seconds(k)));
        }
        cumulative += values.buckets[BOUNDS];
        self.exposition.push(format_args!("{name}_bucket{{{pairs},le=\"+Inf\"}} {cumulative}\n"));
        self.exposition.push(format_args!("{name}_sum{{{pairs}}} {}\n", values.sum_ns as f64 / 1e9));
        self.exposition.push(format_args!("{name}_count{{{pairs}}} {cumulative}\n"));
    }
}

/// Backslash and line feed, as the format asks for in HELP lines.
fn escape_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}
