//! Every strategy priced on steps sampled from expected shares.
//!
//! The laws of a layer are applied to a few dozen sampled steps per layer, the same for every
//! strategy, so that differences are not noise. Plans are made on the forecast shares and priced
//! on steps sampled from the true ones.

pub(crate) mod plans;

use crate::evaluate::sampled_steps::{Sampled, SampledSteps};
use crate::evaluate::{LayerStep, Steps, mean};
use crate::memory::{self, MemoryBudget, MemoryPlan, SystemMemory};
use crate::pricing::candidates::{IN_USE, Placements};
use crate::pricing::entry::{Entry, PricedPredictor};
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::question::{Predictor, PredictorCost, PredictorPoint, Question};
use crate::rebalance::RebalanceCost;
use crate::strategies::token_to_expert::by_accuracy::ByAccuracy;
use crate::strategies::token_to_expert::mispredicted;
use crate::strategies::token_to_expert::predictor_curve::optimum;
use crate::strategies::token_to_expert::stepwise::{Stepwise, Told};
use crate::strategies::{self, LIST, Placing, Strategy};
use crate::terms::Terms;
use crate::units::{Bytes, Seconds};

/// The strategies of a question on sampled steps.
#[derive(Debug)]
pub(crate) struct SampledPrices<'a> {
    question: &'a Question,
    costs: &'a LayerCosts,
    placements: &'a Placements,
    drawn: &'a SampledSteps,
    memory: SystemMemory,
    stepwise: Stepwise<'a>,
}

/// The prices that no predictor's own figures change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// The strategies without predictors.
    entries: Vec<Entry>,
    /// The placement each of them takes, if it has any.
    pub(crate) taken: Vec<(Strategy, usize)>,
    /// The strategies with predictors, or why they cannot be planned.
    predicted: Vec<(Strategy, Result<Predicted, String>)>,
}

impl Standing {
    fn taken(&self, strategy: Strategy) -> Option<usize> {
        self.taken.iter().find(|(taker, _)| *taker == strategy).map(|(_, index)| *index)
    }
}

/// Token-to-expert prediction of any accuracy, before the predictor's own time.
#[derive(Debug, Clone)]
struct Predicted {
    by_accuracy: ByAccuracy,
    infeasible: Option<String>,
}

/// A number of tokens or sequences as a whole number, at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
pub(crate) fn whole_tokens(tokens: f64) -> u64 {
    tokens.round().clamp(1.0, 1e15) as u64
}

impl<'a> SampledPrices<'a> {
    /// The question with its placements and drawn steps.
    pub(crate) fn new(
        question: &'a Question,
        planner: Planner,
        costs: &'a LayerCosts,
        placements: &'a Placements,
        drawn: &'a SampledSteps,
    ) -> Self {
        let stepwise = Stepwise::new(question, planner);
        let system = &question.system;
        let memory = SystemMemory::new(system, system.cluster.device.memory);
        Self { question, costs, placements, drawn, memory, stepwise }
    }

    /// Prices what no predictor's own figures change.
    pub(crate) fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for strategy in LIST.iter().copied() {
            if let Placing::EveryStep(kept) = strategy.placing() {
                let predicted = self.predictable(kept, &standing);
                standing.predicted.push((strategy, predicted));
                continue;
            }
            standing.entries.push(match self.best(strategy) {
                Some((index, terms)) => {
                    standing.taken.push((strategy, index));
                    self.entry(index, terms)
                }
                None => impossible(strategy, None, self.placements.unplanned(strategy)),
            });
        }
        standing
    }

    /// Every strategy, with the predictors of the question.
    pub(crate) fn with_predictors(&self, standing: &Standing) -> Vec<Entry> {
        let mut entries = standing.entries.clone();
        for (strategy, predicted) in &standing.predicted {
            entries.extend(self.question.predictors.iter().map(|predictor| match predicted {
                Ok(predicted) => self.with_predictor(*strategy, predictor, predicted),
                Err(why) => {
                    let point = mispredicted::first_point(&predictor.cost);
                    let priced = PricedPredictor::at(predictor, point);
                    impossible(*strategy, Some(priced), why.clone())
                }
            }));
        }
        entries
    }

    /// The placement of a strategy with the least latency of those that fit, taken at its word
    /// (see [`slot_search`](crate::evaluate::slot_search)); the smallest of equals.
    fn best(&self, strategy: Strategy) -> Option<(usize, Terms)> {
        let mut best: Option<(usize, Terms, bool)> = None;
        for index in self.placements.of(strategy) {
            let terms = self.terms(index);
            let fits = self.memory(index).fits();
            let better = best.as_ref().is_none_or(|(_, least, least_fits)| {
                fits && (!least_fits || terms.total() < least.total())
            });
            if better {
                best = Some((index, terms, fits));
            }
        }
        best.map(|(index, terms, _)| (index, terms))
    }

    /// Prediction of every token beside the plan of `kept`, or why there is no such plan.
    fn predictable(&self, kept: Strategy, standing: &Standing) -> Result<Predicted, String> {
        let index = standing.taken(kept).ok_or_else(|| self.placements.unplanned(kept))?;
        let memory = self.memory_of(self.placements.all[index].slots_per_device, true);
        let by_accuracy = self.by_accuracy(index, self.rebalance(index));
        Ok(Predicted { by_accuracy, infeasible: lacking(&memory) })
    }

    /// Mean terms under a placement that is kept over all steps.
    fn terms(&self, index: usize) -> Terms {
        let mut terms = self.costs.terms(&self.routed(index));
        terms.rebalance = self.rebalance(index);
        terms
    }

    /// The routed part of a layer under a placement that is kept, mean over steps.
    fn routed(&self, index: usize) -> Routed {
        mean(&mut self.steps(), |step| self.costs.routed(&step.loads[index]))
    }

    fn steps(&self) -> Sampled<'_> {
        self.drawn.under(self.placements)
    }

    /// The renewals of a placement, per layer and step.
    fn rebalance(&self, index: usize) -> Seconds {
        if index == IN_USE {
            return Seconds::ZERO;
        }
        self.renewal(index).per_layer_and_step(&self.question.system).time
    }

    /// What one renewal of the placement costs.
    fn renewal(&self, index: usize) -> RebalanceCost {
        let system = &self.question.system;
        let placement = &self.placements.all[index];
        let total_slots = placement.slots_per_device * system.parallelism.expert_parallel;
        let most = placement.most_moves * f64::from(system.model.moe_layers);
        RebalanceCost::new(system, self.question.rebalance, most, total_slots)
    }

    fn memory(&self, index: usize) -> MemoryBudget {
        self.memory_of(self.placements.all[index].slots_per_device, false)
    }

    fn memory_of(&self, slots_per_device: u32, double_buffer: bool) -> MemoryBudget {
        self.memory.under(MemoryPlan { slots_per_device, double_buffer })
    }

    /// Why a placement cannot be run; without any strategy also what could.
    fn lacking(&self, index: usize) -> Option<String> {
        let why = lacking(&self.memory(index))?;
        if self.placements.all[index].strategy != strategies::NONE {
            return Some(why);
        }
        Some(format!("{why}; {}", memory::way_out(&self.question.system)))
    }

    fn entry(&self, index: usize, terms: Terms) -> Entry {
        Entry {
            strategy: self.placements.all[index].strategy,
            predictor: None,
            infeasible: self.lacking(index),
            terms: Some(terms),
            served: None,
        }
    }

    /// The entry of one predictor.
    fn with_predictor(
        &self,
        strategy: Strategy,
        predictor: &Predictor,
        predicted: &Predicted,
    ) -> Entry {
        let Predicted { by_accuracy, infeasible } = predicted;
        let point = self.best_point(predictor, by_accuracy);
        Entry {
            strategy,
            predictor: Some(PricedPredictor::at(predictor, point)),
            infeasible: infeasible.clone(),
            terms: Some(self.predicted(by_accuracy, point)),
            served: None,
        }
    }

    /// The point of a predictor that is fastest.
    fn best_point(&self, predictor: &Predictor, by_accuracy: &ByAccuracy) -> PredictorPoint {
        match &predictor.cost {
            PredictorCost::Point(point) => *point,
            PredictorCost::Curve(curve) => {
                optimum(curve, |point| self.predicted(by_accuracy, point).total())
            }
        }
    }

    /// The terms with a predictor.
    fn predicted(&self, by_accuracy: &ByAccuracy, point: PredictorPoint) -> Terms {
        self.stepwise.predicted(by_accuracy.at(point.accuracy), point)
    }

    /// Terms of token-to-expert prediction over accuracy, before the predictor's own time.
    fn by_accuracy(&self, kept: usize, rebalance: Seconds) -> ByAccuracy {
        let unchanged = self.stepwise.unpredicted(self.costs, &self.routed(kept), rebalance);
        if self.question.predictors.is_empty() {
            return ByAccuracy::unpriced(unchanged);
        }
        ByAccuracy::new(unchanged, |anchor| self.unpredicted(anchor, kept, rebalance))
    }

    /// Terms of token-to-expert prediction but for the predictor: in every step the plan
    /// made from predicted loads, or the plan of `distribution_only` where the prediction
    /// says it is better.
    fn unpredicted(&self, anchor: usize, kept: usize, rebalance: Seconds) -> Terms {
        let forecasts = self.drawn.forecasts(anchor, self.costs, (kept, self.placements));
        let mut copying = Seconds::ZERO;
        let mut sum = Routed::default();
        let price = |step: &LayerStep| {
            let forecast = &forecasts[step.at];
            let told = Told {
                counts: step.counts,
                forecast: &forecast.counts,
                true_load: step.loads[kept],
                told_load: forecast.loaded,
            };
            let replanned = || {
                let map = &step.placed(kept).map;
                let made = || self.stepwise.replanned(self.costs, map, &forecast.counts);
                forecast.replanned.get_or_init(made).as_ref()
            };
            self.stepwise.step(self.costs, &told, replanned)
        };
        self.steps().every(price, |stepped| {
            copying += stepped.moved.time;
            sum += stepped.routed;
        });
        let n = forecasts.len() as f64;
        let rebalance = rebalance + copying / n;
        self.stepwise.unpredicted(self.costs, &sum.scaled(1.0 / n), rebalance)
    }
}

/// A strategy that cannot be planned.
fn impossible(strategy: Strategy, predictor: Option<PricedPredictor>, why: String) -> Entry {
    Entry { strategy, predictor, infeasible: Some(why), terms: None, served: None }
}

/// Says what memory lacks, if it does.
fn lacking(memory: &MemoryBudget) -> Option<String> {
    (!memory.fits()).then(|| {
        let gigabytes = |bytes: Bytes| bytes.get() / 1e9;
        format!(
            "does not fit: {:.1} GB are missing on every device ({:.1} GB of weights, {:.1} GB of \
             replicas and copies, {:.1} GB of KV cache, {:.1} GB for activations, buffers and reserve, of {:.1} GB)",
            gigabytes(memory.missing),
            gigabytes(memory.weights),
            gigabytes(memory.replicas + memory.double_buffer),
            gigabytes(memory.kv_needed),
            gigabytes(memory.reserve),
            gigabytes(memory.capacity),
        )
    })
}
