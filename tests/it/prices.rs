//! Prices against what was measured or must hold: sequences on replicas, kernels, memory, launches.

use serde_json::{Value, json};

use moe_gps::app::advisor::KnownTraces;

use crate::asking::{entry, result, violations};

/// Microseconds of a term of `none`.
fn term(result: &Value, name: &str) -> f64 {
    entry(result, "none")["terms"][name].as_f64().unwrap() * 1e6
}

fn warned(result: &Value, words: &str) -> bool {
    let warnings = result["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| warning.as_str().unwrap().contains(words))
}

/// DeepSeek-V3 on eight H200, a replica of attention on each.
fn replicated(workload: &Value) -> Value {
    json!({
        "model": "deepseek-v3",
        "cluster": {"device": "h200-sxm", "devices": 8, "link": "nvlink4"},
        "parallelism": {"attention_tensor": 1, "attention_data": 8},
        "workload": workload,
        "routing": {"skewness": 1.0},
        "flip_points": false,
    })
}

#[test]
fn a_sequence_stays_on_its_replica() {
    let prefill = |batch: u32| {
        let workload = json!({"phase": "prefill", "batch_size": batch, "sequence_length": 8192, "dtype": "fp8"});
        result(&replicated(&workload))
    };
    let of = |batch| {
        let result = prefill(batch);
        ["attention_s", "dispatch_s", "router_s"].map(|name| term(&result, name))
    };
    let (one, eight, nine, sixteen) = (of(1), of(8), of(9), of(16));
    let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a / b - 1.0).abs() < 1e-12);
    assert!(same(&one, &eight), "attention, gather and router are the busiest replica's");
    assert!(same(&nine, &sixteen));
    assert!((one[0] - 7627.2).abs() < 1.0, "{one:?}");
    assert!((nine[0] - 15_439.1).abs() < 1.0, "{nine:?}");
    // Tokens that experts compute are the real ones.
    let ffn = |batch| term(&prefill(batch), "expert_ffn_s");
    assert!(ffn(1) < ffn(8) / 3.0);

    let decode = |batch: u32| {
        let workload = json!({"phase": "decode", "batch_size": batch, "kv_length": 4096});
        term(&result(&replicated(&workload)), "attention_s")
    };
    assert!((decode(33) - decode(40)).abs() < 1e-9);
    assert!(decode(33) > decode(32));

    assert!(warned(&prefill(3), "the busiest holds 1 and 5 replicas idle"));
    assert!(warned(&prefill(9), "the busiest holds 2 and 7 replicas idle part of the step"));
    assert!(!warned(&prefill(16), "replicas"));
}

/// Attention of a model on sixteen H200 in decode, 32 sequences on each, at that context.
fn decoded(model: &str, context: u32) -> f64 {
    let asked = json!({
        "model": model,
        "cluster": {"device": "h200-sxm", "devices": 16, "nodes": 2, "link": "nvlink4", "inter_node_link": "ib400"},
        "parallelism": {"attention_tensor": 1, "attention_data": 16},
        "workload": {"phase": "decode", "batch_size": 512, "kv_length": context},
        "routing": {"skewness": 1.0},
        "flip_points": false,
    });
    term(&result(&asked), "attention_s")
}

#[test]
fn an_index_costs_kernels_and_saves_reading() {
    // DeepSeek-V3.2 is DeepSeek-V3 with an index that chooses 2048 tokens.
    let of_index = |context| decoded("deepseek-v3.2", context) - decoded("deepseek-v3", context);
    let short = of_index(2048);
    // Two products (13 and 1 MB of weights in fp8), a norm, a rotation, scores and the choice among them.
    assert!((short - 31.5).abs() < 0.1, "{short}");
    assert!(of_index(8192) < 0.0 && of_index(65_536) < 4.0 * of_index(8192));
    // GLM-5.2 chooses in 21 layers of 78 and takes that choice in the others.
    assert!(decoded("glm-5.2", 8192) < decoded("glm-5", 8192));
}

/// DeepSeek-V3 on four nodes of eight H100, fp8 prefill.
fn deepseek_on_h100(engine: &Value) -> Value {
    json!({
        "model": "deepseek-v3",
        "cluster": {
            "device": "h100-sxm", "devices": 32, "nodes": 4, "link": "nvlink4",
            "inter_node_link": "ib400",
        },
        "workload": {
            "phase": "prefill", "batch_size": 32, "sequence_length": 512, "dtype": "fp8",
        },
        "engine": engine,
        "routing": {"skewness": 1.0},
        "flip_points": false,
    })
}

#[test]
fn a_kernel_picks_its_stack_and_an_unknown_one_is_refused() {
    let priced = |engine: Value| result(&deepseek_on_h100(&engine));
    let ffn = |engine: Value| term(&priced(engine), "expert_ffn_s");
    let deepep = json!({"name": "sglang", "all2all_backend": "deepep"});
    // Its own stack, not the roofline of another kernel in fp8.
    let own = priced(deepep.clone());
    assert_eq!(own["provenance"]["system"]["expert_kernel"]["stack"], "sglang-deepep-prefill");
    assert!((term(&own, "expert_ffn_s") - 731.5).abs() < 1.0, "{}", term(&own, "expert_ffn_s"));
    let named = json!({"name": "sglang", "all2all_backend": "deepep", "moe_kernel": "deep_gemm"});
    assert!((ffn(named) / term(&own, "expert_ffn_s") - 1.0).abs() < 1e-12);
    let triton = json!({"name": "sglang", "all2all_backend": "deepep", "moe_kernel": "triton"});
    let triton = ffn(triton);
    assert!((triton - 611.9).abs() < 2.0, "of SGLang's own kernel: {triton}");

    let foreign = priced(json!({"name": "vllm", "moe_kernel": "wideep_compute_cutlass"}));
    assert!(warned(&foreign, "/engine/moe_kernel: vLLM is not known to ship"));
    assert_eq!(foreign["provenance"]["system"]["expert_kernel"]["stack"], "tensorrt-llm-wideep");
    let unmeasured = priced(json!({"name": "vllm", "moe_kernel": "aiter"}));
    assert!(warned(&unmeasured, "/engine/moe_kernel: nobody measured `aiter`"));
    let newer = priced(json!({"name": "vllm", "version": "0.33.0"}));
    assert!(warned(&newer, "/engine/version: nothing was measured with vLLM 0.33.0"), "{newer}");
    assert!(!warned(&priced(json!({"name": "vllm", "version": "0.24.0"})), "/engine/version"));

    let wrong = json!({"name": "vllm", "moe_kernel": "nonsense", "all2all_backend": "nonsense"});
    let found = violations(&deepseek_on_h100(&wrong), &KnownTraces::new());
    let places: Vec<_> = found.iter().map(|one| (&*one.pointer, &*one.rule)).collect();
    assert_eq!(places, [("/engine/moe_kernel", "choice"), ("/engine/all2all_backend", "choice")]);
    assert!(found[0].detail.contains("vllm_triton") && found[0].detail.contains("triton"));
    assert!(found[1].detail.contains("deepep_low_latency"));
}

#[test]
fn activations_and_buffers_take_memory_and_what_would_fit_is_said() {
    let asked = |tokens: u32, overlap: &str| {
        let mut asked = deepseek_on_h100(&json!({"name": "sglang", "all2all_backend": "deepep"}));
        asked["workload"]["sequence_length"] = json!(tokens);
        asked["assumptions"] = json!({"overlap": overlap});
        result(&asked)
    };
    // 8,192 tokens a GPU ran, 16,384 ran out of memory, and ran in two halves.
    let ran = asked(8192, "none");
    assert_eq!(entry(&ran, "none")["feasible"], true, "{}", entry(&ran, "none"));
    let ran = asked(16_384, "two_batch");
    assert_eq!(entry(&ran, "none")["feasible"], true, "{}", entry(&ran, "none"));
    let refused = asked(16_384, "none");
    let why = entry(&refused, "none")["infeasible_reason"].as_str().unwrap();
    assert!(why.contains("GB for activations"), "{why}");
    assert!(why.contains("the largest batch that fits is 18 sequences"), "{why}");
    assert!(why.contains("this one fits from 64 devices on"), "{why}");
    assert_eq!(refused["recommendation"]["verdict"], "cannot_run");

    // DeepSeek-R1 served on eight H20 from batch 32 on.
    let served = json!({
        "model": "deepseek-v3",
        "cluster": {"device": "h20", "devices": 8, "link": "nvlink4"},
        "parallelism": {"attention_tensor": 8, "attention_data": 1},
        "workload": {"phase": "decode", "batch_size": 32, "kv_length": 2048, "dtype": "fp8"},
        "routing": {"skewness": 1.5},
        "flip_points": false,
    });
    assert_eq!(entry(&result(&served), "none")["feasible"], true);
    // With a replica of attention on every device it does not fit, and what does is said.
    let mut replicated = served.clone();
    replicated["parallelism"] = json!({"attention_tensor": 1, "attention_data": 8});
    let refused = result(&replicated);
    let why = entry(&refused, "none")["infeasible_reason"].as_str().unwrap();
    let cut = "this one fits with `attention_tensor` 8 and `attention_data` 1";
    assert!(why.contains(cut), "{why}");
    let mut more = served;
    more["workload"]["batch_size"] = json!(4096);
    let refused = result(&more);
    let why = entry(&refused, "none")["infeasible_reason"].as_str().unwrap();
    assert!(why.contains("the largest batch that fits is") && why.contains("this one fits from"));
}

#[test]
fn launches_are_hidden_by_a_busier_device() {
    let priced = |length: u32| {
        let asked = json!({
            "model": "mixtral-8x7b",
            "cluster": {"device": "h200-sxm", "devices": 4, "link": "nvlink4"},
            "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": length},
            "engine": {"name": "vllm", "cuda_graph": false},
            "routing": {"skewness": 1.0},
            "flip_points": false,
        });
        let answer = result(&asked);
        let other = term(&answer, "other_s");
        (other, entry(&answer, "none")["layer_latency_s"].as_f64().unwrap() * 1e6 - other)
    };
    // 17 launches of 28.81 µs are 489.8 µs of the host.
    let (other, device) = priced(256);
    assert!((other - (489.77 - device + 0.07 * 489.77)).abs() < 0.1, "{other} {device}");
    let (other, device) = priced(8192);
    assert!((other - 0.07 * device).abs() < 0.1, "{other} {device}");
}

#[test]
fn a_step_takes_its_overhead_besides() {
    let mut asked = replicated(&json!({"phase": "decode", "batch_size": 64, "kv_length": 1024}));
    let before = result(&asked);
    asked["step_overhead_s"] = json!(2e-3);
    let after = result(&asked);
    let of = |result: &Value, name: &str| entry(result, "none")[name].as_f64().unwrap();
    let more = of(&after, "model_latency_s") - of(&before, "model_latency_s");
    assert!((more - 2e-3).abs() < 1e-9, "{more}");
    assert!((of(&after, "layer_latency_s") / of(&before, "layer_latency_s") - 1.0).abs() < 1e-12);
}

#[test]
fn two_halves_share_the_device() {
    let gain = |devices: u32, workload: Value| {
        let priced = |overlap: &str| {
            let mut asked =
                deepseek_on_h100(&json!({"name": "sglang", "all2all_backend": "deepep"}));
            asked["cluster"]["devices"] = json!(devices);
            asked["cluster"]["nodes"] = json!(devices / 8);
            asked["workload"] = workload.clone();
            asked["workload"]["dtypes"] = json!({"weights": "fp8", "dispatch": "fp8"});
            asked["assumptions"] = json!({"overlap": overlap});
            entry(&result(&asked), "none")["layer_latency_s"].as_f64().unwrap()
        };
        let gain = priced("none") / priced("two_batch") - 1.0;
        println!("{devices} H100, {workload}: two halves {:+.1} %", gain * 100.0);
        gain
    };
    let prefill = |sequences: u32| {
        gain(32, json!({"phase": "prefill", "batch_size": sequences, "sequence_length": 4096}))
    };
    let decode = |each: u32| {
        gain(32, json!({"phase": "decode", "batch_size": 32 * each, "kv_length": 4096}))
    };
    // Measured: +27 to +35 %; +25.5 % at 256 sequences a GPU, about 0 at 64 to 128, -27 % at 32.
    let found = [prefill(64), prefill(128), decode(256), decode(128), decode(64), decode(32)];
    assert!(found[..2].iter().all(|gain| (0.19..0.42).contains(gain)), "{found:?}");
    assert!((0.1..0.35).contains(&found[2]), "{found:?}");
    assert!(found[3..5].iter().all(|gain| gain.abs() < 0.2), "{found:?}");
    assert!((-0.4..-0.1).contains(&found[5]), "{found:?}");
}
