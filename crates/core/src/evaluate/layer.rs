//! One layer of a replay: its plans in force, its past, its random streams.

use crate::evaluate::load_window::Past;
use crate::evaluate::{Foreseen, Step};
use crate::memory::expert_bytes;
use crate::placement::moves::Moves;
use crate::placement::{PlacementError, SlotMap};
use crate::pricing::device_load::Loaded;
use crate::pricing::layer::{LayerCosts, Routed};
use crate::pricing::planner::Planner;
use crate::pricing::slot_shares::Placed;
use crate::question::{PredictorPoint, Question, RebalanceMode};
use crate::rebalance::RebalanceCost;
use crate::seed::{Purpose, stream};
use crate::strategies::token_to_expert::mispredicted::mispredicted;
use crate::strategies::token_to_expert::stepwise::{Moved, Stepwise, Told};
use crate::strategies::{self, Strategy};

/// The routed time of one strategy in one layer of one step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outcome {
    pub(super) routed: Routed,
    pub(super) balanced: Routed,
    pub(super) moved: Moved,
}

/// The plan of a strategy that renews it.
#[derive(Debug, Clone)]
struct Plan {
    strategy: Strategy,
    /// Under each of the loads: the same map, tokens split as each expects.
    placed: Vec<Placed>,
    /// A renewed plan that is still being moved into place, and the step it takes effect.
    coming: Option<(u64, Vec<Placed>)>,
    /// Cost of the last renewal, per layer and step.
    renewal: Moved,
}

/// A plan under one step's loads.
struct InForce<'a> {
    plan: &'a Plan,
    placed: &'a Placed,
    loaded: Loaded,
    /// The step under the plan as it is.
    outcome: Outcome,
    imbalance: f64,
}

impl<'a> InForce<'a> {
    fn new(
        plan: &'a Plan,
        load: usize,
        loaded: Loaded,
        costs: &LayerCosts,
        counts: &[f64],
    ) -> Self {
        let placed = &plan.placed[load];
        let (routed, balanced) = (costs.routed(&loaded), costs.balanced(&loaded));
        let outcome = Outcome { routed, balanced, moved: plan.renewal };
        Self { plan, placed, loaded, outcome, imbalance: placed.imbalance(counts) }
    }

    /// The step where a predictor may replace the plan.
    fn predicted(
        &self,
        costs: &LayerCosts,
        stepwise: &Stepwise,
        counts: &[f64],
        forecast: &[f64],
    ) -> (Outcome, f64) {
        let told_load = costs.loaded(self.placed, forecast);
        let told = Told { counts, forecast, true_load: self.loaded, told_load };
        let replanned = || stepwise.replanned(costs, &self.placed.map, forecast);
        let stepped = stepwise.step(costs, &told, replanned);
        let mut moved = stepped.moved;
        moved.time += self.plan.renewal.time;
        moved.bytes += self.plan.renewal.bytes;
        let outcome = Outcome { routed: stepped.routed, moved, ..self.outcome };
        (outcome, stepped.imbalance.unwrap_or(self.imbalance))
    }
}

/// An entry to follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) strategy: Strategy,
    /// The predictor, for token-to-expert prediction.
    pub(super) point: Option<PredictorPoint>,
    /// What it foresees, where it was fitted.
    pub(super) foreseen: Option<&'a Foreseen>,
}

/// One layer of a replay.
#[derive(Debug, Clone)]
pub(super) struct LayerReplay {
    plans: Vec<Plan>,
    past: Past,
    /// `[load][entry]`
    imbalance: Vec<Vec<f64>>,
}

impl LayerReplay {
    pub(super) fn new(
        planner: &Planner,
        past: Past,
        map_of: impl Fn(Strategy) -> Option<SlotMap>,
    ) -> Result<Self, PlacementError> {
        let mut plans = Vec::new();
        for strategy in [strategies::NONE, strategies::REPLACE_ONLY, strategies::DISTRIBUTION_ONLY]
        {
            let map = match map_of(strategy) {
                Some(map) => map,
                None if strategy == strategies::NONE => planner.trivial()?,
                None => continue,
            };
            plans.push(Plan {
                strategy,
                placed: under(planner, &map, past.planned()),
                coming: None,
                renewal: Moved::default(),
            });
        }
        let imbalance = vec![Vec::new(); past.planned().len()];
        Ok(Self { plans, past, imbalance })
    }

    /// Sum over replayed steps of a load of max/mean device load of an entry.
    pub(super) fn imbalance(&self, load: usize, entry: usize) -> f64 {
        self.imbalance[load].get(entry).copied().unwrap_or(0.0)
    }

    /// Replays a batch: for every step, every wanted entry.
    #[expect(clippy::too_many_arguments, reason = "the shared context of all layers")]
    pub(super) fn replay(
        &mut self,
        question: &Question,
        costs: &LayerCosts,
        stepwise: &Stepwise,
        wanted: &[Wanted],
        first: u64,
        batch: &[Step],
        index: usize,
    ) -> Vec<Outcome> {
        for imbalance in &mut self.imbalance {
            imbalance.resize(wanted.len(), 0.0);
        }
        let mut outcomes = Vec::with_capacity(batch.len() * wanted.len());
        let mut works = Vec::new();
        for (offset, Step { load, counts }) in batch.iter().enumerate() {
            let at = first + offset as u64;
            let counts = counts.layer(index);
            self.renew(question, &stepwise.planner, at);
            let placed = self.plans.iter().map(|plan| &plan.placed[*load]);
            let loaded = costs.loaded_each(counts, placed, &mut works);
            let plans: Vec<InForce> = (self.plans.iter().zip(loaded))
                .map(|(plan, loaded)| InForce::new(plan, *load, loaded, costs, counts))
                .collect();
            let sums = &mut self.imbalance[*load];
            for (entry, Wanted { strategy, point, foreseen }) in wanted.iter().enumerate() {
                let of = if point.is_some() { strategies::DISTRIBUTION_ONLY } else { *strategy };
                let Some(kept) = plans.iter().find(|kept| kept.plan.strategy == of) else {
                    sums[entry] += 1.0;
                    outcomes.push(Outcome::default());
                    continue;
                };
                let (outcome, imbalance) = match point {
                    Some(point) => {
                        let lane = (index as u64) << 40 | at << 8 | entry as u64;
                        let mut rng = stream(question.seed, Purpose::Misprediction, lane);
                        let named = foreseen.and_then(|foreseen| foreseen.of(offset, index));
                        let drawn = || mispredicted(counts, point.accuracy, &mut rng);
                        let forecast = named.map_or_else(drawn, <[f64]>::to_vec);
                        kept.predicted(costs, stepwise, counts, &forecast)
                    }
                    None => (kept.outcome, kept.imbalance),
                };
                sums[entry] += imbalance;
                outcomes.push(outcome);
            }
            self.past.add(*load, counts);
        }
        outcomes
    }

    /// Renews the plans at the end of an interval, and lets late ones take effect.
    fn renew(&mut self, question: &Question, planner: &Planner, at: u64) {
        let interval = question.rebalance.interval_steps;
        let renews = question.rebalance.mode != RebalanceMode::StartupMap;
        let due = renews && at > 0 && at.is_multiple_of(interval);
        if renews {
            self.past.before_step(at, &question.rebalance);
        }
        let seen = if due { self.past.seen(at, &question.rebalance) } else { Vec::new() };
        let loads: Vec<&[f64]> = seen.iter().map(Vec::as_slice).collect();
        for plan in self.plans.iter_mut().filter(|plan| plan.strategy != strategies::NONE) {
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
fn under(planner: &Planner, map: &SlotMap, pasts: &[Vec<f64>]) -> Vec<Placed> {
    pasts.iter().map(|past| planner.placed(map.clone(), past)).collect()
}
