//! Stacked bars, one below the other, with whiskers and a line across all of them.

use std::fmt::Write as _;

use crate::charts::escaped;
use crate::charts::inline::open;

/// Where bars begin, and how long the longest is.
const BARS: (f64, f64) = (230.0, 600.0);
/// Room above the first bar, distance between two, and height of one.
const ROWS: (f64, f64, f64) = (24.0, 32.0, 20.0);

/// A bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Stands before it.
    pub name: String,
    /// Its parts from left to right.
    pub parts: Vec<Part>,
    /// Its value: the sum of the parts, less what of them runs beside others.
    pub total: f64,
    /// Between which values the total may lie.
    pub whisker: Option<[f64; 2]>,
    /// Stands behind it.
    pub text: String,
    /// Whether it is the one that is advised.
    pub marked: bool,
}

/// A part of a bar.
#[derive(Debug, Clone)]
pub struct Part {
    /// Number of its colour: the classes `t0`, `t1` and so on.
    pub colour: usize,
    /// What it is, with its value.
    pub text: String,
    /// Its length, in the unit of the totals; none below 0 is drawn.
    pub value: f64,
}

/// Bars as inline SVG, with a dashed line at a value and the words above it.
#[must_use]
pub fn chart(label: &str, bars: &[Bar], line: Option<(f64, &str)>) -> String {
    let ends = bars.iter().flat_map(|bar| {
        let parts = bar.parts.iter().map(|part| part.value.max(0.0)).sum::<f64>();
        [parts, bar.total, bar.whisker.map_or(0.0, |[_, high]| high)]
    });
    let longest = ends.chain(line.map(|(value, _)| value)).fold(f64::MIN_POSITIVE, f64::max);
    let at = |value: f64| BARS.0 + BARS.1 * value / longest;
    let bottom = ROWS.0 + ROWS.1 * bars.len() as f64;
    let mut svg = open(bottom + 4.0, label);
    for (row, bar) in bars.iter().enumerate() {
        draw(&mut svg, bar, ROWS.0 + ROWS.1 * row as f64, at);
    }
    if let Some((value, words)) = line {
        let x = at(value);
        let _ = write!(
            svg,
            "<path class=\"ceiling\" d=\"M{x:.1} {}V{bottom:.1}\"/><text class=\"mid\" \
             x=\"{x:.1}\" y=\"13\">{}</text>",
            ROWS.0 - 6.0,
            escaped(words)
        );
    }
    svg + "</svg>"
}

fn draw(svg: &mut String, bar: &Bar, y: f64, at: impl Fn(f64) -> f64) {
    let (middle, baseline) = (y + ROWS.2 / 2.0, y + ROWS.2 / 2.0 + 4.0);
    let class = if bar.marked { "end strong" } else { "end" };
    let _ = write!(
        svg,
        "<text class=\"{class}\" x=\"{}\" y=\"{baseline}\">{}</text>",
        BARS.0 - 10.0,
        escaped(&bar.name)
    );
    let mut end = 0.0;
    for Part { colour, text, value } in bar.parts.iter().filter(|part| part.value > 0.0) {
        let (from, to) = (at(end), at(end + value));
        let _ = write!(
            svg,
            "<rect class=\"part t{colour}\" x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" \
             height=\"{}\"><title>{}</title></rect>",
            to - from,
            ROWS.2,
            escaped(text)
        );
        end += value;
    }
    if bar.total < end * (1.0 - 1e-9) {
        let from = at(bar.total);
        let _ = write!(
            svg,
            "<rect class=\"beside\" x=\"{from:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\">\
             <title>runs beside other work</title></rect>",
            at(end) - from,
            ROWS.2
        );
    }
    let mut behind = at(end.max(bar.total));
    if let Some([low, high]) = bar.whisker {
        let (low, high) = (at(low), at(high));
        let (top, bottom) = (middle - 5.0, middle + 5.0);
        let _ = write!(
            svg,
            "<path class=\"whisker\" d=\"M{low:.1} {middle}H{high:.1}M{low:.1} {top}V{bottom}\
             M{high:.1} {top}V{bottom}\"/>"
        );
        behind = behind.max(high);
    }
    let class = if bar.marked { " class=\"strong\"" } else { "" };
    let _ = write!(
        svg,
        "<text{class} x=\"{:.1}\" y=\"{baseline}\">{}</text>",
        behind + 8.0,
        escaped(&bar.text)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_end_to_end_and_what_runs_beside_is_marked() {
        let part = |colour, value| Part { colour, text: format!("<{value}>"), value };
        let bar = Bar {
            name: "a&b".to_owned(),
            parts: vec![part(0, 30.0), part(4, 60.0), part(5, 0.0)],
            total: 80.0,
            whisker: Some([70.0, 100.0]),
            text: "80 µs".to_owned(),
            marked: true,
        };
        let drawn = chart("bars", &[bar], Some((50.0, "ceiling")));
        // 100, the longest, is 600 wide and begins at 230.
        assert!(drawn.contains("t0\" x=\"230.0\" y=\"24\" width=\"180.0\""), "{drawn}");
        assert!(drawn.contains("t4\" x=\"410.0\" y=\"24\" width=\"360.0\""), "{drawn}");
        assert!(drawn.contains("beside\" x=\"710.0\" y=\"24\" width=\"60.0\""), "{drawn}");
        assert!(drawn.contains("M650.0 34H830.0"), "{drawn}");
        assert!(drawn.contains("ceiling\" d=\"M530.0 18V56.0\""), "{drawn}");
        assert!(!drawn.contains("t5") && !drawn.contains("a&b") && !drawn.contains("<30>"));
    }
}
