//! Tokens in memory with their routes: what predictors are fitted on, asked for, scored on.

use std::ops::Range;

use crate::trace::counts::ExpertCounts;
use crate::trace::steps::StepRoutes;

/// A part of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Experts of a layer.
    pub n_experts: usize,
    /// The experts of each token.
    pub routes: StepRoutes,
    /// The vocabulary id of each token; empty where not recorded.
    pub token_ids: Vec<u32>,
    /// The place of each token in its sequence.
    pub positions: Vec<u32>,
    /// Runs of consecutive tokens of one sequence, in order, together all tokens.
    pub sequences: Vec<Range<usize>>,
}

impl Tokens {
    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.n_tokens
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of layers.
    #[must_use]
    pub fn n_layers(&self) -> usize {
        self.routes.n_layers
    }

    /// Experts of a token.
    #[must_use]
    pub fn top_k(&self) -> usize {
        self.routes.top_k
    }

    /// The experts of one token in one layer.
    #[must_use]
    pub fn experts(&self, layer: usize, token: usize) -> &[u16] {
        &self.routes.layer(layer)[token * self.top_k()..][..self.top_k()]
    }

    /// Tokens per expert and layer.
    #[must_use]
    pub fn counts(&self) -> ExpertCounts {
        counts(&self.routes.ids, self.n_layers(), self.n_experts)
    }

    /// Share of the assignments that each expert of a layer takes.
    pub(super) fn shares(&self, layer: usize) -> Vec<f32> {
        let mut shares = vec![0.0_f32; self.n_experts];
        let ids = self.routes.layer(layer);
        let part = 1.0 / ids.len().max(1) as f64;
        let mut counts = vec![0_u64; self.n_experts];
        for id in ids {
            counts[usize::from(*id)] += 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a share, as weights are kept")]
        for (share, count) in shares.iter_mut().zip(&counts) {
            *share = (*count as f64 * part) as f32;
        }
        shares
    }

    /// The sequences cut into windows of at most so many tokens.
    pub(super) fn windows(&self, longest: usize) -> Vec<Range<usize>> {
        let cut = |sequence: &Range<usize>| {
            let end = sequence.end;
            sequence.clone().step_by(longest.max(1)).map(move |at| at..end.min(at + longest))
        };
        self.sequences.iter().flat_map(cut).collect()
    }
}

/// Tokens per expert and layer from ids `[layer][…]`.
#[must_use]
pub fn counts(ids: &[u16], n_layers: usize, n_experts: usize) -> ExpertCounts {
    let mut counts = ExpertCounts::zeros(n_layers, n_experts);
    let stride = ids.len() / n_layers.max(1);
    for layer in 0..n_layers {
        let row = counts.layer_mut(layer);
        for id in &ids[layer * stride..][..stride] {
            row[usize::from(*id)] += 1.0;
        }
    }
    counts
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One layer of top-1 routing: (token id, expert) of one sequence.
    pub(crate) fn one_layer(n_experts: usize, pairs: &[(u32, u16)]) -> Tokens {
        Tokens {
            n_experts,
            routes: StepRoutes {
                n_layers: 1,
                n_tokens: pairs.len(),
                top_k: 1,
                ids: pairs.iter().map(|pair| pair.1).collect(),
            },
            token_ids: pairs.iter().map(|pair| pair.0).collect(),
            positions: (0..u32::try_from(pairs.len()).unwrap()).collect(),
            sequences: std::iter::once(0..pairs.len()).collect(),
        }
    }

    #[test]
    fn windows_never_cross_sequences() {
        let tokens = Tokens { sequences: vec![0..5, 5..6, 6..10], ..Tokens::default() };
        assert_eq!(tokens.windows(2), [0..2, 2..4, 4..5, 5..6, 6..8, 8..10]);
        assert_eq!(tokens.windows(100), [0..5, 5..6, 6..10]);
    }

    #[test]
    fn counts_are_per_layer() {
        let counts = counts(&[0, 1, 1, 2, 2, 2], 2, 3);
        assert_eq!(
            (counts.layer(0), counts.layer(1)),
            (&[1.0, 2.0, 0.0][..], &[0.0, 0.0, 3.0][..])
        );
    }
}
