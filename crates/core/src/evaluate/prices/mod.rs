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
use crate::pricing::kinds::{Kind, mean_terms};
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::question::{Predictor, PredictorCost, PredictorPoint, Question};
use crate::rebalance::RebalanceCost;
use crate::strategies::token_to_expert::by_accuracy::{ANCHORS, ByAccuracy};
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
    kinds: Vec<SampledKind<'a>>,
    placements: &'a Placements,
    stepwise: Stepwise<'a>,
}

/// One kind of step of a question.
#[derive(Debug)]
struct SampledKind<'a> {
    /// Its share of all steps.
    share: f64,
    costs: &'a LayerCosts,
    drawn: &'a SampledSteps,
    memory: SystemMemory,
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
    /// The placement that it keeps.
    kept: usize,
    /// In every kind of step.
    by_accuracy: Vec<ByAccuracy>,
    infeasible: Option<String>,
}

/// Terms of a layer in the mean over kinds of steps, and of every kind where there are several.
#[derive(Debug, Clone)]
struct Priced {
    mean: Terms,
    by_kind: Vec<Terms>,
}

/// A number of tokens or sequences as a whole number, at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
pub(crate) fn whole_tokens(tokens: f64) -> u64 {
    tokens.round().clamp(1.0, 1e15) as u64
}

impl<'a> SampledPrices<'a> {
    /// The question with its placements, and the laws and drawn steps of its kinds of steps.
    pub(crate) fn new<'k>(
        question: &'a Question,
        planner: Planner,
        placements: &'a Placements,
        kinds: impl Iterator<Item = (&'k Kind<'k>, &'a LayerCosts, &'a SampledSteps)>,
    ) -> Self {
        let stepwise = Stepwise::new(question, planner);
        let sampled = |(kind, costs, drawn): (&Kind, _, _)| {
            let system = &kind.question.system;
            let memory = SystemMemory::new(system, system.cluster.device.memory);
            SampledKind { share: kind.share, costs, drawn, memory }
        };
        Self { question, kinds: kinds.map(sampled).collect(), placements, stepwise }
    }

    /// The terms of every kind of step, and their mean.
    fn priced(&self, by_kind: impl Iterator<Item = Terms>) -> Priced {
        let by_kind: Vec<Terms> = by_kind.collect();
        let shares = self.kinds.iter().map(|kind| kind.share);
        let mean = mean_terms(shares.zip(by_kind.iter().copied()));
        Priced { mean, by_kind: if by_kind.len() > 1 { by_kind } else { Vec::new() } }
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
    fn best(&self, strategy: Strategy) -> Option<(usize, Priced)> {
        let mut best: Option<(usize, Priced, bool)> = None;
        for index in self.placements.of(strategy) {
            let priced = self.terms(index);
            let fits = self.memory(index).fits();
            let better = best.as_ref().is_none_or(|(_, least, least_fits)| {
                fits && (!least_fits || priced.mean.total() < least.mean.total())
            });
            if better {
                best = Some((index, priced, fits));
            }
        }
        best.map(|(index, priced, _)| (index, priced))
    }

    /// Prediction of every token beside the plan of `kept`, or why there is no such plan.
    fn predictable(&self, kept: Strategy, standing: &Standing) -> Result<Predicted, String> {
        let index = standing.taken(kept).ok_or_else(|| self.placements.unplanned(kept))?;
        let memory = self.memory_of(self.placements.all[index].slots_per_device, true);
        let rebalance = self.rebalance(index);
        let of = |kind: &SampledKind| self.by_accuracy(kind, index, rebalance);
        let by_accuracy = self.kinds.iter().map(of).collect();
        Ok(Predicted { kept: index, by_accuracy, infeasible: lacking(&memory) })
    }

    /// Mean terms under a placement that is kept over all steps.
    fn terms(&self, index: usize) -> Priced {
        let rebalance = self.rebalance(index);
        let of =
            |kind: &SampledKind| Terms { rebalance, ..kind.costs.terms(&self.routed(kind, index)) };
        self.priced(self.kinds.iter().map(of))
    }

    /// The routed part of a layer under a placement that is kept, mean over steps.
    fn routed(&self, kind: &SampledKind, index: usize) -> Routed {
        mean(&mut self.steps(kind), |step| kind.costs.routed(&step.loads[index]))
    }

    fn steps<'k>(&self, kind: &'k SampledKind) -> Sampled<'k>
    where
        'a: 'k,
    {
        kind.drawn.under(self.placements)
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
        let plan = MemoryPlan { slots_per_device, double_buffer };
        let budgets = self.kinds.iter().map(|kind| kind.memory.under(plan));
        let need = |budget: &MemoryBudget| (budget.missing.get(), budget.reserve.get());
        // All kinds of steps must fit.
        let neediest = budgets.reduce(|a, b| if need(&a) < need(&b) { b } else { a });
        neediest.unwrap_or_else(|| self.kinds[0].memory.under(plan))
    }

    /// Why a placement cannot be run; without any strategy also what could.
    fn lacking(&self, index: usize) -> Option<String> {
        let why = lacking(&self.memory(index))?;
        if self.placements.all[index].strategy != strategies::NONE {
            return Some(why);
        }
        Some(format!("{why}; {}", memory::way_out(&self.question.system)))
    }

    fn entry(&self, index: usize, priced: Priced) -> Entry {
        Entry {
            strategy: self.placements.all[index].strategy,
            predictor: None,
            placement: Some(index),
            infeasible: self.lacking(index),
            terms: Some(priced.mean),
            by_kind: priced.by_kind,
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
        let Predicted { kept, by_accuracy, infeasible } = predicted;
        let point = self.best_point(predictor, by_accuracy);
        let priced = self.predicted(by_accuracy, point);
        Entry {
            strategy,
            predictor: Some(PricedPredictor::at(predictor, point)),
            placement: Some(*kept),
            infeasible: infeasible.clone(),
            terms: Some(priced.mean),
            by_kind: priced.by_kind,
            served: None,
        }
    }

    /// The point of a predictor that is fastest.
    fn best_point(&self, predictor: &Predictor, by_accuracy: &[ByAccuracy]) -> PredictorPoint {
        match &predictor.cost {
            PredictorCost::Point(point) => *point,
            PredictorCost::Curve(curve) => {
                optimum(curve, |point| self.predicted(by_accuracy, point).mean.total())
            }
        }
    }

    /// The terms with a predictor, which takes as long in every kind of step.
    fn predicted(&self, by_accuracy: &[ByAccuracy], point: PredictorPoint) -> Priced {
        let with = |of: &ByAccuracy| self.stepwise.predicted(of.at(point.accuracy), point);
        self.priced(by_accuracy.iter().map(with))
    }

    /// Terms of token-to-expert prediction over accuracy, before the predictor's own time.
    fn by_accuracy(&self, kind: &SampledKind, kept: usize, rebalance: Seconds) -> ByAccuracy {
        let routed = self.routed(kind, kept);
        let unchanged = self.stepwise.unpredicted(kind.costs, &routed, rebalance, 0.0);
        if self.question.predictors.is_empty() {
            return ByAccuracy::unpriced(unchanged);
        }
        ByAccuracy::new(unchanged, |anchor| self.unpredicted(kind, anchor, kept, rebalance))
    }

    /// Terms of token-to-expert prediction but for the predictor: in every step the plan
    /// made from predicted loads, or the plan of `distribution_only` where the prediction
    /// says it is better.
    fn unpredicted(
        &self,
        kind: &SampledKind,
        anchor: usize,
        kept: usize,
        rebalance: Seconds,
    ) -> Terms {
        let SampledKind { costs, drawn, .. } = *kind;
        let forecasts = drawn.forecasts(anchor, costs, (kept, self.placements));
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
                let made = || self.stepwise.replanned(costs, map, &forecast.counts);
                forecast.replanned.get_or_init(made).as_ref()
            };
            self.stepwise.step(costs, &told, replanned)
        };
        self.steps(kind).every(price, |stepped| {
            copying += stepped.moved.time;
            sum += stepped.routed;
        });
        let n = forecasts.len() as f64;
        let rebalance = rebalance + copying / n;
        self.stepwise.unpredicted(costs, &sum.scaled(1.0 / n), rebalance, ANCHORS[anchor])
    }
}

/// A strategy that cannot be planned.
fn impossible(strategy: Strategy, predictor: Option<PricedPredictor>, why: String) -> Entry {
    Entry {
        strategy,
        predictor,
        placement: None,
        infeasible: Some(why),
        terms: None,
        by_kind: Vec::new(),
        served: None,
    }
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
