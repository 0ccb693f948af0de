//! What changes between two maps, and how to name devices and slots so that little does.
//!
//! Devices are alike, so a plan may be given to them in any order, and a device's slots as
//! well. An expert a device already holds need not be fetched.

use crate::placement::{Shape, SlotMap};

/// Experts each device must fetch to turn one map into another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moves {
    /// Replicas fetched by every device.
    pub per_device: Vec<u32>,
}

impl Moves {
    /// The moves from a current map to a new one of the same shape's devices.
    ///
    /// A device fetches a replica for every slot whose expert it does not yet hold; copies
    /// of an expert it holds count as held once per present copy.
    #[must_use]
    pub fn between(current: &SlotMap, new: &SlotMap) -> Self {
        let devices = 0..new.shape().n_devices();
        Self { per_device: devices.map(|d| fetched(current.device(d), new.device(d))).collect() }
    }

    /// Replicas fetched in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.per_device.iter().map(|&n| u64::from(n)).sum()
    }

    /// Replicas fetched by the device that fetches most.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.per_device.iter().copied().max().unwrap_or(0)
    }
}

/// The new map with its devices renamed, and its slots reordered, to follow a current map.
///
/// Devices are swapped within their node and whole nodes with each other, so what lies
/// together stays together. Greedy by largest overlap, then pairwise exchange until no
/// exchange saves a move. Balance is unchanged. Maps of other shapes come back as they are.
#[must_use]
pub fn relabelled(current: &SlotMap, new: &SlotMap, n_nodes: u32) -> SlotMap {
    let shape = new.shape();
    let (n, nodes) = (shape.n_devices() as usize, n_nodes.max(1) as usize);
    let known = current.shape();
    if known.n_devices() != shape.n_devices() || n % nodes != 0 {
        return new.clone();
    }
    let per_node = n / nodes;
    let overlap = overlaps(current, new);
    let inside = |old_node: usize, new_node: usize| {
        let block =
            |i: usize, j: usize| overlap[(old_node * per_node + i) * n + new_node * per_node + j];
        assign(per_node, &block)
    };
    // The kept experts of every pair of nodes, under the best dealing found inside.
    let pairs: Vec<(Vec<usize>, u32)> =
        (0..nodes * nodes).map(|pair| inside(pair / nodes, pair % nodes)).collect();
    let (node_of, _) = assign(nodes, &|i, j| pairs[i * nodes + j].1);
    let mut slots = Vec::with_capacity(shape.n_slots() as usize);
    for (old_node, &new_node) in node_of.iter().enumerate() {
        for (i, &j) in pairs[old_node * nodes + new_node].0.iter().enumerate() {
            let old = index(old_node * per_node + i);
            let held = new.device(index(new_node * per_node + j));
            slots.extend(in_place(current.device(old), held, shape));
        }
    }
    let renamed = SlotMap::trusted(shape, slots);
    // Overlap counts experts, moves count copies: with duplicates the two may disagree.
    let moves = |map: &SlotMap| Moves::between(current, map).total();
    if moves(&renamed) <= moves(new) { renamed } else { new.clone() }
}

/// A device index as it is named outside; there are at most `u32::MAX` devices.
fn index(device: usize) -> u32 {
    u32::try_from(device).unwrap_or(u32::MAX)
}

/// Slots of `new` whose expert is not among `current`, counted with multiplicity.
fn fetched(current: &[u32], new: &[u32]) -> u32 {
    let mut left = current.to_vec();
    new.iter()
        .map(|expert| match left.iter().position(|held| held == expert) {
            Some(at) => {
                left.swap_remove(at);
                0
            }
            None => 1,
        })
        .sum()
}

/// Experts every (current device, new device) pair has in common.
fn overlaps(current: &SlotMap, new: &SlotMap) -> Vec<u32> {
    let n = new.shape().n_devices() as usize;
    let n_experts = new.shape().n_experts().max(current.shape().n_experts()) as usize;
    let mut hosts = vec![Vec::new(); n_experts];
    for (device, held) in new.devices().enumerate() {
        for &expert in held {
            hosts[expert as usize].push(device);
        }
    }
    let mut overlap = vec![0_u32; n * n];
    for (old, held) in current.devices().enumerate() {
        let mut distinct = held.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        for expert in distinct {
            for &device in &hosts[expert as usize] {
                overlap[old * n + device] += 1;
            }
        }
    }
    overlap
}

/// Whom every row takes (a permutation) so that the sum is large, and that sum.
fn assign(n: usize, gain: &dyn Fn(usize, usize) -> u32) -> (Vec<usize>, u32) {
    let mut pairs: Vec<(u32, usize, usize)> =
        (0..n * n).map(|at| (gain(at / n, at % n), at / n, at % n)).filter(|p| p.0 > 0).collect();
    pairs.sort_unstable_by_key(|&(gain, i, j)| (std::cmp::Reverse(gain), i != j, i, j));
    let mut taken = vec![None; n];
    let mut free = vec![true; n];
    for (_, i, j) in pairs {
        if taken[i].is_none() && free[j] {
            taken[i] = Some(j);
            free[j] = false;
        }
    }
    let mut rest = (0..n).filter(|&j| free[j]);
    let mut to: Vec<usize> =
        taken.iter().map(|&j| j.or_else(|| rest.next()).unwrap_or(0)).collect();
    let mut improved = true;
    while improved {
        improved = false;
        for a in 0..n {
            for b in a + 1..n {
                if gain(a, to[b]) + gain(b, to[a]) > gain(a, to[a]) + gain(b, to[b]) {
                    to.swap(a, b);
                    improved = true;
                }
            }
        }
    }
    let sum = to.iter().enumerate().map(|(i, &j)| gain(i, j)).sum();
    (to, sum)
}

/// A device's new experts, those it already holds in the slots where they are.
fn in_place(current: &[u32], new: &[u32], shape: Shape) -> Vec<u32> {
    let n_slots = shape.slots_per_device() as usize;
    let mut left = new.to_vec();
    let mut kept = vec![None; n_slots];
    for (slot, expert) in kept.iter_mut().zip(current) {
        if let Some(at) = left.iter().position(|held| held == expert) {
            *slot = Some(left.remove(at));
        }
    }
    let mut left = left.into_iter();
    kept.into_iter().filter_map(|slot| slot.or_else(|| left.next())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::balance::device_loads;
    use proptest::prelude::*;

    fn map(n_experts: u32, n_devices: u32, slots: &[u32]) -> SlotMap {
        let n_slots = u32::try_from(slots.len()).unwrap();
        SlotMap::new(Shape::new(n_experts, n_devices, n_slots).unwrap(), slots.to_vec()).unwrap()
    }

    #[test]
    fn a_renamed_plan_needs_only_its_real_moves() {
        let current = map(4, 2, &[0, 1, 2, 3]);
        let new = map(4, 2, &[3, 0, 2, 1]);
        assert_eq!(Moves::between(&current, &new).per_device, [1, 1]);
        let swapped = map(4, 2, &[3, 2, 1, 0]);
        assert_eq!(Moves::between(&current, &swapped).total(), 4);
        let renamed = relabelled(&current, &swapped, 1);
        assert_eq!(renamed, current);
        assert_eq!(Moves::between(&current, &renamed).most(), 0);
    }

    #[test]
    fn nodes_are_exchanged_whole() {
        let current = map(4, 4, &[0, 1, 2, 3]);
        let new = map(4, 4, &[3, 2, 0, 1]);
        assert_eq!(relabelled(&current, &new, 2), current);
        // 0 with 2 and 1 with 3 lie together: no renaming of nodes gives all four back
        let apart = map(4, 4, &[0, 2, 1, 3]);
        assert_eq!(Moves::between(&current, &relabelled(&current, &apart, 2)).total(), 2);
    }

    #[test]
    fn a_second_copy_on_a_device_is_a_move() {
        let current = map(2, 2, &[0, 1, 1, 0]);
        let new = map(2, 2, &[0, 0, 1, 1]);
        assert_eq!(Moves::between(&current, &new).per_device, [1, 1]);
    }

    proptest! {
        #[test]
        fn renaming_never_adds_moves_and_keeps_the_loads(
            a in prop::collection::vec(0..1000_u32, 12),
            b in prop::collection::vec(0..1000_u32, 12),
            nodes in prop::sample::select(vec![1_u32, 2, 4]),
        ) {
            let shape = Shape::new(12, 4, 16).unwrap();
            let plan = |load: &[u32]| {
                let load: Vec<f64> = load.iter().map(|&x| f64::from(x)).collect();
                crate::placement::eplb::flat(&load, shape).unwrap()
            };
            let (current, new) = (plan(&a), plan(&b));
            let renamed = relabelled(&current, &new, nodes);
            let before = Moves::between(&current, &new).total();
            prop_assert!(Moves::between(&current, &renamed).total() <= before);
            let load: Vec<f64> = b.iter().map(|&x| f64::from(x)).collect();
            let sorted = |map: &SlotMap| {
                let mut loads = device_loads(map, &load);
                loads.sort_by(f64::total_cmp);
                loads
            };
            for (x, y) in sorted(&new).iter().zip(sorted(&renamed)) {
                prop_assert!((x - y).abs() <= 1e-9 * x.max(1.0));
            }
        }
    }
}
