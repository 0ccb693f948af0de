//! What it costs to keep groups of experts on nodes.
//!
//! Engines plan prefill over several nodes hierarchically: a group of experts, and all its
//! copies, stays on one node. The load of a node is then that of its groups, and no copy can
//! even it out. Both plans, with the rule and without, are made for the same slots and priced
//! on the same drawn steps. What the rule saves between nodes is not priced: the exchange
//! takes a token's experts as independent.

use crate::advice::pricing::Pricing;
use crate::evaluate::sampled_steps::{DRAWS, SampledSteps, draws};
use crate::evaluate::{LayerStep, Steps, mean};
use crate::pricing::candidates::{Care, IN_USE, Placement, Placements, placements};
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::pricing::margin::resolution;
use crate::pricing::planner::{Planner, planners};
use crate::question::{Duplication, Grouping, Question};

/// What the rule costs, where that is more than the error band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupCost {
    /// The rule.
    pub rule: Grouping,
    /// Slots of every device in both plans.
    pub slots_per_device: u32,
    /// Mean over drawn steps and layers of max/mean device load, with the rule.
    pub imbalance: f64,
    /// The same without it.
    pub imbalance_without: f64,
    /// How much longer a layer takes with the rule, relatively.
    pub slower: f64,
}

/// The cost of the rule in plans of so many slots; `None` where there is no rule, or it costs
/// no more than the error band.
pub(crate) fn cost(
    pricing: &Pricing,
    slots_per_device: u32,
) -> Result<Option<GroupCost>, PricingError> {
    let question = pricing.question;
    let rule = Planner::new(question).grouping(slots_per_device);
    if rule == Grouping::None {
        return Ok(None);
    }
    let free = Question {
        duplication: Duplication {
            groups: Some(Grouping::None),
            slots_per_device: Some(slots_per_device),
            ..question.duplication
        },
        ..question.clone()
    };
    let loads = pricing.known.loads();
    let planned =
        placements(&free, &planners(&free), &pricing.layers, loads, Care::Searched, pricing.stop)?;
    let of_slots = |made: &Placements| {
        let planned = made.all.iter().skip(IN_USE + 1);
        let fits = |one: &&Placement| one.slots_per_device == slots_per_device;
        planned.filter(fits).min_by_key(|one| one.strategy).cloned()
    };
    let (Some(ruled), Some(free)) = (of_slots(pricing.placements()?), of_slots(&planned)) else {
        return Ok(None);
    };
    let costs = LayerCosts::of(question, pricing.pattern)?;
    let draws = draws(question.seed, &pricing.layers, DRAWS);
    let both = Placements::of_all(vec![ruled, free]);
    let drawn = SampledSteps::new(question, &draws, &pricing.layers, &costs, &both);
    let steps = || drawn.under(&both);
    let terms =
        |plan: usize| costs.terms(&mean(&mut steps(), |step| costs.routed(&step.loads[plan])));
    let imbalance = |plan: usize| {
        let mut sum = 0.0;
        let of = |step: &LayerStep| step.placed(plan).imbalance(step.counts);
        steps().every(of, |one| sum += one);
        sum / drawn.n_steps() as f64
    };
    let (with, without) = (terms(0), terms(1));
    let slower = with.total() / without.total() - 1.0;
    let preset = question.system.assumptions.preset;
    let band = resolution(&without, &with, &costs.bands, preset);
    Ok((slower > band).then(|| GroupCost {
        rule,
        slots_per_device,
        imbalance: imbalance(0),
        imbalance_without: imbalance(1),
        slower,
    }))
}
