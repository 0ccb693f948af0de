//! Every shipped question is answered, by the file as it stands.

use serde_json::Value;

use crate::asking::{entry, result};

fn shipped(name: &str) -> Value {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/questions").join(name);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn answered(name: &str) -> Value {
    let mut question = shipped(name);
    question["flip_points"] = false.into();
    let answer = result(&question);
    let ignored = &answer["provenance"]["ignored_model_fields"];
    assert_eq!(ignored.as_array().map_or(0, Vec::len), 0, "{name}: {ignored}");
    assert!(entry(&answer, "none")["infeasible_reason"].is_null(), "{name} does not fit");
    answer
}

#[test]
fn two_nodes_gain_from_a_plan_in_prefill() {
    let answer = answered("two-nodes-h200.json");
    let terms = &entry(&answer, "none")["terms"];
    assert!(terms["dispatch_s"].as_f64().unwrap() > 0.0);
    assert_ne!(answer["recommendation"]["strategy"], "none");
    assert!(answer["recommendation"]["gain"]["low"].as_f64().unwrap() > 1.0);
}

#[test]
fn decode_is_answered_per_token() {
    let answer = answered("decode-qwen3-h200.json");
    let step = entry(&answer, "none")["model_latency_s"].as_f64().unwrap();
    assert!((0.01..0.1).contains(&step), "{step}");
}

#[test]
fn a_config_is_a_model() {
    let answer = answered("hugging-face-config.json");
    assert_eq!(entry(&answer, "none")["strategy"], "none");
    assert!(answer["warnings"].is_array());
}

#[test]
fn a_map_in_force_is_the_baseline() {
    let answer = answered("map-in-force.json");
    // Devices carry 34, 32, 17 and 17 %: the best there is without copies.
    let recommendation = &answer["recommendation"];
    assert_eq!(recommendation["baseline"], "current");
    assert_eq!(recommendation["strategy"], "distribution_only");
    assert!(recommendation["gain"]["low"].as_f64().unwrap() > 1.0, "{recommendation}");
    let before = answer["routing"]["device_imbalance"]["before"]["mean"].as_f64().unwrap();
    assert!((1.3..1.5).contains(&before), "{before}");
}

#[test]
fn a_server_is_answered_over_all_its_steps() {
    let answer = answered("serving-qwen3-h100.json");
    let none = entry(&answer, "none");
    assert_eq!(none["phases"].as_array().unwrap().len(), 2);
    assert!(
        none["serving"]["tpot_s"].as_f64().unwrap() < none["serving"]["ttft_s"].as_f64().unwrap()
    );
}
