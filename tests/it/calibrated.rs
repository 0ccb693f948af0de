//! Answers in calibrated mode to questions as operators of real clusters ask them: what
//! must hold of every answer, and what single switches do.

use moe_gps::app::advisor::KnownTraces;
use rstest::rstest;
use serde_json::{Value, json};

use crate::asking::{entries, entry, latency, result, rounded, violations};
use crate::questions::{
    all_inline, decode, deepseek, gpt_oss_on_b200, mixtral, mixtral_decode, prefill, qwen3_on_h20,
    switch,
};

const SWITCHES: [&str; 12] = [
    "preset",
    "error_model",
    "cap_at_baseline",
    "communication",
    "communication_because",
    "t2e_skips_scatter",
    "predictor_overlap",
    "overlap",
    "k_comm",
    "launch_s",
    "attention_imbalance",
    "replica_split",
];

/// What holds of every answer.
fn assert_sound(result: &Value) {
    let ceiling = result["ceiling"]["layer_latency_s"].as_f64().unwrap();
    let all = result["strategies"].as_array().unwrap();
    for strategy in ["none", "replace_only", "distribution_only", "token_to_expert"] {
        assert!(!entries(result, strategy).is_empty(), "{strategy} is not priced");
    }
    for entry in all {
        assert_eq!(entry["feasible"], entry["infeasible_reason"].is_null(), "{entry}");
        assert_eq!(entry["engine_support"].as_array().unwrap().len(), 4);
        let Some(latency) = entry["layer_latency_s"].as_f64() else { continue };
        assert!(latency.is_finite() && latency > 0.0, "{entry}");
        let terms = entry["terms"].as_object().unwrap();
        let sum: f64 = terms.values().map(|term| term.as_f64().unwrap()).sum();
        assert!((sum / latency - 1.0).abs() < 1e-12, "terms add up to {sum}: {entry}");
        for (name, term) in terms {
            let term = term.as_f64().unwrap();
            let signed = if name == "overlap_hidden_s" { -term } else { term };
            assert!(signed.is_finite() && signed >= 0.0, "{name} {term}");
        }
        assert!(latency >= ceiling * (1.0 - 1e-12), "below the ceiling {ceiling}: {entry}");
        let none = crate::asking::latency(result, "none");
        let speedup = entry["speedup_over_none"].as_f64().unwrap();
        assert!((speedup - none / latency).abs() < 1e-12);
        assert!(entry["model_latency_s"].as_f64().unwrap() > latency);
    }
    assert_eq!(entry(result, "none")["speedup_over_none"], 1.0);
    let speedup = result["ceiling"]["speedup_over_none"].as_f64().unwrap();
    assert!(speedup >= 1.0, "{speedup}");

    let recommendation = &result["recommendation"];
    let chosen = recommendation["strategy"].as_str().unwrap();
    assert_eq!(entry(result, chosen)["feasible"], true);
    assert!(!recommendation["reason"].as_str().unwrap().is_empty());
    let verdict = recommendation["verdict"].as_str().unwrap();
    assert!(["recommended", "tie", "insufficient_evidence"].contains(&verdict));
    let missing = recommendation["missing"].as_array().unwrap();
    assert_eq!(verdict == "insufficient_evidence", !missing.is_empty());
    // The named strategy is the fastest, or an equal within the band.
    let margin = recommendation["margin_over_runner_up"].as_f64().unwrap();
    let band = recommendation["margin_error_band"].as_f64().unwrap();
    assert!(margin >= 0.0 && band >= 0.0);
    let fastest = all
        .iter()
        .filter(|entry| entry["feasible"] == true)
        .filter_map(|entry| entry["layer_latency_s"].as_f64())
        .fold(f64::INFINITY, f64::min);
    let named = all
        .iter()
        .filter(|entry| entry["strategy"] == chosen)
        .filter_map(|entry| entry["layer_latency_s"].as_f64())
        .fold(f64::INFINITY, f64::min);
    if margin > band {
        assert!((named / fastest - 1.0).abs() < 1e-12, "{chosen} is not the fastest");
    }

    let provenance = &result["provenance"];
    assert_eq!(provenance["method"], "analytic");
    let assumptions = provenance["assumptions"].as_object().unwrap();
    for switch in SWITCHES {
        assert!(assumptions.contains_key(switch), "{switch} is not echoed");
    }
    let terms = provenance["terms"].as_object().unwrap();
    assert_eq!(terms.len(), 10);
    for (term, origin) in terms {
        let basis = origin["basis"].as_str().unwrap();
        assert!(["measured", "fitted", "roofline"].contains(&basis), "{term} {basis}");
        let band = origin["error_band"].as_f64().unwrap();
        let is_priced = all.iter().any(|entry| entry["terms"][term].as_f64().unwrap_or(0.0) != 0.0);
        assert!(band > 0.0 || !is_priced && band == 0.0, "{term} has no band");
    }
    assert_eq!(provenance["catalog_digest"].as_str().unwrap().len(), 64);

    let references = result["references"].as_array().unwrap();
    let ids: Vec<&str> = references.iter().filter_map(|one| one["id"].as_str()).collect();
    // Sharding over all devices only where an engine can build it.
    let always = ids.strip_prefix(&["tensor_experts"]).unwrap_or(&ids);
    assert_eq!(always, ["post_gate_split", "balanced"]);
    for flip in result["flip_points"].as_array().unwrap() {
        assert_eq!(
            flip["value"].is_null() && flip["parameter"] != "communication",
            flip["becomes"].is_null(),
            "{flip}"
        );
        if flip["becomes"].is_string() {
            assert_ne!(flip["becomes"], recommendation["strategy"], "{flip}");
        }
    }
}

#[rstest]
#[case::mixtral_prefill(mixtral())]
#[case::mixtral_decode(mixtral_decode())]
#[case::deepseek_prefill_sglang(deepseek(4, &prefill(64), &json!({"name": "sglang", "all2all_backend": "deepep"})))]
#[case::deepseek_decode_sglang(deepseek(4, &decode(4096), &json!({"name": "sglang", "all2all_backend": "deepep"})))]
#[case::deepseek_prefill_vllm(deepseek(2, &prefill(64), &json!({"name": "vllm"})))]
#[case::deepseek_decode_vllm(deepseek(2, &decode(2048), &json!({"name": "vllm", "all2all_backend": "deepep_low_latency"})))]
#[case::deepseek_decode_tensorrt(deepseek(2, &decode(1024), &json!({"name": "tensorrt-llm"})))]
#[case::qwen3_on_h20(qwen3_on_h20())]
#[case::switch(switch())]
#[case::gpt_oss_on_b200(gpt_oss_on_b200())]
#[case::all_inline(all_inline())]
fn answers_are_sound(#[case] question: Value) {
    assert_sound(&result(&question));
    let mut overlapped = question;
    overlapped["assumptions"] = json!({"overlap": "two_batch"});
    assert_sound(&result(&overlapped));
}

#[test]
fn fields_of_a_config_that_nothing_depends_on_are_listed() {
    let result = result(&all_inline());
    let ignored = result["provenance"]["ignored_model_fields"].to_string();
    assert!(ignored.contains("transformers_version"), "{ignored}");
    assert!(!ignored.contains("hidden_size"), "{ignored}");
    // A datasheet alone gives rooflines, and wider bands than a measured device.
    let terms = &result["provenance"]["terms"];
    assert_eq!(terms["expert_ffn_s"]["basis"], "roofline");
    let band = |terms: &Value| terms["expert_ffn_s"]["error_band"].as_f64().unwrap();
    let measured = crate::asking::result(&mixtral());
    assert!(band(terms) > band(&measured["provenance"]["terms"]));
}

#[test]
fn what_does_not_fit_is_infeasible_with_what_is_missing() {
    let asked = json!({
        "model": "deepseek-v3",
        "cluster": {"device": "a100-sxm4-40gb", "devices": 4, "link": "nvlink3"},
        "workload": {"phase": "decode", "batch_size": 16, "kv_length": 1024, "dtype": "bf16"},
        "routing": {"skewness": 2.0},
    });
    let result = result(&asked);
    for entry in result["strategies"].as_array().unwrap() {
        assert_eq!(entry["feasible"], false, "{entry}");
        let reason = entry["infeasible_reason"].as_str().unwrap();
        let missing: f64 = reason
            .split_once(" GB are missing")
            .and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{reason}"));
        // 671e9 parameters of two bytes on four devices of 40 GB.
        assert!(missing > 671.0 * 2.0 / 4.0 - 40.0, "{missing}");
    }
    assert_eq!(result["recommendation"]["verdict"], "cannot_run");
}

#[test]
fn replicas_take_memory_from_the_cache() {
    let mut asked = mixtral_decode();
    asked["duplication"] = json!({"slots_per_device": 4});
    let result = result(&asked);
    let entry = entry(&result, "distribution_only");
    // Two more of eight experts, each of three matrices of 4096 by 14336 in two bytes, in
    // 32 layers.
    let bytes = 2.0 * 3.0 * 4096.0 * 14336.0 * 2.0 * 32.0;
    assert!((entry["replica_bytes"].as_f64().unwrap() / bytes - 1.0).abs() < 1e-9, "{entry}");
    // A token keeps 8 heads of 128 keys and values in two bytes in 32 layers; four devices
    // share the heads.
    let per_token = 2.0 * 8.0 * 128.0 * 2.0 * 32.0 / 4.0;
    let lost = entry["kv_tokens_lost_per_device"].as_f64().unwrap();
    assert!((lost / (bytes / per_token) - 1.0).abs() < 1e-3, "{lost}");
    assert_eq!(crate::asking::entry(&result, "none")["replica_bytes"], 0.0);
}

/// Mixtral in decode where KV cache is scarce: 20 GB of it on every device.
fn scarce(sequences: u64) -> Value {
    let mut question = mixtral_decode();
    question["workload"] = json!({"phase": "decode", "batch_size": sequences, "kv_length": 4096});
    question["objective"] = json!("throughput_at_tpot");
    question
}

#[test]
fn throughput_solves_the_batch_again_with_the_replicas_in_memory() {
    let result = result(&scarce(256));
    let serving = |strategy: &str| entry(&result, strategy)["serving"].clone();
    let none = serving("none");
    assert!(none["sequences"].as_u64().unwrap() <= 256, "{none}");
    let limit = none["step_latency_s"].as_f64().unwrap();
    for strategy in ["replace_only", "distribution_only", "token_to_expert"] {
        let served = serving(strategy);
        let step = served["step_latency_s"].as_f64().unwrap();
        let sequences = served["sequences"].as_u64().unwrap();
        assert!(sequences > 0 && step <= limit * (1.0 + 1e-9), "{strategy}: {served}");
        let rate = served["tokens_per_s"].as_f64().unwrap();
        assert!((rate - sequences as f64 / step).abs() <= 1e-9 * rate, "{strategy}: {served}");
    }
    let reason = result["recommendation"]["reason"].as_str().unwrap();
    assert!(reason.contains("tokens/s"), "{reason}");
    assert_eq!(entry(&self::result(&mixtral()), "none")["serving"], Value::Null);
}

#[test]
fn replicas_that_take_the_cache_serve_fewer_sequences() {
    // So many sequences that memory ends the batch, not the step.
    let mut question = scarce(2048);
    let fewest = |question: &Value, slots: u32| {
        let mut question = question.clone();
        question["duplication"] = json!({"slots_per_device": slots});
        let result = result(&question);
        entry(&result, "distribution_only")["serving"]["sequences"].as_u64().unwrap()
    };
    let (few, many) = (fewest(&question, 3), fewest(&question, 6));
    assert!(many < few, "{many} {few}");
    question["objective"] = json!("step_latency");
    let lacking = result(&question);
    assert_eq!(entry(&lacking, "none")["feasible"], false, "2048 sequences of 4096 do not fit");
}

#[test]
fn what_runs_now_is_compared_with() {
    let mut question = mixtral();
    let skewed = [0.30, 0.25, 0.15, 0.10, 0.08, 0.05, 0.04, 0.03];
    question["routing"] = json!({"expert_shares": [skewed]});
    let over =
        |question: &Value| result(question)["recommendation"]["speedup_over_current"].as_f64();
    assert_eq!(over(&question), None);
    // Hot beside hot, as the contiguous start has it, and hot beside cold.
    question["current"] = json!({"physical_to_logical": [[0, 1, 2, 3, 4, 5, 6, 7]]});
    let poor = over(&question).unwrap();
    question["current"] = json!({"physical_to_logical": [[0, 7, 1, 6, 2, 5, 3, 4]]});
    let good = over(&question).unwrap();
    assert!(poor > good && good >= 1.0 - 1e-12, "{poor} {good}");
    question["current"] = json!({"strategy": "distribution_only"});
    let result = result(&question);
    let stated = latency(&result, "distribution_only");
    let chosen = result["recommendation"]["strategy"].as_str().unwrap().to_owned();
    let over = result["recommendation"]["speedup_over_current"].as_f64().unwrap();
    assert!((over - stated / latency(&result, &chosen)).abs() < 1e-12);
}

#[test]
fn a_plan_stays_near_the_map_in_force() {
    let mut question = mixtral();
    question["routing"] =
        json!({"expert_shares": [[0.30, 0.25, 0.15, 0.10, 0.08, 0.05, 0.04, 0.03]]});
    question["allowed_strategies"] = json!(["replace_only"]);
    let placed = |question: &Value| {
        let advice = crate::asking::advise(question, &KnownTraces::new()).unwrap();
        advice.placement.unwrap()["layers"][0]["physical_to_logical"].clone()
    };
    let plan = placed(&question);
    // The same devices under other names: nothing has to move.
    let slots = plan.as_array().unwrap();
    let turned: Vec<Value> = slots.iter().cycle().skip(2).take(slots.len()).cloned().collect();
    question["current"] = json!({"physical_to_logical": [turned]});
    assert_eq!(placed(&question), json!(turned));
    assert_eq!(result(&question)["plan"]["moved_experts"], 0);
}

#[test]
fn a_measured_step_far_from_the_model_is_a_doubt() {
    let modelled = entry(&result(&mixtral()), "none")["model_latency_s"].as_f64().unwrap();
    let verdict = |factor: f64| {
        let mut asked = mixtral();
        asked["measured_step_s"] = json!(modelled * factor);
        asked["predictors"] = json!([{"name": "slow", "accuracy": 0.5, "overhead_s": 0.01}]);
        asked["routing"] = json!({"expert_shares": [[0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]]});
        let result = result(&asked);
        let recommendation = &result["recommendation"];
        let step = recommendation["missing"].to_string().contains("step is measured");
        assert_eq!(step, recommendation["verdict"] == "insufficient_evidence");
        step
    };
    assert!(verdict(0.3) && verdict(3.0));
    assert!(!verdict(0.8) && !verdict(1.3));
}

#[test]
fn the_recommendation_is_taken_from_what_is_allowed() {
    let free = result(&mixtral());
    for allowed in ["none", "replace_only", "distribution_only"] {
        let mut asked = mixtral();
        asked["allowed_strategies"] = json!([allowed]);
        let held = result(&asked);
        assert_eq!(held["recommendation"]["strategy"], allowed);
        assert_eq!(held["recommendation"]["runner_up"], Value::Null);
        for strategy in ["none", "replace_only", "distribution_only", "token_to_expert"] {
            assert_eq!(latency(&held, strategy).to_bits(), latency(&free, strategy).to_bits());
        }
    }
}

#[test]
fn the_balance_of_devices_gives_a_ceiling_and_no_plan() {
    let mut asked = mixtral();
    asked["routing"] = json!({"balancedness": 0.625, "at_devices": 4});
    let result = result(&asked);
    assert_eq!(result["recommendation"]["verdict"], "insufficient_evidence");
    assert!(result["recommendation"]["missing"].to_string().contains("counts per expert"));
    for strategy in ["replace_only", "distribution_only", "token_to_expert"] {
        for entry in entries(&result, strategy) {
            assert_eq!(entry["feasible"], false);
            assert_eq!(entry["layer_latency_s"], Value::Null);
        }
    }
    assert!(result["ceiling"]["speedup_over_none"].as_f64().unwrap() > 1.2);
    assert_eq!(result["routing"]["skewness"], Value::Null);
    let before = result["routing"]["device_imbalance"]["balancedness_before"].as_f64().unwrap();
    assert!((before - 0.625).abs() < 0.02, "{before}");
}

#[test]
fn predictors_that_are_not_stated_are_assumed_and_cannot_settle_it() {
    let result = result(&mixtral());
    let assumed: Vec<(String, f64)> = entries(&result, "token_to_expert")
        .iter()
        .map(|entry| {
            let predictor = &entry["predictor"];
            assert_eq!(predictor["source"], "assumed");
            assert!(predictor["overhead_s"].as_f64().unwrap() > 0.0);
            (
                predictor["name"].as_str().unwrap().to_owned(),
                predictor["accuracy"].as_f64().unwrap(),
            )
        })
        .collect();
    let expected =
        [("by_token", 0.71), ("ffn", 0.72), ("lstm", 0.77)].map(|(n, a)| (n.to_owned(), a));
    assert_eq!(assumed, expected);
    let mut only = mixtral();
    only["allowed_strategies"] = json!(["token_to_expert"]);
    let only = crate::asking::result(&only);
    assert_eq!(only["recommendation"]["verdict"], "insufficient_evidence");
    assert!(only["recommendation"]["missing"].to_string().contains("assumed"));
}

#[test]
fn engines_are_said_to_run_what_they_run() {
    let runs = |result: &Value, strategy: &str| -> Vec<(String, bool)> {
        entry(result, strategy)["engine_support"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["engine"].as_str().unwrap().to_owned(), one["runnable"] == true))
            .collect()
    };
    let tensor = result(&mixtral());
    for (engine, runnable) in runs(&tensor, "distribution_only") {
        assert_eq!(runnable, engine != "tensorrt-llm", "{engine}");
    }
    assert!(runs(&tensor, "token_to_expert").iter().all(|(_, runnable)| !runnable));
    assert!(runs(&tensor, "none").iter().all(|(_, runnable)| *runnable));
    let mut data = mixtral();
    data["parallelism"] = json!({"attention_tensor": 1, "attention_data": 4});
    let data = result(&data);
    assert!(runs(&data, "distribution_only").iter().all(|(_, runnable)| *runnable));
    // With the engine that cannot run it, the best that runs is another strategy.
    let mut asked = mixtral();
    asked["engine"] = json!({"name": "tensorrt-llm"});
    asked["routing"] = json!({"expert_shares": [[0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]]});
    let answered = result(&asked);
    assert_eq!(answered["recommendation"]["strategy"], "none");
    assert_eq!(answered["recommendation"]["best_runnable"], "none");
    let reason = answered["recommendation"]["reason"].as_str().unwrap();
    assert!(reason.contains("cannot be run by TensorRT-LLM"), "{reason}");
}

#[test]
fn the_communication_pattern_is_named_and_its_alternative_flips() {
    let pattern = |result: &Value| {
        result["provenance"]["assumptions"]["communication"].as_str().unwrap().to_owned()
    };
    assert_eq!(pattern(&result(&mixtral())), "replicated");
    let mut data = mixtral();
    data["parallelism"] = json!({"attention_tensor": 1, "attention_data": 4});
    assert_eq!(pattern(&result(&data)), "allgather_reducescatter");
    data["engine"] = json!({"name": "vllm", "all2all_backend": "deepep_high_throughput"});
    assert_eq!(pattern(&result(&data)), "all_to_all_normal");
    // Without an engine both patterns are priced; the flip point says so if they disagree,
    // which must agree with asking for either.
    let mut disagreed = 0;
    for skewness in [1.05, 1.2, 1.5, 2.0] {
        for link in [2e9, 20e9, 400e9] {
            let mut asked = mixtral();
            asked["parallelism"] = json!({"attention_tensor": 1, "attention_data": 4});
            asked["cluster"]["link"] = json!({"bandwidth_bytes_per_s": link, "latency_s": 5e-6});
            asked["routing"] = json!({"skewness": skewness, "distribution_error": 0.1});
            asked["duplication"] = json!({"slots_per_device": 3});
            asked["predictors"] = json!([{"name": "stated", "accuracy": 0.5, "overhead_s": 1.0}]);
            let open = result(&asked);
            asked["assumptions"] = json!({"communication": "all_to_all_normal"});
            let other = result(&asked)["recommendation"]["strategy"].clone();
            let flip = open["flip_points"]
                .as_array()
                .unwrap()
                .iter()
                .find(|flip| flip["parameter"] == "communication");
            let differs = other != open["recommendation"]["strategy"];
            assert_eq!(flip.is_some(), differs, "{skewness} {link}");
            if let Some(flip) = flip {
                disagreed += 1;
                assert_eq!(flip["communication"], "all_to_all_normal");
                assert_eq!(flip["becomes"], other);
            }
        }
    }
    assert!(disagreed > 0, "the patterns never disagree, so nothing was tested");
}

#[test]
fn every_switch_is_echoed_as_set() {
    let mut asked = mixtral();
    asked["assumptions"] = json!({
        "communication": "all_to_all_low_latency", "t2e_skips_scatter": true,
        "predictor_overlap": "attention", "overlap": "shared_expert", "launch_s": 3e-6,
        "attention_imbalance": 1.25, "replica_split": "optimal", "seed": 7,
    });
    let result = result(&asked);
    let echoed = &result["provenance"]["assumptions"];
    for (switch, value) in asked["assumptions"].as_object().unwrap() {
        let found = if switch == "seed" { &result["provenance"]["seed"] } else { &echoed[switch] };
        assert_eq!(found, value, "{switch}");
    }
    let plain = crate::asking::result(&mixtral());
    let attention =
        |result: &Value| entry(result, "none")["terms"]["attention_s"].as_f64().unwrap();
    assert!((attention(&result) / attention(&plain) - 1.25).abs() < 1e-9);
}

#[test]
fn a_measured_layer_replaces_the_laws() {
    let mut asked = mixtral();
    asked["routing"] =
        json!({"expert_shares": [[0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125]]});
    asked["measured_layer"] = json!(
        {"attention_s": 1e-3, "all_reduce_s": 2e-4, "expert_ffn_balanced_s": 3e-3});
    let result = result(&asked);
    let terms = &entry(&result, "none")["terms"];
    assert_eq!(terms["attention_s"], 1e-3);
    assert_eq!(terms["all_reduce_s"], 2e-4);
    let ffn = terms["expert_ffn_s"].as_f64().unwrap();
    assert!(ffn > 3e-3 * 0.999 && ffn < 3e-3 * 1.05, "balanced but for sampling: {ffn}");
    assert_eq!(result["provenance"]["terms"]["attention_s"]["basis"], "measured");
}

#[test]
fn what_a_plan_cannot_hold_is_refused() {
    let mut asked = mixtral();
    asked["cluster"]["devices"] = json!(3);
    let found = violations(&asked, &KnownTraces::new());
    assert_eq!(found[0].pointer, "/parallelism/expert_parallel", "{found:?}");
}

#[test]
fn a_whole_answer_with_its_placement() {
    let mut asked =
        deepseek(4, &decode(4096), &json!({"name": "sglang", "all2all_backend": "deepep"}));
    asked["model"] = json!("mixtral-8x7b");
    asked["cluster"] = json!({"device": "h200-sxm", "devices": 4, "link": "nvlink4"});
    asked["workload"] = json!({"phase": "prefill", "batch_size": 8, "sequence_length": 2048});
    asked["parallelism"] = json!({"attention_tensor": 1, "attention_data": 4});
    asked["routing"] = json!({"expert_shares": [
        [0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05],
        [0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.2, 0.3],
    ]});
    let advice = crate::asking::advise(&asked, &KnownTraces::new()).unwrap();
    let mut result = rounded(&advice.result);
    result["provenance"]["catalog_digest"] = json!("[digest]");
    result["provenance"]["version"] = json!("[version]");
    insta::assert_json_snapshot!("answer", result);
    insta::assert_json_snapshot!("placement", rounded(&advice.placement.unwrap()));
}
