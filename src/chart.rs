//! Charts as SVG: lines over an axis, or groups of bars. They stand in a file of their own ([`document`]) or in a page
//! that brings its own style ([`embedded`]).

use std::collections::BTreeSet;
use std::fmt::{self, Write};

/// Colours that are told apart in light and dark, and without seeing colours well: after Okabe and Ito, *Color
/// Universal Design*, 2008.
pub const COLOURS: [&str; 8] = ["#0072b2", "#009e73", "#d55e00", "#8a8f94", "#cc79a7", "#56b4e9", "#e69f00", "#b2a300"];

/// The same in a page, whose style says what they are in light and in dark.
pub const PAGE_COLOURS: [&str; 8] =
    ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)"];

/// What a document's text and grid look like; a page has its own rules for the same names.
const STYLE: &str = "text { font: 12px sans-serif; fill: #444 } .title { font-size: 16px; fill: #222 } \
                     .grid { stroke: #e4e4e4 } .mark { stroke: #222 } polyline { stroke-width: 2 }";

/// A character of a legend is taken to be this wide, in pixels.
const CHARACTER: f64 = 6.8;

/// A character in a page's chart, in the units of its view box: narrow screens show 14 pixels of it (`page/style.css`).
const PAGE_CHARACTER: f64 = 8.0;

/// An axis: its title, its range, and the marks on it.
#[derive(Debug, Clone)]
pub struct Axis {
    pub title: String,
    pub from: f64,
    pub to: f64,
    /// Where there are marks, and what is written there.
    pub marks: Vec<(f64, String)>,
    /// Whether equal ratios, and not equal differences, are equally long. Then `from` is more than nothing.
    pub is_logarithmic: bool,
    /// What a page's script shows values in: a name of `show` in `page/charts.js`.
    pub unit: &'static str,
}

impl Axis {
    /// From 0 to at least `to`, with marks at round numbers.
    pub fn linear(title: &str, to: f64, show: impl Fn(f64) -> String) -> Axis {
        let to = if to > 0.0 && to.is_finite() { to } else { 1.0 };
        let rough = to / 5.0;
        let magnitude = 10f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * magnitude >= rough).unwrap_or(10.0);
        let step = factor * magnitude;
        let steps = (to / step).ceil();
        // Without the digits that binary fractions add.
        let at = |index: usize| (index as f64 * step * 1e6).round() / 1e6;
        let marks = (0..=steps as usize).map(|index| (at(index), show(at(index)))).collect();
        Axis { title: title.to_owned(), from: 0.0, to: steps * step, marks, is_logarithmic: false, unit: "" }
    }

    /// Whole decades that cover `least` to `most`, with marks at powers of ten.
    pub fn decades(title: &str, least: f64, most: f64, show: impl Fn(f64) -> String) -> Axis {
        let power = |value: f64| if value > 0.0 && value.is_finite() { value.log10() } else { 0.0 };
        let low = power(least).floor();
        let high = power(most).ceil().max(low + 1.0);
        let at = |power: i32| if power < 0 { 1.0 / 10f64.powi(-power) } else { 10f64.powi(power) };
        let (low, high) = (low as i32, high as i32);
        let marks = (low..=high).map(|power| (at(power), show(at(power)))).collect();
        Axis { title: title.to_owned(), from: at(low), to: at(high), marks, is_logarithmic: true, unit: "" }
    }

    /// From the least to the largest of `values`, by their ratios, with the marks given.
    pub fn over(title: &str, values: &[f64], marks: Vec<(f64, String)>) -> Axis {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min).max(f64::MIN_POSITIVE);
        let most = values.iter().copied().fold(least, f64::max);
        Axis { title: title.to_owned(), from: least, to: most, marks, is_logarithmic: true, unit: "" }
    }

    /// The same axis, with values in this unit where a page shows them one by one.
    pub fn in_unit(self, unit: &'static str) -> Axis {
        Axis { unit, ..self }
    }

    /// What a page's script has to know of it.
    fn described(&self) -> String {
        let log = if self.is_logarithmic { " log" } else { "" };
        format!("{} {} {}{log}", self.from, self.to, self.unit)
    }

    /// Where a value is: 0 at the beginning, 1 at the end, never outside.
    fn place(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value.max(f64::MIN_POSITIVE) / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        };
        // An axis without any length has everything at its beginning.
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// One line, in the units of its axes.
#[derive(Debug, Clone)]
pub struct Line {
    pub label: String,
    /// A CSS colour.
    pub color: &'static str,
    /// An SVG dash pattern; empty for a solid line.
    pub dashes: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// Bars that stand together.
#[derive(Debug, Clone)]
pub struct Group {
    pub label: String,
    pub bars: Vec<Bar>,
}

#[derive(Debug, Clone)]
pub struct Bar {
    pub label: String,
    /// A CSS colour, the same wherever this label appears.
    pub color: &'static str,
    pub value: f64,
}

/// What a chart shows.
#[derive(Debug, Clone)]
pub enum Series {
    Lines { x: Axis, lines: Vec<Line> },
    Bars(Vec<Group>),
}

#[derive(Debug, Clone)]
pub struct Chart {
    /// Empty where the page says it.
    pub title: String,
    pub subtitle: String,
    pub y: Axis,
    pub series: Series,
    /// A line across at this value.
    pub mark: Option<f64>,
}

impl Chart {
    /// Lines in a page.
    pub fn lines(x: Axis, y: Axis, lines: Vec<Line>) -> Chart {
        Chart { title: String::new(), subtitle: String::new(), y, series: Series::Lines { x, lines }, mark: None }
    }

    /// The room to the right of the lines that half of the last mark's text needs, with characters of this width.
    fn right_margin(&self, character: f64) -> f64 {
        match &self.series {
            Series::Lines { x, .. } => {
                x.marks.last().map_or(0.0, |(_, text)| (text.chars().count() as f64 * character / 2.0).ceil())
            }
            Series::Bars(_) => 0.0,
        }
    }

    /// Every label that a legend explains, with its colour and its dashes, in order of appearance.
    fn legend(&self) -> Vec<(&str, &'static str, &'static str)> {
        let mut seen = BTreeSet::new();
        let all: Vec<_> = match &self.series {
            Series::Lines { lines, .. } => {
                lines.iter().map(|line| (line.label.as_str(), line.color, line.dashes)).collect()
            }
            Series::Bars(groups) => {
                groups.iter().flat_map(|group| &group.bars).map(|bar| (bar.label.as_str(), bar.color, "")).collect()
            }
        };
        all.into_iter().filter(|(label, ..)| seen.insert(*label)).collect()
    }
}

/// A chart as a part of a page, with its legend below, under a name that the page gives no other. What it looks like,
/// and how values are shown under the pointer and by the arrow keys, is in [`crate::page`].
pub fn embedded(chart: &Chart, name: &str) -> String {
    let right = 760.0 - chart.right_margin(PAGE_CHARACTER).max(16.0);
    let area = Area { left: 70.0, right, top: 14.0, bottom: 274.0 };
    let (x, x_described) = match &chart.series {
        Series::Lines { x, .. } => (x.title.as_str(), x.described()),
        Series::Bars(_) => ("", String::new()),
    };
    let description = escape(&format!("{} by {x}", chart.y.title));
    let Area { left, right, top, bottom } = area;
    let hints = format!(
        "data-readout=\"{name}\" data-area=\"{left} {top} {right} {bottom}\" data-x=\"{x_described}\" data-y=\"{}\"",
        chart.y.described()
    );
    let mut text = format!(
        "<div class=\"scroll\"><svg viewBox=\"0 0 760 320\" role=\"img\" tabindex=\"0\" \
         aria-label=\"{description}\" {hints}>\n"
    );
    // Writing to a string does not fail.
    let _ = area.draw(&mut text, chart);
    text.push_str(&format!("</svg></div>\n<p class=\"readout\" id=\"{name}\"></p>\n<p class=\"legend\">\n"));
    for (label, color, dashes) in chart.legend() {
        let line = format!("stroke=\"{color}\" stroke-width=\"2.5\" stroke-dasharray=\"{dashes}\"");
        let label = escape(label);
        text.push_str(
            "<span><svg viewBox=\"0 0 28 8\" aria-hidden=\"true\"><line x1=\"0\" x2=\"28\" y1=\"4\" y2=\"4\" ",
        );
        text.push_str(&format!("{line}/></svg>{label}</span>\n"));
    }
    text.push_str("</p>\n");
    text
}

/// Charts one below the other, as a file of its own.
pub fn document(title: &str, charts: &[Chart]) -> String {
    const WIDTH: f64 = 960.0;
    const HEIGHT: f64 = 380.0;
    let mut parts = String::new();
    let mut upper = 0.0;
    for chart in charts {
        let mut legend = String::new();
        let (mut x, mut rows) = (70.0, 0.0);
        for (label, color, dashes) in chart.legend() {
            let width = 32.0 + CHARACTER * label.chars().count() as f64;
            if x > 70.0 && x + width > WIDTH {
                (x, rows) = (70.0, rows + 18.0);
            }
            let y = upper + rows + 60.0;
            let line = format!("x1=\"{x:.0}\" x2=\"{:.0}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{color}\"", x + 16.0);
            let y = y + 4.0;
            legend += &format!("<line {line} stroke-width=\"8\" stroke-dasharray=\"{dashes}\"/>");
            legend += &format!("<text x=\"{:.0}\" y=\"{y}\">{}</text>\n", x + 21.0, escape(label));
            x += width;
        }
        let (top, bottom) = (upper + rows + 84.0, upper + rows + HEIGHT - 46.0);
        let area = Area { left: 70.0, right: WIDTH - chart.right_margin(CHARACTER).max(20.0), top, bottom };
        // Writing to a string does not fail.
        let _ =
            writeln!(parts, "<text class=\"title\" x=\"70\" y=\"{}\">{}</text>", upper + 24.0, escape(&chart.title))
                .and_then(|()| {
                    writeln!(parts, "<text x=\"70\" y=\"{}\">{}</text>", upper + 42.0, escape(&chart.subtitle))
                })
                .and_then(|()| parts.write_str(&legend))
                .and_then(|()| area.draw(&mut parts, chart));
        upper += rows + HEIGHT;
    }
    let size = format!("viewBox=\"0 0 {WIDTH} {upper}\" width=\"{WIDTH}\" height=\"{upper}\"");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" {size}>\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{parts}</svg>\n",
        escape(title)
    )
}

/// Text made safe for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Where a chart's lines or bars are, in pixels.
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Area {
    fn draw(&self, text: &mut String, chart: &Chart) -> fmt::Result {
        let Area { left, right, top, bottom } = *self;
        for (value, mark) in &chart.y.marks {
            let at = self.up(&chart.y, *value);
            writeln!(text, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>")?;
            let (x, y) = (left - 6.0, at + 4.0);
            writeln!(text, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>", escape(mark))?;
        }
        let (x, y) = (left - 56.0, (top + bottom) / 2.0);
        let turned = format!("transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\"");
        writeln!(text, "<text {turned}>{}</text>", escape(&chart.y.title))?;
        match &chart.series {
            Series::Lines { x, lines } => self.lines(text, x, &chart.y, lines)?,
            Series::Bars(groups) => self.bars(text, &chart.y, groups)?,
        }
        if let Some(mark) = chart.mark {
            let at = self.up(&chart.y, mark);
            let line = format!("x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"");
            writeln!(text, "<line class=\"mark\" {line} stroke-dasharray=\"4 3\"/>")?;
        }
        Ok(())
    }

    fn up(&self, y: &Axis, value: f64) -> f64 {
        self.bottom - y.place(value) * (self.bottom - self.top)
    }

    fn lines(&self, text: &mut String, x: &Axis, y: &Axis, lines: &[Line]) -> fmt::Result {
        let Area { left, right, top, bottom } = *self;
        let across = |value: f64| left + x.place(value) * (right - left);
        for (value, mark) in &x.marks {
            let at = across(*value);
            writeln!(text, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>")?;
            let y = bottom + 16.0;
            writeln!(text, "<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escape(mark))?;
        }
        let (middle, below) = ((left + right) / 2.0, bottom + 38.0);
        writeln!(text, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", escape(&x.title))?;
        for Line { label, color, dashes, points } in lines {
            let name = escape(label);
            let look = format!("fill=\"none\" stroke=\"{color}\" stroke-dasharray=\"{dashes}\"");
            write!(text, "<polyline data-name=\"{name}\" {look} points=\"")?;
            for (at, value) in points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
                write!(text, "{:.1},{:.1} ", across(*at), self.up(y, *value))?;
            }
            writeln!(text, "\"><title>{name}</title></polyline>")?;
        }
        Ok(())
    }

    fn bars(&self, text: &mut String, y: &Axis, groups: &[Group]) -> fmt::Result {
        let room = (self.right - self.left) / groups.len().max(1) as f64;
        for (index, group) in groups.iter().enumerate() {
            let from = self.left + room * index as f64;
            let width = (room * 0.86 / group.bars.len().max(1) as f64).min(60.0);
            let mut x = from + (room - width * group.bars.len() as f64) / 2.0;
            for Bar { label, color, value } in &group.bars {
                let top = self.up(y, *value);
                let (wide, high) = ((width - 1.0).max(0.5), (self.bottom - top).max(0.5));
                let place = format!("x=\"{x:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\"");
                let hover = format!("<title>{}: {value:.3}</title>", escape(label));
                writeln!(text, "<rect {place} fill=\"{color}\">{hover}</rect>")?;
                x += width;
            }
            let (middle, below) = (from + room / 2.0, self.bottom + 18.0);
            let label = escape(&group.label);
            writeln!(text, "<text x=\"{middle:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|mark| mark.1.as_str()).collect()
    }

    fn plain(value: f64) -> String {
        value.to_string()
    }

    #[test]
    fn marks_are_round_and_cover_the_range() {
        assert_eq!(marks(&Axis::linear("", 9.0, plain)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(marks(&Axis::linear("", 0.7, plain)), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(marks(&Axis::linear("", 0.0, plain))[0], "0");
        assert_eq!(marks(&Axis::decades("", 150.0, 15_000.0, plain)), ["100", "1000", "10000", "100000"]);
        assert_eq!(marks(&Axis::decades("", 0.02, 0.02, plain)), ["0.01", "0.1"]);
    }

    #[test]
    fn every_value_has_its_place() {
        let decades = Axis::decades("", 3.0, 700.0, plain);
        assert_eq!((decades.place(1.0), decades.place(1000.0), decades.place(0.0)), (0.0, 1.0, 0.0));
        assert!((decades.place(10.0) - 1.0 / 3.0).abs() < 1e-9);
        // Nothing to show, or one value only, is no reason to fail.
        let empty = Axis::decades("", f64::INFINITY, f64::NEG_INFINITY, plain);
        assert!((0.0..=1.0).contains(&empty.place(5.0)));
        assert_eq!(Axis::over("", &[16.0], Vec::new()).place(16.0), 0.0);
        assert_eq!(Axis::over("", &[], Vec::new()).place(16.0), 0.0);
        assert_eq!(Axis::over("", &[16.0, 32.0, 64.0], Vec::new()).place(32.0), 0.5);
    }

    #[test]
    fn points_lie_inside_and_labels_are_escaped() {
        let axis = || Axis::linear("<t>", 10.0, plain);
        let points = vec![(0.0, 0.0), (10.0, 10.0), (f64::NAN, 1.0), (99.0, -5.0)];
        let lines = vec![Line { label: "a<b".into(), color: "red", dashes: "", points }];
        let svg = embedded(&Chart::lines(axis(), axis().in_unit("count"), lines), "chart");
        assert!(svg.contains("points=\"70.0,274.0 744.0,14.0 744.0,274.0 \""), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("<t>"));
        // What the page's script needs to show values: where the lines are, what is shown there, and in what.
        for part in ["data-name=\"a&lt;b\"", "data-area=\"70 14 744 274\"", "data-x=\"0 10 \"", "data-y=\"0 10 count\""]
        {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(svg.contains("data-readout=\"chart\"") && svg.contains("id=\"chart\""), "{svg}");
    }

    #[test]
    fn the_last_mark_of_an_axis_is_shown_whole() {
        for label in ["256 MiB", "99.999 %", "10", "1,000,000 requests"] {
            let x = Axis::over("size", &[4.0, 256.0], vec![(4.0, "4 MiB".into()), (256.0, label.into())]);
            let points = vec![(4.0, 0.0), (256.0, 10.0)];
            let line = Line { label: "lru".into(), color: "red", dashes: "", points };
            let chart = Chart::lines(x, Axis::linear("missed", 10.0, plain), vec![line]);
            let documented = document("t", std::slice::from_ref(&chart));
            for (svg, width, character) in [(embedded(&chart, "chart"), 760.0, 8.0), (documented, 960.0, 6.8)] {
                let (before, _) = svg.split_once(&format!("\" text-anchor=\"middle\">{label}<")).unwrap();
                let (_, at) = before.rsplit_once("x=\"").unwrap();
                let at: f64 = at.split_once('"').unwrap().0.parse().unwrap();
                let end = at + label.chars().count() as f64 * character / 2.0;
                assert!(end <= width && at > width * 0.8, "{label} ends at {end} of {width}: {svg}");
            }
        }
    }

    #[test]
    fn a_document_names_each_bar_once_in_its_legend() {
        let bar = |label: &str, value| Bar { label: label.into(), color: "red", value };
        let group = |label: &str| Group { label: label.into(), bars: vec![bar("one", 0.5), bar("two", 7.0)] };
        let chart = Chart {
            title: "a&b".into(),
            subtitle: "medians".into(),
            y: Axis::linear("ratio", 7.0, plain),
            series: Series::Bars(vec![group("first"), group("second")]),
            mark: Some(1.0),
        };
        let svg = document("t", &[chart.clone(), chart]);
        assert_eq!(svg.matches(">one</text>").count(), 2, "one for each chart: {svg}");
        assert_eq!(svg.matches("two: 7.000").count(), 4);
        assert!(svg.contains("a&amp;b") && svg.contains("viewBox=\"0 0 960 760\""));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
