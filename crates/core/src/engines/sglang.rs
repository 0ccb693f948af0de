//! SGLang, read at 0.5.23.

use crate::comm::profile::CollectiveKernel;
use crate::engines::backends::BackendPattern;
use crate::engines::defaults::gathered;
use crate::engines::settings::{Balancing, Deployment, Launch};
use crate::engines::support::{Classes, without};
use crate::engines::{Engine, Layouts};
use crate::question::{Rebalance, RebalanceMode};
use crate::rebalance;
use crate::serving::Scheduling;
use crate::system::{Dtype, ReplicaSplit};
use crate::units::Seconds;

/// SGLang.
pub static ENGINE: Engine = Engine {
    id: "sglang",
    name: "SGLang",
    frameworks: &[],
    // --moe-a2a-backend; `none` follows attention.
    backends: &[
        ("deepep", BackendPattern::ByPhase),
        ("mooncake", BackendPattern::ByPhase),
        ("mori", BackendPattern::ByPhase),
        ("nixl", BackendPattern::ByPhase),
        ("flashinfer", BackendPattern::NORMAL),
    ],
    backend_needs_attention_data: false,
    communication: |_| gathered("SGLang's default with data-parallel attention"),
    // Its custom all-reduce is vLLM's.
    all_reduce: CollectiveKernel::Vllm,
    exchange_builds: &[&ENGINE],
    // --mem-fraction-static as its guide to large-scale expert parallelism sets it for prefill.
    static_pool: Some(0.85),
    dispatch_format: Dtype::Fp8,
    // DeepEPMoE quantises before it dispatches; Marlin unpacks (as known, not read).
    sends_8_bit: &[Dtype::Fp8, Dtype::Fp8Block],
    unpacks: &[Dtype::Fp8, Dtype::Fp8Block, Dtype::Mxfp4, Dtype::Int4],
    // Where its own Triton kernel was not measured, vLLM's, which it descends from.
    moe_kernels: &["sglang_fused_moe_triton", "vllm_triton", "vllm_fused_moe"],
    // Static dispatch prefers a replica on the same device, then node.
    replica_split: ReplicaSplit::NearestFirst,
    // --eplb-rebalance-num-iterations 1000, blocking.
    rebalance: Rebalance {
        mode: RebalanceMode::Sync,
        interval_steps: INTERVAL_STEPS,
        window_steps: None,
    },
    // Measured.
    planning: Seconds::new(48e-3),
    // Later stalls of 0.5 s on eight H20: see `rebalance`.
    moving: rebalance::SGLANG_RATE,
    // --dp-size and --ep-size may each be any divisor of --tp-size.
    layouts: Layouts { mixes_attention: true, mixes_experts: true },
    // Without --enable-mixed-chunk; --chunked-prefill-size from 60 GB on. Data-parallel attention
    // divides it among replicas, for which its guides raise it in proportion.
    scheduling: Scheduling::PromptsFirst,
    batched_tokens: 8192,
    graphed_prefill_tokens: 0,
    balancer_needs_attention_data: None,
    // Classes with a location of their experts (sglang/srt/models, read); a model of the folder that
    // is not named here is not known.
    balanced: Classes {
        with: &[
            "bailing_moe",
            "bailing_moe_v2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "deepseek_v4",
            "exaone_moe",
            "glm4_moe",
            "glm4_moe_lite",
            "glm5_next",
            "glm_moe_dsa",
            "gpt_oss",
            "kimi_k2",
            "kimi_k25",
            "longcat_flash",
            "mimo_v2",
            "mimo_v2_flash",
            "minimax_m2",
            "minimax_m3",
            "nemotron_h",
            "qwen2_moe",
            "qwen3_5_moe",
            "qwen3_moe",
            "qwen3_next",
            "qwen3_vl_moe",
            "step3p5",
            "step3p7",
        ],
        without: &const { without("llama4") },
    },
    replaces: "--init-expert-location with the plan, or --enable-eplb with 0 redundant experts",
    duplicates: "--init-expert-location with the plan and --ep-num-redundant-experts, or \
                 --enable-eplb",
    group_limit: None,
    plan_format: Some("sglang"),
    launch,
    ignores: "SGLang prefers the nearest copy of an expert under --ep-dispatch-algorithm static, so \
              shares of copies are not exactly even; with --enable-eplb its own map replaces this \
              one after the first interval",
    confirm: "run SGLang with --ep-dispatch-algorithm fake",
};

fn launch(at: &Deployment) -> Launch {
    let size = at.shape.n_devices().to_string();
    let redundant = at.shape.redundant().to_string();
    let launch = match at.balancing {
        Balancing::Off => {
            return Launch::default()
                .flag(["--ep-size", &size])
                .flag(["--init-expert-location", "trivial"])
                .flag(["--ep-num-redundant-experts", &at.shape.least_redundant().to_string()]);
        }
        Balancing::Keep if !at.has_map => return Launch::default(),
        _ if at.has_map => Launch::default().flag(["--init-expert-location", "FILE"]),
        _ => Launch::default(),
    };
    let launch = launch.flag(["--ep-num-redundant-experts", &redundant]).flag(["--ep-size", &size]);
    // Without a map to load its own balancer makes one.
    let interval = at.interval_steps.or((!at.has_map).then_some(INTERVAL_STEPS));
    let Some(interval) = interval.filter(|_| at.balancing == Balancing::Plan) else {
        return launch;
    };
    // SGLang wants a buffer no longer than the interval.
    let window = at.window().min(interval).to_string();
    let launch = launch
        .flag(["--enable-eplb"])
        .flag(["--eplb-rebalance-num-iterations", &interval.to_string()])
        .flag(["--expert-distribution-recorder-buffer-size", &window]);
    match at.renew_below {
        // Rounded down: a renewal that only breaks even is left out.
        Some(below) => {
            let below = format!("{:.3}", (below.clamp(0.0, 1.0) * 1e3).floor() / 1e3);
            launch.flag(["--eplb-min-rebalancing-utilization-threshold", &below])
        }
        None => launch,
    }
}

/// Steps between renewals where nobody says otherwise.
const INTERVAL_STEPS: u64 = 1000;
