//! A running server: its steps, one verdict over all of them, and where the advice turns.

use serde_json::{Value, json};

use crate::asking::{entry, keep, known, latency, result, result_of, violations};

/// Qwen3-235B on eight H100, a hot first device.
fn asked(workload: &Value) -> Value {
    let shares: Vec<f64> = (0..128)
        .map(|expert| if expert < 16 { 1.7 } else { 0.9 } + f64::from(expert % 16) * 0.02)
        .collect();
    json!({
        "model": "qwen3-235b-a22b",
        "cluster": {"device": "h100-sxm", "devices": 8, "link": "nvlink4"},
        "workload": workload,
        "routing": {"expert_shares": [shares]},
        "engine": {"name": "vllm"},
        "duplication": {"slots_per_device": 18},
        "flip_points": false,
    })
}

fn serving(output_tokens: u64) -> Value {
    json!({
        "phase": "serving", "input_tokens": 512, "output_tokens": output_tokens, "concurrency": 32,
    })
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn one_token_of_output_is_a_prefill_question_of_as_many_tokens() {
    for engine in ["vllm", "sglang", "tensorrt-llm"] {
        for (max_batched_tokens, batch_size) in [(16_384, 32), (4096, 8)] {
            let mut server = asked(&serving(1));
            server["workload"]["max_batched_tokens"] = json!(max_batched_tokens);
            let step =
                json!({"phase": "prefill", "batch_size": batch_size, "sequence_length": 512});
            let mut prefill = asked(&step);
            for question in [&mut server, &mut prefill] {
                question["engine"]["name"] = json!(engine);
            }
            let (server, prefill) = (result(&server), result(&prefill));
            for strategy in ["none", "replace_only", "distribution_only"] {
                let (one, other) = (latency(&server, strategy), latency(&prefill, strategy));
                assert!((one / other - 1.0).abs() < 0.01, "{engine} {strategy}: {one} {other}");
            }
            assert_eq!(server["recommendation"]["strategy"], prefill["recommendation"]["strategy"]);
            let times = &entry(&server, "none")["serving"];
            assert!(times["tpot_s"].is_null());
            // 8 or 32 prompts a step, one token each.
            let step = number(&entry(&prefill, "none")["model_latency_s"]);
            let rate = f64::from(batch_size) / step / 8.0;
            assert!((number(&times["tokens_per_s_per_device"]) / rate - 1.0).abs() < 1e-9);
        }
    }
}

#[test]
fn a_layer_is_the_mean_over_the_kinds_of_steps() {
    for engine in ["vllm", "sglang"] {
        let mut question = asked(&serving(256));
        question["engine"]["name"] = json!(engine);
        let answer = result(&question);
        for strategy in ["none", "replace_only", "distribution_only"] {
            let entry = entry(&answer, strategy);
            let phases = entry["phases"].as_array().unwrap();
            let names: Vec<&str> =
                phases.iter().map(|one| one["phase"].as_str().unwrap()).collect();
            let first = if engine == "vllm" { "mixed" } else { "prefill" };
            assert_eq!(names, [first, "decode"], "{engine}");
            let sum = |field: &str| phases.iter().map(|one| number(&one[field])).sum::<f64>();
            assert!((sum("share_of_steps") - 1.0).abs() < 1e-9);
            assert!((sum("share_of_time") - 1.0).abs() < 1e-9);
            let mean = |field: &str| {
                let of = |one: &Value| number(&one["share_of_steps"]) * number(&one[field]);
                phases.iter().map(of).sum::<f64>()
            };
            let total = |field: &str| number(&entry[field]);
            assert!((mean("layer_latency_s") / total("layer_latency_s") - 1.0).abs() < 1e-9);
            assert!((mean("step_latency_s") / total("model_latency_s") - 1.0).abs() < 1e-9);
            let terms = entry["terms"].as_object().unwrap().values().map(number).sum::<f64>();
            assert!((terms / total("layer_latency_s") - 1.0).abs() < 1e-9);
        }
    }
}

#[test]
fn users_see_first_token_time_between_tokens_and_rate() {
    let answer = result(&asked(&serving(256)));
    let [none, moved] = ["none", "replace_only"].map(|strategy| entry(&answer, strategy));
    // One prompt comes in a mixed step, so that the first token takes one.
    let mixed = number(&none["phases"][0]["step_latency_s"]);
    assert!((number(&none["serving"]["ttft_s"]) - mixed).abs() < 1e-12);
    // 32 requests are in service: a request takes 32 times the time per request.
    let serving = |entry: &Value, field: &str| number(&entry["serving"][field]);
    let rate = serving(none, "tokens_per_s_per_device") * 8.0 / 256.0;
    let residence = serving(none, "ttft_s") + 255.0 * serving(none, "tpot_s");
    assert!((residence * rate / 32.0 - 1.0).abs() < 1e-9);
    // Fewer devices serve as much where a step is shorter, in the same ratio.
    let step = |entry: &Value| number(&entry["model_latency_s"]);
    let saved = &moved["serving"]["devices_saved"];
    assert!((number(&saved["mid"]) - 8.0 * (1.0 - step(moved) / step(none))).abs() < 1e-9);
    assert!(number(&saved["low"]) < number(&saved["mid"]));
    assert!(number(&saved["mid"]) < number(&saved["high"]));
    assert_eq!(none["serving"]["devices_saved"]["mid"], 0.0);
}

#[test]
fn the_output_at_which_the_advice_turns_is_found_and_told() {
    let mut question = asked(&serving(4));
    question["cluster"]["device"] = json!("h20");
    question["engine"]["name"] = json!("sglang");
    question["allowed_strategies"] = json!(["none", "distribution_only"]);
    question["rebalance"] = json!({"mode": "sync", "interval_steps": 1000});
    question["flip_points"] = json!(true);
    let answer = result(&question);
    assert_eq!(answer["recommendation"]["strategy"], "distribution_only");
    let flips = answer["flip_points"].as_array().unwrap();
    let flip = flips.iter().find(|flip| flip["parameter"] == "output_tokens").unwrap();
    assert!(flips.iter().all(|flip| flip["parameter"] != "tokens_per_step"));
    assert_eq!(flip["becomes"], "none");
    let reason = answer["recommendation"]["reason"].as_str().unwrap();
    assert!(reason.contains("output tokens on leave it off"), "{reason}");
    assert!(reason.contains("Steps of distribution_only: prefill +"), "{reason}");
    for (bound, strategy) in [(0, "distribution_only"), (1, "none")] {
        let mut beyond = question.clone();
        beyond["workload"]["output_tokens"] = flip["interval"][bound].clone();
        beyond["workload"]["output_tokens"] = json!(number(&flip["interval"][bound]).round());
        beyond["flip_points"] = json!(false);
        assert_eq!(result(&beyond)["recommendation"]["strategy"], strategy, "{flip}");
    }
    // Asked from the other side the same change is told the other way round.
    question["workload"]["output_tokens"] = json!(512);
    let answer = result(&question);
    assert_eq!(answer["recommendation"]["strategy"], "none");
    let reason = answer["recommendation"]["reason"].as_str().unwrap();
    assert!(reason.contains("output tokens run distribution_only"), "{reason}");
}

#[test]
fn a_trace_may_be_of_one_phase() {
    let directory = tempfile::tempdir().unwrap();
    // Two steps of counts; in prefill the first experts are hot, in decode the last.
    let trace = |hot: std::ops::Range<usize>| {
        let row: Vec<u32> =
            (0..8).map(|expert| if hot.contains(&expert) { 300 } else { 100 }).collect();
        let counts = json!({"counts": [[row], [row]]});
        keep(directory.path(), "application/json", counts.to_string().as_bytes())
    };
    let (prompts, decoded) = (trace(0..2), trace(6..8));
    let traces = known(&[&prompts, &decoded]);
    let of = |first: &str, second: &str| {
        json!({
            "model": "mixtral-8x7b",
            "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
            "workload": {
                "phase": "serving", "input_tokens": 1024, "output_tokens": 64, "concurrency": 64,
            },
            "engine": {"name": "sglang"},
            "routing": {"trace_ids": [
                {"id": prompts.id, "phase": first}, {"id": decoded.id, "phase": second},
            ]},
            "duplication": {"slots_per_device": 2},
            "flip_points": false,
        })
    };
    let answer = result_of(&of("prefill", "decode"), &traces);
    // One plan serves both: neither phase is balanced as by a plan of its own, and most tokens are
    // those of prompts.
    let phase = |answer: &Value, strategy: &str, at: usize| {
        number(&entry(answer, strategy)["phases"][at]["speedup_over_none"])
    };
    assert!(phase(&answer, "replace_only", 0) > 1.05);
    let swapped = result_of(&of("decode", "prefill"), &traces);
    assert_ne!(
        latency(&answer, "replace_only").to_bits(),
        latency(&swapped, "replace_only").to_bits()
    );
    // Both phases are there, each trace has one, and a step knows no other phase.
    let refused = |question: &Value| {
        let found = violations(question, &traces);
        assert_eq!(found[0].pointer, "/routing/trace_ids", "{found:?}");
    };
    refused(&of("prefill", "prefill"));
    let mut unsaid = of("prefill", "decode");
    unsaid["routing"]["trace_ids"][1] = json!(decoded.id);
    refused(&unsaid);
    let mut step = of("prefill", "decode");
    step["workload"] = json!({"phase": "decode", "batch_size": 64, "kv_length": 1024});
    refused(&step);
}

#[test]
fn what_belongs_to_one_step_is_refused() {
    let pointers = |question: &Value| -> Vec<String> {
        violations(question, &known(&[])).into_iter().map(|one| one.pointer).collect()
    };
    let with = |field: &str, value: Value| {
        let mut question = asked(&serving(64));
        question[field] = value;
        question
    };
    for (question, pointer) in [
        (with("objective", json!("throughput_at_tpot")), "/objective"),
        (with("measured_step_s", json!(0.01)), "/measured_step_s"),
        (
            with(
                "measured_layer",
                json!({"attention_s": 1e-4, "all_reduce_s": 1e-4, "expert_ffn_balanced_s": 1e-4}),
            ),
            "/measured_layer",
        ),
        (with("assumptions", json!({"preset": "paper"})), "/assumptions/preset"),
        (with("workload", json!({"phase": "serving", "input_tokens": 8})), "/workload"),
        (
            with(
                "workload",
                json!({"phase": "decode", "batch_size": 8, "kv_length": 9, "output_tokens": 8}),
            ),
            "/workload/output_tokens",
        ),
    ] {
        assert!(
            pointers(&question).iter().any(|one| one == pointer),
            "{pointer} {:?}",
            pointers(&question)
        );
    }
    for field in ["batch_size", "sequence_length", "kv_length", "tokens_per_step"] {
        let mut question = asked(&serving(64));
        question["workload"][field] = json!(8);
        assert_eq!(pointers(&question), [format!("/workload/{field}")]);
    }
    let mut small = asked(&serving(64));
    small["workload"]["max_batched_tokens"] = json!(16);
    assert_eq!(pointers(&small), ["/workload/max_batched_tokens"]);
}

#[test]
fn prompts_are_not_cut_finer_for_more_replicas() {
    let mut server = asked(&serving(256));
    server["engine"]["name"] = json!("sglang");
    server["workload"]["input_tokens"] = json!(4096);
    for replicas in [1, 2, 8] {
        server["parallelism"] = json!({"attention_data": replicas});
        let answer = result(&server);
        assert_eq!(entry(&answer, "none")["phases"][0]["tokens_per_step"], 4096, "{replicas}");
    }
}
