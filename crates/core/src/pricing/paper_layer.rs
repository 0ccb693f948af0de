//! The times the paper's formulas start from, where the question does not state them.
//!
//! Closed forms of an A100-80GB with LLMCompass's launch times, attention without a fused
//! kernel, as the paper has it (`cost-model` §3). With tensor-parallel attention over N
//! devices, H query and G key-value heads of width w, T tokens in sequences of S:
//!
//! ```text
//! attention  = Q + K + V + scores + softmax + values + output + 2 norms
//! expert_ffn = E/N · (matrices · gemm(T·k/E, i, d) + activation)
//! ```
//!
//! They are not claimed to give the 0.246 and 0.591 ms that LLMCompass computes. Worked number:
//! Mixtral 8x7B, 512 tokens on 4 devices, all-reduce of 4 MiB at 300 GB/s: 54.6 µs.

use crate::comm::llmcompass;
use crate::cost::closed_form::{
    A100_80GB, ClosedForm, LLMCOMPASS_GEMM_LAUNCH, LLMCOMPASS_ROW_LAUNCH, LLMCOMPASS_SOFTMAX_LAUNCH,
};
use crate::memory::expert_bytes;
use crate::pricing::paper::PaperLayer;
use crate::question::Question;
use crate::units::{Bytes, Seconds};

/// The layer of the paper's formulas and the latency of one dense layer.
pub(crate) fn paper_layer(question: &Question) -> (PaperLayer, Seconds) {
    let system = &question.system;
    let model = &system.model;
    let workload = &system.workload;
    let n_devices = system.parallelism.expert_parallel;
    let n = f64::from(n_devices);
    let tokens = workload.tokens_per_step as f64;
    let d = f64::from(model.hidden_size);
    let element = workload.dtypes.stream.bytes();
    let law = ClosedForm { element, ..A100_80GB }.with_start(LLMCOMPASS_GEMM_LAUNCH);
    let activations = Bytes::new(tokens * d * element);
    let link = &system.cluster.link;
    let experts = &model.experts;

    let block = |rows: f64, width: f64| {
        let matrices = law.time(rows, width, d) * f64::from(experts.matrices() - 1);
        matrices + law.time(rows, d, width) + LLMCOMPASS_ROW_LAUNCH
    };
    let rows = tokens * f64::from(experts.top_k) / f64::from(experts.routed);
    let per_device = f64::from(experts.routed) / n;
    let mut layer = PaperLayer {
        attention: attention(question, &law),
        all_reduce: llmcompass::all_reduce(activations, n_devices, link.bandwidth, link.latency),
        expert_ffn: block(rows, f64::from(experts.intermediate)) * per_device,
        n_devices,
        activations,
        bandwidth: link.bandwidth,
        latency: link.latency,
        copy: expert_bytes(system) / link.bandwidth,
    };
    if let Some(measured) = &question.measured_layer {
        layer.attention = measured.attention;
        layer.all_reduce = measured.all_reduce;
        layer.expert_ffn = measured.expert_ffn_balanced;
    }
    let dense = if model.dense_layers == 0 {
        Seconds::ZERO
    } else {
        let ffn = block(tokens, f64::from(model.dense_intermediate) / n);
        layer.attention + layer.all_reduce * 2.0 + ffn
    };
    (layer, dense)
}

/// Unfused attention with its projections and norms on one of N devices.
fn attention(question: &Question, law: &ClosedForm) -> Seconds {
    let system = &question.system;
    let model = &system.model;
    let n = f64::from(system.parallelism.expert_parallel);
    let tokens = system.workload.tokens_per_step as f64;
    let sequences = system.workload.sequences.max(1) as f64;
    let new = tokens / sequences;
    let context = (system.workload.context as f64).max(new);
    let d = f64::from(model.hidden_size);
    let heads = (f64::from(model.attention.heads()) / n).max(1.0);
    let kv_heads = (f64::from(model.attention.kv_heads()) / n).max(1.0).ceil();
    let (qk, v) =
        (f64::from(model.attention.qk_head_dim()), f64::from(model.attention.v_head_dim()));
    let per_head = sequences * heads;
    // One launch for all heads' products.
    let batched =
        |m: f64, n: f64, k: f64| law.start + law.with_start(Seconds::ZERO).time(m, n, k) * per_head;
    let scores = Bytes::new(per_head * new * context * law.element);
    law.time(tokens, heads * qk, d)
        + law.time(tokens, kv_heads * qk, d)
        + law.time(tokens, kv_heads * v, d)
        + batched(new, context, qk)
        + LLMCOMPASS_SOFTMAX_LAUNCH
        + scores * 2.0 / law.bandwidth
        + batched(new, v, context)
        + law.time(tokens, d, heads * v)
        + LLMCOMPASS_ROW_LAUNCH * 2.0
}
