//! `nvidia_attention_prefill_bf16.csv` and `nvidia_attention_decode_bf16.csv`.

use crate::measurements::record::{Record, RowError};
use crate::validate::measured::{Case, Measured, Op, Subset};
use moe_gps_core::cost::attention::{Heads, Span};

pub(super) fn prefill(record: &Record) -> Result<Measured, RowError> {
    let tokens = record.number("isl")?;
    let span = Span {
        sequences: record.number("batch_size")?,
        new: tokens,
        context: tokens,
        window: None,
    };
    measured(record, Op::AttentionPrefill, Case::Prefill(heads(record)?, span))
}

pub(super) fn decode(record: &Record) -> Result<Measured, RowError> {
    let span = Span {
        sequences: record.number("batch_size")?,
        new: 1.0,
        context: record.number("kv_len")?,
        window: None,
    };
    measured(record, Op::AttentionDecode, Case::Decode(heads(record)?, span))
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
    Ok(record.measured(record.device()?, record.software()?, (op, Subset::All), case, time))
}
