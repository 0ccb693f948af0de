//! The rows of a token embedding table that are needed: the input of learned predictors.

use crate::predict::{PredictError, Tokens};

/// Embedding rows by token id.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Token ids that have a row, ascending.
    ids: Vec<u32>,
    dim: usize,
    values: Vec<f32>,
}

impl Embedding {
    /// Rows `[id][dim]` of the given ids, which must ascend; `None` if the sizes do not fit.
    #[must_use]
    pub fn new(ids: Vec<u32>, dim: usize, values: Vec<f32>) -> Option<Self> {
        let fits =
            ids.is_sorted_by(|a, b| a < b) && Some(values.len()) == ids.len().checked_mul(dim);
        fits.then_some(Self { ids, dim, values })
    }

    /// Values of a row.
    #[must_use]
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// Number of rows.
    #[must_use]
    pub const fn n_rows(&self) -> usize {
        self.ids.len()
    }

    /// Ids that have a row, ascending.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// One row, by its place.
    pub(super) fn row(&self, place: usize) -> &[f32] {
        &self.values[place * self.dim..][..self.dim]
    }

    /// The place of every token's row.
    pub(super) fn places(&self, tokens: &Tokens) -> Result<Vec<usize>, PredictError> {
        let ids = crate::predict::by_token::ids(tokens)?;
        let place =
            |id: &u32| self.ids.binary_search(id).map_err(|_| PredictError::UnknownToken(*id));
        ids.iter().map(place).collect()
    }

    /// Writes the rows at `places` one after the other.
    pub(super) fn gather(&self, places: impl Iterator<Item = usize>, into: &mut Vec<f32>) {
        into.clear();
        for place in places {
            into.extend_from_slice(self.row(place));
        }
    }
}

/// The sum over values that a standard deviation is taken from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Spread {
    /// Takes one more value in.
    pub fn add(&mut self, value: f32) {
        let value = f64::from(value);
        self.n += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    /// One over the standard deviation; 1 if nothing varies.
    ///
    /// Inputs of a network should have about unit variance.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a factor for f32 values")]
    pub fn scale(&self) -> f32 {
        let mean = self.sum / self.n.max(1.0);
        let variance = self.squares / self.n.max(1.0) - mean * mean;
        if variance > 0.0 { (1.0 / variance.sqrt()) as f32 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::tokens::tests::one_layer;

    #[test]
    fn rows_are_found_by_id() {
        let table = Embedding::new(vec![3, 8], 2, vec![0.0, 1.0, 2.0, 3.0]).unwrap();
        let asked = one_layer(2, &[(8, 0), (3, 0), (8, 1)]);
        let mut rows = Vec::new();
        table.gather(table.places(&asked).unwrap().into_iter(), &mut rows);
        assert_eq!(rows, [2.0, 3.0, 0.0, 1.0, 2.0, 3.0]);
        let unknown = one_layer(2, &[(4, 0)]);
        assert_eq!(table.places(&unknown), Err(PredictError::UnknownToken(4)));
        assert!(Embedding::new(vec![8, 3], 1, vec![0.0, 1.0]).is_none());
        assert!(Embedding::new(vec![3], 2, vec![0.0]).is_none());
    }

    #[test]
    fn scaled_values_have_unit_variance() {
        // 1, 3, 5, 7: mean 4, variance 5.
        let mut spread = Spread::default();
        for value in [1.0, 3.0, 5.0, 7.0] {
            spread.add(value);
        }
        assert!((spread.scale() - 5.0_f32.sqrt().recip()).abs() < 1e-6);
        assert!((Spread::default().scale() - 1.0).abs() < 1e-6);
    }
}
