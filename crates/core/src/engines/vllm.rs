//! vLLM, read at 0.33.0.

use crate::comm::profile::CollectiveKernel;
use crate::engines::backends::BackendPattern;
use crate::engines::defaults::gathered;
use crate::engines::settings::{Balancing, Deployment, Launch};
use crate::engines::sglang;
use crate::engines::support::{Classes, without};
use crate::engines::{Engine, Layouts};
use crate::question::{Rebalance, RebalanceMode};
use crate::rebalance;
use crate::serving::Scheduling;
use crate::system::{Dtype, ReplicaSplit};
use crate::units::Seconds;

/// vLLM.
pub static ENGINE: Engine = Engine {
    id: "vllm",
    name: "vLLM",
    frameworks: &[],
    // --all2all-backend.
    backends: &[
        ("allgather_reducescatter", BackendPattern::GATHERED),
        ("naive", BackendPattern::GATHERED),
        ("pplx", BackendPattern::LOW_LATENCY),
        ("deepep_high_throughput", BackendPattern::NORMAL),
        ("deepep_low_latency", BackendPattern::LOW_LATENCY),
        ("flashinfer_all2allv", BackendPattern::NORMAL),
        ("mori", BackendPattern::ByPhase),
        ("nixl_ep", BackendPattern::ByPhase),
    ],
    backend_needs_attention_data: true,
    communication: |_| gathered("vLLM's default with data-parallel attention"),
    all_reduce: CollectiveKernel::Vllm,
    exchange_builds: &[&ENGINE, &sglang::ENGINE],
    static_pool: None,
    dispatch_format: Dtype::Bf16,
    // DeepEP's prepare-and-finalize quantises blocks before it dispatches; Marlin unpacks (as known,
    // not read).
    sends_8_bit: &[Dtype::Fp8Block],
    unpacks: &[Dtype::Fp8, Dtype::Fp8Block, Dtype::Nvfp4, Dtype::Mxfp4, Dtype::Int4],
    moe_kernels: &["vllm_triton", "vllm_fused_moe"],
    // A Knuth hash of the token picks the replica.
    replica_split: ReplicaSplit::Hashed,
    // EPLBConfig: step_interval 3000, use_async since #43219.
    rebalance: Rebalance {
        mode: RebalanceMode::Async,
        interval_steps: INTERVAL_STEPS,
        window_steps: None,
    },
    // Measured.
    planning: Seconds::new(35e-3),
    // A mean stall of 0.91 s on 32 GB200: see `rebalance`.
    moving: rebalance::VLLM_RATE,
    // Without --enable-expert-parallel all devices of all replicas shard every expert.
    layouts: Layouts { mixes_attention: true, mixes_experts: false },
    // Chunked prefill; --max-num-batched-tokens of its server on devices of 70 GiB or more.
    scheduling: Scheduling::Mixed,
    batched_tokens: 8192,
    // Piecewise CUDA graphs.
    graphed_prefill_tokens: 512,
    balancer_needs_attention_data: None,
    // Classes with the `MixtureOfExperts` interface (vllm/model_executor/models, read); a model of
    // the folder that is not named here is not known.
    balanced: Classes {
        with: &[
            "afmoe",
            "axk1",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "deepseek_v4",
            "ernie4_5_moe",
            "gemma4",
            "glm4_moe",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "hy_v3",
            "interns1_pro",
            "kimi_k2",
            "kimi_k3",
            "lfm2_moe",
            "llama4",
            "mimo_v2",
            "mimo_v2_flash",
            "mixtral",
            "muse_spark",
            "nemotron_h",
            "openpangu",
            "qwen3_5_moe",
            "qwen3_moe",
            "qwen3_next",
            "qwen3_vl_moe",
            "sarvam",
            "step3p5",
        ],
        without: &const { without("gpt_oss") },
    },
    replaces: "--enable-eplb with num_redundant_experts 0; it loads no map of ours",
    duplicates: "--enable-eplb with num_redundant_experts above 0; it loads no map of ours",
    group_limit: None,
    plan_format: None,
    launch,
    ignores: "vLLM loads no placement file: it starts from its own map and rearranges by its own \
              greedy rule, first after a quarter of step_interval",
    confirm: "run vLLM with VLLM_MOE_ROUTING_SIMULATION_STRATEGY=uniform_random",
};

/// Steps between renewals where nobody says otherwise.
const INTERVAL_STEPS: u64 = 3000;

fn launch(at: &Deployment) -> Launch {
    let parallel = if at.shape.n_devices() > 1 {
        Launch::default().flag(["--enable-expert-parallel"])
    } else {
        Launch::default()
    };
    match at.balancing {
        Balancing::Off => parallel.flag(["--no-enable-eplb"]),
        // It loads no map: what it does now stays.
        Balancing::Keep => Launch::default(),
        Balancing::Plan => {
            let redundant = at.shape.redundant();
            let interval = at.interval_steps.unwrap_or(INTERVAL_STEPS);
            let config = format!(
                "{{\"num_redundant_experts\":{redundant},\"step_interval\":{interval},\
                 \"window_size\":{}}}",
                at.window()
            );
            parallel.flag(["--enable-eplb"]).flag(["--eplb-config", &config])
        }
    }
}
