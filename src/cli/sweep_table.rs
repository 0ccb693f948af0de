//! A sweep as a map of letters, as a table, and as CSV.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use crate::cli::answer_table::wrapped;
use crate::wire::written::quantity;
use moe_gps_core::advice::sensitivity::decision_map::{DecisionMap, MapAxis};
use moe_gps_core::strategies::Strategy;

/// Writes a map of letters, or for one axis a table.
pub(super) fn write(
    out: &mut dyn Write,
    swept: &DecisionMap,
    warnings: &[String],
) -> io::Result<()> {
    for warning in warnings {
        writeln!(out, "{}", wrapped(&format!("warning: {warning}")))?;
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
    let [(down, written), (across, written_across)] =
        [rows, columns].map(|axis| quantity(axis.parameter));
    writeln!(out, "down: {}, across: {}", down.replace('_', " "), across.replace('_', " "))?;
    let labels: Vec<String> = rows.values.iter().map(|value| written(*value)).collect();
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    for (label, row) in labels.iter().zip(swept.rows()) {
        let line: String = row.iter().map(|cell| letter(cell.winner, cell.tie)).collect();
        writeln!(out, "{label:>width$} |{line}")?;
    }
    // The values of the outer columns below them: the last one may reach beyond the map.
    let [first, last] = [columns.values.first(), columns.values.last()]
        .map(|value| value.map_or_else(String::new, |value| written_across(*value)));
    let gap = columns.values.len().saturating_sub(first.chars().count()).max(last.len() + 2);
    let ends = if columns.values.len() > 1 { format!("{first}{last:>gap$}") } else { first };
    writeln!(out, "{:>width$}  {ends}", "")
}

fn table(out: &mut dyn Write, swept: &DecisionMap, axis: &MapAxis) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let (name, written) = quantity(axis.parameter);
    let mut header = vec![name.replace(['_', ' '], "\n"), "winner".to_owned(), "margin".to_owned()];
    header.extend(Strategy::ALL.map(|(_, id)| format!("{}\nµs", id.replace('_', "\n"))));
    table.set_header(header);
    for (cell, value) in swept.cells.iter().zip(&axis.values) {
        let winner = cell.winner.map_or("-", Strategy::id);
        let margin =
            if cell.tie { "tie".to_owned() } else { format!("{:.1} %", cell.margin * 100.0) };
        let mut row = vec![written(*value), winner.to_owned(), margin];
        row.extend(cell.layer_latency.map(|latency| {
            latency.map_or_else(|| "-".to_owned(), |latency| format!("{:.1}", latency.get() * 1e6))
        }));
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{}", table.trim_fmt())
}

/// The letter of a winner, small where it only ties.
fn letter(winner: Option<Strategy>, tie: bool) -> char {
    let letter = winner.map_or('-', |strategy| strategy.letter());
    if tie { letter.to_ascii_lowercase() } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_small() {
        assert_eq!(letter(Some(moe_gps_core::strategies::NONE), true), 'n');
        assert_eq!(letter(None, false), '-');
    }
}
