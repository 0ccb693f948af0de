//! From a question to advice: price every strategy, choose, explain, and say where it flips.
//!
//! Reading order: [`known`] (what is known of the routing), [`paper`] and [`analytic`]
//! (two ways of pricing), [`choose`], [`flip`], [`reason`].

pub mod analytic;
mod attention_block;
pub mod choose;
mod curve;
pub mod entry;
pub mod flip;
pub mod known;
pub mod layer;
pub mod loads;
pub mod margin;
pub mod paper;
mod paper_layer;
pub mod plan;
pub mod predictors;
mod pricing;
pub mod reason;
mod references;

use analytic::AnalyticError;
use choose::{Choice, Verdict};
use flip::{Effort, Flip, Parameter};
use known::{Known, OrderRange};
use pricing::Pricing;

use super::engine;
use super::question::Question;
use super::strategy::Strategy;
use super::system::{Communication, Preset};
use super::units::Seconds;

pub use analytic::PlanSummary;
pub use entry::{Bands, Entry, PricedPredictor};
pub use references::Reference;

/// Everything an answer is written from.
#[derive(Debug, Clone)]
pub struct Advised {
    /// Every strategy with its price.
    pub entries: Vec<Entry>,
    /// The choice, if anything can be run.
    pub choice: Option<Choice>,
    /// The plans behind the entries (calibrated mode).
    pub plans: Vec<PlanSummary>,
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

    /// The plan of a strategy.
    #[must_use]
    pub fn plan(&self, strategy: Strategy) -> Option<&PlanSummary> {
        analytic::plan_of(&self.plans, strategy)
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
pub fn advise(question: &Question, known: &Known) -> Result<Advised, AnalyticError> {
    let (pattern, because) = communication(question);
    let mut pricing = Pricing::new(question, known, pattern);
    let priced = pricing.whole()?;
    pricing.vary_best_predictor(&priced.entries);
    let (_, orders) = pricing.layers();
    let mut advised = Advised {
        choice: choose::choose(question, &priced.entries),
        entries: priced.entries,
        plans: priced.plans,
        ceiling: priced.ceiling,
        dense_layer: priced.dense_layer,
        references: references::price(question, &pricing, priced.ceiling),
        flips: Vec::new(),
        other_communication: None,
        communication: (pattern, because),
        orders,
        reason: String::new(),
    };
    advised.flips = flips(question, &pricing);
    advised.other_communication = other_communication(question, known, &advised);
    doubt(question, known, &pricing, &mut advised);
    advised.reason = reason::reason(question, known, &advised);
    Ok(advised)
}

/// Adds what a simulation or its trace knows against an answer.
pub fn doubt_more(advised: &mut Advised, missing: Vec<String>) {
    if let Some(choice) = &mut advised.choice
        && !missing.is_empty()
    {
        choice.missing.extend(missing);
        choice.verdict = Verdict::InsufficientEvidence;
    }
}

/// The communication pattern in force, and why.
fn communication(question: &Question) -> (Communication, String) {
    let choice = engine::defaults::communication(&question.system);
    (choice.pattern, choice.because.to_owned())
}

/// Where the chosen strategy changes, one parameter at a time.
fn flips(question: &Question, pricing: &Pricing) -> Vec<Flip<Strategy>> {
    let experts = &question.system.model.experts;
    let most_skewed = f64::from(experts.routed) / f64::from(experts.top_k);
    let paper = question.system.assumptions.preset == Preset::Paper;
    let effort =
        if paper { Effort { grid: 64, halvings: 60 } } else { Effort { grid: 12, halvings: 12 } };
    Parameter::ALL
        .into_iter()
        .flat_map(|parameter| {
            let range = parameter.range(most_skewed);
            match pricing.now(parameter) {
                Some(now) => {
                    flip::flips(parameter, range, now, effort, |v| pricing.winner(parameter, v))
                }
                None => vec![Flip { parameter, at: None, range }],
            }
        })
        .collect()
}

/// Where no engine is named, the winner under the other likely pattern if it differs.
fn other_communication(
    question: &Question,
    known: &Known,
    advised: &Advised,
) -> Option<(Communication, Strategy)> {
    let other = engine::defaults::communication(&question.system).alternative?;
    let priced = Pricing::new(question, known, other).whole().ok()?;
    let choice = choose::choose(question, &priced.entries)?;
    let winner = priced.entries[choice.chosen].strategy;
    (winner != advised.chosen()?.strategy).then_some((other, winner))
}

/// Whatever could change the answer turns the verdict into `insufficient_evidence`.
fn doubt(question: &Question, known: &Known, pricing: &Pricing, advised: &mut Advised) {
    let mut missing = Vec::new();
    if advised.none().is_some_and(|none| none.infeasible.is_some()) {
        let reason = advised.none().and_then(|none| none.infeasible.clone()).unwrap_or_default();
        for entry in &mut advised.entries {
            entry.infeasible.get_or_insert_with(|| reason.clone());
        }
        missing.push(format!("a deployment that fits: even without any strategy it {reason}"));
    }
    if let Known::Balancedness { .. } = known {
        missing.push(
            "counts per expert: the balance of devices gives the ceiling, but no plan can be made"
                .to_owned(),
        );
    }
    if let (Some(orders), Some(chosen)) = (&advised.orders, advised.chosen()) {
        let changed = pricing.winners_at(orders, chosen.strategy);
        if !changed.is_empty() {
            let names: Vec<&str> = changed.iter().map(|strategy| strategy.id()).collect();
            missing.push(format!(
                "counts per expert: a scalar skewness leaves device imbalance between {:.2} and \
                 {:.2}, and inside that range {} wins as well",
                orders.imbalance[0],
                orders.imbalance[1],
                names.join(" or ")
            ));
        }
    }
    if let (Some(measured), Some(none)) = (question.measured_step, advised.none())
        && let Some(modelled) = advised.model_latency(question, none)
    {
        let ratio = modelled / measured;
        if !(0.5..=2.0).contains(&ratio) {
            missing.push(format!(
                "a model of this deployment: a step is measured at {:.3} ms and modelled at {:.3} \
                 ms; check engine, dtype, parallelism and link",
                measured.get() * 1e3,
                modelled.get() * 1e3
            ));
        }
    }
    if advised.choice.is_none() {
        return;
    }
    doubt_more(advised, missing);
}
