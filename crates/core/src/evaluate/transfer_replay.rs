//! Plans that are loaded once and kept, on the recorded steps of several loads.

use rayon::prelude::*;

use crate::evaluate::Step;
use crate::evaluate::transfer::Transfer;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::slot_shares::Placed;
use crate::question::Question;
use crate::system::Communication;

/// Scores the plans of a transfer matrix on recorded steps.
#[derive(Debug)]
pub struct Held {
    costs: LayerCosts,
    n_layers: usize,
    /// Of every plan under every load.
    sums: Vec<Vec<Sum>>,
    /// Steps of every load.
    steps: Vec<u64>,
}

/// Sums over the steps and layers of a load.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    routed: Routed,
    imbalance: f64,
}

impl Held {
    /// For the plans of a matrix; `None` where the device has no laws.
    #[must_use]
    pub fn new(question: &Question, pattern: Communication, transfer: &Transfer) -> Option<Self> {
        let tokens = question.system.workload.tokens_per_step as f64;
        let measured = question.measured_layer.as_ref();
        let n_loads = transfer.own.len();
        Some(Self {
            costs: LayerCosts::new(&question.system, pattern, measured, tokens)?.tabulated(),
            n_layers: transfer.none.layers.len() / n_loads.max(1),
            sums: vec![vec![Sum::default(); n_loads]; transfer.plans().count()],
            steps: vec![0; n_loads],
        })
    }

    /// Adds a batch of steps.
    pub fn replay(&mut self, transfer: &Transfer, batch: &[Step]) {
        let (costs, n_layers) = (&self.costs, self.n_layers);
        let priced = |layer: usize| -> Vec<Vec<Sum>> {
            let mut works = Vec::new();
            let under_plans = |Step { load, counts }: &Step| {
                let counts = counts.layer(layer);
                let place = load * n_layers + layer;
                let placed = || transfer.plans().map(|plan| &plan.layers[place]);
                let loaded = costs.loaded_each(counts, placed(), &mut works);
                let sum = |(placed, loaded): (&Placed, _)| Sum {
                    routed: costs.routed(&loaded),
                    imbalance: placed.imbalance(counts),
                };
                placed().zip(loaded).map(sum).collect()
            };
            batch.iter().map(under_plans).collect()
        };
        let layers: Vec<Vec<Vec<Sum>>> = (0..n_layers).into_par_iter().map(priced).collect();
        for layer in &layers {
            for (Step { load, .. }, of_step) in batch.iter().zip(layer) {
                for (sums, one) in self.sums.iter_mut().zip(of_step) {
                    sums[*load].routed += one.routed;
                    sums[*load].imbalance += one.imbalance;
                }
            }
        }
        for Step { load, .. } in batch {
            self.steps[*load] += 1;
        }
    }

    /// Puts what was found in place of the drawn scores.
    pub fn finish(self, transfer: &mut Transfer) {
        for (plan, sums) in transfer.plans_mut().zip(&self.sums) {
            for ((on, sum), steps) in plan.on.iter_mut().zip(sums).zip(&self.steps) {
                let part = 1.0 / (*steps as f64 * self.n_layers as f64);
                on.step_imbalance = sum.imbalance * part;
                on.latency = self.costs.terms(&sum.routed.scaled(part)).total();
            }
        }
        transfer.replayed_steps = Some(self.steps);
    }
}
