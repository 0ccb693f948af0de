//! One way to price a question whatever the preset.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use crate::advice::AdvisedStep;
use crate::advice::choose::{Decided, Deciding, choose, decided};
use crate::advice::uncertainty::{self, Doubt, DoubtedKind, Ground, OrderPlans, Uncertainty};
use crate::cancel::Cancel;
use crate::evaluate::prices::SampledPrices;
use crate::evaluate::replay::Replayed;
use crate::evaluate::sampled_steps::{DRAWS, Effort, SampledSteps, draws};
use crate::evaluate::slot_search::{SlotSearch, TriedSlots};
use crate::evaluate::{PlanSummary, mean};
use crate::pricing::candidates::{Care, IN_USE, Placement, Placements, placements};
use crate::pricing::entry::{Bands, Entry};
use crate::pricing::error::PricingError;
use crate::pricing::kinds::{Kind, kinds, served_steps, widest_bands};
use crate::pricing::layer::LayerCosts;
use crate::pricing::paper::Paper;
use crate::pricing::paper_layer::paper_layer;
use crate::pricing::planner::{Planner, planners};
use crate::pricing::routing_evidence::{OrderRange, Orders, RoutingEvidence};
use crate::pricing::slot_shares::SlotShares;
use crate::question::Question;
use crate::routing::LayerRouting;
use crate::serving::ServedStep;
use crate::strategies::{NONE, Strategy};
use crate::system::{Communication, Preset};
use crate::trend::Trend;
use crate::units::Seconds;

/// A question with what is known of its routing, ready to be priced.
#[derive(Debug)]
pub(crate) struct Pricing<'a> {
    pub(crate) question: &'a Question,
    pub(crate) known: &'a RoutingEvidence,
    pub(crate) pattern: Communication,
    pub(crate) stop: &'a Cancel,
    pub(crate) layers: Arc<[LayerRouting]>,
    pub(crate) orders: Option<OrderRange>,
    /// The orders of experts that were tried.
    pub(crate) tried: Orders,
    /// How hard plans are searched for.
    care: Care,
    /// The placements of the question as it is, once they are made.
    placements: OnceLock<Arc<Placements>>,
    /// Those of other orders of the experts.
    pub(crate) order_plans: Arc<OrderPlans>,
}

/// All strategies priced.
#[derive(Debug)]
pub struct Priced {
    /// Every strategy with its price.
    pub entries: Vec<Entry>,
    /// The plans behind the entries (calibrated mode).
    pub plans: Vec<PlanSummary>,
    /// The search for the number of slots, where it was left to us (calibrated mode).
    pub search: Option<SlotSearch>,
    /// Layer latency no balancing can beat.
    pub ceiling: Option<Seconds>,
    /// Latency of one dense layer.
    pub dense_layer: Seconds,
    /// How far each term can be trusted.
    pub bands: Bands,
    /// What every kind of step rests on; nothing in paper mode.
    pub(crate) kinds: Vec<PricedKind>,
}

/// What the prices of one kind of step rest on.
#[derive(Debug)]
pub(crate) struct PricedKind {
    /// Its share of all steps.
    pub(crate) share: f64,
    /// The laws of its layer.
    pub(crate) costs: LayerCosts,
    /// What these may be otherwise by.
    pub(crate) doubts: Vec<Doubt>,
}

impl PricedKind {
    pub(crate) fn doubted(&self) -> DoubtedKind<'_> {
        DoubtedKind { share: self.share, costs: &self.costs, doubts: &self.doubts }
    }
}

/// What prices may be otherwise by under the doubts of these kinds of steps.
fn uncertainty_of(kinds: &[PricedKind], entries: &[Entry], replayed: &[Replayed]) -> Uncertainty {
    let kinds: Vec<DoubtedKind> = kinds.iter().map(PricedKind::doubted).collect();
    if kinds.is_empty() { Uncertainty::none() } else { Uncertainty::new(entries, &kinds, replayed) }
}

impl Priced {
    /// The strategy chosen among all that are allowed, whoever can run them, or among those that
    /// can be run.
    #[must_use]
    pub fn decided(&self, question: &Question, who: Deciding) -> Option<Decided> {
        decided(question, &self.entries, &self.uncertainty(&self.entries, &[]), who)
    }

    /// The steps of the question's server, if it asks about one.
    pub(crate) fn steps(&self, question: &Question) -> Vec<AdvisedStep> {
        let of = |((share, step), kind): ((f64, ServedStep), &PricedKind)| AdvisedStep {
            share,
            step,
            dense_layer: kind.costs.dense_layer,
        };
        served_steps(question).into_iter().zip(&self.kinds).map(of).collect()
    }

    /// What the prices may be otherwise by: on sampled steps, or with what was replayed.
    pub(crate) fn uncertainty(&self, entries: &[Entry], replayed: &[Replayed]) -> Uncertainty {
        uncertainty_of(&self.kinds, entries, replayed)
    }
}

impl<'a> Pricing<'a> {
    pub(crate) fn new(
        question: &'a Question,
        known: &'a RoutingEvidence,
        pattern: Communication,
        stop: &'a Cancel,
    ) -> Self {
        let tried = if paper(question) { Orders::default() } else { Orders::new(question, known) };
        let (layers, orders) =
            if paper(question) { (Vec::new(), None) } else { known.layers(question, &tried) };
        let layers = layers.into();
        let (care, placements, order_plans) = (Care::Searched, OnceLock::new(), Arc::default());
        Self {
            question,
            known,
            pattern,
            stop,
            layers,
            orders,
            tried,
            care,
            placements,
            order_plans,
        }
    }

    /// The full answer.
    pub(crate) fn whole(&self) -> Result<Priced, PricingError> {
        self.priced(true)
    }

    /// The prices with what they may be otherwise by, and `planned` also the plans behind them.
    fn priced(&self, planned: bool) -> Result<Priced, PricingError> {
        let question = self.question;
        if paper(question) {
            return Ok(by_paper(question, self.known));
        }
        let placements = self.placements()?;
        let draws = draws(question.seed, &self.layers, DRAWS);
        let kinds = kinds(question, self.pattern);
        let costs = kinds.iter().map(Kind::costs).collect::<Result<Vec<_>, _>>()?;
        let layers = self.layers_of(&kinds);
        let drawn: Vec<SampledSteps> = costs
            .iter()
            .zip(&layers)
            .map(|(costs, layers)| SampledSteps::new(question, &draws, layers, costs, placements))
            .collect();
        let each =
            kinds.iter().zip(&costs).zip(&drawn).map(|((kind, costs), drawn)| (kind, costs, drawn));
        let analytic = SampledPrices::new(question, Planner::new(question), placements, each);
        let standing = analytic.standing();
        let doubts = |taken: &[(Strategy, usize)], orders: Option<&OrderRange>| {
            let of = |((kind, costs), layers): ((&Kind, &LayerCosts), &Cow<[LayerRouting]>)| {
                let ground = Ground {
                    question: &kind.question,
                    pattern: kind.pattern,
                    costs,
                    layers,
                    placements,
                    taken,
                    plans: &self.order_plans,
                    stop: self.stop,
                };
                let doubts = ground.doubts(orders, uncertainty::WHOLE)?;
                Ok(PricedKind { share: kind.share, costs: costs.clone(), doubts })
            };
            kinds.iter().zip(&costs).zip(&layers).map(of).collect::<Result<Vec<_>, PricingError>>()
        };
        let of_prices = doubts(&standing.taken, self.orders.as_ref())?;
        let mut priced = Priced {
            entries: Vec::new(),
            plans: Vec::new(),
            search: None,
            ceiling: None,
            dense_layer: of_prices.iter().map(|kind| kind.costs.dense_layer * kind.share).sum(),
            bands: widest_bands(of_prices.iter().map(|kind| &kind.costs.bands)),
            kinds: of_prices,
        };
        if !planned {
            priced.entries = self.priceable(analytic.with_predictors(&standing));
            return Ok(priced);
        }
        let tried = analytic.tried();
        let compared = analytic.as_entries(&tried);
        let uncertainty = if compared.len() > 1 && question.duplication.slots_per_device.is_none() {
            let taken: Vec<_> = tried.iter().map(|one| (one.strategy, one.placement)).collect();
            // Which experts are the hot ones is as open with few slots as with many.
            uncertainty_of(&doubts(&taken, None)?, &compared, &[])
        } else {
            Uncertainty::none()
        };
        let band = |fastest: &TriedSlots, one: &TriedSlots| {
            let place = |of: &TriedSlots| tried.iter().position(|t| t.placement == of.placement);
            let gain = place(fastest)
                .zip(place(one))
                .and_then(|(fastest, one)| uncertainty.gain(&compared, fastest, one));
            gain.map_or(0.0, |gain| gain.mid / gain.low - 1.0)
        };
        let loads = (&*self.layers, self.known.loads());
        let analysis = analytic.analyse(&standing, &tried, band, loads);
        priced.entries = self.priceable(analysis.entries);
        (priced.plans, priced.search) = (analysis.plans, analysis.search);
        priced.ceiling = Some(analysis.ceiling);
        Ok(priced)
    }

    /// The strategy chosen, and nothing of the plans.
    pub(crate) fn compared(&self) -> Result<Priced, PricingError> {
        self.priced(false)
    }

    /// The routing of every layer in every kind of step.
    pub(crate) fn layers_of(&self, kinds: &[Kind]) -> Vec<Cow<'_, [LayerRouting]>> {
        let of = |kind: &Kind| self.known.in_step(&kind.question.system.workload, &self.layers);
        kinds.iter().map(of).collect()
    }

    /// Searches no plans with other numbers of slots than these.
    pub(crate) const fn within(&mut self, slots: [u32; 2]) {
        self.care = Care::Within(slots);
    }

    /// Takes over the placements of a pricing that differs in nothing they depend on.
    pub(crate) fn keep_placements(&mut self, other: &Self) {
        self.order_plans = Arc::clone(&other.order_plans);
        if let Some(made) = other.placements.get() {
            self.placements.get_or_init(|| Arc::clone(made));
        }
    }

    /// The placements of the question as it is.
    pub(crate) fn placements(&self) -> Result<&Arc<Placements>, PricingError> {
        if let Some(made) = self.placements.get() {
            return Ok(made);
        }
        let planners = planners(self.question);
        let loads = self.known.loads();
        let made = placements(self.question, &planners, &self.layers, loads, self.care, self.stop)?;
        Ok(self.placements.get_or_init(|| Arc::new(made)))
    }

    /// Latency of a layer as it is placed now, with every expert equally likely: what a run with
    /// forced uniform routing measures.
    pub(crate) fn uniform(&self) -> Result<Option<Seconds>, PricingError> {
        let question = self.question;
        let n_experts = question.system.model.experts.routed as usize;
        let shares = vec![1.0 / n_experts as f64; n_experts];
        if paper(question) {
            let even =
                RoutingEvidence::Scalar { shares, distribution_error: Some(Trend::constant(0.0)) };
            let entries = paper_entries(question, &even);
            return Ok(entries.iter().find(|one| one.strategy == NONE).and_then(Entry::latency));
        }
        let layers = [LayerRouting { forecast: shares.clone(), truth: shares }];
        let in_use = &self.placements()?.all[IN_USE];
        let first: Vec<SlotShares> = in_use.layers.first().cloned().into_iter().collect();
        let of = |kind: &Kind| -> Result<_, PricingError> {
            let costs = kind.costs()?;
            Ok(kept(&kind.question, &costs, &layers, first.clone(), DRAWS) * kind.share)
        };
        Ok(Some(kinds(question, self.pattern).iter().map(of).sum::<Result<_, _>>()?))
    }

    /// The strategy chosen under another communication pattern.
    pub(crate) fn winner_under(&self, pattern: Communication) -> Option<Strategy> {
        // A server's steps may each have another pattern.
        if paper(self.question) || self.question.serving.is_some() {
            return None;
        }
        let Self { question, known, stop, .. } = *self;
        let other = Self::new(question, known, pattern, stop).compared().ok()?;
        Some(other.decided(question, Deciding::Runnable)?.strategy)
    }

    /// The entries that may stand: without counts per expert only the static placement can
    /// be priced.
    pub(crate) fn priceable(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        if let RoutingEvidence::Balancedness { .. } = self.known {
            for entry in entries.iter_mut().filter(|entry| entry.strategy != NONE) {
                entry.infeasible = Some(
                    "no plan can be made from the balance of devices alone; give counts per \
                     expert or a trace"
                        .to_owned(),
                );
                entry.terms = None;
            }
        }
        entries
    }
}

/// Mean latency of these layers, each under a placement that is kept.
pub(crate) fn kept(
    question: &Question,
    costs: &LayerCosts,
    layers: &[LayerRouting],
    placed: Vec<SlotShares>,
    effort: Effort,
) -> Seconds {
    let placements = Placements::of_all(vec![Placement {
        strategy: NONE,
        slots_per_device: 0,
        layers: placed,
        first_moves: 0,
        most_moves: 0.0,
    }]);
    let draws = draws(question.seed, layers, effort);
    let drawn = SampledSteps::new(question, &draws, layers, costs, &placements);
    let routed = mean(&mut drawn.under(&placements), |step| costs.routed(&step.loads[IN_USE]));
    costs.terms(&routed).total()
}

/// Whether the paper's formulas answer.
pub(crate) fn paper(question: &Question) -> bool {
    question.system.assumptions.preset == Preset::Paper
}

/// The answer of the paper's formulas.
fn by_paper(question: &Question, known: &RoutingEvidence) -> Priced {
    let (model, dense_layer) = paper_model(question, known);
    let entries = model.entries(&question.predictors);
    let fastest = choose(question, &entries, &Uncertainty::none()).map(|choice| choice.fastest);
    let ceiling = fastest.map(|fastest| model.ceiling(entries[fastest].strategy).total());
    Priced {
        entries,
        plans: Vec::new(),
        search: None,
        ceiling,
        dense_layer,
        bands: Bands::EXACT,
        kinds: Vec::new(),
    }
}

/// The strategies priced by the paper's formulas.
pub(crate) fn paper_entries(question: &Question, known: &RoutingEvidence) -> Vec<Entry> {
    paper_model(question, known).0.entries(&question.predictors)
}

fn paper_model<'a>(question: &'a Question, known: &RoutingEvidence) -> (Paper<'a>, Seconds) {
    let (layer, dense_layer) = paper_layer(question);
    let assumptions = &question.system.assumptions;
    (Paper { layer, routing: known.paper(), assumptions }, dense_layer)
}
