//! Loads of experts as the benchmarks behind the tables drew them.
//!
//! The rule is [`crate::duplication_pays::draw`], the device that is timed is
//! [`crate::duplication_pays::sides`]. Their draws are unseeded, so a row is one
//! noisy sample (of 5 or 10 draws) of what is an expectation over [`DRAWS`] draws here.
//! All rows see the same random numbers, so that rows with and without a plan are
//! compared on equal loads.

use rand::RngExt as _;

use crate::duplication_pays::{DrawnCase, draw, sides};
use moe_gps_core::placement::PlacementError;
use moe_gps_core::seed::{Purpose, stream};

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
        let case = DrawnCase {
            experts: self.experts,
            top_k: self.top_k,
            devices: self.devices,
            slots: self.plan_slots.unwrap_or(self.experts),
            tokens: self.tokens,
            exponent: self.exponent,
        };
        (0..DRAWS)
            .map(|index| {
                let mut rng = stream(0, Purpose::PowerLawLoads, index);
                let uniform: Vec<f64> = (0..self.experts).map(|_| rng.random()).collect();
                let load = draw::tokens_per_expert(&case, &uniform);
                let mut counts = match self.plan_slots {
                    None => sides::in_order(&load, self.devices),
                    Some(slots) => sides::balanced(&load, self.devices, slots)?,
                };
                counts.retain(|tokens| *tokens > 0.0);
                Ok(counts)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(exponent: f64, tokens: u32, devices: u32, plan_slots: Option<u32>) -> Drawn {
        Drawn { exponent, tokens, top_k: 8, experts: 64, devices, plan_slots }
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

    #[test]
    fn the_heaviest_device_has_at_least_the_mean() {
        for tokens in [1, 7, 64, 1000] {
            for counts in drawn(1.01, tokens, 4, None).heaviest().unwrap() {
                assert!(counts.iter().sum::<f64>() * 4.0 >= f64::from(tokens * 8));
            }
        }
    }
}
