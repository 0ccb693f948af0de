//! A sweep as a table, one line per cell.

use crate::domain::strategy::Strategy;
use crate::wire::sweep::SweepAnswer;

/// The cells as CSV: the values of the axes, the choice, and every strategy's layer latency.
#[must_use]
pub fn csv(answer: &SweepAnswer) -> String {
    let mut lines = Vec::new();
    let mut header: Vec<String> =
        answer.axes.iter().map(|axis| axis.parameter.to_owned()).collect();
    header.extend(["winner", "margin_over_runner_up", "tie"].map(str::to_owned));
    header.extend(Strategy::ALL.map(|(_, id)| format!("{id}_layer_latency_s")));
    lines.push(header.join(","));
    let matrices = answer.layer_latency_s.all();
    let text = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for (i, row) in answer.winner.iter().enumerate() {
        for (j, winner) in row.iter().enumerate() {
            let mut line: Vec<String> = match &answer.axes[..] {
                [first, second] => vec![first.values[i].to_string(), second.values[j].to_string()],
                [only] => vec![only.values[j].to_string()],
                _ => Vec::new(),
            };
            line.push(winner.unwrap_or_default().to_owned());
            line.push(answer.margin_over_runner_up[i][j].to_string());
            line.push(answer.tie[i][j].to_string());
            line.extend(matrices.map(|matrix| text(matrix[i][j])));
            lines.push(line.join(","));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}
