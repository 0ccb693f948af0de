//! Replays recorded steps under every strategy.
//!
//! The forecast of `replace_only` and `distribution_only` sees only the past: the
//! planning part of the trace, and at every renewal the steps replayed before it.
//! `token_to_expert` sees the step's loads through a predictor: what a fitted one names for
//! the step's tokens, or the truth with errors drawn at a stated accuracy. Loads
//! come from the recorded routes, the slowest device ends each phase. Steps are taken in
//! batches, layers of a batch in parallel; every layer has its own random stream and sums
//! are made in order, so the result does not depend on the number of threads.
//!
//! Several loads are served side by side under one plan: steps of all count towards the
//! interval, a renewed plan is the one whose worst load is best, and in the result every load
//! counts the same, however many steps it has.

mod accumulator;
pub mod interval;
mod layer;
mod load_window;
pub(crate) mod sampled_steps;
mod statistics;
pub mod transfer;
pub mod transfer_replay;

use rayon::prelude::*;

use crate::advice::{Entry, PlanSummary, analytic};
use crate::placement::PlacementError;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::question::{PredictorKind, Question};
use crate::strategies;
use crate::strategies::token_to_expert::stepwise::Stepwise;
use crate::system::Communication;
use crate::terms::Terms;
use crate::trace::counts::ExpertCounts;
use crate::units::{Bytes, Seconds};
use accumulator::Track;
use layer::{LayerReplay, Outcome, Wanted};
use load_window::Past;
pub use statistics::{Series, StepStatistics};

/// Steps replayed at a time.
pub const BATCH: usize = 64;

/// A recorded step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which of the loads it belongs to.
    pub load: usize,
    /// Tokens per expert and layer.
    pub counts: ExpertCounts,
}

/// A replay under way.
#[derive(Debug)]
pub struct Simulator<'a> {
    question: &'a Question,
    costs: LayerCosts,
    stepwise: Stepwise<'a>,
    layers: Vec<LayerReplay>,
    tracks: Vec<Track>,
    /// Steps replayed of every load.
    steps: Vec<u64>,
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
    ///
    /// `planned` holds the tokens per expert of every load's planning part, `[load][layer]`.
    pub fn new(
        question: &'a Question,
        pattern: Communication,
        entries: &[Entry],
        plans: &[PlanSummary],
        planned: &[Vec<Vec<f64>>],
    ) -> Result<Option<Self>, PlacementError> {
        let tokens = question.system.workload.tokens_per_step as f64;
        let measured = question.measured_layer.as_ref();
        let Some(costs) = LayerCosts::new(&question.system, pattern, measured, tokens) else {
            return Ok(None);
        };
        let costs = costs.tabulated();
        let planner = Planner::new(question);
        let maps = |strategy| analytic::plan_of(plans, strategy).map(|plan| plan.layers.as_slice());
        let n_layers = planned.iter().map(Vec::len).min().unwrap_or(0);
        let assignments = tokens * f64::from(question.system.model.experts.top_k);
        let layer = |index: usize| {
            let planned = planned.iter().map(|load| load[index].clone()).collect();
            let past = Past::new(planned, assignments);
            LayerReplay::new(&planner, past, |strategy| {
                maps(strategy).and_then(|maps| maps.get(index)).cloned()
            })
        };
        let layers = (0..n_layers).map(layer).collect::<Result<Vec<_>, _>>()?;
        let priced = entries.iter().enumerate().filter(|(_, entry)| entry.terms.is_some());
        let tracks = priced.map(|(index, entry)| Track::new(index, entry, planned.len())).collect();
        let stepwise = Stepwise::new(question, planner);
        let steps = vec![0; planned.len()];
        Ok(Some(Self { question, costs, stepwise, layers, tracks, steps }))
    }

    /// Steps replayed so far, over all loads.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.iter().sum()
    }

    /// Replays a batch of steps; their layers must be those of the planning part.
    ///
    /// `foreseen` is what fitted predictors make of them; others err at random.
    pub fn replay(&mut self, batch: &[Step], foreseen: &[Foreseen]) {
        let (costs, stepwise, question) = (&self.costs, &self.stepwise, self.question);
        let wanted: Vec<Wanted> = self.tracks.iter().map(|track| track.wanted(foreseen)).collect();
        let first = self.steps.iter().sum();
        let outcomes: Vec<Vec<Outcome>> = self
            .layers
            .par_iter_mut()
            .enumerate()
            .map(|(index, layer)| {
                layer.replay(question, costs, stepwise, &wanted, first, batch, index)
            })
            .collect();
        for (step, Step { load, .. }) in batch.iter().enumerate() {
            for (index, track) in self.tracks.iter_mut().enumerate() {
                let layers = outcomes.iter().map(|layer| &layer[step * wanted.len() + index]);
                track.add(*load, layers, &self.costs, &self.stepwise, &question.system);
            }
            self.steps[*load] += 1;
        }
    }

    /// The result; `None` if no step was replayed of some load.
    #[must_use]
    pub fn finish(self) -> Option<Vec<Replayed>> {
        if self.steps.contains(&0) {
            return None;
        }
        let n_layers = self.layers.len() as f64;
        let n_loads = self.steps.len() as f64;
        // The part of every load in a mean over loads, per step and per layer of a step.
        let per_step: Vec<f64> =
            self.steps.iter().map(|steps| 1.0 / (*steps as f64 * n_loads)).collect();
        let per_layer: Vec<f64> =
            self.steps.iter().map(|steps| 1.0 / (*steps as f64 * n_layers * n_loads)).collect();
        let none = self.tracks.iter().find(|track| track.strategy == strategies::NONE)?;
        let balanced: Vec<Routed> =
            self.tracks.iter().map(|track| track.mean_balanced(&per_layer)).collect();
        // The mean device is no faster for copies: the least of all plans is the bound.
        let least_ffn = balanced
            .iter()
            .map(|balanced| balanced.ffn)
            .fold(none.mean_balanced(&per_layer).ffn, Seconds::min);
        let model = &self.question.system.model;
        let dense = self.costs.dense_layer * f64::from(model.dense_layers);
        let replayed =
            self.tracks.iter().zip(balanced).enumerate().map(|(index, (track, balanced))| {
                let terms = |routed: &Routed, copying| {
                    track.terms(&self.costs, &self.stepwise, routed, copying)
                };
                let imbalance = |layer: &LayerReplay| {
                    let of = |(load, part): (usize, &f64)| layer.imbalance(load, index) * part;
                    per_step.iter().enumerate().map(of).sum()
                };
                Replayed {
                    entry: track.entry,
                    terms: terms(&track.mean_routed(&per_layer), track.mean_copying(&per_layer)),
                    balanced: Terms {
                        predictor: Seconds::ZERO,
                        ..terms(&Routed { ffn: least_ffn, ..balanced }, Seconds::ZERO)
                    },
                    steps: statistics::statistics(&track.latencies()),
                    speedup_interval: statistics::speedup_interval(
                        &none.latencies(),
                        &track.latencies(),
                        dense.get(),
                        self.question.seed,
                    ),
                    imbalance: self.layers.iter().map(imbalance).collect(),
                    moved: track.moved,
                }
            });
        Some(replayed.collect())
    }
}
