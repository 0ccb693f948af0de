//! What an engine does when it is not told otherwise, and the default parallelism.

use crate::engines::backends::{self, BackendPattern};
use crate::model::{Attention, Model};
use crate::system::{Cluster, Communication, Parallelism, Phase, System};

/// Whether a step is replayed as a CUDA graph, so that launches cost nothing.
#[must_use]
pub fn cuda_graph(system: &System) -> bool {
    if let Some(stated) = system.engine.as_ref().and_then(|engine| engine.cuda_graph) {
        return stated;
    }
    let limit = system.engine_kind().graphed_prefill_tokens;
    let local = system.workload.tokens_per_step as f64 * system.busiest_share();
    system.workload.phase == Phase::Decode || local <= limit as f64
}

/// A communication pattern, why it, and what else might run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommunicationChoice {
    /// The pattern.
    pub pattern: Communication,
    /// Another pattern worth pricing, where the engine is not known.
    pub alternative: Option<Communication>,
    /// Why, in plain words.
    pub because: &'static str,
}

const fn choice(pattern: Communication, because: &'static str) -> CommunicationChoice {
    CommunicationChoice { pattern, alternative: None, because }
}

/// All tokens gathered on every device.
pub(super) const fn gathered(because: &'static str) -> CommunicationChoice {
    choice(Communication::AllgatherReducescatter, because)
}

/// The all-to-all of the question's phase.
pub(super) const fn routed(system: &System, because: &'static str) -> CommunicationChoice {
    choice(BackendPattern::ByPhase.of(system.workload.phase), because)
}

/// The pattern that the question's engine, backend and attention parallelism lead to.
#[must_use]
pub fn communication(system: &System) -> CommunicationChoice {
    if let Some(stated) = system.assumptions.communication {
        return choice(stated, "stated in the question");
    }
    let engine = system.engine_kind();
    let data = system.parallelism.attention_data > 1;
    let backend = system.engine.as_ref().and_then(|engine| engine.all2all_backend.as_deref());
    match backend.and_then(|name| backends::pattern(engine, name)) {
        None if !data => choice(
            Communication::Replicated,
            "tensor-parallel attention leaves every token on every device",
        ),
        None => (engine.communication)(system),
        Some(_) if !data && engine.backend_needs_attention_data => choice(
            Communication::Replicated,
            "without data-parallel attention the engine does not use its all-to-all backend",
        ),
        Some(pattern) => choice(
            pattern.of(system.workload.phase),
            "the all-to-all backend named in the question",
        ),
    }
}

/// How a model is spread over a cluster when the question does not say.
///
/// Attention tensor-parallel up to min(devices of a node, KV heads), data-parallel
/// beyond; latent attention data-parallel from 8 devices on; experts over all devices.
#[must_use]
pub fn parallelism(model: &Model, cluster: &Cluster) -> Parallelism {
    let devices = cluster.n_devices;
    let limit = match model.attention {
        Attention::Latent { .. } | Attention::Shared { .. } if devices >= 8 => 1,
        Attention::Latent { .. } | Attention::Shared { .. } => cluster.devices_per_node,
        Attention::Grouped { kv_heads, .. } => cluster.devices_per_node.min(kv_heads),
    };
    let heads = model.attention.heads();
    let attention_tensor = (1..=limit.max(1))
        .rev()
        .find(|tensor| devices.is_multiple_of(*tensor) && heads.is_multiple_of(*tensor))
        .unwrap_or(1);
    Parallelism {
        attention_tensor,
        attention_data: devices / attention_tensor,
        expert_parallel: devices,
        expert_tensor: 1,
        pipeline: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::{mixtral, system};
    use crate::engines::{Engine, sglang, tensorrt_llm, vllm, vllm_ascend};
    use crate::system::ServingEngine;

    fn engine(kind: &'static Engine, backend: Option<&str>) -> ServingEngine {
        ServingEngine {
            kind,
            version: None,
            all2all_backend: backend.map(str::to_owned),
            moe_kernel: None,
            cuda_graph: None,
        }
    }

    #[test]
    fn attention_and_engine_decide_the_pattern() {
        let mut tensor = system(8, 8, 512);
        assert_eq!(communication(&tensor).pattern, Communication::Replicated);
        tensor.engine = Some(engine(&vllm::ENGINE, Some("deepep_high_throughput")));
        assert_eq!(communication(&tensor).pattern, Communication::Replicated);
        let mut data = system(16, 8, 512);
        let open = communication(&data);
        assert_eq!(open.pattern, Communication::AllgatherReducescatter);
        assert_eq!(open.alternative, Some(Communication::AllToAllNormal));
        for (kind, backend, expected) in [
            (&vllm::ENGINE, None, Communication::AllgatherReducescatter),
            (&vllm::ENGINE, Some("deepep_low_latency"), Communication::AllToAllLowLatency),
            (&sglang::ENGINE, Some("deepep"), Communication::AllToAllNormal),
            (&sglang::ENGINE, Some("none"), Communication::AllgatherReducescatter),
            (&tensorrt_llm::ENGINE, None, Communication::AllToAllNormal),
            (&vllm_ascend::ENGINE, None, Communication::AllToAllNormal),
        ] {
            data.engine = Some(engine(kind, backend));
            assert_eq!(communication(&data).pattern, expected, "{kind:?} {backend:?}");
        }
        data.workload.phase = Phase::Decode;
        data.engine = Some(engine(&sglang::ENGINE, Some("deepep")));
        assert_eq!(communication(&data).pattern, Communication::AllToAllLowLatency);
        data.assumptions.communication = Some(Communication::Paper);
        assert_eq!(communication(&data).pattern, Communication::Paper);
    }

    #[test]
    fn attention_is_tensor_parallel_up_to_node_and_heads() {
        let of = |devices, per_node| {
            let parallelism = parallelism(&mixtral(), &system(devices, per_node, 512).cluster);
            assert_eq!(parallelism.expert_parallel, devices);
            (parallelism.attention_tensor, parallelism.attention_data)
        };
        assert_eq!(of(1, 1), (1, 1));
        assert_eq!(of(4, 4), (4, 1));
        assert_eq!(of(16, 16), (8, 2));
        assert_eq!(of(16, 4), (4, 4));
        assert_eq!(of(6, 6), (2, 3), "32 heads do not divide by 6 or 3");
    }

    #[test]
    fn latent_attention_is_data_parallel_from_eight_devices_on() {
        let mut model = mixtral();
        model.attention = Attention::Latent {
            heads: 128,
            q_lora_rank: Some(1536),
            kv_lora_rank: 512,
            qk_nope_head_dim: 128,
            qk_rope_head_dim: 64,
            v_head_dim: 128,
        };
        let of = |devices| parallelism(&model, &system(devices, devices, 512).cluster);
        assert_eq!((of(8).attention_tensor, of(8).attention_data), (1, 8));
        assert_eq!((of(4).attention_tensor, of(4).attention_data), (4, 1));
    }

    #[test]
    fn decode_is_graphed_and_long_prefill_is_not() {
        let mut system = system(4, 4, 4096);
        assert!(!cuda_graph(&system));
        system.workload.phase = Phase::Decode;
        assert!(cuda_graph(&system));
        system.engine = Some(engine(&vllm::ENGINE, None));
        system.workload.phase = Phase::Prefill;
        assert!(!cuda_graph(&system));
        system.workload.tokens_per_step = 512;
        assert!(cuda_graph(&system));
    }
}
