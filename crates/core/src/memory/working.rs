//! What a step needs beside weights and KV cache: activations, and buffers that a library holds.
//!
//! ```text
//! activations = 2 · a · (t·(3·d + w) + P·(2·d + 3·i) + G·2·d)
//! buffers     = 2 · (max(M·x, E·M·y) + E·M·max(x, y))           low latency only
//! x = 16 + max(2·d, d + 4·d/128),   y = 2·d + 4·d/128
//! ```
//!
//! - t tokens of the busiest replica of attention (half of them under `two_batch`), d hidden size, w
//!   width of queries, keys, values and outputs of the device's heads; P = T·k/N rows of routed
//!   experts of i intermediate width; G tokens gathered on every device; a = 2 bytes, since engines
//!   keep activations of quantised models in 16 bits.
//! - Source of the activations: the tensors of SGLang's and vLLM's layers, times two for what
//!   allocators hold and for busier devices. Bracketed by one report: DeepSeek-V3 on 32 H100 under
//!   SGLang (static pool of 0.85) served 8,192 prompt tokens a GPU and 16,384 in two halves, and ran
//!   out of memory at 16,384 in one (LMSYS, large-scale EP, May 2025): between 1.5 and 2.9 times.
//! - Source of the buffers: DeepEP, `LowLatencyLayout` in `csrc/config.hpp`, E experts with their
//!   copies, M the most tokens a rank dispatches, 128 in SGLang
//!   (`SGLANG_DEEPEP_NUM_MAX_DISPATCH_TOKENS_PER_RANK`) and more where a step has more.
//! - Worked numbers: DeepSeek-V3, 16,384 tokens on each of 32 devices: 2·2·16,384·267,264 = 17.5 GB;
//!   256 experts, M = 128: 1.908 GB.

use crate::engines::defaults;
use crate::model::Attention;
use crate::pricing::layer::halves;
use crate::system::{Communication, Dtype, System};
use crate::units::Bytes;

/// What allocators hold and busier devices need, over the tensors of a mean device.
const HELD: f64 = 2.0;

/// Most tokens a rank dispatches at once, where a step has no more.
const DISPATCHED: f64 = 128.0;

/// Activations of a step on the busiest device.
pub(super) fn activations(system: &System) -> Bytes {
    let model = &system.model;
    let parallelism = &system.parallelism;
    let d = f64::from(model.hidden_size);
    let part = system.workload.tokens_per_step as f64 / f64::from(halves(system));
    let local = part * system.busiest_share();
    let attention = &model.attention;
    let heads = f64::from(attention.heads());
    let kv_heads = match attention {
        Attention::Grouped { kv_heads, .. } => f64::from(*kv_heads),
        Attention::Latent { .. } | Attention::Shared { .. } => heads,
    };
    let head = f64::from(attention.qk_head_dim()) + f64::from(attention.v_head_dim());
    let width = (heads + kv_heads) * head / f64::from(parallelism.attention_tensor);
    let rows = part * f64::from(model.experts.top_k) / f64::from(parallelism.expert_parallel);
    let inner = f64::from(model.experts.intermediate) / f64::from(parallelism.expert_tensor);
    let gathered = match defaults::communication(system).pattern {
        Communication::AllgatherReducescatter => part * system.padding(),
        _ => 0.0,
    };
    let sent = f64::from(model.expert_width());
    let elements =
        local * (3.0 * d + width) + rows * (2.0 * sent + 3.0 * inner) + gathered * 2.0 * sent;
    Bytes::new(elements * Dtype::Bf16.bytes() * HELD)
}

/// Buffers of DeepEP's low-latency exchange for every expert slot of the group; nothing elsewhere.
pub(super) fn buffers_per_slot(system: &System) -> Bytes {
    if defaults::communication(system).pattern != Communication::AllToAllLowLatency {
        return Bytes::ZERO;
    }
    let d = f64::from(system.model.expert_width());
    let scales = 4.0 * (d / 128.0).floor();
    let dispatched = 16.0 + (2.0 * d).max(d + scales);
    let combined = 2.0 * d + scales;
    let local = system.workload.tokens_per_step as f64 * system.busiest_share();
    let most = (local / f64::from(system.parallelism.attention_tensor)).ceil().max(DISPATCHED);
    Bytes::new(2.0 * most * (combined + dispatched.max(combined)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::comm::fixtures;
    use crate::system::{Overlap, Parallelism, Phase};

    /// DeepSeek-V3 on 32 devices with that many sequences of one token each on every one.
    fn deepseek(each: u64) -> System {
        let mut system = fixtures::system(32, 8, 1);
        system.model = Catalog::embedded().model("deepseek-v3").unwrap().value.model.clone();
        system.parallelism = Parallelism {
            attention_tensor: 1,
            attention_data: 32,
            expert_parallel: 32,
            expert_tensor: 1,
            pipeline: 1,
        };
        system.workload.sequences = 32 * each;
        system.workload.tokens_per_step = 32 * each;
        system.assumptions.communication = Some(Communication::AllToAllNormal);
        system
    }

    #[test]
    fn worked_numbers_of_deepseek_come_out() {
        let mut system = deepseek(16_384);
        let found = activations(&system).get();
        assert!((found - 4.0 * 16_384.0 * 267_264.0).abs() < 1.0, "{found}");
        system.assumptions.overlap = Overlap::TwoBatch;
        assert!((activations(&system).get() * 2.0 / found - 1.0).abs() < 1e-12);
        assert_eq!(buffers_per_slot(&system), Bytes::ZERO);

        let mut decode = deepseek(64);
        decode.workload.phase = Phase::Decode;
        decode.assumptions.communication = Some(Communication::AllToAllLowLatency);
        let buffers = buffers_per_slot(&decode).get() * 256.0;
        assert!((buffers - 1_908_408_320.0).abs() < 1.0, "{buffers}");
    }
}
