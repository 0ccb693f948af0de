//! A question with everything its prices rest on, in which single quantities are changed.
//!
//! Only what a quantity touches is made anew. [`Scenario::set`] is the one place that says
//! what depends on what:
//!
//! | changed | routing | plans, also for other orders | laws | loads | prices | predictors |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | skewness (and what follows it: errors of forecasts and predictors) | yes | yes | | yes | yes | yes |
//! | tokens per step, output tokens | | if plans count tokens | yes | yes | yes | yes |
//! | bandwidth of a link | | | yes | | yes | yes |
//! | predictor accuracy, overhead | | | | | | yes |
//!
//! Changes add up: whoever prices a plane of two quantities sets the dearer one once per
//! row and the other in every cell. A clone shares what it does not change.

use std::borrow::Cow;
use std::sync::Arc;

use crate::advice::choose::{Deciding, decided, lead};
use crate::advice::pricing::{Pricing, paper, paper_entries};
use crate::advice::sensitivity::flip::Parameter;
use crate::advice::uncertainty::{self, Doubt, DoubtedKind, Ground, OrderPlans, Uncertainty};
use crate::advice::{communication, evidence};
use crate::cancel::Cancel;
use crate::evaluate::prices::{SampledPrices, Standing, whole_tokens};
use crate::evaluate::sampled_steps::{Effort, SampledSteps, draws};
use crate::pricing::candidates::{Care, Placements, placements};
use crate::pricing::entry::{Entry, PricedPredictor};
use crate::pricing::error::PricingError;
use crate::pricing::kinds::{Kind, kinds, workloads};
use crate::pricing::layer::LayerCosts;
use crate::pricing::planner::{Planner, planners};
use crate::pricing::routing_evidence::{OrderRange, RoutingEvidence};
use crate::pricing::serving::{Batch, served};
use crate::question::{PredictorCost, PredictorPoint, Question};
use crate::routing::LayerRouting;
use crate::routing::sample::Draws;
use crate::serving::Serving;
use crate::strategies::{self, DISTRIBUTION_ONLY, Strategy};
use crate::system::{Phase, Workload};
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
    planners: Vec<Planner>,
    layers: Arc<[LayerRouting]>,
    /// How many loads the layers belong to.
    loads: usize,
    placements: Arc<Placements>,
    /// How hard these were searched for.
    care: Care,
    /// The laws and the drawn steps of every kind of step.
    costs: Vec<LayerCosts>,
    drawn: Vec<Arc<SampledSteps>>,
    /// Random numbers, common to all values of all quantities.
    draws: Arc<[Draws]>,
    /// Other orders of the experts, where only a scalar is known, and plans for them.
    orders: Option<OrderRange>,
    order_plans: Arc<OrderPlans>,
    /// Prices before predictors' own figures, once they are asked for.
    standing: Option<Arc<Standing>>,
    /// What these may be otherwise by in every kind of step, once it is asked for.
    doubts: Option<Arc<[Vec<Doubt>]>>,
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

    /// Prices no predictors from now on: nothing that they change is asked for.
    pub(crate) fn forget_predictors(&mut self) {
        self.predictor = None;
        self.question.predictors.clear();
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
            Parameter::Skewness => self.known.mean_skewness(),
            Parameter::LinkBandwidth => Some(system.cluster.link.bandwidth.get()),
            Parameter::InterNodeBandwidth => {
                system.cluster.inter_node_link.as_ref().map(|link| link.bandwidth.get())
            }
            // The steps of a server follow from its requests.
            Parameter::TokensPerStep if self.question.serving.is_some() => None,
            Parameter::TokensPerStep => Some(system.workload.tokens_per_step as f64),
            Parameter::OutputTokens => {
                self.question.serving.map(|serving| serving.output_tokens as f64)
            }
            Parameter::PredictorAccuracy => self.predictor.map(|(_, point)| point.accuracy),
            Parameter::PredictorOverhead => self.predictor.map(|(_, point)| point.overhead.get()),
        }
    }

    /// The values a quantity may take.
    pub(crate) fn range(&self, parameter: Parameter) -> (f64, f64) {
        let experts = &self.question.system.model.experts;
        parameter.range(f64::from(experts.routed) / f64::from(experts.top_k))
    }

    /// The nearest value of a quantity that can be asked: steps hold whole sequences of the
    /// question's length, or one shorter one.
    pub(crate) fn askable(&self, parameter: Parameter, value: f64) -> f64 {
        match parameter {
            Parameter::OutputTokens => return value.round().max(1.0),
            Parameter::TokensPerStep => {}
            _ => return value,
        }
        let length = self.tokens_per_sequence();
        // What is drafted belongs to a whole sequence.
        let is_prompt = self.question.system.workload.speculation.is_none();
        if value < length && is_prompt {
            return value.round().max(1.0);
        }
        (value / length).round().max(1.0) * length
    }

    fn tokens_per_sequence(&self) -> f64 {
        let workload = &self.pricing.question.system.workload;
        workload.tokens_per_step as f64 / workload.sequences.max(1) as f64
    }

    /// Changes one quantity and makes anew what depends on it.
    ///
    /// After an error, such as when the pricing is stopped, the scenario is of no use until the
    /// quantity is set again.
    pub(crate) fn set(&mut self, parameter: Parameter, value: f64) -> Result<(), PricingError> {
        self.pricing.stop.check()?;
        self.change(parameter, value);
        let (question, pricing) = (&self.question, self.pricing);
        let Some(parts) = &mut self.parts else { return Ok(()) };
        match parameter {
            Parameter::Skewness => {
                let (layers, orders) = self.known.layers(question, &pricing.tried);
                (parts.layers, parts.orders) = (layers.into(), orders);
                parts.plan(question, pricing.stop)?;
                parts.draw(question, &self.known);
            }
            Parameter::LinkBandwidth | Parameter::InterNodeBandwidth => {
                parts.bind(question, pricing)?;
            }
            Parameter::TokensPerStep | Parameter::OutputTokens => self.rebatched()?,
            Parameter::PredictorAccuracy | Parameter::PredictorOverhead => {}
        }
        Ok(())
    }

    /// The question with that value, and nothing that its prices rest on.
    pub(crate) fn with(&self, parameter: Parameter, value: f64) -> Self {
        let (question, known) = (self.question.clone(), self.known.clone());
        let mut changed = Scenario { question, known, parts: None, ..*self };
        changed.change(parameter, value);
        changed
    }

    /// Changes one quantity of the question, and nothing that depends on it.
    fn change(&mut self, parameter: Parameter, value: f64) {
        let question = &mut self.question;
        match parameter {
            Parameter::Skewness => {
                let top_k = question.system.model.experts.top_k;
                self.known = Cow::Owned(self.pricing.known.tempered(value, top_k));
                question.predict_at(value);
                if let Some((index, point)) = &mut self.predictor
                    && let PredictorCost::Point(now) = question.predictors[*index].cost
                {
                    *point = now;
                }
            }
            Parameter::LinkBandwidth => {
                question.system.cluster.link.bandwidth = BytesPerSecond::new(value);
            }
            Parameter::InterNodeBandwidth => {
                if let Some(link) = &mut question.system.cluster.inter_node_link {
                    link.bandwidth = BytesPerSecond::new(value);
                }
            }
            Parameter::TokensPerStep => {
                // More or fewer sequences of the same length, or a shorter one.
                let length = self.tokens_per_sequence();
                let tokens = whole_tokens(value);
                let workload = &mut self.question.system.workload;
                workload.sequences = whole_tokens(tokens as f64 / length);
                workload.tokens_per_step = tokens;
                if workload.phase == Phase::Prefill && value < length {
                    workload.context = tokens;
                }
            }
            Parameter::OutputTokens => {
                if let Some(serving) = question.serving {
                    question.serve(Serving { output_tokens: whole_tokens(value), ..serving });
                }
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
    }

    /// Whether searched plans change with a quantity.
    fn replans(&self, parameter: Parameter) -> bool {
        match parameter {
            Parameter::Skewness => true,
            Parameter::TokensPerStep | Parameter::OutputTokens => {
                let counts = |planner: &Planner| planner.counts_tokens(Care::Searched);
                let is_of_phases = matches!(*self.known, RoutingEvidence::ByPhase { .. });
                is_of_phases || planners(&self.question).iter().any(counts)
            }
            Parameter::LinkBandwidth
            | Parameter::InterNodeBandwidth
            | Parameter::PredictorAccuracy
            | Parameter::PredictorOverhead => false,
        }
    }

    /// Makes anew what depends on the tokens of a step.
    fn rebatched(&mut self) -> Result<(), PricingError> {
        let question = &self.question;
        let Some(parts) = &mut self.parts else { return Ok(()) };
        parts.bind(question, self.pricing)?;
        if question.serving.is_some() {
            parts.layers = self.known.layers(question, &self.pricing.tried).0.into();
        }
        parts.planners = planners(question);
        if parts.planners.iter().any(|planner| planner.counts_tokens(Care::Quick)) {
            parts.order_plans = Arc::default();
        }
        let by_phase = matches!(*self.known, RoutingEvidence::ByPhase { .. });
        if by_phase || parts.planners.iter().any(|planner| planner.counts_tokens(parts.care)) {
            parts.plan(question, self.pricing.stop)?;
        }
        parts.draw(question, &self.known);
        Ok(())
    }

    /// The strategy chosen, and by how much `held` is; `None` if nothing can be run.
    pub(crate) fn chosen_by(&mut self, held: Strategy) -> Option<(Strategy, f64)> {
        let (entries, uncertainty) = self.priced_with_doubts().ok()?;
        let found = decided(&self.question, &entries, &uncertainty, Deciding::Runnable)?;
        Some((found.strategy, lead(&self.question, &entries, &uncertainty, held)))
    }

    /// The numbers of slots beside the one that is fastest here, among which a search finds the fastest.
    fn slots_around(&mut self) -> Option<[u32; 2]> {
        self.priced()?;
        let parts = self.parts.as_ref()?;
        let taken = &parts.standing.as_ref()?.taken;
        let (_, taken) = taken.iter().find(|(strategy, _)| *strategy == DISTRIBUTION_ONLY)?;
        let taken = parts.placements.all[*taken].slots_per_device;
        let choices = parts.planners[0].slot_choices(&self.question);
        let at = choices.iter().position(|slots| *slots == taken)?;
        Some([choices[at.saturating_sub(1)], *choices.get(at + 1).unwrap_or(&taken)])
    }

    /// The answer to the question with that value, at the effort of an answer; `near` is a scenario of
    /// its own that shows how many slots are worth a search.
    pub(crate) fn answered(
        &self,
        parameter: Parameter,
        value: f64,
        near: &mut Self,
    ) -> Option<Strategy> {
        let Scenario { question, known, .. } = &self.with(parameter, value);
        let pattern = communication(question).0;
        let mut pricing = Pricing::new(question, known, pattern, self.pricing.stop);
        if self.replans(parameter) {
            near.set(parameter, value).ok()?;
            if let Some(slots) = near.slots_around() {
                pricing.within(slots);
            }
        } else {
            pricing.keep_placements(self.pricing);
        }
        let mut priced = pricing.compared().ok()?;
        if question.throughput_at_tpot && !self.by_formulas() {
            let scenario = Scenario::new(&pricing, &priced.entries).ok()?;
            super::serve(&scenario, question, &mut priced.entries);
        }
        evidence::none_fits_or_nothing(&mut priced.entries);
        Some(priced.decided(question, Deciding::Runnable)?.strategy)
    }

    /// By how much the strategy `becomes` is ahead of `held`.
    pub(crate) fn gain(&mut self, becomes: Strategy, held: Strategy) -> f64 {
        let entries = self.entries();
        let cost = |strategy: Strategy| {
            let of = entries.iter().filter(|entry| entry.strategy == strategy);
            of.filter_map(Entry::cost).reduce(Seconds::min)
        };
        match (cost(held), cost(becomes)) {
            (Some(held), Some(becomes)) => held / becomes,
            (None, Some(_)) => f64::INFINITY,
            _ => 0.0,
        }
    }

    /// The priced strategies, and how far their comparison can be trusted.
    pub(crate) fn priced_with_doubts(&mut self) -> Result<(Vec<Entry>, Uncertainty), PricingError> {
        let mut entries = self.entries();
        evidence::none_fits_or_nothing(&mut entries);
        let Some(parts) = &mut self.parts else { return Ok((entries, Uncertainty::none())) };
        let kinds = kinds(&self.question, self.pricing.pattern);
        if parts.doubts.is_none() {
            let taken = parts.standing.as_ref().map_or(&[][..], |standing| &standing.taken);
            let known = &self.known;
            let of = |(kind, costs): (&Kind, &LayerCosts)| {
                let workload = &kind.question.system.workload;
                let ground = Ground {
                    question: &kind.question,
                    pattern: kind.pattern,
                    costs,
                    layers: &known.in_step(workload, &parts.layers),
                    placements: &parts.placements,
                    taken,
                    plans: &parts.order_plans,
                    stop: self.pricing.stop,
                };
                ground.doubts(parts.orders.as_ref(), uncertainty::PASSING)
            };
            let doubts = kinds.iter().zip(&parts.costs).map(of).collect::<Result<Vec<_>, _>>()?;
            parts.doubts = Some(doubts.into());
        }
        let doubts = parts.doubts.iter().flat_map(|doubts| doubts.iter());
        let doubted: Vec<DoubtedKind> = kinds
            .iter()
            .zip(&parts.costs)
            .zip(doubts)
            .map(|((kind, costs), doubts)| DoubtedKind { share: kind.share, costs, doubts })
            .collect();
        let uncertainty = Uncertainty::new(&entries, &doubted, &[]);
        Ok((entries, uncertainty))
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
        let ScenarioParts { planners, placements, costs, drawn, standing, .. } =
            self.parts.as_mut()?;
        let kinds = kinds(question, self.pricing.pattern);
        let each = kinds.iter().zip(&*costs).zip(&*drawn);
        let each = each.map(|((kind, costs), drawn)| (kind, costs, &**drawn));
        let analytic = SampledPrices::new(question, planners[0].clone(), placements, each);
        let standing = standing.get_or_insert_with(|| Arc::new(analytic.standing()));
        let entries = analytic.with_predictors(standing);
        let dense = kinds.iter().zip(&*costs).map(|(kind, costs)| costs.dense_layer * kind.share);
        Some((self.pricing.priceable(entries), dense.sum()))
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
            tokens_per_sequence: match workload.phase {
                Phase::Prefill => tokens_per_sequence,
                Phase::Decode => workload.gained(),
            },
            most: whole_tokens(MOST_TOKENS / tokens_per_sequence),
        };
        let mut asked = self.clone();
        let steps = |sequences: u64| {
            let tokens = whole_tokens(sequences as f64 * tokens_per_sequence);
            asked.question.system.workload.sequences = sequences;
            asked.question.system.workload.tokens_per_step = tokens;
            let priced = asked.rebatched().ok().and_then(|()| asked.priced());
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
        let costs = bound(question, pricing)?;
        let layers = Arc::clone(&pricing.layers);
        let placements = Arc::clone(pricing.placements()?);
        let draws: Arc<[Draws]> = draws(question.seed, &layers, DRAWS).into();
        let steps = Steps { question, known: pricing.known, layers: &layers, draws: &draws };
        let drawn = steps.drawn(&costs, &placements);
        Ok(Self {
            planners: planners(question),
            layers,
            loads: pricing.known.loads(),
            placements,
            care: Care::Searched,
            costs,
            draws,
            drawn,
            orders: pricing.orders.clone(),
            order_plans: Arc::default(),
            standing: None,
            doubts: None,
        })
    }

    /// Binds the laws.
    fn bind(&mut self, question: &Question, pricing: &Pricing) -> Result<(), PricingError> {
        self.costs = bound(question, pricing)?;
        (self.standing, self.doubts) = (None, None);
        Ok(())
    }

    /// Plans on the forecast, without a search.
    fn plan(&mut self, question: &Question, stop: &Cancel) -> Result<(), PricingError> {
        self.care = Care::Quick;
        self.order_plans = Arc::default();
        let Self { planners, layers, loads, care, .. } = self;
        let made = placements(question, planners, layers, *loads, *care, stop)?;
        self.placements = Arc::new(made);
        Ok(())
    }

    /// Draws loads, under plans and laws as they are.
    fn draw(&mut self, question: &Question, known: &RoutingEvidence) {
        let Self { draws, layers, costs, placements, .. } = self;
        self.drawn = Steps { question, known, layers, draws }.drawn(costs, placements);
        (self.standing, self.doubts) = (None, None);
    }
}

/// The laws of every kind of step.
fn bound(question: &Question, pricing: &Pricing) -> Result<Vec<LayerCosts>, PricingError> {
    kinds(question, pricing.pattern).iter().map(Kind::costs).collect()
}

/// What steps are drawn from.
struct Steps<'a> {
    question: &'a Question,
    known: &'a RoutingEvidence,
    layers: &'a [LayerRouting],
    draws: &'a [Draws],
}

impl Steps<'_> {
    /// The drawn steps of every kind, whose laws are `costs`.
    fn drawn(&self, costs: &[LayerCosts], placements: &Placements) -> Vec<Arc<SampledSteps>> {
        let Self { question, known, layers, draws } = *self;
        let of = |(workload, costs): (Workload, &LayerCosts)| {
            let layers = known.in_step(&workload, layers);
            Arc::new(SampledSteps::new(question, draws, &layers, costs, placements))
        };
        workloads(question).into_iter().zip(costs).map(of).collect()
    }
}
