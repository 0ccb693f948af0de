//! How many slots: the smallest plan that is not surely slower than the fastest.
//!
//! Every number of slots worth trying is priced with what it costs: replicas take memory,
//! moved experts take time. More slots balance better for less and less, so the fastest plan
//! is often a large one that gains what no model can resolve. Advised is the one with the
//! fewest slots whose interval against the fastest, from what the prices of both rest on, holds
//! equal times.
//!
//! The *price* of `distribution_only` is that of the fastest plan: the least of latencies
//! that fall with the link's and the device's rates falls with them, while a choice by an
//! interval jumps (`cost-model` §10). The plan's own latency is given beside it.

use crate::memory::MemoryBudget;
use crate::rebalance::RebalanceCost;
use crate::strategies::Strategy;
use crate::terms::Terms;
use crate::units::Seconds;

/// One number of slots that was priced.
#[derive(Debug, Clone, Copy)]
pub struct TriedSlots {
    /// Its place among the placements of the question.
    pub(crate) placement: usize,
    /// `replace_only` without a slot to spare, else `distribution_only`.
    pub strategy: Strategy,
    /// Slots of every device and layer.
    pub slots_per_device: u32,
    /// Where the time of a layer goes.
    pub terms: Terms,
    /// Memory of a device.
    pub memory: MemoryBudget,
    /// Experts that leave or enter devices when the plan first takes effect.
    pub first_moves: u64,
    /// What one renewal costs.
    pub renewal: RebalanceCost,
}

impl TriedSlots {
    fn latency(&self) -> Seconds {
        self.terms.total()
    }
}

/// The numbers of slots that were tried, fewest first, and what came of them.
#[derive(Debug, Clone)]
pub struct SlotSearch {
    /// What was tried.
    pub tried: Vec<TriedSlots>,
    /// Margin of each to the fastest up to which it is not surely slower.
    pub bands: Vec<f64>,
    /// The fastest that fits into memory.
    pub best: usize,
    /// The one with the fewest slots that fits and is not surely slower than the fastest.
    pub chosen: usize,
}

impl SlotSearch {
    /// Looks through what was tried, fewest slots first; `None` if nothing fits. `band` is the
    /// margin up to which the first is not surely faster than the second.
    #[must_use]
    pub fn of(
        tried: Vec<TriedSlots>,
        band: impl Fn(&TriedSlots, &TriedSlots) -> f64,
    ) -> Option<Self> {
        let fits = |(_, one): &(usize, &TriedSlots)| one.memory.fits();
        let fitting = tried.iter().enumerate().filter(fits);
        let (best, fastest) =
            fitting.min_by(|a, b| a.1.latency().get().total_cmp(&b.1.latency().get()))?;
        let bands: Vec<f64> = tried.iter().map(|one| band(fastest, one)).collect();
        let equal = |one: &TriedSlots, band: f64| one.latency() <= fastest.latency() * (1.0 + band);
        let chosen = tried
            .iter()
            .zip(&bands)
            .position(|(one, band)| one.memory.fits() && equal(one, *band))
            .unwrap_or(best);
        Some(Self { tried, bands, best, chosen })
    }

    /// How much longer a layer takes than with the fastest, relatively.
    #[must_use]
    pub fn behind(&self, index: usize) -> f64 {
        self.tried[index].latency() / self.tried[self.best].latency() - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::fixtures::system;
    use crate::memory::MemoryPlan;
    use crate::memory::SystemMemory;
    use crate::question::{Rebalance, RebalanceMode};
    use crate::units::Bytes;

    /// A plan of so many slots whose layer takes so many microseconds.
    fn tried(slots_per_device: u32, microseconds: f64, capacity: Bytes) -> TriedSlots {
        let system = system(4, 4, 512);
        let rebalance =
            Rebalance { mode: RebalanceMode::StartupMap, interval_steps: 1000, window_steps: None };
        let plan = MemoryPlan { slots_per_device, double_buffer: false };
        let expert_ffn = Seconds::new(microseconds * 1e-6);
        TriedSlots {
            placement: 0,
            strategy: crate::strategies::DISTRIBUTION_ONLY,
            slots_per_device,
            terms: Terms { expert_ffn, ..Terms::default() },
            memory: SystemMemory::new(&system, capacity).under(plan),
            first_moves: 0,
            renewal: RebalanceCost::new(&system, rebalance, 0.0, 4 * slots_per_device),
        }
    }

    fn search(latencies: &[f64], capacity: Bytes) -> Option<SlotSearch> {
        let slots = 2_u32..;
        let all = slots.zip(latencies).map(|(slots, us)| tried(slots, *us, capacity)).collect();
        // Two plans differ surely from 1 % on, the smallest one of two slots from 10 %.
        let band = |_: &TriedSlots, one: &TriedSlots| {
            if one.slots_per_device == 2 { 0.1 } else { 0.01 }
        };
        SlotSearch::of(all, band)
    }

    #[test]
    fn the_fewest_slots_that_are_not_surely_slower_are_chosen() {
        let roomy = Bytes::new(1e12);
        // 1.2 % behind is more than the 1 % that is not sure, 0.9 % is not.
        let found = search(&[1101.0, 1012.0, 1009.0, 1000.0, 1004.0], roomy).unwrap();
        assert_eq!((found.best, found.chosen), (3, 2));
        assert!((found.behind(2) - 0.009).abs() < 1e-12);
        assert_eq!(found.bands, [0.1, 0.01, 0.01, 0.01, 0.01]);
        // Each is judged by its own interval, however far behind it is.
        let wide = search(&[1099.0, 1012.0, 1000.0], roomy).unwrap();
        assert_eq!((wide.best, wide.chosen), (2, 0));
    }

    #[test]
    fn what_does_not_fit_is_not_chosen() {
        let three = tried(3, 1.0, Bytes::new(1e12)).memory;
        let capacity = (three.weights + three.replicas + three.kv_needed) / 0.89;
        let found = search(&[1101.0, 1000.0, 900.0], capacity).unwrap();
        assert_eq!((found.best, found.chosen), (1, 1));
        assert!(search(&[1.0], Bytes::new(1e9)).is_none());
    }
}
