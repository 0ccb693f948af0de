//! Our planner on the reference loads: the balance to reach.

use crate::eplb_fixtures::loads;
use moe_gps_core::placement::balance::{Balance, OverLayers};
use moe_gps_core::placement::best::{self, GroupRule, Options};
use moe_gps_core::placement::{Groups, Shape, SlotMap};

fn plans(options: &Options) -> (OverLayers, Vec<SlotMap>) {
    let shape = Shape::new(256, 32, 288).unwrap();
    let loads = loads("b");
    let plans: Vec<SlotMap> =
        loads.iter().map(|load| best::plan(load, shape, options).unwrap()).collect();
    assert!(plans.iter().all(|map| map.same_device_duplicates() == 0));
    let layers: Vec<Balance> =
        plans.iter().zip(&loads).map(|(map, load)| Balance::of_map(map, load)).collect();
    (OverLayers::of(&layers), plans)
}

#[test]
fn the_flat_case_beats_eplb_without_duplicates() {
    let (over, _) = plans(&Options::default());
    println!("{over:?}");
    assert!(over.weighted <= 1.0014, "{over:?}");
}

#[test]
fn hard_groups_come_close_to_their_bound() {
    let groups = Groups::new(Shape::new(256, 32, 288).unwrap(), 8, 4).unwrap();
    let (over, plans) =
        plans(&Options { groups: Some(GroupRule::Hard(groups)), ..Options::default() });
    println!("{over:?}");
    assert!(over.weighted <= 1.130 && over.worst <= 1.52, "{over:?}");
    assert!(plans.iter().all(|map| map.cross_node_replicas(groups) == 0));
}

#[test]
fn soft_groups_are_balanced_like_the_flat_case() {
    let groups = Groups::new(Shape::new(256, 32, 288).unwrap(), 8, 4).unwrap();
    let (over, plans) =
        plans(&Options { groups: Some(GroupRule::Soft(groups)), ..Options::default() });
    let cross: usize = plans.iter().map(|map| map.cross_node_replicas(groups)).sum();
    println!("{over:?} {cross}");
    assert!(over.weighted <= 1.005, "{over:?}");
    // Copies are 32 a layer: no more than these may have left.
    assert!(cross <= 32 * plans.len(), "{cross}");
}

#[test]
fn the_small_case_with_a_known_optimum_is_solved() {
    let load = [600.0, 560.0, 120.0, 120.0, 20.0, 10.0, 10.0, 10.0];
    let shape = Shape::new(8, 8, 16).unwrap();
    let map = best::plan(&load, shape, &Options::default()).unwrap();
    assert!((Balance::of_map(&map, &load).max - 590.0 / 3.0).abs() < 1e-9);
}
