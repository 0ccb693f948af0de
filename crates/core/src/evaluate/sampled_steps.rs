//! Drawn steps and what they are to the devices under every placement.

use std::sync::OnceLock;

use crate::evaluate::{LayerStep, Steps};
use crate::pricing::candidates::{Placements, each_layer};
use crate::pricing::device_load::DeviceLoad;
use crate::pricing::layer::LayerCosts;
use crate::question::Question;
use crate::routing::sample::{Chances, Draws};
use crate::routing::{self, LayerRouting};
use crate::seed::{Purpose, stream};
use crate::strategies::token_to_expert::by_accuracy::ANCHORS;
use crate::strategies::token_to_expert::mispredicted::mispredicted;
use crate::strategies::token_to_expert::stepwise::{Moved, Replanned};

/// How many steps are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Over all layers.
    pub(crate) steps: usize,
    /// Of every layer at least.
    pub(crate) per_layer: usize,
}

/// What an answer is priced on.
pub(crate) const DRAWS: Effort = Effort { steps: 128, per_layer: 4 };

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

/// One layer of one step as a predictor forecasts it.
#[derive(Debug, Clone)]
pub(crate) struct Forecast {
    pub(crate) counts: Vec<f64>,
    /// The forecast counts under the plan that is kept.
    pub(crate) loaded: DeviceLoad,
    /// A plan of its own, once it is asked for.
    pub(crate) replanned: OnceLock<Option<Replanned>>,
}

/// Forecasts of all steps at every one of [`ANCHORS`], made when first asked for.
type Forecasts = [OnceLock<Box<[Forecast]>>; ANCHORS.len()];

/// The drawn steps of all layers, layer after layer.
#[derive(Debug)]
pub(crate) struct SampledSteps {
    layers: Vec<SampledLayer>,
    n_experts: usize,
    n_placements: usize,
    /// Per placement.
    forecasts: Vec<Forecasts>,
    seed: u64,
}

/// The drawn steps of one layer.
#[derive(Debug)]
struct SampledLayer {
    /// Experts by their true share.
    order: Vec<usize>,
    /// Tokens per expert, step after step.
    counts: Vec<f64>,
    /// Per step, under every placement.
    loads: Vec<DeviceLoad>,
}

/// Per step of a layer, whose tokens per expert `counts` are, the loads under every placement.
fn loads(
    counts: &[f64],
    costs: &LayerCosts,
    placements: &Placements,
    (layer, n_experts): (usize, usize),
) -> Vec<DeviceLoad> {
    let mut loads = Vec::with_capacity(counts.len() / n_experts * placements.all.len());
    let mut works = Vec::new();
    for counts in counts.chunks_exact(n_experts) {
        let placed = placements.all.iter().map(|placement| &placement.layers[layer]);
        loads.extend(costs.loaded_each(counts, placed, &mut works));
    }
    loads
}

impl SampledSteps {
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
            let mut by_rank = vec![0.0; n_experts];
            let mut counts = vec![0.0; draws[layer].len() * n_experts];
            for (draw, counts) in counts.chunks_exact_mut(n_experts).enumerate() {
                draws[layer].counts(draw, &chances, &mut by_rank);
                routing::put_by_expert(&by_rank, &order, counts);
            }
            let loads = loads(&counts, costs, placements, (layer, n_experts));
            SampledLayer { order, counts, loads }
        };
        Self {
            layers: each_layer(layers.len(), drawn),
            n_experts,
            n_placements,
            forecasts: placements.all.iter().map(|_| Forecasts::default()).collect(),
            seed: question.seed,
        }
    }

    /// The same steps under other laws.
    pub(crate) fn under_laws(&self, costs: &LayerCosts, placements: &Placements) -> Self {
        let of = |(layer, sampled): (usize, &SampledLayer)| SampledLayer {
            order: sampled.order.clone(),
            counts: sampled.counts.clone(),
            loads: loads(&sampled.counts, costs, placements, (layer, self.n_experts)),
        };
        Self {
            layers: self.layers.iter().enumerate().map(of).collect(),
            forecasts: placements.all.iter().map(|_| Forecasts::default()).collect(),
            ..*self
        }
    }

    /// How many steps there are, each of one layer.
    pub(crate) fn n_steps(&self) -> usize {
        self.layers.iter().map(|layer| layer.counts.len() / self.n_experts).sum()
    }

    /// The steps, with the placements that they were drawn under.
    pub(crate) const fn under<'a>(&'a self, placements: &'a Placements) -> Sampled<'a> {
        Sampled { drawn: self, placements }
    }

    /// What a predictor of the accuracy of that anchor forecasts for every step.
    pub(crate) fn forecasts(
        &self,
        anchor: usize,
        costs: &LayerCosts,
        (index, placements): (usize, &Placements),
    ) -> &[Forecast] {
        self.forecasts[index][anchor].get_or_init(|| {
            let mut forecasts = Vec::with_capacity(self.n_steps());
            let sampled = self.under(placements);
            let forecast = |step: &LayerStep, rng: &mut _| {
                let accuracy = ANCHORS[anchor];
                // Who is never wrong forecasts the truth.
                let (counts, loaded) = if accuracy >= 1.0 {
                    (step.counts.to_vec(), step.loads[index])
                } else {
                    let order = &self.layers[step.layer].order;
                    let ranked = routing::in_order(step.counts, order);
                    let told = mispredicted(&ranked, accuracy, rng);
                    let counts = routing::by_expert(&told, order);
                    let loaded = costs.loaded(step.placed(index), &counts);
                    (counts, loaded)
                };
                Forecast { counts, loaded, replanned: OnceLock::new() }
            };
            for layer in self.layers.iter().enumerate() {
                let mut rng = stream(self.seed, Purpose::Misprediction, layer.0 as u64);
                sampled.of_layer(layer, 0, |step| forecasts.push(forecast(step, &mut rng)));
            }
            forecasts.into()
        })
    }
}

/// The sampled steps under the placements that they were drawn for.
///
/// Every step is one of a single layer; the layers of several loads all count the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampled<'a> {
    drawn: &'a SampledSteps,
    placements: &'a Placements,
}

impl Sampled<'_> {
    /// Steps of every layer; all have as many.
    fn per_layer(&self) -> usize {
        self.drawn.n_steps() / self.drawn.layers.len().max(1)
    }

    /// Shows `see` every step of one layer, the first of which is the `first` of all.
    fn of_layer(
        &self,
        (layer, sampled): (usize, &SampledLayer),
        first: usize,
        mut see: impl FnMut(&LayerStep),
    ) {
        let placed = |plan: usize| &self.placements.all[plan].layers[layer];
        let counts = sampled.counts.chunks_exact(self.drawn.n_experts);
        let loads = sampled.loads.chunks_exact(self.drawn.n_placements);
        let steps = counts.zip(loads).zip(first..);
        let renewal = |_| Moved::default();
        let step = |((counts, loads), at)| LayerStep {
            layer,
            at,
            counts,
            loads,
            placed: &placed,
            renewal: &renewal,
        };
        steps.map(step).for_each(|step| see(&step));
    }
}

impl Steps for Sampled<'_> {
    fn each<O: Send>(
        &mut self,
        price: impl Fn(&LayerStep) -> O + Sync,
        mut see: impl FnMut(&[usize], &[Vec<O>]),
    ) {
        let per_layer = self.per_layer();
        let one_load = vec![0; per_layer];
        for layer in self.drawn.layers.iter().enumerate() {
            let mut priced = Vec::with_capacity(per_layer);
            self.of_layer(layer, layer.0 * per_layer, |step| priced.push(price(step)));
            see(&one_load, &[priced]);
        }
    }

    fn every<O: Copy + Send>(
        &mut self,
        price: impl Fn(&LayerStep) -> O + Sync,
        mut see: impl FnMut(O),
    ) {
        let per_layer = self.per_layer();
        for layer in self.drawn.layers.iter().enumerate() {
            self.of_layer(layer, layer.0 * per_layer, |step| see(price(step)));
        }
    }
}
