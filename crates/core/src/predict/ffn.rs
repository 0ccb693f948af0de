//! A feed-forward network on the embedding of the token: 128 → 64 → experts of every layer.

use rand::Rng;

use crate::predict::embedding::Embedding;
use crate::predict::lookup::Lookup;
use crate::predict::network::dense::{Dense, relu, relu_backward};
use crate::predict::network::loss::cross_entropy;
use crate::predict::network::train::{Model, Recipe, train};
use crate::predict::top::top;
use crate::predict::{PredictError, Predictor, Tokens, Watch, by_token};

/// Widths of the hidden layers (`cost-model` §6).
pub const WIDTHS: [usize; 2] = [128, 64];

/// As the reference was fitted: 12 epochs of 64 tokens a step.
const RECIPE: Recipe = Recipe { epochs: 12, batch: 64, rate: 3e-3, decay: 1e-3 };

/// Rows that are run at a time when all known tokens are asked for.
const CHUNK: usize = 256;

/// The fitted network, run once for every known token.
///
/// What it names depends on the token id alone.
#[derive(Debug)]
pub(super) struct Ffn(Lookup);

/// Trains the network.
pub(super) fn fit(
    planning: &Tokens,
    embedding: &Embedding,
    seed: u64,
    watch: &dyn Watch,
) -> Result<Ffn, PredictError> {
    let layers = Layers::new(embedding.dim(), planning.n_layers() * planning.n_experts);
    let training = Training { layers, planning, embedding, places: embedding.places(planning)? };
    let parameters = train(&training, planning.len(), RECIPE, seed, watch)?;
    let k = planning.top_k();
    let mut named = vec![Vec::with_capacity((embedding.n_rows() + 1) * k); planning.n_layers()];
    let mut rows = Vec::new();
    let places: Vec<usize> = (0..embedding.n_rows()).collect();
    for places in places.chunks(CHUNK) {
        watch.cancel().check()?;
        embedding.gather(places.iter().copied(), &mut rows);
        let outputs = layers.forward(&parameters, &rows).1;
        for row in outputs.chunks_exact(planning.n_layers() * planning.n_experts) {
            for (scores, named) in row.chunks_exact(planning.n_experts).zip(&mut named) {
                let at = named.len();
                named.resize(at + k, 0);
                top(scores, &mut named[at..]);
            }
        }
    }
    for (layer, named) in named.iter_mut().enumerate() {
        let at = named.len();
        named.resize(at + k, 0);
        top(&planning.shares(layer), &mut named[at..]);
    }
    Ok(Ffn(Lookup::new(embedding.ids().to_vec(), k, named)))
}

impl Predictor for Ffn {
    fn predict(&self, tokens: &Tokens, watch: &dyn Watch) -> Result<Vec<u16>, PredictError> {
        self.0.find(by_token::ids(tokens)?, watch)
    }
}

/// Where the parameters lie.
#[derive(Debug, Clone, Copy)]
struct Layers([Dense; 3]);

impl Layers {
    fn new(inputs: usize, outputs: usize) -> Self {
        let first = Dense::new(0, inputs, WIDTHS[0]);
        let second = Dense::new(first.end(), WIDTHS[0], WIDTHS[1]);
        Self([first, second, Dense::new(second.end(), WIDTHS[1], outputs)])
    }

    /// The hidden layers and the outputs.
    fn forward(&self, parameters: &[f32], x: &[f32]) -> ([Vec<f32>; 2], Vec<f32>) {
        let [first, second, last] = &self.0;
        let mut a = first.forward(parameters, x);
        relu(&mut a);
        let mut b = second.forward(parameters, &a);
        relu(&mut b);
        let outputs = last.forward(parameters, &b);
        ([a, b], outputs)
    }

    fn backward(
        &self,
        parameters: &[f32],
        x: &[f32],
        [a, b]: &[Vec<f32>; 2],
        dy: &[f32],
        gradient: &mut [f32],
    ) {
        let [first, second, last] = &self.0;
        last.backward(b, dy, gradient);
        let mut db = last.backward_inputs(parameters, dy);
        relu_backward(b, &mut db);
        second.backward(a, &db, gradient);
        let mut da = second.backward_inputs(parameters, &db);
        relu_backward(a, &mut da);
        first.backward(x, &da, gradient);
    }
}

/// A network under training; a unit is a token.
struct Training<'a> {
    layers: Layers,
    planning: &'a Tokens,
    embedding: &'a Embedding,
    places: Vec<usize>,
}

impl Model for Training<'_> {
    fn start(&self, rng: &mut impl Rng) -> Vec<f32> {
        let mut parameters = vec![0.0; self.layers.0[2].end()];
        for layer in &self.layers.0 {
            layer.start(&mut parameters, rng);
        }
        parameters
    }

    fn gradient(&self, parameters: &[f32], units: &[usize], gradient: &mut [f32]) -> usize {
        let mut x = Vec::with_capacity(units.len() * self.embedding.dim());
        self.embedding.gather(units.iter().map(|token| self.places[*token]), &mut x);
        let (hidden, mut outputs) = self.layers.forward(parameters, &x);
        cross_entropy(&mut outputs, units.iter().map(|token| Some(*token)), self.planning);
        self.layers.backward(parameters, &x, &hidden, &outputs, gradient);
        units.len() * self.planning.n_layers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Unwatched;
    use crate::predict::tokens::tests::one_layer;

    #[test]
    fn what_the_embedding_tells_apart_is_learned() {
        // The expert is the sign of the first value; tokens 6 and 7 are never planned on.
        let values = (0..8_u8).flat_map(|id| [f32::from(id) - 3.5, f32::from(id % 3) - 1.0]);
        let table = Embedding::new((0..8).collect(), 2, values.collect()).unwrap();
        let pairs: Vec<(u32, u16)> = (0..600).map(|n| (n % 6, u16::from(n % 6 > 3))).collect();
        let fitted = fit(&one_layer(2, &pairs), &table, 1, &Unwatched).unwrap();
        let asked = one_layer(2, &[(0, 0), (3, 0), (4, 1), (7, 1)]);
        assert_eq!(fitted.predict(&asked, &Unwatched).unwrap(), [0, 0, 1, 1]);
    }
}
