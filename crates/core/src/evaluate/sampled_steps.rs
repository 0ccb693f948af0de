//! Drawn steps and what they are to the devices under every placement.

use std::sync::OnceLock;

use crate::pricing::candidates::{Placement, Placements, each_layer};
use crate::pricing::device_load::Loaded;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::question::Question;
use crate::routing::sample::{Chances, Draws};
use crate::routing::{self, LayerRouting};
use crate::seed::{Purpose, stream};
use crate::strategies::token_to_expert::by_accuracy::ANCHORS;
use crate::strategies::token_to_expert::mispredicted::mispredicted;
use crate::strategies::token_to_expert::stepwise::Replanned;

/// How many steps are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Over all layers.
    pub(crate) steps: usize,
    /// Of every layer at least.
    pub(crate) per_layer: usize,
}

impl Effort {
    /// Steps drawn of each of so many layers, in pairs.
    const fn of_each(self, n_layers: usize) -> usize {
        let even = self.steps / if n_layers > 0 { n_layers } else { 1 };
        let steps = if even > self.per_layer { even } else { self.per_layer };
        steps.next_multiple_of(2)
    }

    /// Steps drawn over so many layers.
    #[must_use]
    pub const fn over(self, n_layers: usize) -> usize {
        self.of_each(n_layers) * n_layers
    }
}

/// The random numbers behind the steps of every layer, kept so that questions that differ
/// in one quantity are priced on common ones.
pub(crate) fn draws(seed: u64, layers: &[LayerRouting], effort: Effort) -> Vec<Draws> {
    let per_layer = effort.of_each(layers.len());
    layers
        .iter()
        .zip(0_u64..)
        .map(|(layer, index)| Draws::new(seed, index, per_layer, layer.truth.len()))
        .collect()
}

/// One layer of one drawn step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) layer: usize,
    /// Tokens per expert.
    pub(crate) counts: &'a [f64],
}

/// One layer of one step as a predictor forecasts it.
#[derive(Debug, Clone)]
pub(crate) struct Forecast {
    pub(crate) counts: Vec<f64>,
    /// The forecast counts under the plan that is kept.
    pub(crate) loaded: Loaded,
    /// A plan of its own, once it is asked for.
    pub(crate) replanned: OnceLock<Option<Replanned>>,
}

/// Forecasts of all steps at every one of [`ANCHORS`], made when first asked for.
type Forecasts = [OnceLock<Box<[Forecast]>>; ANCHORS.len()];

/// The drawn steps of all layers, layer after layer.
#[derive(Debug)]
pub(crate) struct Drawn {
    layers: Vec<DrawnLayer>,
    n_experts: usize,
    n_placements: usize,
    /// Per placement.
    forecasts: Vec<Forecasts>,
    seed: u64,
}

/// The drawn steps of one layer.
#[derive(Debug)]
struct DrawnLayer {
    /// Experts by their true share.
    order: Vec<usize>,
    /// Tokens per expert, step after step.
    counts: Vec<f64>,
    /// Per step, under every placement.
    loads: Vec<Loaded>,
}

impl Drawn {
    pub(crate) fn new(
        question: &Question,
        draws: &[Draws],
        layers: &[LayerRouting],
        costs: &LayerCosts,
        placements: &Placements,
    ) -> Self {
        let top_k = question.system.model.experts.top_k;
        let n_experts = question.system.model.experts.routed as usize;
        let n_placements = placements.all.len();
        let drawn = |layer: usize| {
            // Random numbers belong to ranks of popularity, not to ids: renamed experts draw
            // the same loads.
            let order = routing::by_share(&layers[layer].truth);
            let ranked = routing::in_order(&layers[layer].truth, &order);
            let chances = Chances::new(&ranked, costs.tokens, top_k);
            let n_steps = draws[layer].len();
            let mut by_rank = vec![0.0; n_experts];
            let mut counts = vec![0.0; n_steps * n_experts];
            let mut loads = Vec::with_capacity(n_steps * n_placements);
            let mut works = Vec::new();
            for (draw, counts) in counts.chunks_exact_mut(n_experts).enumerate() {
                draws[layer].counts(draw, &chances, &mut by_rank);
                routing::put_by_expert(&by_rank, &order, counts);
                let placed = placements.all.iter().map(|placement| &placement.layers[layer]);
                loads.extend(costs.loaded_each(counts, placed, &mut works));
            }
            DrawnLayer { order, counts, loads }
        };
        Self {
            layers: each_layer(layers.len(), drawn),
            n_experts,
            n_placements,
            forecasts: placements.all.iter().map(|_| Forecasts::default()).collect(),
            seed: question.seed,
        }
    }

    /// How many steps there are, each of one layer.
    pub(crate) fn n_steps(&self) -> usize {
        self.layers.iter().map(|layer| layer.counts.len() / self.n_experts).sum()
    }

    /// Every step.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.layers.iter().enumerate().flat_map(|(layer, drawn)| {
            drawn.counts.chunks_exact(self.n_experts).map(move |counts| Step { layer, counts })
        })
    }

    /// The load of every step under a placement.
    pub(crate) fn loads(&self, placement: usize) -> impl Iterator<Item = &Loaded> {
        let steps =
            self.layers.iter().flat_map(|layer| layer.loads.chunks_exact(self.n_placements));
        steps.map(move |loads| &loads[placement])
    }

    /// Every step with its load under a placement.
    pub(crate) fn under(&self, placement: usize) -> impl Iterator<Item = (Step<'_>, &Loaded)> {
        self.steps().zip(self.loads(placement))
    }

    /// The mean over steps.
    pub(crate) fn mean(&self, placement: usize, price: impl Fn(&Loaded) -> Routed) -> Routed {
        let mut sum = Routed::default();
        self.loads(placement).for_each(|loaded| sum += price(loaded));
        sum.scaled(1.0 / self.n_steps() as f64)
    }

    /// What a predictor of the accuracy of that anchor forecasts for every step.
    pub(crate) fn forecasts(
        &self,
        anchor: usize,
        costs: &LayerCosts,
        (index, placement): (usize, &Placement),
    ) -> &[Forecast] {
        self.forecasts[index][anchor].get_or_init(|| {
            let mut rng = stream(self.seed, Purpose::Misprediction, 0);
            let mut layer = 0;
            let forecast = |(step, true_load): (Step, &Loaded)| {
                if step.layer != layer {
                    layer = step.layer;
                    rng = stream(self.seed, Purpose::Misprediction, layer as u64);
                }
                let accuracy = ANCHORS[anchor];
                // Who is never wrong forecasts the truth.
                let (counts, loaded) = if accuracy >= 1.0 {
                    (step.counts.to_vec(), *true_load)
                } else {
                    let order = &self.layers[layer].order;
                    let ranked = routing::in_order(step.counts, order);
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
