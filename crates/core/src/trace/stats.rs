//! How uneven and how steady the load of the experts is, layer by layer.

use crate::trace::counts::ExpertCounts;

/// Expert skewness of one layer.
///
/// ```text
/// s_l = max_e c[l,e] / mean_e c[l,e]
/// ```
///
/// c\[l,e\]: tokens routed to expert e in layer l (1). Dimensionless, from 1 (even) to the
/// number of experts. Source: MoE-GPS (arXiv 2506.07366). `None` for a layer without
/// tokens.
///
/// ```
/// use moe_gps_core::trace::stats::skewness;
/// // Four experts, the hottest has 75 %.
/// assert_eq!(skewness(&[75.0, 10.0, 10.0, 5.0]), Some(3.0));
/// ```
#[must_use]
pub fn skewness(counts: &[f64]) -> Option<f64> {
    let total: f64 = counts.iter().sum();
    let max = counts.iter().copied().fold(0.0, f64::max);
    (total > 0.0).then(|| max * counts.len() as f64 / total)
}

/// Distribution error of one layer: how far the shares of one part are from another's.
///
/// ```text
/// eps_l = E · mean_e |p̂[l,e] − p[l,e]| = Σ_e |p̂[l,e] − p[l,e]|,   p = n_e / Σ n
/// ```
///
/// p̂: shares in the planning part; p: shares in the rest; E: experts. Dimensionless, 0 to
/// 2. Source: MoE-GPS (arXiv 2506.07366), with the maximum-likelihood estimate of both
/// shares. `None` if either part has no tokens.
///
/// ```
/// use moe_gps_core::trace::stats::distribution_error;
/// let eps = distribution_error(&[60.0, 40.0], &[5.0, 5.0]).unwrap();
/// assert!((eps - 0.2).abs() < 1e-12);
/// ```
#[must_use]
pub fn distribution_error(planned: &[f64], seen: &[f64]) -> Option<f64> {
    let planned_total: f64 = planned.iter().sum();
    let seen_total: f64 = seen.iter().sum();
    (planned_total > 0.0 && seen_total > 0.0).then(|| {
        planned.iter().zip(seen).map(|(a, b)| (a / planned_total - b / seen_total).abs()).sum()
    })
}

/// Mean over layers of the distribution error; `None` if no layer has tokens in both parts.
#[must_use]
pub fn mean_distribution_error(planned: &ExpertCounts, seen: &ExpertCounts) -> Option<f64> {
    mean(planned.layers().zip(seen.layers()).filter_map(|(a, b)| distribution_error(a, b)))
}

/// What a trace says about its load.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceStatistics {
    /// Tokens per expert and layer over the whole trace.
    pub total: ExpertCounts,
    /// The same over the first half of the tokens (routes) or steps (counts).
    pub first_half: ExpertCounts,
    /// The same over the rest.
    pub second_half: ExpertCounts,
}

impl TraceStatistics {
    /// Statistics from the counts of the two halves.
    #[must_use]
    pub fn of_halves(first_half: ExpertCounts, second_half: ExpertCounts) -> Self {
        let mut total = first_half.clone();
        total.add(&second_half);
        Self { total, first_half, second_half }
    }

    /// Skewness of every layer.
    #[must_use]
    pub fn skewness_per_layer(&self) -> Vec<f64> {
        self.total.layers().filter_map(skewness).collect()
    }

    /// Mean over layers of the error a forecast from the first half makes in the second.
    #[must_use]
    pub fn distribution_error(&self) -> Option<f64> {
        mean_distribution_error(&self.first_half, &self.second_half)
    }
}

/// Plain mean; `None` of nothing.
#[must_use]
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0_u32);
    for value in values {
        sum += value;
        n += 1;
    }
    (n > 0).then(|| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn even_load_has_skewness_one_and_no_load_none() {
        assert_eq!(skewness(&[7.0; 5]), Some(1.0));
        assert_eq!(skewness(&[0.0; 5]), None);
        assert_eq!(distribution_error(&[1.0, 1.0], &[0.0, 0.0]), None);
    }

    #[test]
    fn mean_error_skips_layers_without_tokens() {
        let counts = |values: &[f64]| ExpertCounts::from_values(2, 2, values.to_vec()).unwrap();
        let eps =
            mean_distribution_error(&counts(&[3.0, 1.0, 0.0, 0.0]), &counts(&[1.0, 1.0, 2.0, 2.0]));
        assert_eq!(eps, Some(0.5));
    }

    proptest! {
        #[test]
        fn relabelling_experts_changes_neither(
            mut pairs in prop::collection::vec((1_u32..1000, 1_u32..1000), 1..40),
            turn in 0_usize..40,
        ) {
            let part = |pairs: &[(u32, u32)], second: bool| -> Vec<f64> {
                pairs.iter().map(|p| f64::from(if second { p.1 } else { p.0 })).collect()
            };
            let before = (
                skewness(&part(&pairs, false)).unwrap(),
                distribution_error(&part(&pairs, false), &part(&pairs, true)).unwrap(),
            );
            let places = pairs.len();
            pairs.rotate_left(turn % places);
            let after = (
                skewness(&part(&pairs, false)).unwrap(),
                distribution_error(&part(&pairs, false), &part(&pairs, true)).unwrap(),
            );
            prop_assert!((before.0 - after.0).abs() < 1e-12 * before.0);
            prop_assert!((before.1 - after.1).abs() < 1e-12);
            prop_assert!((0.0..=2.0 + 1e-12).contains(&before.1));
        }
    }
}
