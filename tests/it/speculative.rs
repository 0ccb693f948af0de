//! Speculative decoding: what a step that verifies drafted tokens costs, and what it yields.

use moe_gps::app::advisor::KnownTraces;
use moe_gps_core::catalog::Catalog;
use serde_json::{Value, json};

use crate::asking::{entry, result, violations};

/// DeepSeek-V3's decode of 128 sequences on 16 H200.
fn asked(speculative: &Value) -> Value {
    let mut asked = json!({
        "model": "deepseek-v3",
        "cluster": {
            "device": "h200-sxm", "devices": 16, "nodes": 2,
            "link": "nvlink4", "inter_node_link": "ib400",
        },
        "parallelism": {"attention_tensor": 1, "attention_data": 16},
        "workload": {"phase": "decode", "batch_size": 128, "kv_length": 4096},
        "engine": {"name": "sglang"},
        "routing": {"skewness": 2},
        "flip_points": false,
    });
    if !speculative.is_null() {
        asked["workload"]["speculative"] = speculative.clone();
    }
    asked
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} of {value}"))
}

#[test]
fn a_step_verifies_all_and_yields_what_is_accepted() {
    let plain = result(&asked(&Value::Null));
    let drafted = result(&asked(&json!({"draft_tokens": 3, "accepted": 1.8, "draft_s": 0.002})));
    assert_eq!(plain["provenance"]["system"]["tokens_per_step"], 128);
    assert_eq!(drafted["provenance"]["system"]["tokens_per_step"], 512);
    let (none, other) = (entry(&plain, "none"), entry(&drafted, "none"));
    // Without drafts a step is a token of every sequence.
    assert_eq!(none["serving"]["tpot_s"], none["model_latency_s"]);
    let step = number(other, "/model_latency_s");
    assert!((number(other, "/serving/tpot_s") - step / 2.8).abs() < 1e-15);
    let rate = 128.0 * 2.8 / step / 16.0;
    assert!((number(other, "/serving/tokens_per_s_per_device") / rate - 1.0).abs() < 1e-12);
    // The stated time is spread over the layers; under graphs nothing else is in that term.
    assert!(number(none, "/terms/other_s") < 1e-12);
    assert!((number(other, "/terms/other_s") * 58.0 - 0.002).abs() < 1e-12);
    // Keys and values are read once for all tokens of a sequence: less than for four sequences of one.
    let mut four = asked(&Value::Null);
    four["workload"]["batch_size"] = json!(512);
    let four = result(&four);
    let attention = |answer: &Value| number(entry(answer, "none"), "/terms/attention_s");
    assert!(attention(&plain) < attention(&drafted) && attention(&drafted) < attention(&four));
    // Experts see as many tokens as in a step of four times the sequences.
    let experts = |answer: &Value| number(entry(answer, "none"), "/terms/expert_ffn_s");
    assert!((experts(&drafted) / experts(&four) - 1.0).abs() < 1e-12);
}

#[test]
fn the_models_own_layer_drafts_where_nothing_is_stated() {
    let plain = result(&asked(&Value::Null));
    let drafted = result(&asked(&json!({"draft_tokens": 1, "accepted": 0.85})));
    let named = |answer: &Value| answer["warnings"].to_string().contains("multi-token prediction");
    assert!(named(&plain) && !named(&drafted));
    // One layer of 61 with an expert of each, and the output head of one token a sequence: a few
    // hundredths of the step.
    let none = entry(&drafted, "none");
    let share = number(none, "/terms/other_s") / number(none, "/layer_latency_s");
    assert!((1.0 / 61.0..0.05).contains(&share), "{share}");
    let twice = result(&asked(&json!({"draft_tokens": 2, "accepted": 0.85})));
    let other = |answer: &Value| number(entry(answer, "none"), "/terms/other_s");
    assert!((other(&twice) / other(&drafted) - 2.0).abs() < 1e-12);
    // 16 experts of a layer on every device, and the rest of it, all in blocks of 8 bits.
    let model = &Catalog::embedded().model("deepseek-v3").unwrap().value.model;
    let experts = model.drafting_layer(16) as f64;
    let weights = |answer: &Value| number(answer, "/plan/memory/weights_bytes");
    let more = weights(&drafted) - weights(&plain);
    assert!((more / (experts * (1.0 + 4.0 / 16_384.0)) - 1.0).abs() < 1e-3, "{more}");
}

#[test]
fn drafts_that_are_never_accepted_cost_and_give_nothing() {
    let rate = |answer: &Value| number(entry(answer, "none"), "/serving/tokens_per_s_per_device");
    let plain = rate(&result(&asked(&Value::Null)));
    let mut last = 0.0;
    for accepted in [0.0, 0.5, 1.0, 2.0, 3.0] {
        let drafted = rate(&result(&asked(&json!({"draft_tokens": 3, "accepted": accepted}))));
        assert!(drafted > last);
        assert!(accepted > 0.0 || drafted < plain);
        last = drafted;
    }
    assert!(last > plain);
}

#[test]
fn a_server_drafts_for_the_sequences_that_decode() {
    let mut server = asked(&json!({"draft_tokens": 3, "accepted": 1.5}));
    server["workload"] = json!({
        "phase": "serving", "input_tokens": 1024, "output_tokens": 251, "concurrency": 128,
        "speculative": {"draft_tokens": 3, "accepted": 1.5},
    });
    let drafted = result(&server);
    let steps = &drafted["provenance"]["system"]["server"]["steps"];
    let decode = steps.as_array().unwrap().iter().find(|step| step["phase"] == "decode").unwrap();
    // 250 tokens at 2.5 a step are 100 steps of 512 tokens, each for 128 requests.
    assert_eq!(decode["tokens_per_step"], 512);
    let of_all: f64 = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| match step["phase"].as_str() {
            Some("decode") => number(step, "/per_request") * 128.0,
            Some("mixed") => number(step, "/per_request") * (number(step, "/sequences") - 1.0),
            _ => 0.0,
        })
        .sum();
    assert!((of_all - 100.0).abs() < 1e-9, "{of_all} {steps}");
    server["workload"]["speculative"] = Value::Null;
    server["workload"].as_object_mut().unwrap().remove("speculative");
    let plain = result(&server);
    let tpot = |answer: &Value| number(entry(answer, "none"), "/serving/tpot_s");
    assert!(tpot(&drafted) < tpot(&plain));
}

#[test]
fn what_cannot_be_is_refused_where_it_is() {
    let refused = |question: &Value| -> Vec<(String, String)> {
        let found = violations(question, &KnownTraces::new());
        found.into_iter().map(|one| (one.pointer, one.rule)).collect()
    };
    let place = "/workload/speculative".to_owned();
    let many = asked(&json!({"draft_tokens": 1, "accepted": 1.85}));
    assert_eq!(refused(&many), [(place.clone(), "range".to_owned())]);
    let mut prefill = asked(&json!({"draft_tokens": 1, "accepted": 0.85}));
    prefill["workload"] = json!({
        "phase": "prefill", "batch_size": 16, "sequence_length": 512,
        "speculative": {"draft_tokens": 1, "accepted": 0.85},
    });
    assert_eq!(refused(&prefill), [(place, "choice".to_owned())]);
    let mut uneven = asked(&json!({"draft_tokens": 2, "accepted": 1}));
    uneven["workload"]["tokens_per_step"] = json!(128);
    uneven["workload"].as_object_mut().unwrap().remove("batch_size");
    assert_eq!(refused(&uneven)[0].0, "/workload/tokens_per_step");
    // A model whose configuration has no layer that drafts says what is not priced.
    let mut other = asked(&json!({"draft_tokens": 2, "accepted": 1}));
    other["model"] = json!("kimi-k2");
    assert!(result(&other)["warnings"].to_string().contains("/workload/speculative: drafting"));
}
