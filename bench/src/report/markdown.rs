//! The results as tables in Markdown.

use super::{
    figures::{number, show_ratio},
    ratios,
    requirements::{self, Line, NGINX, OWN},
};
use crate::{
    plan::Metric,
    results::{CaseResult, Outcome, Results, Sample, median},
};
use std::fmt::{self, Write};

/// The whole page; `plots` are the names of files beside it.
pub fn page(results: &Results, plots: &[&str]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut text, results, plots);
    text
}

fn write_page(text: &mut String, results: &Results, plots: &[&str]) -> fmt::Result {
    writeln!(text, "# Side by side\n")?;
    if results.quick {
        writeln!(text, "**A quick run: it shows that everything works. Its timings mean nothing.**\n")?;
    }
    writeln!(text, "Made by `cargo run --release -p bench -- {}`.\n", results.command)?;
    environment(text, results)?;
    writeln!(text, "\n## What has to be reached\n")?;
    writeln!(
        text,
        "Medians of pairwise ratios, Forebay over the peer, {} of {} s each in turns; least and most in brackets. The \
         best peer is the HTTP file server against which Forebay looks worst.\n",
        count(results.rounds, "run"),
        results.seconds
    )?;
    requirement_table(text, &requirements::check(results))?;
    for plot in plots {
        writeln!(text, "\n![{}]({plot})", plot.trim_end_matches(".svg"))?;
    }
    writeln!(text, "\n## Every case\n")?;
    writeln!(
        text,
        "Medians. *ratio*: Forebay over that server, by the figure of the case. *core busy*: everything that ran on \
         the servers' cores, as a check. *hits*: by the server's own word.\n"
    )?;
    results.cases.iter().try_for_each(|case| case_table(text, case))?;
    writeln!(text, "## Servers\n")?;
    for peer in &results.peers {
        writeln!(text, "- {}: {}", peer.name, if peer.version.is_empty() { "no version" } else { &peer.version })?;
    }
    for missing in &results.missing {
        let packages = missing.packages.join(" ");
        writeln!(text, "- {}: not installed (Debian: `apt-get install {packages}`)", missing.name)?;
    }
    Ok(())
}

fn environment(text: &mut String, results: &Results) -> fmt::Result {
    let environment = &results.environment;
    let folios = match (&environment.large_folios.value, environment.large_folios.settable) {
        (None, _) => "not known to this kernel".to_owned(),
        (Some(value), true) => format!("`advise` during the run (found `{value}`)"),
        (Some(value), false) => format!("`{value}` (only root can set it)"),
    };
    writeln!(
        text,
        "- {}, {}, {} MiB",
        environment.processor,
        count(environment.cores as u32, "core"),
        environment.memory_bytes >> 20
    )?;
    writeln!(text, "- Linux {}; 64 KiB folios in shared memory: {folios}", environment.kernel)?;
    if !environment.has_large_folios() {
        writeln!(
            text,
            "- **no large folios**: Forebay ran with 4 KiB pages, and the figures to reach are for 64 KiB folios"
        )?;
    }
    writeln!(text, "- commit {}; load average at the start {}", environment.commit, environment.load_average)?;
    if let Some(case) = results.cases.iter().find(|case| case.workers == 1) {
        let cores = |cores: &[usize]| cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let (server, load) = (cores(&case.placement.server), cores(&case.placement.load));
        let shared = if case.placement.apart { "" } else { " (shared: there is no other)" };
        writeln!(text, "- servers on core {server}, load on core {load}{shared}")?;
    }
    Ok(())
}

fn requirement_table(text: &mut String, lines: &[Line]) -> fmt::Result {
    writeln!(
        text,
        "| figure | case | Forebay | to nginx | must / aim | to the best peer | must / aim | 4 KiB pages, to nginx | \
         reached |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|")?;
    for line in lines {
        let mut cells = vec![line.title.clone(), line.case.clone()];
        cells.push(line.value.map_or("–".into(), |value| format!("{} {}", number(value), line.metric.unit())));
        let sign = if line.metric.lower_is_better() { "≤" } else { "≥" };
        for comparison in &line.comparisons {
            let with = comparison.with.as_deref().filter(|&name| name != NGINX).map(|name| format!(" {name}"));
            cells.push(match (comparison.ratio, &comparison.with) {
                (None, _) => "–".into(),
                (Some(_), None) => String::new(),
                (Some(ratio), Some(_)) => show_ratio(ratio) + &with.unwrap_or_default(),
            });
            cells.push(format!("{sign} {} / {}", comparison.must, comparison.aim));
        }
        cells.resize(7, String::new());
        cells.push(line.small_pages.map(show_ratio).unwrap_or_default());
        cells.push(line.verdict.shown().into());
        row(text, &cells)?;
    }
    Ok(())
}

fn case_table(text: &mut String, case: &CaseResult) -> fmt::Result {
    writeln!(text, "### {} (`{}`)\n", case.title, case.name)?;
    if let Some(reason) = &case.skipped {
        writeln!(text, "Not run: {reason}.\n")?;
    }
    if let Some(rate) = case.rate {
        writeln!(text, "{rate:.0} requests per second.\n")?;
    }
    if !case.samples.is_empty() {
        writeln!(text, "Compared by {}.\n", case.metric.label())?;
        let columns = columns(case.metric);
        writeln!(text, "| server | ratio | {} |", columns.join(" | "))?;
        writeln!(text, "|---|---|{}", "---|".repeat(columns.len()))?;
        for peer in case.peers() {
            row(text, &case_cells(case, peer))?;
        }
        writeln!(text)?;
    }
    for failure in &case.failures {
        writeln!(text, "- **{} failed**: {}", failure.peer, failure.error.replace('\n', " "))?;
    }
    if !case.failures.is_empty() {
        writeln!(text)?;
    }
    Ok(())
}

/// What is shown of each server in a case that is compared by this figure.
fn columns(metric: Metric) -> &'static [&'static str] {
    match metric {
        Metric::FirstByte => &["ms"],
        Metric::WaiterLag => &["lag ms", "requests to the origin", "MiB from the origin", "memory MiB"],
        Metric::OriginRequests | Metric::OriginMebibytes => &[
            "requests to the origin",
            "MiB from the origin",
            "broken responses",
            "CPU µs",
            "p50 µs",
            "memory MiB",
            "RSS MiB",
        ],
        _ => {
            &["CPU µs", "core busy µs", "requests/s", "MiB/s", "p50 µs", "p99 µs", "hits", "from storage", "memory MiB"]
        }
    }
}

fn case_cells(case: &CaseResult, peer: &str) -> Vec<String> {
    let figure = |metric| case.median(peer, metric).map_or("–".into(), number);
    let ratio = (peer != OWN).then(|| ratios::ratio(case, case.metric, OWN, peer)).flatten();
    let mut cells = vec![peer.to_owned(), ratio.map(show_ratio).unwrap_or_default()];
    let samples = || case.samples.iter().filter(|sample| sample.peer == peer);
    let middle = |values: Vec<f64>| median(&values);
    let origin = [Metric::OriginRequests, Metric::OriginMebibytes];
    match case.metric {
        Metric::FirstByte => {
            cells.push(figure(Metric::FirstByte));
            return cells;
        }
        Metric::WaiterLag => {
            cells.push(figure(Metric::WaiterLag));
            cells.extend(origin.map(figure));
            cells.push(figure(Metric::Memory));
            return cells;
        }
        Metric::OriginRequests | Metric::OriginMebibytes => {
            let broken = samples().filter_map(|sample| Some(sample.outcome.as_ref()?.failures as f64)).collect();
            let rss =
                samples().filter_map(|sample| Some(sample.memory?.rss_bytes as f64 / f64::from(1 << 20))).collect();
            cells.extend(origin.map(figure));
            cells.push(middle(broken).map_or("–".into(), |broken| format!("{broken:.0}")));
            cells.extend([Metric::CpuPerRequest, Metric::P50, Metric::Memory].map(figure));
            cells.push(middle(rss).map_or("–".into(), number));
            return cells;
        }
        _ => {}
    }
    let busy = middle(samples().filter_map(|sample| sample.per_request_us(sample.server_cores_busy_seconds)).collect());
    let rate = middle(samples().filter_map(|sample| rate_mib(sample.outcome.as_ref()?)).collect());
    let hits = middle(samples().filter_map(|sample| hit_share(sample.outcome.as_ref()?)).collect());
    let stored = middle(samples().filter_map(storage_share).collect());
    cells.push(figure(Metric::CpuPerRequest));
    cells.push(busy.map_or("–".into(), number));
    cells.push(figure(Metric::RequestsPerSecond));
    cells.push(rate.map_or("–".into(), number));
    cells.push(figure(Metric::P50));
    cells.push(figure(Metric::P99));
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    cells.push(hits.map_or("–".into(), percent));
    cells.push(stored.map_or("–".into(), percent));
    cells.push(figure(Metric::Memory));
    cells
}

fn rate_mib(outcome: &Outcome) -> Option<f64> {
    (outcome.seconds > 0.0).then(|| outcome.bytes as f64 / outcome.seconds / f64::from(1 << 20))
}

fn hit_share(outcome: &Outcome) -> Option<f64> {
    let (hits, misses) = (outcome.hits?, outcome.misses?);
    (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
}

/// What was read from storage, as a share of the body bytes.
fn storage_share(sample: &Sample) -> Option<f64> {
    let bytes = sample.outcome.as_ref().filter(|outcome| outcome.bytes > 0)?.bytes;
    Some(sample.storage_read_bytes? as f64 / bytes as f64)
}

fn row(text: &mut String, cells: &[String]) -> fmt::Result {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    writeln!(text, "| {} |", cells.join(" | "))
}

fn count(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Failure, Missing, example};

    #[test]
    fn tables_have_as_many_cells_as_columns() {
        let mut failing = example::case("miss-cold-64k", Metric::P50, &[]);
        failing.failures.push(Failure { peer: "h2o".into(), error: "it ended | at once".into() });
        failing.skipped = Some("nothing was there".into());
        let mut results = example::results(vec![
            example::case(
                "hits-4k",
                Metric::CpuPerRequest,
                &[
                    ("forebay", &[4.0, 4.0]),
                    ("forebay-4k-pages", &[4.5]),
                    ("nginx", &[8.0, 10.0]),
                    ("lighttpd", &[5.0, 5.0]),
                ],
            ),
            example::case("startup", Metric::FirstByte, &[("forebay", &[5.0]), ("nginx", &[9.0])]),
            example::case("idle", Metric::Memory, &[("forebay", &[90.0])]),
            example::case("origins-trace", Metric::OriginRequests, &[("forebay", &[3.0]), ("squid", &[6.0])]),
            example::case("origins-waiters", Metric::WaiterLag, &[("forebay", &[3.0])]),
            failing,
        ]);
        results.missing.push(Missing { name: "caddy".into(), packages: vec!["caddy".into()] });
        let page = page(&results, &["hits.svg"]);
        let mut columns = 0;
        for line in page.lines() {
            let cells = line.replace("\\|", "").matches('|').count();
            match cells {
                0 => columns = 0,
                _ if columns == 0 => columns = cells,
                _ => assert_eq!(cells, columns, "{line}"),
            }
        }
        for expected in [
            "0.45 [0.40–0.50] | ≤ 0.72 / 0.65 | 0.80 [0.80–0.80] lighttpd | ≤ 0.92 / 0.85 | 0.56 | **aim**",
            "| start to first byte, ms | startup | 5.00 ms |  | ≤ 100 / 20 |",
            "| memory with idle connections and a full cache, MiB | idle | 90.0 MiB |  | ≤ 104 / 80 |",
            "**h2o failed**: it ended | at once",
            "Not run: nothing was there.",
            "![hits](hits.svg)",
            "apt-get install caddy",
        ] {
            assert!(page.contains(expected), "{expected} is not in\n{page}");
        }
    }

    #[test]
    fn a_quick_run_says_that_it_means_nothing() {
        let mut results = example::results(Vec::new());
        assert!(!page(&results, &[]).contains("mean nothing"));
        results.quick = true;
        assert!(page(&results, &[]).contains("mean nothing"));
    }
}
