//! vllm-ascend, the vLLM plugin for Ascend NPUs, read at 182b75ea.

use crate::comm::profile::CollectiveKernel;
use crate::engines::Engine;
use crate::engines::backends::BackendPattern;
use crate::engines::defaults::routed;
use crate::engines::settings::Deployment;
use crate::engines::sglang;
use crate::question::{Rebalance, RebalanceMode};
use crate::system::{Dtype, ReplicaSplit};
use crate::units::Seconds;

/// vllm-ascend.
pub static ENGINE: Engine = Engine {
    id: "vllm-ascend",
    name: "vllm-ascend",
    frameworks: &[],
    backends: &[("allgather", BackendPattern::GATHERED), ("mc2", BackendPattern::ByPhase)],
    backend_needs_attention_data: false,
    communication: |system| {
        routed(system, "vllm-ascend uses an all-to-all with data-parallel attention")
    },
    all_reduce: CollectiveKernel::Nccl,
    exchange_builds: &[&ENGINE, &sglang::ENGINE],
    static_pool: None,
    dispatch_format: Dtype::Bf16,
    // No device with its own kernel is in the catalog; vLLM's stands in.
    moe_kernels: &["ascend_grouped_matmul", "vllm_triton", "vllm_fused_moe"],
    replica_split: ReplicaSplit::Hashed,
    // expert_heat_collection_interval 600 + algorithm_execution_interval 50.
    rebalance: Rebalance { mode: RebalanceMode::Async, interval_steps: 650, window_steps: None },
    // Taken as vLLM's.
    planning: Seconds::new(35e-3),
    graphed_prefill_tokens: 0,
    balancer_needs_attention_data: None,
    replaces: BALANCER,
    duplicates: BALANCER,
    group_limit: None,
    plan_format: Some("vllm_ascend"),
    launch,
    ignores: "the v1 model runner of vllm-ascend loads the file, the v2 runner loads none; its \
              guide advises against EPLB below 1024 prefill tokens or 128 decode tokens a die",
    confirm: "force uniform routing in your engine",
};

const BALANCER: &str = "eplb_config with expert_map_path, or dynamic_eplb";

fn launch(at: &Deployment) -> Vec<String> {
    let redundant = at.shape.redundant();
    let mut set = vec![format!(
        "--additional-config '{{\"eplb_config\":{{\"expert_map_path\":\"FILE\",\
         \"num_redundant_experts\":{redundant}}}}}'"
    )];
    if let Some(interval) = at.interval_steps {
        set.push(format!(
            "DYNAMIC_EPLB=true, and in eplb_config \"dynamic_eplb\":true,\
             \"expert_heat_collection_interval\":{interval}"
        ));
    }
    set
}
