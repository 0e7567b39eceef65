//! What the console shows: the figures and ratios of a case when it has ended, and in the end what was reached.

use super::{
    figures::{number, show_ratio},
    ratios,
    requirements::{self, NGINX, OWN},
};
use crate::results::{CaseResult, Results};
use std::fmt::Write;

/// One line for each server of a case: its figure, and Forebay's over it.
pub fn case(case: &CaseResult) -> String {
    let mut text = format!("{} ({})\n", case.title, case.metric.label());
    if let Some(reason) = &case.skipped {
        let _ = writeln!(text, "  not run: {reason}");
    }
    for peer in case.peers() {
        let figure = match case.median(peer, case.metric) {
            Some(value) => format!("{} {}", number(value), case.metric.unit()),
            None if case.is_too_short(peer) => "too short to tell".into(),
            None => "no figure".into(),
        };
        let ratio = (peer != OWN).then(|| ratios::ratio(case, case.metric, OWN, peer)).flatten();
        let ratio = ratio.map(|ratio| format!("  {OWN}/{peer} {}", show_ratio(ratio))).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {peer:<17} {figure:>17}{ratio}");
    }
    text
}

/// What has to be reached, and whether it was, in the cases that were run.
pub fn verdicts(results: &Results) -> String {
    let lines = requirements::check(results);
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:<20} {:>14}  {:<44} reached\n", "case", "Forebay", "ratios (least: must, aim)");
    for line in lines {
        let value = line.value.map_or("–".into(), |value| format!("{} {}", number(value), line.metric.unit()));
        let compared = line.comparisons.iter().filter_map(|one| {
            let name = one.with.as_deref()?;
            let bounds = format!("{}, {}", one.must, one.aim);
            Some(one.ratio.map_or(format!("{name} –"), |ratio| format!("{name} {:.2} ({bounds})", ratio.median)))
        });
        let mut compared: Vec<String> = compared.collect();
        // The best peer may be nginx itself: then the stricter bound counts, which stands second.
        if compared.len() == 2 && line.comparisons[1].with.as_deref() == Some(NGINX) {
            compared.remove(0);
        }
        let verdict = line.verdict.shown().trim_matches('*');
        let _ = writeln!(text, "{:<20} {value:>14}  {:<44} {verdict}", line.case, compared.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Metric, results::example};

    #[test]
    fn figures_ratios_and_verdicts_are_shown() {
        let peers: [(&str, &[f64]); 3] = [("forebay", &[4.0]), ("nginx", &[8.0]), ("varnish", &[0.01])];
        let one = example::case("hits-4k", Metric::CpuPerRequest, &peers);
        let shown = case(&one);
        for expected in ["forebay                     4.00 µs", "8.00 µs  forebay/nginx 0.50", "too short to tell"] {
            assert!(shown.contains(expected), "{expected} is not in\n{shown}");
        }
        let shown = verdicts(&example::results(vec![one]));
        assert!(shown.contains("nginx 0.50 (0.92, 0.85)") && shown.contains(" aim"), "{shown}");
        assert_eq!(verdicts(&example::results(Vec::new())), "");
    }
}
