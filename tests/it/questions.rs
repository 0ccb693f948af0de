//! Questions as operators of real clusters ask them.

use serde_json::{Value, json};

/// A question of the paper's, which formulas answer at once.
pub(crate) fn of_the_paper() -> Value {
    let file = include_str!("../../examples/questions/paper-mixtral-a100.json");
    serde_json::from_str(file).unwrap()
}

/// Mixtral 8x7B on four H100 of one node.
pub(crate) fn mixtral() -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 8, "sequence_length": 1024},
        "routing": {"skewness": 1.6},
    })
}

pub(crate) fn mixtral_decode() -> Value {
    let mut asked = mixtral();
    asked["workload"] = json!({"phase": "decode", "batch_size": 64, "kv_length": 2048});
    asked
}

/// DeepSeek-V3 on 32 H200 in that many nodes.
pub(crate) fn deepseek(nodes: u32, workload: &Value, engine: &Value) -> Value {
    json!({
        "model": "deepseek-v3",
        "cluster": {
            "device": "h200-sxm", "devices": 32, "nodes": nodes,
            "link": "nvlink4", "inter_node_link": "ib400",
        },
        "workload": workload,
        "routing": {"skewness": 4.0},
        "engine": engine,
        "predictors": [{"name": "probe", "accuracy": 0.9, "overhead_s": 2e-5}],
    })
}

pub(crate) fn prefill(batch: u32) -> Value {
    json!({
        "phase": "prefill", "batch_size": batch, "sequence_length": 4096,
        "dtypes": {"weights": "fp8", "dispatch": "fp8"},
    })
}

pub(crate) fn decode(batch: u32) -> Value {
    json!({
        "phase": "decode", "batch_size": batch, "kv_length": 4096,
        "dtypes": {"weights": "fp8", "dispatch": "fp8"},
    })
}

pub(crate) fn qwen3_on_h20() -> Value {
    json!({
        "model": "qwen3-235b-a22b",
        "cluster": {"device": "h20", "devices": 8, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 4, "sequence_length": 2048},
        "routing": {"power_law": {"exponent": 0.6}},
        "engine": {"name": "sglang"},
    })
}

pub(crate) fn switch() -> Value {
    json!({
        "model": "switch-base-128",
        "cluster": {"device": "a100-sxm4-40gb", "devices": 8, "link": "nvlink3"},
        "workload": {"phase": "prefill", "batch_size": 32, "sequence_length": 512},
        "routing": {"skewness": 8.0, "distribution_error": 0.1},
    })
}

pub(crate) fn gpt_oss_on_b200() -> Value {
    json!({
        "model": "gpt-oss-120b",
        "cluster": {"device": "b200-sxm", "devices": 4, "link": "nvlink5"},
        "workload": {"phase": "decode", "batch_size": 256, "kv_length": 1024},
        "routing": {"skewness": 3.0},
        "engine": {"name": "tensorrt-llm"},
    })
}

/// A model by its `config.json`, a device by its datasheet, a link by its numbers.
pub(crate) fn all_inline() -> Value {
    json!({
        "model": {
            "model_type": "mixtral", "architectures": ["MixtralForCausalLM"],
            "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
            "num_experts_per_tok": 2, "vocab_size": 32000, "torch_dtype": "bfloat16",
            "rope_theta": 1e6, "transformers_version": "4.36.0",
        },
        "cluster": {
            "device": {
                "name": "lab-accelerator", "memory_bytes": 96e9, "bandwidth_bytes_per_s": 2.5e12,
                "peak_flop_per_s": {"bf16": 4e14},
            },
            "devices": 4,
            "link": {"bandwidth_bytes_per_s": 1e11, "latency_s": 5e-6},
        },
        "workload": {"phase": "prefill", "batch_size": 4, "sequence_length": 512},
        "routing": {"expert_shares": [[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]]},
    })
}
