//! The result of `validate` as Markdown: the generated part of `docs/accuracy.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::cli::validate::{or_dash, percent, signed};
use moe_gps_lab::validate::line::ValidationLine;
use moe_gps_lab::validate::report::{PairsOf, Report, ReportGroup};

/// The generated part: errors by operator, pairs, and what has no price.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    let mut ops: BTreeMap<&str, Vec<&ReportGroup>> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for group in &report.groups {
        if !order.contains(&group.line.op) {
            order.push(group.line.op);
        }
        ops.entry(group.line.op).or_default().push(group);
    }
    for op in order {
        section(&mut text, op, &ops[op]);
    }
    bands(&mut text, report);
    pairs(&mut text, report);
    rows(&mut text, report);
    text
}

/// Appends a line; writing to a string cannot fail.
fn line(text: &mut String, line: std::fmt::Arguments) {
    let _ = text.write_fmt(line);
    text.push('\n');
}

fn section(text: &mut String, op: &str, groups: &[&ReportGroup]) {
    line(text, format_args!("\n### `{op}`\n"));
    line(
        text,
        format_args!(
            "| device | measured | format | subset | rows | mean | aim | median | p90 | max | signed | constants |"
        ),
    );
    line(
        text,
        format_args!("| --- | --- | --- | --- | --: | --: | --- | --: | --: | --: | --: | --- |"),
    );
    for ReportGroup { line: row, notes } in groups {
        line(
            text,
            format_args!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.device,
                row.stack,
                row.dtype,
                row.subset,
                row.rows,
                or_dash(row.mean, percent),
                judged(row),
                or_dash(row.median, percent),
                or_dash(row.p90, percent),
                or_dash(row.max, percent),
                or_dash(row.signed_mean, signed),
                if notes.is_empty() { "its own".to_owned() } else { notes.join("; ") }
            ),
        );
    }
}

/// The mean error this project aims at, where it aims at one.
///
/// A profile is asked of, not a mode of a library it has no constants for; rows that were
/// drawn at random or are known to be wrong are not judged.
#[must_use]
pub fn aim(row: &ValidationLine) -> Option<f64> {
    match (row.table.as_str(), row.op, row.subset) {
        ("h200_ops_bf16.csv", "gemm", _) => Some(0.09),
        ("nvidia_gemm_bf16.csv" | "nvidia_attention_prefill_bf16.csv", _, _) => Some(0.05),
        ("nvidia_attention_decode_bf16.csv", _, _) => Some(0.06),
        ("nvidia_grouped_expert_ffn_bf16.csv", _, "balanced")
            if row.stack.starts_with("TRTLLM") && row.device != "a100_sxm" =>
        {
            Some(0.08)
        }
        (
            "nvidia_gemm_quantised.csv"
            | "nvidia_attention_prefill_quantised.csv"
            | "nvidia_attention_decode_quantised.csv",
            _,
            _,
        ) => Some(0.08),
        (_, "latent_attention_prefill" | "latent_attention_decode", _) => Some(0.10),
        (_, "latent_attention_prefill_block" | "latent_attention_decode_block", _)
        | ("nvidia_grouped_expert_ffn_quantised.csv", _, "balanced") => Some(0.12),
        ("nvidia_nccl_collectives_blackwell.csv", _, "ge_1mib") => Some(0.10),
        ("nvidia_all_to_all_blackwell.csv" | "nvidia_trtllm_all_to_all_gb200.csv", _, _) => {
            Some(0.18)
        }
        ("nvidia_nccl_collectives.csv", _, "ge_1mib") => Some(0.08),
        ("nvidia_nccl_collectives.csv" | "nvidia_nccl_collectives_blackwell.csv", _, "lt_1mib") => {
            Some(0.20)
        }
        (_, "tpot", "all") | ("nvidia_deepep_all_to_all.csv", _, _) => Some(0.15),
        _ => None,
    }
}

fn judged(row: &ValidationLine) -> String {
    aim(row).map_or_else(String::new, |aim| {
        let met = row.mean.is_some_and(|mean| mean <= aim);
        let verdict = if met { "met" } else { "**missed**" };
        format!("{:.0}, {verdict}", 100.0 * aim)
    })
}

fn pairs(text: &mut String, report: &Report) {
    if !report.skew.is_empty() {
        line(text, format_args!("\n### Skew response\n"));
    }
    for (table, errors) in &report.skew {
        line(
            text,
            format_args!(
                "`{table}`: time(Zipf)/time(uniform) of equal shapes and numbers of tokens, predicted \
                 against measured: mean error {} %, median {} %, 90th percentile {} %, maximum {} %, \
                 signed mean {} % over {} pairs.",
                percent(errors.mean),
                percent(errors.median),
                percent(errors.p90),
                percent(errors.max),
                signed(errors.signed_mean),
                errors.rows
            ),
        );
    }
    gains(text, report);
    if !report.duels.is_empty() {
        line(text, format_args!("\n### Does a plan pay\n"));
    }
    for (table, duels) in &report.duels {
        let [wins, losses] = duels.shares().map(percent);
        line(
            text,
            format_args!(
                "`{table}`: pairs of rows with and without EPLB's plan, made from the very tokens it \
                 is timed on: the skew response under a perfect plan, not the field. Where the plan \
                 is more than 5 % faster the model names it in {} of {} ({wins} %), where it is more \
                 than 5 % slower the model names no plan in {} of {} ({losses} %).",
                duels.wins_named, duels.wins, duels.losses_named, duels.losses
            ),
        );
    }
}

/// How many of an operator's rows lie within the bands, by device.
fn bands(text: &mut String, report: &Report) {
    let (rows, within) = report.rows_within_bands();
    if rows == 0 {
        return;
    }
    line(text, format_args!("\n### Error bands\n"));
    line(
        text,
        format_args!(
            "A band is the 90th percentile of the errors on shapes that a fit had not seen; of \
             communication it is 2.06 times their mean, the same for errors that are normal. Of \
             {rows} rows {} % lie within the band that an answer prints, by operator and device:\n",
            percent(within as f64 / rows as f64)
        ),
    );
    let devices: BTreeSet<&str> = report.bands.keys().map(|(_, device)| device.as_str()).collect();
    let ops: BTreeSet<&str> = report.bands.keys().map(|(op, _)| *op).collect();
    let head: Vec<&str> = devices.iter().copied().collect();
    line(text, format_args!("| operator | {} |", head.join(" | ")));
    line(text, format_args!("| --- |{}", " --: |".repeat(head.len())));
    for op in ops {
        let share = |device: &&str| {
            let of = report.bands.get(&(op, (*device).to_owned()));
            or_dash(of.map(|(rows, within)| *within as f64 / *rows as f64), percent)
        };
        let shares: Vec<String> = head.iter().map(share).collect();
        line(text, format_args!("| `{op}` | {} |", shares.join(" | ")));
    }
}

/// How far the intervals of gains hold.
fn gains(text: &mut String, report: &Report) {
    if report.gains.is_empty() {
        return;
    }
    line(text, format_args!("\n### Intervals of gains\n"));
    line(
        text,
        format_args!(
            "Pairs of expert rows that differ in their loads only (uneven against even, a plan \
             against none): how many measured gains lie in the interval that an answer's doubts of \
             the experts' law give, how many have the other sign outside of it, the median half of an \
             interval and the median error, in percent. Rows of power laws are means over few unseeded \
             draws, whose spread is in the interval; the fit has not seen them where a kernel has \
             other rows. Steps with no more choices than experts are left out: how later tables drew \
             their loads is not known.\n"
        ),
    );
    line(
        text,
        format_args!("| device | measured | pairs | within | other sign | half interval | error |"),
    );
    line(text, format_args!("| --- | --- | --: | --: | --: | --: | --: |"));
    let mut all = PairsOf::default();
    let mut row = |device: &str, software: &str, pairs: &PairsOf| {
        let share = |count: usize| percent(count as f64 / pairs.gains.len() as f64);
        let [half, error] = pairs.medians().map(percent);
        line(
            text,
            format_args!(
                "| {device} | {software} | {} | {} | {} | {half} | {error} |",
                pairs.gains.len(),
                share(pairs.covered()),
                share(pairs.opposite()),
            ),
        );
    };
    for ((device, software), pairs) in &report.gains {
        row(device, software, pairs);
        all.gains.extend_from_slice(&pairs.gains);
    }
    row("all", "", &all);
}

fn rows(text: &mut String, report: &Report) {
    line(text, format_args!("\n### Rows\n"));
    line(text, format_args!("| table | rows | priced | not priced |"));
    line(text, format_args!("| --- | --: | --: | --- |"));
    for table in &report.tables {
        let reasons: Vec<String> =
            table.reasons.iter().map(|(why, (count, _))| format!("{count}: {why}")).collect();
        line(
            text,
            format_args!(
                "| `{}` | {} | {} | {} |",
                table.table,
                table.rows,
                table.priced,
                reasons.join("; ")
            ),
        );
    }
    text.push('\n');
}
