//! Recorded steps: the plans in force in every layer, renewed as time goes on.

use rayon::prelude::*;

use crate::evaluate::load_window::LoadWindow;
use crate::evaluate::{LayerStep, Step, Steps};
use crate::memory::expert_bytes;
use crate::placement::moves::Moves;
use crate::placement::{PlacementError, SlotMap};
use crate::pricing::device_load::DeviceLoad;
use crate::pricing::layer::LayerCosts;
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::SlotShares;
use crate::question::{Question, RebalanceMode};
use crate::rebalance::RebalanceCost;
use crate::strategies::token_to_expert::stepwise::Moved;
use crate::strategies::{LIST, NONE, Strategy};

/// The plan of a strategy that renews it.
#[derive(Debug, Clone)]
struct ReplayedPlan {
    /// Whether it is made anew as the steps go by.
    renews: bool,
    /// Under each of the loads: the same map, tokens split as each expects.
    placed: Vec<SlotShares>,
    /// A renewed plan that is still being moved into place, and the step it takes effect.
    coming: Option<(u64, Vec<SlotShares>)>,
    /// Cost of the last renewal, per layer and step.
    renewal: Moved,
}

/// One layer: its plans in force, and what it has seen.
#[derive(Debug, Clone)]
pub(super) struct RecordedLayer {
    plans: Vec<ReplayedPlan>,
    /// What has been seen, where plans may be renewed.
    past: Option<LoadWindow>,
}

/// The strategies whose plans are followed, in the order of [`LayerStep::loads`].
pub(super) fn followed(maps: impl Fn(Strategy) -> bool) -> Vec<Strategy> {
    let own = LIST.iter().copied().filter(|strategy| !strategy.forecasts_tokens());
    own.filter(|strategy| *strategy == NONE || maps(*strategy)).collect()
}

impl RecordedLayer {
    /// The plans of these strategies, `NONE` being where engines start unless a map is given.
    pub(super) fn new(
        planner: &Planner,
        past: LoadWindow,
        strategies: &[Strategy],
        map_of: impl Fn(Strategy) -> Option<SlotMap>,
    ) -> Result<Self, PlacementError> {
        let plan = |strategy: &Strategy| {
            let map = map_of(*strategy).map_or_else(|| planner.trivial(), Ok)?;
            Ok(ReplayedPlan {
                renews: strategy.renews(),
                placed: under(planner, &map, past.planned()),
                coming: None,
                renewal: Moved::default(),
            })
        };
        let plans = strategies.iter().map(plan).collect::<Result<_, _>>()?;
        Ok(Self { plans, past: Some(past) })
    }

    /// Plans that are kept, each under every load.
    pub(super) fn kept(plans: impl Iterator<Item = Vec<SlotShares>>) -> Self {
        let plan = |placed| ReplayedPlan {
            renews: false,
            placed,
            coming: None,
            renewal: Moved::default(),
        };
        Self { plans: plans.map(plan).collect(), past: None }
    }

    /// Renews the plans at the end of an interval, and lets late ones take effect.
    fn renew(&mut self, question: &Question, planner: &Planner, at: u64) {
        let interval = question.rebalance.interval_steps;
        let renews = question.rebalance.mode != RebalanceMode::StartupMap;
        let Some(past) = self.past.as_mut().filter(|_| renews) else { return };
        past.before_step(at, &question.rebalance);
        let due = at > 0 && at.is_multiple_of(interval);
        let seen = if due { past.seen(at, &question.rebalance) } else { Vec::new() };
        let loads: Vec<&[f64]> = seen.iter().map(Vec::as_slice).collect();
        for plan in self.plans.iter_mut().filter(|plan| plan.renews) {
            if due {
                let current = &plan.placed[0].map;
                let slots = current.shape().slots_per_device();
                if let Ok(map) = planner.plan_for_worst(current, &loads, slots) {
                    let moves = Moves::between(current, &map);
                    let system = &question.system;
                    let layers = f64::from(system.model.moe_layers);
                    let cost = RebalanceCost::new(
                        system,
                        question.rebalance,
                        f64::from(moves.most()) * layers,
                        map.shape().n_slots(),
                    );
                    let bytes = expert_bytes(system) * (moves.total() as f64);
                    plan.renewal = Moved {
                        time: cost.per_layer_and_step(system).time,
                        bytes: bytes / interval as f64,
                    };
                    let placed = under(planner, &map, &seen);
                    plan.coming = Some((at + cost.late_steps, placed));
                }
            }
            if plan.coming.as_ref().is_some_and(|(from, _)| *from <= at)
                && let Some((_, placed)) = plan.coming.take()
            {
                plan.placed = placed;
            }
        }
    }
}

/// A map under every load.
fn under(planner: &Planner, map: &SlotMap, pasts: &[Vec<f64>]) -> Vec<SlotShares> {
    pasts.iter().map(|past| planner.placed(map.clone(), past)).collect()
}

/// A batch of recorded steps, with the layers they are served by.
pub(super) struct Batch<'a> {
    pub(super) question: &'a Question,
    pub(super) planner: &'a Planner,
    pub(super) costs: &'a LayerCosts,
    pub(super) layers: &'a mut [RecordedLayer],
    pub(super) steps: &'a [Step],
    /// Steps that were served before.
    pub(super) served: u64,
}

impl Steps for Batch<'_> {
    fn each<O: Send>(
        &mut self,
        price: impl Fn(&LayerStep) -> O + Sync,
        mut see: impl FnMut(&[usize], &[Vec<O>]),
    ) {
        let Self { question, planner, costs, steps, served, .. } = self;
        let of_layer = |(layer, plans): (usize, &mut RecordedLayer)| -> Vec<O> {
            let mut works = Vec::new();
            let mut loads: Vec<DeviceLoad> = Vec::with_capacity(plans.plans.len());
            let price = |(at, Step { load, counts }): (usize, &Step)| {
                let counts = counts.layer(layer);
                plans.renew(question, planner, *served + at as u64);
                let placed = plans.plans.iter().map(|plan| &plan.placed[*load]);
                loads.clear();
                loads.extend(costs.loaded_each(counts, placed, &mut works));
                let placed = |plan: usize| &plans.plans[plan].placed[*load];
                let renewal = |plan: usize| plans.plans[plan].renewal;
                let step = LayerStep {
                    layer,
                    at,
                    counts,
                    loads: &loads,
                    placed: &placed,
                    renewal: &renewal,
                };
                let priced = price(&step);
                if let Some(past) = &mut plans.past {
                    past.add(*load, counts);
                }
                priced
            };
            steps.iter().enumerate().map(price).collect()
        };
        let priced: Vec<Vec<O>> = self.layers.par_iter_mut().enumerate().map(of_layer).collect();
        let loads: Vec<usize> = self.steps.iter().map(|step| step.load).collect();
        see(&loads, &priced);
    }
}
