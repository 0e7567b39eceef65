//! Miss-ratio curves as an SVG picture: missed requests above, missed bytes below, over the size of the arena.

use super::report::PolicyReport;
use crate::units::Size;
use std::fmt::Write;

/// Of the whole picture, in pixels.
const WIDTH: f64 = 760.0;
const PANEL_HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 42.0;
/// Told apart without seeing colours well: Okabe and Ito, *Color Universal Design*, 2008.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// Draws the curves; `rows` by policy, then by rising size.
pub fn curves(title: &str, rows: &[PolicyReport]) -> String {
    let height = 2.0 * PANEL_HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        title = escaped(title)
    );
    let title = escaped(title);
    panel(&mut svg, 0.0, &format!("{title}: requests missed, %"), rows, |row| row.request_miss_ratio * 100.0);
    panel(&mut svg, PANEL_HEIGHT, &format!("{title}: bytes missed, %"), rows, |row| row.byte_miss_ratio * 100.0);
    svg.push_str("</svg>\n");
    svg
}

/// One diagram, its upper edge at `y0`.
fn panel(svg: &mut String, y0: f64, title: &str, rows: &[PolicyReport], value: impl Fn(&PolicyReport) -> f64) {
    let log = |bytes: u64| (bytes.max(1) as f64).log2();
    let low = rows.iter().map(|row| log(row.arena_bytes)).fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(|row| log(row.arena_bytes)).fold(f64::NEG_INFINITY, f64::max);
    let most = rows.iter().map(&value).fold(0.0, f64::max);
    let top = ((most / 10.0).ceil() * 10.0).max(10.0);
    let (left, right, upper, lower) = (LEFT, WIDTH - RIGHT, y0 + TOP, y0 + PANEL_HEIGHT - BOTTOM);
    let x = |bytes: u64| if high > low { left + (log(bytes) - low) / (high - low) * (right - left) } else { left };
    let y = |percent: f64| lower - percent / top * (lower - upper);

    // Writing to a String does not fail.
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{title}</text>", upper - 14.0);
    for step in 0..=5 {
        let percent = top * f64::from(step) / 5.0;
        let at = y(percent);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent:.0}</text>",
            left - 8.0,
            at + 4.0
        );
    }
    let mut sizes: Vec<u64> = rows.iter().map(|row| row.arena_bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    // Labels under the whole octaves only, and under the last size.
    for (number, bytes) in sizes.iter().enumerate() {
        if number % 2 == 0 || number + 1 == sizes.len() {
            let (at, label) = (x(*bytes), Size(*bytes).to_string());
            let below = lower + 18.0;
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{label}</text>");
        }
    }
    let mut legend = upper + 6.0;
    for (number, curve) in rows.chunk_by(|a, b| a.policy == b.policy).enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<String> =
            curve.iter().map(|row| format!("{:.1},{:.1}", x(row.arena_bytes), y(value(row)))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <line x1=\"{}\" x2=\"{}\" y1=\"{legend:.1}\" y2=\"{legend:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{:.1}\">{}</text>",
            points.join(" "),
            right + 10.0,
            right + 28.0,
            right + 34.0,
            legend + 4.0,
            escaped(&curve[0].policy)
        );
        legend += 18.0;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
        assert!(svg.contains(">16MiB<") && svg.contains(">32MiB<"));
        // 50 % of a diagram that ends at 50 % is its upper edge; the lower edge is 0 %.
        assert!(svg.contains(&format!("points=\"{LEFT:.1},{TOP:.1} ")), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn one_size_is_drawn_too() {
        let svg = curves("t", &[row("gdc", 16, 0.0)]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
