//! Miss-ratio curves as an SVG picture: missed requests above, missed bytes below, over the size of the arena.

use super::report::PolicyReport;
use crate::chart::{Axis, COLOURS, Chart, Line, Series, document};
use crate::units::show_size;

/// Draws the curves; `rows` by policy, then by rising size.
pub fn curves(title: &str, rows: &[PolicyReport]) -> String {
    document(title, &panels(title, rows, &COLOURS))
}

/// Missed requests, and missed bytes, in these colours.
pub fn panels(title: &str, rows: &[PolicyReport], colours: &[&'static str; 8]) -> [Chart; 2] {
    [
        panel(&format!("{title}: requests missed"), rows, colours, |row| row.request_miss_ratio * 100.0),
        panel(&format!("{title}: bytes missed"), rows, colours, |row| row.byte_miss_ratio * 100.0),
    ]
}

fn panel(
    title: &str,
    rows: &[PolicyReport],
    colours: &[&'static str; 8],
    value: impl Fn(&PolicyReport) -> f64,
) -> Chart {
    let mut sizes: Vec<u64> = rows.iter().map(|row| row.arena_bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    // Labels under the whole octaves only, and under the last size.
    let is_marked = |number: usize| number.is_multiple_of(2) || number + 1 == sizes.len();
    let marked = sizes.iter().enumerate().filter(|(number, _)| is_marked(*number));
    let marks = marked.map(|(_, bytes)| (*bytes as f64, show_size(*bytes))).collect();
    let x = Axis::over("size of the cache", &sizes.iter().map(|bytes| *bytes as f64).collect::<Vec<_>>(), marks)
        .in_unit("bytes");
    let most = rows.iter().map(&value).fold(10.0, f64::max);
    let y = Axis::linear("missed", most, |percent| format!("{percent} %")).in_unit("percent");
    let lines = rows.chunk_by(|a, b| a.policy == b.policy).enumerate().map(|(number, curve)| Line {
        label: curve[0].policy.clone(),
        color: colours[number % colours.len()],
        dashes: "",
        points: curve.iter().map(|row| (row.arena_bytes as f64, value(row))).collect(),
    });
    let series = Series::Lines { x, lines: lines.collect() };
    Chart { title: title.to_owned(), subtitle: String::new(), y, series, mark: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(policy: &str, mib: u64, ratio: f64) -> PolicyReport {
        PolicyReport {
            policy: policy.to_owned(),
            arena_bytes: mib << 20,
            requests: 1,
            request_miss_ratio: ratio,
            byte_miss_ratio: 1.0,
            utilisation: 1.0,
            evictions: 0,
            admissions: 0,
            rejections: 0,
            uncacheable: 0,
        }
    }

    #[test]
    fn every_policy_has_its_curve_in_both_diagrams() {
        let rows = [row("gdc", 16, 0.5), row("gdc", 32, 0.25), row("lru", 16, 0.5), row("lru", 32, 0.4)];
        let svg = curves("a<b>.csv", &rows);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.contains("a&lt;b&gt;.csv") && !svg.contains("a<b>"));
        assert!(svg.contains(">16 MiB<") && svg.contains(">32 MiB<") && svg.contains(">50 %<"));
        // 50 % of a diagram that ends at 50 % is its upper edge; the lower edge is 0 %.
        assert!(svg.contains("points=\"70.0,84.0 "), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn one_size_is_drawn_too() {
        let svg = curves("t", &[row("gdc", 16, 0.0)]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
