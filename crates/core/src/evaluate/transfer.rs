//! What a plan made for one load is worth on the others.
//!
//! Every load's own plan, and the plan made for the worst of all, is scored on the part held
//! out of every load: busiest device over mean of the whole part, the mean of that over
//! steps, and the latency of a layer. Steps are drawn from the part's shares, or, where they
//! were recorded, replayed ([`Held`](crate::evaluate::transfer_replay::Held)). A plan is loaded
//! once here: no renewal is in it, so that what differs is the load alone.

use crate::advice::analytic::AnalyticError;
use crate::advice::pricing::{DRAWS, Pricing, costs};
use crate::advice::routing_evidence::Known;
use crate::evaluate::sampled_steps::{Drawn, draws};
use crate::placement::SlotMap;
use crate::pricing::candidates::{IN_USE, Placement, Placements, each_layer};
use crate::pricing::layer::Routed;
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::Placed;
use crate::routing::LayerRouting;
use crate::strategies::DISTRIBUTION_ONLY;
use crate::units::Seconds;

/// What one plan does to one load.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OnLoad {
    /// max/mean device load of the whole planning part, mean over layers.
    pub planned: f64,
    /// The same of the whole held-out part.
    pub imbalance: f64,
    /// Mean over steps and layers of a step's max/mean.
    pub step_imbalance: f64,
    /// Latency of one layer.
    pub latency: Seconds,
}

/// A plan on every load.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// max/mean device load on the part it was planned on, mean over layers; for a plan for
    /// several loads the worst of them.
    pub in_sample: f64,
    /// On the held-out part of every load.
    pub on: Vec<OnLoad>,
    /// The plan of every layer, load after load.
    pub layers: Vec<Placed>,
}

/// The transfer of plans between loads.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// Slots of every device in all plans.
    pub slots_per_device: u32,
    /// Recorded steps of every load that the plans were scored on; drawn ones if absent.
    pub replayed_steps: Option<Vec<u64>>,
    /// The placement in use.
    pub none: Scored,
    /// The plan of every load, in their order.
    pub own: Vec<Scored>,
    /// The plan for the worst of the loads.
    pub worst_case: Scored,
}

impl Transfer {
    /// Every plan: the placement in use, those of single loads, the one for all.
    pub fn plans(&self) -> impl Iterator<Item = &Scored> {
        [&self.none].into_iter().chain(&self.own).chain([&self.worst_case])
    }

    /// The same, to be scored anew.
    pub fn plans_mut(&mut self) -> impl Iterator<Item = &mut Scored> {
        [&mut self.none].into_iter().chain(&mut self.own).chain([&mut self.worst_case])
    }

    /// Loads on which a plan makes a layer slower than the placement in use.
    #[must_use]
    pub fn worse_than_none(&self, plan: &Scored) -> Vec<usize> {
        let slower = |(plan, none): (&OnLoad, &OnLoad)| plan.latency > none.latency;
        let pairs = plan.on.iter().zip(&self.none.on).map(slower);
        pairs.enumerate().filter(|(_, slower)| *slower).map(|(load, _)| load).collect()
    }
}

/// Scores plans of so many slots on every load; `None` where there is only one.
pub(crate) fn transfer(
    pricing: &Pricing,
    slots_per_device: u32,
) -> Result<Option<Transfer>, AnalyticError> {
    let (Known::Several(loads), question) = (pricing.known, pricing.question) else {
        return Ok(None);
    };
    let planner = Planner::new(question);
    let in_use = &pricing.placements()?.all[IN_USE];
    let n_layers = pricing.layers.len() / loads.len();
    let plan_for = |which: &[&Vec<LayerRouting>]| -> Result<Placement, AnalyticError> {
        let plan = |layer: usize| {
            let shares: Vec<&[f64]> =
                which.iter().map(|load| load[layer].forecast.as_slice()).collect();
            planner.plan_for_worst(&in_use.layers[layer].map, &shares, slots_per_device)
        };
        let maps: Vec<SlotMap> =
            each_layer(n_layers, plan).into_iter().collect::<Result<_, _>>()?;
        let placed =
            |(map, layer): (&SlotMap, &LayerRouting)| planner.placed(map.clone(), &layer.forecast);
        Ok(Placement {
            strategy: DISTRIBUTION_ONLY,
            slots_per_device,
            layers: maps.iter().cycle().zip(pricing.layers.iter()).map(placed).collect(),
            first_moves: 0,
            most_moves: 0.0,
        })
    };
    let mut all = vec![in_use.clone()];
    for load in loads {
        pricing.stop.check()?;
        all.push(plan_for(&[load])?);
    }
    all.push(plan_for(&loads.iter().collect::<Vec<_>>())?);
    let costs = costs(question, pricing.pattern)?;
    let draws = draws(question.seed, &pricing.layers, DRAWS);
    let placements = Placements::of_all(all);
    let drawn = Drawn::new(question, &draws, &pricing.layers, &costs, &placements);
    let scored = |(index, placement): (usize, &Placement)| {
        let mut on = vec![OnLoad::default(); loads.len()];
        for (at, (placed, layer)) in placement.layers.iter().zip(pricing.layers.iter()).enumerate()
        {
            let on = &mut on[at / n_layers];
            on.imbalance += placed.imbalance(&layer.truth) / n_layers as f64;
            on.planned += placed.imbalance(&layer.forecast) / n_layers as f64;
        }
        let n_steps = drawn.n_steps() as f64 / loads.len() as f64;
        let mut routed = vec![Routed::default(); loads.len()];
        for (step, loaded) in drawn.under(index) {
            let load = step.layer / n_layers;
            let imbalance = placement.layers[step.layer].imbalance(step.counts);
            on[load].step_imbalance += imbalance / n_steps;
            routed[load] += costs.routed(loaded);
        }
        for (on, routed) in on.iter_mut().zip(routed) {
            on.latency = costs.terms(&routed.scaled(1.0 / n_steps)).total();
        }
        let planned = |on: &OnLoad| on.planned;
        let of_own = index.checked_sub(1).and_then(|load| on.get(load)).map(planned);
        let in_sample = of_own.unwrap_or_else(|| on.iter().map(planned).fold(0.0, f64::max));
        Scored { in_sample, on, layers: placement.layers.clone() }
    };
    let mut plans: Vec<Scored> = placements.all.iter().enumerate().map(scored).collect();
    let (Some(worst_case), none) = (plans.pop(), plans.remove(0)) else { return Ok(None) };
    Ok(Some(Transfer { slots_per_device, replayed_steps: None, none, own: plans, worst_case }))
}
