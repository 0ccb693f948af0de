//! Recorded steps replayed under every strategy.
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

use crate::evaluate::accumulator::Accumulator;
use crate::evaluate::load_window::LoadWindow;
use crate::evaluate::prices::plans::plan_of;
use crate::evaluate::recorded_steps::{Batch, RecordedLayer, followed};
use crate::evaluate::{LayerStep, Outcome, PlanSummary, Step, StepStatistics, Steps, statistics};
use crate::placement::PlacementError;
use crate::pricing::entry::Entry;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::question::{PredictorKind, PredictorPoint, Question};
use crate::seed::{Purpose, stream};
use crate::strategies::token_to_expert::mispredicted::mispredicted;
use crate::strategies::token_to_expert::stepwise::Stepwise;
use crate::strategies::{NONE, Strategy};
use crate::system::Communication;
use crate::terms::Terms;
use crate::trace::counts::ExpertCounts;
use crate::units::{Bytes, Seconds};

/// A replay under way.
#[derive(Debug)]
pub struct Simulator<'a> {
    question: &'a Question,
    costs: LayerCosts,
    stepwise: Stepwise<'a>,
    /// The strategies whose plans are followed.
    followed: Vec<Strategy>,
    layers: Vec<RecordedLayer>,
    tracks: Vec<Accumulator>,
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

/// An entry to follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The plan it keeps, by its place among those followed.
    pub(super) plan: Option<usize>,
    /// The predictor, where every step's tokens are forecast.
    pub(super) point: Option<PredictorPoint>,
    /// What it foresees, where it was fitted.
    pub(super) foreseen: Option<&'a Foreseen>,
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
        let maps = |strategy| plan_of(plans, strategy).map(|plan| plan.layers.as_slice());
        let followed = followed(|strategy| maps(strategy).is_some());
        let n_layers = planned.iter().map(Vec::len).min().unwrap_or(0);
        let assignments = tokens * f64::from(question.system.model.experts.top_k);
        let layer = |index: usize| {
            let planned = planned.iter().map(|load| load[index].clone()).collect();
            let past = LoadWindow::new(planned, assignments);
            let map = |strategy| maps(strategy).and_then(|maps| maps.get(index)).cloned();
            RecordedLayer::new(&planner, past, &followed, map)
        };
        let layers = (0..n_layers).map(layer).collect::<Result<Vec<_>, _>>()?;
        let loads = planned.len();
        let priced = entries.iter().enumerate().filter(|(_, entry)| entry.terms.is_some());
        let tracks =
            priced.map(|(index, entry)| Accumulator::new(index, entry, loads, n_layers)).collect();
        let stepwise = Stepwise::new(question, planner);
        Ok(Some(Self {
            question,
            costs,
            stepwise,
            followed,
            layers,
            tracks,
            steps: vec![0; loads],
        }))
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
        let served = self.steps();
        let Self { question, costs, stepwise, followed, layers, tracks, steps } = self;
        let wanted: Vec<Wanted> =
            tracks.iter().map(|track| track.wanted(followed, foreseen)).collect();
        let seed = question.seed;
        let price = |step: &LayerStep| -> Vec<Outcome> {
            let kept: Vec<Outcome> =
                (0..step.loads.len()).map(|plan| step.kept(plan, costs)).collect();
            let of = |(entry, wanted): (usize, &Wanted)| {
                let Some(plan) = wanted.plan else {
                    return Outcome { imbalance: 1.0, ..Outcome::default() };
                };
                let Some(point) = wanted.point else { return kept[plan] };
                let forecast = wanted.foreseen.and_then(|seen| seen.of(step.at, step.layer));
                let forecast = forecast.map_or_else(
                    || {
                        let at = served + step.at as u64;
                        let lane = (step.layer as u64) << 40 | at << 8 | entry as u64;
                        let mut rng = stream(seed, Purpose::Misprediction, lane);
                        mispredicted(step.counts, point.accuracy, &mut rng)
                    },
                    <[f64]>::to_vec,
                );
                step.replanned(plan, &kept[plan], &forecast, costs, stepwise)
            };
            wanted.iter().enumerate().map(of).collect()
        };
        let planner = &stepwise.planner;
        let mut served = Batch { question, planner, costs, layers, steps: batch, served };
        served.each(price, |loads, outcomes| {
            for (step, load) in loads.iter().enumerate() {
                for (index, track) in tracks.iter_mut().enumerate() {
                    let layers = outcomes.iter().map(|layer| &layer[step][index]);
                    track.add(*load, layers, costs, stepwise, &question.system);
                }
                steps[*load] += 1;
            }
        });
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
        let none = self.tracks.iter().find(|track| track.strategy == NONE)?;
        let balanced: Vec<Routed> =
            self.tracks.iter().map(|track| track.mean_balanced(&per_layer)).collect();
        // The mean device is no faster for copies: the least of all plans is the bound.
        let least_ffn = balanced
            .iter()
            .map(|balanced| balanced.ffn)
            .fold(none.mean_balanced(&per_layer).ffn, Seconds::min);
        let model = &self.question.system.model;
        let dense = self.costs.dense_layer * f64::from(model.dense_layers);
        let replayed = self.tracks.iter().zip(balanced).map(|(track, balanced)| {
            let terms = |routed: &Routed, copying| {
                track.terms(&self.costs, &self.stepwise, routed, copying)
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
                imbalance: track.mean_imbalance(&per_step),
                moved: track.moved,
            }
        });
        Some(replayed.collect())
    }
}
