//! A recommendation as tables a person reads at a glance.

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
    plan(out, result)?;
    slots(out, result)?;
    transfer(out, result)?;
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
    writeln!(out, "{table}\n")?;
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
    writeln!(out, "{table}\n")
}

fn flips(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let none = Vec::new();
    writeln!(out, "The advice changes")?;
    for flip in result["flip_points"].as_array().unwrap_or(&none) {
        let parameter = flip["parameter"].as_str().unwrap_or("");
        match (flip["value"].as_f64(), flip["becomes"].as_str()) {
            (Some(value), Some(becomes)) => {
                writeln!(out, "  to {becomes} at {parameter} {}", number(value))?;
            }
            (None, Some(becomes)) => writeln!(
                out,
                "  to {becomes} under {parameter} {}",
                flip["communication"].as_str().unwrap_or("")
            )?,
            _ => {
                let range = &flip["range"];
                writeln!(
                    out,
                    "  not with {parameter} from {} to {}",
                    number(range[0].as_f64().unwrap_or(0.0)),
                    number(range[1].as_f64().unwrap_or(0.0))
                )?;
            }
        }
    }
    writeln!(out)
}

fn plan(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let plan = &result["plan"];
    let imbalance = &result["routing"]["device_imbalance"];
    if let Some(before) = imbalance["before"]["mean"].as_f64() {
        write!(out, "busiest device over mean: {before:.3} as it is")?;
        let moved = result["recommendation"]["strategy"] != "none";
        if let Some(after) = imbalance["after"]["mean"].as_f64().filter(|_| moved) {
            write!(out, ", {after:.3} with the plan")?;
        }
        writeln!(out)?;
    }
    if plan.is_object() && result["recommendation"]["strategy"] != "none" {
        writeln!(
            out,
            "plan: {} slots on every device ({} redundant experts a layer), {} moves, {} GB of \
             replicas, {} KV tokens lost per device",
            plan["slots_per_device"],
            plan["redundant_experts"],
            plan["moved_experts"],
            scaled(&plan["memory"]["replica_bytes"], 1e-9, 2),
            scaled(&plan["memory"]["kv_tokens_lost_per_device"], 1.0, 0),
        )?;
        if plan["held_out_imbalance"].is_object() {
            writeln!(
                out,
                "its loads, busiest device over mean: {} where it was planned, {} on the part held \
                 out",
                scaled(&plan["in_sample_imbalance"]["mean"], 1.0, 3),
                scaled(&plan["held_out_imbalance"]["mean"], 1.0, 3),
            )?;
        }
    }
    Ok(())
}

/// Every number of slots that was tried; the chosen one is marked.
fn slots(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let search = &result["duplication_search"];
    let Some(tried) = search["slots"].as_array() else { return Ok(()) };
    let head = [
        "slots a device",
        "layer µs",
        "behind",
        "replicas GB",
        "KV tokens lost",
        "moved GB",
        "stall s",
    ];
    let mut table = table(&head);
    for one in tried {
        let chosen = one["slots_per_device"] == search["chosen_slots_per_device"];
        table.add_row(vec![
            format!("{}{}", if chosen { "> " } else { "" }, one["slots_per_device"]),
            scaled(&one["layer_latency_s"], 1e6, 1),
            if one["fits"] == true {
                format!("{} %", scaled(&one["behind_best"], 100.0, 2))
            } else {
                "does not fit".to_owned()
            },
            scaled(&one["replica_bytes"], 1e-9, 2),
            scaled(&one["kv_tokens_lost_per_device"], 1.0, 0),
            scaled(&one["moved_bytes"], 1e-9, 1),
            scaled(&one["stall_s"], 1.0, 2),
        ]);
    }
    right_align(&mut table, 0..head.len());
    writeln!(out, "\n{table}\n{}", wrapped(search["because"].as_str().unwrap_or("")))?;
    let interval = &result["interval_search"];
    if let Some(because) = interval["because"].as_str() {
        let steps = &interval["chosen_interval_steps"];
        writeln!(out, "{}", wrapped(&format!("renewed every {steps} steps: {because}")))?;
    }
    writeln!(out)
}

/// Speed-up over `none` of every plan (rows) on every load (columns).
fn transfer(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let transfer = &result["transfer"];
    let Some(ids) = transfer["trace_ids"].as_array() else { return Ok(()) };
    let short = |id: &Value| id.as_str().unwrap_or("").chars().take(8).collect::<String>();
    let ids: Vec<String> = ids.iter().map(short).collect();
    let mut head = vec!["plan made for", "in-sample"];
    head.extend(ids.iter().map(String::as_str));
    let mut table = table(&head);
    let mut row = |name: String, plan: &Value| {
        let mut cells = vec![name, scaled(&plan["in_sample_imbalance"], 1.0, 3)];
        cells.extend((0..ids.len()).map(|load| {
            let imbalance = scaled(&plan["imbalance"][load], 1.0, 3);
            format!("{imbalance} x{}", scaled(&plan["speedup_over_none"][load], 1.0, 4))
        }));
        table.add_row(cells);
    };
    row("(none)".to_owned(), &transfer["none"]);
    for (id, plan) in ids.iter().zip(transfer["plans"].as_array().into_iter().flatten()) {
        row(id.clone(), plan);
    }
    row("worst case".to_owned(), &transfer["worst_case"]);
    right_align(&mut table, 1..head.len());
    writeln!(
        out,
        "busiest device over mean and speed-up over none on the held-out part of each trace,\n{} \
         slots a device, loaded once:\n{table}\n",
        transfer["slots_per_device"]
    )
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

fn number(value: f64) -> String {
    if value != 0.0 && (value.abs() >= 1e5 || value.abs() < 1e-3) {
        format!("{value:.4e}")
    } else {
        format!("{value:.5}")
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
