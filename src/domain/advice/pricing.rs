//! One way to price a question whatever the preset, whole or with one quantity changed.

use super::analytic::{Analytic, AnalyticError, DRAWS, PlanSummary, Plans};
use super::choose::choose;
use super::entry::Entry;
use super::flip::Parameter;
use super::known::{Known, OrderRange};
use super::paper::Paper;
use super::paper_layer::paper_layer;
use super::{PricedPredictor, analytic};
use crate::domain::question::{PredictorCost, PredictorPoint, Question};
use crate::domain::routing::LayerRouting;
use crate::domain::strategy::Strategy;
use crate::domain::system::{Communication, Preset};
use crate::domain::units::{BytesPerSecond, Seconds};

/// Draws over all layers that a flip point is searched with.
const FLIP_DRAWS: usize = 16;

/// A question with what is known of its routing, ready to be priced.
#[derive(Debug)]
pub(super) struct Pricing<'a> {
    pub(super) question: &'a Question,
    known: &'a Known,
    pub(super) pattern: Communication,
    pub(super) layers: Vec<LayerRouting>,
    pub(super) orders: Option<OrderRange>,
    varied: Option<(usize, PredictorPoint)>,
    plans: Plans,
}

/// All strategies priced.
#[derive(Debug)]
pub struct Priced {
    /// Every strategy with its price.
    pub entries: Vec<Entry>,
    /// The plans behind the entries (calibrated mode).
    pub plans: Vec<PlanSummary>,
    /// Layer latency no balancing can beat.
    pub ceiling: Option<Seconds>,
    /// Latency of one dense layer.
    pub dense_layer: Seconds,
}

impl<'a> Pricing<'a> {
    pub(super) fn new(question: &'a Question, known: &'a Known, pattern: Communication) -> Self {
        let (layers, orders) =
            if paper(question) { (Vec::new(), None) } else { known.layers(question) };
        Self { question, known, pattern, layers, orders, varied: None, plans: Plans::default() }
    }

    /// The full answer.
    pub(super) fn whole(&self) -> Result<Priced, AnalyticError> {
        self.price(self.question, self.known, &self.layers, &self.plans, DRAWS)
    }

    fn price(
        &self,
        question: &Question,
        known: &Known,
        layers: &[LayerRouting],
        plans: &Plans,
        draws: usize,
    ) -> Result<Priced, AnalyticError> {
        if paper(question) {
            return Ok(by_paper(question, known));
        }
        let analysis = Analytic::new(question, self.pattern, layers, plans, draws)?.analyse()?;
        let mut entries = analysis.entries;
        if let Known::Balancedness { .. } = known {
            only_none(&mut entries);
        }
        Ok(Priced {
            entries,
            plans: analysis.plans,
            ceiling: Some(analysis.ceiling),
            dense_layer: analysis.dense_layer,
        })
    }

    /// The value of a parameter in the question; `None` where it has none to vary.
    pub(super) fn now(&self, parameter: Parameter) -> Option<f64> {
        let system = &self.question.system;
        match parameter {
            Parameter::Skewness => {
                let skewness = self.known.skewness()?;
                Some(skewness.iter().sum::<f64>() / skewness.len() as f64)
            }
            Parameter::LinkBandwidth => Some(system.cluster.link.bandwidth.get()),
            Parameter::TokensPerStep => Some(system.workload.tokens_per_step as f64),
            Parameter::PredictorAccuracy => self.varied.map(|(_, point)| point.accuracy),
            Parameter::PredictorOverhead => self.varied.map(|(_, point)| point.overhead.get()),
        }
    }

    /// Remembers which predictor flips are searched for: that of the fastest
    /// token-to-expert entry. Entries of that strategy stand in the predictors' order.
    pub(super) fn vary_best_predictor(&mut self, entries: &[Entry]) {
        let of_strategy = entries.iter().filter(|entry| entry.strategy == Strategy::TokenToExpert);
        let priced = of_strategy.enumerate().filter_map(|(index, entry)| {
            let PricedPredictor { accuracy, overhead, .. } = *entry.predictor.as_ref()?;
            Some((index, PredictorPoint { accuracy, overhead }, entry.latency()?))
        });
        self.varied = priced
            .min_by(|a, b| a.2.get().total_cmp(&b.2.get()))
            .map(|(index, point, _)| (index, point));
    }

    /// The strategy chosen when `parameter` has `value` and all else is held.
    pub(super) fn winner(&self, parameter: Parameter, value: f64) -> Strategy {
        let mut question = self.question.clone();
        let mut known = None;
        let top_k = question.system.model.experts.top_k;
        match parameter {
            Parameter::Skewness => known = Some(self.known.tempered(value, top_k)),
            Parameter::LinkBandwidth => {
                question.system.cluster.link.bandwidth = BytesPerSecond::new(value);
            }
            Parameter::TokensPerStep => set_tokens(&mut question, value),
            Parameter::PredictorAccuracy | Parameter::PredictorOverhead => {
                if let Some((index, mut point)) = self.varied {
                    if parameter == Parameter::PredictorAccuracy {
                        point.accuracy = value;
                    } else {
                        point.overhead = Seconds::new(value);
                    }
                    question.predictors[index].cost = PredictorCost::Point(point);
                }
            }
        }
        let priced = match &known {
            Some(known) => {
                let layers = if paper(&question) { Vec::new() } else { known.layers(&question).0 };
                self.price(&question, known, &layers, &Plans::default(), FLIP_DRAWS)
            }
            None => self.price(&question, self.known, &self.layers, &self.plans, FLIP_DRAWS),
        };
        priced
            .ok()
            .and_then(|priced| {
                let choice = choose(&question, &priced.entries)?;
                Some(priced.entries[choice.chosen].strategy)
            })
            .unwrap_or(Strategy::None)
    }

    /// Strategies other than `chosen` that win by more than the error band at the ends of
    /// the range of orders.
    pub(super) fn winners_at(&self, orders: &OrderRange, chosen: Strategy) -> Vec<Strategy> {
        let mut winners = Vec::new();
        for layer in &orders.layers {
            let layers = std::slice::from_ref(layer);
            let Ok(priced) =
                self.price(self.question, self.known, layers, &Plans::default(), DRAWS)
            else {
                continue;
            };
            let Some(choice) = choose(self.question, &priced.entries) else { continue };
            let winner = priced.entries[choice.chosen].strategy;
            let fastest = priced.entries[choice.fastest].strategy;
            // Where both are equals within the band, nothing contradicts the choice.
            if winner != chosen && fastest != chosen && !winners.contains(&winner) {
                winners.push(winner);
            }
        }
        winners
    }
}

fn paper(question: &Question) -> bool {
    question.system.assumptions.preset == Preset::Paper
}

fn by_paper(question: &Question, known: &Known) -> Priced {
    let (layer, dense_layer) = paper_layer(question);
    let model = Paper { layer, routing: known.paper(), assumptions: &question.system.assumptions };
    let entries = model.entries(&question.predictors);
    let fastest = choose(question, &entries).map(|choice| entries[choice.fastest].strategy);
    let ceiling = fastest.map(|strategy| model.ceiling(strategy).total());
    Priced { entries, plans: Vec::new(), ceiling, dense_layer }
}

/// Changes the tokens of a step: more or fewer sequences of the same length, or shorter
/// ones below one sequence.
fn set_tokens(question: &mut Question, tokens: f64) {
    let workload = &mut question.system.workload;
    let before = workload.tokens_per_step as f64 / workload.sequences.max(1) as f64;
    let whole = analytic::whole_tokens(tokens);
    workload.tokens_per_step = whole;
    workload.sequences = analytic::whole_tokens(tokens / before);
}

/// Without counts per expert only the static placement can be priced.
fn only_none(entries: &mut [Entry]) {
    for entry in entries.iter_mut().filter(|entry| entry.strategy != Strategy::None) {
        entry.infeasible = Some(
            "no plan can be made from the balance of devices alone; give counts per expert or a \
             trace"
                .to_owned(),
        );
        entry.terms = None;
    }
}
