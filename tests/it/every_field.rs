//! Every field of a question changes the answer, or `warnings` names its pointer and says why not.

use std::collections::BTreeSet;

use moe_gps::app::advisor::KnownTraces;
use moe_gps::http::openapi;
use serde_json::{Value, json};

use crate::asking::{keep, known, result_of, violations};

/// Pointers of all fields that a schema holds, itself left out where it has fields.
fn leaves(api: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return leaves(api, api.pointer(&name[1..]).unwrap(), at, found);
    }
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            leaves(api, field, &format!("{at}/{name}"), found);
        }
    } else if schema["items"].is_object() && !schema["items"]["type"].is_string() {
        leaves(api, &schema["items"], &format!("{at}/0"), found);
    } else if schema["anyOf"].is_array() {
        for one in schema["anyOf"].as_array().unwrap() {
            leaves(api, one, at, found);
        }
    } else {
        found.insert(at.to_owned());
    }
}

/// DeepSeek-V3 on two nodes of eight H200, a replica of attention on each.
fn nodes() -> Value {
    json!({
        "model": "deepseek-v3",
        "cluster": {
            "device": "h200-sxm", "devices": 16, "nodes": 2, "link": "nvlink4",
            "inter_node_link": "ib400",
        },
        "workload": {"phase": "prefill", "batch_size": 16, "sequence_length": 512, "dtype": "fp8"},
        "engine": {"name": "sglang"},
        "routing": {"skewness": 4.0},
        "flip_points": false,
    })
}

/// Mixtral 8x7B on four H100, prefill.
fn node() -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 8, "sequence_length": 512},
        "engine": {"name": "vllm"},
        "routing": {"skewness": 1.8},
        "flip_points": false,
    })
}

fn decode() -> Value {
    let mut asked = node();
    asked["workload"] = json!({"phase": "decode", "batch_size": 64, "kv_length": 2048});
    asked
}

fn serving() -> Value {
    let mut asked = node();
    asked["workload"] = json!({
        "phase": "serving", "input_tokens": 2048, "output_tokens": 64, "concurrency": 32,
    });
    asked
}

fn recorded(trace: &str) -> Value {
    let mut asked = node();
    asked["workload"] = json!({"phase": "prefill", "tokens_per_step": 512});
    asked["routing"] = json!({"trace_id": trace});
    asked
}

fn with(mut asked: Value, pointer: &str, value: &Value) -> Value {
    let mut place = &mut asked;
    for name in pointer.trim_start_matches('/').split('/') {
        place = match place {
            Value::Array(items) => &mut items[name.parse::<usize>().unwrap()],
            other => &mut other[name],
        };
    }
    *place = value.clone();
    asked
}

/// A field, a question to ask it in, and two of its values.
type Case = (&'static str, Value, Value, Value);

#[expect(clippy::too_many_lines, reason = "one line for every field")]
fn cases(traces: [&str; 2]) -> Vec<Case> {
    let t = |index: usize| json!(traces[index]);
    let link = |name: &str| {
        with(nodes(), name, &json!({"bandwidth_bytes_per_s": 5e10, "latency_s": 1e-6}))
    };
    let cluster = |mut asked: Value, cluster: Value| {
        asked["cluster"] = cluster;
        asked
    };
    let domains = json!({
        "device": "h200-sxm", "devices": 16, "link": "nvlink4", "inter_node_link": "ib400",
    });
    let drafted =
        || with(decode(), "/workload/speculative", &json!({"draft_tokens": 2, "accepted": 1.0}));
    let engine = |backend: Option<&str>| {
        let engine = json!({"name": "sglang", "all2all_backend": backend});
        with(
            nodes(),
            "/engine",
            &if backend.is_some() { engine } else { json!({"name": "sglang"}) },
        )
    };
    let routing = |form: Value| with(node(), "/routing", &form);
    let point = json!([{"name": "a", "accuracy": 0.8, "overhead_s": 2e-5}]);
    let points = json!([{"name": "a", "points": [
        {"accuracy": 0.6, "overhead_s": 1e-6}, {"accuracy": 0.9, "overhead_s": 1e-4},
    ]}]);
    let stated = || with(node(), "/predictors", &point);
    let curve = || with(node(), "/predictors", &points);
    let over_skewness = json!([{"name": "a", "overhead_s": 2e-5, "accuracy_points": [
        {"skewness": 1.4, "accuracy": 0.5}, {"skewness": 2.4, "accuracy": 0.9},
    ]}]);
    let trend = || with(node(), "/predictors", &over_skewness);
    let errors = || {
        routing(json!({"skewness": 1.8, "distribution_error_points": [
            {"skewness": 1.4, "distribution_error": 0.01},
            {"skewness": 2.4, "distribution_error": 0.4},
        ]}))
    };
    let skipping = || with(nodes(), "/assumptions", &json!({"t2e_skips_scatter": true}));
    let formulas = || {
        let asked = routing(json!({"skewness": 1.8, "distribution_error": 0.1}));
        with(asked, "/assumptions", &json!({"preset": "paper"}))
    };
    let layer = json!({"attention_s": 3e-4, "all_reduce_s": 1e-4, "expert_ffn_balanced_s": 5e-4});
    let measured = || with(node(), "/measured_layer", &layer);
    let apart = || with(node(), "/workload/quantization", &json!({}));
    let map = json!([[0, 1, 2, 3, 4, 5, 6, 7]]);
    let placed = || with(node(), "/current", &json!({"physical_to_logical": map}));
    let renewed = || with(node(), "/rebalance", &json!({"mode": "sync"}));
    let replay = || recorded(traces[0]);
    let attention = |tensor, data| {
        with(nodes(), "/parallelism", &json!({"attention_tensor": tensor, "attention_data": data}))
    };
    let experts = |ep, et| {
        with(nodes(), "/parallelism", &json!({"expert_parallel": ep, "expert_tensor": et}))
    };
    let by_tokens = |mut asked: Value| {
        asked["workload"] = json!({"phase": "prefill", "batch_size": 4, "tokens_per_step": 512});
        asked
    };
    let several = |asked, traces: Value| with(asked, "/routing", &json!({"trace_ids": traces}));
    let windows = |asked, traces: Value| with(asked, "/routing", &json!({"windows": traces}));
    let phases = || {
        let of = |index, phase: &str| json!({"id": t(index), "phase": phase});
        json!([of(0, "prefill"), of(1, "decode"), of(1, "prefill")])
    };
    vec![
        ("/model", node(), json!("mixtral-8x7b"), json!("mixtral-8x22b")),
        ("/cluster/device", node(), json!("h100-sxm"), json!("h200-sxm")),
        ("/cluster/devices", node(), json!(4), json!(8)),
        ("/cluster/link", node(), json!("nvlink4"), json!("pcie5")),
        ("/cluster/link/bandwidth_bytes_per_s", link("/cluster/link"), json!(1e10), json!(4e11)),
        ("/cluster/link/latency_s", link("/cluster/link"), json!(1e-6), json!(1e-4)),
        ("/cluster/link/name", link("/cluster/link"), json!("nvlink4"), json!("nvlink3")),
        (
            "/cluster/inter_node_link/name",
            link("/cluster/inter_node_link"),
            json!("ib400"),
            json!("nvlink4"),
        ),
        ("/cluster/nodes", nodes(), json!(2), json!(4)),
        ("/cluster/devices_per_nvlink_domain", cluster(nodes(), domains), json!(4), json!(8)),
        ("/cluster/inter_node_link", nodes(), json!("ib400"), json!("ib200")),
        ("/cluster/inter_node_link", node(), json!("ib400"), json!("ib200")),
        (
            "/cluster/inter_node_link/bandwidth_bytes_per_s",
            link("/cluster/inter_node_link"),
            json!(1e10),
            json!(1e11),
        ),
        (
            "/cluster/inter_node_link/latency_s",
            link("/cluster/inter_node_link"),
            json!(1e-6),
            json!(1e-4),
        ),
        ("/parallelism/attention_tensor", attention(1, 16), json!(1), json!(null)),
        ("/parallelism/attention_data", attention(1, 16), json!(16), json!(null)),
        ("/parallelism/expert_parallel", experts(16, 1), json!(16), json!(null)),
        ("/parallelism/expert_tensor", experts(16, 1), json!(1), json!(null)),
        ("/parallelism/pipeline", node(), json!(1), json!(2)),
        ("/workload/phase", node(), json!("prefill"), json!(null)),
        ("/workload/batch_size", node(), json!(8), json!(16)),
        ("/workload/sequence_length", node(), json!(512), json!(1024)),
        ("/workload/sequence_length", decode(), json!(1), json!(1)),
        ("/workload/kv_length", decode(), json!(1024), json!(4096)),
        ("/workload/tokens_per_step", by_tokens(node()), json!(256), json!(512)),
        ("/workload/input_tokens", serving(), json!(1024), json!(2048)),
        ("/workload/output_tokens", serving(), json!(16), json!(64)),
        ("/workload/concurrency", serving(), json!(16), json!(32)),
        ("/workload/max_batched_tokens", serving(), json!(1024), json!(4096)),
        ("/workload/max_batched_tokens", serving(), json!(8192), json!(16_384)),
        ("/workload/speculative/draft_tokens", drafted(), json!(2), json!(3)),
        ("/workload/speculative/accepted", drafted(), json!(0.5), json!(1.0)),
        ("/workload/speculative/draft_s", drafted(), json!(null), json!(1e-3)),
        ("/workload/dtype", node(), json!("bf16"), json!("fp8")),
        ("/workload/quantization", node(), json!("bf16"), json!("mxfp4")),
        ("/workload/quantization/experts", apart(), json!("bf16"), json!("int4")),
        ("/workload/quantization/rest", apart(), json!("bf16"), json!("fp8_block")),
        ("/workload/dtypes/weights", node(), json!("bf16"), json!("fp8")),
        ("/workload/dtypes/activations", node(), json!("bf16"), json!("fp8")),
        ("/workload/dtypes/kv", node(), json!("bf16"), json!("fp8")),
        ("/workload/dtypes/dispatch", nodes(), json!("bf16"), json!("fp8")),
        ("/workload/dtypes/dispatch", node(), json!("bf16"), json!("fp8")),
        ("/workload/dtypes/combine", node(), json!("bf16"), json!("fp8")),
        ("/engine/name", node(), json!("vllm"), json!("tensorrt-llm")),
        ("/engine/version", node(), json!("0.30.0"), json!("0.33.0")),
        ("/engine/all2all_backend", engine(None), json!("none"), json!("deepep")),
        ("/engine/all2all_backend", node(), json!("pplx"), json!("naive")),
        ("/engine/moe_kernel", node(), json!("triton"), json!("cutlass")),
        ("/engine/cuda_graph", node(), json!(true), json!(false)),
        ("/routing/skewness", node(), json!(1.5), json!(2.5)),
        ("/routing/distribution_error", node(), json!(0.0), json!(0.5)),
        ("/routing/distribution_error_points/0/skewness", errors(), json!(1.2), json!(1.7)),
        (
            "/routing/distribution_error_points/0/distribution_error",
            errors(),
            json!(0.01),
            json!(0.2),
        ),
        (
            "/routing/power_law/exponent",
            routing(json!({"power_law": {"exponent": 0.5}})),
            json!(0.2),
            json!(0.8),
        ),
        (
            "/routing/expert_shares",
            routing(json!({"expert_shares": []})),
            json!([[1, 2, 3, 4, 5, 6, 7, 8]]),
            json!([[1, 1, 1, 1, 1, 1, 1, 2]]),
        ),
        (
            "/routing/balancedness",
            routing(json!({"balancedness": 0.5, "at_devices": 4})),
            json!(0.5),
            json!(0.9),
        ),
        (
            "/routing/at_devices",
            routing(json!({"balancedness": 0.5, "at_devices": 4})),
            json!(4),
            json!(8),
        ),
        ("/routing/trace_id", replay(), t(0), t(1)),
        ("/routing/trace_ids/0", several(replay(), json!([t(0), t(1)])), t(0), t(1)),
        ("/routing/trace_ids/0/id", several(serving(), phases()), t(0), t(1)),
        (
            "/routing/trace_ids/0/phase",
            several(serving(), phases()),
            json!("prefill"),
            json!("decode"),
        ),
        ("/routing/windows/0", windows(replay(), json!([t(0), t(1)])), t(0), t(1)),
        ("/routing/windows/0/id", windows(serving(), phases()), t(0), t(1)),
        (
            "/routing/windows/0/phase",
            windows(serving(), phases()),
            json!("prefill"),
            json!("decode"),
        ),
        ("/routing/train_fraction", replay(), json!(0.3), json!(0.6)),
        ("/routing/holdout_trace_id", replay(), json!(null), t(1)),
        ("/predictors/0/name", stated(), json!("a"), json!("b")),
        ("/predictors/0/accuracy", stated(), json!(0.6), json!(0.9)),
        ("/predictors/0/overhead_s", stated(), json!(1e-5), json!(1e-4)),
        ("/predictors/0/accuracy_points/0/skewness", trend(), json!(1.2), json!(1.7)),
        ("/predictors/0/accuracy_points/0/accuracy", trend(), json!(0.3), json!(0.7)),
        ("/predictors/0/metric", stated(), json!("per_choice"), json!("exact_set")),
        ("/predictors/0/metric", stated(), json!("per_choice"), json!("top1")),
        ("/predictors/0/points/0/accuracy", curve(), json!(0.5), json!(0.7)),
        ("/predictors/0/points/0/overhead_s", curve(), json!(1e-6), json!(1e-5)),
        (
            "/predictors/0/fit",
            with(replay(), "/predictors", &json!([{}])),
            json!("most_frequent"),
            json!("by_position"),
        ),
        ("/method", replay(), json!("analytic"), json!("simulated")),
        ("/duplication/slots_per_device", node(), json!(2), json!(3)),
        (
            "/duplication/max_copies",
            with(node(), "/duplication", &json!({"slots_per_device": 4})),
            json!(1),
            json!(4),
        ),
        (
            "/duplication/algorithm",
            with(node(), "/duplication", &json!({"slots_per_device": 3})),
            json!("best"),
            json!("eplb"),
        ),
        (
            "/duplication/allow_duplicates",
            with(node(), "/duplication", &json!({"slots_per_device": 9, "max_copies": 6})),
            json!(false),
            json!(true),
        ),
        (
            "/duplication/allow_duplicates",
            // More slots than experts cannot be filled otherwise.
            with(node(), "/duplication", &json!({"slots_per_device": 9})),
            json!(false),
            json!(true),
        ),
        ("/duplication/groups", nodes(), json!("hard"), json!("none")),
        ("/duplication/groups", node(), json!("hard"), json!("none")),
        ("/rebalance/mode", node(), json!("sync"), json!("async")),
        ("/rebalance/interval_steps", renewed(), json!(100), json!(1000)),
        (
            "/rebalance/interval_steps",
            with(node(), "/rebalance", &json!({"mode": "startup_map"})),
            json!(100),
            json!(1000),
        ),
        ("/rebalance/window_steps", renewed(), json!(10), json!(1000)),
        (
            "/rebalance/window_steps",
            with(replay(), "/rebalance", &json!({"mode": "sync", "interval_steps": 2})),
            json!(1),
            json!(100),
        ),
        (
            "/current/strategy",
            with(node(), "/current", &json!({})),
            json!("none"),
            json!("distribution_only"),
        ),
        (
            "/current/physical_to_logical",
            placed(),
            json!([[0, 1, 2, 3, 4, 5, 6, 7]]),
            json!([[7, 0, 3, 5, 1, 2, 4, 6]]),
        ),
        ("/current/slots_per_device", placed(), json!(2), json!(3)),
        (
            "/current/slots_per_device",
            with(node(), "/current", &json!({"strategy": "distribution_only"})),
            json!(2),
            json!(4),
        ),
        ("/allowed_strategies", node(), json!(["none"]), json!(["none", "distribution_only"])),
        ("/objective", node(), json!("step_latency"), json!("throughput_at_tpot")),
        ("/flip_points", node(), json!(false), json!(true)),
        ("/measured_layer/attention_s", measured(), json!(1e-4), json!(1e-3)),
        ("/measured_layer/all_reduce_s", measured(), json!(1e-4), json!(1e-3)),
        ("/measured_layer/expert_ffn_balanced_s", measured(), json!(1e-4), json!(1e-3)),
        ("/step_overhead_s", node(), json!(0.0), json!(1e-3)),
        ("/measured_step_s", node(), json!(1e-3), json!(10.0)),
        (
            "/assumptions/preset",
            routing(json!({"skewness": 1.8, "distribution_error": 0.1})),
            json!("calibrated"),
            json!("paper"),
        ),
        ("/assumptions/error_model", node(), json!("optimistic"), json!("pessimistic")),
        ("/assumptions/cap_at_baseline", node(), json!(false), json!(true)),
        ("/assumptions/communication", nodes(), json!("all_to_all_normal"), json!("replicated")),
        ("/assumptions/t2e_skips_scatter", nodes(), json!(false), json!(true)),
        ("/assumptions/misroute_repair", skipping(), json!("none"), json!("wrong_tokens")),
        ("/assumptions/misroute_repair", nodes(), json!("none"), json!("full_exchange")),
        ("/assumptions/copy_overlap", formulas(), json!("free"), json!("attention")),
        ("/assumptions/predictor_overlap", node(), json!("none"), json!("attention")),
        ("/assumptions/overlap", nodes(), json!("none"), json!("two_batch")),
        ("/assumptions/k_comm", node(), json!(1.0), json!(2.0)),
        ("/assumptions/launch_s", node(), json!(0.0), json!(1e-5)),
        ("/assumptions/attention_imbalance", nodes(), json!(1.0), json!(1.5)),
        ("/assumptions/attention_imbalance", measured(), json!(1.0), json!(1.5)),
        (
            "/assumptions/replica_split",
            with(node(), "/duplication", &json!({"slots_per_device": 3})),
            json!("hashed"),
            json!("optimal"),
        ),
        ("/assumptions/seed", node(), json!(1), json!(2)),
        ("/seed", node(), json!(1), json!(2)),
    ]
}

/// A field whose two values need another field changed along, or a value left out for null.
fn asked(pointer: &str, base: &Value, value: &Value) -> Value {
    let mut asked = with(base.clone(), pointer, value);
    if value.is_null() {
        let (place, name) = pointer.rsplit_once('/').unwrap();
        asked.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(name);
        match pointer {
            "/workload/phase" => {
                asked["workload"] = json!({"phase": "decode", "batch_size": 8, "kv_length": 512});
            }
            "/parallelism/attention_tensor" | "/parallelism/attention_data" => {
                asked["parallelism"] = json!({"attention_tensor": 8, "attention_data": 2});
            }
            "/parallelism/expert_parallel" | "/parallelism/expert_tensor" => {
                asked["parallelism"] = json!({"expert_parallel": 8, "expert_tensor": 2});
            }
            _ => {}
        }
    }
    asked
}

/// Figures of a device that no catalog has, two values of each.
fn figures() -> Vec<(&'static str, Value, Value)> {
    vec![
        ("name", json!("one"), json!("another")),
        ("memory_bytes", json!(8e10), json!(1.6e11)),
        ("bandwidth_bytes_per_s", json!(3.35e12), json!(2e12)),
        ("peak_flop_per_s", json!({"bf16": 9.89e14}), json!({"bf16": 5e14})),
        ("l2_bytes", json!(5e7), json!(1e7)),
        ("multiprocessors", json!(132), json!(60)),
        ("eager_launch_s", json!(5e-6), json!(1e-4)),
    ]
}

#[test]
fn every_figure_of_a_device_changes_the_answer() {
    let all: serde_json::Map<String, Value> =
        figures().into_iter().map(|(name, value, _)| (name.to_owned(), value)).collect();
    let device =
        |figures: &serde_json::Map<String, Value>| with(node(), "/cluster/device", &json!(figures));
    // The reader itself says which there are.
    let mut unknown = all.clone();
    unknown.insert("zz".to_owned(), json!(1));
    let refused = &violations(&device(&unknown), &known(&[]))[0].detail;
    let known_figures = refused.split("known are: ").nth(1).unwrap();
    let mut walked: Vec<&str> = figures().into_iter().map(|(name, ..)| name).collect();
    walked.sort_unstable();
    assert_eq!(known_figures, walked.join(", "));

    let none = known(&[]);
    for (name, _, other) in figures() {
        let mut changed = all.clone();
        changed.insert(name.to_owned(), other);
        let [(one, _), (other, _)] = [&all, &changed].map(|figures| said(&device(figures), &none));
        assert_ne!(one, other, "{name} changes nothing");
    }
}

/// What an answer says, beside what it repeats of the question.
fn said(question: &Value, traces: &KnownTraces) -> (String, Vec<String>) {
    let mut answer = result_of(question, traces);
    let warnings = serde_json::from_value(answer["warnings"].take()).unwrap();
    answer["provenance"].take();
    (answer.to_string(), warnings)
}

#[test]
fn every_field_changes_the_answer_or_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let kept = |name: &str| {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/traces");
        let bytes = std::fs::read(file.join(name)).unwrap();
        keep(directory.path(), "application/x-npz", &bytes)
    };
    let [first, second] =
        ["test", "train"].map(|part| kept(&format!("mixtral_like_e8k2.python.{part}.npz")));
    let traces = known(&[&first, &second]);
    let cases = cases([&first.id, &second.id]);

    let api: Value = serde_json::from_str(&openapi::json()).unwrap();
    let mut fields = BTreeSet::new();
    leaves(&api, &api["components"]["schemas"]["Question"], "", &mut fields);
    // Labels belong to the ask: no answer depends on them.
    assert!(fields.remove("/labels"));
    let walked: BTreeSet<String> = cases.iter().map(|case| case.0.to_owned()).collect();
    let forgotten: Vec<_> = fields.difference(&walked).collect();
    assert!(forgotten.is_empty(), "give these fields two values in `cases`: {forgotten:?}");

    let mut silent = Vec::new();
    for (pointer, base, one, other) in &cases {
        let [(one, _), (other, warnings)] =
            [one, other].map(|value| said(&asked(pointer, base, value), &traces));
        let warned = warnings.iter().any(|warning| warning.starts_with(pointer));
        if one == other && !warned {
            silent.push((pointer, base["model"].clone()));
        }
    }
    assert!(silent.is_empty(), "these change nothing and are not warned of: {silent:?}");
}
