//! `nvidia_deepep_all_to_all.csv` and `nvidia_all_to_all_blackwell.csv`: dispatch and combine of
//! DeepEP-like libraries.
//!
//! The GPU that was measured stands in `device`, not in `gpu`. A number format that is
//! not stated is taken as the engine's (fp8 for SGLang, else bf16); combine is bf16.

use crate::measurements::record::{Record, RowError, unknown};
use crate::validate::measured::{Case, ExchangeCase, Measured, Op, Software, Subset};
use moe_gps_core::comm::profile::{DeepEpMode, Way};
use moe_gps_core::engines;
use moe_gps_core::system::Dtype;

pub(super) fn row(record: &Record) -> Result<Measured, RowError> {
    let framework = record.required("framework")?;
    let engine = engines::by_framework(framework).ok_or_else(|| unknown("framework", framework))?;
    let name = record.required("mode")?;
    let mode = match name {
        "normal" | "deepep_ht" | "trtllm_deepep_ht" => DeepEpMode::Normal,
        "low_latency" | "deepep_ll" | "trtllm_deepep_ll" => DeepEpMode::LowLatency,
        "deepep_v2_context" => DeepEpMode::V2Normal,
        "deepep_v2_generation" => DeepEpMode::V2LowLatency,
        name => return Err(unknown("mode", name)),
    };
    let (way, op) = match record.required("phase")? {
        "dispatch" => (Way::Dispatch, Op::Dispatch),
        "combine" => (Way::Combine, Op::Combine),
        phase => return Err(unknown("phase", phase)),
    };
    let (dispatch, stands_in) = match record.text("comm_dtype") {
        None | Some("default") => (engine.dispatch_format, None),
        Some("bfloat16") => (Dtype::Bf16, None),
        Some("fp8") => (Dtype::Fp8, None),
        Some("nvfp4" | "fp4") => (Dtype::Nvfp4, None),
        Some(format) => return Err(unknown("comm_dtype", format)),
    };
    let device = device(record)?;
    let nodes = record.whole("nodes")?;
    // A tray of GB200 has four devices, every other node eight.
    let usual = if device == "gb200" { 4 } else { 8 };
    let per_node = match record.text("ep_size") {
        Some(_) => record.whole("ep_size")? / nodes.max(1),
        None => usual,
    };
    let case = possible(ExchangeCase {
        engine,
        mode,
        way,
        nodes,
        per_node,
        hidden: record.whole("hidden_size")?,
        experts: record.whole("num_experts")?,
        top_k: record.whole("topk")?,
        tokens_per_device: record.whole("tokens_per_rank")?,
        dispatch,
        combine: Dtype::Bf16,
        stands_in,
    })?;
    let software = Software { kernel: name.to_owned(), ..record.software()? };
    let time = record.time("transmit_us", 1e-6)?;
    let format = record.text("comm_dtype").unwrap_or_default().to_owned();
    Ok(Measured { format, ..record.measured(device, software, (op, Subset::All), case, time) })
}

/// An exchange that can take place, or the number that is out of its range.
pub(super) fn possible(case: ExchangeCase) -> Result<Case, RowError> {
    let ExchangeCase { nodes, per_node, hidden, experts, top_k, .. } = case;
    let numbers = [
        ("devices", per_node, (1..=4096).contains(&per_node), "a whole number from 1 to 4096"),
        ("nodes", nodes, (1..=4096).contains(&nodes), "a whole number from 1 to 4096"),
        ("hidden size", hidden, (1..=1 << 20).contains(&hidden), "a whole number from 1 to 2^20"),
        ("experts", experts, (1..=1 << 16).contains(&experts), "a whole number from 1 to 65536"),
        ("experts per token", top_k, (1..=experts).contains(&top_k), "1 to the number of experts"),
    ];
    match numbers.into_iter().find(|(_, _, fine, _)| !fine) {
        None => Ok(Case::Exchange(case)),
        Some((field, value, _, rule)) => {
            Err(RowError::Number { field: field.to_owned(), value: value.to_string(), rule })
        }
    }
}

/// The key of the device whose full name the row states; else the key it is filed under.
pub(super) fn device(record: &Record) -> Result<String, RowError> {
    let full = record.text("device").unwrap_or_default();
    let known = [
        ("GB200", "gb200"),
        ("A100", "a100_sxm"),
        ("H100", "h100_sxm"),
        ("H200", "h200_sxm"),
        ("B200", "b200_sxm"),
    ];
    let found = known.into_iter().find(|(name, _)| full.contains(name));
    found.map_or_else(|| record.device(), |(_, key)| Ok(key.to_owned()))
}
