//! A question priced again and again with one quantity changed.
//!
//! Only what the quantity touches is made anew: the link changes laws but neither plans
//! nor drawn loads, tokens change laws and loads (and plans that count them), skewness all
//! but the laws, a predictor only its own forecasts.

use super::analytic::{Analytic, AnalyticError, whole_tokens};
use super::choose::winner;
use super::drawn::{Drawn, draws};
use super::entry::{Entry, PricedPredictor};
use super::flip::{Effort, Flip, Parameter, flips};
use super::layer::LayerCosts;
use super::placements::{Care, Placements, placements};
use super::plan::Planner;
use super::pricing::{Pricing, costs, paper, paper_entries};
use super::serving::{Batch, served};
use crate::domain::question::{PredictorCost, PredictorPoint, Question};
use crate::domain::routing::LayerRouting;
use crate::domain::routing::sample::Draws;
use crate::domain::strategy::Strategy;
use crate::domain::system::Workload;
use crate::domain::units::{BytesPerSecond, Seconds};

/// Draws over all layers that a flip point is searched with.
const FLIP_DRAWS: usize = 16;

/// The most tokens of a step that a batch is solved for: 2^24, the most a question may state.
const MOST_TOKENS: f64 = 16_777_216.0;

/// Searches flip points.
#[derive(Debug)]
pub(super) struct Variation<'a> {
    pricing: &'a Pricing<'a>,
    /// The predictor that is varied: its index and the point it was priced at.
    predictor: Option<(usize, PredictorPoint)>,
    /// What stays while the link or a predictor changes; nothing in paper mode.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    costs: LayerCosts,
    placements: Placements,
    draws: Vec<Draws>,
    drawn: Drawn,
}

impl<'a> Variation<'a> {
    /// Around a priced question. The predictor that is varied is that of the fastest
    /// token-to-expert entry; entries of that strategy stand in the predictors' order.
    pub(super) fn new(pricing: &'a Pricing<'a>, entries: &[Entry]) -> Result<Self, AnalyticError> {
        let of_strategy = entries.iter().filter(|entry| entry.strategy == Strategy::TokenToExpert);
        let priced = of_strategy.enumerate().filter_map(|(index, entry)| {
            let PricedPredictor { accuracy, overhead, .. } = *entry.predictor.as_ref()?;
            Some((index, PredictorPoint { accuracy, overhead }, entry.latency()?))
        });
        let predictor = priced
            .min_by(|a, b| a.2.get().total_cmp(&b.2.get()))
            .map(|(index, point, _)| (index, point));
        let held = if paper(pricing.question) { None } else { Some(Held::new(pricing)?) };
        Ok(Self { pricing, predictor, held })
    }

    /// The value of a parameter in the question; `None` where it has none to vary.
    fn now(&self, parameter: Parameter) -> Option<f64> {
        let system = &self.pricing.question.system;
        match parameter {
            Parameter::Skewness => {
                let skewness = self.pricing.known.skewness()?;
                Some(skewness.iter().sum::<f64>() / skewness.len() as f64)
            }
            Parameter::LinkBandwidth => Some(system.cluster.link.bandwidth.get()),
            Parameter::TokensPerStep => Some(system.workload.tokens_per_step as f64),
            Parameter::PredictorAccuracy => self.predictor.map(|(_, point)| point.accuracy),
            Parameter::PredictorOverhead => self.predictor.map(|(_, point)| point.overhead.get()),
        }
    }

    /// Where the strategy `held` is no longer chosen, along a parameter.
    pub(super) fn flips(
        &self,
        parameter: Parameter,
        held: Strategy,
        effort: Effort,
    ) -> Vec<Flip<Strategy>> {
        let experts = &self.pricing.question.system.model.experts;
        let range = parameter.range(f64::from(experts.routed) / f64::from(experts.top_k));
        let Some(now) = self.now(parameter) else {
            return vec![Flip { parameter, at: None, range }];
        };
        let mut question = self.pricing.question.clone();
        let answer = |value| self.winner(&mut question, parameter, value);
        flips(parameter, range, (now, held), effort, answer)
    }

    /// The strategy chosen when `parameter` has `value` and all else is held.
    fn winner(&self, question: &mut Question, parameter: Parameter, value: f64) -> Strategy {
        let mut tempered = None;
        match parameter {
            Parameter::Skewness => {
                let top_k = question.system.model.experts.top_k;
                tempered = Some(self.pricing.known.tempered(value, top_k));
            }
            Parameter::LinkBandwidth => {
                question.system.cluster.link.bandwidth = BytesPerSecond::new(value);
            }
            Parameter::TokensPerStep => {
                let before = &self.pricing.question.system.workload;
                set_tokens(&mut question.system.workload, before, value);
            }
            Parameter::PredictorAccuracy | Parameter::PredictorOverhead => {
                if let Some((index, mut point)) = self.predictor {
                    if parameter == Parameter::PredictorAccuracy {
                        point.accuracy = value;
                    } else {
                        point.overhead = Seconds::new(value);
                    }
                    question.predictors[index].cost = PredictorCost::Point(point);
                }
            }
        }
        let chosen = match &self.held {
            None => {
                let known = tempered.as_ref().unwrap_or(self.pricing.known);
                winner(question, &paper_entries(question, known))
            }
            Some(held) => {
                let orders = &self.pricing.tried;
                let changed = Changed {
                    laws: parameter == Parameter::LinkBandwidth,
                    tokens: parameter == Parameter::TokensPerStep,
                    layers: tempered.map(|known| known.layers(question, orders).0),
                };
                held.served(self.pricing, question, &changed)
                    .ok()
                    .and_then(|entries| winner(question, &entries))
            }
        };
        chosen.map_or(Strategy::None, |(chosen, _)| chosen)
    }

    /// Whether the paper's formulas are searched, not drawn loads.
    pub(super) const fn by_formulas(&self) -> bool {
        self.held.is_none()
    }

    /// Adds to entries what they serve, where that is the objective.
    pub(super) fn serve(&self, entries: &mut [Entry]) {
        let question = self.pricing.question;
        let Some(held) = self.held.as_ref().filter(|_| question.throughput_at_tpot) else { return };
        let Ok(found) = held.served(self.pricing, question, &Changed::default()) else { return };
        for (entry, found) in entries.iter_mut().zip(found) {
            entry.served = found.served;
            entry.infeasible = found.infeasible;
        }
    }
}

/// What a changed question changes.
#[derive(Debug, Clone, Default)]
struct Changed {
    /// The operators' laws.
    laws: bool,
    /// The tokens of a step, and with them the laws.
    tokens: bool,
    /// The routing.
    layers: Option<Vec<LayerRouting>>,
}

impl Held {
    fn new(pricing: &Pricing) -> Result<Self, AnalyticError> {
        let question = pricing.question;
        let costs = costs(question, pricing.pattern)?;
        let layers = &pricing.layers;
        let placements = pricing.placements()?.clone();
        let draws = draws(question.seed, layers, FLIP_DRAWS);
        let drawn = drawn(question, &draws, layers, &costs, &placements);
        Ok(Self { costs, placements, draws, drawn })
    }

    /// The priced strategies of the changed `question`, with what they serve where that is
    /// the objective.
    fn served(
        &self,
        pricing: &Pricing,
        question: &Question,
        changed: &Changed,
    ) -> Result<Vec<Entry>, AnalyticError> {
        let (mut entries, dense_layer) = self.entries(pricing, question, changed)?;
        let model = &question.system.model;
        let step = |entry: &Entry, dense: Seconds| {
            let layers = entry.latency()? * f64::from(model.moe_layers);
            Some(layers + dense * f64::from(model.dense_layers))
        };
        let none = entries.iter().find(|entry| entry.strategy == Strategy::None);
        let limit = none.and_then(|none| step(none, dense_layer));
        let Some(limit) = limit.filter(|_| question.throughput_at_tpot) else {
            return Ok(entries);
        };
        let workload = &question.system.workload;
        let tokens_per_sequence = workload.tokens_per_step as f64 / workload.sequences as f64;
        let batch = Batch {
            sequences: workload.sequences,
            tokens_per_sequence,
            most: whole_tokens(MOST_TOKENS / tokens_per_sequence),
        };
        let changed = Changed { tokens: true, ..changed.clone() };
        let mut asked = question.clone();
        let steps = |sequences: u64| {
            let tokens = sequences as f64 * tokens_per_sequence;
            asked.system.workload.tokens_per_step = whole_tokens(tokens);
            asked.system.workload.sequences = sequences;
            let Ok((entries, dense)) = self.entries(pricing, &asked, &changed) else {
                return Vec::new();
            };
            let fits = |entry: &Entry| entry.infeasible.is_none();
            entries.iter().map(|entry| step(entry, dense).filter(|_| fits(entry))).collect()
        };
        let found = served(batch, entries.len(), limit, steps);
        for (entry, served) in entries.iter_mut().zip(found) {
            entry.served = served;
            match served {
                Some(_) => entry.infeasible = None,
                None => {
                    entry.infeasible.get_or_insert_with(|| {
                        "not even one sequence is served within the step of `none`".to_owned()
                    });
                }
            }
        }
        Ok(entries)
    }

    /// The priced strategies of the changed `question`, and its dense layer.
    fn entries(
        &self,
        pricing: &Pricing,
        question: &Question,
        changed: &Changed,
    ) -> Result<(Vec<Entry>, Seconds), AnalyticError> {
        let changed_layers = changed.layers.as_deref();
        let layers = changed_layers.unwrap_or(&pricing.layers);
        let new_costs = (changed.laws || changed.tokens)
            .then(|| costs(question, pricing.pattern))
            .transpose()?;
        let costs = new_costs.as_ref().unwrap_or(&self.costs);
        let planner = Planner::new(question);
        let new_placements = (changed_layers.is_some()
            || (changed.tokens && planner.counts_tokens()))
        .then(|| placements(question, &planner, layers, Care::Quick))
        .transpose()?;
        let placements = new_placements.as_ref().unwrap_or(&self.placements);
        let new_drawn = (changed_layers.is_some() || changed.tokens)
            .then(|| drawn(question, &self.draws, layers, costs, placements));
        let drawn = new_drawn.as_ref().unwrap_or(&self.drawn);
        let priced = Analytic::new(question, planner, costs, placements, drawn).price();
        Ok((pricing.priceable(priced.entries), costs.dense_layer))
    }
}

fn drawn(
    question: &Question,
    draws: &[Draws],
    layers: &[LayerRouting],
    costs: &LayerCosts,
    placements: &Placements,
) -> Drawn {
    let top_k = question.system.model.experts.top_k;
    Drawn::new(question.seed, draws, layers, top_k, costs, placements)
}

/// Changes the tokens of a step: more or fewer sequences of the same length, or shorter
/// ones below one sequence.
fn set_tokens(workload: &mut Workload, before: &Workload, tokens: f64) {
    let length = before.tokens_per_step as f64 / before.sequences.max(1) as f64;
    let whole = whole_tokens(tokens);
    workload.tokens_per_step = whole;
    workload.sequences = whole_tokens(tokens / length);
}
