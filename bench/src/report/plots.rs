//! The results as plots: groups of bars.

use super::requirements::{NGINX, NGINX_CACHE, OWN};
use crate::{plan::Metric, results::Results};
use forebay::chart::{Axis, Bar, Chart, Group, Series, document};

/// A colour for each server, the same in every plot. The own one stands out.
const COLOURS: [(&str, &str); 15] = [
    ("forebay", "#d1495b"),
    ("forebay-4k-pages", "#eda5ae"),
    ("forebay-directory", "#f2c4c9"),
    ("nginx", "#00798c"),
    ("nginx-cache", "#4d9fae"),
    ("nginx-aio", "#7fbcc5"),
    ("lighttpd", "#edae49"),
    ("h2o", "#5c6b9c"),
    ("caddy", "#66a182"),
    ("varnish", "#8d6a9f"),
    ("squid", "#c58fb0"),
    ("memcached", "#b08968"),
    ("redis", "#a0a083"),
    ("naive", "#9a9a9a"),
    ("floor", "#3c3c3c"),
];

/// Every plot that the results have data for, by file name.
pub fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let hits: Vec<&str> = ["hits-1k", "hits-4k", "hits-16k", "hits-64k", "hits-256k", "hits-1m", "hits-16m"].into();
    let other =
        ["mix", "miss-warm-16k", "miss-warm-64k", "miss-warm-1m", "huge", "workers-2-hits-4k", "workers-2-hits-64k"];
    let origins = ["origins-hit-4k", "origins-hit-64k", "origins-miss-64k"];
    let throughput: Vec<&str> = hits.iter().copied().chain(["pipelined-4k"]).collect();
    let mut all = vec![
        ("cpu-hits.svg", relative(results, "Server CPU per request, hits", &hits, Metric::CpuPerRequest)),
        ("cpu-other.svg", relative(results, "Server CPU per request, other cases", &other, Metric::CpuPerRequest)),
        ("throughput.svg", relative(results, "Requests per second, one core", &throughput, Metric::RequestsPerSecond)),
        ("latency.svg", latency(results)),
        (
            "cpu-origins.svg",
            relative(results, "Server CPU per request, in front of an HTTP server", &origins, Metric::CpuPerRequest),
        ),
        ("memory.svg", absolute(results, "Memory with idle connections and a full cache, MiB", "idle", Metric::Memory)),
        ("startup.svg", absolute(results, "Start to first byte, ms", "startup", Metric::FirstByte)),
    ];
    all.retain(|(_, plot)| match &plot.series {
        Series::Bars(groups) => groups.iter().any(|group| !group.bars.is_empty()),
        Series::Lines { .. } => true,
    });
    all.into_iter().map(|(name, plot)| (name, document(&plot.title, std::slice::from_ref(&plot)))).collect()
}

/// Values over nginx's, or over Forebay's where there is no nginx.
fn relative(results: &Results, title: &str, cases: &[&str], metric: Metric) -> Chart {
    let found: Vec<_> = cases.iter().filter_map(|name| results.case(name)).collect();
    let base =
        [NGINX, NGINX_CACHE, OWN].into_iter().find(|base| found.iter().any(|case| case.median(base, metric).is_some()));
    let base = base.unwrap_or(OWN);
    let mut groups = Vec::new();
    for case in found {
        let Some(unit) = case.median(base, metric).filter(|unit| *unit > 0.0) else { continue };
        let bar = |peer: &str| Some(bar(peer, case.median(peer, metric)? / unit));
        // The naive one would make all others flat.
        let bars = case.peers().into_iter().filter(|peer| *peer != "naive").filter_map(bar).collect();
        let label = case
            .name
            .replace("hits-", "")
            .replace("workers-2-", "2 workers ")
            .replace("miss-warm-", "miss ")
            .replace("origins-", "");
        groups.push(Group { label, bars });
    }
    let better = if metric.lower_is_better() { "lower" } else { "higher" };
    let subtitle = format!("{base} = 1, {better} is better; medians");
    chart(title, subtitle, false, Some(1.0), groups)
}

fn absolute(results: &Results, title: &str, case: &str, metric: Metric) -> Chart {
    let group = results.case(case).map(|case| Group {
        label: case.title.clone(),
        bars: case.peers().into_iter().filter_map(|peer| Some(bar(peer, case.median(peer, metric)?))).collect(),
    });
    chart(title, "lower is better; logarithmic; medians".into(), true, None, group.into_iter().collect())
}

fn latency(results: &Results) -> Chart {
    let mut groups = Vec::new();
    for (name, metrics) in [
        ("open-4k", &[Metric::P50, Metric::P99][..]),
        ("open-64k", &[Metric::P50, Metric::P99]),
        ("miss-cold-64k", &[Metric::P50]),
        ("miss-cold-1m", &[Metric::P50]),
    ] {
        let Some(case) = results.case(name) else { continue };
        for &metric in metrics {
            let bar = |peer: &str| Some(bar(peer, case.median(peer, metric)?));
            let percentile = if metric == Metric::P50 { "p50" } else { "p99" };
            groups.push(Group {
                label: format!("{name} {percentile}"),
                bars: case.peers().into_iter().filter_map(bar).collect(),
            });
        }
    }
    let title = "Latency, µs: open loop at 70 % of nginx's peak, and cold misses";
    chart(title, "lower is better; logarithmic; medians".into(), true, None, groups)
}

fn bar(peer: &str, value: f64) -> Bar {
    let color = COLOURS.iter().find(|(name, _)| *name == peer).map_or("#000000", |(_, colour)| colour);
    Bar { label: peer.to_owned(), color, value }
}

fn chart(title: &str, subtitle: String, logarithmic: bool, mark: Option<f64>, groups: Vec<Group>) -> Chart {
    let values = || groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value);
    let most = values().fold(0.0, f64::max);
    let y = match logarithmic {
        true => Axis::decades("", values().fold(most, f64::min), most, |value| value.to_string()),
        // Also what is less than the line across is seen to be so.
        false => Axis::linear("", most.max(1.1), |value| value.to_string()),
    };
    Chart { title: title.to_owned(), subtitle, y, series: Series::Bars(groups), mark }
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
}
