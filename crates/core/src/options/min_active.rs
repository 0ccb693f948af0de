//! `replica_routing: min_active`: in decode every active expert is read from one replica alone.
//!
//! ```text
//! every expert with n_e > 0 tokens goes to one GPU g ∈ H_e:
//!   experts with the fewest hosts first, each to the host with the fewest active experts so far
//! layer = … + max_g F(x_{·,g}) + exchange(x) + t_route
//! t_route = gathering the choices of the step + the routing itself
//! ```
//!
//! - `n_e` tokens of expert e in the step, `H_e` the GPUs that hold it, `x_{e,g}` its tokens that GPU
//!   g takes (all or none), F a GPU's expert law (s), whose reads grow with the active experts `a_g`.
//! - Source: METRO (arXiv 2512.09277). No released engine has it, so it is priced in studies alone.
//! - Valid in decode: where every expert is active anyway it leaves tokens less balanced than a split.
//! - Worked number: expert A with 3 tokens on both of two GPUs, B and C with 2 on the first, D with 2
//!   and E with none on the second: split over replicas, 2.875 and 1.875 experts are expected to be
//!   read, with `min_active` 2 and 2.

use crate::options::{Balanced, Ground, ServingOption};
use crate::placement::SlotMap;
use crate::pricing::slot_shares::SlotShares;
use crate::system::{Communication, Phase, System};
use crate::units::Seconds;

/// The option.
pub static MIN_ACTIVE: ServingOption = ServingOption {
    id: "replica_routing",
    value: "min_active",
    mode: None,
    summary: "reads every active expert on one GPU alone, that with the fewest active experts",
    switches: &[],
    obstacle,
    overhead,
    // Of 41 µs across nodes, 38 to 44; the two parts within a node are stated without a range.
    overhead_band: 0.1,
    balance,
};

/// Within a node: gathering every GPU's choices and the routing itself, 8 and 16 µs on NVLink with 64
/// copies (arXiv 2512.09277).
const IN_A_NODE: Seconds = Seconds::new(24e-6);
/// Across nodes: 38 to 44 µs (the same).
const ACROSS_NODES: Seconds = Seconds::new(41e-6);

fn obstacle(system: &System, _patterns: &[Communication]) -> Option<String> {
    let why = if system.parallelism.expert_parallel < 2 {
        "one GPU holds every expert: there is nothing to choose"
    } else if system.workload.phase == Phase::Prefill {
        "in prefill every replica is active, and tokens are balanced instead"
    } else {
        return None;
    };
    Some(why.to_owned())
}

fn overhead(system: &System) -> Seconds {
    let group = system.parallelism.expert_parallel * system.parallelism.expert_tensor;
    if group > system.cluster.devices_per_node { ACROSS_NODES } else { IN_A_NODE }
}

fn balance(at: &Ground, placed: &SlotShares, counts: &[f64]) -> Balanced {
    let routed = placed.routed_to(&chosen_slots(&placed.map, counts));
    let slots = f64::from(placed.map.shape().n_devices());
    let mean = counts.iter().filter(|n| **n > 0.0).count() as f64 / slots;
    let most = |placed: &SlotShares| active(placed, counts).into_iter().fold(0.0, f64::max);
    Balanced {
        routed: at.costs.routed(&at.costs.loaded(&routed, counts)),
        busiest: [placed, &routed].map(|placed| if mean > 0.0 { most(placed) / mean } else { 1.0 }),
    }
}

/// The slot of every expert that takes all of its tokens.
#[must_use]
pub fn chosen_slots(map: &SlotMap, counts: &[f64]) -> Vec<usize> {
    let slots_per_device = map.shape().slots_per_device() as usize;
    let mut held: Vec<Vec<usize>> = vec![Vec::new(); counts.len()];
    for (slot, expert) in map.physical_to_logical().iter().enumerate() {
        held[*expert as usize].push(slot);
    }
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|expert| held[*expert].len());
    let mut active = vec![0_u32; map.shape().n_devices() as usize];
    let mut chosen = vec![0; counts.len()];
    for expert in order {
        let fewest = held[expert].iter().min_by_key(|slot| active[**slot / slots_per_device]);
        let Some(slot) = fewest else { continue };
        chosen[expert] = *slot;
        active[slot / slots_per_device] += u32::from(counts[expert] > 0.0);
    }
    chosen
}

/// Experts that every GPU is expected to read: a slot that takes the share s of n tokens is active
/// with chance 1 − (1 − s)^n.
#[must_use]
pub fn active(placed: &SlotShares, counts: &[f64]) -> Vec<f64> {
    let shares = placed.each_share(counts.len());
    let chance = |(expert, share): &(usize, f64)| 1.0 - (1.0 - share).powf(counts[*expert]);
    let chances: Vec<f64> = shares.iter().map(chance).collect();
    placed.devices().map(|slots| slots.iter().map(|part| chances[*part]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::comm::fixtures::system;
    use crate::placement::{Shape, eplb};
    use crate::pricing::layer::LayerCosts;
    use crate::system::ReplicaSplit;

    #[test]
    fn the_worked_number_comes_out() {
        let map = SlotMap::new(Shape::new(5, 2, 6).unwrap(), vec![0, 1, 2, 0, 3, 4]).unwrap();
        let counts = [3.0, 2.0, 2.0, 2.0, 0.0];
        let split = SlotShares::new(map.clone(), ReplicaSplit::Hashed, 2, &counts);
        let routed = split.routed_to(&chosen_slots(&map, &counts));
        assert_eq!(active(&routed, &counts), [2.0, 2.0]);
        assert_eq!(routed.device_tokens(&counts).collect::<Vec<_>>(), [4.0, 5.0]);
        // Of A's three tokens each GPU takes at least one with chance 7/8.
        let expected = active(&split, &counts);
        assert!((expected[0] - 2.875).abs() < 1e-12 && (expected[1] - 1.875).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn every_active_expert_is_read_once_and_keeps_its_tokens(
            counts in prop::collection::vec(0..9_u32, 12), more in 0..4_u32,
        ) {
            let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            let map = eplb::flat(&[1.0; 12], Shape::new(12, 4, 12 + 4 * more).unwrap()).unwrap();
            let placed = SlotShares::new(map, ReplicaSplit::Hashed, 4, &counts);
            let routed = placed.routed_to(&chosen_slots(&placed.map, &counts));
            let read: f64 = active(&routed, &counts).iter().sum();
            let n_active = counts.iter().filter(|n| **n > 0.0).count() as f64;
            prop_assert!((read - n_active).abs() < 1e-9);
            let kept: f64 = routed.device_tokens(&counts).sum();
            prop_assert!((kept - counts.iter().sum::<f64>()).abs() < 1e-9);
            let most = |placed: &SlotShares| active(placed, &counts).into_iter().fold(0.0, f64::max);
            prop_assert!(most(&routed) <= most(&placed) + 1.0 + 1e-9);
            if more == 0 {
                prop_assert_eq!(&routed, &placed);
            }
        }
    }

    #[test]
    fn it_is_for_decode() {
        let prefill = system(4, 4, 512);
        assert!(obstacle(&prefill, &[]).unwrap().contains("prefill"));
        let mut decode = prefill.clone();
        decode.workload.phase = Phase::Decode;
        assert_eq!(obstacle(&decode, &[]), None);
        let costs = LayerCosts::new(&decode, Communication::AllToAllLowLatency, None, 32.0);
        assert!(costs.is_some());
        assert!((overhead(&decode).get() - 24e-6).abs() < 1e-12);
    }
}
