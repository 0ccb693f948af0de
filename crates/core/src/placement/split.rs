//! Device loads when replicas do not share a load evenly.
//!
//! Engines differ in how a token picks one of its expert's replicas
//! ([`ReplicaSplit`]): evenly by a hash, the nearest one, or so that the busiest device is
//! as light as possible. The last is a bound no dispatch can beat on a given map.

use crate::placement::{SlotMap, balance};
use crate::system::ReplicaSplit;
use std::collections::VecDeque;

/// Load of every device under a way of splitting each expert's load over its replicas.
///
/// `devices_per_node` matters to the nearest replica only; tokens come evenly from all
/// devices.
#[must_use]
pub fn device_loads(
    map: &SlotMap,
    load: &[f64],
    split: ReplicaSplit,
    devices_per_node: u32,
) -> Vec<f64> {
    match split {
        ReplicaSplit::Hashed => balance::device_loads(map, load),
        ReplicaSplit::NearestFirst => nearest_first(map, load, devices_per_node),
        ReplicaSplit::Optimal => optimal(map, load),
    }
}

/// Loads when every device sends an expert's tokens to the replicas nearest to it: its own,
/// else those of its node, else all, evenly among equals.
#[must_use]
pub fn nearest_first(map: &SlotMap, load: &[f64], devices_per_node: u32) -> Vec<f64> {
    let shape = map.shape();
    let n = shape.n_devices() as usize;
    let per_node = (devices_per_node.max(1) as usize).min(n);
    let mut out = vec![0.0; n];
    for (hosts, &x) in hosts_of_experts(map).iter().zip(load) {
        let from_each = x / n as f64;
        for source in 0..n {
            let node = source / per_node;
            let near: &[usize] = if let Ok(at) = hosts.binary_search(&source) {
                &hosts[at..=at]
            } else {
                let first = hosts.partition_point(|&h| h < node * per_node);
                let end = hosts.partition_point(|&h| h < (node + 1) * per_node);
                if first < end { &hosts[first..end] } else { hosts }
            };
            for &host in near {
                out[host] += from_each / near.len() as f64;
            }
        }
    }
    out
}

/// Loads under the split that minimises the busiest device, to 1e-9 relative.
///
/// min t with a feasible flow expert → its devices of capacity t each. It equals the
/// largest, over sets of devices, of the load that can go nowhere else, per device of the
/// set; starting from the mean, every infeasible t names such a set by its minimum cut and
/// the next t is that set's mean (Dinkelbach), so the search ends after finitely many cuts.
#[must_use]
pub fn optimal(map: &SlotMap, load: &[f64]) -> Vec<f64> {
    let hosts = hosts_of_experts(map);
    least(&hosts, map.shape().n_devices() as usize, load).device_loads()
}

/// The share of its expert's load that every slot takes under [`optimal`]; an expert's
/// shares sum to 1, and one without any load is shared evenly.
#[must_use]
pub fn optimal_shares(map: &SlotMap, load: &[f64]) -> Vec<f64> {
    let hosts = hosts_of_experts(map);
    let flow = least(&hosts, map.shape().n_devices() as usize, load);
    let replicas = map.replicas();
    let share = |(device, expert): (usize, u32)| {
        let e = expert as usize;
        let sent: f64 = flow.sent[e].iter().sum();
        let at = hosts[e].binary_search(&device);
        match at {
            Ok(at) if sent > 0.0 => {
                let here = u32::try_from(device).unwrap_or(u32::MAX);
                let same = map.device(here).iter().filter(|held| **held == expert).count();
                flow.sent[e][at] / sent / same as f64
            }
            _ => 1.0 / f64::from(replicas[e].max(1)),
        }
    };
    map.devices()
        .enumerate()
        .flat_map(|(device, held)| held.iter().map(move |expert| (device, *expert)))
        .map(share)
        .collect()
}

/// The flow of the loads to their hosts under which the busiest device is least.
fn least<'a>(hosts: &'a [Vec<usize>], n: usize, load: &[f64]) -> Flow<'a> {
    let total: f64 = load.iter().sum();
    let mut flow = Flow::new(hosts, n, load);
    let mut capacity = flow.pinned.iter().copied().fold(total / n as f64, f64::max);
    loop {
        // Room for rounding: without it the last unit may never find its way.
        match flow.saturate(load, capacity * (1.0 + 1e-12), total * 1e-11) {
            None => return flow,
            Some(stuck) => {
                let devices = stuck.iter().filter(|&&is| is).count();
                let held: f64 = hosts
                    .iter()
                    .zip(load)
                    .filter(|(hosts, _)| hosts.iter().all(|&h| stuck[h]))
                    .map(|(_, &x)| x)
                    .sum();
                let next = held / devices.max(1) as f64;
                if next <= capacity * (1.0 + 1e-12) {
                    return flow;
                }
                capacity = next;
            }
        }
    }
}

/// The distinct devices of every expert, ascending.
fn hosts_of_experts(map: &SlotMap) -> Vec<Vec<usize>> {
    let mut hosts = vec![Vec::new(); map.shape().n_experts() as usize];
    for (device, held) in map.devices().enumerate() {
        for &expert in held {
            let hosts: &mut Vec<usize> = &mut hosts[expert as usize];
            if hosts.last() != Some(&device) {
                hosts.push(device);
            }
        }
    }
    hosts
}

/// How a device was reached: the expert that sends there, at which of its hosts, and the
/// device (with its position) from which that expert's flow is taken; none at the source.
type Reached = (usize, usize, Option<(usize, usize)>);

/// Experts' loads flowing to their devices.
struct Flow<'a> {
    hosts: &'a [Vec<usize>],
    /// What every device takes of experts that lie nowhere else.
    pinned: Vec<f64>,
    /// The other experts that lie on a device, as (expert, position among its hosts).
    held: Vec<Vec<(usize, usize)>>,
    /// What each expert sends to each of its hosts.
    sent: Vec<Vec<f64>>,
}

impl<'a> Flow<'a> {
    /// The flow of those experts alone that have no choice.
    fn new(hosts: &'a [Vec<usize>], n_devices: usize, load: &[f64]) -> Self {
        let mut held = vec![Vec::new(); n_devices];
        let mut pinned = vec![0.0; n_devices];
        let mut sent = Vec::with_capacity(hosts.len());
        for ((expert, on), &load) in hosts.iter().enumerate().zip(load) {
            if let [device] = on[..] {
                pinned[device] += load;
                sent.push(vec![load]);
                continue;
            }
            for (at, &device) in on.iter().enumerate() {
                held[device].push((expert, at));
            }
            sent.push(vec![0.0; on.len()]);
        }
        Self { hosts, pinned, held, sent }
    }

    fn device_loads(&self) -> Vec<f64> {
        let sent = |&(expert, at): &(usize, usize)| self.sent[expert][at];
        let load = |(held, pinned): (&Vec<_>, &f64)| pinned + held.iter().map(sent).sum::<f64>();
        self.held.iter().zip(&self.pinned).map(load).collect()
    }

    /// Sends what is not yet sent along shortest augmenting paths; where some load above
    /// `tolerance` stays, the devices it reaches, all of them full.
    fn saturate(&mut self, load: &[f64], capacity: f64, tolerance: f64) -> Option<Vec<bool>> {
        let mut room: Vec<f64> = self.device_loads().iter().map(|x| capacity - x).collect();
        for (expert, &x) in load.iter().enumerate() {
            let mut left = x - self.sent[expert].iter().sum::<f64>();
            while left > tolerance {
                match self.augment(expert, left, &mut room, tolerance) {
                    Ok(moved) => left -= moved,
                    Err(reached) => return Some(reached),
                }
            }
        }
        None
    }

    /// One breadth-first augmenting path from an expert to a device with room.
    fn augment(
        &mut self,
        expert: usize,
        left: f64,
        room: &mut [f64],
        tolerance: f64,
    ) -> Result<f64, Vec<bool>> {
        let mut from: Vec<Option<Reached>> = vec![None; room.len()];
        let mut queue = VecDeque::new();
        for (at, &device) in self.hosts[expert].iter().enumerate() {
            from[device] = Some((expert, at, None));
            queue.push_back(device);
        }
        let mut end = None;
        while let Some(device) = queue.pop_front() {
            if room[device] > tolerance {
                end = Some(device);
                break;
            }
            for &(other, at) in &self.held[device] {
                if self.sent[other][at] <= tolerance {
                    continue;
                }
                for (to_at, &to) in self.hosts[other].iter().enumerate() {
                    if from[to].is_none() {
                        from[to] = Some((other, to_at, Some((device, at))));
                        queue.push_back(to);
                    }
                }
            }
        }
        let Some(end) = end else { return Err(from.iter().map(Option::is_some).collect()) };
        let mut amount = left.min(room[end]);
        let mut device = end;
        while let Some((other, _, Some((before, at)))) = from[device] {
            amount = amount.min(self.sent[other][at]);
            device = before;
        }
        room[end] -= amount;
        let mut device = end;
        while let Some((other, to_at, taken)) = from[device] {
            self.sent[other][to_at] += amount;
            let Some((before, at)) = taken else { break };
            self.sent[other][at] -= amount;
            device = before;
        }
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::balance::Balance;
    use crate::placement::{Shape, eplb};
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    fn map(n_experts: u32, n_devices: u32, slots: &[u32]) -> SlotMap {
        let n_slots = u32::try_from(slots.len()).unwrap();
        SlotMap::new(Shape::new(n_experts, n_devices, n_slots).unwrap(), slots.to_vec()).unwrap()
    }

    #[test]
    fn the_optimal_split_fills_the_lighter_device() {
        // expert 0 (60) on both devices, expert 1 (30) on device 0, expert 2 (10) on device 1
        let map = map(3, 2, &[0, 1, 0, 2]);
        let loads = optimal(&map, &[60.0, 30.0, 10.0]);
        assert_relative_eq!(Balance::of(&loads).max, 50.0, max_relative = 1e-9);
        assert_relative_eq!(Balance::of_map(&map, &[60.0, 30.0, 10.0]).max, 60.0);
    }

    #[test]
    fn a_load_that_can_go_nowhere_else_bounds_the_split() {
        // experts 0 and 1 live on devices 0 and 1 only: 90 over two devices
        let map = map(3, 3, &[0, 1, 0, 1, 2, 2]);
        let loads = optimal(&map, &[50.0, 40.0, 9.0]);
        assert_relative_eq!(Balance::of(&loads).max, 45.0, max_relative = 1e-9);
        assert_relative_eq!(loads.iter().sum::<f64>(), 99.0, max_relative = 1e-9);
    }

    #[test]
    fn the_nearest_replica_takes_what_is_near() {
        // 4 devices, 2 nodes; expert 0 on devices 0 and 2, the rest once
        let map = map(3, 4, &[0, 1, 0, 2]);
        // node 0 sends its half of expert 0 to device 0, node 1 to device 2
        assert_eq!(nearest_first(&map, &[8.0, 4.0, 4.0], 2), [4.0, 4.0, 4.0, 4.0]);
        // as one node: 0 and 2 serve themselves, 1 and 3 halve: 2 + 2·1 each
        assert_eq!(nearest_first(&map, &[8.0, 4.0, 4.0], 4), [4.0, 4.0, 4.0, 4.0]);
        // expert 1 has one replica: everything goes there
        assert_eq!(nearest_first(&map, &[0.0, 4.0, 0.0], 2), [0.0, 4.0, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn every_split_conserves_tokens_and_the_optimal_one_is_lightest(
            load in prop::collection::vec(0.0..1000.0_f64, 12),
            extra in 0..4_u32,
        ) {
            let map = eplb::flat(&load, Shape::new(12, 4, 12 + 4 * extra).unwrap()).unwrap();
            let total: f64 = load.iter().sum();
            let best = Balance::of(&optimal(&map, &load)).max;
            for split in [ReplicaSplit::Hashed, ReplicaSplit::NearestFirst, ReplicaSplit::Optimal] {
                let loads = device_loads(&map, &load, split, 2);
                prop_assert!((loads.iter().sum::<f64>() - total).abs() <= 1e-9 * total.max(1.0));
                prop_assert!(best <= Balance::of(&loads).max * (1.0 + 1e-9));
            }
            let shares = optimal_shares(&map, &load);
            let mut of_experts = [0.0; 12];
            for (expert, share) in map.physical_to_logical().iter().zip(&shares) {
                prop_assert!(*share >= 0.0);
                of_experts[*expert as usize] += share;
            }
            prop_assert!(of_experts.iter().all(|sum| (sum - 1.0).abs() < 1e-9));
            let slots = map.shape().slots_per_device() as usize;
            let held = map.physical_to_logical().chunks(slots).zip(shares.chunks(slots));
            let most = held.map(|(experts, shares)| {
                experts.iter().zip(shares).map(|(e, x)| load[*e as usize] * x).sum::<f64>()
            });
            prop_assert!((most.fold(0.0, f64::max) - best).abs() <= 1e-9 * total.max(1.0));
        }
    }
}
