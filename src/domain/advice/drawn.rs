//! Drawn steps and what they are to the devices under every placement.

use std::sync::OnceLock;

use super::by_accuracy::ANCHORS;
use super::layer::{LayerCosts, Loaded, Routed};
use super::placements::{Placement, Placements, each_layer};
use super::predictors::mispredicted;
use super::stepwise::Replanned;
use crate::domain::question::Question;
use crate::domain::routing::sample::{Chances, Draws};
use crate::domain::routing::{self, LayerRouting};
use crate::domain::seed::{Purpose, stream};

/// The random numbers behind the steps of every layer, kept so that questions that differ
/// in one quantity are priced on common ones.
pub(super) fn draws(seed: u64, layers: &[LayerRouting], n_draws: usize) -> Vec<Draws> {
    let per_layer = (n_draws / layers.len().max(1)).clamp(4, n_draws.max(4));
    layers
        .iter()
        .zip(0_u64..)
        .map(|(layer, index)| Draws::new(seed, index, per_layer, layer.truth.len()))
        .collect()
}

/// One layer of one drawn step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) layer: usize,
    pub(super) counts: Vec<f64>,
}

/// One layer of one step as a predictor forecasts it.
#[derive(Debug, Clone)]
pub(super) struct Forecast {
    pub(super) counts: Vec<f64>,
    /// The forecast counts under the plan that is kept.
    pub(super) loaded: Loaded,
    /// A plan of its own, once it is asked for.
    pub(super) replanned: OnceLock<Option<Replanned>>,
}

/// Forecasts of all steps at every one of [`ANCHORS`], made when first asked for.
type Forecasts = [OnceLock<Box<[Forecast]>>; ANCHORS.len()];

/// The drawn steps of all layers, layer after layer.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) steps: Vec<Step>,
    /// Experts of every layer by their true share.
    orders: Vec<Vec<usize>>,
    /// Per placement and step.
    loads: Vec<Vec<Loaded>>,
    /// Per placement.
    forecasts: Vec<Forecasts>,
    seed: u64,
}

impl Drawn {
    pub(super) fn new(
        question: &Question,
        draws: &[Draws],
        layers: &[LayerRouting],
        costs: &LayerCosts,
        placements: &Placements,
    ) -> Self {
        let top_k = question.system.model.experts.top_k;
        let drawn = each_layer(layers.len(), |layer| {
            // Random numbers belong to ranks of popularity, not to ids: renamed experts draw
            // the same loads.
            let order = routing::by_share(&layers[layer].truth);
            let ranked = routing::in_order(&layers[layer].truth, &order);
            let chances = Chances::new(&ranked, costs.tokens, top_k);
            let mut counts = vec![0.0; ranked.len()];
            let mut step = |draw: usize| {
                draws[layer].counts(draw, &chances, &mut counts);
                let step = Step { layer, counts: routing::by_expert(&counts, &order) };
                let placed = placements.all.iter().map(|placement| &placement.layers[layer]);
                let loaded = costs.loaded_each(&step.counts, placed);
                (step, loaded)
            };
            let steps: Vec<(Step, Vec<Loaded>)> = (0..draws[layer].len()).map(&mut step).collect();
            (order, steps)
        });
        let n_steps = draws.iter().map(Draws::len).sum();
        let mut steps = Vec::with_capacity(n_steps);
        let mut loads = vec![Vec::with_capacity(n_steps); placements.all.len()];
        let mut orders = Vec::with_capacity(layers.len());
        for (order, of_layer) in drawn {
            orders.push(order);
            for (step, loaded) in of_layer {
                steps.push(step);
                loads.iter_mut().zip(loaded).for_each(|(loads, loaded)| loads.push(loaded));
            }
        }
        let forecasts = placements.all.iter().map(|_| Forecasts::default()).collect();
        Self { steps, orders, loads, forecasts, seed: question.seed }
    }

    /// Every step with its load under a placement.
    pub(super) fn under(&self, placement: usize) -> impl Iterator<Item = (&Step, &Loaded)> {
        self.steps.iter().zip(&self.loads[placement])
    }

    /// The mean over steps.
    pub(super) fn mean(&self, placement: usize, price: impl Fn(&Loaded) -> Routed) -> Routed {
        let mut sum = Routed::default();
        self.loads[placement].iter().for_each(|loaded| sum += price(loaded));
        sum.scaled(1.0 / self.steps.len() as f64)
    }

    /// What a predictor of the accuracy of that anchor forecasts for every step.
    pub(super) fn forecasts(
        &self,
        anchor: usize,
        costs: &LayerCosts,
        (index, placement): (usize, &Placement),
    ) -> &[Forecast] {
        self.forecasts[index][anchor].get_or_init(|| {
            let mut rng = stream(self.seed, Purpose::Misprediction, 0);
            let mut layer = 0;
            let forecast = |(step, true_load): (&Step, &Loaded)| {
                if step.layer != layer {
                    layer = step.layer;
                    rng = stream(self.seed, Purpose::Misprediction, layer as u64);
                }
                let accuracy = ANCHORS[anchor];
                // Who is never wrong forecasts the truth.
                let (counts, loaded) = if accuracy >= 1.0 {
                    (step.counts.clone(), *true_load)
                } else {
                    let order = &self.orders[layer];
                    let ranked = routing::in_order(&step.counts, order);
                    let told = mispredicted(&ranked, accuracy, &mut rng);
                    let counts = routing::by_expert(&told, order);
                    let loaded = costs.loaded(&placement.layers[layer], &counts);
                    (counts, loaded)
                };
                Forecast { counts, loaded, replanned: OnceLock::new() }
            };
            self.under(index).map(forecast).collect()
        })
    }
}
