//! The analytic method: every strategy priced on loads drawn from expected shares.
//!
//! The laws of a layer are applied to a few dozen drawn steps per layer, the same draws
//! for every strategy, so that differences are not noise. Plans are made on the forecast
//! shares and priced on draws from the true ones.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::by_accuracy::ByAccuracy;
use super::entry::{Bands, Entry, PricedPredictor};
use super::layer::{LayerCosts, Routed};
use super::loads::Placed;
use super::plan::Planner;
use super::predictors;
use super::stepwise::Stepwise;
use crate::domain::memory::{MemoryBudget, MemoryPlan};
use crate::domain::placement::moves::Moves;
use crate::domain::placement::{PlacementError, SlotMap};
use crate::domain::question::{Predictor, PredictorCost, PredictorPoint, Question};
use crate::domain::rebalance::RebalanceCost;
use crate::domain::routing::sample::Draws;
use crate::domain::routing::{self, LayerRouting};
use crate::domain::seed::{Purpose, stream};
use crate::domain::strategy::Strategy;
use crate::domain::system::Communication;
use crate::domain::terms::Terms;
use crate::domain::units::{Bytes, Seconds};

/// Plans already made, by slots per device: they depend on the forecast alone.
pub type Plans = RefCell<BTreeMap<u32, Vec<SlotMap>>>;

/// Draws over all layers that an answer is priced on.
pub const DRAWS: usize = 128;

/// The question under the analytic method.
#[derive(Debug)]
pub struct Analytic<'a> {
    question: &'a Question,
    costs: LayerCosts,
    stepwise: Stepwise,
    layers: Vec<Layer<'a>>,
    plans: &'a Plans,
}

/// One layer's routing with its drawn steps.
#[derive(Debug)]
struct Layer<'a> {
    routing: &'a LayerRouting,
    /// Experts by their true share.
    order: Vec<usize>,
    current: Option<SlotMap>,
    counts: Vec<Vec<f64>>,
}

/// A strategy's plan over all layers, and what it takes.
#[derive(Debug, Clone)]
pub struct PlanSummary {
    /// The strategy.
    pub strategy: Strategy,
    /// Slots of every device and layer.
    pub slots_per_device: u32,
    /// The map of every priced layer.
    pub layers: Vec<SlotMap>,
    /// Memory of a device under the plan.
    pub memory: MemoryBudget,
    /// Experts that leave or enter devices when the plan first takes effect.
    pub first_moves: u64,
    /// What one renewal costs.
    pub renewal: RebalanceCost,
    /// Device imbalance (max/mean) of every layer: drawn, expected under the true
    /// shares, and as planned.
    pub imbalance: Vec<LayerImbalance>,
}

/// Device imbalance of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerImbalance {
    /// Mean over drawn steps of max/mean.
    pub drawn: f64,
    /// max/mean of expected loads under the true shares.
    pub expected: f64,
    /// max/mean of expected loads under the forecast shares.
    pub planned: f64,
}

/// What the analytic method found.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// Every strategy with its price.
    pub entries: Vec<Entry>,
    /// The plans behind the entries; token-to-expert prediction shares the plan of
    /// `distribution_only` between its own.
    pub plans: Vec<PlanSummary>,
    /// Layer latency no balancing can beat.
    pub ceiling: Seconds,
    /// Latency of a dense layer.
    pub dense_layer: Seconds,
}

/// The plan of a strategy; token-to-expert prediction falls back on the plan of
/// `distribution_only`.
#[must_use]
pub fn plan_of(plans: &[PlanSummary], strategy: Strategy) -> Option<&PlanSummary> {
    let of =
        if strategy == Strategy::TokenToExpert { Strategy::DistributionOnly } else { strategy };
    plans.iter().find(|plan| plan.strategy == of)
}

/// A number of tokens or sequences as a whole number, at least one.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
pub fn whole_tokens(tokens: f64) -> u64 {
    tokens.round().clamp(1.0, 1e15) as u64
}

/// Why a question cannot be analysed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AnalyticError {
    /// The device has no laws.
    #[error("the device has no profile to price operators with")]
    NoProfile,
    /// The shape of the placement is impossible.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

/// What one candidate plan costs.
struct Candidate {
    plan: PlanSummary,
    placed: Vec<Placed>,
    terms: Terms,
    balanced: Routed,
}

impl<'a> Analytic<'a> {
    /// Binds the laws and draws the steps.
    pub fn new(
        question: &'a Question,
        pattern: Communication,
        layers: &'a [LayerRouting],
        plans: &'a Plans,
        n_draws: usize,
    ) -> Result<Self, AnalyticError> {
        let system = &question.system;
        let tokens = system.workload.tokens_per_step as f64;
        let costs = LayerCosts::new(system, pattern, question.measured_layer.as_ref(), tokens)
            .ok_or(AnalyticError::NoProfile)?;
        let planner = if n_draws < DRAWS {
            Planner::new(question).without_search()
        } else {
            Planner::new(question)
        };
        let top_k = system.model.experts.top_k;
        let per_layer = (n_draws / layers.len()).clamp(4, n_draws.max(4));
        let current =
            question.current.as_ref().and_then(|current| current.physical_to_logical.as_ref());
        let layers = layers
            .iter()
            .enumerate()
            .map(|(index, routing)| {
                let n_experts = routing.truth.len();
                let draws = Draws::new(question.seed, index as u64, per_layer, n_experts);
                // Random numbers belong to ranks of popularity, not to ids: renamed experts
                // draw the same loads.
                let order = routing::by_share(&routing.truth);
                let ranked = routing::in_order(&routing.truth, &order);
                let mut drawn = vec![0.0; n_experts];
                let counts = (0..draws.len())
                    .map(|draw| {
                        draws.counts(draw, &ranked, tokens, top_k, &mut drawn);
                        routing::by_expert(&drawn, &order)
                    })
                    .collect();
                let current = current
                    .and_then(|maps| maps.get(index).or_else(|| maps.first()))
                    .and_then(|map| planner.current(map));
                Layer { routing, order, current, counts }
            })
            .collect();
        Ok(Self { question, costs, stepwise: Stepwise::new(question, planner), layers, plans })
    }

    /// Prices every strategy.
    pub fn analyse(&self) -> Result<Analysis, AnalyticError> {
        let none = self.static_placement()?;
        let base_slots = self.stepwise.planner.base_slots;
        let replace_only = self.candidate(Strategy::ReplaceOnly, base_slots, &none.placed);
        let duplicated = self.best_duplication(&none.placed);
        let mut entries = vec![self.entry(&none)];
        let mut balanced = vec![none.balanced.ffn];
        let mut plans = vec![none.plan];
        match replace_only {
            Ok(replace_only) => {
                entries.push(self.entry(&replace_only));
                balanced.push(replace_only.balanced.ffn);
                plans.push(replace_only.plan);
            }
            Err(obstacle) => {
                entries.push(impossible(Strategy::ReplaceOnly, None, obstacle.to_string()));
            }
        }
        if let Some(duplicated) = duplicated {
            balanced.push(duplicated.balanced.ffn);
            entries.push(self.entry(&duplicated));
            entries.extend(self.token_to_expert(&duplicated));
            plans.push(duplicated.plan);
        } else {
            entries.extend(self.nothing_to_duplicate());
        }
        let ceiling = self.ceiling(&entries, none.balanced, &balanced);
        Ok(Analysis { entries, plans, ceiling, dense_layer: self.costs.dense_layer })
    }

    /// The placement in use, or expert after expert.
    fn static_placement(&self) -> Result<Candidate, AnalyticError> {
        let trivial = self.stepwise.planner.trivial()?;
        let maps = self
            .layers
            .iter()
            .map(|layer| layer.current.clone().unwrap_or_else(|| trivial.clone()))
            .collect();
        Ok(self.priced(Strategy::None, maps, None))
    }

    /// A plan with that many slots, priced; it replaces `before`.
    fn candidate(
        &self,
        strategy: Strategy,
        slots: u32,
        before: &[Placed],
    ) -> Result<Candidate, AnalyticError> {
        let made = self.plans.borrow().get(&slots).cloned();
        let maps = if let Some(maps) = made {
            maps
        } else {
            let plan = |layer: &Layer| self.stepwise.planner.plan(&layer.routing.forecast, slots);
            let maps: Vec<SlotMap> =
                self.layers.iter().map(plan).collect::<Result<_, PlacementError>>()?;
            self.plans.borrow_mut().insert(slots, maps.clone());
            maps
        };
        Ok(self.priced(strategy, maps, Some(before)))
    }

    /// The duplication with the least latency of those that fit; the smallest of equals.
    ///
    /// Taken at its word, without an error band: the least of latencies that fall with the
    /// link's and the device's rates falls with them, a choice by a band would jump.
    fn best_duplication(&self, before: &[Placed]) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for slots in self.stepwise.planner.slot_choices(self.question) {
            // A number of slots no planner can fill is no choice.
            let Ok(candidate) = self.candidate(Strategy::DistributionOnly, slots, before) else {
                continue;
            };
            let better = best.as_ref().is_none_or(|best| {
                candidate.plan.memory.fits()
                    && (!best.plan.memory.fits() || candidate.terms.total() < best.terms.total())
            });
            if better {
                best = Some(candidate);
            }
        }
        best
    }

    fn priced(
        &self,
        strategy: Strategy,
        maps: Vec<SlotMap>,
        before: Option<&[Placed]>,
    ) -> Candidate {
        let system = &self.question.system;
        let placed: Vec<Placed> = maps
            .iter()
            .zip(&self.layers)
            .map(|(map, layer)| self.stepwise.planner.placed(map.clone(), &layer.routing.forecast))
            .collect();
        let slots_per_device = maps.first().map_or(0, |map| map.shape().slots_per_device());
        let memory = MemoryBudget::new(
            system,
            system.cluster.device.memory,
            MemoryPlan { slots_per_device, double_buffer: false },
        );
        let (mut first_moves, mut most_moves) = (0, 0.0);
        for (old, new) in before.unwrap_or_default().iter().zip(&placed) {
            let moves = Moves::between(&old.map, &new.map);
            first_moves += moves.total();
            most_moves += f64::from(moves.most());
        }
        let total_slots = slots_per_device * system.parallelism.expert_parallel;
        let scale = f64::from(system.model.moe_layers) / self.layers.len() as f64;
        let renewal =
            RebalanceCost::new(system, self.question.rebalance, most_moves * scale, total_slots);
        let mut terms = self
            .costs
            .terms(&self.mean_step(|layer, counts| self.costs.step(&placed[layer], counts)));
        if before.is_some() {
            terms.rebalance = renewal.per_layer_and_step(system).time;
        }
        let balanced =
            self.mean_step(|layer, counts| self.costs.balanced_step(&placed[layer], counts));
        let imbalance = self
            .layers
            .iter()
            .zip(&placed)
            .map(|(layer, placed)| {
                let drawn: f64 = layer.counts.iter().map(|counts| placed.imbalance(counts)).sum();
                LayerImbalance {
                    drawn: drawn / layer.counts.len() as f64,
                    expected: placed.imbalance(&layer.routing.truth),
                    planned: placed.imbalance(&layer.routing.forecast),
                }
            })
            .collect();
        let plan = PlanSummary {
            strategy,
            slots_per_device,
            layers: maps,
            memory,
            first_moves,
            renewal,
            imbalance,
        };
        Candidate { plan, placed, terms, balanced }
    }

    /// The mean over layers and drawn steps.
    fn mean_step(&self, step: impl Fn(usize, &[f64]) -> Routed) -> Routed {
        let mut sum = Routed::default();
        let mut n = 0.0;
        for (index, layer) in self.layers.iter().enumerate() {
            for counts in &layer.counts {
                sum += step(index, counts);
                n += 1.0;
            }
        }
        sum.scaled(1.0 / n)
    }

    fn entry(&self, candidate: &Candidate) -> Entry {
        Entry {
            strategy: candidate.plan.strategy,
            predictor: None,
            infeasible: self.lacking(&candidate.plan.memory),
            terms: Some(candidate.terms),
            bands: self.costs.bands,
        }
    }

    /// Says what memory lacks, if it does.
    fn lacking(&self, memory: &MemoryBudget) -> Option<String> {
        // Under this objective fewer sequences are served instead.
        let shrinks = self.question.throughput_at_tpot && memory.max_concurrent_sequences_after > 0;
        (!memory.fits() && !shrinks).then(|| {
            let gigabytes = |bytes: Bytes| bytes.get() / 1e9;
            format!(
                "does not fit: {:.0} missing bytes on every device ({:.1} GB of weights, {:.1} GB \
                 of replicas and copies, {:.1} GB of KV cache, {:.1} GB reserve, of {:.1} GB)",
                memory.missing.get(),
                gigabytes(memory.weights),
                gigabytes(memory.replicas + memory.double_buffer),
                gigabytes(memory.kv_needed),
                gigabytes(memory.reserve),
                gigabytes(memory.capacity),
            )
        })
    }

    /// Entries for the strategies that copy, where there is no slot to copy into.
    fn nothing_to_duplicate(&self) -> Vec<Entry> {
        let entry = |strategy, predictor| {
            let why = "no number of expert slots suits the experts, the devices, the engine and \
                       the copies allowed";
            impossible(strategy, predictor, why.to_owned())
        };
        let mut entries = vec![entry(Strategy::DistributionOnly, None)];
        for predictor in &self.question.predictors {
            let point = predictors::first_point(&predictor.cost);
            entries
                .push(entry(Strategy::TokenToExpert, Some(PricedPredictor::at(predictor, point))));
        }
        entries
    }

    /// One entry per predictor.
    fn token_to_expert(&self, duplicated: &Candidate) -> Vec<Entry> {
        if self.question.predictors.is_empty() {
            return Vec::new();
        }
        let kept = self.kept_terms(duplicated);
        let by_accuracy =
            ByAccuracy::new(kept, |accuracy| self.unpredicted_terms(accuracy, duplicated));
        self.question
            .predictors
            .iter()
            .map(|predictor| self.predicted(predictor, duplicated, &by_accuracy))
            .collect()
    }

    fn predicted(
        &self,
        predictor: &Predictor,
        duplicated: &Candidate,
        by_accuracy: &ByAccuracy,
    ) -> Entry {
        let system = &self.question.system;
        let terms =
            |point: PredictorPoint| self.stepwise.predicted(by_accuracy.at(point.accuracy), point);
        let point = match &predictor.cost {
            PredictorCost::Point(point) => *point,
            PredictorCost::Curve(curve) => {
                super::curve::optimum(curve, |point| terms(point).total())
            }
        };
        let memory = MemoryBudget::new(
            system,
            system.cluster.device.memory,
            MemoryPlan { slots_per_device: duplicated.plan.slots_per_device, double_buffer: true },
        );
        Entry {
            strategy: Strategy::TokenToExpert,
            predictor: Some(PricedPredictor::at(predictor, point)),
            infeasible: self.lacking(&memory),
            terms: Some(terms(point)),
            bands: self.costs.bands,
        }
    }

    /// Terms where the plan of `distribution_only` is kept in every step.
    fn kept_terms(&self, duplicated: &Candidate) -> Terms {
        let kept =
            self.mean_step(|layer, counts| self.costs.step(&duplicated.placed[layer], counts));
        self.stepwise.unpredicted(&self.costs, &kept, duplicated.terms.rebalance)
    }

    /// Terms of token-to-expert prediction but for the predictor: in every step the plan
    /// made from predicted loads, or the plan of `distribution_only` where the prediction
    /// says it is better.
    fn unpredicted_terms(&self, accuracy: f64, duplicated: &Candidate) -> Terms {
        let slots = duplicated.plan.slots_per_device;
        let mut copying = Seconds::ZERO;
        let mut sum = Routed::default();
        let mut n = 0.0;
        for (index, layer) in self.layers.iter().enumerate() {
            let mut rng = stream(self.question.seed, Purpose::Misprediction, index as u64);
            let kept = &duplicated.placed[index];
            for counts in &layer.counts {
                let ranked = routing::in_order(counts, &layer.order);
                let told = predictors::mispredicted(&ranked, accuracy, &mut rng);
                let forecast = routing::by_expert(&told, &layer.order);
                let (routed, moved) =
                    self.stepwise.step(&self.costs, kept, counts, &forecast, slots);
                copying += moved.time;
                sum += routed;
                n += 1.0;
            }
        }
        let rebalance = duplicated.terms.rebalance + copying / n;
        self.stepwise.unpredicted(&self.costs, &sum.scaled(1.0 / n), rebalance)
    }

    /// The fastest strategy's own formula with mean device time, balanced exchange, and
    /// predictor and moves at zero cost; never above any entry.
    fn ceiling(&self, entries: &[Entry], balanced: Routed, ffns: &[Seconds]) -> Seconds {
        let feasible = || entries.iter().filter_map(|e| Some((e.feasible_latency()?, e)));
        let fastest = feasible().min_by(|a, b| a.0.get().total_cmp(&b.0.get()));
        let ffn = ffns.iter().copied().fold(balanced.ffn, Seconds::min);
        let mut routed = Routed { ffn, ..balanced };
        if fastest.is_some_and(|(_, entry)| entry.strategy == Strategy::TokenToExpert)
            && self.question.system.assumptions.t2e_skips_scatter
        {
            routed.dispatch = Seconds::ZERO;
        }
        feasible().map(|(latency, _)| latency).fold(self.costs.terms(&routed).total(), Seconds::min)
    }
}

/// A strategy that cannot be planned.
fn impossible(strategy: Strategy, predictor: Option<PricedPredictor>, why: String) -> Entry {
    Entry { strategy, predictor, infeasible: Some(why), terms: None, bands: Bands::EXACT }
}
