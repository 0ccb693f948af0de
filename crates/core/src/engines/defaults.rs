//! Defaults of each engine, and the default parallelism.

use crate::model::{Attention, Model};
use crate::question::{Rebalance, RebalanceMode};
use crate::system::{Cluster, Communication, EngineName, Parallelism, Phase, ReplicaSplit, System};

/// What an engine does when it is not told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineDefaults {
    /// How an expert's tokens are split over its replicas.
    pub replica_split: ReplicaSplit,
    /// Its kernel for the routed experts, as profiles name it.
    pub moe_kernel: &'static str,
    /// How plans are renewed.
    pub rebalance: Rebalance,
    /// Tokens per device up to which a prefill step is replayed as a CUDA graph.
    pub graphed_prefill_tokens: u64,
}

/// The defaults of `engine`, or those assumed where none is named.
#[must_use]
pub const fn defaults(engine: Option<EngineName>) -> EngineDefaults {
    match engine {
        // EPLBConfig: step_interval 3000, use_async since #43219; Knuth hash over
        // replicas; piecewise CUDA graphs up to 512 tokens.
        Some(EngineName::Vllm) => EngineDefaults {
            replica_split: ReplicaSplit::Hashed,
            moe_kernel: "vllm_triton",
            rebalance: Rebalance {
                mode: RebalanceMode::Async,
                interval_steps: 3000,
                window_steps: None,
            },
            graphed_prefill_tokens: 512,
        },
        // --eplb-rebalance-num-iterations 1000, blocking; static dispatch prefers a
        // replica on the same device, then node.
        Some(EngineName::Sglang) => EngineDefaults {
            replica_split: ReplicaSplit::NearestFirst,
            moe_kernel: "sglang_fused_moe_triton",
            rebalance: Rebalance {
                mode: RebalanceMode::Sync,
                interval_steps: 1000,
                window_steps: None,
            },
            graphed_prefill_tokens: 0,
        },
        // layer_updates_per_iter 0: the map of the YAML file stays.
        Some(EngineName::TensorRtLlm) => EngineDefaults {
            replica_split: ReplicaSplit::Hashed,
            moe_kernel: "moe_torch_flow_cutlass",
            rebalance: Rebalance {
                mode: RebalanceMode::StartupMap,
                interval_steps: 1000,
                window_steps: None,
            },
            graphed_prefill_tokens: 0,
        },
        // expert_heat_collection_interval 600 + algorithm_execution_interval 50.
        Some(EngineName::VllmAscend) => EngineDefaults {
            replica_split: ReplicaSplit::Hashed,
            moe_kernel: "ascend_grouped_matmul",
            rebalance: Rebalance {
                mode: RebalanceMode::Async,
                interval_steps: 650,
                window_steps: None,
            },
            graphed_prefill_tokens: 0,
        },
        None => EngineDefaults {
            replica_split: ReplicaSplit::Hashed,
            moe_kernel: "vllm_triton",
            rebalance: Rebalance {
                mode: RebalanceMode::StartupMap,
                interval_steps: 1000,
                window_steps: None,
            },
            graphed_prefill_tokens: 0,
        },
    }
}

/// Whether a step is replayed as a CUDA graph, so that launches cost nothing.
#[must_use]
pub fn cuda_graph(system: &System) -> bool {
    let engine = system.engine.as_ref();
    if let Some(stated) = engine.and_then(|engine| engine.cuda_graph) {
        return stated;
    }
    let limit = defaults(engine.map(|engine| engine.name)).graphed_prefill_tokens;
    let groups = u64::from(system.parallelism.attention_data.max(1));
    let local = system.workload.tokens_per_step.div_ceil(groups);
    system.workload.phase == Phase::Decode || local <= limit
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

/// The pattern that the question's engine, backend and attention parallelism lead to.
#[must_use]
pub fn communication(system: &System) -> CommunicationChoice {
    let choice = |pattern, because| CommunicationChoice { pattern, alternative: None, because };
    if let Some(stated) = system.assumptions.communication {
        return choice(stated, "stated in the question");
    }
    let engine = system.engine.as_ref();
    let data = system.parallelism.attention_data > 1;
    let backend = engine.and_then(|engine| engine.all2all_backend.as_deref());
    let decode = system.workload.phase == Phase::Decode;
    if !data && backend.and_then(|name| backend_pattern(name, decode)).is_none() {
        return choice(
            Communication::Replicated,
            "tensor-parallel attention leaves every token on every device",
        );
    }
    if let Some(pattern) = backend.and_then(|name| backend_pattern(name, decode)) {
        // vLLM and TensorRT-LLM use their all-to-all only with data-parallel attention.
        let needs_data = !matches!(
            engine.map(|engine| engine.name),
            Some(EngineName::Sglang | EngineName::VllmAscend) | None
        );
        if needs_data && !data {
            return choice(
                Communication::Replicated,
                "without data-parallel attention the engine does not use its all-to-all backend",
            );
        }
        return choice(pattern, "the all-to-all backend named in the question");
    }
    let gathered = Communication::AllgatherReducescatter;
    let phase_pattern = by_phase(decode);
    match engine.map(|engine| engine.name) {
        Some(EngineName::Vllm) => choice(gathered, "vLLM's default with data-parallel attention"),
        Some(EngineName::Sglang) => {
            choice(gathered, "SGLang's default with data-parallel attention")
        }
        Some(EngineName::TensorRtLlm) if system.parallelism.expert_parallel <= 8 => {
            choice(gathered, "TensorRT-LLM gathers in groups of up to 8 devices")
        }
        Some(EngineName::TensorRtLlm) => {
            choice(phase_pattern, "TensorRT-LLM uses an all-to-all in larger groups")
        }
        Some(EngineName::VllmAscend) => {
            choice(phase_pattern, "vllm-ascend uses an all-to-all with data-parallel attention")
        }
        None => CommunicationChoice {
            pattern: gathered,
            alternative: Some(Communication::AllToAllNormal),
            because: "no engine named: the default of vLLM and SGLang with data-parallel attention",
        },
    }
}

/// The pattern of an all-to-all backend by its name; `None` if it names none.
fn backend_pattern(name: &str, decode: bool) -> Option<Communication> {
    let name = name.to_ascii_lowercase();
    let has = |part: &str| name.contains(part);
    if has("low_latency") || has("lowlatency") || has("pplx") {
        Some(Communication::AllToAllLowLatency)
    } else if has("high_throughput") || has("normal") || has("flashinfer") || has("onesided") {
        Some(Communication::AllToAllNormal)
    } else if has("allgather") || has("naive") {
        Some(Communication::AllgatherReducescatter)
    } else if has("deepep") || has("mooncake") || has("nixl") || has("mori") || has("mc2") {
        Some(by_phase(decode))
    } else {
        None
    }
}

const fn by_phase(decode: bool) -> Communication {
    if decode { Communication::AllToAllLowLatency } else { Communication::AllToAllNormal }
}

/// How a model is spread over a cluster when the question does not say.
///
/// Attention tensor-parallel up to min(devices of a node, KV heads), data-parallel
/// beyond; latent attention data-parallel from 8 devices on; experts over all devices.
#[must_use]
pub fn parallelism(model: &Model, cluster: &Cluster) -> Parallelism {
    let devices = cluster.n_devices;
    let limit = match model.attention {
        Attention::Latent { .. } if devices >= 8 => 1,
        Attention::Latent { .. } => cluster.devices_per_node,
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
    use crate::system::Engine;

    fn engine(name: EngineName, backend: Option<&str>) -> Engine {
        Engine {
            name,
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
        tensor.engine = Some(engine(EngineName::Vllm, Some("deepep_high_throughput")));
        assert_eq!(communication(&tensor).pattern, Communication::Replicated);
        let mut data = system(16, 8, 512);
        let open = communication(&data);
        assert_eq!(open.pattern, Communication::AllgatherReducescatter);
        assert_eq!(open.alternative, Some(Communication::AllToAllNormal));
        for (name, backend, expected) in [
            (EngineName::Vllm, None, Communication::AllgatherReducescatter),
            (EngineName::Vllm, Some("deepep_low_latency"), Communication::AllToAllLowLatency),
            (EngineName::Sglang, Some("deepep"), Communication::AllToAllNormal),
            (EngineName::Sglang, Some("none"), Communication::AllgatherReducescatter),
            (EngineName::TensorRtLlm, None, Communication::AllToAllNormal),
            (EngineName::VllmAscend, None, Communication::AllToAllNormal),
        ] {
            data.engine = Some(engine(name, backend));
            assert_eq!(communication(&data).pattern, expected, "{name:?} {backend:?}");
        }
        data.workload.phase = Phase::Decode;
        data.engine = Some(engine(EngineName::Sglang, Some("deepep")));
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
        system.engine = Some(engine(EngineName::Vllm, None));
        system.workload.phase = Phase::Prefill;
        assert!(!cuda_graph(&system));
        system.workload.tokens_per_step = 512;
        assert!(cuda_graph(&system));
    }
}
