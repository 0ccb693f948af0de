//! A first map without two replicas of an expert on one device.
//!
//! Replicas are counted by EPLB's rule, capped, and packed by EPLB's rule, except that a
//! device that has the expert is passed over. Where EPLB makes no duplicates the map is
//! EPLB's own, so whatever only improves on it is never worse than EPLB.

use crate::placement::eplb;
use crate::placement::keys::{ascending, descending};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The expert of every replica by EPLB's rule, firsts before copies, at most `cap` each, and
/// the replicas of every expert.
///
/// Minimises the largest share among all counts with this sum and cap. Slots left when all
/// experts are at their cap stay unplaced.
pub(super) fn replicate(load: &[f64], n_slots: usize, cap: u32) -> (Vec<u32>, Vec<u32>) {
    let mut held: Vec<u32> = (0..).take(load.len()).collect();
    let mut replicas = vec![1_u32; load.len()];
    let mut largest: BinaryHeap<(u32, Reverse<u32>)> =
        (0..).zip(load).map(|(e, &x)| (ascending(eplb::single(x)), Reverse(e))).collect();
    while held.len() < n_slots {
        let Some(mut top) = largest.peek_mut() else { break };
        let expert = top.1.0;
        let e = expert as usize;
        if replicas[e] >= cap {
            PeekMut::pop(top);
            continue;
        }
        held.push(expert);
        replicas[e] += 1;
        top.0 = ascending(eplb::share(eplb::single(load[e]), replicas[e]));
    }
    (held, replicas)
}

/// Packs these replicas on devices, largest share first, each on the lightest device with
/// room that lacks the expert; ties go to the earlier replica and the lower device.
///
/// Needs as many replicas as slots, and none of an expert beyond the number of devices.
pub(super) fn pack(
    held: &[u32],
    load: &[f64],
    replicas: &[u32],
    n_devices: usize,
    capacity: usize,
) -> Vec<u32> {
    debug_assert_eq!(held.len(), n_devices * capacity);
    if capacity == 1 {
        return held.to_vec();
    }
    let share: Vec<f32> =
        load.iter().zip(replicas).map(|(&x, &r)| eplb::share(eplb::single(x), r)).collect();
    let mut order: Vec<(u32, u32, u32)> =
        (0..).zip(held).map(|(at, &e)| (descending(share[e as usize]), at, e)).collect();
    order.sort_unstable();
    let mut packs = Packs::new(n_devices, capacity);
    for (_, _, expert) in order {
        packs.place(expert, share[expert as usize]);
    }
    packs.slots
}

/// Devices being filled.
struct Packs {
    capacity: usize,
    slots: Vec<u32>,
    filled: Vec<usize>,
    load: Vec<f32>,
    lightest: BinaryHeap<Reverse<(u32, usize)>>,
    passed: Vec<Reverse<(u32, usize)>>,
}

impl Packs {
    fn new(n: usize, capacity: usize) -> Self {
        Self {
            capacity,
            slots: vec![0; n * capacity],
            filled: vec![0; n],
            load: vec![0.0; n],
            lightest: (0..n).map(|device| Reverse((0, device))).collect(),
            passed: Vec::new(),
        }
    }

    fn held(&self, device: usize) -> &[u32] {
        let first = device * self.capacity;
        &self.slots[first..first + self.filled[device]]
    }

    fn place(&mut self, expert: u32, share: f32) {
        while let Some(&top) = self.lightest.peek() {
            let device = top.0.1;
            if !self.held(device).contains(&expert) {
                self.push(device, expert, share);
                if let Some(mut top) = self.lightest.peek_mut() {
                    if self.filled[device] < self.capacity {
                        top.0.0 = ascending(self.load[device]);
                    } else {
                        PeekMut::pop(top);
                    }
                }
                self.lightest.extend(self.passed.drain(..));
                return;
            }
            self.passed.extend(self.lightest.pop());
        }
        self.lightest.extend(self.passed.drain(..));
        self.make_room(expert, share);
    }

    fn push(&mut self, device: usize, expert: u32, share: f32) {
        self.slots[device * self.capacity + self.filled[device]] = expert;
        self.filled[device] += 1;
        self.load[device] += share;
    }

    /// Every device with room has the expert: a full device without it (one exists, for
    /// there are fewer replicas than devices) hands over an expert that a device with room
    /// lacks (one exists, for the full device has more experts).
    ///
    /// Loads in the heap go stale for two devices, which only makes the order rougher.
    fn make_room(&mut self, expert: u32, share: f32) {
        let Some(&Reverse((_, open))) = self.lightest.peek() else { return };
        let full = (0..self.filled.len())
            .filter(|&d| self.filled[d] == self.capacity && !self.held(d).contains(&expert))
            .min_by(|&a, &b| self.load[a].total_cmp(&self.load[b]));
        let Some(full) = full else { return };
        // Slots were filled in descending share: the last that fits is the lightest.
        let given = self.held(full).iter().rposition(|e| !self.held(open).contains(e));
        let Some(given) = given else { return };
        let moved = std::mem::replace(&mut self.slots[full * self.capacity + given], expert);
        self.push(open, moved, 0.0);
        self.load[full] += share;
        if self.filled[open] == self.capacity {
            self.lightest.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Shape, SlotMap};
    use proptest::prelude::*;

    #[test]
    fn a_cap_sends_replicas_to_the_next_expert() {
        assert_eq!(replicate(&[100.0, 10.0, 1.0], 6, 2).1, [2, 2, 2]);
        assert_eq!(replicate(&[100.0, 10.0, 1.0], 5, 9).1, [3, 1, 1]);
        assert_eq!(replicate(&[1.0, 1.0], 9, 2).0, [0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn no_duplicates_and_eplb_where_it_has_none(
            load in prop::collection::vec(0..2000_u32, 8),
            n_devices in 2..9_u32,
            slots in 1..8_u32,
        ) {
            prop_assume!(n_devices * slots >= 8);
            let load: Vec<f64> = load.iter().map(|&x| f64::from(x)).collect();
            let shape = Shape::new(8, n_devices, n_devices * slots).unwrap();
            let (held, counts) = replicate(&load, shape.n_slots() as usize, n_devices);
            let slots = pack(&held, &load, &counts, n_devices as usize, slots as usize);
            let map = SlotMap::new(shape, slots).unwrap();
            prop_assert_eq!(map.same_device_duplicates(), 0);
            prop_assert_eq!(map.replicas(), counts);
            let eplb = eplb::flat(&load, shape).unwrap();
            if eplb.same_device_duplicates() == 0 {
                let loads = |map: &SlotMap| crate::placement::balance::device_loads(map, &load);
                prop_assert_eq!(loads(&eplb), loads(&map));
            }
        }
    }
}
