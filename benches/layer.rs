//! One layer of one step under all four strategies, given loads and plans.
//!
//! `bound` starts from the question's system: every law is bound and what routing does not
//! change (attention, all-reduce, router, shared experts) is priced too. `loads` prices what
//! a strategy changes for a further step, as a search and a replay do.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use moe_gps::app::question::read;
use moe_gps::app::references::References;
use moe_gps_core::catalog::Catalog;
use moe_gps_core::cost::experts::ExpertWork;
use moe_gps_core::placement::{Shape, SlotMap, eplb};
use moe_gps_core::pricing::layer::LayerCosts;
use moe_gps_core::pricing::slot_shares::SlotShares;
use moe_gps_core::system::{Communication, ReplicaSplit, System};
use moe_gps_core::units::Seconds;
use serde_json::json;

/// A model on the devices of one node of H200, under vLLM.
fn system(model: &str, devices: u32, tokens: u64, data: bool) -> System {
    let (tensor, data) = if data { (1, devices) } else { (devices, 1) };
    let question = json!({
        "model": model,
        "cluster": {"device": "h200-sxm", "devices": devices, "link": "nvlink4"},
        "parallelism": {
            "attention_tensor": tensor, "attention_data": data, "expert_parallel": devices,
        },
        "workload": {"phase": "prefill", "tokens_per_step": tokens, "dtype": "bf16"},
        "engine": {"name": "vllm"},
        "routing": {"skewness": 1.0},
    });
    let catalog = Catalog::embedded();
    let asked = read(question).answerable(catalog, &References::default()).expect("answerable");
    asked.question.system
}

/// Expert after expert; the same moved; copies for a forecast; copies for the step itself.
fn placements(counts: &[f64], devices: u32) -> [SlotShares; 4] {
    let experts = u32::try_from(counts.len()).expect("few experts");
    let shape = |slots| Shape::new(experts, devices, slots).expect("a shape");
    let forecast: Vec<f64> = counts.iter().rev().copied().collect();
    let plan = |load: &[f64], slots| eplb::flat(load, shape(slots)).expect("a plan");
    [
        SlotMap::contiguous(experts, devices).expect("a map"),
        plan(counts, experts),
        plan(&forecast, experts + devices),
        plan(counts, experts + devices),
    ]
    .map(|map| SlotShares::new(map, ReplicaSplit::Hashed, devices, counts))
}

/// The latency of the layer under every placement, added up.
fn latencies(
    costs: &LayerCosts,
    counts: &[f64],
    placed: &[SlotShares; 4],
    works: &mut Vec<ExpertWork>,
) -> Seconds {
    let loaded = costs.loaded_each(counts, placed.iter(), works);
    loaded.map(|loaded| costs.terms(&costs.routed(&loaded)).total()).sum()
}

fn all_strategies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layer");
    for (name, model, devices, tokens, pattern) in [
        ("mixtral", "mixtral-8x7b", 4, 512, Communication::Replicated),
        ("deepseek_v3", "deepseek-v3", 8, 4096, Communication::AllToAllNormal),
    ] {
        let data = pattern == Communication::AllToAllNormal;
        let system = system(model, devices, tokens, data);
        let experts = f64::from(system.model.experts.routed);
        let pairs = tokens as f64 * f64::from(system.model.experts.top_k);
        // Shares fall evenly from 1.5 times the mean to half of it.
        let counts: Vec<f64> = (0..system.model.experts.routed)
            .map(|e| pairs / experts * (1.5 - f64::from(e) / (experts - 1.0)))
            .collect();
        let placed = placements(&counts, devices);
        let mut works = Vec::new();
        let bind = || LayerCosts::new(&system, pattern, None, tokens as f64).expect("a stack");
        group.bench_function(format!("bound/{name}"), |b| {
            b.iter(|| latencies(&bind(), black_box(&counts), black_box(&placed), &mut works));
        });
        let costs = bind();
        group.bench_function(format!("loads/{name}"), |b| {
            b.iter(|| latencies(&costs, black_box(&counts), black_box(&placed), &mut works));
        });
    }
    group.finish();
}

criterion_group!(benches, all_strategies);
criterion_main!(benches);
