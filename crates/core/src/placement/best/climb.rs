//! Hill climbing on the busiest device: exchange two replicas, or give a copy's slot to
//! another expert, whichever lowers it most, until nothing does.

use crate::placement::best::packing::Packing;

/// How far to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    /// Good enough: the busiest device may stay at this load.
    pub(super) target: f64,
    /// Replicas an expert may have.
    pub(super) max_copies: u32,
}

/// A change under consideration and the larger load it leaves on the devices it touches.
#[derive(Debug, Clone, Copy)]
enum Change {
    Swap(usize, usize),
    Retarget(usize, u32),
}

/// Steps smaller than this share of the busiest load are rounding, not progress.
const STEP: f64 = 1e-9;

/// Lightest devices tried as partners of an exchange.
const PARTNERS: usize = 24;

/// Improves a packing until the target, a local optimum, or the end of the budget, which
/// counts looked-at changes.
pub(super) fn climb(packing: &mut Packing, goal: Goal, budget: &mut usize) {
    let mut order: Vec<usize> = (0..packing.device_load.len()).collect();
    while *budget > 0 {
        let hot = packing.hottest();
        if packing.device_load[hot] <= goal.target {
            break;
        }
        let loads = &packing.device_load;
        let lighter = |&a: &usize, &b: &usize| loads[a].total_cmp(&loads[b]).then(a.cmp(&b));
        *budget = budget.saturating_sub(order.len() / 4);
        let partners = PARTNERS.min(order.len());
        if partners < order.len() {
            order.select_nth_unstable_by(partners, lighter);
        }
        order[..partners].sort_unstable_by(lighter);
        let change = best_swap(packing, hot, &order[..partners], goal, budget)
            .or_else(|| best_retarget(packing, hot, goal, budget));
        match change {
            Some(Change::Swap(a, b)) => packing.swap(a, b),
            Some(Change::Retarget(slot, expert)) => packing.retarget(slot, expert),
            None => break,
        }
    }
    packing.recount();
}

/// The exchange between the hottest and another device that leaves the lower larger load.
fn best_swap(
    packing: &Packing,
    hot: usize,
    order: &[usize],
    goal: Goal,
    budget: &mut usize,
) -> Option<Change> {
    let top = packing.device_load[hot];
    let per_device = packing.per_device();
    let mut best = (top * (1.0 - STEP), None);
    for &cold in order {
        let other = packing.device_load[cold];
        // No exchange does better than the mean of the two.
        if cold == hot || f64::midpoint(top, other) >= best.0 || best.0 <= goal.target {
            break;
        }
        *budget = budget.saturating_sub(per_device * per_device);
        for (i, &a) in packing.held(hot).iter().enumerate() {
            let from = packing.share[a as usize];
            for (j, &b) in packing.held(cold).iter().enumerate() {
                let delta = from - packing.share[b as usize];
                let left = (top - delta).max(other + delta);
                if left < best.0 && packing.may_move(a, hot, cold) && packing.may_move(b, cold, hot)
                {
                    let change = Change::Swap(hot * per_device + i, cold * per_device + j);
                    best = (left, Some(change));
                }
            }
        }
    }
    best.1
}

/// The slot that, given to another expert, lowers the hottest device most without making
/// another one as hot.
///
/// Either a slot elsewhere takes one more replica of an expert the hottest device holds, or
/// a slot of the hottest device gives up a copy for a lighter one.
fn best_retarget(packing: &Packing, hot: usize, goal: Goal, budget: &mut usize) -> Option<Change> {
    let top = packing.device_load[hot];
    let mut best = (top * (1.0 - STEP), None);
    let hosts = Hosts::of_packing(packing);
    *budget = budget.saturating_sub(packing.slots.len() / 2);
    let mut look = |slot: usize, new: u32, budget: &mut usize| {
        let (e, old) = (new as usize, packing.slots[slot]);
        let device = slot / packing.per_device();
        if packing.replicas[e] >= goal.max_copies
            || !packing.may_take(new, device)
            || !packing.may_leave(old, device, None)
        {
            return;
        }
        *budget = budget.saturating_sub(1 + hosts.of(old).len());
        if let Some(left) = after_retarget(packing, &hosts, (slot, new), hot, best.0) {
            best = (left, Some(Change::Retarget(slot, new)));
        }
    };
    let per_device = packing.per_device();
    for slot in 0..packing.slots.len() {
        if *budget == 0 {
            break;
        }
        if packing.replicas[packing.slots[slot] as usize] < 2 {
            continue;
        }
        if slot / per_device == hot {
            (0..packing.shape.n_experts()).for_each(|new| look(slot, new, budget));
        } else {
            packing.held(hot).iter().for_each(|&new| look(slot, new, budget));
        }
    }
    best.1
}

/// The devices of every expert, in one list.
struct Hosts {
    first: Vec<u32>,
    devices: Vec<u32>,
}

impl Hosts {
    fn of_packing(packing: &Packing) -> Self {
        let mut first = Vec::with_capacity(packing.load.len() + 1);
        let mut sum = 0;
        for &replicas in &packing.replicas {
            first.push(sum);
            sum += replicas;
        }
        first.push(sum);
        let mut next = first.clone();
        let mut devices = vec![0; packing.slots.len()];
        for (device, held) in (0..).zip(packing.slots.chunks_exact(packing.per_device())) {
            for &e in held {
                devices[next[e as usize] as usize] = device;
                next[e as usize] += 1;
            }
        }
        Self { first, devices }
    }

    fn of(&self, expert: u32) -> &[u32] {
        let e = expert as usize;
        &self.devices[self.first[e] as usize..self.first[e + 1] as usize]
    }
}

/// The largest load among touched devices when a slot changes its expert, where it is
/// below `limit`.
fn after_retarget(
    packing: &Packing,
    hosts: &Hosts,
    (slot, new): (usize, u32),
    hot: usize,
    limit: f64,
) -> Option<f64> {
    let (e, old) = (new as usize, packing.slots[slot] as usize);
    let device = slot / packing.per_device();
    let taken = packing.load[e] / f64::from(packing.replicas[e] + 1);
    let relief = packing.share[e] - taken;
    let burden = packing.load[old] / f64::from(packing.replicas[old] - 1) - packing.share[old];
    let mut left = packing.device_load[device] - packing.share[old] + taken;
    if hot != device {
        left = left.max(packing.device_load[hot] - relief);
    }
    if left >= limit {
        return None;
    }
    for &host in hosts.of(packing.slots[slot]).iter().filter(|&&host| host as usize != device) {
        let relieved = if packing.holds(host as usize, new) { relief } else { 0.0 };
        left = left.max(packing.device_load[host as usize] + burden - relieved);
        if left >= limit {
            return None;
        }
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Shape;

    const GOAL: Goal = Goal { target: 0.0, max_copies: u32::MAX };

    #[test]
    fn an_exchange_evens_two_devices() {
        let shape = Shape::new(4, 2, 4).unwrap();
        let mut packing = Packing::new(shape, vec![0, 1, 2, 3], &[5.0, 4.0, 2.0, 1.0]);
        climb(&mut packing, GOAL, &mut 1000);
        assert_eq!(packing.device_load, [6.0, 6.0]);
    }

    #[test]
    fn a_useless_copy_gives_way_to_a_hot_expert() {
        // Expert 2 (1 token) has two replicas, expert 0 (8 tokens) one.
        let shape = Shape::new(3, 2, 4).unwrap();
        let mut packing = Packing::new(shape, vec![0, 2, 1, 2], &[8.0, 2.0, 1.0]);
        climb(&mut packing, GOAL, &mut 1000);
        assert_eq!(packing.replicas, [2, 1, 1]);
        assert!((packing.max() - 6.0).abs() < 1e-12);
    }
}
