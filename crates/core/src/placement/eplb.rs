//! DeepSeek's EPLB: replicate the experts with the largest share, then pack replicas.
//!
//! Three greedy steps: expert groups to nodes, heaviest first; in each node one more
//! replica at a time for the expert with the largest load / replicas; replicas to devices,
//! largest share first, each to the lightest device with room. Ties go to the lower id.
//! The flat case is one group on one node. Not handled by it: two replicas of one expert
//! on one device (they happen), several loads, moves from a current map.
//!
//! Source: <https://github.com/deepseek-ai/EPLB> (`eplb.py`, MIT licence), read and
//! rewritten with heaps. Shares and device loads are `f32`, as there: rounding decides near-ties.

use crate::placement::keys::ascending;
use crate::placement::{Groups, PlacementError, Shape, SlotMap, pack};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// EPLB's map of one layer over one group on one node (its global policy).
///
/// # Example
/// ```
/// use moe_gps_core::placement::{Shape, eplb};
/// let shape = Shape::new(2, 3, 3)?;
/// let map = eplb::flat(&[300.0, 100.0], shape)?;
/// assert_eq!(map.physical_to_logical(), [0, 1, 0]);
/// # Ok::<(), moe_gps_core::placement::PlacementError>(())
/// ```
pub fn flat(load: &[f64], shape: Shape) -> Result<SlotMap, PlacementError> {
    hierarchical(load, shape, Groups::FLAT)
}

/// EPLB's map of one layer with groups of experts kept on nodes.
///
/// Needs R/M replicas per node to be whole, so N/M devices of P/N slots each.
pub fn hierarchical(load: &[f64], shape: Shape, groups: Groups) -> Result<SlotMap, PlacementError> {
    shape.check_load(load)?;
    let nodes = groups.n_nodes() as usize;
    let node_slots = shape.n_slots() as usize / nodes;
    let node_devices = shape.n_devices() as usize / nodes;
    let slots_per_device = shape.slots_per_device() as usize;
    let mut slots = vec![0_u32; shape.n_slots() as usize];
    let by_node = experts_by_node(load, shape, groups);
    let node_experts = by_node.len() / nodes;
    let mut shares = Vec::with_capacity(node_slots);
    for (node, experts) in by_node.chunks_exact(node_experts).enumerate() {
        let node_load: Vec<f32> = experts.iter().map(|&e| single(load[e as usize])).collect();
        let (held, replicas) = replicate(&node_load, node_slots);
        shares.clear();
        shares.extend(held.iter().map(|&i| share(node_load[i], replicas[i])));
        let first = node * node_slots;
        for (&i, (device, rank)) in held.iter().zip(pack::balanced(&shares, node_devices)) {
            slots[first + device * slots_per_device + rank] = experts[i];
        }
    }
    Ok(SlotMap::trusted(shape, slots))
}

/// Replicas of every expert when P slots are filled by EPLB's rule: one each, then one more
/// at a time to the largest load / replicas, ties to the lower id.
///
/// This minimises the largest share over all replica counts with the same sum.
#[must_use]
pub fn replica_counts(load: &[f64], n_slots: usize) -> Vec<u32> {
    let load: Vec<f32> = load.iter().map(|&x| single(x)).collect();
    replicate(&load, n_slots).1
}

/// A load in single precision; [`PlacementError::BadLoad`] keeps it in range.
#[expect(clippy::cast_possible_truncation, reason = "the original computes in f32")]
pub(super) fn single(x: f64) -> f32 {
    x as f32
}

/// Load of one of several replicas, rounded as the original rounds it.
pub(super) fn share(load: f32, replicas: u32) -> f32 {
    load / replicas as f32
}

/// Experts in the order of the nodes that hold their groups, E/M per node.
fn experts_by_node(load: &[f64], shape: Shape, groups: Groups) -> Vec<u32> {
    let group_size = shape.n_experts() / groups.n_groups();
    let group_load: Vec<f32> = load
        .chunks_exact(group_size as usize)
        .map(|group| group.iter().map(|&x| single(x)).sum())
        .collect();
    let per_node = (groups.n_groups() / groups.n_nodes()) as usize;
    let mut order = vec![0_u32; group_load.len()];
    let placed = pack::balanced(&group_load, groups.n_nodes() as usize);
    for (group, (node, rank)) in (0..groups.n_groups()).zip(placed) {
        order[node * per_node + rank] = group;
    }
    order.iter().flat_map(|&group| group * group_size..(group + 1) * group_size).collect()
}

/// The expert of every replica (first one each, then copies as they were made), and the
/// replicas of every expert.
pub(super) fn replicate(load: &[f32], n_slots: usize) -> (Vec<usize>, Vec<u32>) {
    let mut held: Vec<usize> = (0..load.len()).collect();
    let mut replicas = vec![1_u32; load.len()];
    let mut largest: BinaryHeap<(u32, Reverse<usize>)> =
        load.iter().enumerate().map(|(e, &x)| (ascending(x), Reverse(e))).collect();
    while held.len() < n_slots {
        let Some(mut top) = largest.peek_mut() else { break };
        let expert = top.1.0;
        held.push(expert);
        replicas[expert] += 1;
        top.0 = ascending(share(load[expert], replicas[expert]));
    }
    (held, replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_readme_is_reproduced() {
        let shape = Shape::new(12, 8, 16).unwrap();
        let groups = Groups::new(shape, 4, 2).unwrap();
        let map = |load: [u32; 12]| {
            let load = load.map(f64::from);
            hierarchical(&load, shape, groups).unwrap().into_physical_to_logical()
        };
        assert_eq!(
            map([90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86]),
            [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1]
        );
        assert_eq!(
            map([20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27]),
            [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1]
        );
    }

    #[test]
    fn replicas_go_to_the_largest_share_and_ties_to_the_lower_id() {
        assert_eq!(
            replica_counts(&[600.0, 560.0, 120.0, 120.0, 20.0, 10.0, 10.0, 10.0], 16),
            [5, 5, 1, 1, 1, 1, 1, 1]
        );
        assert_eq!(replica_counts(&[1.0, 1.0, 1.0], 4), [2, 1, 1]);
        assert_eq!(replica_counts(&[0.0, 0.0], 4), [3, 1]);
    }

    #[test]
    fn a_load_of_another_length_is_refused() {
        let shape = Shape::new(4, 2, 4).unwrap();
        assert!(flat(&[1.0; 3], shape).is_err());
        assert!(flat(&[1.0, -1.0, 0.0, 0.0], shape).is_err());
    }
}
