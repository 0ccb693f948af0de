//! From a question to advice: price every strategy, choose, explain, and say where it flips.
//!
//! Reading order: [`routing_evidence`] (what is known of the routing), [`paper`] and [`analytic`]
//! (two ways of pricing), [`choose`], [`sensitivity::flip`], [`explain`].

pub mod analytic;
pub mod baselines;
pub mod choose;
mod evidence;
pub mod explain;
pub mod group_cost;
pub mod paper;
mod paper_layer;
pub(crate) mod pricing;
pub mod routing_evidence;
pub mod sensitivity;
pub mod slot_search;

use analytic::AnalyticError;
use choose::{Choice, Verdict};
use pricing::Pricing;
use routing_evidence::{Known, OrderRange};
use sensitivity::flip::Flip;
use sensitivity::scenario::Scenario;

use crate::cancel::Cancel;
use crate::engines;
use crate::evaluate::Replayed;
use crate::question::Question;
use crate::strategies::Strategy;
use crate::system::Communication;
use crate::units::Seconds;

pub use crate::pricing::entry::{Bands, Entry, PricedPredictor};
pub use analytic::PlanSummary;
pub use baselines::Reference;
pub use pricing::Priced;

/// Everything an answer is written from.
#[derive(Debug, Clone)]
pub struct Advised {
    /// Every strategy with its price.
    pub entries: Vec<Entry>,
    /// The choice, if anything can be run.
    pub choice: Option<Choice>,
    /// The plans behind the entries (calibrated mode).
    pub plans: Vec<PlanSummary>,
    /// The search for the number of slots, where it was left to us.
    pub search: Option<slot_search::SlotSearch>,
    /// What plans for one load are worth on the others, where there are several (calibrated
    /// mode).
    pub transfer: Option<crate::evaluate::transfer::Transfer>,
    /// What it costs to keep groups of experts on nodes, where that is more than the error
    /// band (calibrated mode).
    pub groups: Option<group_cost::GroupCost>,
    /// Layer latency no balancing can beat.
    pub ceiling: Option<Seconds>,
    /// Latency of one dense layer.
    pub dense_layer: Seconds,
    /// What is priced beside the strategies, never chosen.
    pub references: Vec<Reference>,
    /// Where the choice changes.
    pub flips: Vec<Flip<Strategy>>,
    /// Another communication pattern under which another strategy wins.
    pub other_communication: Option<(Communication, Strategy)>,
    /// The communication pattern in force, and why.
    pub communication: (Communication, String),
    /// Device imbalance that a scalar routing leaves open.
    pub orders: Option<OrderRange>,
    /// What speaks against the routing the answer rests on.
    pub doubts: Vec<String>,
    /// One paragraph in plain words.
    pub reason: String,
}

impl Advised {
    /// The chosen entry.
    #[must_use]
    pub fn chosen(&self) -> Option<&Entry> {
        self.choice.as_ref().map(|choice| &self.entries[choice.chosen])
    }

    /// The entry of `none`.
    #[must_use]
    pub fn none(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.strategy == Strategy::None)
    }

    /// The entry of what runs now, where the question says: `none` stands for the stated map
    /// as it is, else the fastest of the stated strategy.
    #[must_use]
    pub fn current(&self, question: &Question) -> Option<&Entry> {
        let current = question.current.as_ref()?;
        if current.physical_to_logical.is_some() {
            return self.none();
        }
        let strategy = current.strategy?;
        let cost = |entry: &&Entry| entry.cost().map_or(f64::INFINITY, Seconds::get);
        self.entries
            .iter()
            .filter(|entry| entry.strategy == strategy)
            .min_by(|a, b| cost(a).total_cmp(&cost(b)))
    }

    /// The plan of a strategy.
    #[must_use]
    pub fn plan(&self, strategy: Strategy) -> Option<&PlanSummary> {
        analytic::plan_of(&self.plans, strategy)
    }

    /// Slots per device of the chosen plan; where none is, of the plan with copies, or
    /// without.
    fn slots_per_device(&self) -> Option<u32> {
        let chosen = self.chosen().map(|entry| entry.strategy);
        [chosen.filter(|strategy| *strategy != Strategy::None)]
            .into_iter()
            .flatten()
            .chain([Strategy::DistributionOnly, Strategy::ReplaceOnly])
            .find_map(|strategy| self.plan(strategy))
            .map(|plan| plan.slots_per_device)
    }

    /// Latency of the whole model in an entry: its mixture-of-experts layers and the dense
    /// ones.
    #[must_use]
    pub fn model_latency(&self, question: &Question, entry: &Entry) -> Option<Seconds> {
        let model = &question.system.model;
        entry.latency().map(|layer| {
            layer * f64::from(model.moe_layers) + self.dense_layer * f64::from(model.dense_layers)
        })
    }
}

/// Advises on a question by formulas on expected and drawn loads.
///
/// `missing` is what speaks against the routing before anything is priced.
pub fn advise(
    question: &Question,
    known: &Known,
    missing: Vec<String>,
    stop: &Cancel,
) -> Result<Advised, AnalyticError> {
    let (pattern, because) = communication(question);
    let pricing = Pricing::new(question, known, pattern, stop);
    let mut priced = pricing.whole()?;
    let scenario = Scenario::new(&pricing, &priced.entries)?;
    sensitivity::serve(&scenario, question, &mut priced.entries);
    let mut advised = Advised {
        choice: choose::choose(question, &priced.entries),
        entries: priced.entries,
        plans: priced.plans,
        search: priced.search,
        transfer: None,
        groups: None,
        ceiling: priced.ceiling,
        dense_layer: priced.dense_layer,
        references: baselines::price(question, &pricing, priced.ceiling),
        flips: Vec::new(),
        other_communication: None,
        communication: (pattern, because),
        orders: pricing.orders.clone(),
        doubts: missing,
        reason: String::new(),
    };
    if let Some(chosen) = advised.chosen() {
        advised.flips = sensitivity::all_flips(&scenario, chosen.strategy)?;
    }
    advised.other_communication = other_communication(question, &pricing, &advised);
    if let Some(slots) = advised.slots_per_device() {
        advised.transfer = crate::evaluate::transfer::transfer(&pricing, slots)?;
        advised.groups = group_cost::cost(&pricing, slots)?;
    }
    advised.doubts.extend(evidence::of_routing(known, &pricing, &advised));
    conclude(question, known, &mut advised);
    Ok(advised)
}

/// Prices every strategy under the question's communication pattern, and no more.
pub fn price(question: &Question, known: &Known, stop: &Cancel) -> Result<Priced, AnalyticError> {
    Pricing::new(question, known, communication(question).0, stop).whole()
}

/// Puts a replay's prices in place of the drawn ones and chooses anew.
pub fn replayed(
    question: &Question,
    known: &Known,
    advised: &mut Advised,
    found: &[Replayed],
    missing: Vec<String>,
    stop: &Cancel,
) -> Result<(), AnalyticError> {
    let drawn = advised.chosen().map(|entry| entry.strategy);
    for replayed in found {
        advised.entries[replayed.entry].reprice(replayed.terms);
    }
    advised.choice = choose::choose(question, &advised.entries);
    let chosen = advised.chosen().map(|entry| entry.strategy);
    if chosen != drawn {
        let pricing = Pricing::new(question, known, advised.communication.0, stop);
        if let Some(chosen) = chosen {
            let scenario = Scenario::new(&pricing, &advised.entries)?;
            advised.flips = sensitivity::all_flips(&scenario, chosen)?;
        }
        if let Some(slots) = advised.slots_per_device() {
            advised.transfer = crate::evaluate::transfer::transfer(&pricing, slots)?;
            advised.groups = group_cost::cost(&pricing, slots)?;
        }
    }
    let latencies = || advised.entries.iter().filter_map(Entry::feasible_latency);
    let fastest = advised.choice.as_ref().map(|choice| choice.fastest);
    let ceiling = found
        .iter()
        .find(|replayed| Some(replayed.entry) == fastest)
        .map(|replayed| latencies().fold(replayed.balanced.total(), Seconds::min));
    advised.ceiling = ceiling.or(advised.ceiling);
    for reference in &mut advised.references {
        reference.rebase(ceiling);
    }
    advised.doubts.extend(missing);
    conclude(question, known, advised);
    Ok(())
}

/// Weighs the doubts and puts the choice into words.
fn conclude(question: &Question, known: &Known, advised: &mut Advised) {
    let doubts = evidence::of_deployment(question, advised);
    if let Some(choice) = &mut advised.choice {
        choice.missing.extend(advised.doubts.iter().cloned().chain(doubts));
        if !choice.missing.is_empty() {
            choice.verdict = Verdict::InsufficientEvidence;
        }
    }
    advised.reason = explain::reason(question, known, advised);
}

/// The communication pattern in force, and why.
#[must_use]
pub fn communication(question: &Question) -> (Communication, String) {
    let choice = engines::defaults::communication(&question.system);
    (choice.pattern, choice.because.to_owned())
}

/// Where no engine is named, the winner under the other likely pattern if it differs.
fn other_communication(
    question: &Question,
    pricing: &Pricing,
    advised: &Advised,
) -> Option<(Communication, Strategy)> {
    let other = engines::defaults::communication(&question.system).alternative?;
    let winner = pricing.winner_under(other)?;
    (winner != advised.chosen()?.strategy).then_some((other, winner))
}
