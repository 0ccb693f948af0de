//! The analytic method: every strategy priced on loads drawn from expected shares.
//!
//! The laws of a layer are applied to a few dozen drawn steps per layer, the same draws
//! for every strategy, so that differences are not noise. Plans are made on the forecast
//! shares and priced on draws from the true ones.

mod analysis;

use crate::cancel::Canceled;
use crate::evaluate::sampled_steps::Drawn;
use crate::memory::{MemoryBudget, MemoryPlan};
use crate::placement::PlacementError;
use crate::pricing::candidates::{IN_USE, Placements};
use crate::pricing::entry::{Bands, Entry, PricedPredictor};
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::question::{Predictor, PredictorCost, PredictorPoint, Question};
use crate::rebalance::RebalanceCost;
use crate::strategies::Strategy;
use crate::strategies::by_accuracy::ByAccuracy;
use crate::strategies::mispredicted;
use crate::strategies::token_to_expert::{Stepwise, Told};
use crate::terms::Terms;
use crate::units::{Bytes, Seconds};

pub use analysis::{LayerImbalance, PlanSummary, plan_of};

/// The question under the analytic method.
#[derive(Debug)]
pub(crate) struct Analytic<'a> {
    question: &'a Question,
    costs: &'a LayerCosts,
    placements: &'a Placements,
    drawn: &'a Drawn,
    stepwise: Stepwise<'a>,
}

/// The prices that no predictor's own figures change.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// `none`, `replace_only` and `distribution_only`.
    entries: Vec<Entry>,
    /// The duplication that was taken, and token-to-expert prediction beside it.
    duplicated: Option<(usize, Predicted)>,
}

/// Token-to-expert prediction of any accuracy, before the predictor's own time.
#[derive(Debug, Clone)]
struct Predicted {
    by_accuracy: ByAccuracy,
    infeasible: Option<String>,
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
    /// It was told to end.
    #[error(transparent)]
    Canceled(#[from] Canceled),
    /// The shape of the placement is impossible.
    #[error(transparent)]
    Placement(#[from] PlacementError),
}

impl<'a> Analytic<'a> {
    /// The question with its placements and drawn steps.
    pub(crate) fn new(
        question: &'a Question,
        planner: Planner,
        costs: &'a LayerCosts,
        placements: &'a Placements,
        drawn: &'a Drawn,
    ) -> Self {
        let stepwise = Stepwise::new(question, planner);
        Self { question, costs, placements, drawn, stepwise }
    }

    /// Prices every strategy.
    pub(crate) fn price(&self) -> Vec<Entry> {
        self.with_predictors(&self.standing())
    }

    /// Prices what no predictor's own figures change.
    pub(crate) fn standing(&self) -> Standing {
        let mut entries = vec![self.entry(IN_USE, self.terms(IN_USE))];
        entries.push(match &self.placements.replaced {
            Ok(index) => self.entry(*index, self.terms(*index)),
            Err(obstacle) => impossible(Strategy::ReplaceOnly, None, obstacle.to_string()),
        });
        let duplicated = self.best_duplication().map(|(index, terms)| {
            entries.push(self.entry(index, terms));
            let memory = self.memory_of(self.placements.all[index].slots_per_device, true);
            let by_accuracy = self.by_accuracy(index, terms.rebalance);
            (index, Predicted { by_accuracy, infeasible: lacking(&memory) })
        });
        if duplicated.is_none() {
            let why = NOTHING_TO_COPY_INTO.to_owned();
            entries.push(impossible(Strategy::DistributionOnly, None, why));
        }
        Standing { entries, duplicated }
    }

    /// Every strategy, with the predictors of the question.
    pub(crate) fn with_predictors(&self, standing: &Standing) -> Vec<Entry> {
        let predicted = standing.duplicated.as_ref().map(|(_, predicted)| predicted);
        let of = |predictor| {
            if let Some(predicted) = predicted {
                self.token_to_expert(predictor, predicted)
            } else {
                let point = mispredicted::first_point(&predictor.cost);
                let priced = Some(PricedPredictor::at(predictor, point));
                impossible(Strategy::TokenToExpert, priced, NOTHING_TO_COPY_INTO.to_owned())
            }
        };
        standing.entries.iter().cloned().chain(self.question.predictors.iter().map(of)).collect()
    }

    /// The duplication with the least latency of those that fit, taken at its word (see
    /// [`search`](crate::advice::slot_search)); the smallest of equals.
    fn best_duplication(&self) -> Option<(usize, Terms)> {
        let mut best: Option<(usize, Terms, bool)> = None;
        for index in self.placements.duplications() {
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

    /// Mean terms under a placement that is kept over all steps.
    fn terms(&self, index: usize) -> Terms {
        let routed = self.drawn.mean(index, |loaded| self.costs.routed(loaded));
        let mut terms = self.costs.terms(&routed);
        if index != IN_USE {
            terms.rebalance = self.renewal(index).per_layer_and_step(&self.question.system).time;
        }
        terms
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
        let system = &self.question.system;
        let plan = MemoryPlan { slots_per_device, double_buffer };
        MemoryBudget::new(system, system.cluster.device.memory, plan)
    }

    fn entry(&self, index: usize, terms: Terms) -> Entry {
        Entry {
            strategy: self.placements.all[index].strategy,
            predictor: None,
            infeasible: lacking(&self.memory(index)),
            terms: Some(terms),
            bands: self.costs.bands,
            served: None,
        }
    }

    /// The entry of one predictor.
    fn token_to_expert(&self, predictor: &Predictor, predicted: &Predicted) -> Entry {
        let Predicted { by_accuracy, infeasible } = predicted;
        let point = self.best_point(predictor, by_accuracy);
        Entry {
            strategy: Strategy::TokenToExpert,
            predictor: Some(PricedPredictor::at(predictor, point)),
            infeasible: infeasible.clone(),
            terms: Some(self.predicted(by_accuracy, point)),
            bands: self.costs.bands,
            served: None,
        }
    }

    /// The point of a predictor that is fastest.
    fn best_point(&self, predictor: &Predictor, by_accuracy: &ByAccuracy) -> PredictorPoint {
        match &predictor.cost {
            PredictorCost::Point(point) => *point,
            PredictorCost::Curve(curve) => {
                crate::strategies::predictor_curve::optimum(curve, |point| {
                    self.predicted(by_accuracy, point).total()
                })
            }
        }
    }

    /// The terms with a predictor.
    fn predicted(&self, by_accuracy: &ByAccuracy, point: PredictorPoint) -> Terms {
        self.stepwise.predicted(by_accuracy.at(point.accuracy), point)
    }

    /// Terms of token-to-expert prediction over accuracy, before the predictor's own time.
    fn by_accuracy(&self, kept: usize, rebalance: Seconds) -> ByAccuracy {
        let routed = self.drawn.mean(kept, |loaded| self.costs.routed(loaded));
        let unchanged = self.stepwise.unpredicted(self.costs, &routed, rebalance);
        if self.question.predictors.is_empty() {
            return ByAccuracy::unpriced(unchanged);
        }
        ByAccuracy::new(unchanged, |anchor| self.unpredicted(anchor, kept, rebalance))
    }

    /// Terms of token-to-expert prediction but for the predictor: in every step the plan
    /// made from predicted loads, or the plan of `distribution_only` where the prediction
    /// says it is better.
    fn unpredicted(&self, anchor: usize, kept: usize, rebalance: Seconds) -> Terms {
        let placement = &self.placements.all[kept];
        let forecasts = self.drawn.forecasts(anchor, self.costs, (kept, placement));
        let mut copying = Seconds::ZERO;
        let mut sum = Routed::default();
        for ((step, true_load), forecast) in self.drawn.under(kept).zip(forecasts) {
            let told = Told {
                counts: step.counts,
                forecast: &forecast.counts,
                true_load: *true_load,
                told_load: forecast.loaded,
            };
            let replanned = || {
                let map = &placement.layers[step.layer].map;
                let made = || self.stepwise.replanned(self.costs, map, &forecast.counts);
                forecast.replanned.get_or_init(made).as_ref()
            };
            let stepped = self.stepwise.step(self.costs, &told, replanned);
            copying += stepped.moved.time;
            sum += stepped.routed;
        }
        let n = forecasts.len() as f64;
        let rebalance = rebalance + copying / n;
        self.stepwise.unpredicted(self.costs, &sum.scaled(1.0 / n), rebalance)
    }
}

/// Why nothing is copied.
const NOTHING_TO_COPY_INTO: &str = "no number of expert slots suits the experts, the devices, \
                                    the engine and the copies allowed";

/// A strategy that cannot be planned.
fn impossible(strategy: Strategy, predictor: Option<PricedPredictor>, why: String) -> Entry {
    Entry {
        strategy,
        predictor,
        infeasible: Some(why),
        terms: None,
        bands: Bands::EXACT,
        served: None,
    }
}

/// Says what memory lacks, if it does.
fn lacking(memory: &MemoryBudget) -> Option<String> {
    (!memory.fits()).then(|| {
        let gigabytes = |bytes: Bytes| bytes.get() / 1e9;
        format!(
            "does not fit: {:.0} missing bytes on every device ({:.1} GB of weights, {:.1} GB of \
             replicas and copies, {:.1} GB of KV cache, {:.1} GB reserve, of {:.1} GB)",
            memory.missing.get(),
            gigabytes(memory.weights),
            gigabytes(memory.replicas + memory.double_buffer),
            gigabytes(memory.kv_needed),
            gigabytes(memory.reserve),
            gigabytes(memory.capacity),
        )
    })
}
