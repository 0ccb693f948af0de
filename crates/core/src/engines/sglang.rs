//! SGLang, read at 0.5.23.

use crate::comm::profile::CollectiveKernel;
use crate::engines::Engine;
use crate::engines::backends::BackendPattern;
use crate::engines::defaults::gathered;
use crate::engines::settings::Deployment;
use crate::question::{Rebalance, RebalanceMode};
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
    // Nobody measured its Triton kernel; it descends from vLLM's.
    moe_kernels: &["sglang_fused_moe_triton", "vllm_triton", "vllm_fused_moe"],
    // Static dispatch prefers a replica on the same device, then node.
    replica_split: ReplicaSplit::NearestFirst,
    // --eplb-rebalance-num-iterations 1000, blocking.
    rebalance: Rebalance { mode: RebalanceMode::Sync, interval_steps: 1000, window_steps: None },
    // Measured.
    planning: Seconds::new(48e-3),
    graphed_prefill_tokens: 0,
    balancer_needs_attention_data: None,
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

fn launch(at: &Deployment) -> Vec<String> {
    let mut set = vec![
        "--init-expert-location FILE".to_owned(),
        format!("--ep-num-redundant-experts {}", at.shape.redundant()),
        format!("--ep-size {}", at.shape.n_devices()),
    ];
    if let Some(interval) = at.interval_steps {
        set.push(format!(
            "--enable-eplb --eplb-rebalance-num-iterations {interval} \
             --expert-distribution-recorder-buffer-size {}",
            // SGLang wants a buffer no longer than the interval.
            at.window().min(interval)
        ));
    }
    set
}
