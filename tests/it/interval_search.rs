//! How often a plan is renewed: searched on the planning part of a recording.

use serde_json::{Value, json};

use crate::asking::{keep, known, result, result_of};

/// Steps of counts of 16 experts in one layer, expert `hot(step)` ten times as hot as the
/// others: no plan without copies of it is even.
fn steps(n_steps: usize, hot: impl Fn(usize) -> usize) -> Vec<u8> {
    let step = |step: usize| {
        let of = |expert: usize| {
            let tokens = if expert == hot(step) { 10_000 } else { 1000 };
            tokens + (step * 7 + expert * 5) % 11 * 10
        };
        vec![(0..16).map(of).collect::<Vec<usize>>()]
    };
    json!({"counts": (0..n_steps).map(step).collect::<Vec<_>>()}).to_string().into_bytes()
}

/// The answer to a question about such a recording; the engine renews every 650 steps, at no
/// stall.
fn answer(recording: &[u8]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let trace = keep(directory.path(), "application/json", recording);
    let asked = json!({
        "model": "phi-3.5-moe",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 16384},
        "engine": {"name": "vllm-ascend"},
        "routing": {"trace_id": trace.id},
    });
    result_of(&asked, &known(&[&trace]))
}

#[test]
fn a_load_that_moves_on_is_followed_and_a_steady_one_is_not() {
    // The planning part is the first 800 steps; its second half brings another hot expert.
    let moved = answer(&steps(1600, |step| if step < 400 { 0 } else { 8 }));
    let search = &moved["interval_search"];
    let tried = search["intervals"].as_array().unwrap();
    let intervals: Vec<u64> =
        tried.iter().map(|one| one["interval_steps"].as_u64().unwrap()).collect();
    assert_eq!((intervals, &search["replayed_steps"]), (vec![40, 162, 650], &json!(400)));
    let latency = |index: usize| tried[index]["layer_latency_s"].as_f64().unwrap();
    assert!(latency(0) < latency(2) * 0.99, "{search}");
    let chosen = search["chosen_interval_steps"].as_u64().unwrap();
    assert!(chosen < 650, "{search}");
    assert_eq!(moved["plan"]["interval_steps"], chosen);
    // Shorter intervals pay more for renewals, in proportion.
    let rebalance = |index: usize| tried[index]["rebalance_s"].as_f64().unwrap();
    assert!((rebalance(0) * 40.0 / (rebalance(2) * 650.0) - 1.0).abs() < 1e-9, "{search}");
    assert_eq!((&tried[0]["renewals"], &tried[2]["renewals"]), (&json!(9), &json!(0)));

    let steady = answer(&steps(1600, |_| 0));
    let search = &steady["interval_search"];
    assert_eq!(search["chosen_interval_steps"], 650, "{search}");
    assert_eq!(search["intervals"].as_array().unwrap().len(), 3);
}

#[test]
fn where_nothing_can_be_tried_the_engine_s_own_stands_and_that_is_said() {
    let short = answer(&steps(60, |_| 0));
    let search = &short["interval_search"];
    assert_eq!(search["chosen_interval_steps"], 650);
    assert!(search["because"].as_str().unwrap().contains("serves 15 steps"), "{search}");

    let mut asked = json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "tokens_per_step": 8192},
        "engine": {"name": "vllm"},
        "routing": {"skewness": 1.6},
    });
    let search = result(&asked)["interval_search"].clone();
    assert_eq!(search["chosen_interval_steps"], 3000);
    assert!(search["because"].as_str().unwrap().contains("no recorded steps"), "{search}");
    // Stated, or never renewed: nothing to search.
    asked["rebalance"] = json!({"interval_steps": 500});
    assert_eq!(result(&asked)["interval_search"], Value::Null);
    asked["rebalance"] = json!({"mode": "startup_map"});
    assert_eq!(result(&asked)["interval_search"], Value::Null);
}
