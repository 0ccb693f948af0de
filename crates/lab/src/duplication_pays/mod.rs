//! Whether balancing by duplication pays, asked of measured pairs.
//!
//! A pair is one distribution of tokens timed twice on the busiest device of a group: once
//! with experts in order and once under EPLB's plan, with or without extra slots. The
//! verdict names the side the expert law prices lower; it is right when that side was
//! measured faster. Loads are not in such tables, only the rule they were drawn by, so the
//! rule is drawn from again ([`draw`]) and both sides are priced over the same draws.
//!
//! # What it tests
//!
//! The skew response: what memory-bound experts with few tokens, hot experts and empty
//! slots cost. The plan is made from the very tokens it is timed on, so this shows the
//! ceiling of balancing, not the field, where a plan is older than the tokens and moves,
//! memory and communication are paid for.

pub mod draw;
pub mod sides;

use rand::RngExt as _;

use moe_gps_core::cost::experts::{ExpertLaw, ExpertWork};
use moe_gps_core::placement::PlacementError;
use moe_gps_core::seed::{Purpose, stream};
use moe_gps_core::units::Seconds;

/// A measured difference below this share is noise and not asked about.
pub const LEAST_DIFFERENCE: f64 = 0.05;

/// What both sides of a pair have in common, and the slots of the balanced one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnCase {
    /// Routed experts, E.
    pub experts: u32,
    /// Experts per token, k.
    pub top_k: u32,
    /// Expert-parallel size (EP): devices that share the routed experts.
    pub devices: u32,
    /// Slots of the balanced side, E or more.
    pub slots: u32,
    /// Tokens of the whole group, T.
    pub tokens: u32,
    /// Exponent of the power law that loads are drawn from.
    pub exponent: f64,
}

/// Times of the busiest device, in order and balanced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sides {
    /// Experts in order, one slot each.
    pub in_order: Seconds,
    /// EPLB's plan over the case's slots.
    pub balanced: Seconds,
}

impl Sides {
    /// Whether the balanced side is faster; equal times are no reason to balance.
    #[must_use]
    pub fn balancing_pays(&self) -> bool {
        self.balanced < self.in_order
    }

    /// How far apart the sides are: the slower over the faster, less one.
    #[must_use]
    pub fn difference(&self) -> f64 {
        let ratio = self.balanced / self.in_order;
        ratio.max(ratio.recip()) - 1.0
    }
}

/// Mean times of both sides over `n_draws` draws of the case's distribution.
///
/// Both sides are priced on the same draws; another number of tokens has draws of its own.
pub fn predicted(
    law: &ExpertLaw,
    case: &DrawnCase,
    seed: u64,
    n_draws: u32,
) -> Result<Sides, PlacementError> {
    let first = u64::from(case.tokens) << 16;
    let mut sums = [Seconds::ZERO; 2];
    for index in 0..n_draws {
        let mut rng = stream(seed, Purpose::PowerLawLoads, first + u64::from(index));
        let uniform: Vec<f64> = (0..case.experts).map(|_| rng.random()).collect();
        let load = draw::tokens_per_expert(case, &uniform);
        let in_order = sides::in_order(&load, case.devices);
        let balanced = sides::balanced(&load, case.devices, case.slots)?;
        for (sum, counts) in sums.iter_mut().zip([in_order, balanced]) {
            let work: ExpertWork = counts.iter().map(|&n| law.piece(n)).sum();
            *sum += law.time(work);
        }
    }
    let [in_order, balanced] = sums.map(|sum| sum / f64::from(n_draws.max(1)));
    Ok(Sides { in_order, balanced })
}

/// How often the faster side was named, apart for what balancing wins and loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// Pairs that balancing wins by more than [`LEAST_DIFFERENCE`].
    pub wins: u32,
    /// Those of them that were named.
    pub wins_named: u32,
    /// Pairs that balancing loses by more than [`LEAST_DIFFERENCE`].
    pub losses: u32,
    /// Those of them that were named.
    pub losses_named: u32,
}

impl Verdicts {
    /// Counts one pair; pairs too close to call are left out.
    pub fn add(&mut self, measured: &Sides, predicted: &Sides) {
        if measured.difference() <= LEAST_DIFFERENCE {
            return;
        }
        let named = u32::from(measured.balancing_pays() == predicted.balancing_pays());
        if measured.balancing_pays() {
            self.wins += 1;
            self.wins_named += named;
        } else {
            self.losses += 1;
            self.losses_named += named;
        }
    }

    /// Share of wins and of losses that were named; 1 of none.
    #[must_use]
    pub fn shares(&self) -> [f64; 2] {
        [(self.wins_named, self.wins), (self.losses_named, self.losses)]
            .map(|(named, of)| if of == 0 { 1.0 } else { f64::from(named) / f64::from(of) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(in_order: f64, balanced: f64) -> Sides {
        Sides { in_order: Seconds::new(in_order), balanced: Seconds::new(balanced) }
    }

    #[test]
    fn close_pairs_are_not_asked_and_ties_speak_against_balancing() {
        let mut verdicts = Verdicts::default();
        verdicts.add(&sides(1.0, 1.04), &sides(1.0, 2.0));
        assert_eq!(verdicts, Verdicts::default());
        verdicts.add(&sides(1.2, 1.0), &sides(1.0, 1.0));
        verdicts.add(&sides(1.0, 1.2), &sides(1.0, 1.0));
        verdicts.add(&sides(1.2, 1.0), &sides(1.1, 1.0));
        assert_eq!(verdicts, Verdicts { wins: 2, wins_named: 1, losses: 1, losses_named: 1 });
        let [wins, losses] = verdicts.shares();
        assert!((wins - 0.5).abs() < 1e-12 && (losses - 1.0).abs() < 1e-12);
    }
}
