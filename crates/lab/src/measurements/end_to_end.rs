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
    let mut experts = [count("moe_tp_size")?.unwrap_or(1), count("moe_ep_size")?.unwrap_or(1)];
    // Replicas that are not stated are those that make attention as large as the experts' group.
    let replicas = match (count("attention_dp_size")?, tensor) {
        (Some(stated), _) => stated,
        (None, Some(tensor)) => (experts[0] * experts[1] / tensor.max(1)).max(1),
        (None, None) => 1,
    };
    let mut attention = [tensor.unwrap_or(1), replicas];
    if let Some([devices, groups]) = named_parallelism(record)
        && groups > 1
        && experts[0] * experts[1] == devices * groups
    {
        // The columns hold the product of the two.
        experts = [(devices / groups).max(1), groups];
        let tensor = attention[0].min(devices);
        attention = [tensor, devices / tensor.max(1)];
    }
    let case = ServerCase {
        model: software.kernel.clone(),
        engine,
        attention,
        experts,
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

/// Devices and groups of experts as the row's id names them: `…_tp8_ep8_…`.
fn named_parallelism(record: &Record) -> Option<[u32; 2]> {
    let mut parts = record.text("id")?.split('_');
    let devices = parts.find_map(|part| part.strip_prefix("tp")?.parse().ok())?;
    Some([devices, parts.next()?.strip_prefix("ep")?.parse().ok()?])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurements::read_rows;

    #[test]
    fn products_of_parallelism_are_taken_apart() {
        // tp, dp, moe_tp and moe_ep as the columns have them, and what they become.
        for (id, columns, attention, experts) in [
            ("x_c4_tp8_ep8_951", "64,1,8,8", [8, 1], [1, 8]),
            ("x_c256_tp8_ep8_2000", "1,64,8,8", [1, 8], [1, 8]),
            ("x_c4_tp4_ep4_1323", "4,,1,16", [4, 1], [1, 4]),
            ("x_c4_tp8_0_ep8_0_1256", "8,1,1,8", [8, 1], [1, 8]),
            ("x_c4_tp8_ep1_67", "8,1,8,1", [8, 1], [8, 1]),
            ("x_c8_tp2_epnone_22", "1,,2,1", [1, 2], [2, 1]),
        ] {
            let text = format!(
                "id,backend,model_path,system,mode,isl,osl,gemm_quant_mode,moe_quant_mode,batch_size,\
                 silicon_tpot_ms,tp_size,attention_dp_size,moe_tp_size,moe_ep_size\n\
                 {id},vllm,m,h200_sxm,agg,8,8,fp8,fp8,4,10,{columns}\n"
            );
            let table = read_rows(text.as_bytes(), per_token).unwrap();
            let Case::Server(case) = &table.rows[0].case else { panic!("no server") };
            assert_eq!((case.attention, case.experts), (attention, experts), "{id}");
        }
    }
}
