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

use super::{PlacementError, Shape, SlotMap};
use std::cmp::Reverse;

/// What Algorithm 1 leaves behind: who hosts what, and which device takes how many tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreedyPlan {
    shape: Shape,
    /// Experts of every device: its first ones, then copies in the order they were made.
    held: Vec<Vec<u32>>,
    /// Tokens of each expert on each device, expert after expert.
    quotas: Vec<u64>,
    loads: Vec<u64>,
    /// Replicas of every expert.
    copies: Vec<u32>,
    free: u32,
    /// Room for the experts of one device.
    on_hot: Vec<(u64, u32)>,
}

/// Runs Algorithm 1 on whole tokens per expert.
///
/// The experts lie on the devices in order, ⌈E/N⌉ or ⌊E/N⌋ each; a device takes copies up
/// to its slots, an expert has at most `max_copies` replicas (the first included).
pub fn plan(tokens: &[u64], shape: Shape, max_copies: u32) -> Result<GreedyPlan, PlacementError> {
    let mut plan = GreedyPlan::start(tokens, shape)?;
    while plan.step(max_copies) {}
    Ok(plan)
}

/// Algorithm 1 up to its last copy: the same [`GreedyPlan::to_slot_map`] as [`plan`] in a
/// fraction of the time, with quotas that are not final.
///
/// Ends without a plan once `hopeful` (asked each time a sixteenth of the free slots is gone) says no.
pub(super) fn plan_copies(
    tokens: &[u64],
    shape: Shape,
    max_copies: u32,
    hopeful: &dyn Fn(&GreedyPlan) -> bool,
) -> Option<GreedyPlan> {
    let mut plan = GreedyPlan::start(tokens, shape).ok()?;
    let mut ask_at = plan.free_slots();
    while plan.free_slots() > 0 {
        if plan.free_slots() <= ask_at {
            if !hopeful(&plan) {
                return None;
            }
            ask_at = (plan.free_slots() * 15 / 16).min(plan.free_slots().saturating_sub(1));
        }
        if !plan.step(max_copies) {
            return Some(plan);
        }
    }
    hopeful(&plan).then_some(plan)
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
    fn start(tokens: &[u64], shape: Shape) -> Result<Self, PlacementError> {
        if tokens.len() != shape.n_experts() as usize {
            let experts = shape.n_experts();
            return Err(PlacementError::LoadLength { got: tokens.len(), experts });
        }
        let n = shape.n_devices() as usize;
        let mut plan = Self {
            shape,
            held: vec![Vec::with_capacity(shape.slots_per_device() as usize); n],
            quotas: vec![0; n * tokens.len()],
            loads: vec![0; n],
            copies: vec![1; tokens.len()],
            free: shape.redundant(),
            on_hot: Vec::new(),
        };
        for device in 0..shape.n_devices() {
            let home = device as usize;
            for id in first_experts(shape, device) {
                let count = tokens[id as usize];
                plan.held[home].push(id);
                plan.quotas[id as usize * n + home] = count;
                plan.loads[home] += count;
            }
        }
        Ok(plan)
    }

    /// One round of the loop; false when it is over.
    fn step(&mut self, max_copies: u32) -> bool {
        // Values first, places second: two passes over plain numbers beat one over pairs.
        let (top, bottom) = self
            .loads
            .iter()
            .fold((0, u64::MAX), |(top, bottom), &load| (top.max(load), bottom.min(load)));
        if top.saturating_sub(bottom) <= 1 {
            return false;
        }
        let place = |wanted| self.loads.iter().position(|&load| load == wanted);
        // Nearly always the coldest device works: the order of the others is made on demand.
        let (Some(hot), Some(coldest)) = (place(top), place(bottom)) else { return false };
        let n = self.loads.len();
        let mut on_hot = std::mem::take(&mut self.on_hot);
        on_hot.clear();
        on_hot.extend(
            self.held[hot]
                .iter()
                .map(|&e| (self.quotas[e as usize * n + hot], e))
                .filter(|&(tokens, _)| tokens > 0),
        );
        on_hot.sort_unstable_by_key(|&(tokens, e)| (Reverse(tokens), e));
        let moved = self.move_one(hot, coldest, &on_hot, max_copies);
        self.on_hot = on_hot;
        moved
    }

    /// Moves tokens from hot to the coldest device that can take any.
    fn move_one(
        &mut self,
        hot: usize,
        coldest: usize,
        on_hot: &[(u64, u32)],
        max_copies: u32,
    ) -> bool {
        if self.move_first(hot, coldest, on_hot, max_copies) {
            return true;
        }
        let top = self.loads[hot];
        let next = (0..self.loads.len()).fold(None, |best: Option<usize>, d| {
            let load = self.loads[d];
            let colder = best.is_none_or(|best| load < self.loads[best]);
            let open = colder && top - load > 1 && self.may_take(d, on_hot, max_copies);
            if open { Some(d) } else { best }
        });
        next.is_some_and(|cold| self.move_first(hot, cold, on_hot, max_copies))
    }

    /// Whether a device can be given tokens of any of these experts.
    fn may_take(&self, device: usize, experts: &[(u64, u32)], max_copies: u32) -> bool {
        let held = &self.held[device];
        let free = held.len() < self.shape.slots_per_device() as usize;
        experts.iter().any(|&(_, id)| held.contains(&id) || free && self.copies(id) < max_copies)
    }

    /// Moves tokens of the first expert that can go from hot to cold.
    fn move_first(
        &mut self,
        hot: usize,
        cold: usize,
        on_hot: &[(u64, u32)],
        max_copies: u32,
    ) -> bool {
        let n = self.loads.len();
        let free = self.held[cold].len() < self.shape.slots_per_device() as usize;
        for &(tokens, id) in on_hot {
            let hosted = self.held[cold].contains(&id);
            if !hosted && (!free || self.copies(id) >= max_copies) {
                continue;
            }
            if !hosted {
                self.held[cold].push(id);
                self.copies[id as usize] += 1;
                self.free -= 1;
            }
            let moved = (self.loads[hot] - self.loads[cold]).div_ceil(2).min(tokens);
            let row = id as usize * n;
            self.quotas[row + hot] -= moved;
            self.quotas[row + cold] += moved;
            self.loads[hot] -= moved;
            self.loads[cold] += moved;
            return true;
        }
        false
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
        self.held.get(device as usize).map_or(&[], Vec::as_slice)
    }

    /// Tokens of an expert that a device takes, zero where it does not host it.
    #[must_use]
    pub fn quota(&self, expert: u32, device: u32) -> u64 {
        let n = self.loads.len();
        if device as usize >= n {
            return 0;
        }
        self.quotas.get(expert as usize * n + device as usize).copied().unwrap_or(0)
    }

    /// Tokens of one expert on every device.
    #[must_use]
    pub fn quotas_of(&self, expert: u32) -> &[u64] {
        let n = self.loads.len();
        self.quotas.get(expert as usize * n..(expert as usize + 1) * n).unwrap_or_default()
    }

    /// Tokens on every device.
    #[must_use]
    pub fn loads(&self) -> &[u64] {
        &self.loads
    }

    /// Weight copies the plan makes: replicas beyond one per expert.
    #[must_use]
    pub fn copies_made(&self) -> usize {
        self.held.iter().map(Vec::len).sum::<usize>() - self.shape.n_experts() as usize
    }

    /// The plan as slots, its quotas dropped: free slots are filled by EPLB's rule, one
    /// more replica at a time for the largest load / replicas, on the lightest device (even
    /// split) that has room and lacks it; a second replica on a device only where every
    /// device with room has every expert.
    pub fn to_slot_map(&self, load: &[f64]) -> Result<SlotMap, PlacementError> {
        self.shape.check_load(load)?;
        let capacity = self.shape.slots_per_device() as usize;
        let mut held = self.held.clone();
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
            let heavier =
                |a: u32, b: u32| if share(b, &replicas) > share(a, &replicas) { b } else { a };
            let largest = (0..self.shape.n_experts()).reduce(heavier);
            let fits = largest.and_then(|e| Some((e, lightest(Some(e), &held, &loads)?)));
            let next_that_fits = || {
                let mut order: Vec<u32> = (0..self.shape.n_experts()).collect();
                order.sort_by(|&a, &b| share(b, &replicas).total_cmp(&share(a, &replicas)));
                order.iter().find_map(|&e| Some((e, lightest(Some(e), &held, &loads)?)))
            };
            let duplicate = || Some((largest?, lightest(None, &held, &loads)?));
            let Some((expert, device)) = fits.or_else(next_that_fits).or_else(duplicate) else {
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
            let fast = plan_copies(&tokens, shape, max_copies, &|_| true)
                .unwrap().to_slot_map(&load).unwrap();
            prop_assert_eq!(map, fast);
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
