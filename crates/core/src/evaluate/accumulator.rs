//! One priced entry followed over the steps of a replay.

use crate::evaluate::replay::{Foreseen, Wanted};
use crate::evaluate::{Outcome, Series};
use crate::pricing::entry::Entry;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::question::{PredictorKind, PredictorPoint, PredictorSource};
use crate::strategies::Strategy;
use crate::strategies::token_to_expert::stepwise::Stepwise;
use crate::system::System;
use crate::terms::Terms;
use crate::units::{Bytes, Seconds};

/// One priced entry followed over the steps.
#[derive(Debug, Clone)]
pub(super) struct Accumulator {
    /// Index of the entry.
    pub(super) entry: usize,
    pub(super) strategy: Strategy,
    point: Option<PredictorPoint>,
    /// The kind of its predictor, where fitted.
    fitted: Option<PredictorKind>,
    loads: Vec<OfLoad>,
    /// Bytes of experts moved over all steps and layers.
    pub(super) moved: Bytes,
}

/// Sums over the steps and layers of one load.
#[derive(Debug, Clone, Default)]
struct OfLoad {
    routed: Routed,
    balanced: Routed,
    copying: Seconds,
    latencies: Series,
    /// Sum over steps of max/mean device load, per layer.
    imbalance: Vec<f64>,
}

impl Accumulator {
    pub(super) fn new(index: usize, entry: &Entry, n_loads: usize, n_layers: usize) -> Self {
        let predictor = entry.predictor.as_ref();
        Self {
            entry: index,
            strategy: entry.strategy,
            fitted: predictor.and_then(|predictor| {
                predictor.kind.filter(|_| predictor.source == PredictorSource::Fitted)
            }),
            point: predictor.map(|predictor| PredictorPoint {
                accuracy: predictor.accuracy,
                overhead: predictor.overhead,
            }),
            loads: vec![OfLoad { imbalance: vec![0.0; n_layers], ..OfLoad::default() }; n_loads],
            moved: Bytes::ZERO,
        }
    }

    pub(super) fn wanted<'a>(&self, followed: &[Strategy], foreseen: &'a [Foreseen]) -> Wanted<'a> {
        let kept = self.strategy.planned_by();
        Wanted {
            plan: followed.iter().position(|strategy| *strategy == kept),
            point: self.point,
            foreseen: foreseen.iter().find(|foreseen| Some(foreseen.kind) == self.fitted),
        }
    }

    /// Adds a step of a load from what came of its layers.
    pub(super) fn add<'a>(
        &mut self,
        load: usize,
        layers: impl ExactSizeIterator<Item = &'a Outcome>,
        costs: &LayerCosts,
        stepwise: &Stepwise,
        system: &System,
    ) {
        let n_layers = layers.len() as f64;
        let mut routed = Routed::default();
        let mut copying = Seconds::ZERO;
        let of_load = &mut self.loads[load];
        for (outcome, imbalance) in layers.zip(&mut of_load.imbalance) {
            *imbalance += outcome.imbalance;
            routed += outcome.routed;
            of_load.balanced += outcome.balanced;
            copying += outcome.moved.time;
            self.moved += outcome.moved.bytes;
        }
        of_load.routed += routed;
        of_load.copying += copying;
        let mean = routed.scaled(1.0 / n_layers);
        let layer = self.terms(costs, stepwise, &mean, copying / n_layers).total();
        let dense = costs.dense_layer * f64::from(system.model.dense_layers);
        let latency = layer * f64::from(system.model.moe_layers) + dense;
        self.loads[load].latencies.push(latency.get());
    }

    /// The routed part of a layer, loads weighed by these `parts` of their sums.
    pub(super) fn mean_routed(&self, parts: &[f64]) -> Routed {
        self.mean(parts, |load| load.routed)
    }

    /// The same with every device taking the mean.
    pub(super) fn mean_balanced(&self, parts: &[f64]) -> Routed {
        self.mean(parts, |load| load.balanced)
    }

    /// The time experts move before a layer, weighed alike.
    pub(super) fn mean_copying(&self, parts: &[f64]) -> Seconds {
        self.loads.iter().zip(parts).map(|(load, part)| load.copying * *part).sum()
    }

    fn mean(&self, parts: &[f64], of: impl Fn(&OfLoad) -> Routed) -> Routed {
        let mut mean = Routed::default();
        for (load, part) in self.loads.iter().zip(parts) {
            mean += of(load).scaled(*part);
        }
        mean
    }

    /// Mean over steps of max/mean device load per layer, loads weighed by these `parts`.
    pub(super) fn mean_imbalance(&self, parts: &[f64]) -> Vec<f64> {
        let n_layers = self.loads.first().map_or(0, |load| load.imbalance.len());
        let of_layer = |layer: usize| {
            let of_load = |(load, part): (&OfLoad, &f64)| load.imbalance[layer] * part;
            self.loads.iter().zip(parts).map(of_load).sum()
        };
        (0..n_layers).map(of_layer).collect()
    }

    /// Step latencies of every load.
    pub(super) fn latencies(&self) -> Vec<&Series> {
        self.loads.iter().map(|load| &load.latencies).collect()
    }

    /// The terms of a layer from its mean routed part and moves.
    pub(super) fn terms(
        &self,
        costs: &LayerCosts,
        stepwise: &Stepwise,
        routed: &Routed,
        moving: Seconds,
    ) -> Terms {
        match self.point {
            Some(point) => {
                let told = stepwise.unpredicted(costs, routed, moving, point.accuracy);
                stepwise.predicted(told, point)
            }
            None => Terms { rebalance: moving, ..costs.terms(routed) },
        }
    }
}
