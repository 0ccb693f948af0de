//! A sweep as a map of letters, as a table, and as CSV.

use std::io::{self, Write};

use comfy_table::{Table, presets};

use crate::wire::sweep::{AnsweredAxis, SweepAnswer};

/// The letter of every strategy on a map; small where it only ties.
const LETTERS: [(&str, char); 4] =
    [("none", 'N'), ("replace_only", 'R'), ("distribution_only", 'D'), ("token_to_expert", 'T')];

/// Writes a map of letters, or for one axis a table.
pub(super) fn write(out: &mut dyn Write, answer: &SweepAnswer) -> io::Result<()> {
    for warning in &answer.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    match &answer.axes[..] {
        [rows, columns] => map(out, answer, rows, columns)?,
        [only] => table(out, answer, only)?,
        _ => {}
    }
    let cells: Vec<Option<&str>> = answer.winner.iter().flatten().copied().collect();
    let of = |n: usize| n as f64 / cells.len().max(1) as f64 * 100.0;
    for (strategy, letter) in LETTERS {
        let n = cells.iter().filter(|winner| **winner == Some(strategy)).count();
        if 0 < n {
            writeln!(out, "  {letter} {strategy}: {:.1} % of the cells", of(n))?;
        }
    }
    let ties = answer.tie.iter().flatten().filter(|tie| **tie).count();
    if 0 < ties {
        writeln!(out, "  small letters: equal within the error band, {:.1} %", of(ties))?;
    }
    if cells.contains(&None) {
        writeln!(out, "  -: nothing can be run")?;
    }
    Ok(())
}

fn map(
    out: &mut dyn Write,
    answer: &SweepAnswer,
    rows: &AnsweredAxis,
    columns: &AnsweredAxis,
) -> io::Result<()> {
    writeln!(out, "down: {}, across: {}", rows.parameter, columns.parameter)?;
    let labels: Vec<String> = rows.values.iter().map(|value| shown(*value)).collect();
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    for ((label, winners), ties) in labels.iter().zip(&answer.winner).zip(&answer.tie) {
        let line: String = winners.iter().zip(ties).map(|(w, tie)| letter(*w, *tie)).collect();
        writeln!(out, "{label:>width$} |{line}")?;
    }
    let ends = [columns.values.first(), columns.values.last()];
    let [first, last] = ends.map(|value| value.map_or_else(String::new, |value| shown(*value)));
    let gap = columns.values.len().saturating_sub(first.len());
    writeln!(out, "{:>width$} |{first}{last:>gap$}", "")
}

fn table(out: &mut dyn Write, answer: &SweepAnswer, axis: &AnsweredAxis) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let mut header = vec![axis.parameter.to_owned(), "winner".to_owned(), "margin".to_owned()];
    header.extend(LETTERS.map(|(strategy, _)| format!("{strategy} µs")));
    table.set_header(header);
    let matrices = answer.layer_latency_s.all();
    for (place, value) in axis.values.iter().enumerate() {
        let winner = answer.winner[0][place].unwrap_or("-");
        let tie = if answer.tie[0][place] { " (tie)" } else { "" };
        let margin = format!("{:.1} %", answer.margin_over_runner_up[0][place] * 100.0);
        let mut row = vec![shown(*value), format!("{winner}{tie}"), margin];
        row.extend(matrices.map(|matrix| {
            matrix[0][place]
                .map_or_else(|| "-".to_owned(), |latency| format!("{:.1}", latency * 1e6))
        }));
        table.add_row(row);
    }
    writeln!(out, "{table}")
}

fn letter(winner: Option<&str>, tie: bool) -> char {
    let letter = LETTERS.iter().find(|(strategy, _)| Some(*strategy) == winner);
    let letter = letter.map_or('-', |(_, letter)| *letter);
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
        assert_eq!(letter(Some("none"), true), 'n');
        assert_eq!(letter(None, false), '-');
    }
}
