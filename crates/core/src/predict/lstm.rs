//! A recurrent network on the embeddings of the sequence.
//!
//! Compress to 64 → two recurrent layers of 64 → local causal attention; the sum of all
//! three (a residual) → experts of every layer.

use std::ops::Range;

use rand::Rng;

use crate::predict::embedding::Embedding;
use crate::predict::network::attention::{Attention, Looks};
use crate::predict::network::dense::Dense;
use crate::predict::network::loss::cross_entropy;
use crate::predict::network::recurrent::{Recurrent, States};
use crate::predict::network::train::{Model, Recipe, train};
use crate::predict::top::top;
use crate::predict::{PredictError, Predictor, Tokens, Watch};

/// Width of all layers (`cost-model` §6).
pub const WIDTH: usize = 64;
/// Recurrent layers.
pub const DEPTH: usize = 2;
/// Tokens after which a sequence is begun anew when it is predicted.
const WINDOW: usize = 512;
/// The same when the network is fitted.
///
/// Shorter windows side by side make larger matrix products and better mixed batches: on
/// our recordings 15 epochs of 16 windows of 128 tokens reach a higher held-out accuracy
/// (0.595 on switch-like, python) than 25 epochs of 8 windows of 512 (0.588) in a third of
/// the time.
const FIT_WINDOW: usize = 128;
/// Sequences that run side by side.
const LANES: usize = 8;

/// Rows whose outputs are computed at a time when they are predicted.
const OUTPUT_ROWS: usize = 256;

/// Rate and decay of the reference; epochs and batch, see [`FIT_WINDOW`].
const RECIPE: Recipe = Recipe { epochs: 15, batch: 16, rate: 3e-3, decay: 1e-3 };

/// The fitted network.
#[derive(Debug)]
pub(super) struct Lstm {
    layers: Layers,
    parameters: Vec<f32>,
    embedding: Embedding,
    /// Experts of a layer of the planning part; the held-out part may know of fewer.
    n_experts: usize,
}

/// Trains the network.
pub(super) fn fit(
    planning: &Tokens,
    embedding: &Embedding,
    seed: u64,
    watch: &dyn Watch,
) -> Result<Lstm, PredictError> {
    let layers = Layers::new(embedding.dim(), planning.n_layers() * planning.n_experts);
    let training = Training {
        layers,
        planning,
        embedding,
        places: embedding.places(planning)?,
        windows: planning.windows(FIT_WINDOW),
    };
    let parameters = train(&training, training.windows.len(), RECIPE, seed, watch)?;
    let n_experts = planning.n_experts;
    Ok(Lstm { layers, parameters, embedding: embedding.clone(), n_experts })
}

impl Predictor for Lstm {
    fn predict(&self, tokens: &Tokens, watch: &dyn Watch) -> Result<Vec<u16>, PredictError> {
        let places = self.embedding.places(tokens)?;
        let (k, n_experts) = (tokens.top_k(), self.n_experts);
        let stride = tokens.len() * k;
        let mut named = vec![0; tokens.n_layers() * stride];
        for windows in tokens.windows(WINDOW).chunks(LANES) {
            watch.cancel().check()?;
            let batch = Batch::new(windows);
            let rows = batch.rows(&places, &self.embedding);
            let pass = self.layers.forward(&self.parameters, &rows, windows.len());
            // Outputs are wide in large models: a few rows at a time.
            let mut at = batch.tokens();
            for sums in pass.sum.chunks(OUTPUT_ROWS * WIDTH) {
                let outputs = self.layers.outputs.forward(&self.parameters, sums);
                let rows = outputs.chunks_exact(tokens.n_layers() * n_experts);
                for (row, token) in rows.zip(at.by_ref()) {
                    let Some(token) = token else { continue };
                    for (layer, scores) in row.chunks_exact(n_experts).enumerate() {
                        top(scores, &mut named[layer * stride + token * k..][..k]);
                    }
                }
            }
        }
        Ok(named)
    }
}

/// Sequences side by side, ordered by time, short ones padded at their end.
struct Batch<'a> {
    windows: &'a [Range<usize>],
    longest: usize,
}

impl<'a> Batch<'a> {
    fn new(windows: &'a [Range<usize>]) -> Self {
        Self { windows, longest: windows.iter().map(ExactSizeIterator::len).max().unwrap_or(0) }
    }

    /// The token of every row.
    fn tokens(&self) -> impl Iterator<Item = Option<usize>> {
        (0..self.longest).flat_map(|time| {
            self.windows
                .iter()
                .map(move |window| (time < window.len()).then(|| window.start + time))
        })
    }

    /// The embedding of every row; padding is zero.
    fn rows(&self, places: &[usize], embedding: &Embedding) -> Vec<f32> {
        let mut rows = Vec::with_capacity(self.longest * self.windows.len() * embedding.dim());
        for token in self.tokens() {
            match token {
                Some(token) => rows.extend_from_slice(embedding.row(places[token])),
                None => rows.resize(rows.len() + embedding.dim(), 0.0),
            }
        }
        rows
    }
}

/// Where the parameters lie.
#[derive(Debug, Clone, Copy)]
struct Layers {
    compress: Dense,
    recurrent: [Recurrent; DEPTH],
    attention: Attention,
    outputs: Dense,
}

/// What a pass leaves for the way back.
struct Pass {
    compressed: Vec<f32>,
    states: [States; DEPTH],
    looks: Looks,
    /// What the outputs are read from.
    sum: Vec<f32>,
}

impl Layers {
    fn new(inputs: usize, outputs: usize) -> Self {
        let compress = Dense::new(0, inputs, WIDTH);
        let first = Recurrent::new(compress.end(), WIDTH, WIDTH);
        let second = Recurrent::new(first.end(), WIDTH, WIDTH);
        let attention = Attention::new(second.end(), WIDTH);
        let outputs = Dense::new(attention.end(), WIDTH, outputs);
        Self { compress, recurrent: [first, second], attention, outputs }
    }

    fn forward(&self, parameters: &[f32], x: &[f32], lanes: usize) -> Pass {
        let compressed = self.compress.forward(parameters, x);
        let first = self.recurrent[0].forward(parameters, &compressed, lanes);
        let second = self.recurrent[1].forward(parameters, &first.outputs, lanes);
        let looks = self.attention.forward(parameters, &second.outputs, lanes);
        let mut sum = compressed.clone();
        add(&mut sum, &second.outputs);
        add(&mut sum, &looks.outputs);
        Pass { compressed, states: [first, second], looks, sum }
    }

    fn backward(
        &self,
        parameters: &[f32],
        x: &[f32],
        lanes: usize,
        pass: &Pass,
        dy: &[f32],
        gradient: &mut [f32],
    ) {
        self.outputs.backward(&pass.sum, dy, gradient);
        let dsum = self.outputs.backward_inputs(parameters, dy);
        let [first, second] = &pass.states;
        let mut d = self.attention.backward(
            parameters,
            &second.outputs,
            lanes,
            &pass.looks,
            &dsum,
            gradient,
        );
        add(&mut d, &dsum);
        let [one, two] = &self.recurrent;
        let d = two.backward(parameters, &first.outputs, lanes, second, &d, gradient);
        let mut d = one.backward(parameters, &pass.compressed, lanes, first, &d, gradient);
        add(&mut d, &dsum);
        self.compress.backward(x, &d, gradient);
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// A network under training; a unit is a window.
struct Training<'a> {
    layers: Layers,
    planning: &'a Tokens,
    embedding: &'a Embedding,
    places: Vec<usize>,
    windows: Vec<Range<usize>>,
}

impl Model for Training<'_> {
    fn start(&self, rng: &mut impl Rng) -> Vec<f32> {
        let mut parameters = vec![0.0; self.layers.outputs.end()];
        self.layers.compress.start(&mut parameters, rng);
        for layer in &self.layers.recurrent {
            layer.start(&mut parameters, rng);
        }
        self.layers.attention.start(&mut parameters, rng);
        self.layers.outputs.start(&mut parameters, rng);
        parameters
    }

    fn gradient(&self, parameters: &[f32], units: &[usize], gradient: &mut [f32]) -> usize {
        let windows: Vec<Range<usize>> =
            units.iter().map(|unit| self.windows[*unit].clone()).collect();
        let batch = Batch::new(&windows);
        let x = batch.rows(&self.places, self.embedding);
        let pass = self.layers.forward(parameters, &x, windows.len());
        let mut outputs = self.layers.outputs.forward(parameters, &pass.sum);
        cross_entropy(&mut outputs, batch.tokens(), self.planning);
        self.layers.backward(parameters, &x, windows.len(), &pass, &outputs, gradient);
        let n_tokens: usize = windows.iter().map(ExactSizeIterator::len).sum();
        n_tokens * self.planning.n_layers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Unwatched;
    use crate::predict::score::Accuracy;
    use crate::predict::tokens::tests::one_layer;
    use crate::seed::{Purpose, stream};

    /// Tokens whose expert is the parity of the token *before*.
    fn remembering(n: u32, seed: u64) -> Tokens {
        let mut rng = stream(seed, Purpose::PredictorFit, 9);
        let mut before = 0;
        let pairs: Vec<(u32, u16)> = (0..n)
            .map(|_| {
                let token = rng.next_u32() % 6;
                let expert = u16::try_from(before % 2).unwrap();
                before = token;
                (token, expert)
            })
            .collect();
        Tokens { sequences: vec![0..700, 700..pairs.len()], ..one_layer(2, &pairs) }
    }

    #[test]
    fn the_past_is_remembered_where_a_token_alone_tells_nothing() {
        let values =
            (0..6_u8).flat_map(|id| (0..6).map(move |n| f32::from(u8::from(n == id)) * 2.0));
        let table = Embedding::new((0..6).collect(), 6, values.collect()).unwrap();
        let fitted = fit(&remembering(12_000, 1), &table, 1, &Unwatched).unwrap();
        // That the held-out part has room for more experts changes nothing.
        let held_out = Tokens { n_experts: 5, ..remembering(1000, 2) };
        let predicted = fitted.predict(&held_out, &Unwatched).unwrap();
        let accuracy = Accuracy::of(&predicted, &held_out).mean;
        assert!(accuracy > 0.95, "{accuracy}");
    }

    #[test]
    fn windows_of_any_length_are_padded_at_their_end() {
        let batch = Batch::new(&[3..5, 7..8]);
        let tokens: Vec<Option<usize>> = batch.tokens().collect();
        assert_eq!(tokens, [Some(3), Some(7), Some(4), None]);
    }
}
