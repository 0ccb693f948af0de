//! How fast a question is answered: by formulas with flip points, and by replaying a trace.
//!
//! `advise` is the whole use case without HTTP and database: question as JSON in, checked,
//! answer as JSON out. `replay` reports routed tokens (token × layer × k) a second over all four
//! strategies, read from the stored form; the traces are made by seeded streams.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::cell::LazyCell;
use std::fs::File;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use moe_gps::app::advise::check;
use moe_gps::app::advisor::{Advice, TraceFacts, Unobserved};
use moe_gps::app::question::read;
use moe_gps::app::references::References;
use moe_gps_core::formats::trace::stored::{RouteWriter, StoredTrace};
use moe_gps_core::seed::{Purpose, stream};
use moe_gps_core::trace::{TraceHeader, TraceKind};
use rand::RngExt as _;
use serde_json::{Value, json};

const PAPER: &str = include_str!("../examples/questions/paper-mixtral-a100.json");

/// Mixtral on four H100, a scalar skewness, predictors as given.
fn calibrated(predictors: Option<Value>) -> Value {
    let mut question = json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512, "dtype": "bf16"},
        "routing": {"skewness": 1.39}
    });
    if let Some(predictors) = predictors {
        question["predictors"] = predictors;
    }
    question
}

/// The answer to a question.
fn answer(request: &Value, references: &References) -> Advice {
    let question = check(read(request.clone()), references).expect("answerable");
    (question.work)(&Unobserved).expect("an answer")
}

/// DeepSeek-V3's decode on 16 H100 and Kimi-K2's prompts on 64 H200.
fn fleets() -> [(&'static str, Value); 2] {
    let question = |model: &str, device: &str, devices: u32, workload: Value| {
        json!({
            "model": model,
            "cluster": {
                "device": device, "devices": devices, "nodes": devices / 8,
                "link": "nvlink4", "inter_node_link": "ib400",
            },
            "workload": workload,
            "routing": {"skewness": 3},
            "engine": {"name": "sglang"},
        })
    };
    let decode = json!({"phase": "decode", "batch_size": 256, "kv_length": 4096});
    let prompts = json!({"phase": "prefill", "batch_size": 64, "sequence_length": 4096});
    [
        ("deepseek_v3_decode_ep16", question("deepseek-v3", "h100-sxm", 16, decode)),
        ("kimi_k2_prefill_ep64", question("kimi-k2", "h200-sxm", 64, prompts)),
    ]
}

/// The questions fleets ask, with and without flip points.
fn of_fleets(c: &mut Criterion) {
    let references = References::default();
    let mut group = c.benchmark_group("fleets");
    group.sample_size(10);
    let mixtral = ("mixtral", calibrated(None));
    for (name, request) in fleets().into_iter().chain([mixtral]) {
        for flips in [false, true] {
            let mut request = request.clone();
            request["flip_points"] = json!(flips);
            let named = if flips { "with_flip_points" } else { "without_flip_points" };
            group.bench_function(BenchmarkId::new(name, named), |b| {
                b.iter(|| black_box(answer(&request, &references)));
            });
        }
    }
    group.finish();
}

fn analytic(c: &mut Criterion) {
    let paper: Value = serde_json::from_str(PAPER).expect("JSON");
    let point = json!([{"name": "ffn", "accuracy": 0.85, "overhead_s": 0.000_153}]);
    let curve = json!([{"name": "family", "points": [
        {"accuracy": 0.7, "overhead_s": 1e-5}, {"accuracy": 0.9, "overhead_s": 1e-4}
    ]}]);
    let mut decode = calibrated(Some(point.clone()));
    decode["workload"] = json!({"phase": "decode", "batch_size": 64, "kv_length": 2048});
    let mut engine = calibrated(None);
    engine["engine"] = json!({"name": "vllm"});
    let references = References::default();
    let mut group = c.benchmark_group("advise");
    for (name, request) in [
        ("paper", paper),
        ("calibrated_stated", calibrated(Some(point))),
        ("calibrated_assumed", calibrated(None)),
        ("calibrated_curve", calibrated(Some(curve))),
        ("calibrated_decode", decode),
        ("calibrated_vllm", engine),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(answer(&request, &references))));
    }
    let request = calibrated(None);
    group.bench_function("check_only", |b| {
        b.iter(|| black_box(check(read(request.clone()), &references).expect("answerable")));
    });
    group.finish();
}

/// Shape of a model's routing.
#[derive(Clone, Copy)]
struct Routing {
    n_layers: u16,
    experts: u16,
    top_k: u16,
}

/// A stored trace of `n_tokens` tokens in sequences of 512, skewed towards low ids.
fn stored(directory: &Path, routing: Routing, n_tokens: u32) -> TraceFacts {
    let Routing { n_layers, experts, top_k } = routing;
    let path = directory.join(format!("{n_layers}-{experts}-{n_tokens}"));
    let file = File::create_new(&path).expect("a file");
    let scratch = || tempfile::tempfile();
    let (layers, k) = (usize::from(n_layers), usize::from(top_k));
    let mut writer =
        RouteWriter::new(file, &scratch, layers, k, u32::from(experts)).expect("a writer");
    let mut rng = stream(1, Purpose::LoadSample, 0);
    let mut ids: Vec<u16> = Vec::new();
    for token in 0..n_tokens {
        ids.clear();
        for _ in 0..layers {
            let start = ids.len();
            while ids.len() < start + k {
                let u: f32 = rng.random();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a share of a small number"
                )]
                let id = (u.powf(1.2) * f32::from(experts)) as u16;
                if id < experts && !ids[start..].contains(&id) {
                    ids.push(id);
                }
            }
        }
        writer.push(token % 512, &ids).expect("room");
        if token % 512 == 511 {
            writer.end_sequence().expect("room");
        }
    }
    let header = TraceHeader {
        kind: TraceKind::Routes,
        digest: [0; 32],
        tokens: 0,
        sequences: 0,
        steps: 0,
        layers: (0..n_layers).collect(),
        experts: u32::from(experts),
        top_k: None,
        has_token_ids: false,
        has_positions: false,
        experts_inferred: false,
        repeated_rows: 0,
        longest_repeat: 0,
        notes: Vec::new(),
    };
    writer.finish(header).expect("room");
    let trace = File::open(&path).and_then(StoredTrace::from_file).expect("a trace");
    TraceFacts::new("tr_bench", trace.header(), path, None, None)
}

fn replay(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let mixtral = Routing { n_layers: 32, experts: 8, top_k: 2 };
    let deepseek = Routing { n_layers: 58, experts: 256, top_k: 8 };
    let point = json!([{"name": "ffn", "accuracy": 0.85, "overhead_s": 1e-5}]);
    let cases = [
        ("mixtral_prefill_512", mixtral, 1 << 17, "mixtral-8x7b", 4, (1, 512)),
        ("mixtral_prefill_8192", mixtral, 1 << 18, "mixtral-8x7b", 4, (16, 512)),
        ("deepseek_prefill_16384", deepseek, 1 << 17, "deepseek-v3", 32, (32, 512)),
        ("deepseek_decode_64", deepseek, 1 << 16, "deepseek-v3", 32, (64, 0)),
    ];
    let mut group = c.benchmark_group("replay");
    group.sample_size(10);
    for (name, routing, n_tokens, model, devices, (batch, length)) in cases {
        let workload = if length > 0 {
            json!({"phase": "prefill", "batch_size": batch, "sequence_length": length})
        } else {
            json!({"phase": "decode", "batch_size": batch, "kv_length": 2048})
        };
        let cluster = if devices > 8 {
            json!({"device": "h200-sxm", "devices": devices, "link": "nvlink4",
                   "nodes": 4, "inter_node_link": "ib400"})
        } else {
            json!({"device": "h100-sxm", "devices": devices, "link": "nvlink4"})
        };
        let request = json!({
            "model": model, "cluster": cluster, "workload": workload, "method": "simulated",
            "routing": {"trace_id": "tr_bench", "train_fraction": 0.25}, "predictors": point,
        });
        // Made only where the case is run.
        let references = LazyCell::new(|| {
            let facts = stored(directory.path(), routing, n_tokens);
            References { traces: [(facts.id.clone(), facts)].into(), ..References::default() }
        });
        let routed =
            u64::from(n_tokens / 4 * 3) * u64::from(routing.n_layers) * u64::from(routing.top_k);
        group.throughput(Throughput::Elements(routed));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| black_box(answer(&request, &references)));
        });
    }
    group.finish();
}

criterion_group!(benches, of_fleets, analytic, replay);
criterion_main!(benches);
