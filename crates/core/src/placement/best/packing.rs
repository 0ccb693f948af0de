//! One layer's map while it is being improved: who holds what, and every device's load
//! under even split.

use crate::placement::Shape;

/// A duplicate-free map with the loads it makes, changed in place.
#[derive(Debug, Clone)]
pub(super) struct Packing {
    pub(super) shape: Shape,
    pub(super) load: Vec<f64>,
    /// Expert of every slot.
    pub(super) slots: Vec<u32>,
    /// Replicas of every expert.
    pub(super) replicas: Vec<u32>,
    /// Load of one replica of every expert.
    pub(super) share: Vec<f64>,
    /// Load of every device.
    pub(super) device_load: Vec<f64>,
    /// Bit e of row d: device d holds expert e.
    holds: Vec<u64>,
    words: usize,
    homes: Option<Homes>,
}

/// Experts that must keep a replica on their group's node (soft groups).
#[derive(Debug, Clone)]
pub(super) struct Homes {
    /// The node of every expert's group.
    pub(super) node: Vec<u32>,
    /// Devices of a node.
    pub(super) devices_per_node: usize,
    /// Replicas of every expert on its home node.
    at_home: Vec<u32>,
    /// Whether replicas may not leave it at all (hard groups).
    hard: bool,
}

impl Packing {
    /// The packing of a duplicate-free map.
    pub(super) fn new(shape: Shape, slots: Vec<u32>, load: &[f64]) -> Self {
        let n_experts = load.len();
        let per_device = shape.slots_per_device() as usize;
        let words = n_experts.div_ceil(64);
        let mut replicas = vec![0_u32; n_experts];
        let mut holds = vec![0_u64; words * shape.n_devices() as usize];
        for (slot, &e) in slots.iter().enumerate() {
            let e = e as usize;
            replicas[e] += 1;
            holds[slot / per_device * words + e / 64] |= 1 << (e % 64);
        }
        let share = load.iter().zip(&replicas).map(|(x, &r)| x / f64::from(r.max(1))).collect();
        let mut packing = Self {
            shape,
            load: load.to_vec(),
            slots,
            replicas,
            share,
            device_load: Vec::new(),
            holds,
            words,
            homes: None,
        };
        packing.recount();
        packing
    }

    /// Requires a replica of every expert on the node given for it, or (`hard`) all.
    pub(super) fn with_homes(
        mut self,
        node: Vec<u32>,
        devices_per_node: usize,
        hard: bool,
    ) -> Self {
        let mut at_home = vec![0; node.len()];
        let node_slots = devices_per_node * self.per_device();
        for (slot, &e) in self.slots.iter().enumerate() {
            at_home[e as usize] += u32::from(slot / node_slots == node[e as usize] as usize);
        }
        self.homes = Some(Homes { node, devices_per_node, at_home, hard });
        self
    }

    /// Sums the device loads anew, which ends the drift of repeated additions.
    pub(super) fn recount(&mut self) {
        let (slots, share) = (&self.slots, &self.share);
        self.device_load = slots
            .chunks_exact(self.shape.slots_per_device() as usize)
            .map(|held| held.iter().map(|&e| share[e as usize]).sum())
            .collect();
    }

    pub(super) const fn per_device(&self) -> usize {
        self.shape.slots_per_device() as usize
    }

    /// The experts of a device.
    pub(super) fn held(&self, device: usize) -> &[u32] {
        let per_device = self.per_device();
        &self.slots[device * per_device..(device + 1) * per_device]
    }

    pub(super) fn holds(&self, device: usize, expert: u32) -> bool {
        let e = expert as usize;
        self.holds[device * self.words + e / 64] >> (e % 64) & 1 == 1
    }

    /// The busiest device; ties to the lower id.
    pub(super) fn hottest(&self) -> usize {
        let mut hottest = 0;
        for (device, &x) in self.device_load.iter().enumerate() {
            if x > self.device_load[hottest] {
                hottest = device;
            }
        }
        hottest
    }

    pub(super) fn max(&self) -> f64 {
        self.device_load.iter().copied().fold(0.0, f64::max)
    }

    /// Whether an expert's replica may go from one device to another, homes considered.
    pub(super) fn may_move(&self, expert: u32, from: usize, to: usize) -> bool {
        self.may_take(expert, to) && self.may_leave(expert, from, Some(to))
    }

    /// Whether a device may be given a replica of an expert, homes considered.
    pub(super) fn may_take(&self, expert: u32, device: usize) -> bool {
        let strays = |homes: &Homes| {
            homes.hard && homes.node[expert as usize] as usize != device / homes.devices_per_node
        };
        !self.holds(device, expert) && !self.homes.as_ref().is_some_and(strays)
    }

    /// Whether an expert's replica may leave a device, for another or (`None`) for good.
    pub(super) fn may_leave(&self, expert: u32, from: usize, to: Option<usize>) -> bool {
        let e = expert as usize;
        if to.is_none() && self.replicas[e] < 2 {
            return false;
        }
        self.homes.as_ref().is_none_or(|homes| {
            let node = homes.node[e] as usize;
            let is_home = |device: usize| device / homes.devices_per_node == node;
            homes.at_home[e] > 1 || !is_home(from) || to.is_some_and(is_home)
        })
    }

    /// Exchanges the experts of two slots on different devices.
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        let (da, db) = (a / self.per_device(), b / self.per_device());
        let (ea, eb) = (self.slots[a], self.slots[b]);
        let delta = self.share[ea as usize] - self.share[eb as usize];
        self.device_load[da] -= delta;
        self.device_load[db] += delta;
        self.put(a, eb);
        self.put(b, ea);
    }

    /// Gives a slot to another expert: one replica fewer of the old, one more of the new.
    pub(super) fn retarget(&mut self, slot: usize, new: u32) {
        let old = self.slots[slot];
        let device = slot / self.per_device();
        self.device_load[device] -= self.share[old as usize];
        self.put(slot, new);
        for (expert, up) in [(old, false), (new, true)] {
            let e = expert as usize;
            let before = self.share[e];
            if up {
                self.replicas[e] += 1;
            } else {
                self.replicas[e] -= 1;
            }
            self.share[e] = self.load[e] / f64::from(self.replicas[e]);
            let change = self.share[e] - before;
            for d in 0..self.device_load.len() {
                if d != device && self.holds(d, expert) {
                    self.device_load[d] += change;
                }
            }
        }
        self.device_load[device] += self.share[new as usize];
    }

    /// Gives a slot to another expert without keeping the loads of replicas and devices.
    pub(super) fn assign(&mut self, slot: usize, new: u32) {
        self.replicas[self.slots[slot] as usize] -= 1;
        self.replicas[new as usize] += 1;
        self.put(slot, new);
    }

    fn put(&mut self, slot: usize, new: u32) {
        let device = slot / self.per_device();
        let old = std::mem::replace(&mut self.slots[slot], new);
        let row = device * self.words;
        self.holds[row + old as usize / 64] &= !(1 << (old % 64));
        self.holds[row + new as usize / 64] |= 1 << (new % 64);
        if let Some(homes) = &mut self.homes {
            let node = device / homes.devices_per_node;
            homes.at_home[old as usize] -= u32::from(homes.node[old as usize] as usize == node);
            homes.at_home[new as usize] += u32::from(homes.node[new as usize] as usize == node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_the_loads_right() {
        let shape = Shape::new(4, 3, 6).unwrap();
        let mut packing = Packing::new(shape, vec![0, 1, 2, 0, 3, 1], &[8.0, 4.0, 2.0, 1.0]);
        assert_eq!(packing.device_load, [6.0, 6.0, 3.0]);
        packing.swap(0, 4); // 3,1 | 2,0 | 0,1
        assert_eq!(packing.device_load, [3.0, 6.0, 6.0]);
        assert!(packing.holds(2, 0) && !packing.holds(0, 0));
        packing.retarget(5, 3); // 3,1 | 2,0 | 0,3
        assert_eq!(packing.device_load, [4.5, 6.0, 4.5]);
        let before = packing.device_load.clone();
        packing.recount();
        assert_eq!(packing.device_load, before);
        assert!(!packing.may_leave(1, 0, None));
    }

    #[test]
    fn the_last_replica_stays_on_its_home_node() {
        let shape = Shape::new(2, 2, 4).unwrap();
        let packing =
            Packing::new(shape, vec![0, 1, 0, 1], &[1.0, 1.0]).with_homes(vec![0, 1], 1, false);
        assert!(!packing.may_leave(0, 0, None));
        assert!(packing.may_leave(0, 1, None));
    }
}
