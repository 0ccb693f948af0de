//! Verdicts over several hundred questions: what is said agrees with the numbers beside it, a
//! sure gain is recommended, and flip points are there to be asked.

use moe_gps_core::seed::{Purpose, stream};
use rand::Rng;
use serde_json::{Value, json};

use crate::asking::{entries, result};

/// A way to serve: model, device, devices in a node, link, whether attention is data-parallel.
const DEPLOYMENTS: [(&str, &str, u32, &str, bool); 8] = [
    ("mixtral-8x7b", "a100-sxm4-80gb", 4, "nvlink3", false),
    ("mixtral-8x22b", "h100-sxm", 8, "nvlink4", false),
    ("qwen3-30b-a3b", "h200-sxm", 4, "nvlink4", true),
    ("qwen3-235b-a22b", "h200-sxm", 8, "nvlink4", true),
    ("deepseek-v3", "h200-sxm", 16, "nvlink4", true),
    ("phi-3.5-moe", "l40s", 8, "pcie4", false),
    ("olmoe-1b-7b", "a100-sxm4-80gb", 2, "nvlink3", true),
    ("llama-4-scout", "h100-sxm", 8, "nvlink4", true),
];

/// So many questions, each of other values.
fn questions(n: usize, flip_points: bool) -> impl Iterator<Item = Value> {
    let mut rng = stream(12, Purpose::LoadSample, 0);
    (0..n).map(move |index| {
        let (model, device, devices, link, data) = DEPLOYMENTS[index % DEPLOYMENTS.len()];
        let mut draw = |n: u64| rng.next_u64() % n;
        let workload = if draw(2) == 0 {
            json!({"phase": "prefill", "batch_size": 1 + draw(16), "sequence_length": 256 << draw(5)})
        } else {
            json!({"phase": "decode", "batch_size": 8 << draw(7), "kv_length": 512 << draw(4)})
        };
        let engines = ["vllm", "sglang", "tensorrt-llm", "vllm-ascend"];
        let engine = usize::try_from(draw(6)).unwrap_or(0);
        // Steps of hundredths, within what every model allows.
        let skewness = 1.0 + draw(290) as f64 / 100.0;
        let mut question = json!({
            "model": model,
            "cluster": {"device": device, "devices": devices, "link": link},
            "workload": workload,
            "routing": {"skewness": skewness},
            "flip_points": flip_points,
        });
        if devices > 8 {
            question["cluster"]["nodes"] = json!(devices / 8);
            question["cluster"]["inter_node_link"] = json!("ib400");
        }
        if data {
            question["parallelism"] = json!({"attention_tensor": 1, "attention_data": devices});
        }
        if let Some(engine) = engines.get(engine) {
            question["engine"] = json!({"name": engine});
        }
        question
    })
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"))
}

/// The fastest feasible entry of a strategy.
fn fastest<'a>(answer: &'a Value, strategy: &str) -> &'a Value {
    let all = entries(answer, strategy);
    let feasible = all.into_iter().filter(|entry| entry["feasible"] == true);
    feasible
        .min_by(|a, b| number(a, "layer_latency_s").total_cmp(&number(b, "layer_latency_s")))
        .unwrap()
}

fn runs(entry: &Value, engine: Option<&str>) -> bool {
    let support = entry["engine_support"].as_array().unwrap();
    let of = |one: &&Value| engine.is_none_or(|engine| one["engine"] == engine);
    support.iter().filter(of).any(|one| one["runnable"] == true)
}

#[test]
fn the_verdict_judges_the_choice_against_the_baseline() {
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    let mut sure = 0;
    for question in questions(320, false) {
        let answer = result(&question);
        let advice = &answer["recommendation"];
        let verdict = advice["verdict"].as_str().unwrap();
        *seen.entry(verdict.to_owned()).or_default() += 1;
        assert_eq!(advice["baseline"], "none");
        if verdict == "cannot_run" {
            assert!(advice["strategy"].is_null() && advice["gain"].is_null());
            continue;
        }
        let strategy = advice["strategy"].as_str().unwrap();
        let engine = question["engine"]["name"].as_str();
        let chosen = fastest(&answer, strategy);
        assert!(runs(chosen, engine), "{strategy} for {question}");
        let gain = &advice["gain"];
        assert_eq!(gain, &chosen["gain"]);
        let [low, mid, high] = ["low", "mid", "high"].map(|key| number(gain, key));
        assert!(low <= mid && mid <= high);
        let ratio =
            number(fastest(&answer, "none"), "layer_latency_s") / number(chosen, "layer_latency_s");
        assert!((mid / ratio - 1.0).abs() < 1e-9);
        // Every other strategy that can be run, and what it gains over `none`.
        let others = answer["strategies"].as_array().unwrap().iter().filter(|entry| {
            entry["feasible"] == true && runs(entry, engine) && entry["strategy"] != "none"
        });
        let others: Vec<&Value> = others.collect();
        let any = |of: &dyn Fn(f64, f64) -> bool| {
            others.iter().any(|one| of(number(&one["gain"], "low"), number(&one["gain"], "high")))
        };
        match verdict {
            "recommended" if strategy == "none" => assert!(!any(&|_, high| high >= 1.0)),
            "recommended" => assert!(low > 1.0),
            "tie" => {
                assert!(!any(&|low, _| low > 1.0), "{question}");
                assert!(any(&|low, high| low <= 1.0 && 1.0 <= high), "{question}");
                if strategy != "none" {
                    // It is ahead, and free.
                    assert!(mid > 1.0 && strategy == "replace_only");
                    assert!(number(chosen, "replica_bytes") <= 0.0);
                    assert!(number(&chosen["terms"], "rebalance_s") <= 0.0);
                }
            }
            "insufficient_evidence" => assert!(!advice["missing"].as_array().unwrap().is_empty()),
            other => panic!("{other}"),
        }
        if any(&|low, _| low > 1.0) && verdict == "recommended" {
            sure += 1;
            assert_ne!(strategy, "none");
        }
        said(&answer, &question);
    }
    assert!(sure > 30 && seen["tie"] > 30 && seen["recommended"] > 60, "{sure} {seen:?}");
}

/// What a reason says of how much faster or slower an entry is than `none` is what the table
/// shows.
fn said(answer: &Value, question: &Value) {
    let reason = answer["recommendation"]["reason"].as_str().unwrap();
    let none = number(fastest(answer, "none"), "layer_latency_s");
    for entry in answer["strategies"].as_array().unwrap() {
        let Some(latency) = entry["layer_latency_s"].as_f64() else { continue };
        let mut name = entry["strategy"].as_str().unwrap().to_owned();
        if let Some(predictor) = entry["predictor"]["name"].as_str() {
            name = format!("{name} ({predictor})");
        }
        let Some((_, after)) = reason.split_once(&format!("{name} makes a layer ")) else {
            continue;
        };
        let (percent, after) = after.split_once(" % ").unwrap();
        let (percent, ratio) = (percent.parse::<f64>().unwrap(), none / latency);
        let expected = if after.starts_with("faster") { ratio - 1.0 } else { 1.0 / ratio - 1.0 };
        assert!((percent - expected * 100.0).abs() < 0.0501, "{reason}\n{question}");
        let (_, after) = after.split_once('(').unwrap();
        let (printed, _) = after.split_once('×').unwrap();
        assert!((printed.parse::<f64>().unwrap() - ratio).abs() < 5.01e-4, "{reason}");
    }
}

/// The question with a flip point's quantity at a value.
fn at(question: &Value, parameter: &str, value: f64) -> Value {
    let mut asked = question.clone();
    let bandwidth = |old: &Value| {
        let catalog = moe_gps_core::catalog::Catalog::embedded();
        let link = catalog.link(old.as_str().unwrap()).unwrap();
        json!({"name": link.id, "bandwidth_bytes_per_s": value})
    };
    match parameter {
        "skewness" => asked["routing"]["skewness"] = json!(value),
        "link_bandwidth_bytes_per_s" => {
            asked["cluster"]["link"] = bandwidth(&question["cluster"]["link"]);
        }
        "inter_node_bandwidth_bytes_per_s" => {
            asked["cluster"]["inter_node_link"] =
                bandwidth(&question["cluster"]["inter_node_link"]);
        }
        "tokens_per_step" if question["workload"]["phase"] == "decode" => {
            asked["workload"]["batch_size"] = json!(value.round());
        }
        "tokens_per_step" => {
            let length = question["workload"]["sequence_length"].as_f64().unwrap();
            let (sequences, length) = if value < length {
                (1.0, value.round())
            } else {
                ((value / length).round(), length)
            };
            asked["workload"]["batch_size"] = json!(sequences);
            asked["workload"]["sequence_length"] = json!(length);
        }
        other => panic!("{other}"),
    }
    asked["flip_points"] = json!(false);
    asked
}

#[test]
fn asking_on_either_side_of_a_flip_point_gives_what_was_said() {
    let (mut asked, mut wrong) = (0, Vec::new());
    for question in questions(100, true) {
        let answer = result(&question);
        let held = answer["recommendation"]["strategy"].as_str().unwrap_or("").to_owned();
        for flip in answer["flip_points"].as_array().unwrap() {
            let Some(value) = flip["value"].as_f64() else { continue };
            let parameter = flip["parameter"].as_str().unwrap();
            let [low, high] = [0, 1].map(|end| flip["interval"][end].as_f64().unwrap());
            assert!(low <= value && value <= high, "{flip}");
            let now = match parameter {
                "skewness" => number(&question["routing"], "skewness"),
                "tokens_per_step" => {
                    let workload = &question["workload"];
                    let length = workload["sequence_length"].as_f64().unwrap_or(1.0);
                    number(workload, "batch_size") * length
                }
                _ => f64::NAN,
            };
            let becomes = flip["becomes"].as_str().unwrap();
            let range = [0, 1].map(|end| flip["range"][end].as_f64().unwrap());
            let below = (low / 1.05).max(range[0]);
            let above = (high * 1.05).min(range[1]);
            // Of a bandwidth the question's own side is not looked up: the change is up or down.
            let sides = if now <= low || (now.is_nan() && is_upwards(&question, parameter, value)) {
                [(below, held.as_str()), (above, becomes)]
            } else {
                [(below, becomes), (above, held.as_str())]
            };
            for (value, expected) in sides {
                asked += 1;
                let found = result(&at(&question, parameter, value));
                if found["recommendation"]["strategy"] != expected {
                    wrong.push(format!(
                        "{flip} asked at {value}: {found_strategy} not {expected}; {question}",
                        found_strategy = found["recommendation"]["strategy"]
                    ));
                }
            }
        }
    }
    assert!(asked >= 90, "{asked}");
    assert!(wrong.len() * 20 <= asked, "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
}

fn is_upwards(question: &Value, parameter: &str, value: f64) -> bool {
    let place = if parameter.starts_with("inter") { "inter_node_link" } else { "link" };
    let catalog = moe_gps_core::catalog::Catalog::embedded();
    let link = catalog.link(question["cluster"][place].as_str().unwrap()).unwrap();
    value > link.value.bandwidth.get()
}

#[test]
fn the_run_to_confirm_is_what_uniform_routing_is_priced_at() {
    let mut shown = 0;
    for mut question in questions(48, false) {
        let answer = result(&question);
        if answer["recommendation"]["verdict"] == "cannot_run" {
            continue;
        }
        let confirm = answer["confirm"].as_str().unwrap();
        question["routing"]["skewness"] = json!(1.0);
        let uniform = 1e6 * number(fastest(&result(&question), "none"), "layer_latency_s");
        let none = 1e6 * number(fastest(&answer, "none"), "layer_latency_s");
        assert!(confirm.contains(&format!("{uniform:.1} µs")), "{uniform}: {confirm}");
        let shows = confirm.contains("no balancing will help");
        assert_eq!(shows, none / uniform > 1.02, "{none} {uniform}: {confirm}");
        shown += usize::from(shows);
    }
    assert!(5 < shown && shown < 48, "{shown}");
}

#[test]
fn experts_sharded_over_all_devices_stand_beside_where_an_engine_can_build_them() {
    let stands = |model: &str, devices: u32, nodes: u32, dtype: &str| {
        let mut question = json!({
            "model": model,
            "cluster": {"device": "h200-sxm", "devices": devices, "nodes": nodes, "link": "nvlink4"},
            "workload": {"phase": "prefill", "batch_size": 2, "sequence_length": 512, "dtype": dtype},
            "routing": {"skewness": 1.5},
            "flip_points": false,
        });
        if nodes > 1 {
            question["cluster"]["inter_node_link"] = json!("ib400");
        }
        let answer = result(&question);
        let references = answer["references"].as_array().unwrap();
        references.iter().any(|reference| reference["id"] == "tensor_experts")
    };
    assert!(stands("mixtral-8x7b", 4, 1, "bf16"));
    // 2048 columns are 256 on each of eight devices, and do not leave the node.
    assert!(stands("deepseek-v3", 8, 1, "fp8"));
    assert!(!stands("deepseek-v3", 32, 4, "fp8"));
    // 768 columns are 96 on each of eight: wide enough, but no whole block of 128.
    assert!(stands("qwen3-30b-a3b", 8, 1, "bf16"));
    assert!(!stands("qwen3-30b-a3b", 8, 1, "fp8"));
}
