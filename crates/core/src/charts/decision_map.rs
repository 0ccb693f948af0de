//! A decision map: cells coloured by the strategy that wins, ties hatched.

use std::fmt::Write as _;

use crate::advice::sensitivity::decision_map::{DecisionMap, MapAxis};
use crate::charts::axis::Axis;
use crate::charts::curves::{self, Curve};
use crate::charts::figure::{Key, PLOT_HEIGHT, PLOT_WIDTH, Panel};
use crate::strategies::Strategy;
use crate::units::Seconds;

/// The quantities that can be swept: their name on an axis, and the unit of its numbers.
const NAMES: [(&str, &str, f64); 8] = [
    ("skewness", "expert skewness s, hottest over mean", 1.0),
    ("link_bandwidth_bytes_per_s", "link bandwidth per device and direction, GB/s", 1e9),
    (
        "inter_node_bandwidth_bytes_per_s",
        "bandwidth between nodes per device and direction, GB/s",
        1e9,
    ),
    ("tokens_per_step", "tokens per step", 1.0),
    ("output_tokens", "output tokens", 1.0),
    ("devices", "devices", 1.0),
    ("predictor_accuracy", "predictor accuracy", 1.0),
    ("predictor_overhead_s", "predictor time per layer, µs", 1e-6),
];

/// The class of a cell where nothing can be run.
const INFEASIBLE: &str = "infeasible";

/// An axis over a swept quantity.
#[must_use]
pub fn axis(parameter: &str, values: &[f64]) -> Axis {
    let known = NAMES.iter().find(|(id, _, _)| *id == parameter);
    let (_, name, unit) = known.copied().unwrap_or(("", "", 1.0));
    Axis::over(name, unit, values)
}

/// An axis over a range in which a quantity was searched: at even ratios where it lies above 0.
#[must_use]
pub fn wide_axis(parameter: &str, range: [f64; 2]) -> Axis {
    let known = NAMES.iter().find(|(id, _, _)| *id == parameter);
    let (_, name, unit) = known.copied().unwrap_or(("", "", 1.0));
    Axis::ratios(name, unit, &range)
}

/// The axes of a sweep as drawn, with the values along each: the second to the right and the first
/// upwards; one axis alone is a strip.
fn grid(map: &DecisionMap) -> [(Axis, &[f64]); 2] {
    let alone = || (Axis::linear("", 1.0, (0.0, 1.0)), &[0.5][..]);
    let drawn = |swept: &MapAxis| axis(swept.parameter, &swept.values);
    match &map.axes[..] {
        [up, right] => [(drawn(right), &right.values[..]), (drawn(up), &up.values[..])],
        [right, ..] => [(drawn(right), &right.values[..]), alone()],
        [] => [(alone().0, &[][..]), (alone().0, &[][..])],
    }
}

/// The winners of a sweep over two axes: the first upwards, the second to the right; one
/// axis alone is a strip.
#[must_use]
pub fn panel(title: &str, map: &DecisionMap) -> Panel {
    let [(x, columns), (y, rows)] = grid(map);
    let (across, up) = (spans(&x, columns), spans(&y, rows));
    let mut body = String::new();
    let cells: Vec<_> = map.rows().collect();
    let winner =
        |row: usize, column: usize| cells[row][column].winner.map_or(INFEASIBLE, Strategy::id);
    for class in Strategy::ALL.map(|(_, id)| id).into_iter().chain([INFEASIBLE]) {
        area(&mut body, class, &across, &up, |row, column| winner(row, column) == class);
    }
    area(&mut body, "tie", &across, &up, |row, column| cells[row][column].tie);
    Panel { title: title.to_owned(), x, y, body }
}

/// The time of a layer under every strategy over the only axis of a sweep, with the keys of the lines.
#[must_use]
pub fn lines(title: &str, map: &DecisionMap) -> (Panel, Vec<Key>) {
    let [(x, values), _] = grid(map);
    let of = |at: usize| -> Vec<(f64, Option<f64>)> {
        let times = map.cells.iter().map(|cell| cell.layer_latency[at].map(Seconds::get));
        values.iter().copied().zip(times).collect()
    };
    let priced: Vec<_> = Strategy::ALL
        .into_iter()
        .enumerate()
        .map(|(at, (_, id))| (id, format!("l-{id}"), of(at)))
        .filter(|(_, _, points)| points.iter().any(|(_, time)| time.is_some()))
        .collect();
    let times = || priced.iter().flat_map(|(_, _, points)| points).filter_map(|(_, time)| *time);
    let (low, high) = (times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max));
    let room = (0.06 * (high - low)).max(0.02 * high);
    let y = Axis::linear("time of a layer, µs", 1e-6, ((low - room).max(0.0), high + room));
    let mut drawn: Vec<Curve<'_>> = Vec::new();
    for (_, class, points) in &priced {
        drawn.push(Curve { class, points: points.clone(), dot: None });
    }
    let key = |(id, class, _): &(&str, String, _)| Key {
        symbol: curves::symbol(class),
        text: (*id).to_owned(),
    };
    let key = priced.iter().map(key).collect();
    (Panel { title: title.to_owned(), body: curves::body(&x, &y, &drawn), x, y }, key)
}

/// Margins over the runner-up from which a cell is drawn less pale.
pub const MARGINS: [f64; 3] = [0.02, 0.05, 0.1];

/// What makes the cells of a map the paler the smaller the margin is: classes `pale-0` to `pale-2`.
#[must_use]
pub fn shade(map: &DecisionMap) -> String {
    let [(x, columns), (y, rows)] = grid(map);
    let (across, up) = (spans(&x, columns), spans(&y, rows));
    let cells: Vec<_> = map.rows().collect();
    let level = |row: usize, column: usize| {
        let margin = cells[row][column].margin;
        MARGINS.partition_point(|from| *from <= margin)
    };
    let mut body = String::new();
    for (number, class) in ["pale-0", "pale-1", "pale-2"].into_iter().enumerate() {
        area(&mut body, class, &across, &up, |row, column| level(row, column) == number);
    }
    body
}

/// The strategies that win somewhere in these sweeps, and what else is drawn.
#[must_use]
pub fn key(maps: &[&DecisionMap]) -> Vec<Key> {
    let cells = || maps.iter().flat_map(|map| &map.cells);
    let area = |class: &str| {
        format!("<rect class=\"{class}\" width=\"28\" height=\"12\" stroke=\"#888\"/>")
    };
    let mut key: Vec<Key> = Strategy::ALL
        .into_iter()
        .filter(|(strategy, _)| cells().any(|cell| cell.winner == Some(*strategy)))
        .map(|(_, id)| Key { symbol: area(id), text: id.to_owned() })
        .collect();
    if cells().any(|cell| cell.tie) {
        let symbol = format!("{}{}", area("distribution_only"), area("tie"));
        key.push(Key { symbol, text: "equal within the error band".to_owned() });
    }
    if cells().any(|cell| cell.winner.is_none()) {
        key.push(Key { symbol: area(INFEASIBLE), text: "nothing can be run".to_owned() });
    }
    key
}

/// The cell of a value: from half way to its neighbours, in order of values.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    index: usize,
    from: f64,
    to: f64,
}

fn spans(axis: &Axis, values: &[f64]) -> Vec<Span> {
    let mut places: Vec<(usize, f64)> =
        values.iter().map(|value| axis.at(*value)).enumerate().collect();
    places.sort_by(|a, b| a.1.total_cmp(&b.1));
    let edge = |place: usize| f64::midpoint(places[place - 1].1, places[place].1);
    let last = places.len().saturating_sub(1);
    let span = |(place, (index, _)): (usize, &(usize, f64))| Span {
        index: *index,
        from: if place == 0 { 0.0 } else { edge(place) },
        to: if place == last { 1.0 } else { edge(place + 1) },
    };
    places.iter().enumerate().map(span).collect()
}

/// Draws the cells for which `is` holds, runs of a row as one.
fn area(
    body: &mut String,
    class: &str,
    across: &[Span],
    up: &[Span],
    is: impl Fn(usize, usize) -> bool,
) {
    let mut path = String::new();
    for row in up {
        let (top, bottom) = ((1.0 - row.to) * PLOT_HEIGHT, (1.0 - row.from) * PLOT_HEIGHT);
        for run in across.chunk_by(|a, b| is(row.index, a.index) == is(row.index, b.index)) {
            let [first, ..] = run else { continue };
            let last = run.last().unwrap_or(first);
            if is(row.index, first.index) {
                let (left, right) = (first.from * PLOT_WIDTH, last.to * PLOT_WIDTH);
                let _ = write!(path, "M{left:.1} {top:.1}H{right:.1}V{bottom:.1}H{left:.1}z");
            }
        }
    }
    if !path.is_empty() {
        let _ =
            writeln!(body, "<path class=\"{class}\" shape-rendering=\"crispEdges\" d=\"{path}\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_reach_half_way_to_their_neighbours_in_any_order() {
        let axis = Axis::linear("x", 1.0, (0.0, 10.0));
        let found = spans(&axis, &[10.0, 0.0, 4.0]);
        let expected = [(1, 0.0, 0.2), (2, 0.2, 0.7), (0, 0.7, 1.0)];
        for (span, (index, from, to)) in found.iter().zip(expected) {
            assert_eq!(span.index, index);
            assert!((span.from - from).abs() < 1e-12 && (span.to - to).abs() < 1e-12, "{span:?}");
        }
    }

    #[test]
    fn runs_of_equal_cells_are_one() {
        let spans = spans(&Axis::linear("x", 1.0, (0.0, 3.0)), &[0.0, 1.0, 2.0, 3.0]);
        let mut body = String::new();
        area(&mut body, "none", &spans, &spans[..1], |_, column| column != 2);
        assert_eq!(body.matches('M').count(), 2, "{body}");
    }
}
