//! How fast a decision map is drawn: 100 × 100 cells, in both presets.
//!
//! The whole use case without HTTP: request as JSON in, answer out, on every core. The aim is
//! 100 ms on two cores.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use moe_gps::app::references::References;
use moe_gps::app::sweep::{compute, read};
use moe_gps_core::cancel::Cancel;
use serde::Serialize;
use serde_json::{Value, json};

const PAPER: &str = include_str!("../examples/questions/paper-mixtral-a100.json");

/// Mixtral on four H100, calibrated.
fn calibrated() -> Value {
    json!({
        "model": "mixtral-8x7b",
        "cluster": {"device": "h100-sxm", "devices": 4, "link": "nvlink4"},
        "workload": {"phase": "prefill", "batch_size": 1, "sequence_length": 512, "dtype": "bf16"},
        "routing": {"skewness": 1.39},
        "predictors": [{"name": "ffn", "accuracy": 0.85, "overhead_s": 0.000_153}]
    })
}

/// DeepSeek-V3's decode on 16 H100.
fn deepseek() -> Value {
    json!({
        "model": "deepseek-v3",
        "cluster": {
            "device": "h100-sxm", "devices": 16, "nodes": 2,
            "link": "nvlink4", "inter_node_link": "ib400",
        },
        "workload": {"phase": "decode", "batch_size": 256, "kv_length": 4096},
        "routing": {"skewness": 3},
        "engine": {"name": "sglang"}
    })
}

fn axis<V: Serialize>(parameter: &str, at: impl Fn(f64) -> V) -> Value {
    let values: Vec<V> = (0..100).map(|step| at(f64::from(step) / 99.0)).collect();
    json!({"parameter": parameter, "values": values})
}

fn maps(c: &mut Criterion) {
    let skewness = axis("skewness", |share| 1.0 + 2.0 * share);
    let link = axis("link_bandwidth_bytes_per_s", |share| 1e9 * 1000.0_f64.powf(share));
    let whole = |value: f64| format!("{value:.0}").parse::<u64>().expect("a whole number");
    let tokens = axis("tokens_per_step", |share| whole(16.0 * 1000.0_f64.powf(share)));
    let accuracy = axis("predictor_accuracy", |share| share);
    let paper: Value = serde_json::from_str(PAPER).expect("JSON");
    let mut group = c.benchmark_group("sweep");
    group.sample_size(10);
    for (name, question, axes) in [
        ("paper_skewness_link", paper, [&skewness, &link]),
        ("calibrated_skewness_link", calibrated(), [&skewness, &link]),
        ("calibrated_tokens_link", calibrated(), [&tokens, &link]),
        ("calibrated_skewness_accuracy", calibrated(), [&skewness, &accuracy]),
        ("calibrated_skewness_tokens", calibrated(), [&skewness, &tokens]),
        ("deepseek_skewness_tokens", deepseek(), [&skewness, &tokens]),
    ] {
        let request = json!({"question": question, "axes": axes});
        group.bench_function(name, |b| {
            let none = References::default();
            b.iter(|| {
                let asked = read(&request);
                black_box(compute(&asked, &none, Cancel::NEVER).expect("an answer"))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, maps);
criterion_main!(benches);
