//! One way to price a question whatever the preset.

use std::sync::{Arc, OnceLock};

use crate::advice::choose::winner;
use crate::cancel::Cancel;
use crate::evaluate::PlanSummary;
use crate::evaluate::prices::SampledPrices;
use crate::evaluate::sampled_steps::{DRAWS, Effort, SampledSteps, draws};
use crate::evaluate::slot_search::SlotSearch;
use crate::pricing::candidates::{Care, Placements, placements};
use crate::pricing::entry::Entry;
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::pricing::paper::Paper;
use crate::pricing::paper_layer::paper_layer;
use crate::pricing::planner::Planner;
use crate::pricing::routing_evidence::{OrderRange, Orders, RoutingEvidence};
use crate::question::Question;
use crate::routing::LayerRouting;
use crate::strategies::{self, Strategy};
use crate::system::{Communication, Preset};
use crate::units::Seconds;

/// On this it is seen whether the answer would be another one in another case.
const SIDE_DRAWS: Effort = Effort { steps: 32, per_layer: 2 };

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
        Ok(Priced {
            entries: self.priceable(analysis.entries),
            plans: analysis.plans,
            search: analysis.search,
            ceiling: Some(analysis.ceiling),
            dense_layer: costs.dense_layer,
        })
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

    /// The strategies chosen and fastest under another pattern or with other routing.
    fn winner_if(
        &self,
        pattern: Communication,
        layers: &[LayerRouting],
    ) -> Result<Option<(Strategy, Strategy)>, PricingError> {
        let question = self.question;
        let costs = LayerCosts::of(question, pattern)?;
        let planner = Planner::new(question);
        let loads = self.known.loads();
        let placements = placements(question, &planner, layers, loads, Care::Quick, self.stop)?;
        let draws = draws(question.seed, layers, SIDE_DRAWS);
        let drawn = SampledSteps::new(question, &draws, layers, &costs, &placements);
        let prices = SampledPrices::new(question, planner, &costs, &placements, &drawn).price();
        Ok(winner(question, &self.priceable(prices)))
    }

    /// The strategy chosen under another communication pattern.
    pub(crate) fn winner_under(&self, pattern: Communication) -> Option<Strategy> {
        if paper(self.question) {
            return None;
        }
        self.winner_if(pattern, &self.layers).ok().flatten().map(|(chosen, _)| chosen)
    }

    /// Strategies other than `chosen` that win by more than the error band at the ends of
    /// the range of orders.
    pub(crate) fn winners_at(&self, orders: &OrderRange, chosen: Strategy) -> Vec<Strategy> {
        let mut winners = Vec::new();
        for layer in &orders.layers {
            let found = self.winner_if(self.pattern, std::slice::from_ref(layer));
            let Ok(Some((winner, fastest))) = found else { continue };
            // Where both are equals within the band, nothing contradicts the choice.
            if winner != chosen && fastest != chosen && !winners.contains(&winner) {
                winners.push(winner);
            }
        }
        winners
    }

    /// The entries that may stand: without counts per expert only the static placement can
    /// be priced.
    pub(crate) fn priceable(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        if let RoutingEvidence::Balancedness { .. } = self.known {
            for entry in entries.iter_mut().filter(|entry| entry.strategy != strategies::NONE) {
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

/// Whether the paper's formulas answer.
pub(crate) fn paper(question: &Question) -> bool {
    question.system.assumptions.preset == Preset::Paper
}

/// The answer of the paper's formulas.
fn by_paper(question: &Question, known: &RoutingEvidence) -> Priced {
    let (model, dense_layer) = paper_model(question, known);
    let entries = model.entries(&question.predictors);
    let ceiling = winner(question, &entries).map(|(_, fastest)| model.ceiling(fastest).total());
    Priced { entries, plans: Vec::new(), search: None, ceiling, dense_layer }
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
