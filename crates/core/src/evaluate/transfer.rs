//! What a plan made for one load is worth on the others.
//!
//! Every load's own plan, and the plan made for the worst of all, is scored on the part held
//! out of every load: busiest device over mean of the whole part, the mean of that over
//! steps, and the latency of a layer. Steps are drawn from the part's shares, or, where they
//! were recorded, replayed (`transfer_replay`). A plan is loaded
//! once here: no renewal is in it, so that what differs is the load alone.

use crate::cancel::Cancel;
use crate::evaluate::sampled_steps::{DRAWS, SampledSteps, draws};
use crate::evaluate::{LayerStep, Steps};
use crate::placement::SlotMap;
use crate::pricing::candidates::{Placement, Placements, each_layer};
use crate::pricing::error::PricingError;
use crate::pricing::layer::LayerCosts;
use crate::pricing::layer::Routed;
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::SlotShares;
use crate::question::Question;
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
    pub layers: Vec<SlotShares>,
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

/// Several loads that one plan may serve, and what plans for them are scored with.
pub(crate) struct SeveralLoads<'a> {
    pub(crate) question: &'a Question,
    pub(crate) costs: &'a LayerCosts,
    /// The routing of the layers of each.
    pub(crate) routing: &'a [Vec<LayerRouting>],
    pub(crate) in_use: &'a Placement,
    pub(crate) stop: &'a Cancel,
}

/// Scores plans of so many slots on every load; `None` where there is none.
pub(crate) fn transfer(
    of: &SeveralLoads,
    slots_per_device: u32,
) -> Result<Option<Transfer>, PricingError> {
    let SeveralLoads { question, costs, routing: loads, in_use, stop } = *of;
    let layers = loads.concat();
    let planner = Planner::new(question);
    let n_layers = layers.len() / loads.len().max(1);
    let plan_for = |which: &[&Vec<LayerRouting>]| -> Result<Placement, PricingError> {
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
            layers: maps.iter().cycle().zip(layers.iter()).map(placed).collect(),
            first_moves: 0,
            most_moves: 0.0,
        })
    };
    let mut all = vec![in_use.clone()];
    for load in loads {
        stop.check()?;
        all.push(plan_for(&[load])?);
    }
    all.push(plan_for(&loads.iter().collect::<Vec<_>>())?);
    let draws = draws(question.seed, &layers, DRAWS);
    let placements = Placements::of_all(all);
    let drawn = SampledSteps::new(question, &draws, &layers, costs, &placements);
    let scored = |(index, placement): (usize, &Placement)| {
        let mut on = vec![OnLoad::default(); loads.len()];
        for (at, (placed, layer)) in placement.layers.iter().zip(layers.iter()).enumerate() {
            let on = &mut on[at / n_layers];
            on.imbalance += placed.imbalance(&layer.truth) / n_layers as f64;
            on.planned += placed.imbalance(&layer.forecast) / n_layers as f64;
        }
        let n_steps = drawn.n_steps() as f64 / loads.len() as f64;
        let mut routed = vec![Routed::default(); loads.len()];
        let price = |step: &LayerStep| {
            let imbalance = step.placed(index).imbalance(step.counts);
            (step.layer / n_layers, imbalance, costs.routed(&step.loads[index]))
        };
        drawn.under(&placements).each(price, |_, layers| {
            for (load, imbalance, priced) in layers.iter().flatten() {
                on[*load].step_imbalance += imbalance / n_steps;
                routed[*load] += *priced;
            }
        });
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
