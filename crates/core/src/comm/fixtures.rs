//! A system for the tests of communication, memory and engines.

use crate::cost::sample;
use crate::hardware::Link;
use crate::model::{Attention, Experts, Model, SmallParameters};
use crate::system::{
    Assumptions, Cluster, Dtype, Dtypes, Parallelism, Phase, Preset, System, Workload,
};
use crate::units::{BytesPerSecond, Seconds};

/// Mixtral 8x7B on `devices` devices on PCIe 4, `per_node` to a node, bf16 prefill.
#[must_use]
pub fn system(devices: u32, per_node: u32, tokens: u64) -> System {
    let link = |name: &str, bandwidth| Link {
        name: name.to_owned(),
        bandwidth: BytesPerSecond::new(bandwidth),
        latency: Seconds::new(8.92e-6),
        domain: None,
    };
    System {
        model: mixtral(),
        cluster: Cluster {
            device: sample::device(),
            n_devices: devices,
            devices_per_node: per_node,
            link: link("pcie4", 32e9),
            inter_node_link: (devices > per_node).then(|| link("ib200", 25e9)),
        },
        parallelism: Parallelism {
            attention_tensor: devices.min(8),
            attention_data: devices.div_ceil(8),
            expert_parallel: devices,
            expert_tensor: 1,
            pipeline: 1,
        },
        workload: Workload {
            phase: Phase::Prefill,
            sequences: 1,
            tokens_per_step: tokens,
            context: tokens,
            running: None,
            speculation: None,
            dtypes: Dtypes::all(Dtype::Bf16),
        },
        engine: None,
        assumptions: Assumptions::preset(Preset::Calibrated),
    }
}

/// Mixtral 8x7B.
#[must_use]
pub fn mixtral() -> Model {
    Model {
        name: "mixtral-8x7b".to_owned(),
        class: "mixtral".to_owned(),
        hidden_size: 4096,
        vocabulary: 32_000,
        tied_embeddings: false,
        attention: Attention::Grouped {
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            v_head_dim: 128,
            sliding_window: None,
            windowed_layers: 0,
        },
        depth: 32,
        attention_layers: 32,
        mixers: Vec::new(),
        moe_layers: 32,
        moe_at: Vec::new(),
        dense_layers: 0,
        dense_beside_experts: 0,
        hash_layers: 0,
        mtp_layers: 0,
        dense_intermediate: 0,
        cross_attention_layers: 0,
        experts: Experts {
            routed: 8,
            top_k: 2,
            zero_cost: 0,
            chosen: 2,
            latent: None,
            intermediate: 14_336,
            gated: true,
            shared_intermediate: 0,
            groups: None,
        },
        small: SmallParameters::default(),
    }
}
