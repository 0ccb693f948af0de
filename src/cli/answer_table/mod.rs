//! A recommendation as tables a person reads at a glance.

mod plan;

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

/// The terms of a layer in the order of a step, with short heads.
const TERMS: [(&str, &str); 10] = [
    ("attention_s", "attention"),
    ("all_reduce_s", "all-reduce"),
    ("router_s", "router"),
    ("dispatch_s", "dispatch"),
    ("expert_ffn_s", "expert FFN"),
    ("combine_s", "combine"),
    ("predictor_s", "predictor"),
    ("rebalance_s", "rebalance"),
    ("overlap_hidden_s", "hidden"),
    ("other_s", "other"),
];

/// Writes the result of a recommendation: verdict and reason, strategies with their
/// terms, where the advice changes, and what it rests on.
pub(super) fn write(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let advice = &result["recommendation"];
    let strategy = advice["strategy"].as_str().unwrap_or("nothing can be run");
    writeln!(out, "{}: {strategy}", advice["verdict"].as_str().unwrap_or("").replace('_', " "))?;
    writeln!(out, "\n{}\n", wrapped(advice["reason"].as_str().unwrap_or("")))?;
    strategies(out, result)?;
    terms(out, result)?;
    flips(out, result)?;
    plan::write(out, result)?;
    let none = Vec::new();
    for warning in result["warnings"].as_array().unwrap_or(&none) {
        writeln!(out, "warning: {}", wrapped(warning.as_str().unwrap_or("")))?;
    }
    writeln!(out, "to confirm: {}", wrapped(result["confirm"].as_str().unwrap_or("")))
}

fn strategies(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let mut table = table(&["strategy", "layer µs", "step ms", "speed-up", "95 %", "runs on"]);
    for entry in entries(result) {
        let runs_on: Vec<&str> = entry["engine_support"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|support| support["runnable"] == true)
            .filter_map(|support| support["engine"].as_str())
            .collect();
        let interval = &entry["speedup_interval_95"];
        let interval = match (interval[0].as_f64(), interval[1].as_f64()) {
            (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
            _ => String::new(),
        };
        let why_not = entry["infeasible_reason"].as_str().map(|_| "not feasible".to_owned());
        table.add_row(vec![
            name(entry),
            scaled(&entry["layer_latency_s"], 1e6, 1),
            scaled(&entry["model_latency_s"], 1e3, 3),
            why_not.unwrap_or_else(|| scaled(&entry["speedup_over_none"], 1.0, 4)),
            interval,
            if runs_on.is_empty() { "no engine today".to_owned() } else { runs_on.join(", ") },
        ]);
    }
    let ceiling = &result["ceiling"];
    table.add_row(vec![
        "(ceiling)".to_owned(),
        scaled(&ceiling["layer_latency_s"], 1e6, 1),
        String::new(),
        scaled(&ceiling["speedup_over_none"], 1.0, 4),
        String::new(),
        "perfect balance at no cost".to_owned(),
    ]);
    right_align(&mut table, 1..5);
    writeln!(out, "{}\n", table.trim_fmt())?;
    for entry in entries(result) {
        if let Some(reason) = entry["infeasible_reason"].as_str() {
            writeln!(out, "{} is not feasible: {}", name(entry), wrapped(reason))?;
        }
    }
    Ok(())
}

/// Microseconds of every term, one column a strategy.
fn terms(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let priced: Vec<&Value> =
        entries(result).iter().filter(|entry| entry["terms"].is_object()).collect();
    let names: Vec<String> = priced.iter().map(|entry| name(entry)).collect();
    let mut head = vec!["µs per layer"];
    head.extend(names.iter().map(String::as_str));
    head.push("basis");
    let mut table = table(&head);
    for (field, short) in TERMS {
        if priced.iter().all(|entry| entry["terms"][field].as_f64() == Some(0.0)) {
            continue;
        }
        let basis = &result["provenance"]["terms"][field];
        let mut row = vec![short.to_owned()];
        row.extend(priced.iter().map(|entry| scaled(&entry["terms"][field], 1e6, 2)));
        row.push(format!(
            "{} ±{} %",
            basis["basis"].as_str().unwrap_or(""),
            scaled(&basis["error_band"], 100.0, 0)
        ));
        table.add_row(row);
    }
    right_align(&mut table, 1..=priced.len());
    writeln!(out, "{}", table.trim_fmt())?;
    // The term without an operator of its own is the host's launches.
    if let Some(none) = priced.first()
        && let (Some(launches), Some(layer)) =
            (none["terms"]["other_s"].as_f64(), none["layer_latency_s"].as_f64())
        && launches > 0.0
    {
        writeln!(out, "kernel launches (other): {:.1} % of a layer", 100.0 * launches / layer)?;
    }
    writeln!(out)
}

fn flips(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let none = Vec::new();
    writeln!(out, "The advice changes")?;
    for flip in result["flip_points"].as_array().unwrap_or(&none) {
        let parameter = flip["parameter"].as_str().unwrap_or("");
        let (name, written) = quantity(parameter);
        match (flip["value"].as_f64(), flip["becomes"].as_str()) {
            (Some(value), Some(becomes)) => {
                writeln!(out, "  to {becomes} at {name} {}", written(value))?;
            }
            (None, Some(becomes)) => writeln!(
                out,
                "  to {becomes} under {name} {}",
                flip["communication"].as_str().unwrap_or("")
            )?,
            _ => {
                let [low, high] =
                    [0, 1].map(|end| flip["range"][end].as_f64().map_or_else(String::new, written));
                writeln!(out, "  not with {name} from {low} to {high}")?;
            }
        }
    }
    writeln!(out)
}

fn entries(result: &Value) -> &[Value] {
    result["strategies"].as_array().map_or(&[], Vec::as_slice)
}

/// A strategy with its predictor.
fn name(entry: &Value) -> String {
    let strategy = entry["strategy"].as_str().unwrap_or("");
    match entry["predictor"]["name"].as_str() {
        Some(predictor) => format!("{strategy} ({predictor})"),
        None => strategy.to_owned(),
    }
}

fn scaled(value: &Value, factor: f64, digits: usize) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{:.digits$}", value * factor))
}

/// A flip point's parameter and how its values are written for a person.
fn quantity(parameter: &str) -> (&str, fn(f64) -> String) {
    match parameter {
        "link_bandwidth_bytes_per_s" => {
            ("link bandwidth", |value| format!("{:.3} GB/s", value * 1e-9))
        }
        "tokens_per_step" => ("tokens per step", |value| format!("{value:.0}")),
        "predictor_accuracy" => ("predictor accuracy", |value| format!("{value:.3}")),
        "predictor_overhead_s" => ("predictor overhead", |value| format!("{:.1} µs", value * 1e6)),
        other => (other, |value| format!("{value:.4}")),
    }
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
