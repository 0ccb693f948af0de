//! A question with everything its prices rest on, in which single quantities are changed.
//!
//! Only what a quantity touches is made anew. [`Scenario::set`] is the one place that says
//! what depends on what:
//!
//! | changed | routing | plans | laws | loads | prices | predictors |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | skewness | yes | yes | | yes | yes | yes |
//! | tokens per step | | if plans count tokens | yes | yes | yes | yes |
//! | link bandwidth | | | yes | | yes | yes |
//! | predictor accuracy, overhead | | | | | | yes |
//!
//! Changes add up: whoever prices a plane of two quantities sets the dearer one once per
//! row and the other in every cell. A clone shares what it does not change.

use std::borrow::Cow;
use std::sync::Arc;

use crate::advice::choose::chosen_by;
use crate::advice::pricing::{Pricing, paper, paper_entries};
use crate::advice::sensitivity::flip::Parameter;
use crate::cancel::Cancel;
use crate::evaluate::prices::{SampledPrices, Standing, whole_tokens};
use crate::evaluate::sampled_steps::{Effort, SampledSteps, draws};
use crate::pricing::candidates::{Care, Placements, placements};
use crate::pricing::entry::{Entry, PricedPredictor};
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::pricing::planner::Planner;
use crate::pricing::routing_evidence::RoutingEvidence;
use crate::pricing::serving::{Batch, served};
use crate::question::{PredictorCost, PredictorPoint, Question};
use crate::routing::LayerRouting;
use crate::routing::sample::Draws;
use crate::strategies::{self, Strategy};
use crate::units::{BytesPerSecond, Seconds};

/// What a changed question is priced on.
pub const DRAWS: Effort = Effort { steps: 16, per_layer: 2 };

/// The most tokens of a step that a batch is solved for: 2^24, the most a question may state.
const MOST_TOKENS: f64 = 16_777_216.0;

/// A predictor's place among those of a question, and the point it is held at.
pub type HeldPredictor = Option<(usize, PredictorPoint)>;

/// The predictor that is varied: that of the fastest token-to-expert entry. Entries of that
/// strategy stand in the predictors' order.
#[must_use]
pub fn varied_predictor(entries: &[Entry]) -> HeldPredictor {
    let with_predictors = entries.iter().filter(|entry| entry.predictor.is_some());
    let priced = with_predictors.enumerate().filter_map(|(index, entry)| {
        let PricedPredictor { accuracy, overhead, .. } = *entry.predictor.as_ref()?;
        Some((index, PredictorPoint { accuracy, overhead }, entry.latency()?))
    });
    let fastest = priced.min_by(|a, b| a.2.get().total_cmp(&b.2.get()));
    fastest.map(|(index, point, _)| (index, point))
}

/// A question under change.
#[derive(Debug, Clone)]
pub(crate) struct Scenario<'a> {
    pricing: &'a Pricing<'a>,
    pub(crate) question: Question,
    /// The predictor that is varied.
    predictor: HeldPredictor,
    known: Cow<'a, RoutingEvidence>,
    /// What drawn prices rest on; nothing in paper mode.
    parts: Option<ScenarioParts>,
}

/// What the prices of a scenario rest on, each made from those before it.
#[derive(Debug, Clone)]
struct ScenarioParts {
    planner: Planner,
    layers: Arc<[LayerRouting]>,
    /// How many loads the layers belong to.
    loads: usize,
    placements: Arc<Placements>,
    /// How hard these were searched for.
    care: Care,
    costs: LayerCosts,
    /// Random numbers, common to all values of all quantities.
    draws: Arc<[Draws]>,
    drawn: Arc<SampledSteps>,
    /// Prices before predictors' own figures, once they are asked for.
    standing: Option<Arc<Standing>>,
}

impl<'a> Scenario<'a> {
    /// A priced question as it is.
    pub(crate) fn new(pricing: &'a Pricing<'a>, entries: &[Entry]) -> Result<Self, PricingError> {
        Self::around(pricing, varied_predictor(entries))
    }

    /// A question as it is, `predictor` being the one that is varied.
    pub(crate) fn around(
        pricing: &'a Pricing<'a>,
        predictor: HeldPredictor,
    ) -> Result<Self, PricingError> {
        let parts = if paper(pricing.question) { None } else { Some(ScenarioParts::new(pricing)?) };
        Ok(Self {
            pricing,
            question: pricing.question.clone(),
            predictor,
            known: Cow::Borrowed(pricing.known),
            parts,
        })
    }

    /// What may end the pricing.
    pub(crate) const fn stop(&self) -> &'a Cancel {
        self.pricing.stop
    }

    /// Whether the paper's formulas are priced, not drawn loads.
    pub(crate) const fn by_formulas(&self) -> bool {
        self.parts.is_none()
    }

    /// The value of a quantity; `None` where the question has none to vary.
    pub(crate) fn value(&self, parameter: Parameter) -> Option<f64> {
        let system = &self.question.system;
        match parameter {
            Parameter::Skewness => {
                let skewness = self.known.skewness()?;
                Some(skewness.iter().sum::<f64>() / skewness.len() as f64)
            }
            Parameter::LinkBandwidth => Some(system.cluster.link.bandwidth.get()),
            Parameter::TokensPerStep => Some(system.workload.tokens_per_step as f64),
            Parameter::PredictorAccuracy => self.predictor.map(|(_, point)| point.accuracy),
            Parameter::PredictorOverhead => self.predictor.map(|(_, point)| point.overhead.get()),
        }
    }

    /// The values a quantity may take.
    pub(crate) fn range(&self, parameter: Parameter) -> (f64, f64) {
        let experts = &self.question.system.model.experts;
        parameter.range(f64::from(experts.routed) / f64::from(experts.top_k))
    }

    /// Changes one quantity and makes anew what depends on it.
    ///
    /// After an error, such as when the pricing is stopped, the scenario is of no use until the
    /// quantity is set again.
    pub(crate) fn set(&mut self, parameter: Parameter, value: f64) -> Result<(), PricingError> {
        let (question, pricing) = (&mut self.question, self.pricing);
        pricing.stop.check()?;
        match parameter {
            Parameter::Skewness => {
                let top_k = question.system.model.experts.top_k;
                self.known = Cow::Owned(pricing.known.tempered(value, top_k));
                let Some(parts) = &mut self.parts else { return Ok(()) };
                parts.layers = self.known.median_layers(question, &pricing.tried).into();
                parts.plan(question, pricing.stop)?;
                parts.draw(question);
            }
            Parameter::LinkBandwidth => {
                question.system.cluster.link.bandwidth = BytesPerSecond::new(value);
                let Some(parts) = &mut self.parts else { return Ok(()) };
                parts.bind(question, pricing)?;
            }
            Parameter::TokensPerStep => {
                // More or fewer sequences of the same length, or shorter ones below one.
                let before = &pricing.question.system.workload;
                let length = before.tokens_per_step as f64 / before.sequences.max(1) as f64;
                let tokens = whole_tokens(value);
                self.set_batch(whole_tokens(tokens as f64 / length), tokens)?;
            }
            Parameter::PredictorAccuracy | Parameter::PredictorOverhead => {
                if let Some((index, point)) = &mut self.predictor {
                    match parameter {
                        Parameter::PredictorAccuracy => point.accuracy = value,
                        _ => point.overhead = Seconds::new(value),
                    }
                    question.predictors[*index].cost = PredictorCost::Point(*point);
                }
            }
        }
        Ok(())
    }

    /// Changes the sequences and tokens of a step.
    fn set_batch(&mut self, sequences: u64, tokens: u64) -> Result<(), PricingError> {
        let question = &mut self.question;
        question.system.workload.sequences = sequences;
        question.system.workload.tokens_per_step = tokens;
        let Some(parts) = &mut self.parts else { return Ok(()) };
        parts.bind(question, self.pricing)?;
        parts.planner = Planner::new(question);
        if parts.planner.counts_tokens(parts.care) {
            parts.plan(question, self.pricing.stop)?;
        }
        parts.draw(question);
        Ok(())
    }

    /// The strategy chosen, and by how much `held` is; `None` if nothing can be run.
    pub(crate) fn chosen_by(&mut self, held: Strategy) -> Option<(Strategy, f64)> {
        let entries = self.entries();
        chosen_by(&self.question, &entries, held)
    }

    /// The priced strategies, with what they serve where that is the objective.
    pub(crate) fn entries(&mut self) -> Vec<Entry> {
        let Some((mut entries, dense_layer)) = self.priced() else {
            return paper_entries(&self.question, &self.known);
        };
        if self.question.throughput_at_tpot {
            self.serve(&mut entries, dense_layer);
        }
        entries
    }

    /// The strategies priced on drawn loads, and a dense layer.
    fn priced(&mut self) -> Option<(Vec<Entry>, Seconds)> {
        let question = &self.question;
        let ScenarioParts { planner, placements, costs, drawn, standing, .. } =
            self.parts.as_mut()?;
        let analytic = SampledPrices::new(question, planner.clone(), costs, placements, drawn);
        let standing = standing.get_or_insert_with(|| Arc::new(analytic.standing()));
        let entries = analytic.with_predictors(standing);
        Some((self.pricing.priceable(entries), costs.dense_layer))
    }

    /// Adds to entries what they serve at the step of `none`.
    fn serve(&self, entries: &mut [Entry], dense_layer: Seconds) {
        let model = &self.question.system.model;
        let step = |entry: &Entry, dense: Seconds| {
            let layers = entry.latency()? * f64::from(model.moe_layers);
            Some(layers + dense * f64::from(model.dense_layers))
        };
        let none = entries.iter().find(|entry| entry.strategy == strategies::NONE);
        let Some(limit) = none.and_then(|none| step(none, dense_layer)) else { return };
        let workload = &self.question.system.workload;
        let tokens_per_sequence = workload.tokens_per_step as f64 / workload.sequences as f64;
        let batch = Batch {
            sequences: workload.sequences,
            tokens_per_sequence,
            most: whole_tokens(MOST_TOKENS / tokens_per_sequence),
        };
        let mut asked = self.clone();
        let steps = |sequences: u64| {
            let tokens = whole_tokens(sequences as f64 * tokens_per_sequence);
            let priced = asked.set_batch(sequences, tokens).ok().and_then(|()| asked.priced());
            let Some((entries, dense)) = priced else { return Vec::new() };
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
    }
}

impl ScenarioParts {
    fn new(pricing: &Pricing) -> Result<Self, PricingError> {
        let question = pricing.question;
        let costs = LayerCosts::of(question, pricing.pattern)?;
        let layers = Arc::clone(&pricing.layers);
        let placements = Arc::clone(pricing.placements()?);
        let draws: Arc<[Draws]> = draws(question.seed, &layers, DRAWS).into();
        let drawn = SampledSteps::new(question, &draws, &layers, &costs, &placements);
        Ok(Self {
            planner: Planner::new(question),
            layers,
            loads: pricing.known.loads(),
            placements,
            care: Care::Searched,
            costs,
            draws,
            drawn: Arc::new(drawn),
            standing: None,
        })
    }

    /// Binds the laws.
    fn bind(&mut self, question: &Question, pricing: &Pricing) -> Result<(), PricingError> {
        self.costs = LayerCosts::of(question, pricing.pattern)?;
        self.standing = None;
        Ok(())
    }

    /// Plans on the forecast, without a search.
    fn plan(&mut self, question: &Question, stop: &Cancel) -> Result<(), PricingError> {
        self.care = Care::Quick;
        let made = placements(question, &self.planner, &self.layers, self.loads, self.care, stop)?;
        self.placements = Arc::new(made);
        Ok(())
    }

    /// Draws loads, under plans and laws as they are.
    fn draw(&mut self, question: &Question) {
        let Self { draws, layers, costs, placements, .. } = self;
        self.drawn = Arc::new(SampledSteps::new(question, draws, layers, costs, placements));
        self.standing = None;
    }
}
