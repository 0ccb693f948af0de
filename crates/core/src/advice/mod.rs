//! From a question to advice: price every strategy, choose, explain, and say where it flips.
//!
//! Reading order: [`advise`], [`choose`], [`sensitivity`], [`explain`]. What is priced stands in
//! [`pricing`](crate::pricing), [`strategies`](crate::strategies) and
//! [`evaluate`](crate::evaluate).

pub mod baselines;
pub mod choose;
mod evidence;
pub mod explain;
pub mod group_cost;
pub mod layouts;
pub mod option_prices;
pub(crate) mod pricing;
pub mod sensitivity;
pub mod trial;
pub mod uncertainty;

use baselines::Reference;
use choose::Choice;
use group_cost::GroupCost;
use layouts::Layout;
use option_prices::PricedOption;
use pricing::Pricing;
use sensitivity::flip::Flip;
use sensitivity::scenario::Scenario;
use uncertainty::{Gain, Uncertainty, is_assumed};

use crate::cancel::Cancel;
use crate::engines;
use crate::evaluate::Step;
use crate::evaluate::prices::plans::plan_of;
use crate::evaluate::replay::{Foreseen, Replayed, Simulator};
use crate::evaluate::slot_search::SlotSearch;
use crate::evaluate::transfer::{self, SeveralLoads, Transfer};
use crate::evaluate::transfer_replay::TransferReplay;
use crate::pricing::candidates::IN_USE;
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::pricing::routing_evidence::{OrderRange, RoutingEvidence};
use crate::question::Question;
use crate::serving::{ServedStep, ServerTimes, StepKind};
use crate::strategies::{LIST, NONE, Strategy};
use crate::system::{Communication, CopyOverlap, Preset};
use crate::units::Seconds;

pub use crate::evaluate::PlanSummary;
pub use crate::pricing::entry::{Bands, Entry, PricedPredictor};
pub use pricing::Priced;

/// Everything an answer is written from.
#[derive(Debug, Clone)]
pub struct Advised {
    /// Every strategy with its price.
    pub entries: Vec<Entry>,
    /// How far each term can be trusted.
    pub bands: Bands,
    /// How far the comparison of two entries can be trusted.
    pub uncertainty: Uncertainty,
    /// The choice, if anything can be run.
    pub choice: Option<Choice>,
    /// The plans behind the entries (calibrated mode).
    pub plans: Vec<PlanSummary>,
    /// The search for the number of slots, where it was left to us.
    pub search: Option<SlotSearch>,
    /// What plans for one load are worth on the others, where there are several (calibrated
    /// mode).
    pub transfer: Option<Transfer>,
    /// What it costs to keep groups of experts on nodes, where that is more than the error
    /// band (calibrated mode).
    pub groups: Option<GroupCost>,
    /// Layer latency no balancing can beat.
    pub ceiling: Option<Seconds>,
    /// Layer latency as placed now, were every expert equally likely.
    pub uniform: Option<Seconds>,
    /// Latency of one dense layer.
    pub dense_layer: Seconds,
    /// The steps of the question's server; empty where it asks about one kind of step.
    pub steps: Vec<AdvisedStep>,
    /// What is priced beside the strategies, never chosen.
    pub references: Vec<Reference>,
    /// Other layouts of the same devices, those that fit first, the fastest first (calibrated mode).
    pub layouts: Vec<Layout>,
    /// Options of engines, each off and on under the chosen strategy (calibrated mode).
    pub options: Vec<PricedOption>,
    /// Where the choice changes.
    pub flips: Vec<Flip<Strategy>>,
    /// Where copies of experts begin or cease to hide behind attention, if they run beside it: what
    /// they are now (true for hidden) and what they become.
    pub copies: Vec<(bool, Flip<bool>)>,
    /// Another communication pattern under which another strategy wins.
    pub other_communication: Option<(Communication, Strategy)>,
    /// The communication pattern in force, and why.
    pub communication: (Communication, String),
    /// Device imbalance that a scalar routing leaves open.
    pub orders: Option<OrderRange>,
    /// What the replay found, where there were recorded steps.
    pub replayed: Vec<Replayed>,
    /// What speaks against the routing the answer rests on.
    pub missing_evidence: Vec<String>,
}

/// A kind of step of a server.
#[derive(Debug, Clone, Copy)]
pub struct AdvisedStep {
    /// Its share of all steps.
    pub share: f64,
    /// What it computes, and how often.
    pub step: ServedStep,
    /// Latency of one dense layer in it.
    pub dense_layer: Seconds,
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
        self.entries.iter().find(|entry| entry.strategy == NONE)
    }

    /// The entry of what runs now, where the question says.
    #[must_use]
    pub fn current(&self, question: &Question) -> Option<&Entry> {
        question.current.as_ref()?;
        choose::baseline(question, &self.entries).map(|index| &self.entries[index])
    }

    /// What an entry gains over the baseline; `None` where it has no price, or rests on a predictor
    /// that nobody has measured.
    #[must_use]
    pub fn gain(&self, question: &Question, entry: usize) -> Option<Gain> {
        if question.system.assumptions.preset == Preset::Calibrated
            && is_assumed(&self.entries[entry])
        {
            return None;
        }
        let baseline = choose::baseline(question, &self.entries)?;
        self.uncertainty.gain(&self.entries, entry, baseline)
    }

    /// What the replay found of an entry.
    #[must_use]
    pub fn replayed(&self, entry: usize) -> Option<&Replayed> {
        self.replayed.iter().find(|found| found.entry == entry)
    }

    /// The plan of a strategy.
    #[must_use]
    pub fn plan(&self, strategy: Strategy) -> Option<&PlanSummary> {
        plan_of(&self.plans, strategy)
    }

    /// Latency of the whole model in an entry: its mixture-of-experts layers and the dense
    /// ones.
    #[must_use]
    pub fn model_latency(&self, question: &Question, entry: &Entry) -> Option<Seconds> {
        entry.model_latency(question, self.dense_layer)
    }

    /// The same in every kind of step of a server; empty where the entry has no price.
    #[must_use]
    pub fn step_latencies(&self, question: &Question, entry: &Entry) -> Vec<Seconds> {
        let of = |(kind, step): (usize, &AdvisedStep)| {
            let layer = entry.in_kind(kind)?.total();
            Some(question.whole_step(layer, step.dense_layer))
        };
        self.steps.iter().enumerate().map(of).collect::<Option<_>>().unwrap_or_default()
    }

    /// What an entry gives the users of a server; `None` where it has no price.
    #[must_use]
    pub fn server(&self, question: &Question, entry: &Entry) -> Option<ServerTimes> {
        let times = self.step_latencies(question, entry);
        let steps: Vec<ServedStep> = self.steps.iter().map(|one| one.step).collect();
        let serving = question.serving.filter(|_| !times.is_empty())?;
        Some(serving.times(&steps, &times))
    }

    /// By what every kind of step of a server gains, of one entry over another.
    #[must_use]
    pub fn gains_of_steps(&self, one: &Entry, over: &Entry) -> Vec<(StepKind, f64)> {
        let gain = |(kind, step): (usize, &AdvisedStep)| {
            Some((step.step.kind, over.in_kind(kind)?.total() / one.in_kind(kind)?.total()))
        };
        self.steps.iter().enumerate().filter_map(gain).collect()
    }
}

/// The recorded steps of a question, served from the first to the last as often as asked.
pub trait Recorded {
    /// What may go wrong.
    type Error: From<PricingError>;

    /// Tokens per expert of the planning part of every load, `[load][layer][expert]`.
    fn planned(&self) -> &[Vec<Vec<f64>>];

    /// Shows all steps, some at a time, with what fitted predictors foresee of them.
    fn serve(&mut self, see: &mut dyn FnMut(&[Step], &[Foreseen])) -> Result<(), Self::Error>;

    /// What speaks against relying on the steps, once they were served.
    fn missing_evidence(&self) -> Vec<String>;
}

/// No recorded steps: the strategies are priced on sampled ones alone.
#[derive(Debug, Clone, Copy)]
pub enum Unrecorded {}

impl Recorded for Unrecorded {
    type Error = PricingError;

    fn planned(&self) -> &[Vec<Vec<f64>>] {
        match *self {}
    }

    fn serve(&mut self, _: &mut dyn FnMut(&[Step], &[Foreseen])) -> Result<(), PricingError> {
        match *self {}
    }

    fn missing_evidence(&self) -> Vec<String> {
        match *self {}
    }
}

/// Advises on a question: prices every strategy on sampled steps, and on the recorded ones where
/// there are any, and chooses.
///
/// `missing` is what speaks against the routing before anything is priced.
pub fn advise<R: Recorded>(
    question: &Question,
    known: &RoutingEvidence,
    missing: Vec<String>,
    mut recorded: Option<&mut R>,
    stop: &Cancel,
) -> Result<Advised, R::Error> {
    let (pattern, because) = communication(question);
    let pricing = Pricing::new(question, known, pattern, stop);
    let mut sampled = pricing.whole()?;
    let scenario = Scenario::new(&pricing, &sampled.entries)?;
    sensitivity::serve(&scenario, question, &mut sampled.entries);
    evidence::none_fits_or_nothing(&mut sampled.entries);
    let uncertainty = sampled.uncertainty(&sampled.entries, &[]);
    let choice = choose::choose(question, &sampled.entries, &uncertainty);
    let on_samples = choice.map(|choice| sampled.entries[choice.chosen].strategy);
    let mut flips = match on_samples.filter(|_| question.flip_points) {
        Some(chosen) => sensitivity::all_flips(&scenario, chosen)?,
        None => Vec::new(),
    };
    let hides = question.system.assumptions.copy_overlap == CopyOverlap::Attention;
    let copies = if hides && question.flip_points {
        sensitivity::copies::thresholds(&scenario, pattern)
    } else {
        Vec::new()
    };
    let mut missing_evidence = missing;

    let mut entries = sampled.entries.clone();
    let mut replayed = Vec::new();
    if let Some(recorded) = recorded.as_deref_mut() {
        replayed = replay(question, pattern, &entries, &sampled.plans, recorded)?;
        for found in &replayed {
            entries[found.entry].reprice(found.terms);
        }
        missing_evidence.extend(recorded.missing_evidence());
    }
    let uncertainty = sampled.uncertainty(&entries, &replayed);
    let mut choice = choose::choose(question, &entries, &uncertainty);
    let is_open = |without: &[&str]| {
        let uncertainty = uncertainty.without(without);
        choose::choose(question, &entries, &uncertainty).is_some_and(|choice| choice.is_open)
    };
    missing_evidence.extend(evidence::of_routing(known, pricing.orders.as_ref(), is_open));
    let chosen = choice.as_ref().map(|choice| entries[choice.chosen].strategy);
    // Values are searched on sampled steps: where recorded ones advise otherwise they say nothing.
    if chosen != on_samples {
        flips.clear();
    }
    let replayed_ceiling = ceiling(choice.as_ref(), &entries, &replayed);
    let ceiling = replayed_ceiling.or(sampled.ceiling);
    let (mut transfer, mut groups) = (None, None);
    if let Some(slots) = slots_per_device(chosen, &sampled.plans) {
        transfer = transferred(&pricing, slots)?;
        groups = group_cost::cost(&pricing, slots)?;
    }
    if let (Some(transfer), Some(recorded)) = (&mut transfer, recorded) {
        let held = TransferReplay::new(question, pattern, transfer);
        let mut held = held.ok_or(PricingError::NoProfile)?;
        recorded.serve(&mut |steps, _| held.replay(steps))?;
        held.finish(transfer);
    }

    let deployment = evidence::of_deployment(question, &entries, sampled.dense_layer);
    if let Some(choice) = &mut choice {
        choice.weigh(missing_evidence.iter().cloned().chain(deployment));
    }
    let options = option_prices::price(&pricing, &sampled, chosen);
    let mut layouts = match question.system.assumptions.preset {
        Preset::Paper => Vec::new(),
        Preset::Calibrated => layouts::all(question, &pricing),
    };
    let references = baselines::price(question, &layouts, ceiling);
    layouts.retain(|one| one.parallelism != question.system.parallelism);
    Ok(Advised {
        references,
        layouts,
        options,
        other_communication: other_communication(question, &pricing, on_samples),
        orders: pricing.orders.clone(),
        uniform: pricing.uniform()?,
        communication: (pattern, because),
        dense_layer: sampled.dense_layer,
        steps: sampled.steps(question),
        bands: sampled.bands,
        uncertainty,
        plans: sampled.plans,
        search: sampled.search,
        entries,
        choice,
        transfer,
        groups,
        ceiling,
        flips,
        copies,
        replayed,
        missing_evidence,
    })
}

/// Replays recorded steps under every strategy.
fn replay<R: Recorded>(
    question: &Question,
    pattern: Communication,
    entries: &[Entry],
    plans: &[PlanSummary],
    recorded: &mut R,
) -> Result<Vec<Replayed>, R::Error> {
    let simulator = Simulator::new(question, pattern, entries, plans, recorded.planned())
        .map_err(PricingError::from)?;
    let mut simulator = simulator.ok_or(PricingError::NoProfile)?;
    recorded.serve(&mut |steps, foreseen| simulator.replay(steps, foreseen))?;
    Ok(simulator.finish().unwrap_or_default())
}

/// Layer latency no balancing can beat on recorded steps: that of the fastest strategy with every
/// device taking the mean, never above any entry.
fn ceiling(choice: Option<&Choice>, entries: &[Entry], replayed: &[Replayed]) -> Option<Seconds> {
    let fastest = choice?.fastest;
    let of_fastest = replayed.iter().find(|found| found.entry == fastest)?;
    let latencies = entries.iter().filter_map(Entry::feasible_latency);
    Some(latencies.fold(of_fastest.balanced.total(), Seconds::min))
}

/// Slots per device of the chosen plan; where none is, of the one that does most.
fn slots_per_device(chosen: Option<Strategy>, plans: &[PlanSummary]) -> Option<u32> {
    let chosen = chosen.filter(|strategy| *strategy != NONE);
    let others = LIST.iter().rev().copied().filter(|strategy| *strategy != NONE);
    let mut looked_at = chosen.into_iter().chain(others);
    looked_at.find_map(|strategy| plan_of(plans, strategy)).map(|plan| plan.slots_per_device)
}

/// What plans for one load are worth on the others, where there are several.
fn transferred(pricing: &Pricing, slots: u32) -> Result<Option<Transfer>, PricingError> {
    let RoutingEvidence::Several(loads) = pricing.known else { return Ok(None) };
    let costs = &LayerCosts::of(pricing.question, pricing.pattern)?;
    let in_use = &pricing.placements()?.all[IN_USE];
    let Pricing { question, stop, .. } = *pricing;
    transfer::transfer(&SeveralLoads { question, costs, routing: loads, in_use, stop }, slots)
}

/// Prices every strategy under the question's communication pattern, and no more.
pub fn price(
    question: &Question,
    known: &RoutingEvidence,
    stop: &Cancel,
) -> Result<Priced, PricingError> {
    Pricing::new(question, known, communication(question).0, stop).whole()
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
    chosen: Option<Strategy>,
) -> Option<(Communication, Strategy)> {
    let other = engines::defaults::communication(&question.system).alternative?;
    let winner = pricing.winner_under(other)?;
    (winner != chosen?).then_some((other, winner))
}
