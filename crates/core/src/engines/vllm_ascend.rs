//! vllm-ascend, the vLLM plugin for Ascend NPUs, read at 182b75ea.

use crate::comm::profile::CollectiveKernel;
use crate::engines::backends::BackendPattern;
use crate::engines::defaults::routed;
use crate::engines::settings::{Balancing, Deployment, Launch};
use crate::engines::sglang;
use crate::engines::support::Classes;
use crate::engines::{Engine, Layouts};
use crate::question::{Rebalance, RebalanceMode};
use crate::rebalance;
use crate::serving::Scheduling;
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
    // W4A16 (as known, not read).
    sends_8_bit: &[],
    unpacks: &[Dtype::Int4],
    // No device with its own kernel is in the catalog; vLLM's stands in.
    moe_kernels: &["ascend_grouped_matmul", "vllm_triton", "vllm_fused_moe"],
    replica_split: ReplicaSplit::Hashed,
    // expert_heat_collection_interval 600 + algorithm_execution_interval 50.
    rebalance: Rebalance { mode: RebalanceMode::Async, interval_steps: 650, window_steps: None },
    // Taken as vLLM's.
    planning: Seconds::new(35e-3),
    // Taken as vLLM's.
    moving: rebalance::VLLM_RATE,
    layouts: Layouts { mixes_attention: true, mixes_experts: false },
    // As vLLM.
    scheduling: Scheduling::Mixed,
    batched_tokens: 8192,
    graphed_prefill_tokens: 0,
    balancer_needs_attention_data: None,
    balanced: Classes::UNREAD,
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

fn launch(at: &Deployment) -> Launch {
    let redundant = at.shape.redundant();
    let config = |eplb: String| {
        let config = format!("{{\"eplb_config\":{{{eplb}}}}}");
        Launch::default().flag(["--additional-config", &config])
    };
    let map = if at.has_map { "\"expert_map_path\":\"FILE\"," } else { "" };
    match at.balancing {
        Balancing::Off => Launch {
            env: [("DYNAMIC_EPLB".to_owned(), "false".to_owned())].into(),
            ..config(format!(
                "\"dynamic_eplb\":false,\"num_redundant_experts\":{}",
                at.shape.least_redundant()
            ))
        },
        Balancing::Keep if !at.has_map => Launch::default(),
        Balancing::Keep => config(format!("{map}\"num_redundant_experts\":{redundant}")),
        Balancing::Plan => {
            let interval = at.interval_steps.or((!at.has_map).then_some(INTERVAL_STEPS));
            let Some(interval) = interval else {
                return config(format!("{map}\"num_redundant_experts\":{redundant}"));
            };
            let eplb = format!(
                "{map}\"num_redundant_experts\":{redundant},\"dynamic_eplb\":true,\
                 \"expert_heat_collection_interval\":{interval}"
            );
            Launch { env: [("DYNAMIC_EPLB".to_owned(), "true".to_owned())].into(), ..config(eplb) }
        }
    }
}

/// Steps of load that are looked at before the plan is made anew.
const INTERVAL_STEPS: u64 = 600;
