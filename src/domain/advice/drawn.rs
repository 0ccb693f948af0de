//! Drawn steps and what they are to the devices under every placement.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::layer::{LayerCosts, Loaded, Routed};
use super::placements::{Placement, Placements};
use super::predictors::mispredicted;
use crate::domain::routing::sample::Draws;
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
}

/// Forecasts of all steps by the bits of an accuracy and a placement.
type Known = BTreeMap<(u64, usize), Rc<[Forecast]>>;

/// The drawn steps of all layers, layer after layer.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) steps: Vec<Step>,
    /// Experts of every layer by their true share.
    orders: Vec<Vec<usize>>,
    /// Per placement and step.
    loads: Vec<Vec<Loaded>>,
    seed: u64,
    /// Forecasts already made, by accuracy and placement: the few accuracies that are priced.
    known: RefCell<Known>,
}

impl Drawn {
    pub(super) fn new(
        seed: u64,
        draws: &[Draws],
        layers: &[LayerRouting],
        top_k: u32,
        costs: &LayerCosts,
        placements: &Placements,
    ) -> Self {
        // Random numbers belong to ranks of popularity, not to ids: renamed experts draw the
        // same loads.
        let orders: Vec<Vec<usize>> =
            layers.iter().map(|layer| routing::by_share(&layer.truth)).collect();
        let mut steps = Vec::new();
        for (layer, (draws, routing)) in draws.iter().zip(layers).enumerate() {
            let ranked = routing::in_order(&routing.truth, &orders[layer]);
            let mut drawn = vec![0.0; ranked.len()];
            for draw in 0..draws.len() {
                draws.counts(draw, &ranked, costs.tokens, top_k, &mut drawn);
                steps.push(Step { layer, counts: routing::by_expert(&drawn, &orders[layer]) });
            }
        }
        let loads = placements
            .all
            .iter()
            .map(|placement| {
                let load = |step: &Step| costs.loaded(&placement.layers[step.layer], &step.counts);
                steps.iter().map(load).collect()
            })
            .collect();
        Self { steps, orders, loads, seed, known: RefCell::default() }
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

    /// What a predictor of that accuracy forecasts for every step.
    pub(super) fn forecasts(
        &self,
        accuracy: f64,
        costs: &LayerCosts,
        (index, placement): (usize, &Placement),
    ) -> Rc<[Forecast]> {
        let key = (accuracy.to_bits(), index);
        if let Some(known) = self.known.borrow().get(&key) {
            return Rc::clone(known);
        }
        let mut rng = stream(self.seed, Purpose::Misprediction, 0);
        let mut layer = 0;
        let forecast = |step: &Step| {
            if step.layer != layer {
                layer = step.layer;
                rng = stream(self.seed, Purpose::Misprediction, layer as u64);
            }
            let order = &self.orders[layer];
            let ranked = routing::in_order(&step.counts, order);
            let counts = routing::by_expert(&mispredicted(&ranked, accuracy, &mut rng), order);
            let loaded = costs.loaded(&placement.layers[layer], &counts);
            Forecast { counts, loaded }
        };
        let found: Rc<[Forecast]> = self.steps.iter().map(forecast).collect();
        self.known.borrow_mut().insert(key, Rc::clone(&found));
        found
    }
}
