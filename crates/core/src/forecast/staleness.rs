//! How wrong a forecast is on held-out steps, when fresh and when old.

use std::collections::VecDeque;

use crate::forecast::{Forecast, ForecastKind};
use crate::trace::counts::ExpertCounts;
use crate::trace::stats::mean_distribution_error;

/// Oldest forecast that is tried, in steps.
const OLDEST: usize = 64;

/// The error of a forecast of one age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AtLag {
    /// Steps between the last one seen and the one forecast; 1 is fresh.
    pub lag: usize,
    /// Mean over held-out steps of the distribution error, itself the mean over layers.
    pub error: f64,
}

/// A forecast being scored.
///
/// Every held-out step is forecast by the forecasts as they stood 1, 2, 4, … steps
/// before, all on the same steps, so that errors differ by age alone.
#[derive(Debug, Clone)]
pub struct Staleness {
    forecast: Forecast,
    lags: Vec<usize>,
    /// The latest weights, the newest last.
    past: VecDeque<ExpertCounts>,
    sums: Vec<f64>,
    n: usize,
}

impl Staleness {
    /// Scores a kind after a planning part of so many steps.
    #[must_use]
    pub fn new(kind: ForecastKind, n_layers: usize, n_experts: usize, n_planning: usize) -> Self {
        let oldest = n_planning.clamp(1, OLDEST);
        let lags: Vec<usize> = std::iter::successors(Some(1), |lag| Some(lag * 2))
            .take_while(|lag| *lag <= oldest)
            .collect();
        let sums = vec![0.0; lags.len()];
        let forecast = Forecast::new(kind, n_layers, n_experts);
        Self { forecast, lags, past: VecDeque::new(), sums, n: 0 }
    }

    /// How the scored forecast is made.
    #[must_use]
    pub const fn kind(&self) -> ForecastKind {
        self.forecast.kind()
    }

    /// Takes in a step of the planning part.
    pub fn plan(&mut self, step: &ExpertCounts) {
        self.forecast.plan(step);
        self.keep();
    }

    /// Scores a held-out step, then takes it in.
    pub fn score(&mut self, step: &ExpertCounts) {
        let errors: Option<Vec<f64>> = self
            .lags
            .iter()
            .map(|lag| {
                let weights = self.past.get(self.past.len().checked_sub(*lag)?)?;
                mean_distribution_error(weights, step)
            })
            .collect();
        if let Some(errors) = errors {
            self.n += 1;
            for (sum, error) in self.sums.iter_mut().zip(errors) {
                *sum += error;
            }
        }
        self.forecast.observe(step);
        self.keep();
    }

    fn keep(&mut self) {
        let oldest = self.lags.last().copied().unwrap_or(1);
        if self.past.len() == oldest {
            self.past.pop_front();
        }
        self.past.push_back(self.forecast.weights().clone());
    }

    /// Held-out steps that were scored.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.n
    }

    /// The error at each lag; empty if no step could be scored.
    #[must_use]
    pub fn errors(&self) -> Vec<AtLag> {
        if self.n == 0 {
            return Vec::new();
        }
        let at = |(lag, sum): (&usize, &f64)| AtLag { lag: *lag, error: sum / self.n as f64 };
        self.lags.iter().zip(&self.sums).map(at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two experts whose shares wander: the first takes `share` of 100 tokens.
    fn step(share: f64) -> ExpertCounts {
        ExpertCounts::from_values(1, 2, vec![100.0 * share, 100.0 - 100.0 * share]).unwrap()
    }

    #[test]
    fn errors_grow_with_age_as_the_load_wanders() {
        // The share moves by 0.01 a step, so a forecast from one step is wrong by twice
        // that for every step of its age.
        let mut scored = Staleness::new(ForecastKind::Window { steps: 1 }, 1, 2, 8);
        for t in 0..8_u8 {
            scored.plan(&step(0.2 + 0.01 * f64::from(t)));
        }
        for t in 8..40_u8 {
            scored.score(&step(0.2 + 0.01 * f64::from(t)));
        }
        let errors = scored.errors();
        assert_eq!(scored.steps(), 32);
        assert_eq!(errors.iter().map(|at| at.lag).collect::<Vec<_>>(), [1, 2, 4, 8]);
        for at in errors {
            assert!((at.error - 0.02 * at.lag as f64).abs() < 1e-9, "{at:?}");
        }
    }

    #[test]
    fn a_steady_load_never_grows_stale() {
        let mut scored =
            Staleness::new(ForecastKind::ExponentialAverage { half_life: 3.0 }, 1, 2, 4);
        (0..4).for_each(|_| scored.plan(&step(0.3)));
        (0..9).for_each(|_| scored.score(&step(0.3)));
        assert!(scored.errors().iter().all(|at| at.error < 1e-12));
        assert_eq!(scored.errors().len(), 3);
    }

    #[test]
    fn the_estimate_of_the_planning_part_is_the_same_at_any_age_after_it() {
        let mut scored = Staleness::new(ForecastKind::Mle, 1, 2, 1);
        scored.plan(&step(0.5));
        scored.score(&step(0.6));
        scored.score(&step(0.8));
        // (0.2 + 0.6) / 2
        let errors = scored.errors();
        assert!((errors[0].error - 0.4).abs() < 1e-12 && errors.len() == 1);
    }
}
