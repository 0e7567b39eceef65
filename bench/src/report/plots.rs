//! The results as plots: groups of bars, drawn by hand, for there is nothing more to them.

use super::requirements::{NGINX, OWN};
use crate::{plan::Metric, results::Results};
use std::fmt::{self, Write};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 46.0;

/// A colour for each server, the same in every plot. The own one stands out.
const COLOURS: [(&str, &str); 12] = [
    ("forebay", "#d1495b"),
    ("forebay-4k-pages", "#eda5ae"),
    ("nginx", "#00798c"),
    ("nginx-aio", "#7fbcc5"),
    ("lighttpd", "#edae49"),
    ("h2o", "#5c6b9c"),
    ("caddy", "#66a182"),
    ("varnish", "#8d6a9f"),
    ("memcached", "#b08968"),
    ("redis", "#a0a083"),
    ("naive", "#9a9a9a"),
    ("floor", "#3c3c3c"),
];

/// Groups of bars.
struct Plot {
    title: String,
    subtitle: String,
    logarithmic: bool,
    /// A line across at this value.
    mark: Option<f64>,
    groups: Vec<Group>,
}

struct Group {
    label: String,
    /// Servers and their values.
    bars: Vec<(String, f64)>,
}

/// Every plot that the results have data for, by file name.
pub fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let hits: Vec<&str> = ["hits-1k", "hits-4k", "hits-16k", "hits-64k", "hits-256k", "hits-1m", "hits-16m"].into();
    let other =
        ["mix", "miss-warm-16k", "miss-warm-64k", "miss-warm-1m", "huge", "workers-2-hits-4k", "workers-2-hits-64k"];
    let throughput: Vec<&str> = hits.iter().copied().chain(["pipelined-4k"]).collect();
    let mut all = vec![
        ("cpu-hits.svg", relative(results, "Server CPU per request, hits", &hits, Metric::CpuPerRequest)),
        ("cpu-other.svg", relative(results, "Server CPU per request, other cases", &other, Metric::CpuPerRequest)),
        ("throughput.svg", relative(results, "Requests per second, one core", &throughput, Metric::RequestsPerSecond)),
        ("latency.svg", latency(results)),
        ("memory.svg", absolute(results, "Memory with idle connections and a full cache, MiB", "idle", Metric::Memory)),
        ("startup.svg", absolute(results, "Start to first byte, ms", "startup", Metric::FirstByte)),
    ];
    all.retain(|(_, plot)| plot.groups.iter().any(|group| !group.bars.is_empty()));
    all.into_iter().map(|(name, plot)| (name, plot.draw())).collect()
}

/// Values over nginx's, or over Forebay's where there is no nginx.
fn relative(results: &Results, title: &str, cases: &[&str], metric: Metric) -> Plot {
    let found: Vec<_> = cases.iter().filter_map(|name| results.case(name)).collect();
    let base = [NGINX, OWN].into_iter().find(|base| found.iter().any(|case| case.median(base, metric).is_some()));
    let base = base.unwrap_or(OWN);
    let mut groups = Vec::new();
    for case in found {
        let Some(unit) = case.median(base, metric).filter(|unit| *unit > 0.0) else { continue };
        let bar = |peer: &str| Some((peer.to_owned(), case.median(peer, metric)? / unit));
        // The naive one would make all others flat.
        let bars = case.peers().into_iter().filter(|peer| *peer != "naive").filter_map(bar).collect();
        let label = case.name.replace("hits-", "").replace("workers-2-", "2 workers ").replace("miss-warm-", "miss ");
        groups.push(Group { label, bars });
    }
    let better = if metric.lower_is_better() { "lower" } else { "higher" };
    let subtitle = format!("{base} = 1, {better} is better; medians");
    Plot { title: title.into(), subtitle, logarithmic: false, mark: Some(1.0), groups }
}

fn absolute(results: &Results, title: &str, case: &str, metric: Metric) -> Plot {
    let group = results.case(case).map(|case| Group {
        label: case.title.clone(),
        bars: case.peers().into_iter().filter_map(|peer| Some((peer.to_owned(), case.median(peer, metric)?))).collect(),
    });
    Plot {
        title: title.into(),
        subtitle: "lower is better; logarithmic; medians".into(),
        logarithmic: true,
        mark: None,
        groups: group.into_iter().collect(),
    }
}

fn latency(results: &Results) -> Plot {
    let mut groups = Vec::new();
    for (name, metrics) in [
        ("open-4k", &[Metric::P50, Metric::P99][..]),
        ("open-64k", &[Metric::P50, Metric::P99]),
        ("miss-cold-64k", &[Metric::P50]),
        ("miss-cold-1m", &[Metric::P50]),
    ] {
        let Some(case) = results.case(name) else { continue };
        for &metric in metrics {
            let bar = |peer: &str| Some((peer.to_owned(), case.median(peer, metric)?));
            let percentile = if metric == Metric::P50 { "p50" } else { "p99" };
            groups.push(Group {
                label: format!("{name} {percentile}"),
                bars: case.peers().into_iter().filter_map(bar).collect(),
            });
        }
    }
    Plot {
        title: "Latency, µs: open loop at 70 % of nginx's peak, and cold misses".into(),
        subtitle: "lower is better; logarithmic; medians".into(),
        logarithmic: true,
        mark: None,
        groups,
    }
}

fn colour(peer: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == peer).map_or("#000000", |(_, colour)| colour)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Plot {
    fn draw(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        let scale = Axis::over(
            self.groups.iter().flat_map(|group| group.bars.iter().map(|(_, value)| *value)),
            self.logarithmic,
        );
        writeln!(
            text,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"##
        )?;
        writeln!(text, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##)?;
        writeln!(text, r##"<text x="{LEFT}" y="24" font-size="16" fill="#222222">{}</text>"##, escape(&self.title))?;
        writeln!(text, r##"<text x="{LEFT}" y="42" fill="#666666">{}</text>"##, escape(&self.subtitle))?;
        self.legend(text)?;
        for tick in scale.ticks() {
            let y = scale.y(tick);
            writeln!(text, r##"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#e4e4e4"/>"##, WIDTH - RIGHT)?;
            writeln!(
                text,
                r##"<text x="{}" y="{:.1}" text-anchor="end" fill="#666666">{tick}</text>"##,
                LEFT - 8.0,
                y + 4.0
            )?;
        }
        self.bars(text, &scale)?;
        if let Some(mark) = self.mark {
            let y = scale.y(mark);
            writeln!(
                text,
                r##"<line x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}" stroke="#222222" stroke-dasharray="4 3"/>"##,
                WIDTH - RIGHT
            )?;
        }
        writeln!(text, "</svg>")
    }

    /// The servers that appear, in the order of their colours.
    fn legend(&self, text: &mut String) -> fmt::Result {
        let mut x = LEFT;
        for (peer, colour) in COLOURS {
            if self.groups.iter().any(|group| group.bars.iter().any(|(name, _)| name == peer)) {
                writeln!(text, r##"<rect x="{x:.0}" y="54" width="11" height="11" fill="{colour}"/>"##)?;
                writeln!(text, r##"<text x="{:.0}" y="64" fill="#222222">{peer}</text>"##, x + 15.0)?;
                x += 32.0 + 6.8 * peer.len() as f64;
            }
        }
        Ok(())
    }

    fn bars(&self, text: &mut String, scale: &Axis) -> fmt::Result {
        let room = (WIDTH - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        for (at, group) in self.groups.iter().enumerate() {
            let from = LEFT + room * at as f64;
            let width = (room * 0.86 / group.bars.len().max(1) as f64).min(60.0);
            let mut x = from + (room - width * group.bars.len() as f64) / 2.0;
            for (peer, value) in &group.bars {
                let y = scale.y(*value);
                let height = (HEIGHT - BOTTOM - y).max(0.5);
                writeln!(
                    text,
                    r##"<rect x="{x:.1}" y="{y:.1}" width="{:.1}" height="{height:.1}" fill="{}"><title>{peer}: {value:.3}</title></rect>"##,
                    (width - 1.0).max(0.5),
                    colour(peer)
                )?;
                x += width;
            }
            let (middle, y) = (from + room / 2.0, HEIGHT - BOTTOM + 18.0);
            writeln!(
                text,
                r##"<text x="{middle:.1}" y="{y}" text-anchor="middle" fill="#222222">{}</text>"##,
                escape(&group.label)
            )?;
        }
        Ok(())
    }
}

/// The vertical axis.
struct Axis {
    least: f64,
    most: f64,
    logarithmic: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, logarithmic: bool) -> Axis {
        let values: Vec<f64> = values.filter(|value| value.is_finite() && *value > 0.0).collect();
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let least = values.iter().copied().fold(most, f64::min);
        if logarithmic {
            let (low, high) = (least.log10().floor(), most.log10().ceil());
            return Axis { least: 10f64.powf(low), most: 10f64.powf(high.max(low + 1.0)), logarithmic };
        }
        Axis { least: 0.0, most: (most * 1.05).max(1.1), logarithmic }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = self.least.log10().round() as i32..=self.most.log10().round() as i32;
            return decades
                .map(|decade| if decade < 0 { 1.0 / 10f64.powi(-decade) } else { 10f64.powi(decade) })
                .collect();
        }
        let rough = self.most / 6.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * decade).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = (self.most / step).floor() as u32;
        // Without the digits that binary fractions add.
        (0..=count).map(|at| (f64::from(at) * step * 1e6).round() / 1e6).collect()
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.least) / self.least).log10() / (self.most / self.least).log10()
        } else {
            (value - self.least) / (self.most - self.least)
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::example;

    #[test]
    fn plots_are_made_of_what_was_measured() {
        let results = example::results(vec![
            example::case(
                "hits-4k",
                Metric::CpuPerRequest,
                &[("forebay", &[4.0]), ("nginx", &[8.0]), ("naive", &[800.0])],
            ),
            example::case("open-4k", Metric::P99, &[("forebay", &[40.0]), ("nginx", &[80.0])]),
        ]);
        let plots = plots(&results);
        let names: Vec<&str> = plots.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["cpu-hits.svg", "throughput.svg", "latency.svg"]);
        let hits = &plots[0].1;
        assert!(hits.contains("forebay: 0.500") && hits.contains("nginx: 1.000") && !hits.contains("naive"), "{hits}");
        for (name, text) in plots {
            assert_eq!(text.matches("<text").count(), text.matches("</text>").count(), "{name}");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{name}: {text}");
        }
        assert!(super::plots(&example::results(Vec::new())).is_empty());
    }

    #[test]
    fn axes_hold_every_value() {
        let linear = Axis::over([0.5, 1.0, 3.7].into_iter(), false);
        assert_eq!(linear.ticks(), [0.0, 1.0, 2.0, 3.0]);
        assert!(linear.y(3.7) >= TOP && linear.y(0.0) == HEIGHT - BOTTOM);
        let decades = Axis::over([3.0, 700.0].into_iter(), true);
        assert_eq!(decades.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!((decades.y(1.0), decades.y(1000.0)), (HEIGHT - BOTTOM, TOP));
        assert_eq!(Axis::over([0.02].into_iter(), true).ticks(), [0.01, 0.1]);
        // Nothing to show is no reason to fail.
        assert!(Axis::over(std::iter::empty(), true).y(1.0).is_finite());
    }

    #[test]
    fn labels_cannot_break_out() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
