//! A simulation as one page that needs nothing else: figures, curves, and the files.

use super::explain::{Explanation, File};
use super::plot::panels;
use super::report::{PolicyReport, Report};
use crate::chart::{PAGE_COLOURS, embedded, escape};
use crate::page::filled;
use crate::units::{show_count, show_size};
use std::path::Path;

const PAGE: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>{{title}}</title>
<style>{{style}}
.scroll > svg { min-width:36rem; }
td:last-child.why { text-align:left; white-space:normal; min-width:12rem; }
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

/// The page.
pub fn page(report: &Report) -> String {
    let trace = &report.trace;
    let name = Path::new(&trace.file).file_name().unwrap_or_default().to_string_lossy();
    let mut html = format!("<header><h1>Simulation of {}</h1></header>\n", escape(&name));
    html.push_str("<section class=\"figures\" aria-label=\"The trace\">\n");
    let best = report.policies.iter().min_by(|a, b| a.request_miss_ratio.total_cmp(&b.request_miss_ratio));
    for (value, what) in [
        (show_count(trace.requests), "requests".to_owned()),
        (show_count(trace.objects), "files".to_owned()),
        (show_size(trace.footprint_bytes), "all files together".to_owned()),
        (show_count(trace.skipped), "records left out".to_owned()),
    ]
    .into_iter()
    .chain(best.map(|row| {
        let least = format!("{:.1} %", row.request_miss_ratio * 100.0);
        (least, format!("missed at least, by {} at {}", row.policy, show_size(row.arena_bytes)))
    })) {
        html.push_str(&format!("<div><b>{}</b><span>{}</span></div>\n", escape(&value), escape(&what)));
    }
    html.push_str("</section>\n");
    html.push_str(&format!("<section><h2>Policies</h2>\n{}</section>\n", policies(&report.policies)));
    if !report.curve.is_empty() {
        for (chart, id) in panels("By size", &report.curve, &PAGE_COLOURS).iter().zip(["requests", "bytes"]) {
            html.push_str(&format!("<section><h2>{}</h2>\n{}</section>\n", escape(&chart.title), embedded(chart, id)));
        }
        let rows = policies(&report.curve);
        html.push_str(&format!("<section><h2>Every size</h2>\n{rows}</section>\n"));
    }
    report.explain.iter().for_each(|explanation| html.push_str(&files(explanation)));
    let title = format!("Simulation of {}", escape(&name));
    filled(PAGE).replace("{{title}}", &title).replace("{{content}}", &html)
}

fn policies(rows: &[PolicyReport]) -> String {
    let head =
        ["policy", "size", "requests missed", "bytes missed", "bytes of files", "admitted", "evicted", "rejected"];
    let head: String = head.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
    let mut html = table(&head);
    for row in rows {
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        let cells = [
            show_size(row.arena_bytes),
            percent(row.request_miss_ratio),
            percent(row.byte_miss_ratio),
            percent(row.utilisation),
            show_count(row.admissions),
            show_count(row.evictions),
            show_count(row.rejections),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        html.push_str(&format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", escape(&row.policy)));
    }
    html + "</tbody></table></div>\n"
}

fn files(explanation: &Explanation) -> String {
    let Explanation { policy, arena_bytes, kept, missed } = explanation;
    let mut html = String::new();
    for (what, files) in [("keeps, worth most first", kept), ("missed most", missed)] {
        let title = escape(&format!("What {policy} at {} {what}", show_size(*arena_bytes)));
        html.push_str(&format!("<section><h2>{title}</h2>\n"));
        let head = ["file", "size", "requests", "hits", "evicted", "refused", "why"];
        let head: String = head.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
        html.push_str(&table(&head));
        for File { name, size_bytes, requests, hits, evictions, rejections, why } in files {
            let numbers = [*requests, *hits, *evictions, *rejections].map(show_count).map(|n| format!("<td>{n}</td>"));
            let (name, size, numbers) = (escape(name), show_size(*size_bytes), numbers.concat());
            let why = format!("<td class=\"why\">{}</td>", escape(why));
            html.push_str(&format!("<tr><th scope=\"row\">{name}</th><td>{size}</td>{numbers}{why}</tr>\n"));
        }
        html.push_str("</tbody></table></div></section>\n");
    }
    html
}

fn table(head: &str) -> String {
    format!("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n")
}
