//! One way to price a question whatever the preset.

use std::sync::{Arc, OnceLock};

use crate::advice::choose::{Decided, Deciding, choose, decided};
use crate::advice::uncertainty::{self, Doubt, Ground, Uncertainty};
use crate::cancel::Cancel;
use crate::evaluate::prices::SampledPrices;
use crate::evaluate::replay::Replayed;
use crate::evaluate::sampled_steps::{DRAWS, Effort, SampledSteps, draws};
use crate::evaluate::slot_search::SlotSearch;
use crate::evaluate::{PlanSummary, mean};
use crate::pricing::candidates::{Care, IN_USE, Placement, Placements, placements};
use crate::pricing::entry::{Bands, Entry};
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::pricing::paper::Paper;
use crate::pricing::paper_layer::paper_layer;
use crate::pricing::planner::Planner;
use crate::pricing::routing_evidence::{OrderRange, Orders, RoutingEvidence};
use crate::pricing::slot_shares::SlotShares;
use crate::question::Question;
use crate::routing::LayerRouting;
use crate::strategies::{NONE, Strategy};
use crate::system::{Communication, Preset};
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
    /// The placements of the question as it is, once they are made.
    placements: OnceLock<Arc<Placements>>,
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
    /// What the laws may be otherwise by.
    pub(crate) doubts: Vec<Doubt>,
    /// The laws of the layer; none in paper mode.
    pub(crate) costs: Option<LayerCosts>,
}

impl Priced {
    /// The strategy chosen among all that are allowed, whoever can run them, or among those that
    /// can be run.
    #[must_use]
    pub fn decided(&self, question: &Question, who: Deciding) -> Option<Decided> {
        decided(question, &self.entries, &self.uncertainty(&self.entries, &[]), who)
    }

    /// What the prices may be otherwise by: on sampled steps, or with what was replayed.
    pub(crate) fn uncertainty(&self, entries: &[Entry], replayed: &[Replayed]) -> Uncertainty {
        self.costs.as_ref().map_or_else(Uncertainty::none, |costs| {
            Uncertainty::new(entries, costs, self.doubts.iter(), replayed)
        })
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
        Self { question, known, pattern, stop, layers, orders, tried, placements: OnceLock::new() }
    }

    /// The full answer.
    pub(crate) fn whole(&self) -> Result<Priced, PricingError> {
        let question = self.question;
        if paper(question) {
            return Ok(by_paper(question, self.known));
        }
        let costs = LayerCosts::of(question, self.pattern)?;
        let planner = Planner::new(question);
        let placements = self.placements()?;
        let draws = draws(question.seed, &self.layers, DRAWS);
        let drawn = SampledSteps::new(question, &draws, &self.layers, &costs, placements);
        let analytic = SampledPrices::new(question, planner, &costs, placements, &drawn);
        let analysis = analytic.analyse(&self.layers, self.known.loads());
        let ground = Ground {
            question,
            pattern: self.pattern,
            costs: &costs,
            layers: &self.layers,
            placements,
            taken: &analysis.taken,
            stop: self.stop,
        };
        let orders = self.orders.as_ref();
        let plans = orders.map(|orders| ground.order_plans(orders)).transpose()?;
        let doubts = ground.doubts(orders.zip(plans.as_deref()), uncertainty::WHOLE);
        Ok(Priced {
            entries: self.priceable(analysis.entries),
            plans: analysis.plans,
            search: analysis.search,
            ceiling: Some(analysis.ceiling),
            dense_layer: costs.dense_layer,
            bands: costs.bands,
            doubts,
            costs: Some(costs),
        })
    }

    /// Takes over the placements of a pricing that differs in nothing they depend on.
    pub(crate) fn keep_placements(&self, other: &Self) {
        if let Some(made) = other.placements.get() {
            self.placements.get_or_init(|| Arc::clone(made));
        }
    }

    /// The placements of the question as it is.
    pub(crate) fn placements(&self) -> Result<&Arc<Placements>, PricingError> {
        if let Some(made) = self.placements.get() {
            return Ok(made);
        }
        let planner = Planner::new(self.question);
        let loads = self.known.loads();
        let care = Care::Searched;
        let made = placements(self.question, &planner, &self.layers, loads, care, self.stop)?;
        Ok(self.placements.get_or_init(|| Arc::new(made)))
    }

    /// Latency of a layer as it is placed now, with every expert equally likely: what a run with
    /// forced uniform routing measures.
    pub(crate) fn uniform(&self) -> Result<Option<Seconds>, PricingError> {
        let question = self.question;
        let n_experts = question.system.model.experts.routed as usize;
        let shares = vec![1.0 / n_experts as f64; n_experts];
        if paper(question) {
            let even = RoutingEvidence::Scalar { shares, distribution_error: Some(0.0) };
            let entries = paper_entries(question, &even);
            return Ok(entries.iter().find(|one| one.strategy == NONE).and_then(Entry::latency));
        }
        let layers = [LayerRouting { forecast: shares.clone(), truth: shares }];
        let costs = LayerCosts::of(question, self.pattern)?;
        let in_use = &self.placements()?.all[IN_USE];
        let placed = in_use.layers.first().cloned().into_iter().collect();
        Ok(Some(kept(question, &costs, &layers, placed, DRAWS)))
    }

    /// The strategy chosen under another communication pattern.
    pub(crate) fn winner_under(&self, pattern: Communication) -> Option<Strategy> {
        if paper(self.question) {
            return None;
        }
        let Self { question, known, stop, .. } = *self;
        let other = Self::new(question, known, pattern, stop).whole().ok()?;
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
        doubts: Vec::new(),
        costs: None,
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
