//! Operators by name and `key=value;…`: the schema that a user's own profiler can fill.
//!
//! `operators.csv`, or any name that ends in `.operators.csv`, with the columns `device`
//! (a catalog id, or the key of a table of ours), `framework`, `version`, `kernel`, `op`,
//! `shape` and `seconds`. Keys that an operator does not need are ignored. Tokens per
//! expert are `counts=a/b/…`, or follow from `distribution`. See `docs/calibrating.md`.

use std::collections::BTreeMap;

use crate::measurements::attention::grouped;
use crate::measurements::collectives::operation;
use crate::measurements::deepep::possible;
use crate::measurements::record::{Record, RowError, number, products, unknown, whole};
use crate::validate::measured::{
    BlockCase, Case, ExchangeCase, ExpertCase, Loads, Measured, Op, Software, Subset,
};
use moe_gps_core::comm::profile::{CollectiveKernel, DeepEpMode, Way};
use moe_gps_core::cost::attention::Span;
use moe_gps_core::cost::latent::LatentWidths;
use moe_gps_core::engines;
use moe_gps_core::system::{Dtype, Operands, Phase};
use moe_gps_core::units::Bytes;

/// Experts a lookup finds for a token; the table does not state it, and bytes are few.
const LOOKUP_TOP_K: f64 = 2.0;

pub(super) fn row(record: &Record) -> Result<Measured, RowError> {
    let text = |field: &str| record.text(field).unwrap_or_default().to_owned();
    let software = Software {
        framework: record.required("framework")?.to_owned(),
        version: text("version"),
        kernel: text("kernel"),
    };
    measured(record, record.required("device")?.to_owned(), software)
}

/// A row whose operator and shape are read, of a device and software that are known.
pub(super) fn measured(
    record: &Record,
    device: String,
    software: Software,
) -> Result<Measured, RowError> {
    let name = record.required("op")?;
    let shape = Shape::of(record.required("shape")?);
    let (op, case) = case(name, &shape)?;
    let (format, operands) = formats(&case, &shape)?;
    let subset = match &case {
        Case::Collective { size, .. } => Subset::of_size(*size),
        _ => Subset::All,
    };
    let time = record.time("seconds", 1.0)?;
    let row = record.measured(device, software, (op, subset), case, time);
    Ok(Measured { format, operands, ..row })
}

/// The number format of products, or of attention and its cache, where it is stated.
fn formats(case: &Case, shape: &Shape) -> Result<(String, Operands), RowError> {
    let of = |field: &str| {
        let name = shape.text(field).unwrap_or("bf16");
        products(name).map(|operands| (name, operands)).ok_or_else(|| unknown(field, name))
    };
    match case {
        Case::Gemm { .. } | Case::Experts(_) if shape.text("format").is_ok() => {
            of("format").map(|(name, operands)| (name.to_owned(), operands))
        }
        Case::Prefill(..) | Case::Decode(..)
            if shape.text("format").is_ok() || shape.text("cache").is_ok() =>
        {
            let ((attention, computed), (cache, stored)) = (of("format")?, of("cache")?);
            let operands = Operands::of(stored.stored, computed.computed);
            Ok((format!("{attention}/{cache}"), operands))
        }
        _ => Ok((String::new(), Operands::BF16)),
    }
}

fn case(name: &str, shape: &Shape) -> Result<(Op, Case), RowError> {
    Ok(match name {
        "gemm" => {
            let (m, n, k) = (shape.number("M")?, shape.number("N")?, shape.number("K")?);
            (Op::Gemm, Case::Gemm { m, n, k })
        }
        "attention_prefill" | "attention_prefill_causal" => {
            let width = shape.number("head_dim")?;
            let heads = grouped(shape.number("q_heads")?, shape.number("kv_heads")?, width);
            (Op::AttentionPrefill, Case::Prefill(heads, prompts(shape)?))
        }
        "attention_decode" => {
            let width = shape.number("head_dim")?;
            let heads = grouped(shape.number("q_heads")?, shape.number("kv_heads")?, width);
            (Op::AttentionDecode, Case::Decode(heads, decoding(shape)?))
        }
        "grouped_expert_ffn" => (Op::GroupedExpertFfn, Case::Experts(experts(shape, false)?)),
        "looped_expert_ffn" => (Op::LoopedExpertFfn, Case::Experts(experts(shape, true)?)),
        "rms_norm" => {
            let (rows, width) = (shape.number("tokens")?, shape.number("dim")?);
            (Op::RmsNorm, Case::Norm { rows, width })
        }
        "silu_mul" => {
            let (rows, width) = (shape.number("tokens")?, shape.number("dim")?);
            (Op::SiluMul, Case::GatedActivation { rows, width })
        }
        "softmax_topk" => {
            let (tokens, experts) = (shape.number("tokens")?, shape.number("experts")?);
            (Op::SoftmaxTopk, Case::TopK { tokens, experts })
        }
        "latent_attention_prefill" => {
            let heads = latent(shape)?.heads(shape.number("q_heads")?, Phase::Prefill);
            (Op::LatentAttentionPrefill, Case::Prefill(heads, prompts(shape)?))
        }
        "latent_attention_decode" => {
            let heads = latent(shape)?.heads(shape.number("q_heads")?, Phase::Decode);
            (Op::LatentAttentionDecode, Case::Decode(heads, decoding(shape)?))
        }
        "predictor_ffn" => (Op::PredictorFfn, feed_forward(shape)?),
        "predictor_linear" => (Op::PredictorLinear, linear(shape)?),
        "predictor_lstm" => (Op::PredictorLstm, recurrent(shape)?),
        "attention_block" => (Op::AttentionBlock, Case::AttentionBlock(block(shape)?)),
        "predictor_ffn_before_attention" => {
            (Op::FfnBeforeAttention, before(feed_forward(shape)?, shape)?)
        }
        "predictor_ffn_beside_attention" => {
            (Op::FfnBesideAttention, beside(feed_forward(shape)?, shape)?)
        }
        "predictor_linear_before_attention" => {
            (Op::LinearBeforeAttention, before(linear(shape)?, shape)?)
        }
        "predictor_linear_beside_attention" => {
            (Op::LinearBesideAttention, beside(linear(shape)?, shape)?)
        }
        "predictor_lstm_before_attention" => {
            (Op::LstmBeforeAttention, before(recurrent(shape)?, shape)?)
        }
        "predictor_lstm_beside_attention" => {
            (Op::LstmBesideAttention, beside(recurrent(shape)?, shape)?)
        }
        "predictor_lookup" => {
            let tokens = shape.number("tokens")?;
            let top_k = shape.number("top_k").unwrap_or(LOOKUP_TOP_K);
            (Op::PredictorLookup, Case::Lookup { tokens, top_k })
        }
        "copy" | "copy_d2d" => (Op::Copy, Case::Copy(Bytes::new(shape.number("bytes")?))),
        "copy_h2d_pinned" => (Op::Copy, Case::NoLaw("copies between host and device")),
        "dispatch" => (Op::Dispatch, exchange(Way::Dispatch, shape)?),
        "combine" => (Op::Combine, exchange(Way::Combine, shape)?),
        "alltoall_split" => split(shape)?,
        "launch_host" => {
            (Op::Launch, Case::NoLaw("eager_launch_s counts the launches of a whole layer"))
        }
        "launch_device" => (Op::Launch, Case::NoLaw("it is in the start-up of every law")),
        "layer_attention" | "layer_router" | "layer_other" | "layer_shared"
        | "layer_all_reduce" | "layer_experts" | "layer_dispatch" | "layer_combine" => (
            Op::LayerTerm,
            Case::NoLaw("its prediction is in layer.STRATEGY.json beside the table"),
        ),
        name => collective(name, shape)?,
    })
}

fn collective(name: &str, shape: &Shape) -> Result<(Op, Case), RowError> {
    let (operation, op) = operation(name).ok_or_else(|| unknown("op", name))?;
    let library = shape.text("library").unwrap_or("nccl");
    let kernel = one_of("library", library, &CollectiveKernel::ALL)?;
    let devices = whole("devices", shape.text("devices")?)?;
    let size = Bytes::new(shape.number("bytes")?);
    Ok((op, Case::Collective { kernel, operation, devices, size }))
}

/// An exchange with stated parts: priced by the device that receives most, as if all did.
fn split(shape: &Shape) -> Result<(Op, Case), RowError> {
    let (_, mut case) = collective("alltoall", shape)?;
    if let Case::Collective { size, .. } = &mut case {
        *size = *size * shape.number("max_over_mean")?;
    }
    Ok((Op::AlltoallSplit, case))
}

/// Whole prompts.
fn prompts(shape: &Shape) -> Result<Span, RowError> {
    let tokens = shape.number("seq")?;
    Ok(Span { sequences: shape.number("batch")?, new: tokens, context: tokens, window: None })
}

/// One new token per sequence.
fn decoding(shape: &Shape) -> Result<Span, RowError> {
    let (sequences, context) = (shape.number("batch")?, shape.number("kv_len")?);
    Ok(Span { sequences, new: 1.0, context, window: None })
}

/// Widths of latent attention; its kernel does not depend on those of the projections.
fn latent(shape: &Shape) -> Result<LatentWidths, RowError> {
    Ok(LatentWidths {
        hidden: 0.0,
        query_rank: None,
        rank: shape.number("kv_lora_rank")?,
        rope: shape.number("qk_rope_head_dim")?,
        nope: shape.number("qk_nope_head_dim")?,
        value: shape.number("v_head_dim")?,
    })
}

/// Attention with its projections; sequences of one new token decode.
fn block(shape: &Shape) -> Result<BlockCase, RowError> {
    let width = shape.number("head_dim")?;
    let decodes = shape.text("seq")? == "1";
    Ok(BlockCase {
        phase: if decodes { Phase::Decode } else { Phase::Prefill },
        hidden: shape.number("hidden")?,
        heads: grouped(shape.number("q_heads")?, shape.number("kv_heads")?, width),
        span: if decodes { decoding(shape)? } else { prompts(shape)? },
    })
}

fn before(predictor: Case, shape: &Shape) -> Result<Case, RowError> {
    Ok(Case::BeforeAttention(Box::new(predictor), block(shape)?))
}

fn beside(predictor: Case, shape: &Shape) -> Result<Case, RowError> {
    Ok(Case::BesideAttention(Box::new(predictor), block(shape)?))
}

/// Tokens and widths of a predictor without recurrence.
fn dense(shape: &Shape) -> Result<(f64, Vec<f64>), RowError> {
    let widths = shape.text("dims")?.split('-').map(|width| number("dims", width));
    Ok((shape.number("tokens")?, widths.collect::<Result<_, _>>()?))
}

fn feed_forward(shape: &Shape) -> Result<Case, RowError> {
    dense(shape).map(|(tokens, widths)| Case::PredictorFfn { tokens, widths })
}

fn linear(shape: &Shape) -> Result<Case, RowError> {
    dense(shape).map(|(tokens, widths)| Case::PredictorLinear { tokens, widths })
}

/// One way of a DeepEP-like exchange under uniform routing, on whole nodes of eight devices.
fn exchange(way: Way, shape: &Shape) -> Result<Case, RowError> {
    possible(ExchangeCase {
        engine: one_of("engine", shape.text("engine")?, &engines::names())?,
        mode: one_of("mode", shape.text("mode")?, &DeepEpMode::ALL)?,
        per_node: shape
            .text("devices_per_node")
            .map_or(Ok(8), |text| whole("devices_per_node", text))?,
        combine: Dtype::Bf16,
        way,
        nodes: whole("nodes", shape.text("nodes").unwrap_or("1"))?,
        hidden: whole("hidden", shape.text("hidden")?)?,
        experts: whole("experts", shape.text("experts")?)?,
        top_k: whole("top_k", shape.text("top_k")?)?,
        tokens_per_device: whole("tokens", shape.text("tokens")?)?,
        dispatch: format(shape)?,
        stands_in: None,
    })
}

/// The number format of a shape; 16 bits if it is not stated.
fn format(shape: &Shape) -> Result<Dtype, RowError> {
    match shape.text("format").unwrap_or("bf16") {
        "bf16" | "fp16" => Ok(Dtype::Bf16),
        "fp8" => Ok(Dtype::Fp8),
        format => Err(unknown("format", format)),
    }
}

/// The value that has a name.
fn one_of<T: Copy>(field: &str, name: &str, all: &[(T, &str)]) -> Result<T, RowError> {
    let found = all.iter().find(|(_, known)| *known == name);
    found.map(|(value, _)| *value).ok_or_else(|| unknown(field, name))
}

/// A recurrent predictor: `dims` is input-widthxlayers-output.
fn recurrent(shape: &Shape) -> Result<Case, RowError> {
    let dims = shape.text("dims")?;
    let parts: Vec<&str> = dims.split('-').collect();
    let (Some(input), Some(inner)) = (parts.first(), parts.get(1)) else {
        return Err(unknown("dims", dims));
    };
    let (width, layers) = inner.split_once('x').unwrap_or((inner, "1"));
    Ok(Case::PredictorLstm {
        sequences: shape.number("batch")?,
        tokens: shape.number("seq")?,
        input: number("dims", input)?,
        width: number("dims", width)?,
        layers: number("dims", layers)?,
    })
}

fn experts(shape: &Shape, looped: bool) -> Result<ExpertCase, RowError> {
    let name = shape.text("distribution").unwrap_or("uniform");
    let zipf = match name {
        "uniform" | "balanced" => 0.0,
        name => {
            let exponent =
                name.strip_prefix("zipf").ok_or_else(|| unknown("distribution", name))?;
            number("distribution", exponent)?
        }
    };
    let tokens = match shape.text("counts") {
        Ok(counts) => {
            counts.split('/').map(|count| number("counts", count)).collect::<Result<_, _>>()?
        }
        Err(_) => zipf_counts(shape.number("local_experts")?, shape.number("routed_tokens")?, zipf),
    };
    Ok(ExpertCase {
        model: shape.text("model").unwrap_or_default().to_owned(),
        hidden: shape.number("hidden")?,
        intermediate: shape.number("intermediate")?,
        gated: true,
        group_tokens: shape.number("group_tokens").ok(),
        group_pairs: shape.number("group_pairs").unwrap_or(0.0),
        loads: Loads::Counts { tokens, zipf },
        looped,
    })
}

/// Tokens per expert, `floor(p_i · tokens)` with `p_i ∝ i^−z`, the remainder to expert 0.
fn zipf_counts(experts: f64, tokens: f64, z: f64) -> Vec<f64> {
    let mut ranks = 1.0;
    let mut weights = Vec::new();
    while ranks <= experts {
        weights.push(libm::pow(ranks, -z));
        ranks += 1.0;
    }
    let sum: f64 = weights.iter().sum();
    // A share that is whole but for rounding must not lose a token.
    let mut counts: Vec<f64> =
        weights.iter().map(|weight| (weight / sum * tokens + 1e-9).floor()).collect();
    let rest = tokens - counts.iter().sum::<f64>();
    if let Some(first) = counts.first_mut() {
        *first += rest;
    }
    counts
}

/// The `key=value` pairs of a row.
struct Shape<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Shape<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.split(';').filter_map(|pair| pair.trim().split_once('=')).collect())
    }

    fn text(&self, key: &str) -> Result<&'a str, RowError> {
        self.0.get(key).copied().ok_or_else(|| RowError::Missing(key.to_owned()))
    }

    fn number(&self, key: &str) -> Result<f64, RowError> {
        number(key, self.text(key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moe_gps_core::cost::latent::DEEPSEEK_V3;

    fn read(op: &str, shape: &str) -> Result<(Op, Case), RowError> {
        case(op, &Shape::of(shape))
    }

    fn counts(shape: &str) -> Vec<f64> {
        let (_, Case::Experts(case)) = read("grouped_expert_ffn", shape).unwrap() else {
            panic!("{shape}")
        };
        let Loads::Counts { tokens, .. } = case.loads else { panic!("{shape}") };
        tokens
    }

    #[test]
    fn loads_are_stated_or_follow_zipf() {
        let common = "model=mixtral;local_experts=2;routed_tokens=256;hidden=8;intermediate=8";
        assert_eq!(counts(&format!("{common};distribution=zipf1.0")), [171.0, 85.0]);
        assert_eq!(counts(&format!("{common};distribution=uniform")), [128.0, 128.0]);
        assert_eq!(counts(&format!("{common};distribution=zipf1.0;counts=200/56")), [200.0, 56.0]);
        assert_eq!(zipf_counts(3.0, 10.0, 0.0), [4.0, 3.0, 3.0]);
    }

    #[test]
    fn unknown_keys_are_ignored_and_unknown_operators_named() {
        let (op, case) = read("rms_norm", "tokens=4;dim=768;eps=1e-6;colour=red").unwrap();
        assert_eq!((op, case), (Op::RmsNorm, Case::Norm { rows: 4.0, width: 768.0 }));
        assert_eq!(
            read("layer_cake", "").unwrap_err().to_string(),
            "op \"layer_cake\" is not known"
        );
        assert_eq!(read("gemm", "M=1;N=2").unwrap_err(), RowError::Missing("K".to_owned()));
        let latent =
            "q_heads=16;kv_lora_rank=512;qk_nope_head_dim=128;qk_rope_head_dim=64;v_head_dim=128";
        let (op, case) =
            read("latent_attention_decode", &format!("batch=4;kv_len=9;{latent}")).unwrap();
        let span = Span { sequences: 4.0, new: 1.0, context: 9.0, window: None };
        assert_eq!(op, Op::LatentAttentionDecode);
        assert_eq!(case, Case::Decode(DEEPSEEK_V3.heads(16.0, Phase::Decode), span));
        let whole = "layer_router";
        assert!(matches!(read(whole, "tokens=4").unwrap(), (Op::LayerTerm, Case::NoLaw(_))));
        let parts = "devices=2;bytes=4096;library=nccl;zipf=1.0;max_over_mean=1.333";
        let (op, Case::Collective { size, .. }) = read("alltoall_split", parts).unwrap() else {
            panic!("{parts}")
        };
        assert_eq!((op, size.get()), (Op::AlltoallSplit, 4096.0 * 1.333));
        let beside = "batch=16;seq=1;tokens=16;hidden=4096;q_heads=8;kv_heads=2;head_dim=128;kv_len=1024;dims=4096-128-8";
        let (op, case) = read("predictor_linear_beside_attention", beside).unwrap();
        let Case::BesideAttention(predictor, block) = case else { panic!("{case:?}") };
        assert_eq!(
            (op, block.phase, block.span.context),
            (Op::LinearBesideAttention, Phase::Decode, 1024.0)
        );
        let widths = vec![4096.0, 128.0, 8.0];
        assert_eq!(*predictor, Case::PredictorLinear { tokens: 16.0, widths });
        let shape = "engine=vllm;mode=normal;hidden=7168;experts=256;top_k=8;tokens=64;format=fp8";
        let (op, Case::Exchange(case)) = read("combine", shape).unwrap() else { panic!("{shape}") };
        assert_eq!((op, case.way, case.nodes), (Op::Combine, Way::Combine, 1));
        assert_eq!((case.tokens_per_device, case.dispatch), (64, Dtype::Fp8));
        assert_eq!(
            read("dispatch", &shape.replace("normal", "fast")).unwrap_err().to_string(),
            "mode \"fast\" is not known"
        );
        for (from, to, message) in [
            ("top_k=8", "top_k=0", "experts per token is \"0\", which is not 1 to the number"),
            (
                "experts=256",
                "experts=4",
                "experts per token is \"8\", which is not 1 to the number",
            ),
            (
                "mode=",
                "nodes=0;mode=",
                "nodes is \"0\", which is not a whole number from 1 to 4096",
            ),
            ("mode=", "nodes=4294967295;mode=", "nodes is \"4294967295\", which is not"),
            ("hidden=7168", "hidden=0", "hidden size is \"0\", which is not a whole number from 1"),
        ] {
            let refused = read("dispatch", &shape.replace(from, to)).unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
        }
        let (_, case) = read("predictor_lstm", "batch=1;seq=512;dims=4096-64x2-8").unwrap();
        let expected = Case::PredictorLstm {
            sequences: 1.0,
            tokens: 512.0,
            input: 4096.0,
            width: 64.0,
            layers: 2.0,
        };
        assert_eq!(case, expected);
    }
}
