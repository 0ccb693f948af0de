//! What is known of the routing, as expected shares of the experts.

pub mod forecast;
pub mod power_law;
pub mod sample;

/// The routing of one layer: what is, and what the plan believes.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRouting {
    /// Share of all assignments that each expert takes; sums to 1.
    pub truth: Vec<f64>,
    /// The same as forecast: what plans are made on.
    pub forecast: Vec<f64>,
}

impl LayerRouting {
    /// Skewness of the true shares.
    #[must_use]
    pub fn skewness(&self) -> f64 {
        skewness(&self.truth)
    }

    /// Distribution error of the forecast.
    #[must_use]
    pub fn distribution_error(&self) -> f64 {
        distribution_error(&self.truth, &self.forecast)
    }
}

/// Expert skewness s = E · max p of shares that sum to 1 (`cost-model` §2).
///
/// ```
/// use moe_gps_core::routing::skewness;
/// // Four experts, the hottest takes 75 % of the tokens: 3.0 (MoE-GPS, section 3).
/// assert!((skewness(&[0.75, 0.15, 0.05, 0.05]) - 3.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn skewness(shares: &[f64]) -> f64 {
    shares.len() as f64 * shares.iter().copied().fold(0.0, f64::max)
}

/// Distribution error `E · mean_e |p̂_e − p_e|` of a forecast (MoE-GPS, section 3).
#[must_use]
pub fn distribution_error(truth: &[f64], forecast: &[f64]) -> f64 {
    truth.iter().zip(forecast).map(|(p, q)| (p - q).abs()).sum()
}

/// Shares from counts or unnormalised shares; their sum must be above zero.
#[must_use]
pub fn normalised(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// Experts by share, the largest first, equals by id.
///
/// What is drawn for experts is drawn in this order, so that their names do not matter.
#[must_use]
pub fn by_share(shares: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]));
    order
}

/// Values of experts in `order`.
#[must_use]
pub fn in_order(values: &[f64], order: &[usize]) -> Vec<f64> {
    order.iter().map(|expert| values[*expert]).collect()
}

/// The reverse of [`in_order`]: values by expert from values in `order`.
#[must_use]
pub fn by_expert(values: &[f64], order: &[usize]) -> Vec<f64> {
    let mut by_expert = vec![0.0; values.len()];
    put_by_expert(values, order, &mut by_expert);
    by_expert
}

/// The same into room that is there.
pub fn put_by_expert(values: &[f64], order: &[usize], by_expert: &mut [f64]) {
    for (expert, value) in order.iter().zip(values) {
        by_expert[*expert] = *value;
    }
}

/// Shares of which none exceeds `cap`: what is above it goes to the others in proportion.
///
/// A token chooses k distinct experts, so no expert can take more than 1/k of the
/// assignments. `cap` times the number of shares must be at least 1.
#[must_use]
pub fn capped(mut shares: Vec<f64>, cap: f64) -> Vec<f64> {
    for _ in 0..shares.len() {
        let over = |share: &f64| *share >= cap;
        let n_capped = shares.iter().filter(|share| over(share)).count();
        let free: f64 = shares.iter().filter(|share| !over(share)).sum();
        let rest = 1.0 - cap * n_capped as f64;
        if n_capped == 0 || free <= 0.0 {
            break;
        }
        let scale = rest / free;
        for share in &mut shares {
            *share = if *share >= cap { cap } else { *share * scale };
        }
        if shares.iter().all(|share| *share <= cap * (1.0 + 1e-12)) {
            break;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_undone() {
        let shares = [0.2, 0.5, 0.1, 0.2];
        let order = by_share(&shares);
        assert_eq!(order, [1, 0, 3, 2]);
        assert_eq!(in_order(&shares, &order), [0.5, 0.2, 0.2, 0.1]);
        assert_eq!(by_expert(&in_order(&shares, &order), &order), shares);
    }

    #[test]
    fn a_cap_moves_the_surplus_in_proportion() {
        let shares = capped(vec![0.7, 0.2, 0.1], 0.5);
        assert!((shares[0] - 0.5).abs() < 1e-12);
        assert!((shares[1] - 0.5 * 2.0 / 3.0).abs() < 1e-12);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
