//! How much of a load leaves its node under a map.

use crate::placement::SlotMap;

/// Share of the dispatched tokens that go to another node.
///
/// ```text
/// x = Σ_e p_e · (1 − n_e / M)
/// ```
///
/// `p_e`: share of the choices that expert e takes (1); `n_e`: nodes that hold a copy of it (1); M: nodes
/// (1), equal runs of devices. A dispatched token is one choice of one token. Holds where tokens come
/// evenly from all nodes and a copy on the own node is preferred to others, as in
/// [`nearest_first`](crate::placement::split::nearest_first); `None` where nodes do not divide the
/// devices, or without load.
///
/// ```
/// use moe_gps_core::placement::{Shape, SlotMap, cross_node};
/// // Expert 0 is on both nodes, so its half of the load stays; half of the rest leaves.
/// let map = SlotMap::new(Shape::new(3, 2, 4)?, vec![0, 1, 0, 2])?;
/// assert_eq!(cross_node::share(&map, &[2.0, 1.0, 1.0], 2), Some(0.25));
/// # Ok::<(), moe_gps_core::placement::PlacementError>(())
/// ```
#[must_use]
pub fn share(map: &SlotMap, load: &[f64], n_nodes: u32) -> Option<f64> {
    let n_devices = map.shape().n_devices();
    let total: f64 = load.iter().sum();
    if n_nodes == 0 || !n_devices.is_multiple_of(n_nodes) || total <= 0.0 {
        return None;
    }
    let per_node = map.physical_to_logical().len() / n_nodes as usize;
    let mut nodes = vec![0_u32; map.shape().n_experts() as usize];
    for slots in map.physical_to_logical().chunks_exact(per_node) {
        let mut held = slots.to_vec();
        held.sort_unstable();
        held.dedup();
        for expert in held {
            nodes[expert as usize] += 1;
        }
    }
    let stays = nodes.iter().zip(load).map(|(n, load)| f64::from(*n) * load).sum::<f64>();
    Some(1.0 - stays / total / f64::from(n_nodes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Shape;
    use proptest::prelude::*;

    #[test]
    fn without_copies_all_but_the_own_node_s_share_leaves() {
        let map = SlotMap::contiguous(8, 4).unwrap();
        let load = [9.0, 1.0, 0.0, 2.0, 3.0, 1.0, 7.0, 1.0];
        assert_eq!(share(&map, &load, 1), Some(0.0));
        assert_eq!(share(&map, &load, 2), Some(0.5));
        assert_eq!(share(&map, &load, 4), Some(0.75));
        assert_eq!(share(&map, &load, 3), None);
        assert_eq!(share(&map, &[0.0; 8], 2), None);
    }

    proptest! {
        #[test]
        fn a_copy_never_sends_more_away(load in prop::collection::vec(0.1_f64..9.0, 4), extra in 0_u32..4) {
            let bare = SlotMap::contiguous(4, 2).unwrap();
            let shape = Shape::new(4, 2, 6).unwrap();
            let map = SlotMap::new(shape, vec![0, 1, extra, 2, 3, extra]).unwrap();
            prop_assert!(share(&map, &load, 2) <= share(&bare, &load, 2));
        }
    }
}
