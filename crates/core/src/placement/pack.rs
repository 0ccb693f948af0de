//! Balanced packing: equal numbers of items per pack, heaviest item first, each into the
//! lightest pack with room. The step DeepSeek's EPLB uses for groups and for replicas.

use crate::placement::keys::{ascending, descending};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The pack of every item and its position inside the pack.
///
/// Ties go to the lower item and the lower pack. With one item per pack it is the identity.
pub(super) fn balanced(weights: &[f32], n_packs: usize) -> Vec<(usize, usize)> {
    let capacity = weights.len() / n_packs;
    if capacity <= 1 {
        return (0..weights.len()).map(|item| (item, 0)).collect();
    }
    let mut order: Vec<(u32, usize)> =
        weights.iter().enumerate().map(|(item, &w)| (descending(w), item)).collect();
    order.sort_unstable();
    let mut load = vec![0.0_f32; n_packs];
    let mut filled = vec![0_usize; n_packs];
    let mut placed = vec![(0, 0); weights.len()];
    let mut lightest: BinaryHeap<Reverse<(u32, usize)>> =
        (0..n_packs).map(|pack| Reverse((0, pack))).collect();
    for (_, item) in order {
        let Some(mut top) = lightest.peek_mut() else { break };
        let pack = top.0.1;
        placed[item] = (pack, filled[pack]);
        filled[pack] += 1;
        load[pack] += weights[item];
        if filled[pack] < capacity {
            top.0.0 = ascending(load[pack]);
        } else {
            std::collections::binary_heap::PeekMut::pop(top);
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_goes_first_to_the_lightest_pack_with_room() {
        // 5 → 0, 4 → 1, 3 → 1 (full), 1 → 0
        let placed = balanced(&[1.0, 5.0, 4.0, 3.0], 2);
        assert_eq!(placed, [(0, 1), (0, 0), (1, 0), (1, 1)]);
        assert_eq!(balanced(&[1.0, 5.0], 2), [(0, 0), (1, 0)]);
        assert_eq!(balanced(&[2.0; 4], 2), [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }
}
