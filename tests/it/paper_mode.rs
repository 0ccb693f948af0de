//! Paper mode through the HTTP API against the worked numbers of MoE-GPS (arXiv
//! 2506.07366), as its formulas give them for Mixtral 8x7B on four A100.
//!
//! The formulas stand here a second time, written from the paper and not shared with the
//! code; the table below is rounded to 1e-6 ms.

use moe_gps::app::advisor::KnownTraces;
use moe_gps::app::references::References;
use moe_gps::app::sweep;
use moe_gps::wire::sweep::SweepAnswer;
use moe_gps_core::cancel::Cancel;
use serde_json::{Value, json};

use crate::asking::{entry, latency, result_of};
use crate::support::TestApp;

/// Seconds: the layer times of the worked numbers, which LLMCompass computed, and the link's
/// latency. The predictor's time is a choice of ours.
const ATTENTION: f64 = 0.246e-3;
const ALL_REDUCE: f64 = 0.0546e-3;
const FFN: f64 = 0.591e-3;
const LATENCY: f64 = 8.92e-6;
const PREDICTOR: f64 = 0.153e-3;
/// T · d · b of 512 tokens.
const ACTIVATIONS: f64 = 512.0 * 4096.0 * 2.0;

/// One all-to-all over N = 4 devices whose busiest receives `factor` times the mean.
fn all_to_all(factor: f64, bandwidth: f64) -> f64 {
    LATENCY + ACTIVATIONS * 3.0 * factor / 16.0 / bandwidth
}

fn none(s: f64, bandwidth: f64) -> f64 {
    ATTENTION + ALL_REDUCE + 2.0 * all_to_all(s, bandwidth) + s * FFN
}

fn distribution_only(s: f64, load: f64, bandwidth: f64) -> f64 {
    ATTENTION + ALL_REDUCE + 2.0 * all_to_all(s, bandwidth) + load * FFN
}

fn token_to_expert(overhead: f64, load: f64, bandwidth: f64) -> f64 {
    ATTENTION + ALL_REDUCE + overhead + all_to_all(1.0, bandwidth) + load * FFN
}

fn question(s: f64, error: f64, bandwidth: f64) -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {
            "device": "a100-sxm4-80gb", "devices": 4,
            "link": {"bandwidth_bytes_per_s": bandwidth, "latency_s": LATENCY},
        },
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512, "dtype": "bf16"},
        "routing": {"skewness": s, "distribution_error": error},
        "predictors": [{"name": "ffn", "accuracy": 0.85, "overhead_s": PREDICTOR}],
        "assumptions": {"preset": "paper"},
        "measured_layer": {
            "attention_s": ATTENTION, "all_reduce_s": ALL_REDUCE, "expert_ffn_balanced_s": FFN,
        },
    })
}

async fn result(app: &TestApp, question: &Value) -> Value {
    let answer = app.ask_and_wait(question).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let job = answer.json();
    assert_eq!(job["status"], "succeeded", "{job}");
    job["result"].clone()
}

#[track_caller]
fn assert_close(found: f64, exact: f64) {
    assert!((found - exact).abs() <= 1e-9 * exact.abs(), "{found:e} is not {exact:e}");
}

/// Rows of the table: link, s, distribution error, none, DO, T2E in ms, none/DO, T2E/DO.
type Row = (&'static str, f64, f64, [f64; 3], [f64; 2]);
const TABLE: [Row; 5] = [
    ("nvlink3", 1.39, 0.018, [1.147_218, 0.927_366, 1.144_791], [1.2371, 1.2345]),
    ("nvlink3", 1.40, 0.0098, [1.153_180, 0.922_572, 1.144_791], [1.2500, 1.2409]),
    ("nvlink3", 1.99, 0.16, [1.504_963, 1.014_433, 1.144_791], [1.4836, 1.1285]),
    ("pcie4", 1.39, 0.018, [1.208_251, 0.988_399, 1.166_746], [1.2224, 1.1804]),
    ("pcie4", 1.99, 0.16, [1.592_342, 1.101_812, 1.166_746], [1.4452, 1.0589]),
];

#[tokio::test]
async fn the_worked_table() {
    let app = TestApp::start_advising().await;
    for (link, s, error, milliseconds, ratios) in TABLE {
        let bandwidth = if link == "nvlink3" { 300e9 } else { 32e9 };
        let mut asked = question(s, error, bandwidth);
        asked["cluster"]["link"] = json!(link);
        let result = result(&app, &asked).await;
        let found = ["none", "distribution_only", "token_to_expert"].map(|id| latency(&result, id));
        assert_close(found[0], none(s, bandwidth));
        assert_close(found[1], distribution_only(s, 1.0 + error, bandwidth));
        assert_close(found[2], token_to_expert(PREDICTOR, 1.15, bandwidth));
        for (found, printed) in found.iter().zip(milliseconds) {
            assert!((found * 1e3 - printed).abs() <= 5.1e-7, "{link} {s}: {found} {printed}");
        }
        for (found, printed) in [found[0], found[2]].iter().zip(ratios) {
            assert!((found / latency(&result, "distribution_only") - printed).abs() <= 5.1e-5);
        }
        assert_eq!(result["recommendation"]["strategy"], "distribution_only");
    }
}

#[tokio::test]
async fn the_headline_with_all_that_is_said_about_it() {
    let app = TestApp::start_advising().await;
    let result = result(&app, &question(1.39, 0.018, 300e9)).await;
    let recommendation = &result["recommendation"];
    assert_eq!(recommendation["strategy"], "distribution_only");
    assert_eq!(recommendation["verdict"], "recommended");
    assert_eq!(recommendation["runner_up"], "token_to_expert");
    assert_eq!(recommendation["predictor"], Value::Null);
    let margin = recommendation["margin_over_runner_up"].as_f64().unwrap();
    assert!((margin - 0.2345).abs() < 5.1e-5, "{margin}");
    let (fast, slow) = (distribution_only(1.39, 1.018, 300e9), none(1.39, 300e9));
    assert_close(margin, token_to_expert(PREDICTOR, 1.15, 300e9) / fast - 1.0);
    assert_close(recommendation["speedup_over_none"].as_f64().unwrap(), slow / fast);
    assert_eq!(entry(&result, "none")["speedup_over_none"], 1.0);

    for entry in result["strategies"].as_array().unwrap() {
        let Some(latency) = entry["layer_latency_s"].as_f64() else { continue };
        let terms = entry["terms"].as_object().unwrap();
        let sum: f64 = terms.values().map(|term| term.as_f64().unwrap()).sum();
        assert_close(sum, latency);
        assert_eq!(terms.len(), 10);
        for absent in ["router_s", "rebalance_s", "overlap_hidden_s", "other_s"] {
            assert_eq!(terms[absent], 0.0, "{absent}");
        }
        assert_close(terms["attention_s"].as_f64().unwrap(), ATTENTION);
        assert_close(terms["all_reduce_s"].as_f64().unwrap(), ALL_REDUCE);
        // All of Mixtral's 32 layers are mixture-of-experts layers.
        assert_close(entry["model_latency_s"].as_f64().unwrap(), 32.0 * latency);
    }
    let of = |strategy, term: &str| entry(&result, strategy)["terms"][term].as_f64().unwrap();
    for strategy in ["none", "distribution_only"] {
        assert_close(of(strategy, "dispatch_s"), all_to_all(1.39, 300e9));
        assert_close(of(strategy, "combine_s"), all_to_all(1.39, 300e9));
        assert_eq!(entry(&result, strategy)["terms"]["predictor_s"], 0.0);
    }
    let scatter = &entry(&result, "token_to_expert")["terms"]["dispatch_s"];
    assert_eq!(*scatter, 0.0, "the scatter is skipped");
    assert_close(of("token_to_expert", "combine_s"), all_to_all(1.0, 300e9));
    assert_close(of("token_to_expert", "predictor_s"), PREDICTOR);
    assert_close(of("token_to_expert", "expert_ffn_s"), 1.15 * FFN);

    let predictor = &entry(&result, "token_to_expert")["predictor"];
    assert_eq!(predictor["name"], "ffn");
    assert_eq!(predictor["source"], "stated");
    assert_close(predictor["accuracy"].as_f64().unwrap(), 0.85);
    // The ceiling is the fastest strategy's own formula in perfect balance.
    let ceiling = result["ceiling"]["speedup_over_none"].as_f64().unwrap();
    assert_close(ceiling, slow / distribution_only(1.0, 1.0, 300e9));
    assert_eq!(result["references"], json!([]));
    assert_eq!(result["provenance"]["method"], "analytic");
    assert_eq!(result["provenance"]["assumptions"]["communication"], "paper");
    for term in result["provenance"]["terms"].as_object().unwrap().values() {
        assert_eq!(term["error_band"], 0.0, "no error band in paper mode");
    }
}

#[tokio::test]
async fn replacing_without_copies_has_no_formula() {
    let app = TestApp::start_advising().await;
    let result = result(&app, &question(1.39, 0.018, 300e9)).await;
    let entry = entry(&result, "replace_only");
    assert_eq!(entry["feasible"], false);
    assert_eq!(entry["layer_latency_s"], Value::Null);
    assert_eq!(entry["terms"], Value::Null);
    assert!(entry["infeasible_reason"].as_str().unwrap().contains("no formula"));
}

/// The question with both trends: errors of the paper's data sets, and a predictor that gets better.
fn over_skewness(s: f64, bandwidth: f64) -> Value {
    let mut asked = question(s, 0.0, bandwidth);
    asked["routing"] = json!({"skewness": s, "distribution_error_points": [
        {"skewness": 1.40, "distribution_error": 0.0098},
        {"skewness": 1.99, "distribution_error": 0.16},
    ]});
    asked["predictors"] = json!([{"name": "ffn", "overhead_s": PREDICTOR, "accuracy_points": [
        {"skewness": 2.2, "accuracy": 0.9}, {"skewness": 1.2, "accuracy": 0.8},
    ]}]);
    asked
}

#[test]
fn forecast_and_predictor_follow_the_skewness() {
    // Log-linear between the points, held beyond them.
    let held = |s: f64, [a, b]: [(f64, f64); 2]| {
        let share = ((s - a.0) / (b.0 - a.0)).clamp(0.0, 1.0);
        (a.1.ln() * (1.0 - share) + b.1.ln() * share).exp()
    };
    let skewness = [1.1, 1.3, 1.695, 1.9, 2.5];
    let request = json!({
        "question": over_skewness(1.5, 32e9),
        "axes": [{"parameter": "skewness", "values": skewness}],
    });
    let none = References::default();
    let swept: SweepAnswer =
        sweep::compute(&sweep::read(&request), &none, Cancel::NEVER).unwrap().into();
    for (at, s) in skewness.into_iter().enumerate() {
        let error = held(s, [(1.40, 0.0098), (1.99, 0.16)]);
        let accuracy = held(s, [(1.2, 0.8), (2.2, 0.9)]);
        let exact = [
            ("distribution_only", distribution_only(s, 1.0 + error, 32e9)),
            ("token_to_expert", token_to_expert(PREDICTOR, 2.0 - accuracy, 32e9)),
        ];
        let answered = result_of(&over_skewness(s, 32e9), &KnownTraces::new());
        for (strategy, exact) in exact {
            assert_close(latency(&answered, strategy), exact);
            assert_close(swept.layer_latency_s.0[strategy][0][at].unwrap(), exact);
        }
        let warned = answered["warnings"].to_string();
        assert_eq!(
            warned.contains("/routing/distribution_error_points"),
            !(1.4..=1.99).contains(&s)
        );
        assert_eq!(warned.contains("/predictors/0/accuracy_points"), !(1.2..=2.2).contains(&s));
    }
}

#[test]
fn copies_hide_behind_attention_from_a_bandwidth_on() {
    let mut asked = question(1.39, 0.018, 300e9);
    asked["assumptions"]["copy_overlap"] = "attention".into();
    let answered = result_of(&asked, &KnownTraces::new());
    // 352,321,536 bytes of an expert over 300 GB/s take 1,174.405 µs, of which attention hides 246.
    for strategy in ["distribution_only", "token_to_expert"] {
        let copied = entry(&answered, strategy)["terms"]["rebalance_s"].as_f64().unwrap();
        assert_close(copied, 352_321_536.0 / 300e9 - ATTENTION);
    }
    let copies: Vec<&Value> = answered["flip_points"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|flip| flip["copies"].is_string())
        .collect();
    let of = |parameter: &str| *copies.iter().find(|flip| flip["parameter"] == parameter).unwrap();
    let found = of("link_bandwidth_bytes_per_s");
    assert_eq!((&found["copies"], &found["becomes"]), (&json!("hidden"), &Value::Null));
    let exact = 352_321_536.0 / ATTENTION;
    assert!((found["value"].as_f64().unwrap() / exact - 1.0).abs() < 1e-5, "{found}");
    // Attention is stated: no number of tokens changes it.
    let found = of("tokens_per_step");
    assert_eq!((&found["copies"], &found["value"]), (&json!("exposed"), &Value::Null));
    // By the closed forms it grows with the tokens, until a copy is hidden.
    asked.as_object_mut().unwrap().remove("measured_layer");
    for preset in ["paper", "calibrated"] {
        asked["assumptions"]["preset"] = preset.into();
        let answered = result_of(&asked, &KnownTraces::new());
        let flips = answered["flip_points"].as_array().unwrap();
        let found = flips
            .iter()
            .find(|flip| flip["copies"] == "hidden" && flip["parameter"] == "tokens_per_step");
        let found = found.unwrap_or_else(|| panic!("{preset}: {flips:?}"));
        let tokens = found["value"].as_f64().unwrap();
        assert!((1024.0..65_536.0).contains(&tokens), "{preset}: {found}");
    }
}

/// The skewness at which the formulas of DO and T2E meet.
fn meeting_point(bandwidth: f64) -> f64 {
    let slope = 2.0 * ACTIVATIONS * 3.0 / 16.0 / bandwidth;
    (PREDICTOR + all_to_all(1.0, bandwidth) + (1.15 - 1.018) * FFN - 2.0 * LATENCY) / slope
}

#[tokio::test]
async fn the_decision_map() {
    let app = TestApp::start_advising().await;
    for (bandwidth, printed) in [(8e9, 1.62962), (12e9, 2.19443), (16e9, 2.75924)] {
        let exact = meeting_point(bandwidth);
        assert!((exact - printed).abs() < 5.1e-6, "{exact} {printed}");
        // The flip point as answered, from below.
        let asked = result(&app, &question(1.5, 0.018, bandwidth)).await;
        assert_eq!(asked["recommendation"]["strategy"], "distribution_only");
        let flips = asked["flip_points"].as_array().unwrap();
        let flip = flips
            .iter()
            .find(|flip| flip["parameter"] == "skewness" && flip["becomes"] == "token_to_expert");
        let flip = flip.unwrap()["value"].as_f64().unwrap();
        assert!((flip / exact - 1.0).abs() < 1e-6, "{flip} {exact}");
        let down = flips.iter().find(|flip| flip["becomes"] == "none").unwrap();
        assert!((down["value"].as_f64().unwrap() - 1.018).abs() < 1e-6, "{down}");
        // And what is recommended on its two sides.
        for (s, wins) in [(-2e-6, "distribution_only"), (2e-6, "token_to_expert")] {
            let result = result(&app, &question(exact + s, 0.018, bandwidth)).await;
            assert_eq!(result["recommendation"]["strategy"], wins, "{exact} {s}");
        }
    }
    let crossing =
        (2.0 * 3.0 - 1.0) * ACTIVATIONS * 3.0 / 16.0 / (PREDICTOR + 0.132 * FFN - LATENCY);
    assert!((crossing / 17.705e9 - 1.0).abs() < 5e-5, "{crossing}");
    for (bandwidth, wins) in [
        (crossing * (1.0 - 1e-6), "token_to_expert"),
        (crossing * (1.0 + 1e-6), "distribution_only"),
        (32e9, "distribution_only"),
        (300e9, "distribution_only"),
    ] {
        let result = result(&app, &question(3.0, 0.018, bandwidth)).await;
        assert_eq!(result["recommendation"]["strategy"], wins, "{bandwidth}");
    }
    for (s, wins) in [(1.0, "none"), (1.018, "none"), (1.0181, "distribution_only")] {
        for bandwidth in [8e9, 300e9] {
            let result = result(&app, &question(s, 0.018, bandwidth)).await;
            assert_eq!(result["recommendation"]["strategy"], wins, "{s} {bandwidth}");
        }
    }
}

#[tokio::test]
async fn only_equals_are_a_tie() {
    let app = TestApp::start_advising().await;
    let tie = result(&app, &question(1.25, 0.25, 300e9)).await;
    assert_eq!(tie["recommendation"]["verdict"], "tie");
    assert_eq!(tie["recommendation"]["strategy"], "none", "the simplest of equals");
    let close = result(&app, &question(1.25, 0.249_99, 300e9)).await;
    assert_eq!(close["recommendation"]["verdict"], "recommended");
    assert_eq!(close["recommendation"]["strategy"], "distribution_only");
}

#[tokio::test]
async fn latency_over_accuracy_is_u_shaped_and_its_bottom_is_found() {
    let app = TestApp::start_advising().await;
    // t = 4e-6 · exp(4.2 · accuracy): the bottom is where a·c·exp(c·x) = ffn.
    let (a, c): (f64, f64) = (4e-6, 4.2);
    let overhead = |accuracy: f64| a * (c * accuracy).exp();
    let bottom = (FFN / (a * c)).ln() / c;
    let mut asked = question(1.99, 0.16, 32e9);
    let accuracies: Vec<f64> = (0..=35).map(|i| 0.3 + 0.02 * f64::from(i)).collect();
    asked["predictors"] = accuracies
        .iter()
        .map(|x| json!({"name": format!("at {x:.2}"), "accuracy": x, "overhead_s": overhead(*x)}))
        .collect();
    let points = result(&app, &asked).await;
    let latencies: Vec<f64> = points["strategies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["strategy"] == "token_to_expert")
        .map(|entry| entry["layer_latency_s"].as_f64().unwrap())
        .collect();
    assert_eq!(latencies.len(), accuracies.len(), "one entry per predictor");
    for (index, pair) in latencies.windows(2).enumerate() {
        if accuracies[index + 1] < bottom {
            assert!(pair[1] < pair[0], "falls until {bottom}: {index}");
        } else if accuracies[index] > bottom {
            assert!(pair[1] > pair[0], "rises from {bottom}: {index}");
        }
    }
    let lowest = latencies.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(latencies[0] > 1.02 * lowest && latencies[35] > 1.02 * lowest, "{latencies:?}");

    let curve = |points: &[(f64, f64)]| {
        let points: Vec<Value> =
            points.iter().map(|(x, t)| json!({"accuracy": x, "overhead_s": t})).collect();
        let mut asked = asked.clone();
        asked["predictors"] = json!([{"name": "family", "points": points}]);
        asked
    };
    let found = result(&app, &curve(&[(0.3, overhead(0.3)), (1.0, overhead(1.0))])).await;
    let best = &entry(&found, "token_to_expert")["predictor"];
    assert!((best["accuracy"].as_f64().unwrap() - bottom).abs() < 1e-6, "{best} {bottom}");
    assert!((best["fit"]["a_s"].as_f64().unwrap() / a - 1.0).abs() < 1e-9);
    assert!((best["fit"]["c"].as_f64().unwrap() / c - 1.0).abs() < 1e-9);
    assert_close(
        latency(&found, "token_to_expert"),
        token_to_expert(overhead(bottom), 2.0 - bottom, 32e9),
    );
    // Where the bottom lies outside the stated accuracies, the nearer end answers.
    for (range, end) in [((0.3, bottom - 0.1), bottom - 0.1), ((bottom + 0.05, 1.0), bottom + 0.05)]
    {
        let asked = curve(&[(range.0, overhead(range.0)), (range.1, overhead(range.1))]);
        let found = result(&app, &asked).await;
        let best = entry(&found, "token_to_expert")["predictor"]["accuracy"].as_f64().unwrap();
        assert!((best - end).abs() < 1e-6, "{best} {end}");
    }
    // Points that lie on no curve are fitted by least squares on ln t: with x of 0.5, 0.6,
    // 0.9 and y = ln of 2, 3, 11 e-5: Σ(x−x̄)² = 0.26/3, Σ(x−x̄)(y−ȳ) as below.
    let scattered: [(f64, f64); 3] = [(0.5, 2e-5), (0.6, 3e-5), (0.9, 11e-5)];
    let mean_x = 2.0 / 3.0;
    let mean_y = scattered.iter().map(|(_, t)| t.ln()).sum::<f64>() / 3.0;
    let above: f64 = scattered.iter().map(|(x, t)| (x - mean_x) * (t.ln() - mean_y)).sum();
    let slope = above / (0.26 / 3.0);
    let found = result(&app, &curve(&scattered)).await;
    let fit = &entry(&found, "token_to_expert")["predictor"]["fit"];
    assert!((fit["c"].as_f64().unwrap() / slope - 1.0).abs() < 1e-9, "{fit} {slope}");
    let at_zero = (mean_y - slope * mean_x).exp();
    assert!((fit["a_s"].as_f64().unwrap() / at_zero - 1.0).abs() < 1e-9, "{fit} {at_zero}");
}

#[tokio::test]
async fn latency_is_linear_in_skewness() {
    let app = TestApp::start_advising().await;
    let mut at = Vec::new();
    for s in [1.0, 1.5, 2.0, 2.5, 3.0, 4.0] {
        let result = result(&app, &question(s, 0.1, 32e9)).await;
        at.push((s, latency(&result, "none"), latency(&result, "distribution_only")));
        assert_close(latency(&result, "token_to_expert"), token_to_expert(PREDICTOR, 1.15, 32e9));
    }
    let (first, last) = (at[0], at[5]);
    for (s, none, duplicated) in at {
        let line = |from: f64, to: f64| from + (to - from) * (s - 1.0) / 3.0;
        assert_close(none, line(first.1, last.1));
        assert_close(duplicated, line(first.2, last.2));
    }
}

#[tokio::test]
async fn error_models_caps_and_switches() {
    let app = TestApp::start_advising().await;
    let (s, error, bandwidth) = (1.39, 0.1, 32e9);
    // (error model, cap) and the loads of DO and T2E.
    for (model, cap, duplicated, predicted) in [
        ("optimistic", false, 1.0, 1.0),
        ("typical", false, 1.1, 1.15),
        ("pessimistic", false, 1.3, 1.45),
        ("pessimistic", true, 1.3, 1.39),
    ] {
        let mut asked = question(s, error, bandwidth);
        asked["assumptions"]["error_model"] = json!(model);
        asked["assumptions"]["cap_at_baseline"] = json!(cap);
        let result = result(&app, &asked).await;
        let found = latency(&result, "distribution_only");
        assert_close(found, distribution_only(s, duplicated, bandwidth));
        let found = latency(&result, "token_to_expert");
        assert_close(found, token_to_expert(PREDICTOR, predicted, bandwidth));
        assert_eq!(result["provenance"]["assumptions"]["error_model"], model);
        assert_eq!(result["provenance"]["assumptions"]["cap_at_baseline"], cap);
    }
    let mut asked = question(s, error, bandwidth);
    asked["assumptions"]["k_comm"] = json!(2.0);
    let doubled = result(&app, &asked).await;
    // Twice the volume, the same latency: as over half the bandwidth.
    assert_close(latency(&doubled, "none"), none(s, bandwidth / 2.0));
    assert_close(
        latency(&doubled, "token_to_expert"),
        token_to_expert(PREDICTOR, 1.15, bandwidth / 2.0),
    );
    let mut asked = question(s, error, bandwidth);
    asked["assumptions"]["t2e_skips_scatter"] = json!(false);
    asked["assumptions"]["predictor_overlap"] = json!("attention");
    let switched = result(&app, &asked).await;
    // The scatter is paid, and 0.153 ms of predictor hide behind 0.246 ms of attention.
    assert_close(
        latency(&switched, "token_to_expert"),
        token_to_expert(0.0, 1.15, bandwidth) + all_to_all(1.0, bandwidth),
    );
}

#[tokio::test]
async fn every_flip_point_holds_on_both_sides() {
    let app = TestApp::start_advising().await;
    let asked = question(2.0, 0.018, 12e9);
    let answered = result(&app, &asked).await;
    let chosen = answered["recommendation"]["strategy"].clone();
    let mut seen = Vec::new();
    for flip in answered["flip_points"].as_array().unwrap() {
        let parameter = flip["parameter"].as_str().unwrap();
        seen.push(parameter);
        let Some(value) = flip["value"].as_f64() else { continue };
        let range = flip["range"].as_array().unwrap();
        assert!(value >= range[0].as_f64().unwrap() && value <= range[1].as_f64().unwrap());
        let place = match parameter {
            "skewness" => "/routing/skewness",
            "link_bandwidth_bytes_per_s" => "/cluster/link/bandwidth_bytes_per_s",
            "predictor_accuracy" => "/predictors/0/accuracy",
            "predictor_overhead_s" => "/predictors/0/overhead_s",
            _ => continue,
        };
        let now = asked.pointer(place).unwrap().as_f64().unwrap();
        for (at, wins) in [(0.999, &chosen), (1.001, &flip["becomes"])] {
            let mut moved = asked.clone();
            *moved.pointer_mut(place).unwrap() = json!(now + (value - now) * at);
            let result = result(&app, &moved).await;
            assert_eq!(result["recommendation"]["strategy"], *wins, "{flip} {at}");
        }
    }
    for parameter in [
        "skewness",
        "link_bandwidth_bytes_per_s",
        "tokens_per_step",
        "predictor_accuracy",
        "predictor_overhead_s",
    ] {
        assert!(seen.contains(&parameter), "{parameter} is missing in {seen:?}");
    }
}

/// Skewness and distribution error of every layer, the first half of the sequences being
/// the plan and the second the truth.
fn skewness_and_error(routes: &[u8], n_layers: usize) -> Vec<(f64, f64)> {
    let experts = 8;
    let mut halves = vec![vec![vec![0.0_f64; experts]; n_layers]; 2];
    let row = n_layers * 2;
    let n_tokens = routes.len() / row;
    for (token, row) in routes.chunks(row).enumerate() {
        let half = usize::from(token >= n_tokens / 2);
        for (layer, pair) in row.chunks(2).enumerate() {
            for expert in pair {
                halves[half][layer][usize::from(*expert)] += 1.0;
            }
        }
    }
    let shares = |counts: &[f64]| -> Vec<f64> {
        let sum: f64 = counts.iter().sum();
        counts.iter().map(|n| n / sum).collect()
    };
    (0..n_layers)
        .map(|layer| {
            let (planned, seen) = (shares(&halves[0][layer]), shares(&halves[1][layer]));
            let error = planned.iter().zip(&seen).map(|(p, q)| (p - q).abs()).sum();
            (seen.iter().copied().fold(0.0, f64::max) * experts as f64, error)
        })
        .collect()
}

#[tokio::test]
async fn a_trace_is_priced_layer_by_layer() {
    let app = TestApp::start_advising().await;
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/examples/traces/mixtral_like_e8k2.python.test.npz");
    let bytes = std::fs::read(path).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    let mut member = archive.by_name("routes.npy").unwrap();
    let mut npy = Vec::new();
    std::io::Read::read_to_end(&mut member, &mut npy).unwrap();
    let routes: Vec<u8> = npyz::NpyFile::new(&npy[..]).unwrap().into_vec().unwrap();
    let layers = skewness_and_error(&routes, 8);

    let upload = axum::http::Request::post("/v1/traces")
        .header("content-type", "application/x-npz")
        .body(axum::body::Body::from(bytes.clone()))
        .unwrap();
    let uploaded = app.send(upload).await;
    assert_eq!(uploaded.status, 201, "{}", String::from_utf8_lossy(&uploaded.body));
    let mut asked = question(1.0, 0.0, 32e9);
    asked["routing"] = json!({"trace_id": uploaded.json()["id"]});
    let result = result(&app, &asked).await;
    assert_eq!(result["provenance"]["method"], "analytic");
    let mean =
        |of: &dyn Fn(&(f64, f64)) -> f64| layers.iter().map(of).sum::<f64>() / layers.len() as f64;
    assert_close(latency(&result, "none"), mean(&|(s, _)| none(*s, 32e9)));
    assert_close(
        latency(&result, "distribution_only"),
        mean(&|(s, error)| distribution_only(*s, 1.0 + error, 32e9)),
    );
    assert_close(latency(&result, "token_to_expert"), token_to_expert(PREDICTOR, 1.15, 32e9));
    let told = &result["routing"]["skewness"]["per_layer"];
    for (layer, (skewness, _)) in layers.iter().enumerate() {
        assert_close(told[layer].as_f64().unwrap(), *skewness);
    }
    assert_close(result["routing"]["distribution_error"].as_f64().unwrap(), mean(&|l| l.1));
    // The trace has 8 layers, the model 32: the mean layer stands for all.
    let model = entry(&result, "none")["model_latency_s"].as_f64().unwrap();
    assert_close(model, 32.0 * latency(&result, "none"));
    assert!(result["warnings"].to_string().contains("layers"), "{}", result["warnings"]);
}

#[tokio::test]
async fn without_a_measured_layer_the_closed_forms_answer() {
    let app = TestApp::start_advising().await;
    let mut asked = question(1.39, 0.018, 300e9);
    asked.as_object_mut().unwrap().remove("measured_layer");
    let result = result(&app, &asked).await;
    let reduce = entry(&result, "none")["terms"]["all_reduce_s"].as_f64().unwrap();
    assert!((reduce - 54.6e-6).abs() < 0.05e-6, "4 MiB over four devices: {reduce}");
    assert_eq!(result["recommendation"]["strategy"], "distribution_only");
}

#[tokio::test]
async fn what_the_formulas_cannot_answer_is_refused() {
    let app = TestApp::start_advising().await;
    let mut asked = question(1.39, 0.018, 300e9);
    asked["routing"] = json!({"skewness": 1.39});
    asked["method"] = json!("simulated");
    let problem = app.ask_and_wait(&asked).await.problem(422, "invalid-question");
    assert!(problem["violations"].to_string().contains("distribution_error"), "{problem}");
    let mut asked = question(1.39, 0.018, 300e9);
    asked["method"] = json!("simulated");
    let problem = app.ask_and_wait(&asked).await.problem(422, "invalid-question");
    assert_eq!(problem["violations"][0]["pointer"], "/method");
}
