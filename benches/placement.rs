//! Planning every layer of a model: EPLB and ours on the reference loads, one core.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use moe_gps::domain::placement::best::{self, GroupRule, Options};
use moe_gps::domain::placement::{Groups, PlacementError, Shape, SlotMap, eplb};
use std::hint::black_box;

#[path = "../tests/it/eplb_fixtures.rs"]
#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "shared with the tests, which also read the reference maps"
)]
mod eplb_fixtures;

type Plans = Result<Vec<SlotMap>, PlacementError>;

fn placement(criterion: &mut Criterion) {
    let (a, b) = (eplb_fixtures::loads("a"), eplb_fixtures::loads("b"));
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
    let Ok(shape) = Shape::new(256, 32, 288) else { return };
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
