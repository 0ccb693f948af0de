//! Counts given the position of the token in its sequence.

use crate::predict::lookup::Lookup;
use crate::predict::{PredictError, Predictor, Tokens, Watch};

/// The k experts most often chosen at a position.
#[derive(Debug)]
pub(super) struct ByPosition(Lookup);

/// Counts.
pub(super) fn fit(planning: &Tokens, watch: &dyn Watch) -> Result<ByPosition, PredictError> {
    Lookup::count(&planning.positions, planning, watch).map(ByPosition)
}

impl Predictor for ByPosition {
    fn predict(&self, tokens: &Tokens, watch: &dyn Watch) -> Result<Vec<u16>, PredictError> {
        self.0.find(&tokens.positions, watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Unwatched;
    use crate::predict::tokens::tests::one_layer;

    #[test]
    fn the_first_token_always_goes_to_the_same_expert() {
        let mut planning = one_layer(3, &[(1, 2), (2, 0), (3, 2), (4, 0), (5, 0)]);
        planning.positions = vec![0, 1, 0, 1, 2];
        planning.sequences = vec![0..2, 2..5];
        let fitted = fit(&planning, &Unwatched).unwrap();
        let mut asked = one_layer(3, &[(9, 0), (9, 0), (9, 0)]);
        asked.positions = vec![1, 0, 77];
        assert_eq!(fitted.predict(&asked, &Unwatched).unwrap(), [0, 2, 0]);
    }
}
