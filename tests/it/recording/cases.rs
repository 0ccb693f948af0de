//! What is asked for the recording: over presets, phases, methods, engines, traces, predictors,
//! sweeps, reports, plans and refusals.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

/// Ids of the uploaded traces, by the name they have here.
pub(super) type Traces = BTreeMap<&'static str, String>;

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// A recommendation and its placement.
    Question(Value),
    /// A decision map.
    Sweep(Value),
    /// What a path holds.
    Get(String),
    /// The program with these arguments, in the root of the repository.
    Command(Vec<String>),
}

/// A case of the recording.
#[derive(Debug)]
pub(super) struct RecordedCase {
    /// Names its files.
    pub(super) name: String,
    /// What is asked.
    pub(super) ask: Ask,
}

/// `base` with the fields of `change` in place of its own; null takes a field away (RFC 7386).
fn merged(mut base: Value, change: &Value) -> Value {
    let Value::Object(changes) = change else { return change.clone() };
    if !base.is_object() {
        base = json!({});
    }
    for (name, change) in changes {
        if change.is_null() {
            base.as_object_mut().unwrap().remove(name);
        } else {
            base[name] = merged(base[name].take(), change);
        }
    }
    base
}

/// Model, cluster and workload of fleets, each as a question without its routing.
fn systems() -> Vec<(&'static str, Value)> {
    let system = |model: &str, device: &str, devices: u32, link: &str, dtype: &str| {
        json!({
            "model": model,
            "cluster": {"device": device, "devices": devices, "link": link},
            "workload": {"dtype": dtype},
        })
    };
    let nodes = json!({"cluster": {"nodes": 4, "inter_node_link": "ib400"}});
    vec![
        ("mixtral", system("mixtral-8x7b", "h100-sxm", 4, "nvlink4", "bf16")),
        ("mixtral-pcie", system("mixtral-8x7b", "a100-sxm4-80gb", 4, "pcie4", "bf16")),
        ("qwen3-235b", system("qwen3-235b-a22b", "h20", 8, "nvlink4", "bf16")),
        ("olmoe", system("olmoe-1b-7b", "h200-sxm", 8, "nvlink4", "bf16")),
        ("v2-lite", system("deepseek-v2-lite", "a100-sxm4-40gb", 4, "nvlink3", "bf16")),
        ("gpt-oss", system("gpt-oss-120b", "b200-sxm", 8, "nvlink5", "bf16")),
        ("scout", system("llama-4-scout", "mi300x", 8, "xgmi3", "bf16")),
        ("switch", system("switch-base-16", "l40s", 2, "pcie4", "fp32")),
        ("deepseek", merged(system("deepseek-v3", "h200-sxm", 32, "nvlink4", "fp8"), &nodes)),
    ]
}

fn phases() -> [(&'static str, Value); 3] {
    [
        (
            "prefill",
            json!({"workload": {"phase": "prefill", "batch_size": 8, "sequence_length": 1024}}),
        ),
        ("short", json!({"workload": {"phase": "prefill", "tokens_per_step": 512}})),
        ("decode", json!({"workload": {"phase": "decode", "batch_size": 64, "kv_length": 2048}})),
    ]
}

const ENGINES: [&str; 4] = ["vllm", "sglang", "tensorrt-llm", "vllm-ascend"];

fn scalar_routings() -> [(&'static str, Value); 4] {
    [
        ("skewness", json!({"routing": {"skewness": 1.6}})),
        ("error", json!({"routing": {"skewness": 1.4, "distribution_error": 0.1}})),
        ("power", json!({"routing": {"power_law": {"exponent": 0.7}}})),
        ("balancedness", json!({"routing": {"balancedness": 0.6, "at_devices": 2}})),
    ]
}

/// Every system in every phase with every engine and without one; routings in turn.
fn over_systems() -> Vec<(String, Value)> {
    let engines = [None].into_iter().chain(ENGINES.map(Some));
    let engines: Vec<Option<&str>> = engines.collect();
    let routings = scalar_routings();
    let mut all = Vec::new();
    for (system, base) in systems() {
        for (phase, workload) in phases() {
            for engine in &engines {
                let (routing, routed) = &routings[all.len() % routings.len()];
                let mut asked = merged(merged(base.clone(), &workload), routed);
                if let Some(engine) = engine {
                    asked["engine"] = json!({"name": engine});
                }
                let engine = engine.unwrap_or("any");
                all.push((format!("system-{system}-{phase}-{engine}-{routing}"), asked));
            }
        }
    }
    all
}

fn paper() -> Value {
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

fn mixtral() -> Value {
    let base = systems().swap_remove(0).1;
    merged(
        base,
        &json!({
            "workload": {"phase": "prefill", "batch_size": 2, "sequence_length": 512},
            "routing": {"skewness": 1.8},
        }),
    )
}

fn deepseek() -> Value {
    let base = systems().pop().unwrap().1;
    merged(
        base,
        &json!({
            "workload": {"phase": "decode", "batch_size": 2048, "kv_length": 4096},
            "routing": {"skewness": 4.0},
            "engine": {"name": "sglang"},
        }),
    )
}

/// Single switches of a question, over the paper's case, a Mixtral and a DeepSeek.
fn switches() -> Vec<(&'static str, Value)> {
    let assume = |switch: Value| json!({"assumptions": switch});
    vec![
        ("as-is", json!({})),
        ("optimistic", assume(json!({"error_model": "optimistic"}))),
        ("pessimistic", assume(json!({"error_model": "pessimistic"}))),
        ("capped", assume(json!({"error_model": "pessimistic", "cap_at_baseline": true}))),
        ("replicated", assume(json!({"communication": "replicated"}))),
        ("gather", assume(json!({"communication": "allgather_reducescatter"}))),
        ("normal", assume(json!({"communication": "all_to_all_normal"}))),
        ("low-latency", assume(json!({"communication": "all_to_all_low_latency"}))),
        ("paper-communication", assume(json!({"communication": "paper"}))),
        ("keeps-scatter", assume(json!({"t2e_skips_scatter": false}))),
        ("skips-scatter", assume(json!({"t2e_skips_scatter": true}))),
        ("beside-attention", assume(json!({"predictor_overlap": "attention"}))),
        ("shared-overlap", assume(json!({"overlap": "shared_expert"}))),
        ("two-batch", assume(json!({"overlap": "two_batch"}))),
        ("k-comm", assume(json!({"k_comm": 2.0}))),
        ("launch", assume(json!({"launch_s": 1e-5}))),
        ("attention-imbalance", assume(json!({"attention_imbalance": 1.2}))),
        ("hashed", assume(json!({"replica_split": "hashed"}))),
        ("nearest", assume(json!({"replica_split": "nearest_first"}))),
        ("optimal", assume(json!({"replica_split": "optimal"}))),
        ("eplb", json!({"duplication": {"algorithm": "eplb"}})),
        ("greedy", json!({"duplication": {"algorithm": "paper_greedy", "slots_per_device": 9}})),
        ("two-copies", json!({"duplication": {"max_copies": 2}})),
        ("more-slots", json!({"duplication": {"slots_per_device": 10}})),
        ("same-device", json!({"duplication": {"allow_duplicates": true}})),
        ("groups-hard", json!({"duplication": {"groups": "hard"}})),
        ("groups-soft", json!({"duplication": {"groups": "soft"}})),
        ("groups-none", json!({"duplication": {"groups": "none"}})),
        ("startup-map", json!({"rebalance": {"mode": "startup_map"}})),
        ("sync-300", json!({"rebalance": {"mode": "sync", "interval_steps": 300}})),
        ("async-300", json!({"rebalance": {"mode": "async", "interval_steps": 300}})),
        ("throughput", json!({"objective": "throughput_at_tpot"})),
        ("no-copies", json!({"allowed_strategies": ["none", "replace_only"]})),
        ("only-predicted", json!({"allowed_strategies": ["token_to_expert"]})),
        ("measured-step", json!({"measured_step_s": 0.05})),
        ("seed", json!({"seed": 7})),
        (
            "predictors",
            json!({"predictors": [
                {"name": "good", "accuracy": 0.95, "overhead_s": 1e-5},
                {"name": "curve", "points": [
                    {"accuracy": 0.5, "overhead_s": 1e-6}, {"accuracy": 0.8, "overhead_s": 2e-5},
                    {"accuracy": 0.95, "overhead_s": 4e-4}]},
            ]}),
        ),
        ("no-predictors", json!({"predictors": []})),
        ("runs-copies", json!({"current": {"strategy": "distribution_only"}})),
        ("tensor-experts", json!({"parallelism": {"expert_tensor": 2}})),
    ]
}

fn over_switches() -> Vec<(String, Value)> {
    let bases = [("paper", paper()), ("mixtral", mixtral()), ("deepseek", deepseek())];
    let of = |(name, base): (&str, Value)| {
        let case = move |(switch, change): (&str, Value)| {
            (format!("switch-{name}-{switch}"), merged(base.clone(), &change))
        };
        switches().into_iter().map(case).collect::<Vec<_>>()
    };
    bases.into_iter().flat_map(of).collect()
}

/// Recordings the traced questions are about: shipped ones and made ones.
pub(super) fn uploads() -> Vec<(&'static str, (&'static str, Vec<u8>))> {
    let shipped = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/traces").join(name);
        std::fs::read(file).unwrap()
    };
    let unpacked = |name: &str| {
        let mut bytes = Vec::new();
        GzDecoder::new(&shipped(name)[..]).read_to_end(&mut bytes).unwrap();
        bytes
    };
    vec![
        ("python", ("application/x-npz", shipped("mixtral_like_e8k2.python.test.npz"))),
        ("python-train", ("application/x-npz", shipped("mixtral_like_e8k2.python.train.npz"))),
        ("deepseek", ("application/x-pytorch", unpacked("deepseek_v3_like.sglang_stat.pt.gz"))),
        ("steady", ("application/json", counts(0, 6, 48))),
        ("turned", ("application/json", counts(8, 4, 48))),
        ("moving", ("application/json", moving(64))),
        ("tokens", ("application/x-ndjson", tokens())),
    ]
}

/// Steps of counts of 16 experts in two layers, four of them hot.
fn counts(first: usize, times: usize, n_steps: usize) -> Vec<u8> {
    let count = |step: usize, layer: usize, expert: usize| {
        let hot = (expert + 16 - first - layer) % 16 < 4;
        (if hot { times * 1000 } else { 1000 }) + (step * 7 + expert * 5) % 11 * 10
    };
    stepped(n_steps, count)
}

/// The same where the hot experts move on every eight steps.
fn moving(n_steps: usize) -> Vec<u8> {
    let count = |step: usize, layer: usize, expert: usize| {
        let hot = (expert + 16 - step / 8 - layer) % 16 < 3;
        (if hot { 5000 } else { 900 }) + (step * 11 + expert * 3) % 13 * 20
    };
    stepped(n_steps, count)
}

fn stepped(n_steps: usize, count: impl Fn(usize, usize, usize) -> usize) -> Vec<u8> {
    let layer = |step, layer| (0..16).map(|expert| count(step, layer, expert)).collect::<Vec<_>>();
    let steps: Vec<[Vec<usize>; 2]> =
        (0..n_steps).map(|step| [layer(step, 0), layer(step, 1)]).collect();
    json!({ "counts": steps }).to_string().into_bytes()
}

/// Tokens of 48 sequences with their ids, whose class decides the eight experts of 64.
fn tokens() -> Vec<u8> {
    let line = |at: usize| {
        let (sequence, position) = (at / 128, at % 128);
        let liked = sequence / 8 % 24;
        let class = if at * 7 % 10 < 6 { liked } else { (at * 13 + sequence) % 24 };
        let experts = |layer: usize| -> Vec<usize> {
            (0..8).map(|n| (5 * class + (2 * (class + layer) + 1) * n) % 64).collect()
        };
        let line = json!({
            "sequence": sequence, "position": position, "token_id": class + 24 * (at % 3),
            "experts": [experts(0), experts(1)],
        });
        format!("{line}\n")
    };
    (0..48 * 128).map(line).collect::<String>().into_bytes()
}

/// Questions about recordings: both methods, every engine, hold-outs, several loads, fits.
fn over_traces(traces: &Traces) -> Vec<(String, Value)> {
    let id = |name: &str| traces[name].as_str();
    let routed = |mut routing: Value| {
        routing["skewness"] = Value::Null;
        json!({ "routing": routing })
    };
    let python = merged(mixtral(), &routed(json!({"trace_id": id("python")})));
    let held_out = json!({"trace_id": id("python-train"), "holdout_trace_id": id("python")});
    let held_out = merged(mixtral(), &routed(held_out));
    let v3 = merged(deepseek(), &routed(json!({"trace_id": id("deepseek")})));
    let phi = |routing: Value| {
        json!({
            "model": "phi-3.5-moe",
            "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
            "workload": {"phase": "prefill", "tokens_per_step": 8192},
            "routing": routing,
        })
    };
    let steady = phi(json!({"trace_id": id("steady"), "train_fraction": 0.25}));
    let moving = phi(json!({"trace_id": id("moving")}));
    let several = phi(json!({"trace_ids": [id("steady"), id("turned"), id("moving")]}));
    let olmoe = json!({
        "model": "olmoe-1b-7b",
        "cluster": {"device": "h200-sxm", "devices": 8, "link": "nvlink4"},
        "parallelism": {"attention_tensor": 1, "attention_data": 8},
        "workload": {"phase": "prefill", "tokens_per_step": 256},
        "routing": {"trace_id": id("tokens")},
        "assumptions": {"communication": "all_to_all_normal"},
    });
    let shares = json!({"expert_shares": [
        [8, 3, 1, 1, 2, 1, 4, 1], [1, 1, 6, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 1, 1, 1]]});
    let shares = merged(mixtral(), &routed(shares));
    let mut all = Vec::new();
    let bases = [
        ("python", python.clone()),
        ("held-out", held_out),
        ("deepseek", v3),
        ("steady", steady),
        ("moving", moving.clone()),
        ("several", several),
        ("tokens", olmoe.clone()),
        ("shares", shares),
    ];
    for (name, base) in bases {
        let engines = [None].into_iter().chain(ENGINES.map(Some));
        for engine in engines {
            for method in ["analytic", "simulated"] {
                if method == "simulated" && matches!(name, "deepseek" | "shares") {
                    continue;
                }
                let mut asked = merged(base.clone(), &json!({"method": method}));
                if let Some(engine) = engine {
                    asked["engine"] = json!({"name": engine});
                }
                all.push((format!("trace-{name}-{method}-{}", engine.unwrap_or("any")), asked));
            }
        }
    }
    let renewed = [
        ("sync", json!({"mode": "sync", "interval_steps": 8})),
        ("window", json!({"mode": "sync", "interval_steps": 8, "window_steps": 4})),
        ("async", json!({"mode": "async", "interval_steps": 8})),
        ("once", json!({"mode": "startup_map"})),
    ];
    for (name, rebalance) in renewed {
        let change = json!({"method": "simulated", "rebalance": rebalance});
        all.push((format!("renewed-{name}"), merged(moving.clone(), &change)));
    }
    for kind in ["most_frequent", "by_token", "by_position", "ffn", "lstm"] {
        for (name, base) in [("tokens", &olmoe), ("python", &python)] {
            if name == "python" && matches!(kind, "ffn" | "lstm") {
                continue;
            }
            for method in ["analytic", "simulated"] {
                let change = json!({"method": method, "predictors": [{"fit": kind}]});
                all.push((format!("fit-{kind}-{name}-{method}"), merged(base.clone(), &change)));
            }
        }
    }
    let decode = json!({"workload": {"phase": "decode", "batch_size": 4, "kv_length": 512,
        "sequence_length": null, "tokens_per_step": null}});
    for (name, base) in [("python", &python), ("tokens", &olmoe), ("moving", &moving)] {
        for method in ["analytic", "simulated"] {
            let change = merged(decode.clone(), &json!({"method": method}));
            all.push((format!("decode-{name}-{method}"), merged(base.clone(), &change)));
        }
    }
    let current = json!({"current": {"physical_to_logical": vec![[7, 6, 5, 4, 3, 2, 1, 0]; 8]}});
    all.push(("current-python".to_owned(), merged(python.clone(), &current)));
    let throughput = merged(decode, &json!({"objective": "throughput_at_tpot"}));
    all.push(("throughput-python".to_owned(), merged(python, &throughput)));
    all
}

fn sweeps(traces: &Traces) -> Vec<(String, Value)> {
    let recorded = json!({"routing": {"skewness": null, "trace_id": traces["python"]}});
    let stated = json!({"predictors": [{"name": "probe", "accuracy": 0.9, "overhead_s": 2e-5}]});
    let mixtral = merged(mixtral(), &stated);
    let bases = [
        ("paper", paper()),
        ("mixtral", mixtral.clone()),
        ("recorded", merged(mixtral, &recorded)),
    ];
    let axes = [
        ("skewness", json!([1.0, 1.3, 1.7, 2.5])),
        ("link_bandwidth_bytes_per_s", json!([8e9, 32e9, 300e9])),
        ("tokens_per_step", json!([128, 1024, 16384])),
        ("devices", json!([2, 4, 8])),
        ("predictor_accuracy", json!([0.5, 0.9, 1.0])),
        ("predictor_overhead_s", json!([1e-6, 1e-4, 1e-3])),
    ];
    let mut all = Vec::new();
    for (name, base) in bases {
        for (index, (parameter, values)) in axes.iter().enumerate() {
            let (second, others) = &axes[(index + 1) % axes.len()];
            let one = json!({"parameter": parameter, "values": values});
            let two = json!({"parameter": second, "values": others});
            let sweep = json!({"question": base, "axes": [one, two]});
            all.push((format!("sweep-{name}-{parameter}-{second}"), sweep));
        }
    }
    all
}

/// Questions and sweeps that are refused.
fn refused() -> Vec<(String, Value)> {
    let bad = [
        ("no-model", json!({"model": null})),
        ("unknown-model", json!({"model": "mixtral-8x7c"})),
        ("devices", json!({"cluster": {"devices": 3}})),
        ("types", json!({"cluster": {"devices": "four"}, "workload": {"batch_size": -1}})),
        ("unknown-field", json!({"workload": {"batchsize": 2}})),
        ("two-routings", json!({"routing": {"balancedness": 0.5}})),
        ("skewness", json!({"routing": {"skewness": 5.0}})),
        ("no-trace", json!({"routing": {"skewness": null, "trace_id": "nowhere"}})),
        ("engine", json!({"engine": {"name": "tgi"}})),
        ("simulated", json!({"method": "simulated"})),
    ];
    let case =
        |(name, change): (&str, Value)| (format!("refused-{name}"), merged(mixtral(), &change));
    bad.into_iter().map(case).collect()
}

fn commands() -> Vec<(String, Ask)> {
    let lines = [
        "advise examples/questions/paper-mixtral-a100.json",
        "advise examples/questions/mixtral-h100.json --trace examples/traces/mixtral_like_e8k2.python.test.npz",
        "sweep examples/questions/paper-mixtral-a100.json --axis skewness=1:3:5 --axis tokens_per_step=128:8192:4:log",
        "sweep examples/questions/paper-mixtral-a100.json --axis skewness=1:3:5 --csv",
        "place examples/traces/mixtral_like_e8k2.python.test.npz --devices 4 --slots-per-device 3 --json",
        "place examples/traces/deepseek_v3_like.sglang_stat.pt.gz --devices 32 --slots-per-device 9 --json",
        "place examples/traces/deepseek_v3_like.sglang_stat.pt.gz --devices 32 --slots-per-device 9 --groups 8 --nodes 4 --format sglang",
        "trace inspect examples/traces/mixtral_like_e8k2.python.test.npz",
        "trace report examples/traces/mixtral_like_e8k2.python.test.npz --devices 4",
        "trace report examples/traces/mixtral_like_e8k2.python.test.npz --devices 4 --json",
        "catalog list",
        "catalog show deepseek-v3",
        "catalog show h200-sxm",
        "validate measurements --json",
        "openapi --operations",
    ];
    let command = |(index, line): (usize, &str)| {
        let arguments = line.split(' ').map(str::to_owned).collect();
        (format!("command-{index:02}"), Ask::Command(arguments))
    };
    lines.iter().copied().enumerate().map(command).collect()
}

/// Every case.
pub(super) fn all(traces: &Traces) -> Vec<RecordedCase> {
    let questions = [over_systems(), over_switches(), over_traces(traces), refused()].concat();
    let questions = questions.into_iter().map(|(name, asked)| (name, Ask::Question(asked)));
    let sweeps = sweeps(traces).into_iter().map(|(name, asked)| (name, Ask::Sweep(asked)));
    let reports = traces.iter().flat_map(|(name, id)| {
        let report = |devices| {
            let path = format!("/v1/traces/{id}/report?devices={devices}");
            (format!("report-{name}-{devices}"), Ask::Get(path))
        };
        [report(4), report(8), (format!("trace-{name}"), Ask::Get(format!("/v1/traces/{id}")))]
    });
    let all = questions.chain(sweeps).chain(reports).chain(commands());
    all.map(|(name, ask)| RecordedCase { name, ask }).collect()
}
