//! One layer's map from slots to experts.

use crate::placement::{PlacementError, Shape};

/// Which expert every slot of one layer holds; every expert has at least one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    shape: Shape,
    physical_to_logical: Vec<u32>,
}

impl SlotMap {
    /// A map from its slots, checked: right length, known experts, none missing.
    pub fn new(shape: Shape, physical_to_logical: Vec<u32>) -> Result<Self, PlacementError> {
        if physical_to_logical.len() != shape.n_slots() as usize {
            let got = physical_to_logical.len();
            return Err(PlacementError::SlotCount { got, slots: shape.n_slots() });
        }
        let experts = shape.n_experts();
        let mut seen = vec![false; experts as usize];
        for (slot, &expert) in physical_to_logical.iter().enumerate() {
            match seen.get_mut(expert as usize) {
                Some(seen) => *seen = true,
                None => return Err(PlacementError::UnknownExpert { slot, expert, experts }),
            }
        }
        match (0..experts).zip(seen).find(|(_, seen)| !seen) {
            Some((expert, _)) => Err(PlacementError::MissingExpert { expert }),
            None => Ok(Self { shape, physical_to_logical }),
        }
    }

    /// The static placement: expert e in slot e, no copies; N must divide E.
    pub fn contiguous(n_experts: u32, n_devices: u32) -> Result<Self, PlacementError> {
        let shape = Shape::new(n_experts, n_devices, n_experts)?;
        Ok(Self { shape, physical_to_logical: (0..n_experts).collect() })
    }

    /// A map whose planner has placed every expert.
    pub(super) fn trusted(shape: Shape, physical_to_logical: Vec<u32>) -> Self {
        debug_assert!(Self::new(shape, physical_to_logical.clone()).is_ok());
        Self { shape, physical_to_logical }
    }

    /// The counts of the map.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The expert of every slot.
    #[must_use]
    pub fn physical_to_logical(&self) -> &[u32] {
        &self.physical_to_logical
    }

    /// The map as the bare list of experts.
    #[must_use]
    pub fn into_physical_to_logical(self) -> Vec<u32> {
        self.physical_to_logical
    }

    /// The experts of every device, in slot order.
    #[must_use]
    pub fn devices(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.physical_to_logical.chunks_exact(self.shape.slots_per_device() as usize)
    }

    /// The experts of one device, in slot order; empty for a device that does not exist.
    #[must_use]
    pub fn device(&self, device: u32) -> &[u32] {
        let slots = self.shape.slots_per_device() as usize;
        let first = device as usize * slots;
        self.physical_to_logical.get(first..first + slots).unwrap_or_default()
    }

    /// Replicas of every expert, at least 1 each.
    #[must_use]
    pub fn replicas(&self) -> Vec<u32> {
        let mut replicas = vec![0; self.shape.n_experts() as usize];
        for &expert in &self.physical_to_logical {
            replicas[expert as usize] += 1;
        }
        replicas
    }

    /// Slots that hold an expert which an earlier slot of the same device holds too.
    #[must_use]
    pub fn same_device_duplicates(&self) -> usize {
        self.devices()
            .map(|held| (1..held.len()).filter(|&i| held[..i].contains(&held[i])).count())
            .sum()
    }

    /// Replicas outside the node that holds most of their group, over all groups.
    ///
    /// Ties between nodes go to the lower node. Zero where every group stays on a node.
    #[must_use]
    pub fn cross_node_replicas(&self, groups: crate::placement::Groups) -> usize {
        let (n_groups, n_nodes) = (groups.n_groups() as usize, groups.n_nodes() as usize);
        let group_size = (self.shape.n_experts() as usize / n_groups).max(1);
        let node_slots = (self.physical_to_logical.len() / n_nodes).max(1);
        let mut held = vec![0_usize; n_groups * n_nodes];
        for (slot, &expert) in self.physical_to_logical.iter().enumerate() {
            held[expert as usize / group_size * n_nodes + slot / node_slots] += 1;
        }
        held.chunks_exact(n_nodes)
            .map(|row| row.iter().sum::<usize>() - row.iter().max().copied().unwrap_or(0))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Groups;

    #[test]
    fn a_map_must_hold_every_expert_and_no_other() {
        let shape = Shape::new(3, 2, 4).unwrap();
        let map = SlotMap::new(shape, vec![0, 1, 2, 1]).unwrap();
        assert_eq!(map.replicas(), [1, 2, 1]);
        assert_eq!((map.device(1), map.device(2)), (&[2, 1][..], &[][..]));
        assert_eq!(map.same_device_duplicates(), 0);
        let said = |slots: &[u32]| SlotMap::new(shape, slots.to_vec()).unwrap_err().to_string();
        assert_eq!(said(&[0, 1, 1, 0]), "expert 2 has no slot: every expert must be placed");
        assert!(said(&[0, 1, 2, 3]).contains("slot 3 holds expert 3"));
        assert!(said(&[0, 1, 2]).contains("3 slots"));
        assert_eq!(SlotMap::new(shape, vec![1, 1, 2, 0]).unwrap().same_device_duplicates(), 1);
    }

    #[test]
    fn the_static_placement_is_the_identity() {
        let map = SlotMap::contiguous(4, 2).unwrap();
        assert_eq!(map.physical_to_logical(), [0, 1, 2, 3]);
        assert!(SlotMap::contiguous(4, 3).is_err());
    }

    #[test]
    fn copies_that_left_their_groups_node_are_counted() {
        let shape = Shape::new(4, 2, 6).unwrap();
        let groups = Groups::new(shape, 2, 2).unwrap();
        let cross = |slots: [u32; 6]| {
            SlotMap::new(shape, slots.to_vec()).unwrap().cross_node_replicas(groups)
        };
        assert_eq!(cross([0, 1, 0, 2, 3, 3]), 0);
        assert_eq!(cross([0, 1, 2, 2, 3, 1]), 2);
    }
}
