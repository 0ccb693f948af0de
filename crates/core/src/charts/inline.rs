//! The charts of a page, as inline SVG that takes its colours from the page's style.

use std::fmt::Write as _;

use crate::charts::axis::{number, tick_step};
use crate::charts::escaped;

/// Width of every chart, in its own units.
pub(super) const WIDTH: f64 = 960.0;
/// Room for the labels of the left axis.
const LEFT: f64 = 52.0;
/// Most columns and rows of a heat map; more are taken together.
const MOST: (usize, usize) = (512, 256);
/// Load over mean at which the colour of a heat map changes.
pub const LEVELS: [f64; 8] = [0.25, 0.5, 0.8, 1.25, 1.5, 2.0, 3.0, 4.0];

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// What it shows.
    pub name: String,
    /// Values at equal distances.
    pub values: &'a [f64],
}

/// Layers × experts, coloured by load over mean.
#[must_use]
pub fn heat_map(shares: &[Vec<f64>], layers: &[u16]) -> String {
    let n_experts = shares.first().map_or(0, Vec::len);
    let (per_column, per_row) =
        (n_experts.div_ceil(MOST.0).max(1), shares.len().div_ceil(MOST.1).max(1));
    let (columns, rows) = (n_experts.div_ceil(per_column), shares.len().div_ceil(per_row));
    let row_height = (560.0 / rows.max(1) as f64).clamp(5.0, 22.0);
    let (width, height) = (WIDTH - LEFT - 8.0, row_height * rows as f64);
    let mut svg = open(height + 40.0, "Load of every expert in every layer, over the mean");
    let _ = write!(
        svg,
        "<svg x=\"{LEFT}\" y=\"6\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {columns} \
         {rows}\" preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">"
    );
    for (level, path) in paths(shares, per_column, per_row).iter().enumerate() {
        if !path.is_empty() {
            let _ = write!(svg, "<path class=\"h{level}\" d=\"{path}\"/>");
        }
    }
    svg.push_str("</svg>");
    for row in ticks(rows) {
        let y = 6.0 + row_height * (row as f64 + 0.5) + 4.0;
        let layer = layers.get(row * per_row).copied().unwrap_or_default();
        let _ = write!(svg, "<text class=\"end\" x=\"{}\" y=\"{y:.1}\">{layer}</text>", LEFT - 6.0);
    }
    for column in ticks(columns) {
        let x = LEFT + width * (column as f64 + 0.5) / columns.max(1) as f64;
        let expert = column * per_column;
        let y = height + 20.0;
        let _ = write!(svg, "<text class=\"mid\" x=\"{x:.1}\" y=\"{y:.1}\">{expert}</text>");
    }
    let (x, y) = (LEFT + width / 2.0, height + 37.0);
    let _ = write!(svg, "<text class=\"mid\" x=\"{x:.1}\" y=\"{y:.1}\">expert</text></svg>");
    svg
}

/// A cell of a map of devices: its load over the mean of all cells, and what is said where one points.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Load over mean.
    pub ratio: f64,
    /// In words.
    pub about: String,
}

/// Devices × slots, coloured by load over mean; rows and cells as they are given.
#[must_use]
pub fn device_map(name: &str, devices: &[(String, Vec<Cell>)]) -> String {
    let columns = devices.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
    let row_height = (360.0 / devices.len().max(1) as f64).clamp(7.0, 20.0);
    let (left, height) = (LEFT + 40.0, row_height * devices.len() as f64);
    let width = WIDTH - left - 8.0;
    let mut svg = open(height + 12.0, name);
    let _ = write!(
        svg,
        "<svg class=\"cells\" x=\"{left}\" y=\"6\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 \
         {columns} {}\" preserveAspectRatio=\"none\" shape-rendering=\"crispEdges\">",
        devices.len()
    );
    // There are hundreds of cells: their size is in the style, and equal neighbours have one class.
    for (y, (_, cells)) in devices.iter().enumerate() {
        let _ = write!(svg, "<g transform=\"translate(0 {y})\">");
        let mut x = 0;
        for run in cells.chunk_by(|a, b| level(a.ratio) == level(b.ratio)) {
            let _ = write!(svg, "<g class=\"h{}\">", level(run[0].ratio));
            for Cell { about, .. } in run {
                let _ = write!(svg, "<rect x=\"{x}\"><title>{}</title></rect>", escaped(about));
                x += 1;
            }
            svg.push_str("</g>");
        }
        svg.push_str("</g>");
    }
    svg.push_str("</svg>");
    let every = devices.len().div_ceil(18).max(1);
    for (at, (label, _)) in devices.iter().enumerate().step_by(every) {
        let y = 6.0 + row_height * (at as f64 + 0.5) + 4.0;
        let label = escaped(label);
        let _ = write!(svg, "<text class=\"end\" x=\"{}\" y=\"{y:.1}\">{label}</text>", left - 6.0);
    }
    svg + "</svg>"
}

/// One path per colour, of runs of equal cells; of cells taken together the busiest counts.
fn paths(shares: &[Vec<f64>], per_column: usize, per_row: usize) -> Vec<String> {
    let mut paths = vec![String::new(); LEVELS.len() + 1];
    for (y, rows) in shares.chunks(per_row).enumerate() {
        let n_experts = rows[0].len();
        let level = |column: usize| {
            let cells = column * per_column..((column + 1) * per_column).min(n_experts);
            let loads = rows.iter().flat_map(|row| &row[cells.clone()]);
            level(loads.fold(0.0, |most: f64, share| most.max(*share)) * n_experts as f64)
        };
        let levels: Vec<usize> = (0..n_experts.div_ceil(per_column)).map(level).collect();
        let mut x = 0;
        for run in levels.chunk_by(|a, b| a == b) {
            let n = run.len();
            let _ = write!(paths[run[0]], "M{x} {y}h{n}v1h-{n}z");
            x += n;
        }
    }
    paths
}

/// The colour of a load over the mean.
#[must_use]
pub fn level(ratio: f64) -> usize {
    LEVELS.partition_point(|from| *from <= ratio)
}

/// Places to label of so many: about eight, the first among them.
fn ticks(n: usize) -> impl Iterator<Item = usize> {
    (0..n).step_by(n.div_ceil(8).max(1))
}

/// A stretch of labels behind the lines of a chart, the first and the last within.
#[derive(Debug, Clone)]
pub struct Band {
    /// Places of its first and its last label.
    pub places: [usize; 2],
    /// Its class.
    pub class: &'static str,
    /// Said where one points.
    pub about: String,
}

/// Lines over `labels`, the y axis from `floor` on.
#[must_use]
pub fn line_chart(lines: &[Line<'_>], labels: &[String], names: [&str; 2], floor: f64) -> String {
    line_chart_over(&[], lines, labels, names, floor)
}

/// The same, with stretches behind them.
#[must_use]
pub fn line_chart_over(
    bands: &[Band],
    lines: &[Line<'_>],
    labels: &[String],
    [x_name, y_name]: [&str; 2],
    floor: f64,
) -> String {
    let (height, top, bottom) = (250.0, 22.0, 44.0);
    let most = lines.iter().flat_map(|line| line.values).fold(floor, |most, y| most.max(*y));
    let step = tick_step(most - floor);
    let most = floor + ((most - floor) / step).ceil().max(1.0) * step;
    let width = WIDTH - LEFT - 16.0;
    let n = labels.len();
    let x = |place: usize| {
        let share = if n > 1 { place as f64 / (n - 1) as f64 } else { 0.5 };
        LEFT + width * share
    };
    let y = |value: f64| top + (height - top - bottom) * (1.0 - (value - floor) / (most - floor));
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    let mut svg = open(height, &format!("{y_name} over {x_name}: {}", names.join(", ")));
    // A band reaches half way to the labels beside it.
    let half = if n > 1 { width / (n - 1) as f64 / 2.0 } else { width / 2.0 };
    for Band { places: [first, last], class, about } in bands {
        let from = (x(*first) - half).max(LEFT);
        let to = (x(*last) + half).min(LEFT + width);
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" \
             height=\"{}\"><title>{}</title></rect>",
            to - from,
            height - top - bottom,
            escaped(about)
        );
    }
    let mut grid = floor;
    while grid <= most + step * 1e-6 {
        let at = y(grid);
        let label = number(grid, step);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}h{width}\"/><text class=\"end\" x=\"{}\" \
             y=\"{:.1}\">{label}</text>",
            LEFT - 6.0,
            at + 4.0
        );
        grid += step;
    }
    for place in ticks(n) {
        let at = x(place);
        let _ = write!(
            svg,
            "<text class=\"mid\" x=\"{at:.1}\" y=\"{}\">{}</text>",
            height - bottom + 17.0,
            escaped(&labels[place])
        );
    }
    for (number, line) in lines.iter().enumerate() {
        let points: Vec<String> = line
            .values
            .iter()
            .enumerate()
            .map(|(place, value)| format!("{:.1},{:.1}", x(place), y(*value)))
            .collect();
        if let [only] = &points[..] {
            let (cx, cy) = only.split_once(',').unwrap_or_default();
            let _ =
                write!(svg, "<circle class=\"dot c{number}\" cx=\"{cx}\" cy=\"{cy}\" r=\"4\"/>");
        } else {
            let _ =
                write!(svg, "<polyline class=\"line c{number}\" points=\"{}\"/>", points.join(" "));
        }
    }
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"12\">{}</text><text class=\"mid\" x=\"{:.1}\" y=\"{}\">{}</text></svg>",
        escaped(y_name),
        LEFT + width / 2.0,
        height - 6.0,
        escaped(x_name)
    );
    svg
}

/// The key of a chart of lines.
#[must_use]
pub fn legend(lines: &[Line<'_>]) -> String {
    let mut legend = "<p class=\"legend\">".to_owned();
    for (number, line) in lines.iter().enumerate() {
        let _ = write!(
            legend,
            "<span><svg viewBox=\"0 0 28 8\"><path class=\"line c{number}\" d=\"M1 4h26\"/></svg> \
             {}</span>",
            escaped(&line.name)
        );
    }
    legend + "</p>"
}

/// What a chart of that height begins with.
pub(super) fn open(height: f64, label: &str) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height:.1}\" role=\"img\" aria-label=\"{}\">",
        escaped(label)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_band_reaches_half_way_to_its_neighbours() {
        let labels = ["a", "b", "c"].map(ToOwned::to_owned);
        let line = [Line { name: "r".to_owned(), values: &[1.0, 2.0, 1.0] }];
        let band = |places| Band { places, class: "turned", about: "<".to_owned() };
        let drawn = line_chart_over(&[band([1, 1]), band([2, 2])], &line, &labels, ["x", "y"], 1.0);
        // 892 wide from 52 on, a label every 446.
        assert!(drawn.contains("turned\" x=\"275.0\" y=\"22\" width=\"446.0\""), "{drawn}");
        assert!(drawn.contains("turned\" x=\"721.0\" y=\"22\" width=\"223.0\""), "{drawn}");
        assert!(drawn.contains("<title>&lt;</title>"), "{drawn}");
    }

    #[test]
    fn equal_neighbours_are_one_run_of_the_heat_map() {
        // Four experts: ratios 2, 2, 0, 0 in the first layer, all 1 in the second.
        let shares = [vec![0.5, 0.5, 0.0, 0.0], vec![0.25; 4]];
        let found = paths(&shares, 1, 1);
        assert_eq!(found[level(2.0)], "M0 0h2v1h-2z");
        assert_eq!(found[level(0.0)], "M2 0h2v1h-2z");
        assert_eq!(found[level(1.0)], "M0 1h4v1h-4z");
        assert_eq!(found.iter().filter(|path| !path.is_empty()).count(), 3);
        // Two experts to a column: the busier one counts.
        assert_eq!(paths(&[vec![0.5, 0.0, 0.25, 0.25]], 2, 1)[level(2.0)], "M0 0h1v1h-1z");
    }
}
