//! What a network is fitted to: the experts that were chosen.
//!
//! ```text
//! loss = − Σ_layers Σ_e t_e · ln softmax(z)_e          t_e = 1/k for the chosen, else 0
//! dloss/dz_e = softmax(z)_e − t_e
//! ```
//!
//! z: outputs for the experts of a layer; k: experts of a token. Worked number: two equal
//! outputs, one of them chosen: ln 2 = 0.6931, gradient −1/2 and 1/2.

use crate::predict::Tokens;
use crate::predict::network::activations::softmax;

/// Turns outputs `[row][layer][expert]` into their gradient and returns the summed loss.
///
/// `tokens` names the token of every row; rows without one count for nothing.
pub(crate) fn cross_entropy(
    outputs: &mut [f32],
    tokens: impl Iterator<Item = Option<usize>>,
    planning: &Tokens,
) -> f64 {
    let (n_experts, n_layers) = (planning.n_experts, planning.n_layers());
    let part = 1.0 / planning.top_k() as f32;
    let mut loss = 0.0;
    for (row, token) in outputs.chunks_exact_mut(n_layers * n_experts).zip(tokens) {
        let Some(token) = token else {
            row.fill(0.0);
            continue;
        };
        for (layer, outputs) in row.chunks_exact_mut(n_experts).enumerate() {
            softmax(outputs);
            for expert in planning.experts(layer, token) {
                let output = &mut outputs[usize::from(*expert)];
                loss -= f64::from(part) * f64::from(output.max(f32::MIN_POSITIVE)).ln();
            }
            for expert in planning.experts(layer, token) {
                outputs[usize::from(*expert)] -= part;
            }
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::tokens::tests::one_layer;

    #[test]
    #[expect(clippy::float_cmp, reason = "small numbers of halves are exact")]
    fn two_equal_outputs() {
        let planning = one_layer(2, &[(0, 0)]);
        let mut outputs = [3.0, 3.0, 7.0, 1.0];
        let loss = cross_entropy(&mut outputs, [Some(0), None].into_iter(), &planning);
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-6);
        assert_eq!(outputs, [-0.5, 0.5, 0.0, 0.0]);
    }
}
