//! The plan of an answer: what it takes, what else was tried, and its worth on other loads.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::answer_table::{right_align, scaled, table, wrapped};

/// Writes the plan, the search for its size and interval, and the transfer between traces.
pub(super) fn write(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    summary(out, result)?;
    slots(out, result)?;
    transfer(out, result)
}

fn summary(out: &mut dyn Write, result: &Value) -> io::Result<()> {
    let plan = &result["plan"];
    let imbalance = &result["routing"]["device_imbalance"];
    if let Some(before) = imbalance["before"]["mean"].as_f64() {
        write!(out, "max/mean GPU load {before:.3}")?;
        let moved = result["recommendation"]["strategy"] != "none";
        if let Some(after) = imbalance["after"]["mean"].as_f64().filter(|_| moved) {
            write!(out, " → {after:.3}")?;
        }
        writeln!(out)?;
    }
    if plan.is_object() && result["recommendation"]["strategy"] != "none" {
        writeln!(
            out,
            "plan: {} slots per GPU ({} redundant experts per layer), {} moves, {} GB of replicas, {} KV \
             tokens lost per GPU",
            plan["slots_per_device"],
            plan["redundant_experts"],
            plan["moved_experts"],
            scaled(&plan["memory"]["replica_bytes"], 1e-9, 2),
            scaled(&plan["memory"]["kv_tokens_lost_per_device"], 1.0, 0),
        )?;
        if plan["held_out_imbalance"].is_object() {
            writeln!(
                out,
                "max/mean GPU load with the plan: {} in-sample, {} held-out",
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
        "slots per GPU",
        "drawn layer µs",
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
    writeln!(out, "\n{}\n{}", table.trim_fmt(), wrapped(search["because"].as_str().unwrap_or("")))?;
    let interval = &result["interval_search"];
    if let Some(because) = interval["because"].as_str() {
        let steps = &interval["chosen_interval_steps"];
        writeln!(out, "{}", wrapped(&format!("rebalance interval {steps} steps ({because})")))?;
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
        "max/mean GPU load and speed-up over none, held-out, on each trace; {} slots per GPU, loaded \
         once:\n{}\n",
        transfer["slots_per_device"],
        table.trim_fmt()
    )
}
