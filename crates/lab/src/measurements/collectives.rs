//! The tables of `nvidia_nccl_collectives…` and `nvidia_custom_all_reduce_…`.

use crate::measurements::record::{Record, RowError, unknown};
use crate::validate::measured::{Case, Measured, Op, Software, Subset};
use moe_gps_core::comm::profile::{Collective, CollectiveKernel};
use moe_gps_core::units::Bytes;

pub(super) fn nccl(record: &Record) -> Result<Measured, RowError> {
    let name = record.required("op")?;
    let (operation, op) = operation(name).ok_or_else(|| unknown("op", name))?;
    let version = record.required("nccl_version")?;
    let software = Software {
        framework: "NCCL".to_owned(),
        version: version.to_owned(),
        kernel: String::new(),
    };
    measured(record, software, nccl_of(version), (operation, op))
}

pub(super) fn custom_all_reduce(record: &Record) -> Result<Measured, RowError> {
    let name = record.required("kernel")?;
    let kernel = match name {
        "TRTLLM" => CollectiveKernel::TensorRtLlm,
        // Timed on the host: every call launches its kernel.
        name if name.starts_with("vLLM") && name.ends_with("eager") => CollectiveKernel::VllmEager,
        name if name.starts_with("vLLM") => CollectiveKernel::Vllm,
        name if name.starts_with("SGLang") && name.ends_with("eager") => {
            CollectiveKernel::SglangEager
        }
        name if name.starts_with("SGLang") => CollectiveKernel::Sglang,
        name => return Err(unknown("kernel", name)),
    };
    let of = (Collective::AllReduce, Op::AllReduce);
    measured(record, record.software()?, kernel, of)
}

/// The curves that an NCCL version has: those up to 2.23 are slower to start.
fn nccl_of(version: &str) -> CollectiveKernel {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(u32::MAX));
    let (major, minor) = (parts.next().unwrap_or(u32::MAX), parts.next().unwrap_or(u32::MAX));
    if (major, minor) <= (2, 23) { CollectiveKernel::NcclOld } else { CollectiveKernel::Nccl }
}

/// The operation of that name in tables.
pub(super) fn operation(name: &str) -> Option<(Collective, Op)> {
    let op = match name {
        "all_gather" => Op::AllGather,
        "all_reduce" => Op::AllReduce,
        "reduce_scatter" => Op::ReduceScatter,
        "alltoall" => Op::Alltoall,
        _ => return None,
    };
    let (operation, _) = Collective::ALL.iter().find(|(_, wire)| *wire == name)?;
    Some((*operation, op))
}

fn measured(
    record: &Record,
    software: Software,
    kernel: CollectiveKernel,
    (operation, op): (Collective, Op),
) -> Result<Measured, RowError> {
    let size = Bytes::new(record.number("bytes")?);
    let case = Case::Collective { kernel, operation, devices: record.whole("num_gpus")?, size };
    let time = record.time("latency_us", 1e-6)?;
    let format = record.text("dtype").unwrap_or_default().to_owned();
    let of = (op, Subset::of_size(size));
    Ok(Measured { format, ..record.measured(record.device()?, software, of, case, time) })
}
