//! `nvidia_end_to_end_moe.csv`: servers under load, two measurements a row.
//!
//! Written down before errors were looked at, in `docs/accuracy-serving.md`: how a row becomes a
//! system, and which rows are excluded. TPOT is excluded where prompts and decode ran apart or the
//! parallelism is not stated; TTFT besides where more than four requests were served at once, since
//! it then holds the queue.

use crate::measurements::record::{Record, RowError, unknown};
use crate::validate::measured::{Case, Measured, Op, ServerCase, Software, Subset};
use moe_gps_core::engines;

/// Requests at once up to which a first token waits for little but its own prompt.
const WITHOUT_QUEUE: u64 = 4;

pub(super) fn first_token(record: &Record) -> Result<Measured, RowError> {
    row(record, Op::Ttft, "silicon_ttft_ms")
}

pub(super) fn per_token(record: &Record) -> Result<Measured, RowError> {
    row(record, Op::Tpot, "silicon_tpot_ms")
}

fn row(record: &Record, op: Op, time: &str) -> Result<Measured, RowError> {
    let backend = record.required("backend")?;
    let engine = engines::by_framework(backend).ok_or_else(|| unknown("backend", backend))?;
    let time = record.time(time, 1e-3)?;
    let count = |field: &str| record.text(field).map(|_| record.whole(field)).transpose();
    let (gemm, dense) = record.products("gemm_quant_mode")?;
    let (moe, routed) = record.products("moe_quant_mode")?;
    let concurrency = concurrency(record)?;
    let software = Software {
        framework: backend.to_owned(),
        version: record.text("backend_version").unwrap_or_default().to_owned(),
        kernel: record.required("model_path")?.to_owned(),
    };
    let tensor = count("tp_size")?;
    let sharded = count("moe_tp_size")?.unwrap_or(1);
    let groups = count("moe_ep_size")?.unwrap_or(1);
    // Replicas that are not stated are those that make attention as large as the experts' group.
    let replicas = match (count("attention_dp_size")?, tensor) {
        (Some(stated), _) => stated,
        (None, Some(tensor)) => (sharded * groups / tensor.max(1)).max(1),
        (None, None) => 1,
    };
    let case = ServerCase {
        model: software.kernel.clone(),
        engine,
        attention: [tensor.unwrap_or(1), replicas],
        experts: [sharded, groups],
        pipeline: count("pp_size")?.unwrap_or(1),
        tokens: [u64::from(record.whole("isl")?), u64::from(record.whole("osl")?)],
        concurrency,
        products: [dense, routed],
    };
    let together = record.required("mode")? == "agg" && tensor.is_some();
    let subset = match op {
        _ if !together => Subset::Excluded,
        Op::Ttft if concurrency > WITHOUT_QUEUE => Subset::Excluded,
        _ => Subset::All,
    };
    let row = record.measured(
        record.required("system")?.to_owned(),
        software,
        (op, subset),
        Case::Server(case),
        time,
    );
    Ok(Measured { format: format!("{gemm}/{moe}"), ..row })
}

/// Requests served at once: as the source states, else as the row's id, else the batch.
fn concurrency(record: &Record) -> Result<u64, RowError> {
    let stated = record.text("source").and_then(|source| {
        let (_, after) = source.split_once("silicon_concurrency=")?;
        after.split(';').next()?.trim().parse().ok()
    });
    let named = || {
        let mut parts = record.text("id")?.split('_');
        parts.find_map(|part| part.strip_prefix('c')?.parse().ok())
    };
    match stated.or_else(named) {
        Some(concurrency) => Ok(concurrency),
        None => record.whole("batch_size").map(u64::from),
    }
}
