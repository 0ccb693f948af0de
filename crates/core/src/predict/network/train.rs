//! Fits the parameters of a network by small batches.

use rand::seq::SliceRandom;

use crate::predict::network::adam::{AdamW, one_cycle};
use crate::predict::{PredictError, Watch};
use crate::seed::{Purpose, stream};

/// A network with what it is fitted to.
pub(crate) trait Model: Sync {
    /// Its parameters before the first step.
    fn start(&self, rng: &mut impl rand::Rng) -> Vec<f32>;

    /// Adds the gradient of the loss, summed over these units, and returns their weight.
    fn gradient(&self, parameters: &[f32], units: &[usize], gradient: &mut [f32]) -> usize;
}

/// How a network is fitted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    /// Times every unit is seen.
    pub(crate) epochs: usize,
    /// Units of a step.
    pub(crate) batch: usize,
    /// Highest rate.
    pub(crate) rate: f64,
    /// Weight decay.
    pub(crate) decay: f32,
}

/// Fits a model to so many units.
///
/// Each batch is cut into two halves that may run side by side; their gradients are added
/// in order, so the result does not depend on the number of threads.
pub(crate) fn train<M: Model>(
    model: &M,
    n_units: usize,
    recipe: Recipe,
    seed: u64,
    watch: &dyn Watch,
) -> Result<Vec<f32>, PredictError> {
    let mut rng = stream(seed, Purpose::PredictorFit, 0);
    let mut parameters = model.start(&mut rng);
    let mut adam = AdamW::new(parameters.len(), recipe.decay);
    let mut order: Vec<usize> = (0..n_units).collect();
    let n_steps = recipe.epochs * n_units.div_ceil(recipe.batch);
    let (mut first, mut second) = (vec![0.0; parameters.len()], vec![0.0; parameters.len()]);
    let mut step = 0;
    for _ in 0..recipe.epochs {
        order.shuffle(&mut rng);
        for batch in order.chunks(recipe.batch) {
            watch.cancel().check()?;
            let (half, rest) = batch.split_at(batch.len().div_ceil(2));
            let run = |units: &[usize], gradient: &mut [f32]| {
                gradient.fill(0.0);
                if units.is_empty() { 0 } else { model.gradient(&parameters, units, gradient) }
            };
            let (a, b) = rayon::join(|| run(half, &mut first), || run(rest, &mut second));
            let mean = 1.0 / (a + b).max(1) as f32;
            for (sum, part) in first.iter_mut().zip(&second) {
                *sum = (*sum + part) * mean;
            }
            adam.step(&mut parameters, &first, one_cycle(step, n_steps, recipe.rate));
            step += 1;
            watch.progress(step as f64 / n_steps as f64);
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::{Cancel, Canceled};
    use crate::predict::Unwatched;

    /// y = a·x + b by least squares, exact for a = 2, b = −1.
    struct Line;

    impl Model for Line {
        fn start(&self, rng: &mut impl rand::Rng) -> Vec<f32> {
            let mut start = vec![0.0; 2];
            crate::predict::network::scatter(&mut start, 1, rng);
            start
        }

        fn gradient(&self, parameters: &[f32], units: &[usize], gradient: &mut [f32]) -> usize {
            for unit in units {
                let x = *unit as f32 / 10.0;
                let off = parameters[0] * x + parameters[1] - (2.0 * x - 1.0);
                gradient[0] += off * x;
                gradient[1] += off;
            }
            units.len()
        }
    }

    const RECIPE: Recipe = Recipe { epochs: 400, batch: 3, rate: 0.1, decay: 0.0 };

    #[test]
    fn a_line_is_found() {
        let found = train(&Line, 10, RECIPE, 0, &Unwatched).unwrap();
        assert!((found[0] - 2.0).abs() < 1e-2 && (found[1] + 1.0).abs() < 1e-2, "{found:?}");
    }

    #[test]
    fn equal_seeds_give_equal_fits_on_any_number_of_threads() {
        let on = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                train(&Line, 10, Recipe { epochs: 3, ..RECIPE }, seed, &Unwatched).unwrap()
            })
        };
        assert_eq!(on(1, 7), on(3, 7));
        assert_ne!(on(1, 7), on(1, 8));
    }

    #[test]
    fn a_canceled_fit_ends() {
        struct Impatient(Cancel);
        impl Watch for Impatient {
            fn progress(&self, done: f64) {
                assert!(done < 0.1);
            }
            fn cancel(&self) -> &Cancel {
                &self.0
            }
        }
        let ended = train(&Line, 10, RECIPE, 0, &Impatient(Cancel::when(|| true)));
        assert_eq!(ended, Err(Canceled.into()));
    }
}
