//! Placement against DeepSeek's EPLB: the reference maps, and the balance to beat.

use crate::eplb_fixtures::{loads, maps};
use moe_gps_core::placement::balance::{Balance, OverLayers, device_loads};
use moe_gps_core::placement::{Groups, Shape, SlotMap, eplb};

fn shape_of(case: char) -> Shape {
    match case {
        'a' => Shape::new(8, 4, 12).unwrap(),
        _ => Shape::new(256, 32, 288).unwrap(),
    }
}

/// Replica counts and per-device loads of our EPLB equal those of a reference output.
fn check_reference(input: char, case: &str, groups: Groups) -> Vec<SlotMap> {
    let (shape, loads) = (shape_of(input), loads(&input.to_string()));
    let ours: Vec<SlotMap> =
        loads.iter().map(|load| eplb::hierarchical(load, shape, groups).unwrap()).collect();
    for (layer, ((reference, ours), load)) in
        maps(case).into_iter().zip(&ours).zip(&loads).enumerate()
    {
        let reference = SlotMap::new(shape, reference).unwrap();
        assert_eq!(reference.replicas(), ours.replicas(), "{case}, layer {layer}");
        let (theirs, ours) = (device_loads(&reference, load), device_loads(ours, load));
        for (device, (x, y)) in theirs.iter().zip(&ours).enumerate() {
            assert!((x - y).abs() <= 1e-6 * x, "{case}, layer {layer}, device {device}: {x} {y}");
        }
    }
    ours
}

fn over_layers(plans: &[SlotMap], loads: &[Vec<f64>]) -> OverLayers {
    let layers: Vec<Balance> =
        plans.iter().zip(loads).map(|(map, load)| Balance::of_map(map, load)).collect();
    OverLayers::of(&layers)
}

#[test]
fn eplb_is_slot_identical_on_the_small_input() {
    let ours: Vec<Vec<u32>> = check_reference('a', "a", Groups::FLAT)
        .into_iter()
        .map(SlotMap::into_physical_to_logical)
        .collect();
    assert_eq!(ours, maps("a"));
}

#[test]
fn eplb_loads_every_device_like_the_original_on_the_large_input() {
    let plans = check_reference('b', "b_flat", Groups::FLAT);
    assert_eq!(plans.iter().map(SlotMap::same_device_duplicates).sum::<usize>(), 42);
    let over = over_layers(&plans, &loads("b"));
    assert!((over.weighted - 1.0014).abs() < 5e-5, "{over:?}");
    let groups = Groups::new(shape_of('b'), 8, 4).unwrap();
    let plans = check_reference('b', "b_hierarchical", groups);
    let over = over_layers(&plans, &loads("b"));
    assert!((over.weighted - 1.144).abs() < 5e-4, "{over:?}");
    assert!((over.worst - 1.529).abs() < 5e-4, "{over:?}");
    assert!(plans.iter().all(|map| map.cross_node_replicas(groups) == 0));
}
