//! A recommendation as tables a person reads at a glance.

mod plan;

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use crate::wire::answer::{FlipPoint, ResultBody, ServingBody, StrategyBody, TermsBody};
use crate::wire::written::{
    TERMS, advised, gain, infeasible, name, other_layouts, quantity, scaled, shown, spread,
};

/// Writes the result of a recommendation: verdict and reason, strategies with their
/// terms, where the advice changes, and what it rests on.
///
/// Of the strategies that no engine runs only the best is shown, unless `all` are asked for.
pub(super) fn write(out: &mut dyn Write, result: &ResultBody, all: bool) -> io::Result<()> {
    let advice = &result.recommendation;
    let strategy = advised(advice).unwrap_or("see why below");
    writeln!(out, "{}: {strategy}", advice.verdict.replace('_', " "))?;
    writeln!(out, "\n{}\n", wrapped(&advice.reason))?;
    let shown = shown(result, all);
    strategies(out, result, &shown)?;
    server(out, &shown)?;
    terms(out, result, &shown)?;
    flips(out, &result.flip_points)?;
    plan::write(out, result)?;
    for warning in &result.warnings {
        writeln!(out, "{}", wrapped(&format!("warning: {warning}")))?;
    }
    writeln!(out, "{}", wrapped(&format!("to confirm: {}", result.confirm)))
}

fn strategies(out: &mut dyn Write, result: &ResultBody, shown: &[&StrategyBody]) -> io::Result<()> {
    let against = format!("over {}", result.recommendation.baseline);
    let mut table = table(&["strategy", "layer µs", "step ms", &against, "interval", "runs on"]);
    for entry in shown {
        let runnable = entry.engine_support.iter().filter(|support| support.runnable);
        let runs_on: Vec<&str> = runnable.map(|support| &*support.engine).collect();
        table.add_row(vec![
            name(entry),
            scaled(entry.layer_latency_s, 1e6, 1),
            scaled(entry.model_latency_s, 1e3, 3),
            match entry.infeasible_reason {
                Some(_) => "not feasible".to_owned(),
                None => scaled(entry.gain.map(|gain| gain.mid).or(entry.speedup_over_none), 1.0, 4),
            },
            gain(entry.gain).unwrap_or_default(),
            if runs_on.is_empty() { "no engine today".to_owned() } else { runs_on.join(", ") },
        ]);
    }
    let none = result
        .strategies
        .iter()
        .find_map(|entry| entry.layer_latency_s.filter(|_| entry.strategy == "none"));
    for layout in other_layouts(result) {
        table.add_row(vec![
            format!("({})", spread(layout)),
            scaled(layout.layer_latency_s, 1e6, 1),
            scaled(layout.model_latency_s, 1e3, 3),
            scaled(none.map(|none| none / layout.layer_latency_s), 1.0, 4),
            String::new(),
            format!("another layout: {} GB a GPU", scaled(layout.needed_bytes, 1e-9, 1)),
        ]);
    }
    table.add_row(vec![
        "(ceiling)".to_owned(),
        scaled(result.ceiling.layer_latency_s, 1e6, 1),
        String::new(),
        scaled(result.ceiling.speedup_over_none, 1.0, 4),
        String::new(),
        "perfect balance at no cost".to_owned(),
    ]);
    right_align(&mut table, 1..5);
    writeln!(out, "{}\n", table.trim_fmt())?;
    let hidden = result.strategies.len() - shown.len();
    if hidden > 0 {
        writeln!(out, "{hidden} more that no engine runs: --all\n")?;
    }
    for (reason, names) in &infeasible(shown) {
        let is = if names.len() == 1 { "is" } else { "are" };
        let told = format!("{} {is} not feasible: {reason}", names.join(", "));
        writeln!(out, "{}\n", wrapped(&told))?;
    }
    Ok(())
}

/// What a server gives its users, and how much faster its kinds of steps are than without a strategy.
fn server(out: &mut dyn Write, shown: &[&StrategyBody]) -> io::Result<()> {
    let Some(first) = shown.iter().find(|entry| !entry.phases.is_empty()) else { return Ok(()) };
    let steps: Vec<String> = first
        .phases
        .iter()
        .map(|one| format!("{} ({:.0} %)", one.phase, 100.0 * one.share_of_steps))
        .collect();
    let mut head = vec!["server", "TTFT ms", "TPOT ms", "tokens/s/GPU", "GPUs saved"];
    head.extend(steps.iter().map(String::as_str));
    let mut table = table(&head);
    for entry in shown {
        let Some(ServingBody::Server(server)) = entry.serving else { continue };
        let mut row = vec![
            name(entry),
            scaled(server.ttft_s, 1e3, 1),
            scaled(server.tpot_s, 1e3, 2),
            scaled(server.tokens_per_s_per_device, 1.0, 0),
            server.devices_saved.map_or_else(String::new, |saved| format!("{:.2}", saved.mid)),
        ];
        row.extend(entry.phases.iter().map(|one| scaled(one.speedup_over_none, 1.0, 4)));
        table.add_row(row);
    }
    right_align(&mut table, 1..head.len());
    writeln!(out, "{}\n", table.trim_fmt())
}

/// Microseconds of every term, one column a strategy.
fn terms(out: &mut dyn Write, result: &ResultBody, shown: &[&StrategyBody]) -> io::Result<()> {
    let priced: Vec<(&StrategyBody, &TermsBody)> =
        shown.iter().filter_map(|entry| Some((*entry, entry.terms.as_ref()?))).collect();
    let names: Vec<String> = priced.iter().map(|(entry, _)| name(entry)).collect();
    let mut head = vec!["µs per layer"];
    head.extend(names.iter().map(String::as_str));
    head.push("basis");
    let mut table = table(&head);
    for (field, short, seconds) in TERMS {
        if priced.iter().all(|(_, terms)| seconds(terms) == 0.0) {
            continue;
        }
        let origin = result.provenance.terms.get(field);
        let mut row = vec![short.to_owned()];
        row.extend(priced.iter().map(|(_, terms)| scaled(seconds(terms), 1e6, 2)));
        row.push(format!(
            "{} ±{} %",
            origin.map_or("", |origin| &*origin.basis),
            scaled(origin.map(|origin| origin.error_band), 100.0, 0)
        ));
        table.add_row(row);
    }
    right_align(&mut table, 1..=priced.len());
    writeln!(out, "{}", table.trim_fmt())?;
    // The term without an operator of its own is the host's launches.
    if let Some((none, terms)) = priced.first()
        && let Some(layer) = none.layer_latency_s
        && terms.other_s > 0.0
    {
        let share = 100.0 * terms.other_s / layer;
        writeln!(out, "kernel launches (other): {share:.1} % of a layer")?;
    }
    writeln!(out)
}

fn flips(out: &mut dyn Write, flips: &[FlipPoint]) -> io::Result<()> {
    if flips.is_empty() {
        return Ok(());
    }
    writeln!(out, "The advice changes (to what gains 2 % or more)")?;
    for flip in flips {
        let (name, written) = quantity(&flip.parameter);
        match (flip.value, &flip.becomes) {
            (Some(value), Some(becomes)) => {
                let [low, high] = flip.interval.unwrap_or([value, value]).map(written);
                let value = written(value);
                let interval =
                    if low == high { String::new() } else { format!(" ({low} to {high})") };
                writeln!(out, "  to {becomes} at {name} {value}{interval}")?;
            }
            (None, Some(becomes)) => {
                let other = flip.communication.as_deref().unwrap_or("");
                writeln!(out, "  to {becomes} under {name} {other}")?;
            }
            _ => {
                let [low, high] =
                    flip.range.map_or_else(Default::default, |range| range.map(written));
                writeln!(out, "  not with {name} from {low} to {high}")?;
            }
        }
    }
    writeln!(out)
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head.iter().copied());
    table
}

fn right_align(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Text broken into lines of at most 100 columns.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        if width > 0 && width + 1 + word.chars().count() > 100 {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += word.chars().count();
    }
    lines
}
