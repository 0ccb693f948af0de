//! The exponential and what squashes with it, written so that compilers do many at once.

/// ln 2 in two parts: the first has zeros enough that small multiples of it are exact.
const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
/// Adding it rounds a small number to an integer, which then stands in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// e^x for x from −87 to 88, clamped beyond, to about one part in ten million.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; e^r by its series to the seventh power. A library's
/// function takes one number at a time and a fifth of a recurrent network's training.
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2.0 - n * LN_2.1;
    let mut power = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        power = power * r + term;
    }
    // The exponent of a float begins at bit 23 and is 127 for 1.
    power * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// The logistic function of every value, in place.
pub(super) fn sigmoid(values: &mut [f32]) {
    for x in values {
        *x = 1.0 / (1.0 + exp(-*x));
    }
}

/// The hyperbolic tangent.
pub(super) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// Turns scores into shares that sum to one.
pub(super) fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = exp(*score - most);
    }
    let sum: f32 = scores.iter().sum();
    for score in scores {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_library() {
        for n in -8700_i16..8800 {
            let x = f32::from(n) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 4e-7, "{x}");
        }
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite() && exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn squashed_values_by_the_library() {
        for x in [-30.0_f32, -2.5, -0.1, 0.0, 0.3, 4.0, 90.0] {
            assert!((tanh(x) - x.tanh()).abs() < 1e-6, "{x}");
            let mut y = [x];
            sigmoid(&mut y);
            assert!((y[0] - f32::midpoint(1.0, (x / 2.0).tanh())).abs() < 1e-6, "{x}");
        }
        let mut scores = [0.0, 2.0_f32.ln(), f32::NEG_INFINITY];
        softmax(&mut scores);
        assert!((scores[1] - 2.0 / 3.0).abs() < 1e-6 && scores[2] < 1e-6);
    }
}
