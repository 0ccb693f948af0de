//! Tokens per expert of one step, drawn from expected shares.
//!
//! A step of T tokens, each choosing k distinct experts, gives expert e a count `n_e` with
//! mean `T·q_e`, where `q_e` = `k·p_e` is the chance that a token chooses it, and Σ `n_e` = T·k.
//! The mean over devices of expected loads hides that the *busiest* device of a finite
//! batch carries more (uniform routing, 256 experts on 32 devices: max/mean 1.53 at 64
//! tokens), so plans are priced on drawn counts (`cost-model` §5).
//!
//! ```text
//! n_e ~ Binomial(T, q_e) independently, then the sum is mended to T·k in proportion to
//! d_e = q_e (1 − q_e)
//! ```
//!
//! which gives covariances in proportion to those of rejective sampling of k distinct
//! experts, diag d − d dᵀ / Σd (Hájek 1964). Mending takes the part `d_e` / Σd of each
//! variance away, so deviates are widened by (1 − `d_e` / Σd)^−1/2 first. The random numbers are drawn once and kept, so that questions
//! that differ in one parameter are priced on common random numbers.

use rand_distr::{Distribution, StandardNormal};

use crate::seed::{Purpose, stream};

/// Variance above which a binomial quantile is taken from its normal expansion.
const NORMAL_FROM_VARIANCE: f64 = 9.0;

/// The kept random numbers of a number of steps.
#[derive(Debug, Clone)]
pub struct Draws {
    normals: Vec<f64>,
    n_experts: usize,
}

impl Draws {
    /// Numbers for `n_draws` steps (rounded up to even) over `n_experts`, in antithetic pairs.
    #[must_use]
    pub fn new(seed: u64, index: u64, n_draws: usize, n_experts: usize) -> Self {
        let mut rng = stream(seed, Purpose::LoadSample, index);
        let n_pairs = n_draws.div_ceil(2);
        let mut normals = Vec::with_capacity(2 * n_pairs * n_experts);
        for _ in 0..n_pairs {
            let first = normals.len();
            normals.extend((0..n_experts).map(|_| -> f64 { StandardNormal.sample(&mut rng) }));
            for expert in 0..n_experts {
                normals.push(-normals[first + expert]);
            }
        }
        Self { normals, n_experts }
    }

    /// Steps that can be drawn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.normals.len().checked_div(self.n_experts).unwrap_or(0)
    }

    /// Whether there is no step to draw.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the counts of step `draw` into `counts`: whole numbers from 0 to T that sum
    /// to T·k.
    pub fn counts(&self, draw: usize, chances: &Chances, counts: &mut [f64]) {
        let normals = &self.normals[draw * self.n_experts..(draw + 1) * self.n_experts];
        for ((count, chance), z) in counts.iter_mut().zip(&chances.experts).zip(normals) {
            let z = *z / chance.left;
            *count = if chance.is_rare {
                chance.rarer.quantile(z)
            } else {
                chances.tokens - chance.rarer.quantile(-z)
            };
        }
        chances.mend_sum(counts);
    }
}

/// The chances that each of T tokens chooses each expert.
#[derive(Debug, Clone)]
pub struct Chances {
    experts: Vec<Chance>,
    tokens: f64,
    top_k: f64,
    /// Σd.
    total: f64,
}

/// The chance that a token chooses an expert.
#[derive(Debug, Clone, Copy)]
struct Chance {
    /// d = q·(1 − q).
    spread: f64,
    /// (1 − d / Σd)^½, the part of a deviate that mending leaves.
    left: f64,
    /// Whether choosing the expert, not leaving it, is the rarer of the two.
    is_rare: bool,
    /// How many tokens do the rarer of the two.
    rarer: Binomial,
}

impl Chance {
    fn can_be_chosen(&self) -> bool {
        !self.is_rare || self.rarer.chance > 0.0
    }
}

impl Chances {
    /// Of shares that sum to 1, none above 1/`top_k`.
    #[must_use]
    pub fn new(shares: &[f64], tokens: f64, top_k: u32) -> Self {
        let top_k = f64::from(top_k);
        let chance = |share: &f64| {
            let q = (top_k * share).clamp(0.0, 1.0);
            let is_rare = q <= 0.5;
            Chance {
                spread: q * (1.0 - q),
                left: 1.0,
                is_rare,
                rarer: Binomial::new(tokens, if is_rare { q } else { 1.0 - q }),
            }
        };
        let mut experts: Vec<Chance> = shares.iter().map(chance).collect();
        let total: f64 = experts.iter().map(|chance| chance.spread).sum();
        for chance in &mut experts {
            chance.left = (1.0 - chance.spread / total).max(0.5).sqrt();
        }
        Self { experts, tokens, top_k, total }
    }

    /// Brings the sum of `counts` to `tokens`·k, in proportion to each one's variance.
    fn mend_sum(&self, counts: &mut [f64]) {
        let tokens = self.tokens;
        let mut missing = tokens * self.top_k - counts.iter().sum::<f64>();
        if missing != 0.0 && self.total > 0.0 {
            // Cumulative rounding: each takes its part of what is missing, and parts add up.
            let mut owed = 0.0;
            let wanted = missing;
            for (count, chance) in counts.iter_mut().zip(&self.experts) {
                owed += wanted * chance.spread / self.total;
                let part = nearest(owed);
                let mended = (*count + part).clamp(0.0, tokens);
                owed -= part;
                missing -= mended - *count;
                *count = mended;
            }
        }
        // What clamping left over goes, one token each, to experts that can take it.
        while missing.abs() >= 0.5 {
            let before = missing;
            for (count, chance) in counts.iter_mut().zip(&self.experts) {
                if missing >= 0.5 && *count < tokens && chance.can_be_chosen() {
                    *count += 1.0;
                    missing -= 1.0;
                } else if missing <= -0.5 && *count > 0.0 {
                    *count -= 1.0;
                    missing += 1.0;
                }
            }
            if (missing - before).abs() < 0.5 {
                break;
            }
        }
    }
}

/// The distribution of how many of T tokens do what one does with a chance of a half at most.
#[derive(Debug, Clone, Copy)]
struct Binomial {
    tokens: f64,
    chance: f64,
    mean: f64,
    variance: f64,
    /// The root of the variance.
    deviation: f64,
    /// The chance that none does, where it is needed.
    of_none: f64,
}

impl Binomial {
    fn new(tokens: f64, chance: f64) -> Self {
        let mean = tokens * chance;
        let variance = mean * (1.0 - chance);
        let of_none =
            if variance >= NORMAL_FROM_VARIANCE { 0.0 } else { (tokens * (-chance).ln_1p()).exp() };
        Self { tokens, chance, mean, variance, deviation: variance.sqrt(), of_none }
    }

    /// The count at the normal deviate `z`.
    ///
    /// Second-order Cornish-Fisher expansion where the variance allows, else the exact
    /// inverse of the distribution function.
    fn quantile(&self, z: f64) -> f64 {
        let Self { tokens, chance, mean, variance, deviation, of_none } = *self;
        if variance >= NORMAL_FROM_VARIANCE {
            let skew = (1.0 - 2.0 * chance) * (z * z - 1.0) / 6.0;
            return nearest(mean + deviation * z + skew).clamp(0.0, tokens);
        }
        if mean <= 0.0 {
            return 0.0;
        }
        let below = 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
        let odds = chance / (1.0 - chance);
        let mut mass = of_none;
        let mut sum = mass;
        let mut count = 0.0;
        while sum < below && count < tokens && mass > 1e-300 {
            mass *= odds * (tokens - count) / (count + 1.0);
            count += 1.0;
            sum += mass;
        }
        count
    }
}

/// The whole number nearest to |x| < 2⁵¹, the even one of two, without the library call that
/// rounding is on older processors: most of a draw would be spent in it.
#[inline]
fn nearest(x: f64) -> f64 {
    const THREE_TIMES_TWO_TO_51: f64 = 6_755_399_441_055_744.0;
    (x + THREE_TIMES_TWO_TO_51) - THREE_TIMES_TWO_TO_51
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::power_law;

    /// Mean over draws of max/mean device load, contiguous experts.
    fn imbalance(shares: &[f64], tokens: f64, top_k: u32, devices: usize) -> f64 {
        let draws = Draws::new(0, 0, 400, shares.len());
        let chances = Chances::new(shares, tokens, top_k);
        let mut counts = vec![0.0; shares.len()];
        let mut sum = 0.0;
        for draw in 0..draws.len() {
            draws.counts(draw, &chances, &mut counts);
            let loads = counts.chunks(shares.len() / devices).map(|c| c.iter().sum::<f64>());
            sum += loads.fold(0.0, f64::max);
        }
        sum / draws.len() as f64 / (tokens * f64::from(top_k) / devices as f64)
    }

    #[test]
    fn finite_batches_of_uniform_routing_are_uneven() {
        // Expected: 256 experts on 32 devices, top 8: 1.53 at 64 tokens, 1.13 at 1024.
        let uniform = [1.0 / 256.0; 256];
        assert!((imbalance(&uniform, 64.0, 8, 32) - 1.53).abs() < 0.02);
        assert!((imbalance(&uniform, 1024.0, 8, 32) - 1.13).abs() < 0.01);
    }

    #[test]
    fn mean_and_spread_are_those_of_choosing_distinct_experts() {
        // Two of eight equal experts, 512 tokens: mean 512·0.25 = 128, variance
        // 512·0.25·0.75 = 96.
        let uniform = [0.125; 8];
        let draws = Draws::new(1, 0, 4000, 8);
        let chances = Chances::new(&uniform, 512.0, 2);
        let mut counts = vec![0.0; 8];
        let (mut sum, mut squares) = (0.0, 0.0);
        for draw in 0..draws.len() {
            draws.counts(draw, &chances, &mut counts);
            sum += counts[0];
            squares += counts[0] * counts[0];
        }
        let mean = sum / 4000.0;
        let variance = squares / 4000.0 - mean * mean;
        assert!((mean - 128.0).abs() < 0.5, "{mean}");
        assert!((variance - 96.0).abs() < 6.0, "{variance}");
    }

    proptest! {
        #[test]
        fn nearest_is_what_the_library_says(x in -1e9..1e9_f64) {
            prop_assert!((nearest(x) - x.round_ties_even()).abs() < 0.5);
        }

        #[test]
        fn tokens_are_conserved(
            experts in 2_u32..80,
            k in 1_u32..8,
            tokens in 1_u64..5000,
            at in 0.0..1.0_f64,
            seed in 0_u64..50,
        ) {
            prop_assume!(k < experts);
            let most = f64::from(experts) / f64::from(k);
            let shares = power_law::with_skewness(experts, k, 1.0 + at * (most - 1.0));
            let draws = Draws::new(seed, 0, 2, experts as usize);
            let mut counts = vec![0.0; experts as usize];
            draws.counts(1, &Chances::new(&shares, tokens as f64, k), &mut counts);
            prop_assert!((counts.iter().sum::<f64>() - (tokens * u64::from(k)) as f64).abs() < 1e-6);
            prop_assert!(counts.iter().all(|n| *n >= 0.0 && *n <= tokens as f64));
        }
    }
}
