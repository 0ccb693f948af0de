//! A recommendation as tables a person reads at a glance.

mod plan;

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use indexmap::IndexMap;

use crate::wire::answer::{
    FlipPoint, LayoutBody, ResultBody, ServingBody, StrategyBody, TermsBody,
};

/// A term of a layer: its field, a short head, and its seconds.
type Term = (&'static str, &'static str, fn(&TermsBody) -> f64);

/// The terms of a layer in the order of a step.
const TERMS: [Term; 10] = [
    ("attention_s", "attention", |terms| terms.attention_s),
    ("all_reduce_s", "all-reduce", |terms| terms.all_reduce_s),
    ("router_s", "router", |terms| terms.router_s),
    ("dispatch_s", "dispatch", |terms| terms.dispatch_s),
    ("expert_ffn_s", "expert FFN", |terms| terms.expert_ffn_s),
    ("combine_s", "combine", |terms| terms.combine_s),
    ("predictor_s", "predictor", |terms| terms.predictor_s),
    ("rebalance_s", "rebalance", |terms| terms.rebalance_s),
    ("overlap_hidden_s", "hidden", |terms| terms.overlap_hidden_s),
    ("other_s", "other", |terms| terms.other_s),
];

/// Writes the result of a recommendation: verdict and reason, strategies with their
/// terms, where the advice changes, and what it rests on.
///
/// Of the strategies that no engine runs only the best is shown, unless `all` are asked for.
pub(super) fn write(out: &mut dyn Write, result: &ResultBody, all: bool) -> io::Result<()> {
    let advice = &result.recommendation;
    let strategy = match advice.strategy.as_deref() {
        Some(_) if advice.verdict == "keep" => "what runs now",
        Some(strategy) => strategy,
        None => "see why below",
    };
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

/// The strategies that some engine runs, the one advised, and the fastest of the others.
fn shown(result: &ResultBody, all: bool) -> Vec<&StrategyBody> {
    let advised = result.recommendation.strategy.as_ref();
    let is_listed = |entry: &StrategyBody| {
        Some(&entry.strategy) == advised || entry.engine_support.iter().any(|one| one.runnable)
    };
    let latency = |entry: &&StrategyBody| entry.layer_latency_s.unwrap_or(f64::INFINITY);
    let others = result.strategies.iter().filter(|entry| !is_listed(entry));
    let best = others.min_by(|a, b| latency(a).total_cmp(&latency(b)));
    let is_shown = |entry: &&StrategyBody| {
        all || is_listed(entry) || best.is_some_and(|best| std::ptr::eq(*entry, best))
    };
    result.strategies.iter().filter(is_shown).collect()
}

/// Other layouts that are shown, the fastest that fit.
const LAYOUTS: usize = 2;

/// How a layout spreads attention and experts: `attention TP4 x DP2, experts EP8`.
fn spread(layout: &LayoutBody) -> String {
    let LayoutBody { attention_tensor, attention_data, expert_parallel, expert_tensor, .. } =
        layout;
    let of = |parts: [(&str, u32); 2]| {
        let named = parts.iter().filter(|(_, devices)| *devices > 1);
        let named: Vec<String> = named.map(|(name, devices)| format!("{name}{devices}")).collect();
        if named.is_empty() { "whole".to_owned() } else { named.join(" x ") }
    };
    format!(
        "attention {}, experts {}",
        of([("TP", *attention_tensor), ("DP", *attention_data)]),
        of([("EP", *expert_parallel), ("TP", *expert_tensor)]),
    )
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
            match entry.gain {
                Some(gain) if gain.high > gain.low * (1.0 + 1e-6) => {
                    format!("{:.3} to {:.3}", gain.low, gain.high)
                }
                _ => String::new(),
            },
            if runs_on.is_empty() { "no engine today".to_owned() } else { runs_on.join(", ") },
        ]);
    }
    let none = result
        .strategies
        .iter()
        .find_map(|entry| entry.layer_latency_s.filter(|_| entry.strategy == "none"));
    for layout in result.layouts.iter().filter(|layout| layout.fits).take(LAYOUTS) {
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
    let mut reasons: IndexMap<&str, Vec<String>> = IndexMap::new();
    for entry in shown {
        if let Some(reason) = &entry.infeasible_reason {
            reasons.entry(reason).or_default().push(name(entry));
        }
    }
    for (reason, names) in &reasons {
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

/// A strategy with its predictor.
fn name(entry: &StrategyBody) -> String {
    match &entry.predictor {
        Some(predictor) => format!("{} ({})", entry.strategy, predictor.name),
        None => entry.strategy.to_string(),
    }
}

fn scaled(value: impl Into<Option<f64>>, factor: f64, digits: usize) -> String {
    value.into().map_or_else(|| "-".to_owned(), |value| format!("{:.digits$}", value * factor))
}

/// A flip point's parameter and how its values are written for a person.
fn quantity(parameter: &str) -> (&str, fn(f64) -> String) {
    match parameter {
        "link_bandwidth_bytes_per_s" => ("link bandwidth", gigabytes_per_s),
        "inter_node_bandwidth_bytes_per_s" => ("bandwidth between nodes", gigabytes_per_s),
        "tokens_per_step" => ("tokens per step", |value| format!("{value:.0}")),
        "output_tokens" => ("output tokens", |value| format!("{value:.0}")),
        "predictor_accuracy" => ("predictor accuracy", |value| format!("{value:.3}")),
        "predictor_overhead_s" => ("predictor overhead", |value| format!("{:.1} µs", value * 1e6)),
        other => (other, |value| format!("{value:.3}")),
    }
}

fn gigabytes_per_s(value: f64) -> String {
    let gigabytes = value * 1e-9;
    let digits = if gigabytes < 100.0 { 2 } else { 0 };
    format!("{gigabytes:.digits$} GB/s")
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
