//! Causal attention over the last few tokens.
//!
//! ```text
//! a_j = softmax_j(q_t · k_j / √w),  t − 32 < j ≤ t        context_t = Σ_j a_j · v_j
//! ```
//!
//! w: width of a head. Source: Vaswani et al. (arXiv 1706.03762), kept local and causal as
//! the MoE-GPS predictor is. Rows are ordered by time, then by sequence.

use rand::Rng;

use crate::predict::network::activations::softmax;
use crate::predict::network::dense::Dense;

/// Tokens that are looked back on, the own one included.
const REACH: usize = 32;
/// Heads.
const HEADS: usize = 4;

/// Where an attention's parameters lie: queries, keys and values, then the output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    queries_keys_values: Dense,
    output: Dense,
    width: usize,
}

/// What a pass leaves for the way back.
#[derive(Debug)]
pub(crate) struct Looks {
    /// Queries, keys and values of each row.
    qkv: Vec<f32>,
    /// Shares, `[row][head][REACH]`, the own token first.
    shares: Vec<f32>,
    context: Vec<f32>,
    /// Outputs.
    pub(crate) outputs: Vec<f32>,
}

impl Attention {
    /// A layer whose parameters begin at `at`.
    pub(crate) fn new(at: usize, width: usize) -> Self {
        let queries_keys_values = Dense::new(at, width, 3 * width);
        let output = Dense::new(queries_keys_values.end(), width, width);
        Self { queries_keys_values, output, width }
    }

    /// Where its parameters end.
    pub(crate) fn end(&self) -> usize {
        self.output.end()
    }

    /// Draws its first parameters.
    pub(crate) fn start(&self, parameters: &mut [f32], rng: &mut impl Rng) {
        self.queries_keys_values.start(parameters, rng);
        self.output.start(parameters, rng);
    }

    fn head(&self) -> usize {
        self.width / HEADS
    }

    /// Runs `lanes` sequences.
    pub(crate) fn forward(&self, parameters: &[f32], x: &[f32], lanes: usize) -> Looks {
        let (width, head) = (self.width, self.head());
        let qkv = self.queries_keys_values.forward(parameters, x);
        let n_rows = x.len() / width;
        let scale = (head as f32).sqrt().recip();
        let mut shares = vec![0.0; n_rows * HEADS * REACH];
        let mut context = vec![0.0; n_rows * width];
        for row in 0..n_rows {
            let reach = (row / lanes + 1).min(REACH);
            for n in 0..HEADS {
                let part = |row: usize, what: usize| {
                    &qkv[row * 3 * width + what * width + n * head..][..head]
                };
                let shares = &mut shares[(row * HEADS + n) * REACH..][..reach];
                for (back, share) in shares.iter_mut().enumerate() {
                    *share = scale * dot(part(row, 0), part(row - back * lanes, 1));
                }
                softmax(shares);
                let context = &mut context[row * width + n * head..][..head];
                for (back, share) in shares.iter().enumerate() {
                    add_scaled(context, *share, part(row - back * lanes, 2));
                }
            }
        }
        let outputs = self.output.forward(parameters, &context);
        Looks { qkv, shares, context, outputs }
    }

    /// Adds the gradient of its parameters, given that of its outputs, and returns that of
    /// its inputs.
    pub(crate) fn backward(
        &self,
        parameters: &[f32],
        x: &[f32],
        lanes: usize,
        looks: &Looks,
        dy: &[f32],
        gradient: &mut [f32],
    ) -> Vec<f32> {
        let (width, head) = (self.width, self.head());
        self.output.backward(&looks.context, dy, gradient);
        let dcontext = self.output.backward_inputs(parameters, dy);
        let n_rows = x.len() / width;
        let scale = (head as f32).sqrt().recip();
        let mut dqkv = vec![0.0; looks.qkv.len()];
        let mut slopes = [0.0; REACH];
        for row in 0..n_rows {
            let reach = (row / lanes + 1).min(REACH);
            for n in 0..HEADS {
                let place = |row: usize, what: usize| row * 3 * width + what * width + n * head;
                let shares = &looks.shares[(row * HEADS + n) * REACH..][..reach];
                let dcontext = &dcontext[row * width + n * head..][..head];
                let mut mean = 0.0;
                for (back, share) in shares.iter().enumerate() {
                    let value = place(row - back * lanes, 2);
                    slopes[back] = dot(dcontext, &looks.qkv[value..][..head]);
                    mean += share * slopes[back];
                    add_scaled(&mut dqkv[value..][..head], *share, dcontext);
                }
                for (back, share) in shares.iter().enumerate() {
                    let slope = scale * share * (slopes[back] - mean);
                    let (query, key) = (place(row, 0), place(row - back * lanes, 1));
                    add_scaled(&mut dqkv[query..][..head], slope, &looks.qkv[key..][..head]);
                    add_scaled(&mut dqkv[key..][..head], slope, &looks.qkv[query..][..head]);
                }
            }
        }
        self.queries_keys_values.backward(x, &dqkv, gradient);
        self.queries_keys_values.backward_inputs(parameters, &dqkv)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::network::scatter;
    use crate::predict::network::tests::check_gradient;
    use crate::seed::{Purpose, stream};

    fn drawn(width: usize, n_rows: usize) -> (Attention, Vec<f32>, Vec<f32>) {
        let layer = Attention::new(0, width);
        let mut rng = stream(5, Purpose::PredictorFit, 2);
        let mut parameters = vec![0.0; layer.end()];
        layer.start(&mut parameters, &mut rng);
        let mut x = vec![0.0; n_rows * width];
        scatter(&mut x, 1, &mut rng);
        (layer, parameters, x)
    }

    #[test]
    fn nothing_is_seen_of_the_future_of_other_sequences_or_of_long_ago() {
        let (lanes, times) = (2, 40);
        let (layer, parameters, x) = drawn(4, lanes * times);
        let before = layer.forward(&parameters, &x, lanes).outputs;
        let mut changed = x.clone();
        let (time, lane) = (3, 1);
        changed[(time * lanes + lane) * 4] += 1.0;
        let after = layer.forward(&parameters, &changed, lanes).outputs;
        for row in 0..lanes * times {
            let moved = before[row * 4..][..4] != after[row * 4..][..4];
            let sees = row % lanes == lane && (time..time + REACH).contains(&(row / lanes));
            assert_eq!(moved, sees, "row {row}");
        }
    }

    #[test]
    fn gradients_are_slopes() {
        let lanes = 2;
        let (layer, parameters, x) = drawn(4, lanes * 5);
        let wanted: Vec<f32> = x.iter().map(|x| 1.0 - x).collect();
        let loss = |parameters: &[f32], x: &[f32]| -> f64 {
            let outputs = layer.forward(parameters, x, lanes).outputs;
            outputs.iter().zip(&wanted).map(|(y, w)| f64::from(y * w)).sum()
        };
        let looks = layer.forward(&parameters, &x, lanes);
        let mut gradient = vec![0.0; parameters.len()];
        let dx = layer.backward(&parameters, &x, lanes, &looks, &wanted, &mut gradient);
        check_gradient(&parameters, &gradient, |moved| loss(moved, &x));
        check_gradient(&x, &dx, |moved| loss(&parameters, moved));
    }
}
