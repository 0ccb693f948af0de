//! A recurrent layer with gates (LSTM).
//!
//! ```text
//! (i, f, g, o) = (σ, σ, tanh, σ)(x_t·Wx + h_{t−1}·Wh + b)
//! c_t = f·c_{t−1} + i·g        h_t = o·tanh(c_t)
//! ```
//!
//! Source: Hochreiter and Schmidhuber (1997), with forget gates. Sequences run side by
//! side; rows are ordered by time, then by sequence.

use rand::Rng;

use crate::predict::network::activations::{sigmoid, tanh};
use crate::predict::network::dense::Dense;
use crate::predict::network::product::{Matrix, add_product, set_product};
use crate::predict::network::scatter;

/// Where a recurrent layer's parameters lie: those of the input, then `Wh`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recurrent {
    input: Dense,
    width: usize,
}

/// What a pass leaves for the way back.
#[derive(Debug)]
pub(crate) struct States {
    /// Gates after their squashing, `[row][i, f, g, o]`.
    gates: Vec<f32>,
    /// Cells.
    cells: Vec<f32>,
    /// Outputs.
    pub(crate) outputs: Vec<f32>,
}

impl Recurrent {
    /// A layer whose parameters begin at `at`.
    pub(crate) fn new(at: usize, inputs: usize, width: usize) -> Self {
        Self { input: Dense::new(at, inputs, 4 * width), width }
    }

    /// Where its parameters end.
    pub(crate) fn end(&self) -> usize {
        self.input.end() + 4 * self.width * self.width
    }

    /// Draws its first parameters.
    pub(crate) fn start(&self, parameters: &mut [f32], rng: &mut impl Rng) {
        self.input.start(parameters, rng);
        scatter(&mut parameters[self.input.end()..self.end()], self.width, rng);
    }

    fn recurrent<'a>(&self, parameters: &'a [f32]) -> Matrix<'a> {
        Matrix::new(&parameters[self.input.end()..], self.width, 4 * self.width)
    }

    /// Runs `lanes` sequences from their beginning.
    pub(crate) fn forward(&self, parameters: &[f32], x: &[f32], lanes: usize) -> States {
        let width = self.width;
        let mut gates = self.input.forward(parameters, x);
        let n_rows = gates.len() / (4 * width);
        let weights = self.recurrent(parameters);
        let mut cells = vec![0.0; n_rows * width];
        let mut outputs = vec![0.0; n_rows * width];
        let block = lanes * width;
        let zeros = vec![0.0; block];
        for at in (0..n_rows * width).step_by(block) {
            let gates = &mut gates[4 * at..4 * (at + block)];
            let (before, now) = outputs.split_at_mut(at);
            let (cells_before, cells) = cells.split_at_mut(at);
            let first = at < block;
            if !first {
                let last = Matrix::new(&before[at - block..], lanes, width);
                add_product(gates, last, weights);
            }
            let kept = if first { &zeros[..] } else { &cells_before[at - block..] };
            let lanes = gates.chunks_exact_mut(4 * width).zip(kept.chunks_exact(width));
            let states = cells.chunks_exact_mut(width).zip(now.chunks_exact_mut(width));
            for ((gates, kept), (cells, now)) in lanes.zip(states) {
                let (opening, rest) = gates.split_at_mut(2 * width);
                let (values, outlets) = rest.split_at_mut(width);
                sigmoid(opening);
                sigmoid(outlets);
                let (inlets, keepers) = opening.split_at(width);
                for ((value, inlet), (cell, (keeper, kept))) in values
                    .iter_mut()
                    .zip(inlets)
                    .zip(cells.iter_mut().zip(keepers.iter().zip(kept)))
                {
                    *value = tanh(*value);
                    *cell = keeper * kept + inlet * *value;
                }
                for ((now, outlet), cell) in now.iter_mut().zip(outlets).zip(cells) {
                    *now = *outlet * tanh(*cell);
                }
            }
        }
        States { gates, cells, outputs }
    }

    /// Adds the gradient of its parameters, given that of its outputs, and returns that of
    /// its inputs.
    pub(crate) fn backward(
        &self,
        parameters: &[f32],
        x: &[f32],
        lanes: usize,
        states: &States,
        dy: &[f32],
        gradient: &mut [f32],
    ) -> Vec<f32> {
        let width = self.width;
        let block = lanes * width;
        let n = states.outputs.len();
        let weights = self.recurrent(parameters).transposed();
        let mut dz = vec![0.0; 4 * n];
        let mut back = vec![0.0; block];
        let mut cell_back = vec![0.0; block];
        for at in (0..n).step_by(block).rev() {
            for place in 0..block {
                let (lane, unit) = (place / width, place % width);
                let gate = 4 * at + lane * 4 * width + unit;
                let [i, f, g, o] = [0, 1, 2, 3].map(|n| states.gates[gate + n * width]);
                let squashed = tanh(states.cells[at + place]);
                let dh = dy[at + place] + back[place];
                let dc = dh * o * (1.0 - squashed * squashed) + cell_back[place];
                let kept = if at == 0 { 0.0 } else { states.cells[at - block + place] };
                dz[gate] = dc * g * i * (1.0 - i);
                dz[gate + width] = dc * kept * f * (1.0 - f);
                dz[gate + 2 * width] = dc * i * (1.0 - g * g);
                dz[gate + 3 * width] = dh * squashed * o * (1.0 - o);
                cell_back[place] = dc * f;
            }
            let now = Matrix::new(&dz[4 * at..], lanes, 4 * width);
            set_product(&mut back, now, weights);
        }
        self.input.backward(x, &dz, gradient);
        let later = (n - block) / width;
        let before = Matrix::new(&states.outputs, later, width).transposed();
        let into = &mut gradient[self.input.end()..self.end()];
        add_product(into, before, Matrix::new(&dz[4 * block..], later, 4 * width));
        self.input.backward_inputs(parameters, &dz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::network::tests::check_gradient;
    use crate::seed::{Purpose, stream};

    #[test]
    fn one_unit_by_hand() {
        // All weights 0 but those of the value gate: x → 1, h → 0.5; biases 0.
        let layer = Recurrent::new(0, 1, 1);
        let parameters = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0];
        let states = layer.forward(&parameters, &[1.0, 2.0], 1);
        let c0 = 0.5 * 1.0_f32.tanh();
        let h0 = 0.5 * c0.tanh();
        let c1 = 0.5 * c0 + 0.5 * (2.0 + 0.5 * h0).tanh();
        let h1 = 0.5 * c1.tanh();
        assert!((states.outputs[0] - h0).abs() < 1e-6 && (states.outputs[1] - h1).abs() < 1e-6);
    }

    #[test]
    fn gradients_are_slopes() {
        let (inputs, width, lanes, times) = (3, 2, 2, 4);
        let layer = Recurrent::new(0, inputs, width);
        let mut rng = stream(3, Purpose::PredictorFit, 1);
        let mut parameters = vec![0.0; layer.end()];
        layer.start(&mut parameters, &mut rng);
        let mut x = vec![0.0; lanes * times * inputs];
        scatter(&mut x, 1, &mut rng);
        let mut wanted = vec![0.0; lanes * times * width];
        scatter(&mut wanted, 1, &mut rng);
        let loss = |parameters: &[f32], x: &[f32]| -> f64 {
            let outputs = layer.forward(parameters, x, lanes).outputs;
            outputs.iter().zip(&wanted).map(|(y, w)| f64::from(y * w)).sum()
        };
        let states = layer.forward(&parameters, &x, lanes);
        let mut gradient = vec![0.0; parameters.len()];
        let dx = layer.backward(&parameters, &x, lanes, &states, &wanted, &mut gradient);
        check_gradient(&parameters, &gradient, |moved| loss(moved, &x));
        check_gradient(&x, &dx, |moved| loss(&parameters, moved));
    }
}
