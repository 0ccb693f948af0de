//! A table from a key of the token to its experts: what three of the predictors become.

use rayon::prelude::*;

use crate::cancel::Canceled;
use crate::predict::top::top;
use crate::predict::{PredictError, Tokens, Watch};

/// The experts named for each known key, and for all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    /// Known keys, ascending.
    keys: Vec<u32>,
    top_k: usize,
    /// Per layer, `[key][k]`, and at the end the experts of unknown keys.
    layers: Vec<Vec<u16>>,
}

impl Lookup {
    /// From the rows `[key][k]` of each layer, the last of which is for unknown keys.
    pub(super) fn new(keys: Vec<u32>, top_k: usize, layers: Vec<Vec<u16>>) -> Self {
        Self { keys, top_k, layers }
    }

    /// Counts the experts of each key and adds one pseudo-count of the layer's
    /// distribution:
    ///
    /// ```text
    /// score(e | key) = n(e, key) + n(e) / Σ n          unknown key: n(e) / Σ n
    /// ```
    ///
    /// n: assignments of the layer (1). Source: `cost-model` §6.
    pub(super) fn count(
        keys: &[u32],
        planning: &Tokens,
        watch: &dyn Watch,
    ) -> Result<Self, PredictError> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|token| keys[*token]);
        let groups: Vec<&[usize]> = order.chunk_by(|a, b| keys[*a] == keys[*b]).collect();
        let k = planning.top_k();
        let layers = (0..planning.n_layers())
            .into_par_iter()
            .map(|layer| {
                watch.cancel().check()?;
                let shares = planning.shares(layer);
                let mut scores = shares.clone();
                let mut rows = vec![0; (groups.len() + 1) * k];
                for (group, row) in groups.iter().zip(rows.chunks_exact_mut(k)) {
                    scores.copy_from_slice(&shares);
                    for token in *group {
                        for expert in planning.experts(layer, *token) {
                            scores[usize::from(*expert)] += 1.0;
                        }
                    }
                    top(&scores, row);
                }
                top(&shares, &mut rows[groups.len() * k..]);
                Ok(rows)
            })
            .collect::<Result<_, Canceled>>()?;
        watch.progress(1.0);
        Ok(Self::new(groups.iter().map(|group| keys[group[0]]).collect(), k, layers))
    }

    /// The experts of each of `keys`, `[layer][key][k]`.
    pub(super) fn find(&self, keys: &[u32], watch: &dyn Watch) -> Result<Vec<u16>, PredictError> {
        let row = |key: &u32| self.keys.binary_search(key).unwrap_or(self.keys.len());
        let rows: Vec<usize> = keys.iter().map(row).collect();
        let k = self.top_k;
        let mut found = vec![0; self.layers.len() * keys.len() * k];
        let stride = (keys.len() * k).max(1);
        found.par_chunks_exact_mut(stride).zip(&self.layers).try_for_each(|(found, layer)| {
            watch.cancel().check()?;
            for (found, row) in found.chunks_exact_mut(k).zip(&rows) {
                found.copy_from_slice(&layer[row * k..][..k]);
            }
            Ok::<(), Canceled>(())
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Unwatched;
    use crate::predict::tokens::tests::one_layer;

    #[test]
    fn one_pseudo_count_of_the_layer_breaks_ties_and_serves_the_unknown() {
        // Expert 2 takes 3 of 7, expert 0 and 1 two each. Key 5 saw 0 and 2 once each: the
        // layer decides for 2. Key 6 saw 1 twice: two counts beat the layer. Key 9 is new.
        let pairs = [(5, 0), (5, 2), (6, 1), (6, 1), (7, 2), (7, 2), (7, 0)];
        let planning = one_layer(3, &pairs);
        let lookup = Lookup::count(&planning.token_ids, &planning, &Unwatched).unwrap();
        assert_eq!(lookup.find(&[5, 6, 7, 9], &Unwatched).unwrap(), [2, 1, 2, 2]);
    }
}
