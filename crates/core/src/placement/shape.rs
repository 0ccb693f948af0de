//! The counts every map of a deployment shares.

use crate::placement::PlacementError;

/// Experts, devices and slots of one layer, checked to fit together.
///
/// P slots over N devices, P/N each; rank r owns slots r·P/N … (r+1)·P/N − 1, as in every
/// engine. Holds: P ≥ E, N divides P, no count is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    n_experts: u32,
    n_devices: u32,
    slots_per_device: u32,
}

impl Shape {
    /// A shape of P slots in all.
    pub fn new(n_experts: u32, n_devices: u32, n_slots: u32) -> Result<Self, PlacementError> {
        for (what, count) in
            [("the number of experts", n_experts), ("the number of devices", n_devices)]
        {
            if count == 0 {
                return Err(PlacementError::Zero { what });
            }
        }
        if n_slots < n_experts {
            return Err(PlacementError::TooFewSlots { slots: n_slots, experts: n_experts });
        }
        if !n_slots.is_multiple_of(n_devices) {
            return Err(PlacementError::UnevenSlots { slots: n_slots, devices: n_devices });
        }
        Ok(Self { n_experts, n_devices, slots_per_device: n_slots / n_devices })
    }

    /// Routed experts of the layer, E.
    #[must_use]
    pub const fn n_experts(self) -> u32 {
        self.n_experts
    }

    /// Expert-parallel size (EP), N: devices that share the routed experts.
    #[must_use]
    pub const fn n_devices(self) -> u32 {
        self.n_devices
    }

    /// Slots of one device, P/N.
    #[must_use]
    pub const fn slots_per_device(self) -> u32 {
        self.slots_per_device
    }

    /// Slots in all, P.
    #[must_use]
    pub const fn n_slots(self) -> u32 {
        self.n_devices * self.slots_per_device
    }

    /// Slots beyond one per expert, R = P − E.
    #[must_use]
    pub const fn redundant(self) -> u32 {
        self.n_slots() - self.n_experts
    }

    /// Fewest slots beyond one per expert with which all devices hold equally many; engines do not start
    /// with fewer, whether they balance or not.
    #[must_use]
    pub const fn least_redundant(self) -> u32 {
        self.n_experts().next_multiple_of(self.n_devices()) - self.n_experts()
    }

    /// The largest load of one expert: tokens fit a million times over, and so do sums of
    /// loads in single precision, which EPLB computes in.
    const MAX_LOAD: f64 = 1e30;

    /// Checks a load: one entry per expert, each from 0 to 1e30.
    pub(super) fn check_load(self, load: &[f64]) -> Result<(), PlacementError> {
        if load.len() != self.n_experts as usize {
            return Err(PlacementError::LoadLength { got: load.len(), experts: self.n_experts });
        }
        match load.iter().enumerate().find(|(_, x)| !(0.0..=Self::MAX_LOAD).contains(*x)) {
            Some((expert, &value)) => Err(PlacementError::BadLoad { expert, value }),
            None => Ok(()),
        }
    }
}

/// Expert groups that live on nodes: the hierarchical case.
///
/// Experts g·E/G … (g+1)·E/G − 1 form group g; every node takes G/M groups and N/M devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    n_groups: u32,
    n_nodes: u32,
}

impl Groups {
    /// Everything in one group on one node: the flat case.
    pub const FLAT: Self = Self { n_groups: 1, n_nodes: 1 };

    /// G groups on M nodes, checked against a shape.
    pub fn new(shape: Shape, n_groups: u32, n_nodes: u32) -> Result<Self, PlacementError> {
        for (what, count) in [("the number of groups", n_groups), ("the number of nodes", n_nodes)]
        {
            if count == 0 {
                return Err(PlacementError::Zero { what });
            }
        }
        let divides = [
            ("experts", shape.n_experts, "groups", n_groups),
            ("groups", n_groups, "nodes", n_nodes),
            ("devices", shape.n_devices, "nodes", n_nodes),
        ];
        for (what, whole, part_name, part) in divides {
            if !whole.is_multiple_of(part) {
                return Err(PlacementError::Indivisible { what, whole, part_name, part });
            }
        }
        Ok(Self { n_groups, n_nodes })
    }

    /// Expert groups, G.
    #[must_use]
    pub const fn n_groups(self) -> u32 {
        self.n_groups
    }

    /// Nodes, M.
    #[must_use]
    pub const fn n_nodes(self) -> u32 {
        self.n_nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_say_why() {
        let said = |result: Result<Shape, PlacementError>| result.unwrap_err().to_string();
        assert!(said(Shape::new(8, 4, 10)).contains("multiple of 4"));
        assert!(said(Shape::new(8, 4, 4)).contains("cannot hold 8 experts"));
        assert!(said(Shape::new(8, 0, 8)).contains("devices is 0"));
        let shape = Shape::new(8, 4, 12).unwrap();
        assert_eq!((shape.slots_per_device(), shape.redundant()), (3, 4));
        let said = Groups::new(shape, 3, 1).unwrap_err().to_string();
        assert_eq!(said, "experts 8 is not a multiple of groups 3");
        assert!(Groups::new(shape, 4, 2).is_ok());
        assert!(Groups::new(shape, 2, 4).is_err());
    }

    #[test]
    fn a_bad_load_is_named() {
        let shape = Shape::new(2, 1, 2).unwrap();
        assert!(shape.check_load(&[1.0, 0.0]).is_ok());
        assert!(shape.check_load(&[1.0]).is_err());
        let said = shape.check_load(&[1.0, f64::NAN]).unwrap_err().to_string();
        assert!(said.contains("expert 1 is NaN"), "{said}");
    }
}
