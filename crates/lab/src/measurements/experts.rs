//! `nvidia_grouped_expert_ffn_bf16.csv` and `nvidia_wide_ep_experts_fp8.csv`.
//!
//! Both time the device with the most tokens of an expert-parallel group; `num_tokens`
//! is that of the whole group.

use crate::measurements::record::{Record, RowError, number, unknown};
use crate::validate::draws::Drawn;
use crate::validate::measured::{Case, ExpertCase, Loads, Measured, Op, Software, Subset};
use moe_gps_core::system::Dtype;

pub(super) fn grouped(record: &Record) -> Result<Measured, RowError> {
    let model = record.required("model_shape")?;
    let devices = record.whole("moe_ep_size")?;
    let (loads, subset) = loads(record, devices, None)?;
    let tokens = record.number("num_tokens")?;
    let case = ExpertCase {
        model: model.to_owned(),
        hidden: record.number("hidden_size")?,
        intermediate: record.number("inter_size")? / record.number("moe_tp_size")?.max(1.0),
        weights: Dtype::Bf16,
        group_tokens: Some(tokens),
        group_pairs: tokens * record.number("topk")?,
        loads,
        looped: false,
    };
    let device = record.device()?;
    let software = record.software()?;
    let known_bad = software.kernel == "moe_torch_flow_cutlass"
        && (model == "Llama-4-Scout" && [2, 8, 16].contains(&devices)
            || model.starts_with("DeepSeek-V3") && device == "h200_sxm" && devices == 64);
    let subset = if known_bad { Subset::Excluded } else { subset };
    measured(record, device, software, subset, case)
}

pub(super) fn wide(record: &Record) -> Result<Measured, RowError> {
    let devices = record.whole("moe_ep_size")?;
    let slots = record.text("num_slots").map(|_| record.whole("num_slots")).transpose()?;
    let (loads, subset) = loads(record, devices, slots)?;
    let case = ExpertCase {
        model: "DeepSeek-V3/R1".to_owned(),
        hidden: record.number("hidden_size")?,
        intermediate: record.number("inter_size")?,
        weights: Dtype::Fp8,
        // After the exchange a device holds the tokens of its own experts only.
        group_tokens: None,
        group_pairs: 0.0,
        loads,
        looped: false,
    };
    let mut software = record.software()?;
    // One name, two kernels: grouped rows in the context phase, padded ones in generation.
    if let Some(phase @ ("context" | "generation")) = record.text("phase") {
        software.kernel = format!("{} {phase}", software.kernel);
    }
    measured(record, record.device()?, software, subset, case)
}

fn measured(
    record: &Record,
    device: String,
    software: Software,
    subset: Subset,
    case: ExpertCase,
) -> Result<Measured, RowError> {
    let time = record.time("latency_ms", 1e-3)?;
    let of = (Op::GroupedExpertFfn, subset);
    Ok(record.measured(device, software, of, Case::Experts(case), time))
}

/// Tokens per expert on the timed device, by the row's distribution.
fn loads(record: &Record, devices: u32, slots: Option<u32>) -> Result<(Loads, Subset), RowError> {
    let (tokens, top_k) = (record.whole("num_tokens")?, record.whole("topk")?);
    let experts = record.whole("num_experts")?;
    let name = record.required("distribution")?;
    if name == "balanced" || name == "uniform" {
        let tokens = balanced(f64::from(tokens) * f64::from(top_k), experts, devices);
        return Ok((Loads::Counts { tokens, zipf: 0.0 }, Subset::Balanced));
    }
    let exponent = name.strip_prefix("power_law_").ok_or_else(|| unknown("distribution", name))?;
    let (exponent, planned) = match exponent.strip_suffix("_eplb") {
        Some(exponent) => (exponent, true),
        None => (exponent, false),
    };
    let exponent = number("distribution", exponent)?;
    let plan_slots = planned.then(|| slots.unwrap_or(experts));
    let drawn = Drawn { exponent, tokens, top_k, experts, devices, plan_slots };
    Ok((Loads::Drawn(drawn), Subset::PowerLaw))
}

/// Equal loads; with fewer pairs than experts one token each for as many as are reached.
fn balanced(pairs: f64, experts: u32, devices: u32) -> Vec<f64> {
    let local = (experts / devices.max(1)).max(1);
    let each = pairs / f64::from(experts.max(1));
    if each >= 1.0 {
        return vec![each; local as usize];
    }
    let reached = (pairs / f64::from(devices.max(1))).ceil().clamp(1.0, f64::from(local));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to local")]
    let reached = reached as usize;
    vec![1.0; reached]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_loads_are_equal_or_one_token_each() {
        assert_eq!(balanced(8192.0, 128, 4), vec![64.0; 32]);
        assert_eq!(balanced(8.0, 128, 4), vec![1.0; 2]);
        assert_eq!(balanced(8.0, 256, 64), vec![1.0; 1]);
    }
}
