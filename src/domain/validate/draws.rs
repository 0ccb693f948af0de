//! Loads of experts as the benchmarks behind the tables drew them.
//!
//! # Law
//!
//! Loads are drawn independently from a power law of exponent a between lo and hi,
//!
//! ```text
//! x = ((hi^(1−a) − lo^(1−a))·u + lo^(1−a))^(1/(1−a)),   u uniform on [0, 1)
//! ```
//!
//! scaled to T·k tokens, rounded, the remainder added to the largest (taken from the
//! smallest) one by one, and clipped at T. [lo, hi] is [1, 0.8·T], or [0.01, 2] where
//! there are no more pairs than experts. Contiguous experts form a device and the one
//! with the most tokens is timed. With a plan, the experts are first placed by EPLB on
//! these very loads and the tokens of an expert dealt to its copies in turn.
//!
//! # Source and validity
//!
//! How the collector of aiconfigurator (NVIDIA, Apache-2.0) makes its `power_law` rows;
//! read, not copied. Its draws are unseeded, so a row is one noisy sample (of 5 or 10
//! draws) of what is an expectation over [`DRAWS`] draws here. All rows see the same
//! random numbers, so that rows with and without a plan are compared on equal loads.

use rand::RngExt as _;

use crate::domain::placement::{PlacementError, Shape, eplb};
use crate::domain::seed::{Purpose, stream};

/// Draws a load is averaged over.
pub const DRAWS: u64 = 32;

/// Loads that were drawn at random.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// Exponent of the power law, a.
    pub exponent: f64,
    /// Tokens of the group, T.
    pub tokens: u32,
    /// Experts per token, k.
    pub top_k: u32,
    /// Routed experts.
    pub experts: u32,
    /// Devices of the group.
    pub devices: u32,
    /// Slots of EPLB's plan, if the experts were placed by one.
    pub plan_slots: Option<u32>,
}

impl Drawn {
    /// A key by which equal draws are found again.
    #[must_use]
    pub const fn key(&self) -> (u64, [u32; 5]) {
        let plan = match self.plan_slots {
            Some(slots) => slots,
            None => 0,
        };
        let whole = [self.tokens, self.top_k, self.experts, self.devices, plan];
        (self.exponent.to_bits(), whole)
    }

    /// Tokens of each expert of the heaviest device, draw by draw; idle ones left out.
    pub fn heaviest(&self) -> Result<Vec<Vec<f64>>, PlacementError> {
        (0..DRAWS).map(|draw| self.heaviest_of(&self.counts(draw))).collect()
    }

    /// Tokens of every expert of the group in one draw.
    fn counts(&self, draw: u64) -> Vec<u32> {
        let mut rng = stream(0, Purpose::BenchmarkLoads, draw);
        let pairs = f64::from(self.tokens) * f64::from(self.top_k);
        let many = pairs > f64::from(self.experts);
        let (lo, hi) = if many { (1.0, 0.8 * f64::from(self.tokens)) } else { (0.01, 2.0) };
        let weights: Vec<f64> =
            (0..self.experts).map(|_| bounded_power(self.exponent, lo, hi, rng.random())).collect();
        let sum: f64 = weights.iter().sum();
        let mut counts: Vec<i64> =
            weights.iter().map(|weight| whole((weight / sum * pairs).round())).collect();
        deal_remainder(&mut counts, whole(pairs));
        counts.iter().map(|&count| small(count).min(self.tokens)).collect()
    }

    fn heaviest_of(&self, counts: &[u32]) -> Result<Vec<f64>, PlacementError> {
        let slots = match self.plan_slots {
            None => counts.to_vec(),
            Some(slots) => self.planned(counts, slots)?,
        };
        let per_device = (slots.len() / self.devices.max(1) as usize).max(1);
        let heaviest = slots
            .chunks(per_device)
            .reduce(|best, next| if sum(next) > sum(best) { next } else { best })
            .unwrap_or_default();
        Ok(heaviest.iter().filter(|&&tokens| tokens > 0).map(|&n| f64::from(n)).collect())
    }

    /// Tokens of every slot under EPLB's plan for these very counts.
    fn planned(&self, counts: &[u32], slots: u32) -> Result<Vec<u32>, PlacementError> {
        let load: Vec<f64> = counts.iter().map(|&count| f64::from(count)).collect();
        let map = eplb::flat(&load, Shape::new(self.experts, self.devices, slots)?)?;
        let copies = map.replicas();
        let mut dealt = vec![0_u32; counts.len()];
        Ok(map
            .physical_to_logical()
            .iter()
            .map(|&expert| {
                let expert = expert as usize;
                let turn = dealt[expert];
                dealt[expert] += 1;
                // The first copies take one more where the tokens do not divide.
                (counts[expert] + copies[expert] - 1 - turn) / copies[expert]
            })
            .collect())
    }
}

fn sum(counts: &[u32]) -> u64 {
    counts.iter().map(|&count| u64::from(count)).sum()
}

/// A number between `lo` and `hi` whose density falls with the power `a`.
fn bounded_power(a: f64, lo: f64, hi: f64, u: f64) -> f64 {
    let e = 1.0 - a;
    if e.abs() < 1e-9 {
        return lo * libm::pow(hi / lo, u);
    }
    let (low, high) = (libm::pow(lo, e), libm::pow(hi, e));
    libm::pow((high - low) * u + low, 1.0 / e)
}

/// Makes rounded counts add up to `total`: the largest get one more each in turn, the
/// smallest one less, the very largest where those are empty.
fn deal_remainder(counts: &mut [i64], total: i64) {
    let delta = total - counts.iter().sum::<i64>();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&expert| std::cmp::Reverse(counts[expert]));
    let n = order.len().max(1);
    for i in 0..usize::try_from(delta.abs()).unwrap_or(0) {
        if delta > 0 {
            counts[order[i % n]] += 1;
        } else {
            let expert = order[n - 1 - i % n];
            let taken = if counts[expert] > 0 {
                Some(expert)
            } else {
                (0..counts.len()).max_by_key(|&expert| counts[expert])
            };
            if let Some(expert) = taken {
                counts[expert] -= 1;
            }
        }
    }
}

/// A count that was computed as a float; far below 2^53 everywhere here.
#[expect(clippy::cast_possible_truncation, reason = "whole and far below 2^53")]
fn whole(x: f64) -> i64 {
    x as i64
}

fn small(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(exponent: f64, tokens: u32, devices: u32, plan_slots: Option<u32>) -> Drawn {
        Drawn { exponent, tokens, top_k: 8, experts: 64, devices, plan_slots }
    }

    #[test]
    fn the_power_law_has_its_bounds_and_its_median() {
        assert!((bounded_power(1.2, 1.0, 100.0, 0.0) - 1.0).abs() < 1e-12);
        assert!((bounded_power(1.2, 1.0, 100.0, 1.0) - 100.0).abs() < 1e-9);
        // Exponent 1: half the draws below the geometric mean of the bounds.
        assert!((bounded_power(1.0, 1.0, 100.0, 0.5) - 10.0).abs() < 1e-9);
        // Exponent 2: 1/x is uniform, so half are below 2/(1 + 1/100).
        assert!((bounded_power(2.0, 1.0, 100.0, 0.5) - 2.0 / 1.01).abs() < 1e-9);
    }

    #[test]
    fn remainders_go_to_the_largest_and_come_from_the_smallest() {
        let dealt = |mut counts: Vec<i64>, total| {
            deal_remainder(&mut counts, total);
            counts
        };
        assert_eq!(dealt(vec![1, 5, 3], 11), [1, 6, 4]);
        assert_eq!(dealt(vec![1, 5, 3], 7), [0, 5, 2]);
        assert_eq!(dealt(vec![0, 5], 3), [0, 3]);
    }

    #[test]
    fn a_plan_made_from_the_very_loads_levels_them() {
        let heaviest = |drawn: &Drawn| -> f64 {
            let draws = drawn.heaviest().unwrap();
            draws.iter().map(|counts| counts.iter().sum::<f64>()).sum::<f64>() / draws.len() as f64
        };
        let even = 4096.0 * 8.0 / 8.0;
        let without = heaviest(&drawn(1.2, 4096, 8, None));
        let with = heaviest(&drawn(1.2, 4096, 8, Some(72)));
        assert!(without > 1.3 * even && with < 1.1 * even, "{without} {with} {even}");
        assert!(drawn(1.2, 64, 8, Some(70)).heaviest().is_err());
    }

    proptest! {
        #[test]
        fn tokens_are_kept_and_the_heaviest_device_has_at_least_the_mean(
            exponent in 0.5..1.6_f64, tokens in 1_u32..3000, devices in 0_u32..6,
            planned in prop::bool::ANY,
        ) {
            let devices = 1 << devices;
            let drawn = drawn(exponent, tokens, devices, planned.then_some(64 + devices));
            let counts = drawn.counts(0);
            prop_assert!(counts.iter().all(|&count| count <= tokens));
            let total = sum(&counts);
            prop_assert!(total <= u64::from(tokens) * 8);
            let heaviest: f64 = drawn.heaviest_of(&counts).unwrap().iter().sum();
            prop_assert!(heaviest * f64::from(devices) >= total as f64 - 1e-6);
        }
    }
}
