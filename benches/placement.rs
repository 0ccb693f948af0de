//! Planning every layer of a model: EPLB and ours on the reference loads, one core.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use moe_gps_core::placement::best::{self, Combine, DeviceCost, GroupRule, Options, PlannedLoad};
use moe_gps_core::placement::{Groups, PlacementError, Shape, SlotMap, eplb, split};
use std::hint::black_box;

#[path = "../tests/it/eplb_fixtures.rs"]
#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "shared with the tests, which also read the reference maps"
)]
mod eplb_fixtures;

type Plans = Result<Vec<SlotMap>, PlacementError>;

/// What a decode step reads, in experts: a slot with 1000 tokens or more is surely active.
struct Reads;

impl DeviceCost for Reads {
    fn piece(&self, tokens: f64) -> [f64; 2] {
        [-(-tokens / 1000.0).exp_m1(), 0.0]
    }

    fn close(&self, sums: [f64; 2]) -> f64 {
        sums[0]
    }
}

fn placement(criterion: &mut Criterion) {
    let (a, b) = (eplb_fixtures::loads("a"), eplb_fixtures::loads("b"));
    // Splitting a step's tokens over the copies of their experts, one layer.
    if let Ok(shape) = Shape::new(256, 16, 288)
        && let Ok(map) = eplb::flat(&b[0], shape)
    {
        criterion.bench_function("split/256e_16d_288s", |bencher| {
            bencher.iter(|| black_box(split::optimal_shares(&map, black_box(&b[1]))));
        });
    }
    let mut bench = |name: &str, plan: &dyn Fn() -> Plans| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_batched(|| (), |()| black_box(plan()).map(drop), BatchSize::SmallInput);
        });
    };
    // (name, loads, experts, devices, slots)
    let flat = [
        ("a_8e_4d_12s_32l", &a, Shape::new(8, 4, 12)),
        ("b_256e_32d_288s_58l", &b, Shape::new(256, 32, 288)),
        ("c_256e_320d_320s_58l", &b, Shape::new(256, 320, 320)),
        ("c2_256e_320d_640s_58l", &b, Shape::new(256, 320, 640)),
    ];
    for (name, loads, shape) in flat {
        let Ok(shape) = shape else { continue };
        let options = Options::default();
        bench(&format!("eplb/{name}"), &|| loads.iter().map(|x| eplb::flat(x, shape)).collect());
        bench(&format!("best/{name}"), &|| {
            loads.iter().map(|x| best::plan(x, shape, &options)).collect()
        });
    }
    // Few experts: the first of every layer, as a calibrated question plans them.
    for (n_experts, n_devices, n_slots) in [(8, 4, 12), (8, 4, 16), (16, 8, 24), (64, 8, 72)] {
        let Ok(shape) = Shape::new(n_experts, n_devices, n_slots) else { continue };
        let few: Vec<&[f64]> = b.iter().map(|load| &load[..n_experts as usize]).collect();
        let name = format!("{n_experts}e_{n_devices}d_{n_slots}s_58l");
        bench(&format!("best/{name}"), &|| {
            few.iter().map(|x| best::plan(x, shape, &Options::default())).collect()
        });
        bench(&format!("decode/{name}"), &|| {
            let plan = |load: &&[f64]| {
                let cases = [PlannedLoad { load, weight: 1.0 }];
                best::plan_for(&cases, Combine::Worst, &Reads, shape, &Options::default())
            };
            few.iter().map(plan).collect()
        });
    }
    let Ok(shape) = Shape::new(256, 32, 288) else { return };
    let quick = Options { effort: 0, ..Options::default() };
    bench("quick/b_256e_32d_288s_58l", &|| {
        b.iter().map(|x| best::plan(x, shape, &quick)).collect()
    });
    let Ok(groups) = Groups::new(shape, 8, 4) else { return };
    bench("eplb/b_8_groups_4_nodes", &|| {
        b.iter().map(|x| eplb::hierarchical(x, shape, groups)).collect()
    });
    for (name, rule) in [("hard", GroupRule::Hard(groups)), ("soft", GroupRule::Soft(groups))] {
        let options = Options { groups: Some(rule), ..Options::default() };
        bench(&format!("best/b_8_groups_4_nodes_{name}"), &|| {
            b.iter().map(|x| best::plan(x, shape, &options)).collect()
        });
    }
}

criterion_group!(benches, placement);
criterion_main!(benches);
