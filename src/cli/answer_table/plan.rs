//! The plan of an answer: what it takes, what else was tried, and its worth on other loads.

use std::io::{self, Write};

use crate::cli::answer_table::{right_align, table, wrapped};
use crate::wire::answer::ResultBody;
use crate::wire::duplication_search::DuplicationSearch;
use crate::wire::transfer::{PlanOnLoads, TransferBody};
use crate::wire::written::scaled;

/// Writes the plan, the search for its size and interval, and the transfer between traces.
pub(super) fn write(out: &mut dyn Write, result: &ResultBody) -> io::Result<()> {
    summary(out, result)?;
    if let Some(search) = &result.duplication_search {
        slots(out, search)?;
        if let Some(search) = &result.interval_search {
            let steps = search.chosen_interval_steps;
            let text = format!("rebalance interval {steps} steps ({})", search.because);
            writeln!(out, "{}", wrapped(&text))?;
        }
        writeln!(out)?;
    }
    result.transfer.as_ref().map_or(Ok(()), |traces| transfer(out, traces))
}

fn summary(out: &mut dyn Write, result: &ResultBody) -> io::Result<()> {
    let is_new = result.recommendation.strategy.as_deref() != Some("none");
    if let Some(imbalance) = &result.routing.device_imbalance {
        write!(out, "max/mean GPU load {:.3}", imbalance.before.mean)?;
        if let Some(after) = imbalance.after.as_ref().filter(|_| is_new) {
            write!(out, " → {:.3}", after.mean)?;
        }
        writeln!(out)?;
    }
    let Some(plan) = result.plan.as_ref().filter(|_| is_new) else { return Ok(()) };
    let told = format!(
        "plan: {} slots per GPU ({} redundant experts per layer), {} moves, {} GB of replicas, {} KV \
         tokens lost per GPU",
        plan.slots_per_device,
        plan.redundant_experts,
        plan.moved_experts,
        scaled(plan.memory.replica_bytes, 1e-9, 2),
        scaled(plan.memory.kv_tokens_lost_per_device, 1.0, 0),
    );
    writeln!(out, "{}", wrapped(&told))?;
    if plan.first_stall_s > 0.0 {
        let told = format!(
            "the first renewal stops serving for {} s, a later one for {} s at most, every {} steps",
            scaled(plan.first_stall_s, 1.0, 2),
            scaled(plan.stall_s, 1.0, 2),
            plan.interval_steps,
        );
        writeln!(out, "{}", wrapped(&told))?;
    }
    if let Some(held_out) = &plan.held_out_imbalance {
        writeln!(
            out,
            "max/mean GPU load with the plan: {} in-sample, {:.3} held-out",
            scaled(plan.in_sample_imbalance.as_ref().map(|planned| planned.mean), 1.0, 3),
            held_out.mean,
        )?;
    }
    Ok(())
}

/// Every number of slots that was tried; the chosen one is marked.
fn slots(out: &mut dyn Write, search: &DuplicationSearch) -> io::Result<()> {
    let head = [
        "slots\nper GPU",
        "formulas,\nlayer µs",
        "behind",
        "replicas\nGB",
        "KV tokens\nlost",
        "moved\nGB",
        "stall\ns",
    ];
    let mut table = table(&head);
    for one in &search.slots {
        let chosen = one.slots_per_device == search.chosen_slots_per_device;
        table.add_row(vec![
            format!("{}{}", if chosen { "> " } else { "" }, one.slots_per_device),
            scaled(one.layer_latency_s, 1e6, 1),
            if one.fits {
                format!("{} %", scaled(one.behind_best, 100.0, 2))
            } else {
                "does not fit".to_owned()
            },
            scaled(one.replica_bytes, 1e-9, 2),
            scaled(one.kv_tokens_lost_per_device, 1.0, 0),
            scaled(one.moved_bytes, 1e-9, 1),
            scaled(one.stall_s, 1.0, 2),
        ]);
    }
    right_align(&mut table, 0..head.len());
    writeln!(out, "\n{}\n{}", table.trim_fmt(), wrapped(&search.because))
}

/// Speed-up over `none` of every plan (rows) on every load (columns).
fn transfer(out: &mut dyn Write, transfer: &TransferBody) -> io::Result<()> {
    let ids: Vec<String> =
        transfer.trace_ids.iter().map(|id| id.chars().take(8).collect()).collect();
    let mut head = vec!["plan made for", "in-sample"];
    head.extend(ids.iter().map(String::as_str));
    let mut table = table(&head);
    let mut row = |name: &str, plan: &PlanOnLoads| {
        let mut cells = vec![name.to_owned(), scaled(plan.in_sample_imbalance, 1.0, 3)];
        let loads = plan.imbalance.iter().zip(&plan.speedup_over_none);
        cells.extend(loads.map(|(imbalance, speedup)| format!("{imbalance:.3} x{speedup:.4}")));
        table.add_row(cells);
    };
    row("(none)", &transfer.none);
    for (id, plan) in ids.iter().zip(&transfer.plans) {
        row(id, plan);
    }
    row("worst case", &transfer.worst_case);
    right_align(&mut table, 1..head.len());
    writeln!(
        out,
        "max/mean GPU load and speed-up over none, held-out, on each trace; {} slots per GPU, loaded \
         once:\n{}\n",
        transfer.slots_per_device,
        table.trim_fmt()
    )
}
