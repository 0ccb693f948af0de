//! The tables of `nvidia_grouped_expert_ffn_…` and `nvidia_wide_ep_experts_fp8.csv`.
//!
//! Both time the device with the most tokens of an expert-parallel group; `num_tokens`
//! is that of the whole group.

use crate::measurements::record::{Record, RowError, number, unknown};
use crate::validate::draws::Drawn;
use crate::validate::measured::{Case, ExpertCase, Loads, Measured, Op, Software, Subset};

pub(super) fn grouped(record: &Record) -> Result<Measured, RowError> {
    let model = record.text("model_shape").unwrap_or_default();
    let devices = record.whole("moe_ep_size")?;
    let (loads, subset) = loads(record, devices, None)?;
    let tokens = record.number("num_tokens")?;
    let case = ExpertCase {
        model: model.to_owned(),
        hidden: record.number("hidden_size")?,
        intermediate: record.number("inter_size")? / record.number("moe_tp_size")?.max(1.0),
        gated: !is_of_two_matrices(record)?,
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

/// Whether an expert has two matrices, not three: so says the kernel's name, or the shape, which is
/// Nemotron 3's (its rows would else read weights faster than the memory does).
fn is_of_two_matrices(record: &Record) -> Result<bool, RowError> {
    let named = record.text("kernel").is_some_and(|kernel| kernel.contains("nongated"));
    let nano = (record.whole("hidden_size")?, record.whole("inter_size")?) == (2688, 1856);
    let latent = (record.whole("topk")?, record.whole("num_experts")?) == (22, 512);
    Ok(named || nano || latent)
}

pub(super) fn wide(record: &Record) -> Result<Measured, RowError> {
    let devices = record.whole("moe_ep_size")?;
    let slots = record.text("num_slots").map(|_| record.whole("num_slots")).transpose()?;
    let (loads, subset) = loads(record, devices, slots)?;
    let case = ExpertCase {
        model: "DeepSeek-V3/R1".to_owned(),
        hidden: record.number("hidden_size")?,
        intermediate: record.number("inter_size")?,
        gated: true,
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
    let (format, operands) = record.products("dtype")?;
    let row = record.measured(device, software, of, Case::Experts(case), time);
    Ok(Measured { format, operands, ..row })
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
