//! Forecasts of the share of tokens per expert, and how soon they grow stale.
//!
//! [`Forecast`] looks at steps one after the other and says what it expects of the next
//! ones; [`staleness`] scores it on held-out steps, fresh and old; [`drift`] compares parts
//! of a trace, or traces. Where only a distribution error is known and no steps, see
//! [`routing::forecast`](crate::routing::forecast).

pub mod drift;
pub mod staleness;

use std::collections::VecDeque;

use crate::trace::counts::ExpertCounts;

/// How shares are forecast from the steps before (`cost-model` §6).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ForecastKind {
    /// The maximum-likelihood estimate over the planning part, `n_e / Σ n`, never renewed.
    Mle,
    /// The same over the last so many steps.
    Window {
        /// Steps that are looked back on, at least 1.
        steps: usize,
    },
    /// Exponential average: every step the past counts a little less.
    ///
    /// ```text
    /// m_t = c_t + β · m_{t−1}        β = 2^(−1/h)
    /// ```
    ///
    /// c: counts of a step; h: steps after which a step counts half.
    ExponentialAverage {
        /// Steps after which a step counts half, above 0.
        half_life: f64,
    },
}

impl ForecastKind {
    /// The name of the kind.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Mle => "mle",
            Self::Window { .. } => "window",
            Self::ExponentialAverage { .. } => "exponential_average",
        }
    }
}

/// A forecast as it stands after the steps it has seen.
#[derive(Debug, Clone)]
pub struct Forecast {
    kind: ForecastKind,
    weights: ExpertCounts,
    /// The steps inside the window.
    window: VecDeque<ExpertCounts>,
}

impl Forecast {
    /// A forecast that has seen nothing.
    #[must_use]
    pub fn new(kind: ForecastKind, n_layers: usize, n_experts: usize) -> Self {
        Self { kind, weights: ExpertCounts::zeros(n_layers, n_experts), window: VecDeque::new() }
    }

    /// How it forecasts.
    #[must_use]
    pub const fn kind(&self) -> ForecastKind {
        self.kind
    }

    /// What is expected of each expert, in proportion; zeros before the first step.
    #[must_use]
    pub const fn weights(&self) -> &ExpertCounts {
        &self.weights
    }

    /// Takes in a step of the planning part.
    pub fn plan(&mut self, step: &ExpertCounts) {
        match self.kind {
            ForecastKind::Mle => self.weights.add(step),
            ForecastKind::Window { .. } | ForecastKind::ExponentialAverage { .. } => {
                self.observe(step);
            }
        }
    }

    /// Takes in a step that was served after the planning part.
    pub fn observe(&mut self, step: &ExpertCounts) {
        match self.kind {
            ForecastKind::Mle => {}
            ForecastKind::Window { steps } => {
                self.window.push_back(step.clone());
                self.weights.add(step);
                if self.window.len() > steps.max(1)
                    && let Some(gone) = self.window.pop_front()
                {
                    // Exact for whole counts; a rest of rounded means is cut at zero.
                    for layer in 0..gone.n_layers() {
                        let weights = self.weights.layer_mut(layer);
                        for (weight, count) in weights.iter_mut().zip(gone.layer(layer)) {
                            *weight = (*weight - count).max(0.0);
                        }
                    }
                }
            }
            ForecastKind::ExponentialAverage { half_life } => {
                let kept = (-1.0 / half_life).exp2();
                for layer in 0..step.n_layers() {
                    let weights = self.weights.layer_mut(layer);
                    for (weight, count) in weights.iter_mut().zip(step.layer(layer)) {
                        *weight = kept * *weight + count;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(values: [f64; 2]) -> ExpertCounts {
        ExpertCounts::from_values(1, 2, values.to_vec()).unwrap()
    }

    fn after(kind: ForecastKind) -> Vec<f64> {
        let mut forecast = Forecast::new(kind, 1, 2);
        forecast.plan(&step([8.0, 0.0]));
        forecast.plan(&step([4.0, 4.0]));
        forecast.observe(&step([0.0, 16.0]));
        forecast.weights().layer(0).to_vec()
    }

    #[test]
    fn what_each_kind_remembers() {
        assert_eq!(after(ForecastKind::Mle), [12.0, 4.0]);
        assert_eq!(after(ForecastKind::Window { steps: 2 }), [4.0, 20.0]);
        assert_eq!(after(ForecastKind::Window { steps: 9 }), [12.0, 20.0]);
        // Half-life 1: 8/4 + 4/2, 0/4 + 4/2 + 16.
        assert_eq!(after(ForecastKind::ExponentialAverage { half_life: 1.0 }), [4.0, 18.0]);
    }
}
