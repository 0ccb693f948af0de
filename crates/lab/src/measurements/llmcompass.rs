//! `llmcompass_a100.csv`: what LLMCompass's authors measured, with LLMCompass's own answer.
//!
//! Times of one device contain the host's launch, for which LLMCompass adds a constant
//! per operator; the same constant is added to our price. Its softmax, layer norm and GELU
//! are reported as the operators they come nearest to.

use crate::measurements::record::{Record, RowError, unknown};
use crate::validate::measured::{Case, Launch, Measured, Op, Software, Subset};
use moe_gps_core::comm::profile::{Collective, CollectiveKernel};
use moe_gps_core::cost::closed_form::{
    LLMCOMPASS_GEMM_LAUNCH, LLMCOMPASS_ROW_LAUNCH, LLMCOMPASS_SOFTMAX_LAUNCH,
};
use moe_gps_core::units::Bytes;

pub(super) fn row(record: &Record) -> Result<Measured, RowError> {
    let name = record.required("op")?;
    let matrix = || Ok((record.number("M")?, record.number("N")?));
    let (op, case, launch) = match name {
        "matmul" => {
            let (m, n) = matrix()?;
            let case = Case::Gemm { m, n, k: record.number("K")? };
            (Op::Gemm, case, Launch::Stated(LLMCOMPASS_GEMM_LAUNCH))
        }
        "softmax" => {
            let (rows, width) = matrix()?;
            let launch = Launch::Stated(LLMCOMPASS_SOFTMAX_LAUNCH);
            (Op::SoftmaxTopk, Case::Softmax { rows, width }, launch)
        }
        "layernorm" => {
            let (rows, width) = matrix()?;
            (Op::RmsNorm, Case::Norm { rows, width }, Launch::Stated(LLMCOMPASS_ROW_LAUNCH))
        }
        "gelu" => {
            let case = Case::PlainActivation { elements: record.number("elements")? };
            (Op::SiluMul, case, Launch::Stated(LLMCOMPASS_ROW_LAUNCH))
        }
        "allreduce" => (Op::AllReduce, all_reduce(record)?, Launch::None),
        name => return Err(unknown("op", name)),
    };
    let subset = match &case {
        Case::Collective { size, .. } => Subset::of_size(*size),
        _ => Subset::All,
    };
    let software = Software {
        framework: if op == Op::AllReduce { "NCCL" } else { "PyTorch" }.to_owned(),
        version: if op == Op::AllReduce { "" } else { "2.0" }.to_owned(),
        kernel: String::new(),
    };
    let time = record.time("measured_us", 1e-6)?;
    let simulated = ["sim_us", "sim_rerun_us"]
        .into_iter()
        .find_map(|field| record.text(field).and_then(|_| record.time(field, 1e-6).ok()));
    let row = record.measured(device(record)?, software, (op, subset), case, time);
    Ok(Measured { launch, simulated, ..row })
}

fn all_reduce(record: &Record) -> Result<Case, RowError> {
    Ok(Case::Collective {
        kernel: CollectiveKernel::Nccl,
        operation: Collective::AllReduce,
        devices: record.whole("n_devices")?,
        size: Bytes::new(record.number("bytes")?),
    })
}

fn device(record: &Record) -> Result<String, RowError> {
    let name = record.required("device")?;
    if name.contains("A100") { Ok("a100_sxm".to_owned()) } else { Err(unknown("device", name)) }
}
