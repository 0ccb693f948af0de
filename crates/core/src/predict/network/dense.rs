//! A dense layer, y = x·W + b.

use rand::Rng;

use crate::predict::network::product::{Matrix, add_product, set_product};
use crate::predict::network::scatter;

/// Where a dense layer's weights `[inputs][outputs]` and then its biases lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dense {
    at: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Dense {
    /// A layer whose parameters begin at `at`.
    pub(crate) fn new(at: usize, inputs: usize, outputs: usize) -> Self {
        Self { at, inputs, outputs }
    }

    /// Where its parameters end.
    pub(crate) fn end(&self) -> usize {
        self.at + (self.inputs + 1) * self.outputs
    }

    /// Draws its first parameters.
    pub(crate) fn start(&self, parameters: &mut [f32], rng: &mut impl Rng) {
        scatter(&mut parameters[self.at..self.end()], self.inputs, rng);
    }

    fn weights<'a>(&self, parameters: &'a [f32]) -> Matrix<'a> {
        Matrix::new(&parameters[self.at..], self.inputs, self.outputs)
    }

    /// The outputs of every row of `x`.
    pub(crate) fn forward(&self, parameters: &[f32], x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let biases = &parameters[self.at + self.inputs * self.outputs..self.end()];
        let mut y = biases.repeat(rows);
        add_product(&mut y, Matrix::new(x, rows, self.inputs), self.weights(parameters));
        y
    }

    /// Adds the gradient of its parameters, given that of its outputs.
    pub(crate) fn backward(&self, x: &[f32], dy: &[f32], gradient: &mut [f32]) {
        let rows = dy.len() / self.outputs;
        let (weights, biases) =
            gradient[self.at..self.end()].split_at_mut(self.inputs * self.outputs);
        let x = Matrix::new(x, rows, self.inputs).transposed();
        add_product(weights, x, Matrix::new(dy, rows, self.outputs));
        for row in dy.chunks_exact(self.outputs) {
            for (bias, part) in biases.iter_mut().zip(row) {
                *bias += part;
            }
        }
    }

    /// The gradient of its inputs, given that of its outputs.
    pub(crate) fn backward_inputs(&self, parameters: &[f32], dy: &[f32]) -> Vec<f32> {
        let rows = dy.len() / self.outputs;
        let mut dx = vec![0.0; rows * self.inputs];
        let dy = Matrix::new(dy, rows, self.outputs);
        set_product(&mut dx, dy, self.weights(parameters).transposed());
        dx
    }
}

/// Cuts negative values off.
pub(crate) fn relu(x: &mut [f32]) {
    for x in x {
        *x = x.max(0.0);
    }
}

/// Stops the gradient where [`relu`] cut.
pub(crate) fn relu_backward(y: &[f32], dy: &mut [f32]) {
    for (dy, y) in dy.iter_mut().zip(y) {
        if *y <= 0.0 {
            *dy = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "small numbers of halves are exact")]
    fn outputs_and_gradients_by_hand() {
        let layer = Dense::new(1, 2, 1);
        let parameters = [9.0, 2.0, 3.0, 0.5];
        // 1·2 + 1·3 + 0.5 and 4·2 − 1·3 + 0.5.
        let x = [1.0, 1.0, 4.0, -1.0];
        assert_eq!(layer.forward(&parameters, &x), [5.5, 5.5]);
        let mut gradient = [0.0; 4];
        layer.backward(&x, &[1.0, 2.0], &mut gradient);
        assert_eq!(gradient, [0.0, 9.0, -1.0, 3.0]);
        assert_eq!(layer.backward_inputs(&parameters, &[1.0, 2.0]), [2.0, 3.0, 4.0, 6.0]);
    }
}
