//! Attention of one device: the tables of `nvidia_attention_…` and `nvidia_latent_attention_…`.
//!
//! Tables of 16-bit floats alone state no formats. Latent attention is DeepSeek-V3's.

use crate::measurements::record::{Record, RowError, unknown};
use crate::validate::measured::{Case, LatentBlockCase, Measured, Op, Subset};
use moe_gps_core::cost::attention::{Heads, Span};
use moe_gps_core::cost::latent::DEEPSEEK_V3;
use moe_gps_core::system::{Dtype, Operands, Phase};

pub(super) fn prefill(record: &Record) -> Result<Measured, RowError> {
    let (heads, span) = (heads(record)?, span(record, Phase::Prefill)?);
    // Prompts of one token go to the kernel of decode in some libraries, and are what it computes.
    let decodes = record.text("kernel").is_some_and(|kernel| kernel.contains("decode"));
    let case = if decodes { Case::Decode(heads, span) } else { Case::Prefill(heads, span) };
    measured(record, Op::AttentionPrefill, case)
}

pub(super) fn decode(record: &Record) -> Result<Measured, RowError> {
    let case = Case::Decode(heads(record)?, span(record, Phase::Decode)?);
    measured(record, Op::AttentionDecode, case)
}

pub(super) fn latent_prefill(record: &Record) -> Result<Measured, RowError> {
    let heads = DEEPSEEK_V3.heads(record.number("num_heads")?, Phase::Prefill);
    let case = Case::Prefill(heads, span(record, Phase::Prefill)?);
    measured(record, Op::LatentAttentionPrefill, case)
}

pub(super) fn latent_decode(record: &Record) -> Result<Measured, RowError> {
    let heads = DEEPSEEK_V3.heads(record.number("num_heads")?, Phase::Decode);
    let case = Case::Decode(heads, span(record, Phase::Decode)?);
    measured(record, Op::LatentAttentionDecode, case)
}

pub(super) fn latent_prefill_block(record: &Record) -> Result<Measured, RowError> {
    block(record, Op::LatentAttentionPrefillBlock, Phase::Prefill)
}

pub(super) fn latent_decode_block(record: &Record) -> Result<Measured, RowError> {
    block(record, Op::LatentAttentionDecodeBlock, Phase::Decode)
}

fn block(record: &Record, op: Op, phase: Phase) -> Result<Measured, RowError> {
    let (name, projections) = record.products("gemm_type")?;
    let span = span(record, phase)?;
    let case = LatentBlockCase { phase, heads: record.number("num_heads")?, span, projections };
    let mut row = measured(record, op, Case::LatentBlock(case))?;
    // What is cached, what is computed and what projects: the last is the checkpoint's.
    row.format = format!("{name}/{}", record.required("kv_cache_dtype")?);
    Ok(row)
}

fn span(record: &Record, phase: Phase) -> Result<Span, RowError> {
    let (new, context) = match phase {
        Phase::Prefill => (record.number("isl")?, record.number("isl")?),
        Phase::Decode => (1.0, record.number("kv_len")?),
    };
    let window = record.text("window_size").map(|_| record.number("window_size")).transpose()?;
    let sequences = record.number("batch_size")?;
    Ok(Span { sequences, new, context, window: window.filter(|window| *window > 0.0) })
}

fn heads(record: &Record) -> Result<Heads, RowError> {
    let query = record.number("num_heads")?;
    Ok(grouped(query, record.number("num_key_value_heads")?, record.number("head_dim")?))
}

/// Grouped-query heads of one width, a key and a value cached for each.
pub(super) const fn grouped(query: f64, kv: f64, width: f64) -> Heads {
    Heads { query, kv, qk_width: width, v_width: width, cached: 2.0 * width }
}

fn measured(record: &Record, op: Op, case: Case) -> Result<Measured, RowError> {
    let time = record.time("latency_ms", 1e-3)?;
    let row = record.measured(record.device()?, record.software()?, (op, Subset::All), case, time);
    let attention = record.text("attn_dtype").or_else(|| record.text("mla_dtype"));
    let Some(attention) = attention else {
        return Ok(Measured { format: "bfloat16".to_owned(), ..row });
    };
    let cache = record.required("kv_cache_dtype")?;
    let format = |field: &str, name: &str| match name {
        "bfloat16" | "float16" => Ok(Dtype::Bf16),
        "fp8" => Ok(Dtype::Fp8),
        name => Err(unknown(field, name)),
    };
    let operands = Operands::of(format("kv_cache_dtype", cache)?, format("attn_dtype", attention)?);
    Ok(Measured { format: format!("{attention}/{cache}"), operands, ..row })
}
