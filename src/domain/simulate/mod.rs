//! Replays recorded steps under every strategy.
//!
//! The forecast of `replace_only` and `distribution_only` sees only the past: the
//! planning part of the trace, and at every renewal the steps replayed before it.
//! `token_to_expert` sees the step's loads through a predictor: what a fitted one names for
//! the step's tokens, or the truth with errors drawn at a stated accuracy. Loads
//! come from the recorded routes, the slowest device ends each phase. Steps are taken in
//! batches, layers of a batch in parallel; every layer has its own random stream and sums
//! are made in order, so the result does not depend on the number of threads.

mod layer;
mod series;

use rayon::prelude::*;

use super::advice::layer::{LayerCosts, Routed};
use super::advice::plan::Planner;
use super::advice::stepwise::Stepwise;
use super::advice::{Entry, PlanSummary, analytic};
use super::placement::PlacementError;
use super::question::{PredictorKind, PredictorPoint, PredictorSource, Question};
use super::strategy::Strategy;
use super::system::Communication;
use super::terms::Terms;
use super::trace::counts::ExpertCounts;
use super::units::{Bytes, Seconds};
use layer::{LayerReplay, Outcome, Wanted};
pub use series::{Series, StepStatistics};

/// Steps replayed at a time.
pub const BATCH: usize = 64;

/// A replay under way.
#[derive(Debug)]
pub struct Simulator<'a> {
    question: &'a Question,
    costs: LayerCosts,
    stepwise: Stepwise<'a>,
    layers: Vec<LayerReplay>,
    tracks: Vec<Track>,
    steps: u64,
}

/// One priced entry followed over the steps.
#[derive(Debug, Clone)]
struct Track {
    entry: usize,
    strategy: Strategy,
    point: Option<PredictorPoint>,
    /// The kind of its predictor, where fitted.
    fitted: Option<PredictorKind>,
    sum: Routed,
    balanced: Routed,
    copying: Seconds,
    moved: Bytes,
    latencies: Series,
}

/// The loads a fitted predictor foresees in a batch of steps.
#[derive(Debug, Clone)]
pub struct Foreseen {
    /// Which predictor.
    pub kind: PredictorKind,
    /// Tokens per expert and layer as predicted for each step; `None` where it was not
    /// asked.
    pub steps: Vec<Option<ExpertCounts>>,
}

impl Foreseen {
    /// The foreseen load of one layer of one step.
    fn of(&self, step: usize, layer: usize) -> Option<&[f64]> {
        self.steps.get(step)?.as_ref().map(|counts| counts.layer(layer))
    }
}

/// What the replay found of one entry.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// Index of the entry.
    pub entry: usize,
    /// Mean terms of a layer.
    pub terms: Terms,
    /// Mean terms of a layer with every device taking the mean, of the plan that makes it
    /// least.
    pub balanced: Terms,
    /// Latency of a step of the whole model.
    pub steps: StepStatistics,
    /// 95 % interval of the speed-up of a layer over `none`.
    pub speedup_interval: [f64; 2],
    /// Mean over steps of max/mean device load, per layer.
    pub imbalance: Vec<f64>,
    /// Bytes of experts moved during the replay, over all replayed layers.
    pub moved: Bytes,
}

impl<'a> Simulator<'a> {
    /// Starts with the plans of the analytic answer, made on the planning part; strategies
    /// without a plan among them are not followed.
    pub fn new(
        question: &'a Question,
        pattern: Communication,
        entries: &[Entry],
        plans: &[PlanSummary],
        planned: &[Vec<f64>],
    ) -> Result<Option<Self>, PlacementError> {
        let tokens = question.system.workload.tokens_per_step as f64;
        let measured = question.measured_layer.as_ref();
        let Some(costs) = LayerCosts::new(&question.system, pattern, measured, tokens) else {
            return Ok(None);
        };
        let planner = Planner::new(question);
        let maps = |strategy| analytic::plan_of(plans, strategy).map(|plan| plan.layers.as_slice());
        let layers = planned
            .iter()
            .enumerate()
            .map(|(index, counts)| {
                LayerReplay::new(&planner, counts.clone(), |strategy| {
                    maps(strategy).and_then(|maps| maps.get(index)).cloned()
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let tracks = entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.terms.is_some())
            .map(|(index, entry)| Track {
                entry: index,
                strategy: entry.strategy,
                fitted: entry.predictor.as_ref().and_then(|predictor| {
                    predictor.kind.filter(|_| predictor.source == PredictorSource::Fitted)
                }),
                point: entry.predictor.as_ref().map(|predictor| PredictorPoint {
                    accuracy: predictor.accuracy,
                    overhead: predictor.overhead,
                }),
                sum: Routed::default(),
                balanced: Routed::default(),
                copying: Seconds::ZERO,
                moved: Bytes::ZERO,
                latencies: Series::default(),
            })
            .collect();
        let stepwise = Stepwise::new(question, planner);
        Ok(Some(Self { question, costs, stepwise, layers, tracks, steps: 0 }))
    }

    /// Steps replayed so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Replays a batch of steps; their layers must be those of the planning part.
    ///
    /// `foreseen` is what fitted predictors make of them; others err at random.
    pub fn replay(&mut self, batch: &[ExpertCounts], foreseen: &[Foreseen]) {
        let (costs, stepwise, question) = (&self.costs, &self.stepwise, self.question);
        let wanted: Vec<Wanted> = self.tracks.iter().map(|track| track.wanted(foreseen)).collect();
        let first = self.steps;
        let outcomes: Vec<Vec<Outcome>> = self
            .layers
            .par_iter_mut()
            .enumerate()
            .map(|(index, layer)| {
                layer.replay(question, costs, stepwise, &wanted, first, batch, index)
            })
            .collect();
        let system = &self.question.system;
        let n_layers = self.layers.len() as f64;
        let dense = self.costs.dense_layer * f64::from(system.model.dense_layers);
        for step in 0..batch.len() {
            for (index, track) in self.tracks.iter_mut().enumerate() {
                let mut sum = Routed::default();
                let mut extra = Seconds::ZERO;
                for layer in &outcomes {
                    let outcome = &layer[step * wanted.len() + index];
                    sum += outcome.routed;
                    track.balanced += outcome.balanced;
                    extra += outcome.moved.time;
                    track.moved += outcome.moved.bytes;
                }
                track.sum += sum;
                track.copying += extra;
                let layer = track.terms(
                    &self.costs,
                    &self.stepwise,
                    &sum.scaled(1.0 / n_layers),
                    extra / n_layers,
                );
                let latency = layer.total() * f64::from(system.model.moe_layers) + dense;
                track.latencies.push(latency.get());
            }
        }
        self.steps += batch.len() as u64;
    }

    /// The result; `None` if no step was replayed.
    #[must_use]
    pub fn finish(self) -> Option<Vec<Replayed>> {
        if self.steps == 0 {
            return None;
        }
        let n = self.steps as f64 * self.layers.len() as f64;
        let none = self.tracks.iter().find(|track| track.strategy == Strategy::None)?;
        // The mean device is no faster for copies: the least of all plans is the bound.
        let least_ffn = self
            .tracks
            .iter()
            .map(|track| track.balanced.ffn)
            .fold(none.balanced.ffn, Seconds::min);
        let model = &self.question.system.model;
        let dense = self.costs.dense_layer * f64::from(model.dense_layers);
        let replayed = self
            .tracks
            .iter()
            .enumerate()
            .map(|(index, track)| {
                let copying = track.copying / n;
                let terms = |sum: &Routed, copying| {
                    track.terms(&self.costs, &self.stepwise, &sum.scaled(1.0 / n), copying)
                };
                Replayed {
                    entry: track.entry,
                    terms: terms(&track.sum, copying),
                    balanced: Terms {
                        predictor: Seconds::ZERO,
                        ..terms(&Routed { ffn: least_ffn, ..track.balanced }, Seconds::ZERO)
                    },
                    steps: track.latencies.statistics(),
                    speedup_interval: series::speedup_interval(
                        &none.latencies,
                        &track.latencies,
                        dense.get(),
                        self.question.seed,
                    ),
                    imbalance: self
                        .layers
                        .iter()
                        .map(|layer| layer.imbalance(index) / self.steps as f64)
                        .collect(),
                    moved: track.moved,
                }
            })
            .collect();
        Some(replayed)
    }
}

impl Track {
    fn wanted<'a>(&self, foreseen: &'a [Foreseen]) -> Wanted<'a> {
        Wanted {
            strategy: self.strategy,
            point: self.point,
            foreseen: foreseen.iter().find(|foreseen| Some(foreseen.kind) == self.fitted),
        }
    }

    fn terms(
        &self,
        costs: &LayerCosts,
        stepwise: &Stepwise,
        routed: &Routed,
        moving: Seconds,
    ) -> Terms {
        match self.point {
            Some(point) => stepwise.predicted(stepwise.unpredicted(costs, routed, moving), point),
            None => Terms { rebalance: moving, ..costs.terms(routed) },
        }
    }
}
