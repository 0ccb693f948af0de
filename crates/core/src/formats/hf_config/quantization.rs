//! Number formats of a checkpoint's weights, from its `quantization_config`.
//!
//! Experts and the rest apart: what `quantized_layers`, `config_groups` or `expert_dtype` say of
//! experts is theirs, and modules that are left out (`ignore`, `modules_to_not_convert`,
//! `exclude_modules`) keep 16 bits. Routers, norms and embeddings keep 16 bits in any case, and one
//! pattern for the layers' attention stands for the rest, which is mostly that.

use serde_json::{Map, Value};

use crate::formats::hf_config::fields::Fields;
use crate::system::{Dtype, Quantization};

/// Reads the format from the outer configuration, else from the language model's own.
pub(super) fn read(top: &mut Fields<'_>, inner: &mut Fields<'_>) -> Option<Quantization> {
    let found = [top.object("quantization_config"), inner.object("quantization_config")];
    let expert = inner.text("expert_dtype").unwrap_or(None);
    let config = found.into_iter().flatten().next()?;
    // Files of ModelOpt keep it one level deeper.
    let config = config.get("quantization").and_then(Value::as_object).unwrap_or(config);
    let mut formats = of(config);
    if let (Some(formats), Some("fp4" | "mxfp4")) = (&mut formats, expert) {
        let blocks = formats.experts == Dtype::Fp8 || formats.experts == Dtype::Fp8Block;
        if blocks {
            formats.experts = Dtype::Mxfp4;
        }
    }
    if formats.is_none() {
        inner.unpriced(format!(
            "quantization_config of the method {}, whose formats are not known; state `workload.quantization`",
            config.get("quant_method").or(config.get("quant_algo")).unwrap_or(&Value::Null)
        ));
    }
    formats
}

fn text<'a>(config: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    config.get(name).and_then(Value::as_str)
}

fn of(config: &Map<String, Value>) -> Option<Quantization> {
    let method = text(config, "quant_method").unwrap_or_default();
    let algorithm = text(config, "quant_algo").and_then(of_algorithm);
    let groups = of_groups(config);
    let all = match method {
        "mxfp4" => Some(Dtype::Mxfp4),
        "fp8" if config.get("weight_block_size").is_some_and(Value::is_array) => {
            Some(Dtype::Fp8Block)
        }
        "fp8" | "fbgemm_fp8" => Some(Dtype::Fp8),
        "awq" | "gptq" | "auto-round" => of_bits(config.get("bits").and_then(Value::as_u64)?),
        "quark" => {
            let weight = config.get("global_quant_config")?.get("weight")?.as_object()?;
            match text(weight, "dtype")? {
                "fp4" => Some(Dtype::Mxfp4),
                "fp8_e4m3" => Some(Dtype::Fp8),
                _ => None,
            }
        }
        _ => None,
    };
    let [listed_experts, listed_rest] = of_layers(config);
    let [group_experts, group_rest] = groups;
    let experts = text(config, "moe_quant_algo").and_then(of_algorithm);
    let experts = experts.or(listed_experts).or(group_experts).or(algorithm).or(all)?;
    let rest = all.or(listed_rest).or(group_rest).or(algorithm);
    // Where experts have a format of their own, what is left out is left out of that.
    let apart = all.is_some_and(|all| all != experts);
    let rest = rest.filter(|_| apart || !leaves_attention_out(config));
    Some(Quantization { experts, rest: rest.unwrap_or(Dtype::Bf16) })
}

const fn of_bits(bits: u64) -> Option<Dtype> {
    match bits {
        4 => Some(Dtype::Int4),
        8 => Some(Dtype::Fp8),
        _ => None,
    }
}

/// `ModelOpt`'s names of formats.
fn of_algorithm(name: &str) -> Option<Dtype> {
    let name = name.to_ascii_lowercase();
    match () {
        () if name.contains("nvfp4") => Some(Dtype::Nvfp4),
        () if name.contains("mxfp4") => Some(Dtype::Mxfp4),
        () if name.contains("int4") || name.contains("w4a16") => Some(Dtype::Int4),
        () if name.contains("fp8") && name.contains("pb") => Some(Dtype::Fp8Block),
        () if name.contains("fp8") => Some(Dtype::Fp8),
        () => None,
    }
}

/// Formats of experts and of the rest by a list of layers with their algorithms.
fn of_layers(config: &Map<String, Value>) -> [Option<Dtype>; 2] {
    let layers = config.get("quantized_layers").and_then(Value::as_object);
    let of = |is_expert: bool| {
        layers?
            .iter()
            .filter(|(name, _)| if is_expert { is_of_experts(name) } else { is_attention(name) })
            .find_map(|(_, layer)| of_algorithm(layer.get("quant_algo")?.as_str()?))
    };
    [of(true), of(false)]
}

/// The same by groups of targets, as compressed-tensors has them.
fn of_groups(config: &Map<String, Value>) -> [Option<Dtype>; 2] {
    let groups = config.get("config_groups").and_then(Value::as_object);
    let targets = |group: &Value| -> Vec<String> {
        let listed = group.get("targets").and_then(Value::as_array);
        let texts = listed.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let of = |is_it: &dyn Fn(&str) -> bool| {
        groups?
            .values()
            .filter(|group| targets(group).iter().any(|target| target == "Linear" || is_it(target)))
            .find_map(|group| of_weights(group.get("weights")?.as_object()?))
    };
    [of(&is_of_experts), of(&is_attention)]
}

/// The format of `num_bits`, `type` and `group_size`.
fn of_weights(weights: &Map<String, Value>) -> Option<Dtype> {
    let bits = weights.get("num_bits").and_then(Value::as_u64)?;
    let group = weights.get("group_size").and_then(Value::as_u64);
    match (bits, text(weights, "type")?) {
        (4, "float") if group == Some(16) => Some(Dtype::Nvfp4),
        (4, "float") => Some(Dtype::Mxfp4),
        (8, "float") if text(weights, "strategy") == Some("block") => Some(Dtype::Fp8Block),
        (bits, _) => of_bits(bits),
    }
}

/// Whether a name of a module or a target is that of routed experts.
fn is_of_experts(name: &str) -> bool {
    name.contains("expert") && !name.contains("shared")
}

/// Whether a name of a module or a target is that of attention.
fn is_attention(name: &str) -> bool {
    ["self_attn", ".attn", "attention", "linear_attn"].iter().any(|part| name.contains(part))
}

/// Whether whole attentions are left out: a pattern of theirs, or one of their projections.
fn leaves_attention_out(config: &Map<String, Value>) -> bool {
    let lists = ["ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers"];
    let names = lists.iter().filter_map(|list| config.get(*list)?.as_array()).flatten();
    names.filter_map(Value::as_str).any(|name| {
        let name = name.trim_end_matches(['*', '.', '$']);
        ["self_attn", "linear_attn", ".attn", "attention", "q_proj", "q_b_proj", "qkv_proj"]
            .iter()
            .any(|end| name.ends_with(end))
    })
}
