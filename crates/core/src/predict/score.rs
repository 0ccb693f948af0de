//! How often a predictor is right.
//!
//! ```text
//! accuracy_l = mean over tokens of |predicted_l ∩ true_l| / k
//! ```
//!
//! k: experts of a token; the accuracy of the whole is the plain mean over layers l
//! (`cost-model` §2). Worked number: experts {0, 3} predicted and {3, 1} chosen is 0.5.

use crate::predict::Tokens;

/// Accuracy on held-out tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// Of every layer.
    pub per_layer: Vec<f64>,
    /// Mean over layers.
    pub mean: f64,
}

impl Accuracy {
    /// Of predictions `[layer][token][k]` for `held_out` tokens.
    #[must_use]
    pub fn of(predicted: &[u16], held_out: &Tokens) -> Self {
        let stride = held_out.len() * held_out.top_k();
        let per_layer: Vec<f64> = (0..held_out.n_layers())
            .map(|layer| right(&predicted[layer * stride..][..stride], held_out, layer))
            .collect();
        let mean = per_layer.iter().sum::<f64>() / per_layer.len().max(1) as f64;
        Self { per_layer, mean }
    }
}

/// Share of the assignments of a layer that were predicted.
fn right(predicted: &[u16], held_out: &Tokens, layer: usize) -> f64 {
    let k = held_out.top_k().max(1);
    let pairs = predicted.chunks_exact(k).zip(held_out.routes.layer(layer).chunks_exact(k));
    let hits: usize = pairs
        .map(|(named, chosen)| named.iter().filter(|expert| chosen.contains(expert)).count())
        .sum();
    hits as f64 / predicted.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::steps::StepRoutes;

    #[test]
    fn half_of_the_experts_named_is_one_half() {
        let held_out = Tokens {
            n_experts: 4,
            routes: StepRoutes { n_layers: 2, n_tokens: 1, top_k: 2, ids: vec![3, 1, 0, 2] },
            ..Tokens::default()
        };
        let accuracy = Accuracy::of(&[0, 3, 2, 0], &held_out);
        assert_eq!(accuracy, Accuracy { per_layer: vec![0.5, 1.0], mean: 0.75 });
    }
}
