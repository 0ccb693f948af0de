//! What options of engines are worth beside the chosen strategy.
//!
//! The steps that strategies are priced on are drawn once more under the chosen plan and priced
//! without and with every option, each on its own. The gain is the ratio of the two, with an interval
//! from the doubts of the strategy and from the error band of the option's own overhead.

use crate::advice::pricing::{Priced, Pricing, paper};
use crate::advice::uncertainty::{DoubtedKind, Gain, Uncertainty};
use crate::evaluate::Steps;
use crate::evaluate::prices::plans::plan_of;
use crate::evaluate::sampled_steps::{DRAWS, SampledSteps, draws};
use crate::options::{Balanced, Ground, OptionSupport, ServingOption};
use crate::pricing::candidates::{Placement, Placements};
use crate::pricing::entry::Entry;
use crate::pricing::kinds::{Kind, kinds, mean_terms};
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::pricing::routing_evidence::RoutingEvidence;
use crate::strategies::Strategy;
use crate::terms::Terms;
use crate::units::Seconds;

/// An option with its price.
#[derive(Debug, Clone)]
pub struct PricedOption {
    /// The option.
    pub option: &'static ServingOption,
    /// What engines can do with it.
    pub support: Vec<OptionSupport>,
    /// What it is worth, or why that cannot be said.
    pub price: Result<OptionPrice, String>,
}

/// What an option is worth under a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionPrice {
    /// Latency of a layer without it and with it.
    pub layer: [Seconds; 2],
    /// What it adds to a layer whatever it balances.
    pub overhead: Seconds,
    /// Work of the busiest device over the mean of the routed work, without it and with it.
    pub busiest: [f64; 2],
    /// Layer latency without it over that with it.
    pub gain: Gain,
}

impl PricedOption {
    /// Whether even the least that it may gain is a gain.
    #[must_use]
    pub fn gains_surely(&self) -> bool {
        self.price.as_ref().is_ok_and(|price| price.gain.is_sure())
    }
}

/// A kind of step with its laws and drawn steps.
struct DrawnKind<'a> {
    kind: &'a Kind<'a>,
    costs: &'a LayerCosts,
    drawn: SampledSteps,
}

/// Every option under the plan of the chosen strategy; none where nothing is chosen, or where the
/// paper's formulas answer, which know of none.
pub(crate) fn price(
    pricing: &Pricing,
    sampled: &Priced,
    chosen: Option<Strategy>,
) -> Vec<PricedOption> {
    let Some(strategy) = chosen.filter(|_| !paper(pricing.question)) else { return Vec::new() };
    let system = &pricing.question.system;
    let kinds = kinds(pricing.question, pricing.pattern);
    let patterns: Vec<_> = kinds.iter().map(|kind| kind.pattern).collect();
    let plan = plan_of(&sampled.plans, strategy);
    let unknown = match (pricing.known, plan) {
        (RoutingEvidence::Balancedness { .. }, _) => {
            Some("the balance of devices alone says nothing of the tokens of experts".to_owned())
        }
        _ if strategy.forecasts_tokens() => Some(format!(
            "{} plans every step anew: what is left to balance is not priced",
            strategy.id()
        )),
        (_, None) => Some(format!("{} has no plan", strategy.id())),
        _ => None,
    };
    let planner = Planner::new(pricing.question);
    let maps = plan.iter().flat_map(|plan| &plan.layers).cycle();
    let placed = maps.zip(pricing.layers.iter());
    let placements = Placements::of_all(vec![Placement {
        strategy,
        slots_per_device: plan.map_or(0, |plan| plan.slots_per_device),
        layers: placed.map(|(map, layer)| planner.placed(map.clone(), &layer.forecast)).collect(),
        first_moves: 0,
        most_moves: 0.0,
    }]);
    let draws = draws(pricing.question.seed, &pricing.layers, DRAWS);
    let mut drawn = Vec::new();
    if unknown.is_none() {
        let each = kinds.iter().zip(&sampled.kinds).zip(pricing.layers_of(&kinds));
        drawn.extend(each.map(|((kind, priced), layers)| DrawnKind {
            kind,
            costs: &priced.costs,
            drawn: SampledSteps::new(pricing.question, &draws, &layers, &priced.costs, &placements),
        }));
    }
    let rebalance = match plan.filter(|_| strategy.renews()) {
        Some(plan) => plan.renewal.per_layer_and_step(system).time,
        None => Seconds::ZERO,
    };
    let of = |option: &&'static ServingOption| {
        let price = match unknown.clone().or_else(|| (option.obstacle)(system, &patterns)) {
            Some(why) => Err(why),
            None => Ok(of_option(option, strategy, rebalance, (&drawn, &placements, sampled))),
        };
        PricedOption { option, support: option.support(system), price }
    };
    pricing.question.options.iter().map(of).collect()
}

fn of_option(
    option: &ServingOption,
    strategy: Strategy,
    rebalance: Seconds,
    (drawn, placements, sampled): (&[DrawnKind], &Placements, &Priced),
) -> OptionPrice {
    let mut busiest = [0.0; 2];
    let mut overhead = Seconds::ZERO;
    let mut by_kind = [Vec::new(), Vec::new()];
    for DrawnKind { kind, costs, drawn } in drawn {
        let ground = Ground { system: &kind.question.system, costs };
        let (mut off, mut on, mut n) = (Routed::default(), Routed::default(), 0.0);
        let mut loads = [0.0; 2];
        let balance = |step: &crate::evaluate::LayerStep| {
            let placed = step.placed(0);
            (costs.routed(&step.loads[0]), (option.balance)(&ground, placed, step.counts))
        };
        drawn.under(placements).every(balance, |(without, with): (Routed, Balanced)| {
            off += without;
            on += with.routed;
            loads[0] += with.busiest[0];
            loads[1] += with.busiest[1];
            n += 1.0;
        });
        let added = (option.overhead)(ground.system) * costs.halves;
        let terms = |routed: Routed, added: Seconds| {
            let terms = costs.terms(&routed.scaled(1.0 / n));
            Terms { rebalance, router: terms.router + added, ..terms }
        };
        by_kind[0].push(terms(off, Seconds::ZERO));
        by_kind[1].push(terms(on, added));
        overhead += added * kind.share;
        for (sum, load) in busiest.iter_mut().zip(loads) {
            *sum += kind.share * load / n;
        }
    }
    let entries = by_kind.map(|by_kind| {
        let shares = drawn.iter().map(|one| one.kind.share);
        Entry {
            strategy,
            predictor: None,
            placement: None,
            infeasible: None,
            terms: Some(mean_terms(shares.zip(by_kind.iter().copied()))),
            by_kind: if by_kind.len() > 1 { by_kind } else { Vec::new() },
            served: None,
        }
    });
    let layer = [0, 1].map(|at: usize| entries[at].latency().unwrap_or_default());
    let kinds: Vec<DoubtedKind> = sampled.kinds.iter().map(|kind| kind.doubted()).collect();
    let off_by = |times: f64| {
        let added = overhead * (option.overhead_band * times);
        vec![0.0, ((layer[1] + added) / layer[1]).ln()]
    };
    let uncertainty = Uncertainty::new(&entries, &kinds, &[])
        .with("overhead_of_option", vec![off_by(-1.0), off_by(1.0)]);
    let mid = layer[0] / layer[1];
    let gain = uncertainty.gain(&entries, 1, 0).unwrap_or(Gain { low: mid, mid, high: mid });
    OptionPrice { layer, overhead, busiest, gain }
}
