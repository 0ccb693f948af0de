//! The optimiser: `AdamW` under a one-cycle rate.

/// Share of the steps in which the rate rises.
const RISING: f64 = 0.3;
/// The highest rate over the first.
const FIRST: f64 = 25.0;
/// The first rate over the last.
const LAST: f64 = 1e4;
/// Decay of the running means of gradient and squared gradient.
const BETAS: (f32, f32) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;

/// The rate of one of `n` steps.
///
/// Rises from highest/25 to the highest over the first 30 % of the steps, and falls to
/// highest/250,000, both along half a cosine. Source: Smith and Topin (arXiv 1708.07120),
/// with PyTorch's figures.
#[expect(clippy::cast_possible_truncation, reason = "a factor for f32 values")]
pub(super) fn one_cycle(step: usize, n: usize, highest: f64) -> f32 {
    let (first, last) = (highest / FIRST, highest / FIRST / LAST);
    let peak = (RISING * n as f64 - 1.0).max(1.0);
    let (from, to, share) = if (step as f64) < peak {
        (first, highest, step as f64 / peak)
    } else {
        (highest, last, (step as f64 - peak) / (n as f64 - 1.0 - peak).max(1.0))
    };
    (to + (from - to) * f64::midpoint(1.0, (std::f64::consts::PI * share).cos())) as f32
}

/// Adam with decoupled weight decay.
///
/// ```text
/// m = β1·m + (1 − β1)·g      v = β2·v + (1 − β2)·g²
/// w = w − η·λ·w − η · (m / (1 − β1^t)) / (sqrt(v / (1 − β2^t)) + ε)
/// ```
///
/// g: gradient; η: rate; λ: weight decay; t: steps taken. Source: Loshchilov and Hutter
/// (arXiv 1711.05101).
#[derive(Debug)]
pub(super) struct AdamW {
    mean: Vec<f32>,
    square: Vec<f32>,
    decay: f32,
    steps: i32,
}

impl AdamW {
    /// For so many parameters.
    pub(super) fn new(n: usize, decay: f32) -> Self {
        Self { mean: vec![0.0; n], square: vec![0.0; n], decay, steps: 0 }
    }

    /// One step.
    pub(super) fn step(&mut self, parameters: &mut [f32], gradient: &[f32], rate: f32) {
        self.steps += 1;
        let rest = (1.0 - BETAS.0.powi(self.steps), 1.0 - BETAS.1.powi(self.steps));
        let (size, root) = (rate / rest.0, rest.1.sqrt().recip());
        let kept = 1.0 - rate * self.decay;
        let state = self.mean.iter_mut().zip(&mut self.square);
        for ((parameter, g), (mean, square)) in parameters.iter_mut().zip(gradient).zip(state) {
            *mean = BETAS.0 * *mean + (1.0 - BETAS.0) * g;
            *square = BETAS.1 * *square + (1.0 - BETAS.1) * g * g;
            *parameter = kept * *parameter - size * *mean / (square.sqrt() * root + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_rate_whatever_the_slope() {
        let mut adam = AdamW::new(2, 0.1);
        let mut parameters = [1.0, 1.0];
        adam.step(&mut parameters, &[1e-3, -50.0], 0.01);
        // 1 − 0.01·0.1 ∓ 0.01.
        assert!((parameters[0] - 0.989).abs() < 1e-6 && (parameters[1] - 1.009).abs() < 1e-6);
    }

    #[test]
    fn the_rate_rises_and_falls() {
        let at = |step| one_cycle(step, 1000, 3e-3);
        assert!((at(0) - 1.2e-4).abs() < 1e-9);
        assert!((at(299) - 3e-3).abs() < 1e-9);
        assert!((at(999) - 1.2e-8).abs() < 1e-10);
        assert!((0..299).all(|step| at(step) < at(step + 1)));
        assert!((299..999).all(|step| at(step) > at(step + 1)));
    }
}
