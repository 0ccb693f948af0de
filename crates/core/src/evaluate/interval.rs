//! How often a plan is renewed: stalls against stale plans.
//!
//! ```text
//! latency(I) = latency(plans renewed every I steps) + (stall + slowdown) / (I · layers)
//! ```
//!
//! The first part is replayed on the planning part of a recording (its first half plans, the
//! rest is served), so that nothing of the part held out is looked at. A long interval costs
//! little and its plan grows stale; how stale, only the recording tells, so intervals are
//! tried as far as it shows at least two of them. The engine's default is kept where it equals the
//! best within the error band, and where nothing can be tried. Worked number: with 2,000
//! steps and a default of 1,000, intervals of 62, 250 and 1,000 are tried.

use crate::units::Seconds;

/// Margin up to which two intervals are equals, as between strategies (`margin`).
const UNRESOLVED: f64 = 0.01;

/// One interval, priced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TriedInterval {
    /// Steps between renewals.
    pub steps: u64,
    /// Latency of a layer without what renewals cost, where it was replayed.
    pub served: Option<Seconds>,
    /// Stall and slow-down, per layer and step.
    pub rebalance: Seconds,
}

impl TriedInterval {
    /// Latency of a layer, where it was replayed.
    #[must_use]
    pub fn latency(&self) -> Option<Seconds> {
        Some(self.served? + self.rebalance)
    }
}

/// Intervals worth trying on so many steps, shortest first: a sixteenth and a quarter of
/// `default`, itself, and four times as long; others than itself only where they are seen at
/// least twice.
#[must_use]
pub fn candidates(default: u64, n_steps: u64) -> Vec<u64> {
    [default / 16, default / 4, default, default.saturating_mul(4)]
        .into_iter()
        .filter(|steps| *steps == default || (*steps > 0 && *steps <= n_steps / 2))
        .collect()
}

/// The index of the interval to take: `default` if it equals the best, else the longest that
/// does.
#[must_use]
pub fn choose(tried: &[TriedInterval], default: u64) -> usize {
    let best = tried
        .iter()
        .filter_map(TriedInterval::latency)
        .fold(None, |best: Option<Seconds>, one| Some(best.map_or(one, |best| best.min(one))));
    let equal = |one: &TriedInterval| {
        one.latency().zip(best).is_some_and(|(one, best)| one <= best * (1.0 + UNRESOLVED))
    };
    let of_default = tried.iter().position(|one| one.steps == default);
    of_default
        .filter(|index| best.is_none() || equal(&tried[*index]))
        .or_else(|| tried.iter().rposition(equal))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(all: &[(u64, f64)]) -> Vec<TriedInterval> {
        let one = |(steps, us): &(u64, f64)| TriedInterval {
            steps: *steps,
            served: Some(Seconds::new(us * 1e-6)),
            rebalance: Seconds::new(100e-6 / *steps as f64),
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn what_the_recording_does_not_show_twice_is_not_tried() {
        assert_eq!(candidates(1000, 2000), [62, 250, 1000]);
        assert_eq!(candidates(1000, 8000), [62, 250, 1000, 4000]);
        assert_eq!(candidates(1000, 48), [1000]);
        assert_eq!(candidates(8, 10), [2, 8]);
    }

    #[test]
    fn the_default_stands_unless_another_is_better_by_more_than_the_band() {
        // 100.05 + 0.1 against 99.5 + 1.6 and 99 + 0.4 µs.
        assert_eq!(choose(&tried(&[(62, 99.5), (250, 99.5), (1000, 100.05)]), 1000), 2);
        assert_eq!(choose(&tried(&[(62, 96.0), (250, 95.5), (1000, 100.0)]), 1000), 1);
        // Of equals the longest: fewest renewals.
        assert_eq!(choose(&tried(&[(62, 90.0), (250, 90.9), (1000, 100.0)]), 1000), 1);
        let unknown = [TriedInterval { steps: 1000, served: None, rebalance: Seconds::ZERO }];
        assert_eq!(choose(&unknown, 1000), 0);
    }
}
