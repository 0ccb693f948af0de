//! `nvidia_trtllm_all_to_all_gb200.csv`: TensorRT-LLM's all-to-all over NVLink, one domain.
//!
//! `num_tokens` is that of one device. A combine in low precision sends 8-bit outputs.

use crate::measurements::deepep::{device, possible};
use crate::measurements::record::{Record, RowError, unknown};
use crate::validate::measured::{ExchangeCase, Measured, Op, Software, Subset};
use moe_gps_core::comm::profile::{DeepEpMode, Way};
use moe_gps_core::engines::tensorrt_llm;
use moe_gps_core::system::Dtype;

pub(super) fn row(record: &Record) -> Result<Measured, RowError> {
    let name = record.required("op_name")?;
    let (way, op, combine) = match name {
        "alltoall_prepare" => (Way::Prepare, Op::AlltoallPrepare, Dtype::Bf16),
        "alltoall_dispatch" => (Way::Dispatch, Op::Dispatch, Dtype::Bf16),
        "alltoall_combine" => (Way::Combine, Op::Combine, Dtype::Bf16),
        "alltoall_combine_low_precision" => (Way::Combine, Op::Combine, Dtype::Fp8),
        name => return Err(unknown("op_name", name)),
    };
    let kernel = record.required("kernel_source")?;
    let mode = match kernel {
        "NVLinkTwoSided" => DeepEpMode::NvlinkTwoSided,
        "NVLinkOneSided" => DeepEpMode::NvlinkOneSided,
        kernel => return Err(unknown("kernel_source", kernel)),
    };
    let (format, operands) = record.products("moe_dtype")?;
    let case = possible(ExchangeCase {
        engine: &tensorrt_llm::ENGINE,
        mode,
        way,
        nodes: 1,
        per_node: record.whole("moe_ep_size")?,
        hidden: record.whole("hidden_size")?,
        experts: record.whole("num_experts")?,
        top_k: record.whole("topk")?,
        tokens_per_device: record.whole("num_tokens")?,
        dispatch: operands.stored,
        combine,
        stands_in: None,
    })?;
    let software = Software {
        framework: record.required("framework")?.to_owned(),
        version: record.text("version").unwrap_or_default().to_owned(),
        kernel: kernel.to_owned(),
    };
    let time = record.time("latency", 1e-3)?;
    let row = record.measured(device(record)?, software, (op, Subset::All), case, time);
    Ok(Measured { format, ..row })
}
