//! A figure in a file of its own: panels in rows, with axes, titles and a key.

use std::fmt::Write as _;

use crate::charts::axis::Axis;
use crate::charts::escaped;
use crate::strategies::{Colours, LIST, Strategy};

/// Width of the area a panel draws in.
pub const PLOT_WIDTH: f64 = 380.0;
/// Height of that area.
pub const PLOT_HEIGHT: f64 = 280.0;
const LEFT: f64 = 66.0;
const TOP: f64 = 34.0;
const PANEL: (f64, f64) = (LEFT + PLOT_WIDTH + 24.0, TOP + PLOT_HEIGHT + 54.0);
/// Room of one line of text.
const LINE: f64 = 18.0;

/// What is drawn alike in every figure; strategies bring their own colours.
const STYLE: &str = "text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#333}\
    .title{font-size:15px;font-weight:600;fill:#111}.panel{font-weight:600;fill:#111}\
    .end{text-anchor:end}.mid{text-anchor:middle}\
    .grid{stroke:#000;stroke-opacity:.14;fill:none}.frame{stroke:#555;fill:none}\
    .infeasible{fill:#fff}.tie{fill:url(#tie)}\
    .line{fill:none;stroke-width:2.2;stroke-linejoin:round}.dot{stroke:#fff;stroke-width:1.5}\
    .l-0{stroke:#b5451b}.l-1{stroke:#1f659f;stroke-dasharray:2 3}\
    .l-2{stroke:#c78a00;stroke-dasharray:11 3 2 3}.l-3{stroke:#777;stroke-dasharray:8 4}\
    .zero{stroke:#333;stroke-width:1}";

/// The areas and lines of strategies as a style: classes by their ids.
#[must_use]
pub fn strategies() -> String {
    let rule = |strategy: &Strategy| {
        let Colours { area, line, dashes } = strategy.colours();
        let id = strategy.id();
        let dashed = if dashes.is_empty() { "" } else { ";stroke-dasharray:" };
        format!(".{id}{{fill:{area}}}.l-{id}{{stroke:{line}{dashed}{dashes}}}")
    };
    LIST.iter().map(rule).collect()
}

/// One chart of a figure.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Above the chart.
    pub title: String,
    /// The axis below.
    pub x: Axis,
    /// The axis at the left.
    pub y: Axis,
    /// What is drawn, from (0, 0) at the left top to the plot's width and height.
    pub body: String,
}

/// One line of the key: a symbol 28 wide and 12 high, and its words.
#[derive(Debug, Clone)]
pub struct Key {
    /// The symbol.
    pub symbol: String,
    /// What it stands for.
    pub text: String,
}

/// The figure as an SVG document.
#[must_use]
pub fn svg(title: &str, rows: &[Vec<Panel>], key: &[Key], notes: &[String]) -> String {
    let alone = format!("<style>{STYLE}{}</style>", strategies());
    drawn(title, rows, key, notes, Some(&alone))
}

/// The figure inside a page, whose style has its classes.
#[must_use]
pub fn inline(title: &str, rows: &[Vec<Panel>], key: &[Key]) -> String {
    drawn(title, rows, key, &[], None)
}

fn drawn(
    title: &str,
    rows: &[Vec<Panel>],
    key: &[Key],
    notes: &[String],
    alone: Option<&str>,
) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let width = PANEL.0 * columns as f64 + 8.0;
    let keyed = 40.0;
    let panels = keyed + key_height(key, width) + 6.0;
    let text = panels + PANEL.1 * rows.len() as f64;
    let height = text + LINE * notes.len() as f64 + 10.0;
    let mut svg = format!(
        "<svg{2} viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{0}\">\n{1}\n<defs><pattern \
         id=\"tie\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"2.2\" height=\"7\" fill=\"#fff\" \
         fill-opacity=\".75\"/></pattern></defs>\n",
        escaped(title),
        alone.unwrap_or_default(),
        if alone.is_some() { " xmlns=\"http://www.w3.org/2000/svg\"" } else { "" }
    );
    if alone.is_some() {
        let _ = writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>");
    }
    let _ = writeln!(svg, "<text class=\"title\" x=\"14\" y=\"24\">{}</text>", escaped(title));
    write_key(&mut svg, key, keyed, width);
    for (row, panels_of_row) in rows.iter().enumerate() {
        for (column, panel) in panels_of_row.iter().enumerate() {
            let (x, y) = (PANEL.0 * column as f64 + LEFT, panels + PANEL.1 * row as f64 + TOP);
            write_panel(&mut svg, panel, (x, y));
        }
    }
    for (place, note) in notes.iter().enumerate() {
        let y = text + LINE * (place as f64 + 0.6);
        let _ = writeln!(svg, "<text x=\"14\" y=\"{y:.1}\">{}</text>", escaped(note));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where every line of the key stands: `x` and the row.
fn key_places(key: &[Key], width: f64) -> Vec<(f64, usize)> {
    let (mut x, mut row) = (14.0, 0);
    let place = |key: &Key| {
        // An estimate from above of what 12 px letters take.
        let taken = 34.0 + 7.2 * key.text.chars().count() as f64 + 18.0;
        if x + taken > width && x > 14.0 {
            (x, row) = (14.0, row + 1);
        }
        let at = (x, row);
        x += taken;
        at
    };
    key.iter().map(place).collect()
}

fn key_height(key: &[Key], width: f64) -> f64 {
    let rows = key_places(key, width).last().map_or(0, |(_, row)| row + 1);
    LINE * rows as f64
}

fn write_key(svg: &mut String, key: &[Key], top: f64, width: f64) {
    for (key, (x, row)) in key.iter().zip(key_places(key, width)) {
        let y = top + LINE * row as f64;
        let _ = writeln!(
            svg,
            "<g transform=\"translate({x:.1} {y:.1})\">{}</g><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            key.symbol,
            x + 34.0,
            y + 10.5,
            escaped(&key.text)
        );
    }
}

fn write_panel(svg: &mut String, panel: &Panel, (x, y): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<g transform=\"translate({x:.1} {y:.1})\"><text class=\"panel\" y=\"-10\">{}</text>\n{}",
        escaped(&panel.title),
        panel.body
    );
    for (value, text) in panel.x.ticks() {
        let at = panel.x.at(value) * PLOT_WIDTH;
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} 0V{PLOT_HEIGHT}\"/><text class=\"mid\" \
             x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
            PLOT_HEIGHT + 17.0
        );
    }
    let ticks = panel.y.ticks();
    let widest = ticks.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
    for (value, text) in ticks {
        let at = (1.0 - panel.y.at(value)) * PLOT_HEIGHT;
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M0 {at:.1}H{PLOT_WIDTH}\"/><text class=\"end\" x=\"-7\" \
             y=\"{:.1}\">{text}</text>",
            at + 4.0
        );
    }
    let (across, down) = (PLOT_WIDTH / 2.0, PLOT_HEIGHT / 2.0);
    // Beside the numbers, a digit of which is 6.7 px wide, and within the panel.
    let aside = (12.5 + 6.7 * widest as f64).clamp(50.0, LEFT - 9.0);
    let _ = writeln!(
        svg,
        "<path class=\"frame\" d=\"M0 0V{PLOT_HEIGHT}H{PLOT_WIDTH}\"/><text class=\"mid\" \
         x=\"{across}\" y=\"{:.1}\">{}</text><text class=\"mid\" transform=\"translate(-{aside} \
         {down}) rotate(-90)\">{}</text></g>",
        PLOT_HEIGHT + 38.0,
        escaped(&panel.x.name),
        escaped(&panel.y.name)
    );
}
