//! What holds for every plan, whatever the load.

use moe_gps_core::placement::balance::{Balance, device_loads};
use moe_gps_core::placement::best::{
    self, Combine, DeviceCost, GroupRule, Options, PlannedLoad, Tokens,
};
use moe_gps_core::placement::moves::Moves;
use moe_gps_core::placement::{Groups, Shape, SlotMap, eplb, paper_greedy};
use proptest::prelude::*;

const EXPERTS: u32 = 16;
const DEVICES: u32 = 4;

/// Skewed loads of whole tokens, some experts idle.
fn tokens() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec((0..12_u32, 0..100_u64).prop_map(|(e, x)| x << e), EXPERTS as usize)
}

fn as_load(tokens: &[u64]) -> Vec<f64> {
    tokens.iter().map(|&x| x as f64).collect()
}

fn shape(slots_per_device: u32) -> Shape {
    Shape::new(EXPERTS, DEVICES, DEVICES * slots_per_device).unwrap()
}

fn max_of(map: &SlotMap, load: &[f64]) -> f64 {
    Balance::of_map(map, load).max
}

/// The lower of EPLB's and Algorithm 1's busiest loads, duplicate-free maps only.
fn best_rival(tokens: &[u64], shape: Shape) -> f64 {
    let load = as_load(tokens);
    let greedy = paper_greedy::plan(tokens, shape, u32::MAX).unwrap().to_slot_map(&load).unwrap();
    [eplb::flat(&load, shape).unwrap(), greedy]
        .iter()
        .filter(|map| map.same_device_duplicates() == 0)
        .map(|map| max_of(map, &load))
        .fold(f64::INFINITY, f64::min)
}

/// Weights are read once per active expert; below 64 tokens nothing else counts.
struct Reads;

impl DeviceCost for Reads {
    fn piece(&self, tokens: f64) -> [f64; 2] {
        [tokens / 64.0, f64::from(u8::from(tokens > 0.0))]
    }

    fn close(&self, sums: [f64; 2]) -> f64 {
        sums[0].max(sums[1])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ours_is_never_worse_than_a_duplicate_free_rival(tokens in tokens(), slots in 4..9_u32) {
        let (load, shape) = (as_load(&tokens), shape(slots));
        let map = best::plan(&load, shape, &Options::default()).unwrap();
        prop_assert_eq!(map.same_device_duplicates(), 0);
        prop_assert!(SlotMap::new(shape, map.physical_to_logical().to_vec()).is_ok());
        let total: f64 = load.iter().sum();
        prop_assert!((device_loads(&map, &load).iter().sum::<f64>() - total).abs() <= 1e-9 * total);
        prop_assert!(max_of(&map, &load) <= best_rival(&tokens, shape) * (1.0 + 1e-9));
    }

    #[test]
    fn groups_are_kept(tokens in tokens(), slots in 4..9_u32) {
        let (load, shape) = (as_load(&tokens), shape(slots));
        let groups = Groups::new(shape, 4, 2).unwrap();
        let plan = |rule| {
            best::plan(&load, shape, &Options { groups: Some(rule), ..Options::default() }).unwrap()
        };
        let (hard, soft) = (plan(GroupRule::Hard(groups)), plan(GroupRule::Soft(groups)));
        prop_assert_eq!(hard.cross_node_replicas(groups), 0);
        prop_assert_eq!((hard.same_device_duplicates(), soft.same_device_duplicates()), (0, 0));
        let eplb = eplb::hierarchical(&load, shape, groups).unwrap();
        if eplb.same_device_duplicates() == 0 {
            let limit = max_of(&eplb, &load) * (1.0 + 1e-9);
            prop_assert!(max_of(&hard, &load) <= limit && max_of(&soft, &load) <= limit);
        }
        // Some node holds all experts of each group.
        let whole = |group: u32| soft.physical_to_logical().chunks(shape.n_slots() as usize / 2)
            .any(|node| (4 * group..4 * group + 4).all(|e| node.contains(&e)));
        prop_assert!((0..4).all(whole));
    }

    #[test]
    fn more_slots_allowed_never_hurt(tokens in tokens(), most in 4..8_u32) {
        let load = as_load(&tokens);
        let plan = |most| {
            best::plan_up_to(&load, EXPERTS, DEVICES, most, &Options::default()).unwrap()
        };
        prop_assert!(max_of(&plan(most + 1), &load) <= max_of(&plan(most), &load));
    }

    #[test]
    fn more_copies_allowed_never_hurt(tokens in tokens(), most in 2..5_u32, slots in 4..7_u32) {
        let load = as_load(&tokens);
        let few = &load[..8];
        let plan = |load: &[f64], shape, most| {
            let options = Options { max_copies: Some(most), ..Options::default() };
            best::plan(load, shape, &options).map(|map| max_of(&map, load)).ok()
        };
        let of_few = |n_devices, slots| (few, Shape::new(8, n_devices, slots).unwrap());
        for (load, shape) in
            [(&load[..], shape(slots)), of_few(8, 16), of_few(4, 12), of_few(4, 16), of_few(8, 32)]
        {
            if let (Some(more), Some(less)) = (plan(load, shape, most + 1), plan(load, shape, most)) {
                prop_assert!(more <= less * (1.0 + 1e-9), "{more} {less}");
            }
        }
    }

    #[test]
    fn ours_is_never_worse_than_a_rival_with_as_many_copies(
        tokens in tokens(), n_devices in 2..9_u32, slots in 1..7_u32, most in 1..9_u32,
    ) {
        let (tokens, load) = (&tokens[..8], as_load(&tokens[..8]));
        prop_assume!(n_devices * slots >= 8);
        let shape = Shape::new(8, n_devices, n_devices * slots).unwrap();
        let options = Options { max_copies: Some(most), ..Options::default() };
        let Ok(map) = best::plan(&load, shape, &options) else { return Ok(()) };
        prop_assert!(SlotMap::new(shape, map.physical_to_logical().to_vec()).is_ok());
        prop_assert_eq!(map.same_device_duplicates(), 0);
        prop_assert!(map.replicas().iter().all(|&r| r <= most));
        let greedy = paper_greedy::plan(tokens, shape, most).unwrap().to_slot_map(&load).unwrap();
        for rival in [eplb::flat(&load, shape).unwrap(), greedy] {
            let fair = rival.same_device_duplicates() == 0
                && rival.replicas().iter().all(|&r| r <= most);
            if fair {
                prop_assert!(max_of(&map, &load) <= max_of(&rival, &load) * (1.0 + 1e-9));
            }
        }
        prop_assert_eq!(best::plan(&load, shape, &options).unwrap(), map);
    }

    #[test]
    fn the_copies_allowed_bound_every_expert(tokens in tokens(), most in 2..4_u32) {
        let options = Options { max_copies: Some(most), ..Options::default() };
        let map = best::plan(&as_load(&tokens), shape(6), &options).unwrap();
        prop_assert!(map.replicas().iter().all(|&r| r <= most));
    }

    #[test]
    fn a_current_map_that_is_as_good_stays(tokens in tokens(), slots in 4..7_u32) {
        let (load, shape) = (as_load(&tokens), shape(slots));
        let current = best::plan(&load, shape, &Options::default()).unwrap();
        let options = Options { current: Some(&current), move_tolerance: 0.0, ..Options::default() };
        let map = best::plan(&load, shape, &options).unwrap();
        prop_assert!(max_of(&map, &load) <= max_of(&current, &load) * (1.0 + 1e-8));
        if max_of(&map, &load) >= max_of(&current, &load) * (1.0 - 1e-9) {
            prop_assert_eq!(Moves::between(&current, &map).total(), 0);
        }
    }

    #[test]
    fn the_worst_of_several_loads_is_no_worse_than_a_plan_for_their_sum(
        a in tokens(), b in tokens(),
    ) {
        let (a, b) = (as_load(&a), as_load(&b));
        prop_assume!(a.iter().sum::<f64>() > 0.0 && b.iter().sum::<f64>() > 0.0);
        let cases = [&a, &b].map(|load| PlannedLoad { load, weight: 1.0 });
        let worst = |map: &SlotMap| {
            cases.iter().map(|c| Balance::of_map(map, c.load).imbalance()).fold(1.0, f64::max)
        };
        let options = Options::default();
        let map = best::plan_for(&cases, Combine::Worst, &Tokens, shape(5), &options).unwrap();
        let (total_a, total_b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
        let sum: Vec<f64> = a.iter().zip(&b).map(|(x, y)| x / total_a + y / total_b).collect();
        let of_sum = best::plan(&sum, shape(5), &options).unwrap();
        prop_assert!(worst(&map) <= worst(&of_sum) * (1.0 + 1e-9));
    }

    #[test]
    fn decode_counts_what_is_read(tokens in tokens(), n_devices in 2..9_u32, slots in 2..7_u32) {
        let few = Shape::new(8, n_devices, n_devices * slots);
        for (tokens, shape) in [(&tokens[..], Ok(shape(5))), (&tokens[..8], few)] {
            let (load, Ok(shape)) = (as_load(tokens), shape) else { continue };
            let cases = [PlannedLoad { load: &load, weight: 1.0 }];
            let time = |map: &SlotMap| {
                let replicas = map.replicas();
                let of = |held: &[u32]| Reads.close(held.iter().fold([0.0; 2], |sums, &e| {
                    let piece = Reads.piece(load[e as usize] / f64::from(replicas[e as usize]));
                    [sums[0] + piece[0], sums[1] + piece[1]]
                }));
                map.devices().map(of).fold(0.0, f64::max)
            };
            let options = Options::default();
            let Ok(map) = best::plan_for(&cases, Combine::Worst, &Reads, shape, &options) else {
                continue;
            };
            prop_assert_eq!(map.same_device_duplicates(), 0);
            prop_assert!(SlotMap::new(shape, map.physical_to_logical().to_vec()).is_ok());
            let greedy = paper_greedy::plan(tokens, shape, u32::MAX).unwrap();
            for rival in [
                best::plan(&load, shape, &options).unwrap(),
                eplb::flat(&load, shape).unwrap(),
                greedy.to_slot_map(&load).unwrap(),
            ] {
                if rival.same_device_duplicates() == 0 {
                    prop_assert!(time(&map) <= time(&rival) * (1.0 + 1e-9));
                }
            }
        }
    }

    #[test]
    fn renaming_experts_renames_eplbs_plan(
        load in prop::collection::vec(0.0..1e6_f64, EXPERTS as usize),
        slots in 4..7_u32,
        turn in 1..EXPERTS as usize,
    ) {
        let sorted = |load: &[f64]| {
            let mut loads = device_loads(&eplb::flat(load, shape(slots)).unwrap(), load);
            loads.sort_by(f64::total_cmp);
            loads
        };
        let mut renamed = load.clone();
        renamed.rotate_left(turn);
        for (x, y) in sorted(&load).iter().zip(sorted(&renamed)) {
            prop_assert!((x - y).abs() <= 1e-6 * x.max(1.0));
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_way_out() {
    let load = [1.0; EXPERTS as usize];
    let crowded = Shape::new(EXPERTS, DEVICES, DEVICES * 17).unwrap();
    let said = best::plan(&load, crowded, &Options::default()).unwrap_err().to_string();
    assert!(said.contains("allow duplicates"), "{said}");
    let options = Options { allow_duplicates: true, ..Options::default() };
    assert!(best::plan(&load, crowded, &options).is_ok());
    let options = Options { max_copies: Some(1), ..Options::default() };
    let said = best::plan(&load, shape(5), &options).unwrap_err().to_string();
    assert!(said.contains("cannot fill 20 slots"), "{said}");
    assert!(best::plan_for(&[], Combine::Mean, &Tokens, shape(4), &Options::default()).is_err());
}
