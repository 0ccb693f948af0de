//! Small networks on the CPU: layers with their gradients, a loss, an optimiser.
//!
//! A network keeps all its parameters in one vector; each layer knows where its own begin.
//! Matrices are `f32`, row after row. House rules would have us take a library, but the
//! frameworks weigh more than this whole program and refuse a seed; the matrix products,
//! where the time goes, are a library's.

mod activations;
mod adam;
pub(super) mod attention;
pub(super) mod dense;
pub(super) mod loss;
mod product;
pub(super) mod recurrent;
pub(super) mod train;

use rand::Rng;

/// Numbers a uniform draw can take.
const STEPS: f32 = 16_777_216.0;

/// Fills weights with uniform numbers from −1/√n to 1/√n, n the inputs of a sum.
///
/// Source: the start PyTorch gives linear and recurrent layers.
fn scatter(weights: &mut [f32], inputs: usize, rng: &mut impl Rng) {
    let reach = (inputs.max(1) as f32).sqrt().recip();
    for weight in weights {
        *weight = reach * ((rng.next_u32() >> 8) as f32 / STEPS * 2.0 - 1.0);
    }
}

#[cfg(test)]
mod tests {
    /// Holds a gradient against finite differences of a loss, parameter by parameter.
    pub(crate) fn check_gradient(
        parameters: &[f32],
        gradient: &[f32],
        loss: impl Fn(&[f32]) -> f64,
    ) {
        let step = 1e-2_f32;
        let largest = gradient.iter().fold(0.0_f32, |most, g| most.max(g.abs()));
        assert!(largest > 0.0, "nothing flows");
        for place in 0..parameters.len() {
            let at = |offset: f32| {
                let mut moved = parameters.to_vec();
                moved[place] += offset;
                loss(&moved)
            };
            let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
            let off = (slope - f64::from(gradient[place])).abs();
            assert!(
                off < 2e-2 * f64::from(largest) + 2e-3 * slope.abs(),
                "parameter {place}: {slope} by differences, {} by the gradient",
                gradient[place]
            );
        }
    }
}
