//! Shares of experts that follow a power law, by exponent or by skewness.
//!
//! ```text
//! p_i = (i+1)^−α / Σ_j (j+1)^−α        i = 0 … E−1, hottest first
//! s   = E · p_0                        skewness
//! ```
//!
//! Source: `cost-model` §5. A scalar skewness does not determine the load of a device;
//! this law is the named assumption that stands in for the missing counts.

use crate::routing::capped;

/// Shares with exponent `alpha`, hottest first, none above 1/k.
#[must_use]
pub fn with_exponent(n_experts: u32, top_k: u32, alpha: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=n_experts).map(|rank| f64::from(rank).powf(-alpha)).collect();
    capped(crate::routing::normalised(&weights), 1.0 / f64::from(top_k))
}

/// The exponent at which the hottest of `n_experts` has skewness `skewness`.
///
/// Newton's method on ln s(α) = ln E − ln Σ i^−α, whose slope is the mean of ln i under
/// the shares; kept inside a bracket. `skewness` is clamped to [1, E); at E the exponent
/// would be infinite.
#[must_use]
pub fn exponent_for(n_experts: u32, skewness: f64) -> f64 {
    let n = f64::from(n_experts);
    if skewness <= 1.0 || n_experts < 2 {
        return 0.0;
    }
    let target = skewness.min(n * (1.0 - 1e-12)).ln();
    let logs: Vec<f64> = (1..=n_experts).map(|rank| f64::from(rank).ln()).collect();
    let (mut low, mut high) = (0.0, 64.0);
    let mut alpha: f64 = 1.0;
    for _ in 0..100 {
        let mut sum = 0.0;
        let mut weighted = 0.0;
        for log in &logs {
            let weight = (-alpha * log).exp();
            sum += weight;
            weighted += weight * log;
        }
        let error = n.ln() - sum.ln() - target;
        if error.abs() < 1e-13 {
            break;
        }
        if error < 0.0 {
            low = alpha;
        } else {
            high = alpha;
        }
        let step = alpha - error * sum / weighted;
        alpha = if step > low && step < high { step } else { f64::midpoint(low, high) };
    }
    alpha
}

/// Shares with skewness `skewness` (1 to E/k), hottest first.
#[must_use]
pub fn with_skewness(n_experts: u32, top_k: u32, skewness: f64) -> Vec<f64> {
    with_exponent(n_experts, top_k, exponent_for(n_experts, skewness))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zipf_over_eight_experts() {
        // H_8 = 2.717857, so with exponent 1 the hottest has skewness 8 / 2.717857 = 2.943495.
        let shares = with_exponent(8, 1, 1.0);
        assert!((8.0 * shares[0] - 2.943_495_4).abs() < 1e-6);
        assert!((exponent_for(8, 2.943_495_4) - 1.0).abs() < 1e-7);
    }

    proptest! {
        #[test]
        fn the_asked_skewness_comes_out(experts in 2_u32..300, top_k in 1_u32..9, at in 0.0..1.0_f64) {
            prop_assume!(top_k < experts);
            let most = f64::from(experts) / f64::from(top_k);
            let asked = 1.0 + at * (most - 1.0);
            let shares = with_skewness(experts, top_k, asked);
            let found = crate::routing::skewness(&shares);
            prop_assert!((found - asked).abs() < 1e-6 * asked, "{found} for {asked}");
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(shares.iter().all(|p| *p <= 1.0 / f64::from(top_k) + 1e-9));
        }
    }
}
