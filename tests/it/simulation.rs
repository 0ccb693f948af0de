//! Replays of recorded steps against the analytic answer and against traces whose answer
//! is known.

use std::fmt::Write;

use moe_gps::app::advisor::TraceFacts;
use rstest::rstest;
use serde_json::{Value, json};

use crate::asking::{entries, entry, keep, known, latency, result_of, violations};

/// A sampler of its own, sharing nothing with the service: the `SplitMix64` generator of
/// Steele, Lea and Flood (2014) and successive sampling without replacement.
struct Router {
    state: u64,
    cumulative: Vec<f64>,
    top_k: usize,
}

impl Router {
    /// Experts weighted by (rank + 1)^−`exponent`, ranks spread over ids by a stride.
    fn new(seed: u64, n_experts: usize, top_k: usize, exponent: f64) -> Self {
        let stride = (0..).map(|i| n_experts * 2 / 5 + i).find(|s| coprime(*s, n_experts)).unwrap();
        let mut weights = vec![0.0; n_experts];
        for rank in 0..n_experts {
            weights[rank * stride % n_experts] = ((rank + 1) as f64).powf(-exponent);
        }
        let mut sum = 0.0;
        let cumulative = weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        Self { state: seed, cumulative, top_k }
    }

    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The k distinct experts of the next token.
    fn token(&mut self) -> Vec<usize> {
        let mut chosen = Vec::with_capacity(self.top_k);
        while chosen.len() < self.top_k {
            let at = self.uniform() * self.cumulative.last().unwrap();
            let expert = self.cumulative.partition_point(|sum| *sum <= at);
            if !chosen.contains(&expert) {
                chosen.push(expert);
            }
        }
        chosen
    }

    /// Tokens per expert of a step.
    fn step(&mut self, tokens: usize) -> Vec<u32> {
        let mut counts = vec![0; self.cumulative.len()];
        for _ in 0..tokens {
            for expert in self.token() {
                counts[expert] += 1;
            }
        }
        counts
    }
}

fn coprime(a: usize, b: usize) -> bool {
    if b == 0 { a == 1 } else { coprime(b, a % b) }
}

/// A trace of counts: so many steps of two layers.
fn counts_trace(router: &mut Router, steps: usize, tokens: usize) -> String {
    let steps: Vec<Value> =
        (0..steps).map(|_| json!([router.step(tokens), router.step(tokens)])).collect();
    json!({ "counts": steps }).to_string()
}

fn kept(directory: &tempfile::TempDir, json: &str) -> TraceFacts {
    keep(directory.path(), "application/json", json.as_bytes())
}

fn question(model: &str, devices: u32, tokens: usize, trace: &TraceFacts) -> Value {
    json!({
        "model": model,
        "cluster": {"device": "h200-sxm", "devices": devices, "link": "nvlink4"},
        "parallelism": {"attention_tensor": 1, "attention_data": devices},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": tokens},
        "routing": {"trace_id": trace.id},
        "predictors": [{"name": "perfect", "accuracy": 1.0, "overhead_s": 0.0},
                       {"name": "usual", "accuracy": 0.8, "overhead_s": 1e-5}],
    })
}

/// (model, experts, k, devices, tokens per step, exponent, pattern)
#[rstest]
#[case("mixtral-8x7b", 8, 2, 4, 512, 0.7, "all_to_all_normal")]
#[case("mixtral-8x7b", 8, 2, 4, 16, 0.7, "allgather_reducescatter")]
#[case("mixtral-8x7b", 8, 2, 8, 2048, 1.2, "all_to_all_low_latency")]
#[case("switch-base-8", 8, 1, 4, 128, 0.4, "all_to_all_normal")]
#[case("olmoe-1b-7b", 64, 8, 8, 512, 0.6, "all_to_all_normal")]
#[case("olmoe-1b-7b", 64, 8, 8, 16, 0.6, "all_to_all_low_latency")]
#[case("olmoe-1b-7b", 64, 8, 8, 64, 0.0, "all_to_all_normal")]
#[case("qwen3-30b-a3b", 128, 8, 16, 256, 0.8, "all_to_all_normal")]
fn the_replay_of_independent_routing_agrees_with_the_formulas(
    #[case] model: &str,
    #[case] experts: usize,
    #[case] top_k: usize,
    #[case] devices: u32,
    #[case] tokens: usize,
    #[case] exponent: f64,
    #[case] pattern: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let mut router = Router::new(42, experts, top_k, exponent);
    let trace = kept(&directory, &counts_trace(&mut router, 500, tokens));
    let mut asked = question(model, devices, tokens, &trace);
    asked["assumptions"] = json!({"communication": pattern});
    asked["rebalance"] = json!({"mode": "startup_map"});
    let traces = known(&[&trace]);
    let simulated = result_of(&asked, &traces);
    asked["method"] = json!("analytic");
    let analytic = result_of(&asked, &traces);
    assert_eq!(simulated["provenance"]["method"], "simulated");
    let both = simulated["strategies"].as_array().unwrap().iter();
    for (simulated, analytic) in both.zip(analytic["strategies"].as_array().unwrap()) {
        let name = &simulated["strategy"];
        let of = |entry: &Value, field: &str| entry[field].as_f64().unwrap();
        let interval = &simulated["speedup_interval_95"];
        let (low, high) = (interval[0].as_f64().unwrap(), interval[1].as_f64().unwrap());
        let (found, expected) =
            (of(analytic, "speedup_over_none"), of(simulated, "speedup_over_none"));
        assert!(low <= expected + 1e-9 && expected <= high + 1e-9, "{name}: {interval}");
        assert!(
            (low..=high).contains(&found) || (found / expected - 1.0).abs() <= 0.02,
            "{name} {}: {found} is outside {interval}",
            simulated["predictor"]["name"]
        );
        let (found, expected) = (of(analytic, "layer_latency_s"), of(simulated, "layer_latency_s"));
        assert!((found / expected - 1.0).abs() <= 0.02, "{name}: {found} {expected}");
    }
    let ceiling = |result: &Value| result["ceiling"]["layer_latency_s"].as_f64().unwrap();
    let (found, expected) = (ceiling(&analytic), ceiling(&simulated));
    assert!((found / expected - 1.0).abs() <= 0.02, "ceiling: {found} {expected}");
}

#[test]
fn a_replay_holds_what_every_answer_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut router = Router::new(7, 64, 8, 0.7);
    let trace = kept(&directory, &counts_trace(&mut router, 120, 256));
    let traces = known(&[&trace]);
    let mut asked = question("olmoe-1b-7b", 8, 256, &trace);
    for skips in [false, true] {
        asked["assumptions"] =
            json!({"communication": "all_to_all_normal", "t2e_skips_scatter": skips});
        let result = result_of(&asked, &traces);
        let ceiling = result["ceiling"]["layer_latency_s"].as_f64().unwrap();
        for entry in result["strategies"].as_array().unwrap() {
            let latency = entry["layer_latency_s"].as_f64().unwrap();
            let terms = entry["terms"].as_object().unwrap();
            let sum: f64 = terms.values().map(|term| term.as_f64().unwrap()).sum();
            assert!((sum / latency - 1.0).abs() < 1e-9, "{entry}");
            assert!(latency >= ceiling * (1.0 - 1e-12), "{entry}");
            let step = &entry["step_latency_s"];
            let at = |field: &str| step[field].as_f64().unwrap();
            // OLMoE has 16 layers, all of them mixtures.
            assert!((at("mean") / (16.0 * latency) - 1.0).abs() < 1e-9, "{step}");
            assert!(at("p50") <= at("p95") && at("p95") <= at("p99"), "{step}");
            assert_eq!(entry["imbalance_before"].as_array().unwrap().len(), 2);
            assert_eq!(entry["imbalance_after"].as_array().unwrap().len(), 2);
        }
        let perfect = entries(&result, "token_to_expert")[0];
        assert_eq!(perfect["predictor"]["name"], "perfect");
        let perfect = perfect["layer_latency_s"].as_f64().unwrap();
        assert!(perfect <= latency(&result, "distribution_only") * (1.0 + 1e-12));
        assert_eq!(entry(&result, "none")["speedup_interval_95"], json!([1.0, 1.0]));
        assert_eq!(entry(&result, "none")["moved_bytes"], 0.0);
    }
}

#[test]
fn the_replay_does_not_depend_on_threads() {
    let directory = tempfile::tempdir().unwrap();
    let mut router = Router::new(3, 64, 8, 0.9);
    let trace = kept(&directory, &counts_trace(&mut router, 160, 64));
    let traces = known(&[&trace]);
    let asked = question("olmoe-1b-7b", 8, 64, &trace);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| result_of(&asked, &traces)).to_string()
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(1));
    let mut seeded = asked.clone();
    seeded["seed"] = json!(1);
    let other = result_of(&seeded, &traces);
    assert_ne!(one, other.to_string(), "another seed draws other mispredictions");
}

#[test]
fn one_step_is_refused_and_few_steps_widen_the_interval() {
    let directory = tempfile::tempdir().unwrap();
    let mut router = Router::new(9, 8, 2, 0.5);
    let mut asked = |steps: usize| {
        let trace = kept(&directory, &counts_trace(&mut router, steps, 64));
        (question("mixtral-8x7b", 4, 64, &trace), known(&[&trace]))
    };
    // Half of three steps plans, and two are left.
    let mut widths = Vec::new();
    for (steps, held_out) in [(2, 1), (3, 2), (38, 19), (40, 20)] {
        let (asked, traces) = asked(steps);
        if held_out < 2 {
            let found = violations(&asked, &traces);
            assert_eq!((found[0].pointer.as_str(), found[0].rule.as_str()), ("/workload", "steps"));
            assert!(found[0].detail.contains("gives 1 steps"), "{found:?}");
            continue;
        }
        let result = result_of(&asked, &traces);
        let gain = &entry(&result, "distribution_only")["gain"];
        let [low, high] = ["low", "high"].map(|end| gain[end].as_f64().unwrap());
        widths.push(high / low);
    }
    assert!(widths.is_sorted_by(|few, many| few > many), "{widths:?}");
}

/// A trace of routes: `n` sequences of `length` tokens; in each, all tokens choose the
/// experts that `of` gives, which changes a little with the position.
fn routes_trace(n: usize, length: usize, of: impl Fn(usize, usize) -> Vec<usize>) -> String {
    let mut lines = String::new();
    for sequence in 0..n {
        for position in 0..length {
            let line = json!({
                "sequence": sequence, "position": position, "experts": [of(sequence, position)],
            });
            writeln!(lines, "{line}").unwrap();
        }
    }
    lines
}

#[test]
fn decode_takes_one_token_of_every_sequence() {
    let directory = tempfile::tempdir().unwrap();
    // Each of eight sequences stays with its own pair of experts, so that a step of decode
    // is balanced while consecutive text is not.
    let pair = |sequence: usize, position: usize| {
        let other = 1 + position % 7;
        vec![sequence % 8, (sequence + other) % 8]
    };
    let lines = routes_trace(32, 64, pair);
    let trace = keep(directory.path(), "application/x-ndjson", lines.as_bytes());
    let traces = known(&[&trace]);
    let mut asked = question("mixtral-8x7b", 4, 8, &trace);
    let busiest = |asked: &Value| {
        let result = result_of(asked, &traces);
        assert_eq!(result["provenance"]["method"], "simulated");
        entry(&result, "none")["imbalance_before"][0].as_f64().unwrap()
    };
    let prefill = busiest(&asked);
    asked["workload"] = json!({"phase": "decode", "batch_size": 8, "kv_length": 64});
    let decode = busiest(&asked);
    // Eight consecutive tokens of one sequence put half their pairs on one device, or more.
    assert!(prefill >= 2.0, "{prefill}");
    assert!((decode - 1.0).abs() < 1e-9, "{decode}");
    // 16 held-out sequences in eight lanes are 128 steps; in 17 lanes none start.
    asked["workload"] = json!({"phase": "decode", "batch_size": 17, "kv_length": 64});
    assert_eq!(violations(&asked, &traces)[0].rule, "steps");
}

#[test]
fn a_holdout_trace_scores_and_the_other_plans() {
    let directory = tempfile::tempdir().unwrap();
    let steps = |hot: usize| {
        let counts = |expert: usize| if expert == hot { 400 } else { 80 };
        let step: Vec<u32> = (0..8).map(counts).collect();
        let steps: Vec<Value> = (0..30)
            .map(|i| {
                let mut step = step.clone();
                step[(hot + 1 + i % 7) % 8] += 8;
                json!([step])
            })
            .collect();
        kept(&directory, &json!({ "counts": steps }).to_string())
    };
    let (left, right) = (steps(0), steps(7));
    let traces = known(&[&left, &right]);
    let mut asked = question("mixtral-8x7b", 4, 484, &left);
    asked["assumptions"] = json!({"communication": "all_to_all_normal"});
    asked["rebalance"] = json!({"mode": "startup_map"});
    asked["duplication"] = json!({"slots_per_device": 3});
    asked["workload"]["sequence_length"] = json!((400 + 7 * 80 + 8) / 2);
    let gain = |holdout: &TraceFacts| {
        let mut asked = asked.clone();
        asked["routing"]["holdout_trace_id"] = json!(holdout.id);
        let result = result_of(&asked, &traces);
        let step = entry(&result, "distribution_only");
        // All 30 steps of the hold-out score, so nothing speaks of too few.
        assert!(!result["recommendation"]["missing"].to_string().contains("longer trace"));
        let before = step["imbalance_before"][0].as_f64().unwrap();
        let after = step["imbalance_after"][0].as_f64().unwrap();
        // Without a plan the hot expert and its neighbour share a device: 480 of 968
        // pairs, and a little of the 8 that wander.
        assert!((before - 4.0 * 480.0 / 968.0).abs() < 0.02, "{before}");
        before / after
    };
    let (same, other) = (gain(&left), gain(&right));
    assert!(same > 1.6, "{same}");
    assert!(other < 1.3, "a plan for another load gains little: {other}");
}

#[test]
fn a_window_lets_renewed_plans_follow_the_load() {
    let directory = tempfile::tempdir().unwrap();
    // After a long planning part other experts are hot.
    let (before, after) =
        ([800, 700, 600, 500, 40, 30, 20, 10], [500, 40, 30, 20, 600, 10, 700, 800]);
    let steps: Vec<Value> =
        (0..660).map(|at| json!([if at < 600 { before } else { after }])).collect();
    let trace = kept(&directory, &json!({ "counts": steps }).to_string());
    let traces = known(&[&trace]);
    let mut asked = question("mixtral-8x7b", 4, 1350, &trace);
    asked["routing"]["train_fraction"] = json!(0.9091);
    let mut imbalance = |window: Option<u64>| {
        asked["rebalance"] = json!({"mode": "sync", "interval_steps": 10});
        if let Some(window) = window {
            asked["rebalance"]["window_steps"] = json!(window);
        }
        let result = result_of(&asked, &traces);
        entry(&result, "replace_only")["imbalance_after"][0].as_f64().unwrap()
    };
    // The planning part puts experts 0 and 7 together, which then draw 500 and 800 of 2,700;
    // alone with the coldest, the hottest leaves 810. A window of one interval finds that at
    // the first renewal; with 600 older steps in view it takes longer.
    let of = |busiest: f64| 4.0 * busiest / 2700.0;
    let windowed = imbalance(Some(10));
    let expected = (10.0 * of(1300.0) + 50.0 * of(810.0)) / 60.0;
    assert!((windowed - expected).abs() < 1e-9, "{windowed} {expected}");
    let whole = imbalance(None);
    assert!((windowed + 0.1..of(1300.0)).contains(&whole), "{whole}");
    assert!((imbalance(Some(10_000)) - whole).abs() < 1e-9);
}

#[test]
fn steps_of_another_size_are_said_to_be_scaled() {
    let directory = tempfile::tempdir().unwrap();
    let mut router = Router::new(11, 8, 2, 0.5);
    let trace = kept(&directory, &counts_trace(&mut router, 60, 64));
    let traces = known(&[&trace]);
    let same = result_of(&question("mixtral-8x7b", 4, 64, &trace), &traces);
    assert!(!same["recommendation"]["missing"].to_string().contains("scaled"));
    let other = result_of(&question("mixtral-8x7b", 4, 4096, &trace), &traces);
    assert!(other["recommendation"]["missing"].to_string().contains("scaled"));
    assert_eq!(other["recommendation"]["verdict"], "insufficient_evidence");
}
