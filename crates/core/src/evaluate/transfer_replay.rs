//! Plans that are loaded once and kept, on the recorded steps of several loads.

use crate::evaluate::recorded_steps::{Batch, RecordedLayer};
use crate::evaluate::transfer::Transfer;
use crate::evaluate::{LayerStep, Step, Steps};
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::SlotShares;
use crate::question::Question;
use crate::system::Communication;

/// Scores the plans of a transfer matrix on recorded steps.
#[derive(Debug)]
pub(crate) struct TransferReplay<'a> {
    question: &'a Question,
    planner: Planner,
    costs: LayerCosts,
    layers: Vec<RecordedLayer>,
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

impl<'a> TransferReplay<'a> {
    /// For the plans of a matrix; `None` where the device has no laws.
    pub(crate) fn new(
        question: &'a Question,
        pattern: Communication,
        transfer: &Transfer,
    ) -> Option<Self> {
        let tokens = question.system.workload.tokens_per_step as f64;
        let measured = question.measured_layer.as_ref();
        let n_loads = transfer.own.len();
        let n_layers = transfer.none.layers.len() / n_loads.max(1);
        let under_loads = |layer: usize| {
            let of_load = move |plan: &[SlotShares]| {
                (0..n_loads).map(|load| plan[load * n_layers + layer].clone()).collect()
            };
            RecordedLayer::kept(transfer.plans().map(|plan| of_load(&plan.layers)))
        };
        Some(Self {
            question,
            planner: Planner::new(question),
            costs: LayerCosts::new(&question.system, pattern, measured, tokens)?.tabulated(),
            layers: (0..n_layers).map(under_loads).collect(),
            sums: vec![vec![Sum::default(); n_loads]; transfer.plans().count()],
            steps: vec![0; n_loads],
        })
    }

    /// Adds some steps.
    pub(crate) fn replay(&mut self, batch: &[Step]) {
        let Self { question, planner, costs, layers, sums, steps } = self;
        let price = |step: &LayerStep| -> Vec<Sum> {
            let under = |plan: usize| {
                let imbalance = step.placed(plan).imbalance(step.counts);
                Sum { routed: costs.routed(&step.loads[plan]), imbalance }
            };
            (0..step.loads.len()).map(under).collect()
        };
        let mut batch = Batch { question, planner, costs, layers, steps: batch, served: 0 };
        batch.each(price, |loads, layers| {
            for (load, under_plans) in layers.iter().flat_map(|layer| loads.iter().zip(layer)) {
                for (sums, one) in sums.iter_mut().zip(under_plans) {
                    sums[*load].routed += one.routed;
                    sums[*load].imbalance += one.imbalance;
                }
            }
            for load in loads {
                steps[*load] += 1;
            }
        });
    }

    /// Puts what was found in place of the drawn scores.
    pub(crate) fn finish(self, transfer: &mut Transfer) {
        for (plan, sums) in transfer.plans_mut().zip(&self.sums) {
            for ((on, sum), steps) in plan.on.iter_mut().zip(sums).zip(&self.steps) {
                let part = 1.0 / (*steps as f64 * self.layers.len() as f64);
                on.step_imbalance = sum.imbalance * part;
                on.latency = self.costs.terms(&sum.routed.scaled(part)).total();
            }
        }
        transfer.replayed_steps = Some(self.steps);
    }
}
