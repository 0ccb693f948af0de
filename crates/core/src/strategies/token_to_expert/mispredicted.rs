//! What a predictor of stated accuracy forecasts for one step.

use rand::Rng;

use crate::question::{PredictorCost, PredictorPoint};

/// The loads a predictor forecasts when the true ones are `counts`.
///
/// Every true expert of a token is kept with the chance `accuracy`, else replaced by a
/// uniform one of the others (`cost-model` §6). Only sums over tokens matter, so the
/// number of wrong choices per expert is drawn, and each lot is spread evenly over the
/// other experts.
#[must_use]
pub(crate) fn mispredicted(counts: &[f64], accuracy: f64, rng: &mut impl Rng) -> Vec<f64> {
    let others = (counts.len() as f64 - 1.0).max(1.0);
    let mut told: Vec<f64> =
        counts.iter().map(|n| binomial(n.round(), 1.0 - accuracy, rng)).collect();
    let total: f64 = told.iter().sum();
    for (lost, n) in told.iter_mut().zip(counts) {
        *lost = n - *lost + (total - *lost) / others;
    }
    told
}

/// A binomial draw in its normal approximation, clamped; exact at the ends.
fn binomial(n: f64, chance: f64, rng: &mut impl Rng) -> f64 {
    if chance <= 0.0 || n <= 0.0 {
        return 0.0;
    }
    if chance >= 1.0 {
        return n;
    }
    let normal: f64 = rand_distr::Distribution::sample(&rand_distr::StandardNormal, rng);
    (n * chance + (n * chance * (1.0 - chance)).sqrt() * normal).round().clamp(0.0, n)
}

/// A point of a predictor that was not priced: its own, or the cheapest of its curve.
#[must_use]
pub(crate) const fn first_point(cost: &PredictorCost) -> PredictorPoint {
    match cost {
        PredictorCost::Point(point) => *point,
        PredictorCost::Curve(curve) => {
            PredictorPoint { accuracy: curve.lowest, overhead: curve.at_zero }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Purpose, stream};

    #[test]
    fn a_perfect_predictor_forecasts_the_truth_and_tokens_are_conserved() {
        let counts = [512.0, 256.0, 128.0, 128.0];
        let mut rng = stream(0, Purpose::Misprediction, 0);
        assert_eq!(mispredicted(&counts, 1.0, &mut rng), counts.to_vec());
        let forecast = mispredicted(&counts, 0.7, &mut rng);
        assert!((forecast.iter().sum::<f64>() - 1024.0).abs() < 1e-9);
        assert!(forecast[0] < 512.0);
    }
}
