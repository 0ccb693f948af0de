//! Per layer, the k experts chosen most often, whatever the token.

use crate::predict::top::top;
use crate::predict::{PredictError, Predictor, Tokens, Watch};

/// The k most frequent experts of every layer.
#[derive(Debug)]
pub(super) struct MostFrequent {
    layers: Vec<Vec<u16>>,
}

/// Counts.
pub(super) fn fit(planning: &Tokens) -> MostFrequent {
    let layers = (0..planning.n_layers()).map(|layer| {
        let mut named = vec![0; planning.top_k()];
        top(&planning.shares(layer), &mut named);
        named
    });
    MostFrequent { layers: layers.collect() }
}

impl Predictor for MostFrequent {
    fn predict(&self, tokens: &Tokens, _watch: &dyn Watch) -> Result<Vec<u16>, PredictError> {
        let of_layer = |named: &Vec<u16>| named.repeat(tokens.len());
        Ok(self.layers.iter().flat_map(of_layer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Unwatched;
    use crate::predict::tokens::tests::one_layer;

    #[test]
    fn the_busiest_expert_is_named_for_every_token() {
        let fitted = fit(&one_layer(4, &[(0, 3), (0, 1), (0, 1)]));
        let asked = one_layer(4, &[(9, 0), (8, 1)]);
        assert_eq!(fitted.predict(&asked, &Unwatched).unwrap(), [1, 1]);
    }
}
