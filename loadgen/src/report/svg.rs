//! Line charts as SVG.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// One line of a chart, in the units of its axes.
pub struct Line {
    pub label: String,
    /// A CSS colour.
    pub color: &'static str,
    /// An SVG dash pattern; empty for a solid line.
    pub dashes: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// One axis: its title, its range, and the marks on it.
pub struct Axis {
    pub title: &'static str,
    pub from: f64,
    pub to: f64,
    pub marks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `to`, with marks at round numbers.
    pub fn linear(title: &'static str, to: f64, show: impl Fn(f64) -> String) -> Axis {
        let to = if to > 0.0 { to } else { 1.0 };
        let rough = to / 5.0;
        let magnitude = 10f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * magnitude >= rough).unwrap_or(10.0);
        let step = factor * magnitude;
        let steps = (to / step).ceil();
        let marks = (0..=steps as usize).map(|index| (index as f64 * step, show(index as f64 * step))).collect();
        Axis { title, from: 0.0, to: steps * step, marks }
    }

    /// Logarithms to base ten that cover `least` to `most`, with marks at powers of ten. Points are given as logarithms.
    pub fn logarithmic(title: &'static str, least: f64, most: f64, show: impl Fn(f64) -> String) -> Axis {
        let from = least.max(1.0).log10().floor();
        let to = most.max(1.0).log10().ceil().max(from + 1.0);
        let marks = (from as i32..=to as i32).map(|power| (f64::from(power), show(10f64.powi(power)))).collect();
        Axis { title, from, to, marks }
    }

    fn place(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// A chart with its legend.
pub fn chart(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = draw(&mut svg, x, y, lines);
    svg
}

fn draw(svg: &mut String, x: &Axis, y: &Axis, lines: &[Line]) -> std::fmt::Result {
    let across = |value: f64| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let description = format!("{} by {}", y.title, x.title);
    writeln!(
        svg,
        "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escape(&description)
    )?;
    for (value, mark) in &y.marks {
        let at = up(*value);
        writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, at + 4.0, escape(mark))?;
    }
    for (value, mark) in &x.marks {
        let at = across(*value);
        writeln!(svg, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>")?;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", bottom + 16.0, escape(mark))?;
    }
    let middle = (LEFT + right) / 2.0;
    writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 8.0, escape(x.title))?;
    let middle = (TOP + bottom) / 2.0;
    writeln!(
        svg,
        "<text transform=\"translate(14 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        escape(y.title)
    )?;
    for line in lines {
        write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-dasharray=\"{}\" points=\"",
            line.color, line.dashes
        )?;
        for (x, y) in line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            write!(svg, "{:.1},{:.1} ", across(*x), up(*y))?;
        }
        writeln!(svg, "\"><title>{}</title></polyline>", escape(&line.label))?;
    }
    writeln!(svg, "</svg></div>\n<p class=\"legend\">")?;
    for line in lines {
        writeln!(
            svg,
            "<span><svg viewBox=\"0 0 28 8\"><line x1=\"0\" x2=\"28\" y1=\"4\" y2=\"4\" stroke=\"{}\" stroke-width=\"2.5\" \
             stroke-dasharray=\"{}\"/></svg>{}</span>",
            line.color,
            line.dashes,
            escape(&line.label)
        )?;
    }
    writeln!(svg, "</p>")
}

/// Text made safe for HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_cover_the_range() {
        let marks = |to| {
            Axis::linear("", to, |value| value.to_string()).marks.into_iter().map(|mark| mark.1).collect::<Vec<_>>()
        };
        assert_eq!(marks(9.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(marks(0.0).first().map(String::as_str), Some("0"));
        let axis = Axis::logarithmic("", 150.0, 15_000.0, |value| value.to_string());
        assert_eq!(
            axis.marks.iter().map(|mark| mark.1.as_str()).collect::<Vec<_>>(),
            ["100", "1000", "10000", "100000"]
        );
    }

    #[test]
    fn points_lie_inside_and_labels_are_escaped() {
        let axis = || Axis::linear("<t>", 10.0, |value| value.to_string());
        let points = vec![(0.0, 0.0), (10.0, 10.0), (f64::NAN, 1.0), (99.0, -5.0)];
        let svg = chart(&axis(), &axis(), &[Line { label: "a<b".into(), color: "red", dashes: "", points }]);
        assert!(svg.contains("points=\"70.0,274.0 744.0,14.0 744.0,274.0 \""), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("<t>"));
    }
}
