//! The winners of a sweep as a map over its axes.

use super::sweep::Cell;
use crate::strategies::Strategy;
use crate::units::Seconds;

/// A quantity with the values it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct MapAxis {
    /// The quantity, as requests name it.
    pub parameter: &'static str,
    /// Its values.
    pub values: Vec<f64>,
}

/// Which strategy wins where: a row of cells per value of the first axis, in it a cell per value
/// of the second; with one axis a single row.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionMap {
    /// One or two axes.
    pub axes: Vec<MapAxis>,
    /// The cells, row by row.
    pub cells: Vec<Cell>,
}

impl DecisionMap {
    /// The rows of the map.
    pub fn rows(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunks(self.axes.last().map_or(1, |axis| axis.values.len().max(1)))
    }

    /// The map as one value of every cell, row by row.
    pub fn matrix<T>(&self, of: impl Fn(&Cell) -> T) -> Vec<Vec<T>> {
        self.rows().map(|row| row.iter().map(&of).collect()).collect()
    }

    /// The cells as CSV, one line each: the values of the axes, the choice, and every strategy's
    /// layer latency in seconds.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut header: Vec<String> =
            self.axes.iter().map(|axis| axis.parameter.to_owned()).collect();
        header.extend(["winner", "margin_over_runner_up", "tie"].map(str::to_owned));
        header.extend(Strategy::ALL.map(|(_, id)| format!("{id}_layer_latency_s")));
        let mut lines = vec![header.join(",")];
        for (i, row) in self.rows().enumerate() {
            for (j, cell) in row.iter().enumerate() {
                let at = match &self.axes[..] {
                    [first, second] => vec![first.values[i], second.values[j]],
                    [only] => vec![only.values[j]],
                    _ => Vec::new(),
                };
                let mut line: Vec<String> = at.iter().map(f64::to_string).collect();
                line.push(cell.winner.map_or("", Strategy::id).to_owned());
                line.extend([cell.margin.to_string(), cell.tie.to_string()]);
                let text = |latency: Option<Seconds>| latency.map(|s| s.get().to_string());
                line.extend(cell.layer_latency.map(|latency| text(latency).unwrap_or_default()));
                lines.push(line.join(","));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
