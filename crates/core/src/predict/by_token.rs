//! Counts given the vocabulary id of the token.

use crate::predict::lookup::Lookup;
use crate::predict::{PredictError, Predictor, Tokens, Watch};

/// The k experts most often chosen for a token id.
#[derive(Debug)]
pub(super) struct ByToken(Lookup);

/// Counts.
pub(super) fn fit(planning: &Tokens, watch: &dyn Watch) -> Result<ByToken, PredictError> {
    Lookup::count(ids(planning)?, planning, watch).map(ByToken)
}

impl Predictor for ByToken {
    fn predict(&self, tokens: &Tokens, watch: &dyn Watch) -> Result<Vec<u16>, PredictError> {
        self.0.find(ids(tokens)?, watch)
    }
}

/// The token ids, which must be known.
pub(super) fn ids(tokens: &Tokens) -> Result<&[u32], PredictError> {
    if tokens.token_ids.len() == tokens.len() {
        Ok(&tokens.token_ids)
    } else {
        Err(PredictError::NoTokenIds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Unwatched;
    use crate::predict::score::Accuracy;
    use crate::predict::tokens::tests::one_layer;

    #[test]
    fn a_token_is_routed_as_it_was() {
        let fitted = fit(&one_layer(3, &[(1, 2), (2, 0), (2, 0), (3, 1)]), &Unwatched).unwrap();
        // Token 4 is new: expert 0, the most frequent.
        let asked = one_layer(3, &[(3, 1), (1, 2), (2, 1), (4, 0)]);
        let predicted = fitted.predict(&asked, &Unwatched).unwrap();
        assert_eq!(predicted, [1, 2, 0, 0]);
        assert!((Accuracy::of(&predicted, &asked).mean - 0.75).abs() < 1e-12);
    }

    #[test]
    fn without_ids_there_is_no_fit() {
        let mut planning = one_layer(3, &[(1, 2)]);
        planning.token_ids.clear();
        assert_eq!(fit(&planning, &Unwatched).unwrap_err(), PredictError::NoTokenIds);
    }
}
