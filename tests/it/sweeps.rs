//! Sweeps: the decision map of the paper, agreement with single questions, and refusals.

use std::time::Duration;

use moe_gps::app::advisor::AdviceError;
use moe_gps::app::references::References;
use moe_gps::app::sweep;
use moe_gps::wire::sweep::SweepAnswer;
use moe_gps_core::cancel::Cancel;
use rstest::rstest;
use serde_json::{Value, json};

use crate::asking::{self, entries};
use crate::support::TestApp;

/// The layer times, predictor and errors of the golden decision map.
fn paper_question() -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "a100-sxm4-80gb", "devices": 4, "link": "nvlink3"},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512, "dtype": "bf16"},
        "routing": {"skewness": 1.39, "distribution_error": 0.018},
        "predictors": [{"name": "ffn", "accuracy": 0.85, "overhead_s": 0.000_153}],
        "assumptions": {"preset": "paper"},
        "measured_layer": {
            "attention_s": 0.000_246, "all_reduce_s": 0.000_054_6,
            "expert_ffn_balanced_s": 0.000_591,
        },
    })
}

fn calibrated_question() -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {
            "device": "h100-sxm", "devices": 4,
            "link": {"bandwidth_bytes_per_s": 450e9, "latency_s": 2e-6},
        },
        "workload": {"phase": "prefill", "batch_size": 2, "sequence_length": 512, "dtype": "bf16"},
        "routing": {"skewness": 1.6},
        "assumptions": {"communication": "all_to_all_normal"},
    })
}

fn answer(question: &Value, axes: &Value) -> SweepAnswer {
    let request = json!({"question": question, "axes": axes});
    match sweep::compute(&sweep::read(&request), &References::default(), Cancel::NEVER) {
        Ok(computed) => computed.into(),
        Err(error) => panic!("{request}: {error:?}"),
    }
}

/// A server of DeepSeek-V3 in decode, where steps are drawn for every cell that is priced.
fn deepseek_question() -> Value {
    json!({
        "model": "deepseek-v3",
        "cluster": {
            "device": "h200-sxm", "devices": 16, "nodes": 2, "link": "nvlink4",
            "inter_node_link": "ib400",
        },
        "parallelism": {"attention_data": 16},
        "workload": {"phase": "decode", "batch_size": 1024, "kv_length": 4096},
        "engine": {"name": "vllm"},
        "routing": {"skewness": 4},
    })
}

/// Most cells of a large grid lie between priced ones: they are what they would be alone.
#[test]
fn cells_between_priced_ones_are_what_they_are_alone() {
    let skewness: Vec<f64> = (0..24).map(|at| 1.0 + f64::from(at) / 8.0).collect();
    let tokens: Vec<f64> = (0..36).map(|at| (16.0 * 1.2_f64.powi(at)).round()).collect();
    let axes = |skewness: &[f64], tokens: &[f64]| {
        json!([
            {"parameter": "skewness", "values": skewness},
            {"parameter": "tokens_per_step", "values": tokens},
        ])
    };
    for question in [calibrated_question(), deepseek_question()] {
        let whole = answer(&question, &axes(&skewness, &tokens));
        let priced = whole.provenance.priced_cells;
        println!("{priced} of {} priced", skewness.len() * tokens.len());
        assert!(priced < 600, "{priced}");
        let rows: Vec<usize> = (1..24).step_by(4).collect();
        let columns: Vec<usize> = (1..36).step_by(5).collect();
        let of = |places: &[usize], values: &[f64]| -> Vec<f64> {
            places.iter().map(|place| values[*place]).collect()
        };
        let alone = answer(&question, &axes(&of(&rows, &skewness), &of(&columns, &tokens)));
        assert_eq!(alone.provenance.priced_cells, (rows.len() * columns.len()) as u64);
        let mut other = 0;
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                other += usize::from(
                    whole.winner_runnable[*row][*column] != alone.winner_runnable[i][j],
                );
                for (strategy, latency) in &whole.layer_latency_s.0 {
                    let exact = alone.layer_latency_s.0[strategy][i][j];
                    let found = latency[*row][*column];
                    assert_eq!(found.is_some(), exact.is_some(), "{strategy} {row} {column}");
                    let (Some(found), Some(exact)) = (found, exact) else { continue };
                    assert!(
                        (found / exact - 1.0).abs() < 0.01,
                        "{strategy} at {} and {}: {found} for {exact}",
                        skewness[*row],
                        tokens[*column],
                    );
                }
            }
        }
        assert!(other <= 1, "{other} of {} cells have another winner", rows.len() * columns.len());
    }
}

async fn post(app: &TestApp, request: &Value) -> Value {
    let answer = app.post_json("/v1/sweeps", request, &[]).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    asking::read_back::<SweepAnswer>(std::str::from_utf8(&answer.body).unwrap())
}

#[tokio::test]
async fn the_decision_map_of_the_paper() {
    let app = TestApp::start_advising().await;
    let skewness = [1.0, 1.018, 1.0181, 1.62961, 1.62963, 2.19442, 2.19444, 2.75923, 2.75925, 3.0];
    let bandwidth = [8e9, 12e9, 16e9, 17.70e9, 17.71e9, 32e9, 300e9];
    let request = json!({"question": paper_question(), "axes": [
        {"parameter": "skewness", "values": skewness},
        {"parameter": "link_bandwidth_bytes_per_s", "values": bandwidth},
    ]});
    let answer = post(&app, &request).await;
    assert_eq!(answer["axes"][0]["parameter"], "skewness");
    assert_eq!(answer["axes"][1]["values"], json!(bandwidth));
    assert_eq!(answer["provenance"]["draws"], Value::Null);
    for (i, s) in skewness.into_iter().enumerate() {
        for (j, w) in bandwidth.into_iter().enumerate() {
            // T2E begins at these skewnesses, and nowhere up to 3 above 17.705 GB/s.
            let begins = match j {
                0 => 1.62962,
                1 => 2.19443,
                2 => 2.75924,
                3 => 3.0,
                _ => f64::INFINITY,
            };
            let expected = if s <= 1.018 {
                "none"
            } else if s >= begins {
                "token_to_expert"
            } else {
                "distribution_only"
            };
            assert_eq!(answer["winner"][i][j], expected, "skewness {s}, {w} B/s");
            assert_eq!(answer["layer_latency_s"]["replace_only"][i][j], Value::Null);
        }
    }
}

#[tokio::test]
async fn cells_of_the_paper_equal_single_questions() {
    let app = TestApp::start_advising().await;
    let skewness = [1.2, 1.39, 2.6];
    let bandwidth = [8e9, 300e9];
    let axes = json!([
        {"parameter": "link_bandwidth_bytes_per_s", "values": bandwidth},
        {"parameter": "skewness", "values": skewness},
    ]);
    let swept = post(&app, &json!({"question": paper_question(), "axes": axes})).await;
    for (i, w) in bandwidth.into_iter().enumerate() {
        for (j, s) in skewness.into_iter().enumerate() {
            let mut single = paper_question();
            single["routing"]["skewness"] = json!(s);
            single["cluster"]["link"] = json!({"bandwidth_bytes_per_s": w, "latency_s": 8.92e-6});
            let answer = app.ask_and_wait(&single).await.json();
            let (result, recommendation) = (&answer["result"], &answer["result"]["recommendation"]);
            assert_eq!(swept["winner"][i][j], recommendation["strategy"], "{w} {s}");
            let margin = &recommendation["margin_over_runner_up"];
            assert_eq!(swept["margin_over_runner_up"][i][j], *margin);
            for strategy in ["none", "distribution_only", "token_to_expert"] {
                let single = &asking::entry(result, strategy)["layer_latency_s"];
                assert_eq!(swept["layer_latency_s"][strategy][i][j], *single, "{strategy}");
            }
        }
    }
}

/// The fastest feasible entry of a strategy.
fn fastest(result: &Value, strategy: &str) -> Option<f64> {
    let feasible = entries(result, strategy).into_iter().filter(|entry| entry["feasible"] == true);
    feasible.filter_map(|entry| entry["layer_latency_s"].as_f64()).reduce(f64::min)
}

/// Every quantity, in calibrated mode: a cell is the question with that quantity changed. It
/// is priced on 16 drawn steps and quick plans, where an answer has 128 and searched ones.
#[rstest]
#[case::skewness("skewness", "[1.0, 1.6, 3.0]")]
#[case::link("link_bandwidth_bytes_per_s", "[2e9, 450e9]")]
#[case::tokens("tokens_per_step", "[512, 4096, 16384]")]
#[case::devices("devices", "[2, 4, 8]")]
fn calibrated_cells_agree_with_single_questions(#[case] parameter: &str, #[case] values: &str) {
    let question = calibrated_question();
    let listed: Vec<Value> = serde_json::from_str(values).unwrap();
    let swept = answer(&question, &json!([{"parameter": parameter, "values": listed}]));
    for (j, value) in listed.iter().enumerate() {
        let mut single = question.clone();
        match parameter {
            "skewness" => single["routing"]["skewness"] = value.clone(),
            "devices" => single["cluster"]["devices"] = value.clone(),
            "tokens_per_step" => {
                single["workload"]["batch_size"] = json!(value.as_u64().unwrap() / 512);
            }
            _ => single["cluster"]["link"]["bandwidth_bytes_per_s"] = value.clone(),
        }
        let result = asking::result(&single);
        for (strategy, matrix) in &swept.layer_latency_s.0 {
            let (cell, exact) = (matrix[0][j], fastest(&result, strategy));
            assert_eq!(cell.is_some(), exact.is_some(), "{strategy} {parameter} {value}");
            if let (Some(cell), Some(exact)) = (cell, exact) {
                assert!((cell / exact - 1.0).abs() < 0.04, "{strategy} {value}: {cell} {exact}");
            }
        }
        let recommendation = &result["recommendation"];
        let margin = recommendation["margin_over_runner_up"].as_f64().unwrap();
        if margin > 0.03 && !swept.tie[0][j] {
            assert_eq!(json!(swept.winner[0][j]), recommendation["strategy"], "{value}");
        }
    }
}

#[test]
fn axes_may_be_given_in_either_order() {
    let question = calibrated_question();
    let skewness = json!({"parameter": "skewness", "values": [1.1, 2.0, 3.5]});
    for (parameter, values) in [
        ("link_bandwidth_bytes_per_s", json!([5e9, 450e9])),
        ("tokens_per_step", json!([64, 4096])),
        ("devices", json!([2, 8])),
    ] {
        let other = json!({"parameter": parameter, "values": values});
        let one = answer(&question, &json!([skewness, other]));
        let turned = answer(&question, &json!([other, skewness]));
        assert_eq!((one.winner.len(), one.winner[0].len()), (3, 2));
        for i in 0..3 {
            for j in 0..2 {
                assert_eq!(one.winner[i][j], turned.winner[j][i]);
                for (strategy, matrix) in &one.layer_latency_s.0 {
                    let other = &turned.layer_latency_s.0[strategy];
                    assert_eq!(matrix[i][j], other[j][i], "{parameter}");
                }
            }
        }
    }
}

#[test]
fn accuracy_and_overhead_move_the_predictor_alone() {
    let axes = json!([
        {"parameter": "predictor_accuracy", "values": [0.5, 0.85, 1.0]},
        {"parameter": "predictor_overhead_s", "values": [0.0, 0.000_153]},
    ]);
    let swept = answer(&paper_question(), &axes);
    let predictor = swept.predictor.unwrap();
    assert_eq!(predictor.name, "ffn");
    let (ffn, rest) = (0.591e-3, 0.246e-3 + 0.0546e-3 + 8.92e-6 + 4_194_304.0 * 3.0 / 16.0 / 300e9);
    for (i, accuracy) in [0.5, 0.85, 1.0].into_iter().enumerate() {
        for (j, overhead) in [0.0, 0.000_153].into_iter().enumerate() {
            let exact = rest + overhead + (2.0 - accuracy) * ffn;
            let found = swept.layer_latency_s.0["token_to_expert"][i][j].unwrap();
            assert!((found / exact - 1.0).abs() < 1e-9, "{found} {exact}");
            let none = &swept.layer_latency_s.0["none"];
            assert_eq!(none[i][j], none[0][0]);
        }
    }
}

#[test]
fn a_sweep_ends_when_nobody_waits_for_it() {
    let request = json!({"question": paper_question(), "axes": [
        {"parameter": "skewness", "values": [1.5, 2.0]},
    ]});
    let canceled =
        sweep::compute(&sweep::read(&request), &References::default(), &Cancel::when(|| true));
    assert!(matches!(canceled, Err(AdviceError::Canceled)));
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let app = TestApp::start_advising().await;
    let mut question = paper_question();
    question["cluster"]["device"] = json!("a100");
    question["extra"] = json!(1);
    let request = json!({"question": question, "more": 2, "axes": [
        {"parameter": "sparsity", "values": [1.0]},
        {"parameter": "skewness", "values": [0.5, "x", 1e9], "steps": 3},
    ]});
    let problem = app.post_json("/v1/sweeps", &request, &[]).await.problem(422, "invalid-question");
    let mut found: Vec<(String, String)> = problem["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["pointer"].as_str().unwrap().into(), v["rule"].as_str().unwrap().into()))
        .collect();
    found.sort();
    let expected = [
        ("/axes/0/parameter", "choice"),
        ("/axes/1/steps", "unknown_field"),
        ("/axes/1/values/0", "range"),
        ("/axes/1/values/1", "type"),
        ("/axes/1/values/2", "range"),
        ("/more", "unknown_field"),
        ("/question/cluster/device", "not_found"),
        ("/question/extra", "unknown_field"),
    ];
    let expected: Vec<(String, String)> =
        expected.iter().map(|(p, r)| ((*p).to_owned(), (*r).to_owned())).collect();
    assert_eq!(found, expected, "{problem}");
}

#[rstest]
#[case::same_twice(json!([{"parameter": "skewness", "values": [1]}, {"parameter": "skewness", "values": [2]}]), "/axes/1/parameter", "unique")]
#[case::no_axis(json!([]), "/axes", "length")]
#[case::three_axes(json!([1, 2, 3]), "/axes", "length")]
#[case::no_values(json!([{"parameter": "skewness", "values": []}]), "/axes/0/values", "length")]
#[case::too_skewed(json!([{"parameter": "skewness", "values": [4.5]}]), "/axes/0/values/0", "range")]
#[case::half_a_token(json!([{"parameter": "tokens_per_step", "values": [1.5]}]), "/axes/0/values/0", "type")]
#[case::tokens(json!([{"parameter": "tokens_per_step", "values": [9_000_000_000_u64]}]), "/axes/0/values/0", "range")]
#[case::slow_link(json!([{"parameter": "link_bandwidth_bytes_per_s", "values": [1e9, 1e5]}]), "/axes/0/values/1", "range")]
#[case::no_divisor(json!([{"parameter": "devices", "values": [2, 3]}]), "/axes/0/values/1", "divides")]
#[case::sure(json!([{"parameter": "predictor_accuracy", "values": [1.1]}]), "/axes/0/values/0", "range")]
#[case::slow(json!([{"parameter": "predictor_overhead_s", "values": [61]}]), "/axes/0/values/0", "range")]
fn one_thing_wrong(#[case] axes: Value, #[case] pointer: &str, #[case] rule: &str) {
    let found = violations(&paper_question(), &axes);
    assert_eq!(found, [(pointer.to_owned(), rule.to_owned())]);
}

fn violations(question: &Value, axes: &Value) -> Vec<(String, String)> {
    let request = json!({"question": question, "axes": axes});
    match sweep::compute(&sweep::read(&request), &References::default(), Cancel::NEVER) {
        Err(AdviceError::Refused(found)) => {
            found.into_iter().map(|found| (found.pointer, found.rule)).collect()
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_a_question_cannot_vary_is_refused() {
    let skewness = json!([{"parameter": "skewness", "values": [1.5]}]);
    let mut logged = calibrated_question();
    logged["routing"] = json!({"balancedness": 0.8, "at_devices": 4});
    assert_eq!(violations(&logged, &skewness), [("/axes/0/parameter".into(), "choice".into())]);
    let accuracy = json!([{"parameter": "predictor_accuracy", "values": [0.9]}]);
    let found = violations(&calibrated_question(), &accuracy);
    assert_eq!(found, [("/axes/0/parameter".into(), "choice".into())], "predictors are assumed");
    for (field, value) in [("method", "simulated"), ("objective", "throughput_at_tpot")] {
        let mut question = calibrated_question();
        question[field] = json!(value);
        let found = violations(&question, &skewness);
        assert!(found.contains(&(format!("/question/{field}"), "choice".into())), "{found:?}");
    }
}

#[test]
fn ten_thousand_cells_and_no_more() {
    let values = |n: u32| -> Vec<f64> { (0..n).map(|i| 1.0 + f64::from(i) * 1e-3).collect() };
    let bandwidths: Vec<f64> = std::iter::repeat_n(1e10, 101).collect();
    let axes = json!([
        {"parameter": "skewness", "values": values(100)},
        {"parameter": "link_bandwidth_bytes_per_s", "values": bandwidths},
    ]);
    assert_eq!(violations(&paper_question(), &axes), [("/axes".into(), "range".into())]);
    let axes = json!([
        {"parameter": "skewness", "values": values(100)},
        {"parameter": "link_bandwidth_bytes_per_s", "values": &bandwidths[..100]},
    ]);
    assert_eq!(answer(&paper_question(), &axes).winner.concat().len(), 10_000);
}

#[test]
fn a_power_law_and_shares_are_tempered_to_the_skewness() {
    let mut shares = calibrated_question();
    shares["routing"] = json!({"expert_shares": [[30, 20, 10, 10, 10, 8, 7, 5]]});
    let mut law = calibrated_question();
    law["routing"] = json!({"power_law": {"exponent": 0.5}});
    for question in [shares, law] {
        let axes = json!([{"parameter": "skewness", "values": [1.0, 2.0, 3.0]}]);
        let none = &answer(&question, &axes).layer_latency_s.0["none"][0];
        assert!(none[0] < none[1] && none[1] < none[2], "{none:?}");
    }
}

#[test]
fn a_sweep_that_would_take_too_long_is_refused_with_its_estimate() {
    let values = |count: u32| (1..=count).map(|step| 64 * step).collect::<Vec<_>>();
    let asked = |cells: u32| {
        sweep::read(&json!({
            "question": calibrated_question(),
            "axes": [
                {"parameter": "skewness", "values": [1.5, 2.0]},
                {"parameter": "tokens_per_step", "values": values(cells / 2)},
            ],
        }))
    };
    let within = |cells: u32, longest: u64| {
        let longest = Some(Duration::from_nanos(longest));
        sweep::compute_within(&asked(cells), &References::default(), longest, Cancel::NEVER)
    };
    match within(500, 1) {
        Err(AdviceError::Refused(violations)) => {
            assert_eq!(violations.len(), 1);
            let violation = &violations[0];
            assert_eq!((&*violation.pointer, &*violation.rule), ("/axes", "range"));
            assert!(violation.detail.starts_with("these 500 cells are expected to take "));
        }
        other => panic!("not refused: {other:?}"),
    }
    within(500, u64::MAX).unwrap();
    // Few cells are not even timed.
    within(4, 1).unwrap();
}
