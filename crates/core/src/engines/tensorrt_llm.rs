//! TensorRT-LLM, read at its main branch of November 2026.

use crate::comm::profile::CollectiveKernel;
use crate::engines::backends::BackendPattern;
use crate::engines::defaults::{CommunicationChoice, gathered, routed};
use crate::engines::settings::{Balancing, Deployment, Launch};
use crate::engines::sglang;
use crate::engines::support::{Classes, GroupLimit};
use crate::engines::{Engine, Layouts};
use crate::question::{Rebalance, RebalanceMode};
use crate::rebalance;
use crate::serving::Scheduling;
use crate::system::{Dtype, ReplicaSplit, System};
use crate::units::Seconds;

/// TensorRT-LLM.
pub static ENGINE: Engine = Engine {
    id: "tensorrt-llm",
    name: "TensorRT-LLM",
    frameworks: &["trtllm"],
    // The classes of its communication methods.
    backends: &[
        ("allgather", BackendPattern::GATHERED),
        ("nvlinkonesided", BackendPattern::NORMAL),
        ("nvlinktwosided", BackendPattern::NORMAL),
        ("deepep", BackendPattern::ByPhase),
        ("deepeplowlatency", BackendPattern::LOW_LATENCY),
    ],
    backend_needs_attention_data: true,
    communication,
    all_reduce: CollectiveKernel::TensorRtLlm,
    exchange_builds: &[&ENGINE, &sglang::ENGINE],
    static_pool: None,
    dispatch_format: Dtype::Bf16,
    // Weight-only experts are W4A16 (as known, not read); mxfp4 on Hopper is in its tables.
    sends_8_bit: &[],
    unpacks: &[Dtype::Mxfp4, Dtype::Int4],
    moe_kernels: &["moe_torch_flow_cutlass", "moe_torch_flow"],
    replica_split: ReplicaSplit::Hashed,
    // layer_updates_per_iter 0: the map of the YAML file stays.
    rebalance: Rebalance {
        mode: RebalanceMode::StartupMap,
        interval_steps: 1000,
        window_steps: None,
    },
    // It plans in C++ and is assumed ten times faster than vLLM.
    planning: Seconds::new(3.5e-3),
    // Not measured: between those of vLLM and SGLang.
    moving: rebalance::UNMEASURED_RATE,
    // enable_attention_dp takes all devices or none; moe_tensor_parallel_size times
    // moe_expert_parallel_size is tp_size.
    layouts: Layouts { mixes_attention: false, mixes_experts: true },
    // In-flight batching; max_num_tokens.
    scheduling: Scheduling::Mixed,
    batched_tokens: 8192,
    graphed_prefill_tokens: 0,
    balancer_needs_attention_data: Some(
        "TensorRT-LLM ignores its load balancer without data-parallel attention (#18626)",
    ),
    balanced: Classes::UNREAD,
    replaces: BALANCER,
    duplicates: BALANCER,
    group_limit: Some(GroupLimit {
        slots: 32,
        kernel_part: "trtllm",
        rule: "the trtllm-gen routing kernel takes at most 32 (#8886)",
        way_out: "choose another MoE backend or fewer slots",
    }),
    plan_format: Some("trtllm"),
    launch,
    ignores: "TensorRT-LLM ignores the file without a word unless experts are parallel, attention \
              is data-parallel and the architecture is on its list (#18626)",
    confirm: "force uniform routing in your engine",
};

const BALANCER: &str = "moe_config.load_balancer with the plan, on architectures of its list";

fn communication(system: &System) -> CommunicationChoice {
    if system.parallelism.expert_parallel <= 8 {
        gathered("TensorRT-LLM gathers in groups of up to 8 devices")
    } else {
        routed(system, "TensorRT-LLM uses an all-to-all in larger groups")
    }
}

fn launch(at: &Deployment) -> Launch {
    let yaml = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    let size = format!("moe_expert_parallel_size: {}", at.shape.n_devices());
    let (yaml, notes) = match at.balancing {
        Balancing::Off => (yaml(&["moe_config:", "  load_balancer: null", &size]), Vec::new()),
        Balancing::Keep if !at.has_map => (Vec::new(), Vec::new()),
        Balancing::Keep => (yaml(&["moe_config:", "  load_balancer: FILE", &size]), Vec::new()),
        Balancing::Plan if !at.has_map => {
            let slots = format!("    num_slots: {}", at.shape.n_slots());
            let lines =
                ["moe_config:", "  load_balancer:", &slots, "    layer_updates_per_iter: 1"];
            (yaml(&[&lines[..], &[&size, DATA_PARALLEL]].concat()), Vec::new())
        }
        Balancing::Plan => {
            let renewed = at.interval_steps.is_some();
            let note = "layer_updates_per_iter above 0 in FILE, for its online balancer".to_owned();
            let lines = ["moe_config:", "  load_balancer: FILE", &size, DATA_PARALLEL];
            (yaml(&lines), renewed.then_some(note).into_iter().collect())
        }
    };
    Launch { yaml, notes, ..Launch::default() }
}

/// Without it the load balancer is ignored.
const DATA_PARALLEL: &str = "enable_attention_dp: true";
