//! Reports from the field that the advice must agree with in sign: what balancing won or
//! lost where somebody measured it. Worked in `docs/accuracy-field.md`.

use serde_json::{Value, json};

use crate::asking::{latency, result};

/// Shares of `experts` experts in order over `devices` devices, whose first device carries
/// `imbalance` times the mean; within a device they rise by up to a half.
fn shares(experts: usize, devices: usize, imbalance: f64) -> Vec<f64> {
    let each = experts / devices;
    let others = (devices as f64 - imbalance) / (devices as f64 - 1.0);
    (0..experts)
        .map(|expert| {
            let rise = 0.75 + 0.5 * (expert % each) as f64 / (each as f64 - 1.0);
            let device = if expert < each { imbalance } else { others };
            device * rise / experts as f64
        })
        .collect()
}

/// Qwen3-235B on eight H20 under SGLang, experts in order at max/mean 1.737.
fn qwen3(workload: &Value) -> Value {
    json!({
        "model": "qwen3-235b-a22b",
        "cluster": {"device": "h20", "devices": 8, "link": "nvlink4"},
        "workload": workload,
        "routing": {"expert_shares": [shares(128, 8, 1.737)]},
        "engine": {"name": "sglang"},
    })
}

/// One step of 16 prompts.
fn prompts() -> Value {
    json!({"phase": "prefill", "batch_size": 16, "sequence_length": 512})
}

// 204.0 s at max/mean 1.737, 167.1 s at 1.0003: 22 % more throughput.
#[test]
fn qwen3_on_eight_h20_gains_from_placing_its_experts_anew() {
    let answer = result(&qwen3(&prompts()));
    let gain = latency(&answer, "none") / latency(&answer, "replace_only") - 1.0;
    println!("Qwen3-235B, 8 H20, prefill, placed anew: {:+.1} % (field +22.1 %)", 100.0 * gain);
    assert!((0.10..0.45).contains(&gain), "{gain}");
}

// EPLB with 16 more slots, renewed while serving stops: +20 to +25 % for prompts alone, +11
// to +21 % at 8 tokens of output, −3 to −11 % at 64, −12 to +2 % at 128.
#[test]
fn output_turns_the_gain_of_qwen3_around() {
    let gains = [1, 8, 64, 128].map(|output_tokens| {
        let mut asked = qwen3(&json!({
            "phase": "serving", "input_tokens": 512, "output_tokens": output_tokens,
            "concurrency": 16,
        }));
        asked["duplication"] = json!({"slots_per_device": 18, "algorithm": "eplb"});
        asked["rebalance"] = json!({"mode": "sync", "interval_steps": 1000});
        asked["allowed_strategies"] = json!(["none", "distribution_only"]);
        asked["flip_points"] = json!(false);
        let answer = result(&asked);
        let gain = latency(&answer, "none") / latency(&answer, "distribution_only") - 1.0;
        println!(
            "Qwen3-235B, 8 H20, 16 more slots, {output_tokens} tokens: {:+.1} %",
            100.0 * gain
        );
        (gain, answer["recommendation"]["strategy"].clone())
    });
    let signs = gains.each_ref().map(|(gain, _)| *gain > 0.0);
    assert_eq!(signs, [true, true, false, false], "{gains:?}");
    let advised = gains.each_ref().map(|(_, advised)| advised == "distribution_only");
    assert_eq!(advised, signs, "{gains:?}");
}

// vLLM #50647, Kimi K3: mean/max 0.936 → 0.992, 24 renewals while serving stops, throughput
// 3.17 times worse. Kimi K2 on 16 B200 stands in.
#[test]
fn renewing_while_serving_stops_does_not_pay_where_loads_are_even() {
    let slower = [100, 300, 1000, 3000].map(|interval| {
        let asked = json!({
            "model": "kimi-k2",
            "cluster": {
                "device": "b200-sxm", "devices": 16, "nodes": 2,
                "link": "nvlink5", "inter_node_link": "ib400",
            },
            "workload": {
                "phase": "decode", "batch_size": 512, "kv_length": 4096,
                "dtypes": {"weights": "fp8", "dispatch": "fp8"},
            },
            "routing": {"expert_shares": [shares(384, 16, 1.0 / 0.936)]},
            "engine": {"name": "vllm"},
            "duplication": {"slots_per_device": 25},
            "rebalance": {"mode": "sync", "interval_steps": interval},
        });
        let answer = result(&asked);
        assert_eq!(answer["recommendation"]["strategy"], "none", "every {interval} steps");
        let slower = latency(&answer, "distribution_only") / latency(&answer, "none");
        println!("Kimi K2, 16 B200, renewed every {interval} steps: {slower:.2} times slower");
        slower
    });
    assert!(slower[3] > 1.0 && slower.is_sorted_by(|a, b| a > b), "{slower:?}");
}

// ATOM #1210: eight MI355, DeepSeek prefill: +16.7 % placed anew, +24.4 % with 64 more slots.
#[test]
fn deepseek_on_eight_mi300x_gains_from_placing_its_experts_anew() {
    let asked = json!({
        "model": "deepseek-v3",
        "cluster": {"device": "mi300x", "devices": 8, "link": "xgmi3"},
        "workload": {
            "phase": "prefill", "batch_size": 8, "sequence_length": 4096,
            "dtypes": {"weights": "fp8", "dispatch": "fp8"},
        },
        "routing": {"expert_shares": [shares(256, 8, 2.07)]},
        "engine": {"name": "vllm"},
    });
    let answer = result(&asked);
    let gain = latency(&answer, "none") / latency(&answer, "replace_only") - 1.0;
    println!("DeepSeek-V3, 8 MI300X, prefill, placed anew: {:+.1} %", 100.0 * gain);
    assert!(gain > 0.05, "{gain}");
}
