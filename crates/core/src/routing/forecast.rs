//! Forecasts of a stated distribution error, where only the error is known.

use rand::Rng;

use crate::routing::distribution_error;

/// Planning assignments on which a forecast is assumed to rest if nothing is said.
const PLANNING_ASSIGNMENTS: f64 = 65_536.0;

/// The distribution error of a maximum-likelihood forecast where nothing is said of it.
///
/// [`sampling_error_of`] 65,536 assignments.
///
/// ```
/// use moe_gps_core::routing::forecast::sampling_error;
/// // Eight equal experts: 0.797885 · 8 · sqrt(0.109375 / 65536) = 0.008246.
/// assert!((sampling_error(&[0.125; 8]) - 0.008_246_2).abs() < 1e-6);
/// ```
#[must_use]
pub fn sampling_error(shares: &[f64]) -> f64 {
    sampling_error_of(shares, PLANNING_ASSIGNMENTS)
}

/// The distribution error of a maximum-likelihood forecast from n counted assignments.
///
/// ```text
/// ε = sqrt(2/π) · Σ_e sqrt(p_e (1 − p_e) / n)
/// ```
///
/// The mean absolute deviation of a binomial share in its normal limit, summed over
/// experts (`cost-model` §5).
#[must_use]
pub fn sampling_error_of(shares: &[f64], assignments: f64) -> f64 {
    let deviation = |p: &f64| (p * (1.0 - p) / assignments).max(0.0).sqrt();
    (2.0 / std::f64::consts::PI).sqrt() * shares.iter().map(deviation).sum::<f64>()
}

/// A forecast drawn around `truth` whose distribution error is `error`.
///
/// The direction of the error is drawn: `d_e` = `p_e·(z_e` − Σ p·z) with z uniform in
/// [−1, 1], which sums to zero and spares cold experts; it is scaled so that
/// `Σ|d_e`| = `error`. Where a share would fall below zero it is cut and the error scaled
/// anew. The largest reachable error is returned if `error` cannot be had.
#[must_use]
pub fn drawn_around(truth: &[f64], error: f64, rng: &mut impl Rng) -> Vec<f64> {
    let z: Vec<f64> = truth.iter().map(|_| unit(rng) * 2.0 - 1.0).collect();
    let mean: f64 = truth.iter().zip(&z).map(|(p, z)| p * z).sum();
    let direction: Vec<f64> = truth.iter().zip(&z).map(|(p, z)| p * (z - mean)).collect();
    let size: f64 = direction.iter().map(|d| d.abs()).sum();
    if error <= 0.0 || size <= 0.0 {
        return truth.to_vec();
    }
    let at = |scale: f64| -> Vec<f64> {
        let moved: Vec<f64> =
            truth.iter().zip(&direction).map(|(p, d)| (p + scale * d).max(0.0)).collect();
        crate::routing::normalised(&moved)
    };
    let linear = error / size;
    let forecast = at(linear);
    if (distribution_error(truth, &forecast) - error).abs() <= 1e-12 {
        return forecast;
    }
    // Cutting at zero bends the line: widen until the error is reached, then bisect.
    let (mut low, mut high) = (0.0, linear);
    for _ in 0..20 {
        if distribution_error(truth, &at(high)) >= error {
            break;
        }
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if distribution_error(truth, &at(middle)) < error {
            low = middle;
        } else {
            high = middle;
        }
    }
    at(high)
}

/// A uniform number in [0, 1) with 53 random bits.
pub(super) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::power_law;
    use crate::seed::{Purpose, stream};

    proptest! {
        #[test]
        fn the_asked_error_comes_out(
            experts in 4_u32..200,
            skew in 0.0..0.6_f64,
            error in 0.0..0.3_f64,
            seed in 0_u64..1000,
        ) {
            let truth = power_law::with_skewness(experts, 1, 1.0 + skew * f64::from(experts - 1));
            let mut rng = stream(seed, Purpose::ForecastError, 0);
            let forecast = drawn_around(&truth, error, &mut rng);
            let found = distribution_error(&truth, &forecast);
            prop_assert!((found - error).abs() < 1e-6, "{found} for {error}");
            prop_assert!((forecast.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(forecast.iter().all(|p| *p >= 0.0));
        }
    }
}
