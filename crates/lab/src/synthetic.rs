//! Loads of a fleet that nobody recorded: named patterns of which experts are hot, drawn from a seed.
//!
//! ```text
//! p_e ∝ h   for the n hot experts of a layer,   p_e ∝ 1   for the others
//! ```
//!
//! `h` how many times a hot expert is asked for as a cold one. Which experts are hot is drawn for every
//! layer anew; a workload is one such draw. Patterns say how it changes with the time t from 0 to 1.
//! Counts of a window are drawn token by token from these shares, so that finite windows scatter as
//! recorded ones do.

use rand::seq::SliceRandom;

use moe_gps_core::routing::sample::{Chances, Draws};
use moe_gps_core::routing::{capped, normalised};
use moe_gps_core::seed::{Purpose, stream};

/// Which experts are hot, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// None: every expert is as likely.
    Balanced,
    /// Some experts, scattered over the devices, all the time.
    HotSet,
    /// The experts that one device holds where experts are in order, all the time.
    HotRank,
    /// Other experts in each of [`TURNS`] parts of the time.
    RotatingHotSpot,
    /// Some experts in the fifth of the time about its middle; before and after as balanced.
    Burst,
    /// Some experts at the beginning, others at the end, and both in changing parts between.
    Drift,
}

/// Parts of the time in a rotating hot spot.
pub const TURNS: u64 = 8;

impl Pattern {
    /// Every pattern with its name.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Balanced, "balanced"),
        (Self::HotSet, "hot-set"),
        (Self::HotRank, "hot-rank"),
        (Self::RotatingHotSpot, "rotating-hot-spot"),
        (Self::Burst, "burst"),
        (Self::Drift, "drift"),
    ];

    /// The pattern of this name.
    #[must_use]
    pub fn by_id(id: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == id).map(|(pattern, _)| *pattern)
    }
}

/// Whose loads these are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fleet {
    /// Seed of every draw; another seed is another workload.
    pub seed: u64,
    /// Layers with experts.
    pub layers: u32,
    /// Experts of a layer.
    pub experts: u32,
    /// Experts of a token.
    pub top_k: u32,
    /// Devices that share the experts.
    pub devices: u32,
    /// Hot experts of a layer; those of a hot rank are as many as a device holds.
    pub hot: u32,
    /// How many times a hot expert is asked for as a cold one.
    pub heat: f64,
}

impl Fleet {
    /// Shares of the experts of a layer at a time from 0 to 1.
    #[must_use]
    pub fn shares(&self, pattern: Pattern, at: f64, layer: u32) -> Vec<f64> {
        let weights = match pattern {
            Pattern::Balanced => self.weights(&[]),
            Pattern::HotSet => self.weights(&self.hot_set(layer, 0)),
            Pattern::HotRank => {
                let held = self.experts / self.devices.max(1);
                let first = layer % self.devices.max(1) * held;
                self.weights(&(first..first + held).collect::<Vec<_>>())
            }
            Pattern::RotatingHotSpot => self.weights(&self.hot_set(layer, turn(at))),
            Pattern::Burst => {
                let is_hot = (0.4..0.6).contains(&at);
                self.weights(&if is_hot { self.hot_set(layer, 0) } else { Vec::new() })
            }
            Pattern::Drift => {
                let before = normalised(&self.weights(&self.hot_set(layer, 0)));
                let after = normalised(&self.weights(&self.hot_set(layer, 1)));
                let at = at.clamp(0.0, 1.0);
                before.iter().zip(after).map(|(b, a)| b * (1.0 - at) + a * at).collect()
            }
        };
        capped(normalised(&weights), 1.0 / f64::from(self.top_k))
    }

    /// Tokens per expert and layer of a window of so many tokens; `nth` tells windows of the same time
    /// apart.
    #[must_use]
    pub fn window(&self, pattern: Pattern, at: f64, tokens: u32, nth: u64) -> Vec<Vec<f64>> {
        let of_layer = |layer: u32| {
            let shares = self.shares(pattern, at, layer);
            let mut counts = vec![0.0; shares.len()];
            let lane = nth * u64::from(self.layers) + u64::from(layer);
            let draws = Draws::new(self.seed, lane, 1, shares.len());
            let chances = Chances::new(&shares, f64::from(tokens), self.top_k);
            draws.counts(0, &chances, &mut counts);
            counts
        };
        (0..self.layers).map(of_layer).collect()
    }

    fn weights(&self, hot: &[u32]) -> Vec<f64> {
        let weight = |expert: u32| if hot.contains(&expert) { self.heat } else { 1.0 };
        (0..self.experts).map(weight).collect()
    }

    /// The hot experts of a layer in one of several draws.
    fn hot_set(&self, layer: u32, which: u64) -> Vec<u32> {
        let mut experts: Vec<u32> = (0..self.experts).collect();
        let lane = which << 32 | u64::from(layer);
        experts.shuffle(&mut stream(self.seed, Purpose::ExpertOrder, lane));
        experts.truncate(self.hot as usize);
        experts
    }
}

/// The part of the time in which a rotating hot spot is.
fn turn(at: f64) -> u64 {
    (0..TURNS - 1).filter(|turn| (turn + 1) as f64 / TURNS as f64 <= at).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLEET: Fleet =
        Fleet { seed: 7, layers: 3, experts: 16, top_k: 2, devices: 4, hot: 3, heat: 5.0 };

    fn hot(pattern: Pattern, at: f64, layer: u32) -> Vec<usize> {
        let shares = FLEET.shares(pattern, at, layer);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let most = shares.iter().copied().fold(0.0, f64::max);
        let least = shares.iter().copied().fold(1.0, f64::min);
        (0..16).filter(|expert| least < most && most <= shares[*expert]).collect()
    }

    #[test]
    fn patterns_heat_what_their_names_say() {
        assert!(hot(Pattern::Balanced, 0.5, 0).is_empty());
        let set = hot(Pattern::HotSet, 0.0, 1);
        assert_eq!(set.len(), 3);
        assert_eq!(
            (hot(Pattern::HotSet, 1.0, 1), hot(Pattern::Drift, 0.0, 1)),
            (set.clone(), set.clone())
        );
        // 3 · 5 of 13 + 15 parts: each hot expert has 5/28.
        let shares = FLEET.shares(Pattern::HotSet, 0.3, 1);
        assert!((shares[set[0]] - 5.0 / 28.0).abs() < 1e-12, "{shares:?}");
        assert_ne!(hot(Pattern::HotSet, 0.0, 0), set, "every layer has its own");
        assert_eq!(hot(Pattern::HotRank, 0.9, 2), [8, 9, 10, 11]);
        for (at, is_hot) in [(0.39, false), (0.4, true), (0.59, true), (0.6, false)] {
            assert_eq!(!hot(Pattern::Burst, at, 0).is_empty(), is_hot, "{at}");
        }
        let turns: Vec<_> =
            (0..8).map(|turn| hot(Pattern::RotatingHotSpot, f64::from(turn) / 8.0, 0)).collect();
        assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
        assert_eq!(turns[0], hot(Pattern::RotatingHotSpot, 0.124, 0));
        assert_ne!(hot(Pattern::Drift, 1.0, 1), set);
        let other = Fleet { seed: 8, ..FLEET };
        assert_ne!(other.shares(Pattern::HotSet, 0.0, 1), shares);
        for (pattern, name) in Pattern::ALL {
            assert_eq!(Pattern::by_id(name), Some(pattern));
        }
    }

    #[test]
    fn windows_hold_every_token_and_scatter_about_the_shares() {
        let window = FLEET.window(Pattern::HotSet, 0.0, 20_000, 4);
        assert_eq!(window, FLEET.window(Pattern::HotSet, 0.0, 20_000, 4));
        assert_ne!(window, FLEET.window(Pattern::HotSet, 0.0, 20_000, 5));
        for (layer, counts) in (0..).zip(&window) {
            assert!((counts.iter().sum::<f64>() - 40_000.0).abs() < 1e-9);
            for (count, share) in counts.iter().zip(FLEET.shares(Pattern::HotSet, 0.0, layer)) {
                let expected = 40_000.0 * share;
                assert!((count - expected).abs() < 6.0 * expected.sqrt(), "{count} {expected}");
            }
        }
    }
}
