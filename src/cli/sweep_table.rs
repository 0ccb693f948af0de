//! A sweep as a map of letters, as a table, and as CSV.

use std::io::{self, Write};

use comfy_table::{Table, presets};

use moe_gps_core::advice::sensitivity::decision_map::{DecisionMap, MapAxis};
use moe_gps_core::strategies::Strategy;

/// Writes a map of letters, or for one axis a table.
pub(super) fn write(
    out: &mut dyn Write,
    swept: &DecisionMap,
    warnings: &[String],
) -> io::Result<()> {
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    match &swept.axes[..] {
        [rows, columns] => map(out, swept, rows, columns)?,
        [only] => table(out, swept, only)?,
        _ => {}
    }
    let cells = &swept.cells;
    let of = |n: usize| n as f64 / cells.len().max(1) as f64 * 100.0;
    for (strategy, id) in Strategy::ALL {
        let n = cells.iter().filter(|cell| cell.winner == Some(strategy)).count();
        if 0 < n {
            let letter = strategy.letter();
            writeln!(out, "  {letter} {id}: {:.1} % of the cells", of(n))?;
        }
    }
    let ties = cells.iter().filter(|cell| cell.tie).count();
    if 0 < ties {
        writeln!(
            out,
            "  small letters: the fastest is not known to be faster than the baseline, {:.1} %",
            of(ties)
        )?;
    }
    if cells.iter().any(|cell| cell.winner.is_none()) {
        writeln!(out, "  -: nothing can be run")?;
    }
    Ok(())
}

fn map(
    out: &mut dyn Write,
    swept: &DecisionMap,
    rows: &MapAxis,
    columns: &MapAxis,
) -> io::Result<()> {
    writeln!(out, "down: {}, across: {}", rows.parameter, columns.parameter)?;
    let labels: Vec<String> = rows.values.iter().map(|value| shown(*value)).collect();
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    for (label, row) in labels.iter().zip(swept.rows()) {
        let line: String = row.iter().map(|cell| letter(cell.winner, cell.tie)).collect();
        writeln!(out, "{label:>width$} |{line}")?;
    }
    let ends = [columns.values.first(), columns.values.last()];
    let [first, last] = ends.map(|value| value.map_or_else(String::new, |value| shown(*value)));
    let gap = columns.values.len().saturating_sub(first.len());
    writeln!(out, "{:>width$} |{first}{last:>gap$}", "")
}

fn table(out: &mut dyn Write, swept: &DecisionMap, axis: &MapAxis) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let mut header = vec![axis.parameter.to_owned(), "winner".to_owned(), "margin".to_owned()];
    header.extend(Strategy::ALL.map(|(_, id)| format!("{id} µs")));
    table.set_header(header);
    for (cell, value) in swept.cells.iter().zip(&axis.values) {
        let winner = cell.winner.map_or("-", Strategy::id);
        let tie = if cell.tie { " (tie)" } else { "" };
        let margin = format!("{:.1} %", cell.margin * 100.0);
        let mut row = vec![shown(*value), format!("{winner}{tie}"), margin];
        row.extend(cell.layer_latency.map(|latency| {
            latency.map_or_else(|| "-".to_owned(), |latency| format!("{:.1}", latency.get() * 1e6))
        }));
        table.add_row(row);
    }
    writeln!(out, "{table}")
}

/// The letter of a winner, small where it only ties.
fn letter(winner: Option<Strategy>, tie: bool) -> char {
    let letter = winner.map_or('-', |strategy| strategy.letter());
    if tie { letter.to_ascii_lowercase() } else { letter }
}

/// A value the way a person would write it.
fn shown(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        format!("{value:.3e}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_ties_small() {
        assert_eq!(
            [1.5, 300e9, 0.000_153, 512.0, 0.0].map(shown),
            ["1.5", "3.000e11", "1.530e-4", "512", "0"]
        );
        assert_eq!(letter(Some(moe_gps_core::strategies::NONE), true), 'n');
        assert_eq!(letter(None, false), '-');
    }
}
