//! Algorithm 1 of MoE-GPS: copy the hottest device's heaviest expert to the coldest device.
//!
//! Source: Ma, Du, Chen, "MoE-GPS", arXiv 2506.07366, Algorithm 1 (after public reading
//! notes). Each token starts on the lowest-numbered device that hosts its expert. While
//! max − min device load > 1: hot device h, cold device c, Δ = ⌈(L\[h\] − L\[c\])/2⌉; take
//! h's heaviest expert; where c lacks it, copy it; move min(Δ, its tokens on h) tokens.
//!
//! The paper does not say what happens when the copy is blocked (copies at their maximum,
//! no slot on c). Here: the next heaviest expert of h, then the next coldest device with
//! Δ ≥ 1 and L\[h\] − L\[c\] > 1, then stop. Every move lowers Σ L², so it always ends.
//! Ties go to the lower id.

use crate::placement::{PlacementError, Shape, SlotMap};
use std::cmp::Reverse;

/// The extremes of some devices, the lower id among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extremes {
    hot: usize,
    cold: usize,
    /// The coldest with a free slot, `usize::MAX` where none has one.
    open: usize,
}

/// What a free slot holds, and the end of a chain of slots.
const NOBODY: u32 = u32::MAX;

/// What Algorithm 1 leaves behind: who hosts what, and which device takes how many tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreedyPlan {
    shape: Shape,
    /// Expert of every slot, a device's first ones, then copies in the order they were made,
    /// then [`NOBODY`].
    held: Vec<u32>,
    /// Tokens of that expert in every slot.
    tokens: Vec<u64>,
    /// Slots every device has filled.
    filled: Vec<usize>,
    loads: Vec<u64>,
    /// A tree over the devices: node i has the children 2i and 2i + 1.
    tree: Vec<Extremes>,
    /// The last slot that took an expert, and before every slot the one before it.
    last: Vec<u32>,
    before: Vec<u32>,
    /// Replicas of every expert.
    copies: Vec<u32>,
    free: u32,
}

/// Runs Algorithm 1 on whole tokens per expert.
///
/// The experts lie on the devices in order, ⌈E/N⌉ or ⌊E/N⌋ each; a device takes copies up
/// to its slots, an expert has at most `max_copies` replicas (the first included).
pub fn plan(tokens: &[u64], shape: Shape, max_copies: u32) -> Result<GreedyPlan, PlacementError> {
    if tokens.len() != shape.n_experts() as usize {
        let experts = shape.n_experts();
        return Err(PlacementError::LoadLength { got: tokens.len(), experts });
    }
    let mut plan = GreedyPlan::start(tokens, shape);
    while plan.step(max_copies) {}
    Ok(plan)
}

/// Algorithm 1 up to its last copy, and whether it got there: the same
/// [`GreedyPlan::to_slot_map`] as [`plan`] in a fraction of the time, with quotas that are not
/// final.
///
/// Gives up once `hopeful`, asked each time a quarter of the free slots is gone, says no.
pub(super) fn plan_copies(
    tokens: &[u64],
    shape: Shape,
    max_copies: u32,
    hopeful: &dyn Fn(&GreedyPlan) -> bool,
) -> (GreedyPlan, bool) {
    let mut plan = GreedyPlan::start(tokens, shape);
    let mut ask_at = plan.free_slots();
    while plan.free_slots() > 0 {
        if plan.free_slots() <= ask_at {
            if !hopeful(&plan) {
                return (plan, false);
            }
            ask_at = (plan.free_slots() * 3 / 4).min(plan.free_slots().saturating_sub(1));
        }
        if !plan.step(max_copies) {
            return (plan, true);
        }
    }
    let done = hopeful(&plan);
    (plan, done)
}

/// The experts that start on a device: those e with ⌊e·N/E⌋ equal to it.
pub(super) fn first_experts(shape: Shape, device: u32) -> std::ops::Range<u32> {
    let (e, n) = (u64::from(shape.n_experts()), u64::from(shape.n_devices()));
    let first = |device: u32| (u64::from(device) * e).div_ceil(n);
    let id = |x: u64| u32::try_from(x).unwrap_or(u32::MAX);
    id(first(device))..id(first(device + 1))
}

/// Whole tokens per expert for a forecast: round(p̂·T·k), halves away from zero.
///
/// Shares need not add up to 1; negative or unknown ones count nothing.
#[must_use]
pub fn quotas(shares: &[f64], assignments: f64) -> Vec<u64> {
    // Above 2^53 a float has no unit places left; no step has that many tokens.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    shares.iter().map(|p| (p * assignments).round().clamp(0.0, 2_f64.powi(53)) as u64).collect()
}

impl GreedyPlan {
    fn start(tokens: &[u64], shape: Shape) -> Self {
        let n_slots = shape.n_slots() as usize;
        let mut plan = Self {
            shape,
            held: vec![NOBODY; n_slots],
            tokens: vec![0; n_slots],
            filled: Vec::with_capacity(shape.n_devices() as usize),
            loads: Vec::with_capacity(shape.n_devices() as usize),
            tree: Vec::new(),
            last: vec![NOBODY; tokens.len()],
            before: vec![NOBODY; n_slots],
            copies: vec![1; tokens.len()],
            free: shape.redundant(),
        };
        for device in 0..shape.n_devices() {
            let first = (device * shape.slots_per_device()) as usize;
            let experts = first_experts(shape, device);
            plan.filled.push(experts.len());
            for (slot, id) in (first..).zip(experts) {
                plan.put(slot, id);
                plan.tokens[slot] = tokens[id as usize];
            }
            plan.loads.push(plan.tokens[first..][..plan.filled[device as usize]].iter().sum());
        }
        plan.grow();
        plan
    }

    /// Builds the tree; leaves beyond the last device repeat it.
    fn grow(&mut self) {
        let (n, width) = (self.loads.len(), self.loads.len().next_power_of_two());
        let leaf = |node: usize| self.leaf(node.saturating_sub(width).min(n - 1));
        self.tree = (0..2 * width).map(leaf).collect();
        (1..width).rev().for_each(|node| self.settle(node));
    }

    fn leaf(&self, device: usize) -> Extremes {
        let open = if self.has_room(device) { device } else { usize::MAX };
        Extremes { hot: device, cold: device, open }
    }

    fn settle(&mut self, node: usize) {
        let (left, right) = (self.tree[2 * node], self.tree[2 * node + 1]);
        let load = |device: usize| self.loads[device];
        self.tree[node] = Extremes {
            hot: if load(right.hot) > load(left.hot) { right.hot } else { left.hot },
            cold: if load(right.cold) < load(left.cold) { right.cold } else { left.cold },
            open: match (left.open, right.open) {
                (usize::MAX, open) | (open, usize::MAX) => open,
                (a, b) => {
                    if load(b) < load(a) {
                        b
                    } else {
                        a
                    }
                }
            },
        };
    }

    /// Brings the tree up to a device's load and room.
    fn update(&mut self, device: usize) {
        let mut node = self.tree.len() / 2 + device;
        self.tree[node] = self.leaf(device);
        while node > 1 {
            node /= 2;
            self.settle(node);
        }
    }

    fn put(&mut self, slot: usize, expert: u32) {
        self.held[slot] = expert;
        let slot_id = u32::try_from(slot).unwrap_or(NOBODY);
        self.before[slot] = std::mem::replace(&mut self.last[expert as usize], slot_id);
    }

    /// The slots a device has filled.
    fn slots(&self, device: usize) -> std::ops::Range<usize> {
        let first = device * self.shape.slots_per_device() as usize;
        first..first + self.filled[device]
    }

    fn slot_of(&self, expert: u32, device: usize) -> Option<usize> {
        self.slots(device).find(|&slot| self.held[slot] == expert)
    }

    fn has_room(&self, device: usize) -> bool {
        self.filled[device] < self.shape.slots_per_device() as usize
    }

    /// One round of the loop; false when it is over.
    fn step(&mut self, max_copies: u32) -> bool {
        let Extremes { hot, cold: coldest, .. } = self.tree[1];
        let (top, bottom) = (self.loads[hot], self.loads[coldest]);
        if top - bottom <= 1 {
            return false;
        }
        // Nearly always the coldest device works: the others are looked at on demand.
        if let Some(slot) = self.heaviest_for(hot, coldest, max_copies) {
            self.give(slot, hot, coldest);
            return true;
        }
        let next = self.next_coldest(hot, max_copies).filter(|&d| top - self.loads[d] > 1);
        let slot = next.and_then(|cold| self.heaviest_for(hot, cold, max_copies));
        next.zip(slot).is_some_and(|(cold, slot)| {
            self.give(slot, hot, cold);
            true
        })
    }

    /// The coldest device, the lower id among equals, that can take tokens from `hot`: it has
    /// one of its experts, or room for one.
    fn next_coldest(&self, hot: usize, max_copies: u32) -> Option<usize> {
        let per_device = self.shape.slots_per_device() as usize;
        let mut coldest: Option<(u64, usize)> = None;
        let mut look = |device: usize| {
            let this = (self.loads[device], device);
            coldest = Some(coldest.map_or(this, |known| known.min(this)));
        };
        let mut copied = false;
        for slot in self.slots(hot).filter(|&slot| self.tokens[slot] > 0) {
            let id = self.held[slot] as usize;
            copied |= self.copies[id] < max_copies;
            let mut host = self.last[id];
            while host != NOBODY {
                look(host as usize / per_device);
                host = self.before[host as usize];
            }
        }
        if copied && self.free > 0 {
            look(self.tree[1].open);
        }
        coldest.map(|(_, device)| device)
    }

    /// The slot of `hot` with the most tokens whose expert `cold` has or may take.
    fn heaviest_for(&self, hot: usize, cold: usize, max_copies: u32) -> Option<usize> {
        let room = self.has_room(cold);
        let fits = |&slot: &usize| {
            let id = self.held[slot];
            let copied = room && self.copies[id as usize] < max_copies;
            self.tokens[slot] > 0 && (copied || self.slot_of(id, cold).is_some())
        };
        self.slots(hot)
            .filter(fits)
            .max_by_key(|&slot| (self.tokens[slot], Reverse(self.held[slot])))
    }

    /// Moves tokens of a slot from hot to cold, with a copy of its expert where cold has none.
    fn give(&mut self, slot: usize, hot: usize, cold: usize) {
        let id = self.held[slot];
        let to = self.slot_of(id, cold).unwrap_or_else(|| {
            let to = self.slots(cold).end;
            self.put(to, id);
            self.filled[cold] += 1;
            self.copies[id as usize] += 1;
            self.free -= 1;
            to
        });
        let moved = (self.loads[hot] - self.loads[cold]).div_ceil(2).min(self.tokens[slot]);
        self.tokens[slot] -= moved;
        self.tokens[to] += moved;
        self.loads[hot] -= moved;
        self.loads[cold] += moved;
        self.update(hot);
        self.update(cold);
    }

    /// Slots that no expert has yet.
    pub(super) const fn free_slots(&self) -> u32 {
        self.free
    }

    /// Replicas of an expert, the first included.
    #[must_use]
    pub fn copies(&self, expert: u32) -> u32 {
        self.copies.get(expert as usize).copied().unwrap_or(0)
    }

    /// The experts of a device: its first ones, then copies in the order they were made.
    #[must_use]
    pub fn device(&self, device: u32) -> &[u32] {
        if device < self.shape.n_devices() { &self.held[self.slots(device as usize)] } else { &[] }
    }

    /// Slots of a device that no expert has yet.
    #[must_use]
    pub fn free_slots_of(&self, device: u32) -> u32 {
        let filled = u32::try_from(self.device(device).len()).unwrap_or(u32::MAX);
        self.shape.slots_per_device().saturating_sub(filled)
    }

    /// Tokens of an expert that a device takes, zero where it does not host it.
    #[must_use]
    pub fn quota(&self, expert: u32, device: u32) -> u64 {
        if device >= self.shape.n_devices() {
            return 0;
        }
        self.slot_of(expert, device as usize).map_or(0, |slot| self.tokens[slot])
    }

    /// Tokens of one expert on every device.
    #[must_use]
    pub fn quotas_of(&self, expert: u32) -> Vec<u64> {
        (0..self.shape.n_devices()).map(|device| self.quota(expert, device)).collect()
    }

    /// Tokens on every device.
    #[must_use]
    pub fn loads(&self) -> &[u64] {
        &self.loads
    }

    /// Weight copies the plan makes: replicas beyond one per expert.
    #[must_use]
    pub fn copies_made(&self) -> usize {
        self.filled.iter().sum::<usize>() - self.shape.n_experts() as usize
    }

    /// The plan as slots, its quotas dropped: free slots are filled by EPLB's rule, one
    /// more replica at a time for the largest load / replicas, on the lightest device (even
    /// split) that has room and lacks it; a second replica on a device only where every
    /// device with room has every expert.
    pub fn to_slot_map(&self, load: &[f64]) -> Result<SlotMap, PlacementError> {
        self.shape.check_load(load)?;
        let capacity = self.shape.slots_per_device() as usize;
        let devices = 0..self.shape.n_devices();
        let mut held: Vec<Vec<u32>> = devices.map(|d| self.device(d).to_vec()).collect();
        let mut replicas = self.copies.clone();
        let share = |e: u32, replicas: &[u32]| load[e as usize] / f64::from(replicas[e as usize]);
        let mut loads: Vec<f64> =
            held.iter().map(|on| on.iter().map(|&e| share(e, &replicas)).sum()).collect();
        let mut free: usize = held.iter().map(|on| capacity - on.len()).sum();
        while free > 0 {
            let lightest = |expert: Option<u32>, held: &[Vec<u32>], loads: &[f64]| {
                (0..held.len())
                    .filter(|&d| held[d].len() < capacity)
                    .filter(|&d| expert.is_none_or(|e| !held[d].contains(&e)))
                    .min_by(|&a, &b| loads[a].total_cmp(&loads[b]))
            };
            // The largest share that a device with room lacks, else the largest of all.
            let mut fits: Option<(u32, usize)> = None;
            let mut largest = 0;
            for expert in 0..self.shape.n_experts() {
                let of = |e: u32| share(e, &replicas);
                if of(expert) > of(largest) {
                    largest = expert;
                }
                if fits.is_none_or(|(best, _)| of(expert) > of(best))
                    && let Some(device) = lightest(Some(expert), &held, &loads)
                {
                    fits = Some((expert, device));
                }
            }
            let duplicate = || Some((largest, lightest(None, &held, &loads)?));
            let Some((expert, device)) = fits.or_else(duplicate) else {
                break;
            };
            let before = share(expert, &replicas);
            replicas[expert as usize] += 1;
            let after = share(expert, &replicas);
            for (on, load) in held.iter().zip(&mut loads) {
                let here = on.iter().filter(|&&e| e == expert).count();
                *load += (after - before) * here as f64;
            }
            held[device].push(expert);
            loads[device] += after;
            free -= 1;
        }
        SlotMap::new(self.shape, held.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(n_experts: u32, n_devices: u32, n_slots: u32) -> Shape {
        Shape::new(n_experts, n_devices, n_slots).unwrap()
    }

    #[test]
    fn the_paper_example_of_a_hot_expert_is_balanced_by_one_copy() {
        // 4 experts, the hottest has 75 % of 80 tokens: skewness 3. Loads 60,8,8,4.
        // h=0, c=3, Δ=28: expert 0 copied to device 3 → 32,8,8,32; c=1, Δ=12 → 20,20,8,32;
        // h=3 (32), c=2, Δ=12: expert 0 copied → 20,20,20,20.
        let plan = plan(&[60, 8, 8, 4], shape(4, 4, 8), u32::MAX).unwrap();
        assert_eq!(plan.loads(), [20; 4]);
        assert_eq!(plan.quotas_of(0), [20, 12, 12, 16]);
        assert_eq!((plan.copies(0), plan.copies_made()), (4, 3));
    }

    #[test]
    fn blocked_copies_end_the_loop() {
        // no free slot: nothing can move
        let full = plan(&[60, 8, 8, 4], shape(4, 4, 4), u32::MAX).unwrap();
        assert_eq!(full.loads(), [60, 8, 8, 4]);
        // one more replica allowed: expert 0 goes to device 3 and stays there
        let capped = plan(&[60, 8, 8, 4], shape(4, 4, 8), 2).unwrap();
        assert_eq!(capped.loads(), [32, 8, 8, 32]);
    }

    #[test]
    fn the_next_expert_is_taken_when_the_heaviest_is_blocked() {
        // Device 0 holds experts 0 (10 tokens) and 1 (6). Both may be copied once; expert 0
        // goes first (Δ = 8 of 16 − 0): 8, 8. Nothing is left to do.
        let plan_two = plan(&[10, 6, 0, 0], shape(4, 2, 6), 2).unwrap();
        assert_eq!(plan_two.loads(), [8, 8]);
        assert_eq!(plan_two.device(1), [2, 3, 0]);
        // Heaviest capped at one replica everywhere: no copies at all.
        let none = plan(&[10, 6, 0, 0], shape(4, 2, 6), 1).unwrap();
        assert_eq!(none.loads(), [16, 0]);
    }

    #[test]
    fn free_slots_are_filled_with_the_largest_shares() {
        let plan = plan(&[5, 5, 5, 5], shape(4, 4, 8), u32::MAX).unwrap();
        assert_eq!(plan.copies_made(), 0);
        let map = plan.to_slot_map(&[5.0, 5.0, 5.0, 5.0]).unwrap();
        assert_eq!(map.replicas(), [2; 4]);
        assert_eq!(map.same_device_duplicates(), 0);
    }

    #[test]
    fn a_forecast_becomes_whole_tokens() {
        assert_eq!(quotas(&[0.5, 0.249, 0.251, 0.0], 10.0), [5, 2, 3, 0]);
        assert_eq!(quotas(&[f64::NAN, -1.0], 10.0), [0, 0]);
    }

    proptest! {
        #[test]
        fn tokens_are_conserved_and_capacity_is_kept(
            tokens in prop::collection::vec(0..5000_u64, 16),
            extra in 0..4_u32,
            max_copies in 1..5_u32,
        ) {
            let shape = shape(16, 4, 16 + 4 * extra);
            let plan = plan(&tokens, shape, max_copies).unwrap();
            for (e, &count) in (0..).zip(&tokens) {
                prop_assert_eq!(plan.quotas_of(e).iter().sum::<u64>(), count);
                prop_assert!(plan.copies(e) <= max_copies);
                for d in 0..4 {
                    prop_assert!(plan.quota(e, d) == 0 || plan.device(d).contains(&e));
                }
            }
            for d in 0..4 {
                prop_assert!(plan.device(d).len() <= shape.slots_per_device() as usize);
            }
            let load: Vec<f64> = tokens.iter().map(|&x| x as f64).collect();
            let map = plan.to_slot_map(&load).unwrap();
            prop_assert_eq!(map.same_device_duplicates(), 0);
            let (fast, done) = plan_copies(&tokens, shape, max_copies, &|_| true);
            prop_assert!(done);
            prop_assert_eq!(map, fast.to_slot_map(&load).unwrap());
        }

        #[test]
        fn nothing_in_the_way_leaves_at_most_one_token(
            tokens in prop::collection::vec(0..5000_u64, 8),
        ) {
            let plan = plan(&tokens, shape(8, 4, 32), u32::MAX).unwrap();
            let (min, max) = (plan.loads().iter().min(), plan.loads().iter().max());
            prop_assert!(max.unwrap() - min.unwrap() <= 1);
        }
    }
}
