//! What is assumed where a question names no engine; not one of the list.

use crate::comm::profile::CollectiveKernel;
use crate::engines::defaults::{CommunicationChoice, gathered};
use crate::engines::settings::Launch;
use crate::engines::sglang;
use crate::engines::support::Classes;
use crate::engines::{Engine, Layouts};
use crate::question::{Rebalance, RebalanceMode};
use crate::rebalance;
use crate::serving::Scheduling;
use crate::system::{Communication, Dtype, ReplicaSplit};
use crate::units::Seconds;

/// The engine of a question that names none.
pub static ENGINE: Engine = Engine {
    id: "",
    name: "the engine",
    frameworks: &[],
    backends: &[],
    backend_needs_attention_data: false,
    communication: |_| CommunicationChoice {
        alternative: Some(Communication::AllToAllNormal),
        ..gathered("no engine named: the default of vLLM and SGLang with data-parallel attention")
    },
    all_reduce: CollectiveKernel::Nccl,
    exchange_builds: &[&sglang::ENGINE],
    static_pool: None,
    dispatch_format: Dtype::Bf16,
    // Whatever some engine unpacks.
    sends_8_bit: &[],
    unpacks: &[Dtype::Fp8, Dtype::Fp8Block, Dtype::Nvfp4, Dtype::Mxfp4, Dtype::Int4],
    // The first stack of a device answers.
    moe_kernels: &[],
    replica_split: ReplicaSplit::Hashed,
    rebalance: Rebalance {
        mode: RebalanceMode::StartupMap,
        interval_steps: 1000,
        window_steps: None,
    },
    // Taken as vLLM's.
    planning: Seconds::new(35e-3),
    moving: rebalance::UNMEASURED_RATE,
    // What every engine builds.
    layouts: Layouts { mixes_attention: false, mixes_experts: false },
    // As vLLM and TensorRT-LLM.
    scheduling: Scheduling::Mixed,
    batched_tokens: 8192,
    graphed_prefill_tokens: 0,
    balancer_needs_attention_data: None,
    balanced: Classes::UNREAD,
    replaces: "the engine's expert balancer without copies",
    duplicates: "the engine's expert balancer with copies",
    group_limit: None,
    plan_format: None,
    launch: |_| Launch::default(),
    ignores: "",
    confirm: "force uniform routing in your engine",
};
